"""``httpd -t`` and each start: the findings about the S3 settings, and what httpd does about them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.configurations import KEYS, ORIGIN, RIGHT, WRONG, expected, with_keys
from tests.httpd.conftest import BUCKET, proxy_section, section
from tests.httpd.machine import apache_user, compile_module, free_port, has_module, modules_directory
from tests.httpd.server import WAIT, Httpd
from tests.s3 import EmbeddedS3

IS_ROOT = os.geteuid() == 0
AS_ROOT = pytest.mark.skipif(not IS_ROOT, reason="only root's httpd has children of another user")
#: A bucket whose secret key is in a file.
FILE = """
WSGIScriptAlias /media ${{USP_S3_WSGI}}
<Location /media>
SetEnv S3BucketURL http://films.s3.amazonaws.com/
SetEnv S3AccessKey AK
SetEnv S3SecretKeyFile {file}
</Location>
"""
SECRET = "a-secret-that-nobody-sees"


class Reported(NamedTuple):
    """A line of ``httpd -t``; ``line``: that of the configuration."""

    line: int
    level: str
    code: str
    text: str


def run_configtest(config: str) -> tuple[int, list[tuple[int, str, str]]]:
    """Return the exit status of ``httpd -t``, and line, code and text of each finding."""
    status, found = run_configtest_with_levels(config)
    return status, [(one.line, one.code, one.text) for one in found]


def run_configtest_with_levels(config: str) -> tuple[int, list[Reported]]:
    """Return the exit status of ``httpd -t``, and the findings."""
    httpd = Httpd(config)
    done = httpd.configtest()
    lines = [
        line for line in done.stdout.splitlines() if not re.match(r"Syntax OK|AH00014: |\[.*AH(?:00111|01506): ", line)
    ]
    found = []
    for line in lines:
        match = re.fullmatch(r"(USPS308\d\d): usp_s3_wsgi: httpd\.conf:(\d+): (warning: )?(.*)", line)
        assert match, done.stdout
        number = int(match[2]) - httpd.first_line + 1
        found.append(Reported(number, "warning" if match[3] else "error", match[1], match[4]))
    assert ("Syntax OK" in done.stdout) == (done.returncode == 0)
    return done.returncode, found


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The line that loads a module with the directives of Unified Origin."""
    module = compile_module(Path(__file__).with_name("origin.c"), tmp_path_factory.mktemp("origin"))
    return f'LoadModule origin_module "{module}"'


@pytest.mark.parametrize("text", [*WRONG.values(), *ORIGIN.values()], ids=[*WRONG, *ORIGIN])
def test_httpd_prints_findings_with_level_line_and_code(text: str, origin: str) -> None:
    announced = expected(text)
    text = origin + with_keys(text)  # the text begins with an empty line
    status, found = run_configtest_with_levels(text)
    assert [one[:3] for one in found] == [one[:3] for one in announced]
    offset = Httpd(text).first_line - 1
    for reported, one in zip(found, announced, strict=True):
        for part in one.parts:
            part = re.sub(r"@(\d+)@", lambda match: str(int(match[1]) + offset), part)
            assert part.replace("\\", "\\\\") in reported.text  # httpd escapes backslashes
    assert status == any(one.level == "error" for one in announced)


@pytest.mark.parametrize("name", RIGHT)
def test_httpd_prints_nothing_for_right_configurations(name: str) -> None:
    assert run_configtest(with_keys(RIGHT[name])) == (0, [])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that httpd's children can read."""
    with tempfile.TemporaryDirectory(prefix="configtest-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# ---------------------------------------------------------------- at a start


def test_an_error_does_not_keep_httpd_from_starting(s3: EmbeddedS3, checked: list[Httpd], folder: Path) -> None:
    """A secret file that is missing for a moment must not take down the other buckets and sites."""
    s3.put(BUCKET, "a.ts", b"an object")
    httpd = Httpd(section("/media", s3) + FILE.format(file=folder / "secret").replace("/media", "/later"))
    checked.append(httpd)
    httpd.start()
    line = httpd.wait_for_error(r"\[usp_s3:error\] USPS30805: usp_s3_wsgi: .*/httpd\.conf:\d+: S3SecretKeyFile: ")
    assert f"{folder}/secret: the file cannot be read: No such file or directory" in line
    assert httpd.fetch("/media/a.ts").body == b"an object"
    assert [one for one in httpd.errors() if "S3SecretKeyFile" in one] == [line]
    httpd.reload()
    assert httpd.running and httpd.fetch("/media/a.ts").body == b"an object"
    # Once at each start and restart.
    wait_for_lines(httpd, "S3SecretKeyFile", 2)
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o644)
    httpd.config += f'\n<Proxy "http://films.s3.amazonaws.com/">\n{KEYS}\n</Proxy>'
    httpd.reload()
    wait_for_lines(httpd, "no request matches this section", 1)
    assert len([one for one in httpd.errors() if "S3SecretKeyFile" in one]) == 2


def wait_for_lines(httpd: Httpd, text: str, number: int) -> None:
    """Wait until the error log has this number of lines with a text, and expect them."""
    httpd.expect_error(re.escape(text))
    deadline = time.monotonic() + WAIT
    while len(found := [one for one in httpd.errors() if text in one]) < number and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(found) == number


def test_a_piped_log_gets_the_findings_of_a_start_and_of_restarts(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """Not the program of the log before: httpd ends that, whether it has read its lines or not."""
    piped = "ErrorLog \"|/bin/sh -c 'sleep 0.3; exec cat >>${ROOT}/error.log'\""
    unused_section = f'<Proxy "http://films.s3.amazonaws.com/">\n{KEYS}\n</Proxy>'
    httpd = Httpd(f"{piped}\n{section('/media', s3)}{unused_section}")
    checked.append(httpd)
    httpd.start()
    for number in (1, 2, 3):
        wait_for_lines(httpd, "no request matches this section", number)
        httpd.reload()
    wait_for_lines(httpd, "no request matches this section", 4)


def test_a_restart_does_not_wait_for_the_check(s3: EmbeddedS3, checked: list[Httpd], folder: Path) -> None:
    """The old children have ended then, and the new ones start afterwards: nobody would answer meanwhile."""
    s3.put(BUCKET, "a.ts", b"an object")
    script = f"""#!/bin/sh
while [ -e @FOLDER@/hold ]; do sleep 0.05; done
exec {Path(sys.prefix).resolve()}/bin/python3 "$@"
"""
    buckets = section("/media", s3) + f'<Proxy "http://films.s3.amazonaws.com/">\n{KEYS}\n</Proxy>'
    httpd = Httpd(with_python(folder, script, buckets))
    checked.append(httpd)
    httpd.start()
    wait_for_lines(httpd, "no request matches this section", 1)
    (folder / "hold").touch()
    try:
        httpd.reload()
        assert httpd.fetch("/media/a.ts").body == b"an object"
        wait_for_lines(httpd, "no request matches this section", 1)
    finally:
        (folder / "hold").unlink()
    wait_for_lines(httpd, "no request matches this section", 2)
    (folder / "hold").touch()
    try:
        httpd.reload()
        httpd.stop()
        # A check that still runs does not keep the port open.
        socket.create_server(("127.0.0.1", httpd.port)).close()
    finally:
        (folder / "hold").unlink()


def test_an_unused_section_is_a_warning(checked: list[Httpd]) -> None:
    httpd = Httpd(f'<Proxy "http://films.s3.amazonaws.com/">\n{KEYS}\n</Proxy>')
    checked.append(httpd)
    httpd.start()
    httpd.wait_for_error(
        r"\[usp_s3:warn\] USPS30809: usp_s3_wsgi: .*/httpd\.conf:\d+: no request matches this section: "
    )


# ---------------------------------------------------------------- the user of httpd's children


@AS_ROOT
@pytest.mark.parametrize(
    ("owner", "mode", "is_readable"),
    [("root", 0o600, False), ("apache", 0o600, True), ("group", 0o640, True), ("root", 0o644, True)],
)
def test_files_are_read_as_the_user_of_httpds_children(folder: Path, owner: str, mode: int, is_readable: bool) -> None:
    file, user = folder / "secret", apache_user()
    file.write_text(SECRET)
    os.chown(file, user.pw_uid if owner == "apache" else 0, user.pw_gid if owner == "group" else 0)
    file.chmod(mode)
    status, found = run_configtest(FILE.format(file=file))
    if is_readable:
        assert (status, found) == (0, [])
    else:
        ((_, code, text),) = found
        by_user = f"by the user of httpd's children (uid {user.pw_uid})"
        assert (status, code) == (1, "USPS30805")
        assert text == f"S3SecretKeyFile: {file}: the file cannot be read {by_user}: Permission denied"


@AS_ROOT
def test_another_user_cannot_check_the_files(folder: Path) -> None:
    """The user who runs configtest may not read all files that httpd's children may."""
    file = folder / "secret"
    file.write_text(SECRET)
    os.chown(file, apache_user().pw_uid, 0)
    file.chmod(0o600)
    done = Httpd(FILE.format(file=file)).configtest(user="nobody")
    assert done.returncode == 0
    text = "some key files were not checked, because this user is not allowed to read them: run configtest as root"
    assert f"USPS30808: usp_s3_wsgi: warning: {text}\n" in done.stdout


@AS_ROOT
def test_other_processes_of_that_user_cannot_read_its_memory(folder: Path) -> None:
    """It has the whole configuration: a CGI script of Apache's user must not be able to read it."""
    os.mkfifo(folder / "secret", 0o644)  # the check waits for its writer
    with ThreadPoolExecutor() as executor:
        running = executor.submit(run_configtest, FILE.format(file=folder / "secret"))
        deadline = time.monotonic() + 20
        while not (checking := checking_processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        (process,) = checking
        for name in ("mem", "environ"):
            tried = subprocess.run(
                ["cat", f"/proc/{process}/{name}"], user=apache_user().pw_uid, extra_groups=[], capture_output=True,
                text=True, timeout=20, check=False,
            )  # fmt: skip
            assert tried.stdout == "" and "Permission denied" in tried.stderr
        assert SECRET not in Path(f"/proc/{process}/cmdline").read_text()
        (folder / "secret").write_text(SECRET)
        assert running.result() == (0, [])


def checking_processes() -> list[str]:
    """Return the processes of the check that have become Apache's user."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (process / "cmdline").read_text().split("\0")
            status = (process / "status").read_text()
            uid = re.search(r"^Uid:\s*(\d+)", status, re.MULTILINE)
            if any(word.endswith("/configtest/__main__.py") for word in arguments) and uid and uid[1] != "0":
                found.append(process.name)
    return found


# ---------------------------------------------------------------- the process of the check

#: A replacement for Python: it records its arguments, environment and files, then executes Python.
SPY = f"""#!/bin/sh
tr '\\0' '\\n' < /proc/$$/cmdline > @FOLDER@/arguments
tr '\\0' '\\n' < /proc/$$/environ > @FOLDER@/environment
ls -l /proc/self/fd > @FOLDER@/files
exec {Path(sys.prefix).resolve()}/bin/python3 "$@"
"""


def with_python(folder: Path, script: str, config: str) -> str:
    """Return a configuration that uses this script as Python."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / "python3"
    program.write_text(script.replace("@FOLDER@", str(folder)))
    program.chmod(0o755)
    return f'Define USP_S3_PYTHON_HOME "{folder}"\n{config}'


def test_secrets_are_neither_in_arguments_nor_in_the_environment(folder: Path) -> None:
    config = FILE.format(file="/dev/null").replace("S3AccessKey AK", f"S3AccessKey {SECRET}")
    done = Httpd(with_python(folder, SPY, config)).configtest()
    assert done.returncode == 1 and "S3SecretKeyFile: /dev/null: the content of the file must be" in done.stdout
    assert SECRET not in done.stdout
    for name in ("arguments", "environment"):
        assert SECRET not in (folder / name).read_text()
    arguments = (folder / "arguments").read_text().splitlines()
    assert arguments[2:5] == ["-I", "-S", "-B"]
    assert arguments[5].endswith("/usp_s3_wsgi/configtest/__main__.py") and len(arguments) == 6


def test_it_inherits_no_open_files_of_httpd(folder: Path, checked: list[Httpd]) -> None:
    """Not at a restart either, when httpd has listening sockets."""
    httpd = Httpd(with_python(folder, SPY, f'<Proxy "http://films.example/">\n{KEYS}\n</Proxy>'))
    checked.append(httpd)
    httpd.expect_error("no request matches this section")
    httpd.start()
    (folder / "files").unlink()
    httpd.reload()
    wait_for_lines(httpd, "no request matches this section", 2)
    open_files = dict(re.findall(r" (\d+) -> (\S+)$", (folder / "files").read_text(), re.MULTILINE))
    # Those of the shell, with the file that it writes to as standard output, and the directory that ls reads.
    assert set(open_files) <= {"0", "1", "2", "3"}
    assert open_files["0"].startswith("socket:") and open_files["2"] == "/dev/null"
    assert open_files.get("3", "/proc/").startswith("/proc/")


@pytest.mark.parametrize("options", [("-S",), ("-M",), ("-t", "-D", "DUMP_RUN_CFG"), ("-L",)])
def test_it_is_not_started_for_dumps(folder: Path, options: tuple[str, ...]) -> None:
    assert Httpd(with_python(folder, SPY, with_keys(WRONG["an empty value"]))).configtest(*options).returncode == 0
    assert not (folder / "arguments").exists()


def test_it_is_not_started_without_settings(folder: Path) -> None:
    config = "SetEnv NO_S3 x\nPassEnv PATH\nProxyPass /x http://films.example/\nWSGIScriptAlias /y /srv/y.wsgi\n"
    assert Httpd(with_python(folder, SPY, config)).configtest().returncode == 0
    assert not (folder / "arguments").exists()


BROKEN = {
    "fails": "#!/bin/sh\nexit 1\n",
    "prints nothing": "#!/bin/sh\ncat > /dev/null\n",
    "prints truncated data": "#!/bin/sh\nprintf 'error\\0x\\0001\\0USPS30801\\0a line\\0en'\n",
    "does not read": "#!/bin/sh\nexec printf 'no answer'\n",
    "cannot be run": "#!/nowhere/sh\n",
    "is killed": "#!/bin/sh\nkill -9 $$\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_check_that_fails_is_a_warning(folder: Path, name: str) -> None:
    done = Httpd(with_python(folder, BROKEN[name], with_keys(WRONG["an empty value"]))).configtest()
    assert (done.returncode, done.stdout) == (
        0,
        "USPS30704: usp_s3_wsgi: could not check the S3 settings: the check failed\nSyntax OK\n",
    )


def test_python_is_found_relative_to_the_module() -> None:
    """Without the lines of "usp-s3 apache-config"."""
    assert run_configtest(f"UnDefine USP_S3_PYTHON_HOME\n{with_keys(WRONG['an empty value'])}")[0] == 1


def test_without_python(folder: Path, checked: list[Httpd]) -> None:
    config = f'Define USP_S3_PYTHON_HOME "{folder}/none"\n{with_keys(RIGHT["a <Proxy> section"])}'
    done = Httpd(config).configtest()
    assert (done.returncode, done.stdout) == (
        0,
        f"USPS30704: usp_s3_wsgi: could not check the S3 settings: cannot find Python: {folder}/none/bin/python3\n"
        "Syntax OK\n",
    )
    httpd = Httpd(config)
    checked.append(httpd)
    httpd.start()
    httpd.wait_for_error(r"\[usp_s3:warn\] USPS30704: usp_s3_wsgi: could not check the S3 settings: cannot find Python")


@pytest.mark.parametrize("script", ["#!/bin/sh\nsleep 300 &\nwait\n", "#!/bin/sh\ntrap '' TERM\ncat\nsleep 300\n"])
def test_a_check_that_hangs_is_ended(folder: Path, script: str) -> None:
    begun = time.monotonic()
    done = Httpd(with_python(folder, script, with_keys(RIGHT["a <Proxy> section"]))).configtest()
    assert (done.returncode, done.stdout) == (
        0,
        "USPS30704: usp_s3_wsgi: could not check the S3 settings: the check timed out\nSyntax OK\n",
    )
    assert 29 < time.monotonic() - begun < 90


# ---------------------------------------------------------------- how httpd reads a configuration


@pytest.mark.skipif(not has_module("macro"), reason="this httpd has no mod_macro")
def test_includes_conditions_variables_and_macros(folder: Path) -> None:
    """httpd resolves them; findings have file and line of the directive."""
    (folder / "bucket.conf").write_text("SetEnv S3AccessKey AK\n\nSetEnv S3Region \\\n  'eu central'\n")
    done = Httpd(
        f"""
LoadModule macro_module "{modules_directory()}/mod_macro.so"
Define BUCKET films
<Macro Bucket $name $expires>
  <Proxy "http://$name.s3.amazonaws.com/">
    Include {folder}/bucket.conf
    SetEnv S3SecretKey "a \\" b"
    SetEnv S3Expires $expires
  </Proxy>
</Macro>
<IfModule !usp_s3_module>
  SetEnv S3Expires never
</IfModule>
<IfDefine BUCKET>
  ProxyPass /${{BUCKET}} http://${{BUCKET}}.s3.amazonaws.com
  Use Bucket ${{BUCKET}} never
</IfDefine>
"""
    ).configtest()
    lines = [line.partition(": usp_s3_wsgi: ")[2] for line in done.stdout.splitlines()]
    assert any(line.startswith(f"{folder}/bucket.conf:4: S3Region must be a region's name") for line in lines)
    assert any("S3SecretKey must be printable ASCII characters" in line for line in lines)
    assert any(re.match(r"macro .bucket.*:4: S3Expires must be a whole number", line) for line in lines)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 4


def test_passed_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    config = """WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
PassEnv S3BucketURL S3AccessKey
SetEnv S3SecretKey SK
</Location>
"""
    monkeypatch.setenv("S3BucketURL", "http://films.s3.amazonaws.com/")
    monkeypatch.setenv("S3AccessKey", "a b")
    text = "S3AccessKey must be printable ASCII characters without spaces, at least one"
    assert run_configtest(config) == (1, [(3, "USPS30801", text)])
    monkeypatch.setenv("S3AccessKey", "AK")
    assert run_configtest(config) == (0, [])


@pytest.mark.parametrize("kind", ["gateway", "proxy"])
def test_thousands_of_buckets(kind: str) -> None:
    mount = "WSGIScriptAlias /b{n} ${{USP_S3_WSGI}}\n<Location /b{n}>\nSetEnv S3BucketURL http://s3.example/b{n}/\n"
    if kind == "proxy":
        mount = 'ProxyPass /b{n} http://s3.example/b{n}\n<Proxy "http://s3.example/b{n}/">\n'
    end = {"gateway": "</Location>\n", "proxy": "</Proxy>\n"}[kind]
    config = "".join(f"{mount.format(n=n)}{KEYS}\nSetEnv S3Region eu-central-1\n{end}" for n in range(5_000))
    begun = time.monotonic()
    wrong = config.replace("<Location /b4321>", "<Location /b4321>\nSetEnv S3Expires x")
    wrong = wrong.replace(
        '<Proxy "http://s3.example/b4321/">', '<Proxy "http://s3.example/b4321/">\nSetEnv S3Expires x'
    )
    status, found = run_configtest(wrong)
    assert (status, [text for _, _, text in found]) == (1, ["S3Expires must be a whole number from 1 to 604800"])
    assert time.monotonic() - begun < 60  # three seconds, on a machine that does nothing else


def test_the_number_of_findings_is_limited() -> None:
    section = '<Proxy "http://s3.example/b{n}/">\nSetEnv S3AccessKey AK\n</Proxy>\n'
    config = "".join(section.format(n=n) for n in range(300))
    done = Httpd(f"{config}ProxyPass /b7 http://s3.example/b7").configtest()
    lines = done.stdout.splitlines()
    assert len(lines) == 102 and lines[0].endswith("S3SecretKey is not set (nor S3SecretKeyFile)")
    assert lines[-2:] == [
        "USPS30825: usp_s3_wsgi: warning: 200 more findings are not shown",
        "AH00014: Configuration check failed",
    ]


# ---------------------------------------------------------------- health checks

#: mod_proxy_hcheck needs mod_watchdog, which is built into Debian's httpd and a separate module in the official image.
HCHECK = "".join(
    f'LoadModule {name}_module "{modules_directory()}/mod_{name}.so"\n'
    for name in ("watchdog", "proxy_hcheck")
    if has_module(name)
)
NEEDS_HCHECK = pytest.mark.skipif(not has_module("proxy_hcheck"), reason="this httpd has no mod_proxy_hcheck")
TEMPLATE = "ProxyHCTemplate probe hcmethod=HEAD hcinterval=1\n"


def balanced(url: str, how: str, s3: EmbeddedS3) -> str:
    """A bucket behind a balancer with one member, whose health is checked every second."""
    return f"""{proxy_section(f"{s3.url}/{BUCKET}/", s3)}
<Proxy "balancer://films">
BalancerMember {url} {how} hcinterval=1 hcfails=1 hcpasses=1
</Proxy>
ProxyPass /films balancer://films
"""


@NEEDS_HCHECK
@pytest.mark.parametrize(
    ("how", "method"), [("hcmethod=GET", "GET"), ("hcmethod=options", "OPTIONS"), ("hctemplate=probe", "HEAD")]
)
def test_a_health_check_by_http_is_reported(s3: EmbeddedS3, how: str, method: str) -> None:
    status, ((_, code, text),) = run_configtest(HCHECK + TEMPLATE + balanced(f"{s3.url}/{BUCKET}", how, s3))
    assert (status, code, text) == (
        0,
        "USPS30824",
        f"hcmethod={method}: the health checks of mod_proxy_hcheck are not signed, so S3 rejects them and the balancer"
        " answers 503: use hcmethod=TCP, or a ProxyPass location of this server as the member",
    )


@NEEDS_HCHECK
@pytest.mark.parametrize(
    "how",
    ["hcmethod=TCP", "hctemplate=probe hcmethod=TCP", "hcmethod=GET hcexpr=alive"],
)
def test_a_working_health_check_is_not_reported(s3: EmbeddedS3, how: str) -> None:
    expression = "ProxyHCExpr alive {%{REQUEST_STATUS} =~ /^[234]/}\n"
    assert run_configtest(HCHECK + TEMPLATE + expression + balanced(f"{s3.url}/{BUCKET}", how, s3)) == (0, [])


def answers(httpd: Httpd, seconds: float, until: int = 0) -> set[int]:
    """Return the status codes of repeated requests, for some seconds or until one of them is ``until``."""
    found, end = set(), time.monotonic() + seconds
    while time.monotonic() < end and until not in found:
        found.add(httpd.fetch("/films/a.ts").status)
        time.sleep(0.2)
    return found


@NEEDS_HCHECK
def test_health_checks_by_http_make_a_bucket_unavailable(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a.ts", b"an object")
    httpd = Httpd(HCHECK + balanced(f"{s3.url}/{BUCKET}", "hcmethod=GET hcuri=a.ts", s3))
    checked.append(httpd)
    httpd.expect_error("AH01170|hcmethod=GET: the health checks of mod_proxy_hcheck")
    httpd.start()
    assert 503 in answers(httpd, 20, until=503)


@NEEDS_HCHECK
@pytest.mark.parametrize("how", ["hcmethod=TCP", "own GET", "own HEAD"])
def test_health_checks_that_work(s3: EmbeddedS3, checked: list[Httpd], how: str) -> None:
    """By TCP, or with a location of this server as the member, whose requests are signed."""
    s3.put(BUCKET, "a.ts", b"an object")
    s3.put(BUCKET, "alive", b"yes")
    port = free_port()
    if how.startswith("own "):
        how = f"hcmethod={how[4:]} hcuri=alive"
        config = balanced(f"http://127.0.0.1:{port}/member", how, s3) + f"ProxyPass /member {s3.url}/{BUCKET}\n"
        config = config.replace("ProxyPass /films", "ProxyPass /films", 1)
    else:
        config = balanced(f"{s3.url}/{BUCKET}", how, s3)
    httpd = Httpd(HCHECK + config, port=port)
    checked.append(httpd)
    httpd.start()
    s3.clear()
    assert answers(httpd, 4) == {200}
    if "hcuri" in how:
        assert any(entry["target"].partition("?")[0].endswith("/alive") for entry in s3.requests())


@NEEDS_HCHECK
def test_an_unavailable_member_is_detected(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """The object that the health check requests does not exist."""
    port = free_port()
    config = balanced(f"http://127.0.0.1:{port}/member", "hcmethod=GET hcuri=none", s3)
    httpd = Httpd(HCHECK + config + f"ProxyPass /member {s3.url}/{BUCKET}\n", port=port)
    checked.append(httpd)
    httpd.expect_error("AH01170")
    httpd.start()
    assert 503 in answers(httpd, 20, until=503)


@NEEDS_HCHECK
def test_the_health_checks_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "proxy.md").read_text("utf-8")
    blocks = re.findall(r"^```apache\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if "hcmethod=" in block)
    bucket = f'<Proxy "https://films-eu.s3.eu-central-1.amazonaws.com/">\n{KEYS}\n</Proxy>\n'
    assert run_configtest(f"{HCHECK}SSLProxyEngine on\n{bucket}{block}") == (0, [])
