"""``httpd -t`` and each start: what is wrong with the S3 settings is told there, and how httpd goes on."""

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

import pytest

from tests.configurations import KEYS, ORIGIN, RIGHT, WRONG, expected, written
from tests.httpd.conftest import BUCKET, proxy_section, section
from tests.httpd.machine import apache_user, compile_module, free_port, has_module, modules_directory
from tests.httpd.server import WAIT, Httpd
from tests.s3 import EmbeddedS3

IS_ROOT = os.geteuid() == 0
AS_ROOT = pytest.mark.skipif(not IS_ROOT, reason="only root's httpd has children of another user")
#: A bucket whose secret is in a file.
FILE = """
WSGIScriptAlias /media ${{USP_S3_WSGI}}
<Location /media>
SetEnv S3BucketURL http://films.s3.amazonaws.com/
SetEnv S3AccessKey AK
SetEnv S3SecretKeyFile {file}
</Location>
"""
SECRET = "a-secret-that-nobody-sees"


def told(config: str) -> tuple[int, list[tuple[int, str]]]:
    """The exit status of ``httpd -t``, and what it says: line of the configuration, and text."""
    status, found = told_with_levels(config)
    return status, [(line, text) for line, _, text in found]


def told_with_levels(config: str) -> tuple[int, list[tuple[int, str, str]]]:
    """The same, with "error" or "warning" between the two."""
    httpd = Httpd(config)
    done = httpd.configtest()
    lines = [
        line for line in done.stdout.splitlines() if not re.match(r"Syntax OK|AH00014: |\[.*AH(?:00111|01506): ", line)
    ]
    found = []
    for line in lines:
        match = re.fullmatch(r"usp_s3_wsgi: httpd\.conf:(\d+): (warning: )?(.*)", line)
        assert match, done.stdout
        found.append((int(match[1]) - httpd.first_line + 1, "warning" if match[2] else "error", match[3]))
    assert ("Syntax OK" in done.stdout) == (done.returncode == 0)
    return done.returncode, found


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The line that loads a module with an Origin's directives."""
    module = compile_module(Path(__file__).with_name("origin.c"), tmp_path_factory.mktemp("origin"))
    return f'LoadModule origin_module "{module}"'


@pytest.mark.parametrize("text", [*WRONG.values(), *ORIGIN.values()], ids=[*WRONG, *ORIGIN])
def test_httpd_tells_what_is_wrong(text: str, origin: str) -> None:
    announced = expected(text)
    text = origin + written(text)  # which begins with a line of its own
    status, found = told_with_levels(text)
    assert [one[:2] for one in found] == [one[:2] for one in announced]
    offset = Httpd(text).first_line - 1
    for (_, _, line), (_, _, part) in zip(found, announced, strict=True):
        part = re.sub(r"@(\d+)@", lambda match: str(int(match[1]) + offset), part)
        assert part.replace("\\", "\\\\") in line  # httpd writes it so, and reads it so
    assert status == any(level == "error" for _, level, _ in announced)


@pytest.mark.parametrize("name", RIGHT)
def test_httpd_tells_nothing_of_what_is_right(name: str) -> None:
    assert told(written(RIGHT[name])) == (0, [])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that httpd's children can read."""
    with tempfile.TemporaryDirectory(prefix="configtest-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# ---------------------------------------------------------------- at a start


def test_an_error_does_not_keep_httpd_from_starting(s3: EmbeddedS3, checked: list[Httpd], folder: Path) -> None:
    """A secret that is missing for a moment must not take down the other buckets and sites."""
    s3.put(BUCKET, "a.ts", b"an object")
    httpd = Httpd(section("/media", s3) + FILE.format(file=folder / "secret").replace("/media", "/later"))
    checked.append(httpd)
    httpd.start()
    line = httpd.wait_for_error(r"\[usp_s3:error\] usp_s3_wsgi: .*/httpd\.conf:\d+: S3SecretKeyFile: ")
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
    wait_for_lines(httpd, "nothing leads to this section", 1)
    assert len([one for one in httpd.errors() if "S3SecretKeyFile" in one]) == 2


def wait_for_lines(httpd: Httpd, text: str, number: int) -> None:
    """Wait until the error log has so many lines with that text, and expect them."""
    httpd.expect_error(re.escape(text))
    deadline = time.monotonic() + WAIT
    while len(found := [one for one in httpd.errors() if text in one]) < number and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(found) == number


def test_a_piped_log_gets_it_at_a_restart_too(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """The program that the old log went to has ended by then."""
    piped = "ErrorLog \"|/bin/sh -c 'exec cat >>${ROOT}/error.log'\""
    section_of_none = f'<Proxy "http://films.s3.amazonaws.com/">\n{KEYS}\n</Proxy>'
    httpd = Httpd(f"{piped}\n{section('/media', s3)}{section_of_none}")
    checked.append(httpd)
    httpd.start()
    for number in (1, 2, 3):
        wait_for_lines(httpd, "nothing leads to this section", number)
        httpd.reload()
    wait_for_lines(httpd, "nothing leads to this section", 4)


def test_a_restart_does_not_wait_for_it(s3: EmbeddedS3, checked: list[Httpd], folder: Path) -> None:
    """The old children are gone then, and the new ones begin after it: each moment is one without answers."""
    s3.put(BUCKET, "a.ts", b"an object")
    script = f"""#!/bin/sh
while [ -e @FOLDER@/hold ]; do sleep 0.05; done
exec {Path(sys.prefix).resolve()}/bin/python3 "$@"
"""
    buckets = section("/media", s3) + f'<Proxy "http://films.s3.amazonaws.com/">\n{KEYS}\n</Proxy>'
    httpd = Httpd(with_python(folder, script, buckets))
    checked.append(httpd)
    httpd.start()
    wait_for_lines(httpd, "nothing leads to this section", 1)
    (folder / "hold").touch()
    try:
        httpd.reload()
        assert httpd.fetch("/media/a.ts").body == b"an object"
        wait_for_lines(httpd, "nothing leads to this section", 1)
    finally:
        (folder / "hold").unlink()
    wait_for_lines(httpd, "nothing leads to this section", 2)
    (folder / "hold").touch()
    try:
        httpd.reload()
        httpd.stop()
        # What is still checked then keeps nobody from listening there.
        socket.create_server(("127.0.0.1", httpd.port)).close()
    finally:
        (folder / "hold").unlink()


def test_a_doubt_is_a_warning(checked: list[Httpd]) -> None:
    httpd = Httpd(f'<Proxy "http://films.s3.amazonaws.com/">\n{KEYS}\n</Proxy>')
    checked.append(httpd)
    httpd.start()
    httpd.wait_for_error(r"\[usp_s3:warn\] usp_s3_wsgi: .*/httpd\.conf:\d+: nothing leads to this section")


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
    status, found = told(FILE.format(file=file))
    if is_readable:
        assert (status, found) == (0, [])
    else:
        ((_, line),) = found
        who = f"by the user of httpd's children (uid {user.pw_uid})"
        assert (status, line) == (1, f"S3SecretKeyFile: {file}: the file cannot be read {who}: Permission denied")


@AS_ROOT
def test_another_user_cannot_know(folder: Path) -> None:
    """Who runs configtest may not read what httpd's children may."""
    file = folder / "secret"
    file.write_text(SECRET)
    os.chown(file, apache_user().pw_uid, 0)
    file.chmod(0o600)
    done = Httpd(FILE.format(file=file)).configtest(user="nobody")
    assert done.returncode == 0
    line = "warning: could not check all files of keys, which this user may not read: run configtest as root"
    assert f"usp_s3_wsgi: {line}\n" in done.stdout


@AS_ROOT
def test_that_users_other_processes_cannot_look_into_it(folder: Path) -> None:
    """It has the whole configuration: a CGI script of Apache's user must not read it there."""
    os.mkfifo(folder / "secret", 0o644)  # where it waits
    with ThreadPoolExecutor() as executor:
        running = executor.submit(told, FILE.format(file=folder / "secret"))
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
    """Those that have become Apache's user."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (process / "cmdline").read_text().split("\0")
            status = (process / "status").read_text()
            uid = re.search(r"^Uid:\s*(\d+)", status, re.MULTILINE)
            if any(word.endswith("/configtest/__main__.py") for word in arguments) and uid and uid[1] != "0":
                found.append(process.name)
    return found


# ---------------------------------------------------------------- the process that checks

#: In the place of Python: it says what it sees of itself, then is Python.
SPY = f"""#!/bin/sh
tr '\\0' '\\n' < /proc/$$/cmdline > @FOLDER@/arguments
tr '\\0' '\\n' < /proc/$$/environ > @FOLDER@/environment
ls -l /proc/self/fd > @FOLDER@/files
exec {Path(sys.prefix).resolve()}/bin/python3 "$@"
"""


def with_python(folder: Path, script: str, config: str) -> str:
    """A configuration that has this script for Python."""
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


def test_it_has_none_of_httpds_files(folder: Path, checked: list[Httpd]) -> None:
    """Not at a restart either, when httpd listens."""
    httpd = Httpd(with_python(folder, SPY, f'<Proxy "http://films.example/">\n{KEYS}\n</Proxy>'))
    checked.append(httpd)
    httpd.expect_error("nothing leads to this section")
    httpd.start()
    (folder / "files").unlink()
    httpd.reload()
    wait_for_lines(httpd, "nothing leads to this section", 2)
    open_files = dict(re.findall(r" (\d+) -> (\S+)$", (folder / "files").read_text(), re.MULTILINE))
    # Of the shell: standard error, what it writes to in the place of standard output; and the folder that ls reads.
    assert set(open_files) <= {"0", "1", "2", "3"}
    assert open_files["0"].startswith("socket:") and open_files["2"] == "/dev/null"
    assert open_files.get("3", "/proc/").startswith("/proc/")


@pytest.mark.parametrize("options", [("-S",), ("-M",), ("-t", "-D", "DUMP_RUN_CFG"), ("-L",)])
def test_it_is_not_started_for_dumps(folder: Path, options: tuple[str, ...]) -> None:
    assert Httpd(with_python(folder, SPY, written(WRONG["an empty value"]))).configtest(*options).returncode == 0
    assert not (folder / "arguments").exists()


def test_it_is_not_started_without_settings(folder: Path) -> None:
    config = "SetEnv NO_S3 x\nPassEnv PATH\nProxyPass /x http://films.example/\nWSGIScriptAlias /y /srv/y.wsgi\n"
    assert Httpd(with_python(folder, SPY, config)).configtest().returncode == 0
    assert not (folder / "arguments").exists()


BROKEN = {
    "fails": "#!/bin/sh\nexit 1\n",
    "says nothing": "#!/bin/sh\ncat > /dev/null\n",
    "is cut off": "#!/bin/sh\nprintf 'error\\0x\\0001\\0a line\\0en'\n",
    "does not read": "#!/bin/sh\nexec printf 'no answer'\n",
    "cannot be run": "#!/nowhere/sh\n",
    "is killed": "#!/bin/sh\nkill -9 $$\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_check_that_fails_is_a_warning(folder: Path, name: str) -> None:
    done = Httpd(with_python(folder, BROKEN[name], written(WRONG["an empty value"]))).configtest()
    assert (done.returncode, done.stdout) == (
        0,
        "USPS30704: usp_s3_wsgi: could not check the S3 settings: the check failed\nSyntax OK\n",
    )


def test_python_is_found_by_the_modules_own_place() -> None:
    """Where the lines of "usp-s3 apache-config" are not used."""
    assert told(f"UnDefine USP_S3_PYTHON_HOME\n{written(WRONG['an empty value'])}")[0] == 1


def test_without_python(folder: Path, checked: list[Httpd]) -> None:
    config = f'Define USP_S3_PYTHON_HOME "{folder}/none"\n{written(RIGHT["a <Proxy> section"])}'
    done = Httpd(config).configtest()
    assert (done.returncode, done.stdout) == (
        0,
        "USPS30704: usp_s3_wsgi: could not check the S3 settings: "
        f"cannot find Python: {folder}/none/bin/python3\nSyntax OK\n",
    )
    httpd = Httpd(config)
    checked.append(httpd)
    httpd.start()
    httpd.wait_for_error(r"\[usp_s3:warn\] USPS30704: usp_s3_wsgi: could not check the S3 settings: cannot find Python")


@pytest.mark.parametrize("script", ["#!/bin/sh\nsleep 300 &\nwait\n", "#!/bin/sh\ntrap '' TERM\ncat\nsleep 300\n"])
def test_a_check_that_hangs_is_ended(folder: Path, script: str) -> None:
    begun = time.monotonic()
    done = Httpd(with_python(folder, script, written(RIGHT["a <Proxy> section"]))).configtest()
    assert (done.returncode, done.stdout) == (
        0,
        "USPS30704: usp_s3_wsgi: could not check the S3 settings: the check timed out\nSyntax OK\n",
    )
    assert 29 < time.monotonic() - begun < 90


# ---------------------------------------------------------------- how httpd reads a configuration


@pytest.mark.skipif(not has_module("macro"), reason="this httpd has no mod_macro")
def test_includes_conditions_variables_and_macros(folder: Path) -> None:
    """What httpd makes of them, with the line of the file that it is in."""
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
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines()]
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
    assert told(config) == (1, [(3, "S3AccessKey must be printable ASCII characters without spaces, at least one")])
    monkeypatch.setenv("S3AccessKey", "AK")
    assert told(config) == (0, [])


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
    status, found = told(wrong)
    assert (status, [text for _, text in found]) == (1, ["S3Expires must be a whole number from 1 to 604800"])
    assert time.monotonic() - begun < 60  # three seconds, on a machine that does nothing else


def test_many_lines_are_left_out() -> None:
    section = '<Proxy "http://s3.example/b{n}/">\nSetEnv S3AccessKey AK\n</Proxy>\n'
    config = "".join(section.format(n=n) for n in range(300))
    done = Httpd(f"{config}ProxyPass /b7 http://s3.example/b7").configtest()
    lines = done.stdout.splitlines()
    assert len(lines) == 102 and lines[0].endswith("S3SecretKey is not set (nor S3SecretKeyFile)")
    assert lines[-2:] == [
        "usp_s3_wsgi: warning: 200 more lines like these are left out",
        "AH00014: Configuration check failed",
    ]


# ---------------------------------------------------------------- health checks

#: mod_proxy_hcheck needs mod_watchdog, which is a part of Debian's httpd and a module of its own in the official image.
HCHECK = "".join(
    f'LoadModule {name}_module "{modules_directory()}/mod_{name}.so"\n'
    for name in ("watchdog", "proxy_hcheck")
    if has_module(name)
)
NEEDS_HCHECK = pytest.mark.skipif(not has_module("proxy_hcheck"), reason="this httpd has no mod_proxy_hcheck")
TEMPLATE = "ProxyHCTemplate probe hcmethod=HEAD hcinterval=1\n"


def balanced(url: str, how: str, s3: EmbeddedS3) -> str:
    """A bucket behind a balancer of one member, whose health is checked each second."""
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
def test_a_health_check_by_http_is_told_of(s3: EmbeddedS3, how: str, method: str) -> None:
    status, ((_, line),) = told(HCHECK + TEMPLATE + balanced(f"{s3.url}/{BUCKET}", how, s3))
    assert (status, line) == (
        0,
        f"hcmethod={method}: mod_proxy_hcheck's requests are not signed, so that S3 refuses them and the balancer"
        " answers 503: use hcmethod=TCP, or as the member a ProxyPass location of this server",
    )


@NEEDS_HCHECK
@pytest.mark.parametrize(
    "how",
    ["hcmethod=TCP", "hctemplate=probe hcmethod=TCP", "hcmethod=GET hcexpr=alive"],
)
def test_a_health_check_that_works_is_not(s3: EmbeddedS3, how: str) -> None:
    expression = "ProxyHCExpr alive {%{REQUEST_STATUS} =~ /^[234]/}\n"
    assert told(HCHECK + TEMPLATE + expression + balanced(f"{s3.url}/{BUCKET}", how, s3)) == (0, [])


def answers(httpd: Httpd, seconds: float, until: int = 0) -> set[int]:
    """What clients get, again and again, until they get that."""
    found, end = set(), time.monotonic() + seconds
    while time.monotonic() < end and until not in found:
        found.add(httpd.fetch("/films/a.ts").status)
        time.sleep(0.2)
    return found


@NEEDS_HCHECK
def test_probes_by_http_make_a_bucket_look_dead(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a.ts", b"an object")
    httpd = Httpd(HCHECK + balanced(f"{s3.url}/{BUCKET}", "hcmethod=GET hcuri=a.ts", s3))
    checked.append(httpd)
    httpd.expect_error("AH01170|hcmethod=GET: mod_proxy_hcheck")
    httpd.start()
    assert 503 in answers(httpd, 20, until=503)


@NEEDS_HCHECK
@pytest.mark.parametrize("how", ["hcmethod=TCP", "own GET", "own HEAD"])
def test_health_checks_that_work(s3: EmbeddedS3, checked: list[Httpd], how: str) -> None:
    """By TCP, or by a location of this server as the member, which is signed for."""
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
def test_a_member_that_is_dead_is_seen(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """What the probe asks for is not there."""
    port = free_port()
    config = balanced(f"http://127.0.0.1:{port}/member", "hcmethod=GET hcuri=none", s3)
    httpd = Httpd(HCHECK + config + f"ProxyPass /member {s3.url}/{BUCKET}\n", port=port)
    checked.append(httpd)
    httpd.expect_error("AH01170")
    httpd.start()
    assert 503 in answers(httpd, 20, until=503)


@NEEDS_HCHECK
def test_the_documentations_block() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configtest.md").read_text("utf-8")
    (block,) = re.findall(r"^```apache\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    bucket = f'<Proxy "https://films-eu.s3.eu-central-1.amazonaws.com/">\n{KEYS}\n</Proxy>\n'
    assert told(f"{HCHECK}SSLProxyEngine on\n{bucket}{block}") == (0, [])
