"""apache/container/variables.py: from the variables of a container to httpd's configuration."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.certificates import make_certificate
from tests.leaks import ACCESS_KEY, SECRET_KEY
from usp_s3_wsgi.config.settings import NAMES
from usp_s3_wsgi.configtest.apache_syntax import Line, parse

SOURCE = Path(__file__).parents[2] / "apache" / "container" / "variables.py"
URL = "https://media.s3.eu-central-1.amazonaws.com/"
KEYS = {"S3_ACCESS_KEY": ACCESS_KEY, "S3_SECRET_KEY": SECRET_KEY}
BUCKET = {"REMOTE_STORAGE_URL": URL, "S3_REGION": "eu-central-1", **KEYS}


def load() -> Any:
    spec = importlib.util.spec_from_file_location("variables", SOURCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["variables"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


container = load()


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def defaults(memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that the image has by itself; the operator has mounted no files."""
    monkeypatch.setattr(container, "OPERATOR_FILES", tmp_path)
    return {"PORT": "8080", "HEALTH_PORT": "8081", "USP_S3_RUN": str(memory / "run"), "PATH": "/usr/bin"}


def lines_of(environment: dict[str, str]) -> list[str]:
    lines = container.configure(environment).lines
    return [line.replace(environment["USP_S3_RUN"], "RUN") for line in lines]


def error_of(environment: dict[str, str]) -> str:
    with pytest.raises(container.VariableError) as caught:
        container.configure(environment)
    message = str(caught.value)
    assert "\n" not in message
    for secret in KEYS.values():
        assert secret not in message
    return message


def test_the_gateway(defaults: dict[str, str]) -> None:
    assert lines_of({**defaults, **BUCKET}) == [
        "LogLevel warn",
        r'CustomLog /proc/self/fd/1 "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-agent}i\" %D"',
        "UspS3Metrics On",
        "Define USP_S3_HEALTH_CHECKS_BUCKETS",
        "<VirtualHost *:${PORT}>",
        "WSGIScriptAlias / ${USP_S3_WSGI}",
        "<Location />",
        'SetEnv S3UseHeaders "on"',
        'SetEnv S3AccessKeyFile "RUN/s3_access_key"',
        f'SetEnv S3BucketURL "{URL}"',
        'SetEnv S3Region "eu-central-1"',
        'SetEnv S3SecretKeyFile "RUN/s3_secret_key"',
        "</Location>",
        "</VirtualHost>",
    ]


@pytest.mark.parametrize(
    ("path", "directives"),
    [
        ("", [f'ProxyPass "/" "{URL}"', f'<Proxy "{URL}">']),
        ("/media/films/", [f'ProxyPass "/media/films" "{URL[:-1]}"', f'<Proxy "{URL}">']),
    ],
)
def test_a_proxy_section(defaults: dict[str, str], path: str, directives: list[str]) -> None:
    variables = {"WAY": "proxy", "REMOTE_PATH": path, "S3_USE_HEADERS": "off", "METRICS": "off"}
    lines = lines_of({**defaults, **BUCKET, **variables})
    assert lines[2:] == [
        "<VirtualHost *:${PORT}>",
        "SSLProxyEngine on",
        "SSLProxyVerify require",
        "SSLProxyVerifyDepth 10",
        'SSLProxyCACertificateFile "/etc/ssl/certs/ca-certificates.crt"',
        *directives,
        "ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300 addressttl=60",
        'SetEnv S3UseHeaders "off"',
        'SetEnv S3AccessKeyFile "RUN/s3_access_key"',
        'SetEnv S3Region "eu-central-1"',
        'SetEnv S3SecretKeyFile "RUN/s3_secret_key"',
        "</Proxy>",
        "</VirtualHost>",
    ]


def test_what_mod_proxy_has_as_directives(defaults: dict[str, str], tmp_path: Path) -> None:
    make_certificate(tmp_path).root.rename(tmp_path / "ca.pem")
    further = {"S3_CA_FILE": str(tmp_path / "ca.pem"), "S3_PROXY_SET": "timeout=20 ttl=60"}
    as_settings = lines_of({**defaults, **BUCKET, **further})
    assert f'SetEnv S3CAFile "{tmp_path}/ca.pem"' in as_settings
    assert 'SetEnv S3ProxySet "timeout=20 ttl=60"' in as_settings
    as_directives = lines_of({**defaults, **BUCKET, **further, "WAY": "proxy"})
    assert f'SSLProxyCACertificateFile "{tmp_path}/ca.pem"' in as_directives
    assert "ProxySet timeout=20 ttl=60" in as_directives
    assert not any("S3CAFile" in line or "S3ProxySet" in line for line in as_directives)


@pytest.mark.parametrize("way", ["gateway", "proxy"])
def test_keys_are_only_in_files_that_nobody_else_can_read(defaults: dict[str, str], way: str) -> None:
    old_mask = os.umask(0)
    try:
        configuration = container.configure({**defaults, **BUCKET, "S3_SECURITY_TOKEN": "a/token", "WAY": way})
    finally:
        os.umask(old_mask)
    text = "\n".join(configuration.lines)
    assert not any(secret in text for secret in (ACCESS_KEY, SECRET_KEY, "a/token"))
    folder = Path(defaults["USP_S3_RUN"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    contents = {}
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        contents[path.name] = path.read_text()
    assert contents == {"s3_access_key": ACCESS_KEY, "s3_secret_key": SECRET_KEY, "s3_security_token": "a/token"}
    for name in contents:
        (folder / name).unlink()


def test_key_files_are_not_copied_so_that_they_can_be_rotated(defaults: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET_KEY}\n")
    variables = {**BUCKET, "S3_SECRET_KEY_FILE": str(tmp_path / "key")}
    del variables["S3_SECRET_KEY"]
    assert f'SetEnv S3SecretKeyFile "{tmp_path}/key"' in lines_of({**defaults, **variables})


def test_each_setting_has_a_variable() -> None:
    assert set(container.SETTINGS.values()) == NAMES
    assert {"S3_STS_ENDPOINT", "S3_ROLE_ARN", "S3_CA_FILE", "S3_FALLBACK_ON_404", "S3_FALLBACK_SECRET_KEY_FILE"} <= set(
        container.SETTINGS
    )
    for variable in container.SETTINGS:
        assert variable == "REMOTE_STORAGE_URL" or variable.startswith("S3_"), variable
        assert not variable.endswith("_") and "__" not in variable


def test_variables_become_the_settings_that_the_gateway_reads(defaults: dict[str, str]) -> None:
    variables = {
        "S3_RETRIES": "4",
        "S3_FALLBACK_URL": "https://b.s3.eu-west-1.amazonaws.com/",
        "S3_FALLBACK_REGION": "r",
    }
    lines = lines_of({**defaults, **BUCKET, **variables})
    assert 'SetEnv S3Retries "4"' in lines
    assert 'SetEnv S3FallbackURL "https://b.s3.eu-west-1.amazonaws.com/"' in lines
    assert 'SetEnv S3FallbackRegion "r"' in lines


ERRORS = {
    "nothing": ({}, "REMOTE_STORAGE_URL is not set, and"),
    "a way to no bucket": ({"WAY": "proxy"}, "WAY is set, but REMOTE_STORAGE_URL is not"),
    "an empty URL": ({**BUCKET, "REMOTE_STORAGE_URL": ""}, "S3_ACCESS_KEY is set, but REMOTE_STORAGE_URL is not"),
    "no keys": ({"REMOTE_STORAGE_URL": URL}, "S3_ACCESS_KEY is not set (nor S3_ACCESS_KEY_FILE)"),
    "no secret key": (
        {**BUCKET, "S3_SECRET_KEY": ""}, "S3_SECRET_KEY is not set (nor S3_SECRET_KEY_FILE)",
    ),
    "a key and a file": (
        {**BUCKET, "S3_SECRET_KEY_FILE": "/run/x/y"}, "S3_SECRET_KEY and S3_SECRET_KEY_FILE are both set: set only one",
    ),
    "a URL without scheme": (
        {**BUCKET, "REMOTE_STORAGE_URL": "media.s3.amazonaws.com"}, "REMOTE_STORAGE_URL must be an http:// or https://",
    ),
    "a password in the URL": (
        {**BUCKET, "REMOTE_STORAGE_URL": f"https://a:{SECRET_KEY}@example.com/b/"},
        "REMOTE_STORAGE_URL must be a URL such as",
    ),
    "a URL of a whole service": (
        {**BUCKET, "REMOTE_STORAGE_URL": "https://minio.example.com/"},
        "REMOTE_STORAGE_URL shows no bucket: put it into the path, or set S3_BUCKET",
    ),
    "a region with a space": ({**BUCKET, "S3_REGION": "eu central"}, "S3_REGION must be a region's name"),
    "a key in two lines": ({**BUCKET, "S3_SECRET_KEY": f"{SECRET_KEY}\nx"}, "S3_SECRET_KEY must be printable ASCII"),
    "yes for on": ({**BUCKET, "S3_USE_HEADERS": "yes"}, "S3_USE_HEADERS must be on or off"),
    "another way": ({**BUCKET, "WAY": "Gateway"}, "WAY must be gateway or proxy"),
    "a path with a space": ({**BUCKET, "REMOTE_PATH": "my films"}, "REMOTE_PATH must be a path"),
    "a path with dots": ({**BUCKET, "REMOTE_PATH": "a/../b"}, "REMOTE_PATH must be a path"),
    "a directive in the path": ({**BUCKET, "REMOTE_PATH": 'a">\n<Location "/'}, "REMOTE_PATH must be a path"),
    "a directive in the level": ({**BUCKET, "LOG_LEVEL": "warn\nInclude /etc/passwd"}, "LOG_LEVEL must be words"),
    "a directive in the format": ({**BUCKET, "LOG_FORMAT": "%h\nInclude /x"}, "LOG_FORMAT must have no ${ and no"),
    "a variable in the format": ({**BUCKET, "LOG_FORMAT": "${PATH}"}, "LOG_FORMAT must have no ${ and no control"),
    "a variable in the URL": (
        {**BUCKET, "REMOTE_STORAGE_URL": URL + "${PATH}/"}, "REMOTE_STORAGE_URL must have no ${ and no control",
    ),
    "a misspelt variable": ({**BUCKET, "S3_ACCESSKEY": "A"}, "S3_ACCESSKEY is not a variable of this image: did you"),
    "another misspelt one": ({**BUCKET, "REMOTE_STORAGE_URI": "A"}, "did you mean REMOTE_STORAGE_URL?"),
    "a setting of the gateway": (
        {**BUCKET, "WAY": "proxy", "S3_RETRIES": "3"}, "S3_RETRIES is for the gateway: in a <Proxy> section there is",
    ),
    "a file that is missing": (
        {**BUCKET, "S3_SECRET_KEY": "", "S3_SECRET_KEY_FILE": "/run/secrets/missing"},
        "S3_SECRET_KEY_FILE: the file cannot be read (uid ",
    ),
    "a file without a key": (
        {**BUCKET, "S3_SECRET_KEY": "", "S3_SECRET_KEY_FILE": "/dev/null"},
        "S3_SECRET_KEY_FILE must be a regular file",
    ),
    "a relative file": (
        {**BUCKET, "S3_SECRET_KEY": "", "S3_SECRET_KEY_FILE": "key"}, "S3_SECRET_KEY_FILE must be the absolute path",
    ),
    "certificates that are none": ({**BUCKET, "S3_CA_FILE": __file__}, "S3_CA_FILE: the file contains no certificate"),
    "metrics that are neither on nor off": ({**BUCKET, "METRICS": "yes"}, "METRICS must be on or off"),
    "readers of nothing": ({**BUCKET, "METRICS": "off", "STATUS_FROM": "all"}, "STATUS_FROM is set, but METRICS is"),
    "a reader with a name": ({**BUCKET, "STATUS_FROM": "example.com"}, "STATUS_FROM must be all, or addresses and"),
    "a network with host bits": ({**BUCKET, "STATUS_FROM": "10.0.0.1/8"}, "STATUS_FROM must be all, or addresses"),
    "a directive in the readers": ({**BUCKET, "STATUS_FROM": '1.1.1.1"\nInclude x'}, "STATUS_FROM must be all, or"),
    "the name of a format": ({**BUCKET, "LOG_FORMAT": "combined"}, "LOG_FORMAT must be a format such as %h"),
    "a variable of another program with a key": (
        {**BUCKET, "S3_SECRET_ACCESS_KEY": "x"}, "S3_SECRET_ACCESS_KEY is not a variable of this image, and would stay",
    ),
    "a percent sign for mod_proxy": (
        {**BUCKET, "REMOTE_STORAGE_URL": URL + "a%20b/", "WAY": "proxy"}, "REMOTE_STORAGE_URL must have no %, *, ?, [",
    ),
    "a pattern for mod_proxy": (
        {**BUCKET, "REMOTE_STORAGE_URL": URL + "a*/", "WAY": "proxy"}, "REMOTE_STORAGE_URL must have no %, *, ?, [",
    ),
    "an IPv6 address for mod_proxy": (
        {**BUCKET, "REMOTE_STORAGE_URL": "http://[::1]:9000/media/", "WAY": "proxy"}, "use WAY=gateway",
    ),
    "a quote in the folder": ({**BUCKET, "USP_S3_RUN": '/dev/shm/a"b'}, "USP_S3_RUN must be the absolute path"),
    "certificates that are missing": ({**BUCKET, "S3_CA_FILE": "/missing/ca.pem"}, "S3_CA_FILE: the file cannot"),
    "keys and an identity": (
        {**BUCKET, "S3_CREDENTIAL_SOURCE": "aws"}, "S3_ACCESS_KEY is set, but S3_CREDENTIAL_SOURCE is aws",
    ),
    "AWS's own secret": (
        {"REMOTE_STORAGE_URL": URL, "S3_CREDENTIAL_SOURCE": "aws", "AWS_SECRET_ACCESS_KEY": "x"},
        "AWS_SECRET_ACCESS_KEY would stay in httpd's environment",
    ),
    "no number": ({**BUCKET, "PORT": "http"}, "PORT must be a whole number from 1 to 65535"),
    "a port with a protocol": ({**BUCKET, "PORT": "tcp://10.0.0.1:80"}, "PORT must be a whole number from 1 to 65535"),
    "port 0": ({**BUCKET, "HEALTH_PORT": "0"}, "HEALTH_PORT must be a whole number from 1 to 65535"),
    "one port for both": ({**BUCKET, "HEALTH_PORT": "08080"}, "PORT and HEALTH_PORT must differ"),
    "keys on a disk": ({**BUCKET, "USP_S3_RUN": str(Path(__file__).parent / "run")}, "is not in memory"),
    "keys in no folder": ({**BUCKET, "USP_S3_RUN": "/proc/run"}, "mount a tmpfs there"),
    "a relative folder": ({**BUCKET, "USP_S3_RUN": "run"}, "USP_S3_RUN must be the absolute path"),
}  # fmt: skip


@pytest.mark.parametrize(("variables", "expected"), ERRORS.values(), ids=ERRORS)
def test_a_wrong_variable_is_one_clear_line(defaults: dict[str, str], variables: dict[str, str], expected: str) -> None:
    try:
        assert expected in error_of({**defaults, **variables})
    finally:
        folder = Path(__file__).parent / "run"
        if folder.exists():
            folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_keys_are_not_written_to_a_folder_of_another_user(defaults: dict[str, str], memory: Path) -> None:
    folder = memory / "other"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    assert "belongs to another user (uid 12345)" in error_of({**defaults, **BUCKET, "USP_S3_RUN": str(folder)})


def test_variables_of_other_programs_are_ignored(defaults: dict[str, str]) -> None:
    """Kubernetes sets such variables for a Service with the name s3, and programs have their own."""
    others = {"S3_PORT": "tcp://10.0.0.1:80", "S3_SERVICE_HOST": "10.0.0.1", "S3CMD_CONFIG": "x", "LOG_DRIVER": "json"}
    assert lines_of({**defaults, **BUCKET, **others}) == lines_of({**defaults, **BUCKET})


def test_only_the_operators_own_files(defaults: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "media.conf").touch()
    assert len(lines_of(defaults)) == 4  # LogLevel, CustomLog, and what is recorded
    assert "S3_REGION is set, but REMOTE_STORAGE_URL is not" in error_of({**defaults, "S3_REGION": "r"})


def test_httpd_gets_no_key(defaults: dict[str, str]) -> None:
    secrets = {
        **BUCKET, "S3_SECURITY_TOKEN": "t", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t",
        "S3_FALLBACK_SECRET_KEY": "s", "S3_ROLE_EXTERNAL_ID": "e", "LOG_FORMAT": "%h",
    }  # fmt: skip
    assert container.httpd_environment({**defaults, **secrets, "TZ": "UTC"}) == {**defaults, "TZ": "UTC"}
    identity = {"S3_CREDENTIAL_SOURCE": "aws", "AWS_ROLE_ARN": "arn", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}
    assert set(container.httpd_environment({**defaults, **identity})) - set(defaults) == {
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    }


def test_an_empty_variable_counts_as_not_set(defaults: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    empty = {**defaults, **BUCKET, "PORT": "", "HEALTH_PORT": "", "LOG_LEVEL": "", "WAY": "", "REMOTE_PATH": ""}
    assert lines_of(empty) == lines_of({**defaults, **BUCKET})
    monkeypatch.setitem(container.DEFAULTS, "USP_S3_RUN", defaults["USP_S3_RUN"])
    environment = container.httpd_environment({**empty, "USP_S3_RUN": ""})
    assert (environment["PORT"], environment["HEALTH_PORT"]) == ("8080", "8081")
    assert environment["USP_S3_RUN"] == defaults["USP_S3_RUN"]
    assert container.run_directory({}) == Path(defaults["USP_S3_RUN"])


def test_a_key_may_end_with_a_line_break(defaults: dict[str, str]) -> None:
    container.configure({**defaults, **BUCKET, "S3_SECRET_KEY": f"{SECRET_KEY}\n"})
    assert Path(defaults["USP_S3_RUN"], "s3_secret_key").read_text() == SECRET_KEY


def test_the_two_ways_name_the_same_object(defaults: dict[str, str]) -> None:
    """Only one slash at the end of a URL is not part of the keys."""
    lines = lines_of({**defaults, **BUCKET, "REMOTE_STORAGE_URL": f"{URL}/", "WAY": "proxy"})
    assert f'ProxyPass "/" "{URL}/"' in lines


def test_a_folder_has_one_container(defaults: dict[str, str]) -> None:
    folder = container.run_directory(defaults)
    descriptor = container.lock(folder)
    with pytest.raises(container.VariableError, match=r"another container uses .*: set USP_S3_RUN to another"):
        container.lock(folder)
    os.close(descriptor)
    os.close(container.lock(folder))


def test_files_that_cannot_be_listed(defaults: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(container, "OPERATOR_FILES", tmp_path / "file")
    assert "file cannot be read (uid " in error_of(defaults)


def test_the_variable_of_a_line(defaults: dict[str, str]) -> None:
    configuration = container.configure({**defaults, **BUCKET})
    assert configuration.variables[:6] == ["LOG_LEVEL", "LOG_FORMAT", "METRICS", "METRICS", "", "REMOTE_PATH"]
    for line, variable in zip(configuration.lines, configuration.variables, strict=True):
        assert ("S3Region" in line) == (variable == "S3_REGION")


def test_metrics_are_on_unless_they_are_off(defaults: dict[str, str]) -> None:
    assert "UspS3Metrics On" in container.configure({**defaults, **BUCKET}).lines
    assert "UspS3Metrics On" not in container.configure({**defaults, **BUCKET, "METRICS": "off"}).lines


@pytest.mark.parametrize(
    ("readers", "require"),
    [("all", "all granted"), ("10.0.0.0/8", "ip 10.0.0.0/8"), ("10.1.2.3, 2001:db8::/32", "ip 10.1.2.3 2001:db8::/32")],
)
def test_who_may_read_the_status(defaults: dict[str, str], readers: str, require: str) -> None:
    lines = container.configure({**defaults, **BUCKET, "STATUS_FROM": readers}).lines
    assert f'Define USP_S3_STATUS_REQUIRE "{require}"' in lines


@pytest.mark.parametrize("name", container.NAMED_FORMATS)
def test_the_formats_with_a_name(defaults: dict[str, str], name: str) -> None:
    lines = container.configure({**defaults, **BUCKET, "LOG_FORMAT": name}).lines
    assert f'CustomLog /proc/self/fd/1 "{name}"' in lines


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@settings(max_examples=300, deadline=None)
@given(text=PRINTABLE)
def test_httpd_reads_the_exact_text_of_a_variable(text: str) -> None:
    if "${" in text:
        return
    (line,) = parse(f"CustomLog x {container.quoted('LOG_FORMAT', text)}")
    assert isinstance(line, Line)
    assert line.arguments == ("x", text)


NAMES_AND_TEXTS = st.dictionaries(
    st.sampled_from(sorted({*container.SETTINGS, *container.OTHERS} - {"USP_S3_RUN"})), st.text(max_size=20) | PRINTABLE
)


@settings(max_examples=300, deadline=None)
@given(variables=NAMES_AND_TEXTS)
def test_no_value_ends_in_a_traceback(variables: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        environment = {"PORT": "8080", "HEALTH_PORT": "8081", **variables, "USP_S3_RUN": f"{folder}/run"}
        with suppress(container.VariableError):
            container.configure(environment)


MOUNTS = r"""
22 1 8:1 / / rw,relatime - ext4 /dev/vda rw
30 22 0:5 / /dev rw - devtmpfs udev rw
31 30 0:25 / /dev/shm rw,nosuid - tmpfs tmpfs rw
32 22 0:30 / /run/my\040keys rw - ramfs ramfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/dev/shm/usp_s3", "tmpfs"),
        ("/dev/shmusp_s3", "devtmpfs"),
        ("/run/my keys/x", "ramfs"),
        ("/run/usp_s3", "ext4"),
    ],
)
def test_the_file_system_of_a_folder(folder: str, kind: str) -> None:
    assert container.file_system(Path(folder), MOUNTS.strip()) == kind


def test_the_documentation_has_each_variable_that_is_not_a_setting() -> None:
    page = (SOURCE.parents[2] / "docs" / "container.md").read_text("utf-8")
    table = page.partition("| variable | meaning |")[2].partition("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines()[2:]]
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row[1])]
    assert len(documented) == len(set(documented))
    assert set(container.OTHERS) <= set(documented) <= {*container.OTHERS, *container.SETTINGS}
    for row in rows:
        for name in re.findall(r"`(\w+)`", row[1]):
            if name in container.SETTINGS and not container.SETTINGS[name].endswith("File"):
                setting = container.SETTINGS[name]
                assert f"`{setting}`" in row[3] or f"`{setting}File`" in row[3], name


def test_the_image_has_the_documented_defaults() -> None:
    page = (SOURCE.parents[2] / "docs" / "container.md").read_text("utf-8")
    dockerfile = SOURCE.with_name("Dockerfile").read_text("utf-8")
    program = SOURCE.with_name("container.py").read_text("utf-8")
    for name in ("PORT", "HEALTH_PORT", "USP_S3_RUN"):
        (default,) = re.findall(rf"\b(?<!_){name}=(\S+)", dockerfile)
        (row,) = re.findall(rf"^\| `{name}` .*", page, re.MULTILINE)
        assert f"{default} by default" in row.replace("`", "")
        assert container.DEFAULTS[name] == default
        # Commands in a running container, which load no more than they need.
        assert name == "PORT" or re.search(rf'get\("{name}"\) or "?{default}\b', program)
