"""usp-s3 sign with a real httpd's configuration, a real S3, and curl: what it prints is accepted, in all modes."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.certificates import Certificate
from tests.httpd import commands
from tests.httpd.conftest import BUCKET, MODES, NEEDS_SSL, proxy_section, section
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.leaks import TOKEN, leaks
from tests.s3 import EmbeddedS3

NEEDS_CURL = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on this machine")
DATA = b"film" * 5000
#: Keys that shells, curl and URLs read in their own way.
KEYS = ["film/film.mp4", "a b+c é.ts", "//x//", "100%.mp4", "q?=&#", "$(id) `id` 'x' \"y\" \\", "[1-3]{a,b}"]


def as_written(key: str) -> str:
    """A key in a URL: only what must be encoded is."""
    return re.sub("[%?#]", lambda match: f"%{ord(match[0]):02X}", key)


def options(mode: str, s3: EmbeddedS3) -> list[str]:
    is_v4, headers = MODES[mode]
    version = ["--region", s3.region] if is_v4 else ["--signature", "v2"]
    return [*version, "--in", "headers" if headers else "query"]


def keys_of(s3: EmbeddedS3) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}


def sign(*arguments: str, environment: dict[str, str] | None = None) -> str:
    done = commands.usp_s3("sign", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    assert not [leak for leak in leaks(done.stderr) if b"Signature" not in leak]
    return done.stdout


def run_by_shell(script: str, folder: Path) -> bytes:
    """Paste a command into sh. Nothing of it may be in the list of processes."""
    path = commands.recording_program("curl", folder)
    done = subprocess.run(
        ["sh"], input=script.encode(), capture_output=True, timeout=60, check=False,
        env={**os.environ, **path, "HOME": str(folder)}, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    seen = (folder / "curl.cmdline").read_bytes()
    assert seen.endswith(b"--config\0-\0") and not leaks(seen)
    assert b"http" not in seen and b"uthorization" not in seen
    return done.stdout


@NEEDS_CURL
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("mode", MODES)
def test_a_pasted_curl_command(s3: EmbeddedS3, tmp_path: Path, mode: str, key: str) -> None:
    s3.put(BUCKET, key, DATA)
    url = f"{s3.url}/{BUCKET}/{as_written(key)}"
    script = sign(*options(mode, s3), "--output", "curl", url, environment=keys_of(s3))
    s3.clear()
    assert run_by_shell(script, tmp_path) == DATA
    assert [request["status"] for request in s3.requests()] == [200]


@NEEDS_CURL
def test_a_pasted_curl_command_keeps_a_film(s3: EmbeddedS3, tmp_path: Path) -> None:
    """curl refuses to write a binary object to a terminal, so what a terminal shows names a file."""
    film = bytes(range(256))
    s3.put(BUCKET, "film/1.mp4", film)
    url = f"{s3.url}/{BUCKET}/film"
    arguments = ["sign", "--region", s3.region, "--output", "curl"]
    for key, status in (("1.mp4", 200), ("none.mp4", 404)):
        program = (
            "import sys; from usp_s3_wsgi.cli.main import main; sys.stdout.isatty = lambda: True; "
            f"sys.exit(main({[*arguments, f'{url}/{key}']!r}))"
        )
        script = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **keys_of(s3)}, capture_output=True, text=True,
            timeout=60, check=True,
        ).stdout  # fmt: skip
        said = run_by_shell(script, tmp_path).decode()
        assert said == f"S3 answered {status}: {(tmp_path / key).stat().st_size} bytes in {key}\n"
    assert (tmp_path / "1.mp4").read_bytes() == film and b"NoSuchKey" in (tmp_path / "none.mp4").read_bytes()


@NEEDS_CURL
@pytest.mark.parametrize("mode", MODES)
def test_further_headers_and_methods(s3: EmbeddedS3, tmp_path: Path, mode: str) -> None:
    """Headers arrive exactly as they are given, and those that are signed are signed in that way."""
    s3.put(BUCKET, "a.ts", DATA)
    given = {"X-Amz-Meta-Words": 'a "b" \\c\\ $(id) \'', "Range": "bytes=1-3"}
    further = [word for name, value in given.items() for word in ("--header", f"{name}: {value}")]
    arguments = [*options(mode, s3), "--output", "curl", "--requester-pays", f"{s3.url}/{BUCKET}/a.ts"]
    s3.clear()
    assert run_by_shell(sign(*further, *arguments, environment=keys_of(s3)), tmp_path) == DATA[1:4]
    (request,) = s3.requests()
    assert request["status"] == 206
    sent = {name.lower(): value for name, value in dict(request["headers"]).items()}
    assert {name: sent[name.lower()] for name in given} == given
    assert sent["x-amz-request-payer"] == "requester"
    head = run_by_shell(sign("--method", "HEAD", *arguments, environment=keys_of(s3)), tmp_path)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and f"Content-Length: {len(DATA)}".encode() in head
    run_by_shell(sign("--method", "DELETE", *arguments, environment=keys_of(s3)), tmp_path)
    assert [(request["method"], request["status"]) for request in s3.requests()[-2:]] == [
        ("HEAD", 200),
        ("DELETE", 204),
    ]


@NEEDS_CURL
def test_a_body_of_any_content(s3: EmbeddedS3, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(DATA)
    for mode in MODES:
        url = f"{s3.url}/{BUCKET}/{mode}"
        script = sign("--method", "PUT", "--output", "curl", *options(mode, s3), url, environment=keys_of(s3))
        script = script.replace("\nEOF\n", '\nupload-file = "body"\nEOF\n')  # as the page says
        run_by_shell(script, tmp_path)
        assert (s3.requests()[-1]["method"], s3.requests()[-1]["status"]) == ("PUT", 200)


def test_unsigned_headers_are_sent_as_they_are(bucket: Recorder, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not on this machine")
    script = sign(
        "--region", "r", "--in", "headers", "--output", "curl", "--header", "X-Empty:", "--header", "X-Other: \\t \\",
        bucket.url("mybucket", "/a"),
        environment={"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "AWS_SESSION_TOKEN": TOKEN},
    )  # fmt: skip
    run_by_shell(script, tmp_path)
    (request,) = bucket.requests
    sent = {name.lower(): value for name, value in request.headers.items()}
    assert (sent["x-empty"], sent["x-other"]) == ("", "\\t \\") and sent["x-amz-security-token"] == TOKEN


@pytest.mark.parametrize("mode", MODES)
def test_headers_and_urls(s3: EmbeddedS3, mode: str) -> None:
    key = "a b+c é.ts"
    s3.put(BUCKET, key, DATA)
    out = sign(*options(mode, s3), f"{s3.url}/{BUCKET}/{key}", environment=keys_of(s3)).rstrip("\n")
    _, headers = MODES[mode]
    connection = http.client.HTTPConnection(s3.host, timeout=30)
    try:
        if headers:
            lines = dict(line.split(": ", 1) for line in out.split("\n"))
            connection.request("GET", f"/{BUCKET}/{quote(key)}", headers=lines)
        else:
            parts = urlsplit(out)
            assert f"{parts.scheme}://{parts.netloc}" == s3.url
            connection.request("GET", f"{parts.path}?{parts.query}")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, DATA)
    finally:
        connection.close()


@pytest.mark.parametrize("mode", MODES)
@NEEDS_CURL
def test_a_bucket_in_the_name_of_the_host(s3: EmbeddedS3, tmp_path: Path, mode: str) -> None:
    s3.put(BUCKET, "private/a.ts", DATA)
    host = f"{BUCKET}.{s3.domain}:{s3.port}"
    bucket = [] if MODES[mode][0] else ["--virtual-host-bucket", BUCKET]
    url = f"http://{host}/private/a.ts"
    script = sign(*options(mode, s3), *bucket, "--output", "curl", url, environment=keys_of(s3))
    script = script.replace("\nEOF\n", f'\nconnect-to = "{host}:{s3.host}"\nEOF\n')  # names do not resolve here
    assert run_by_shell(script, tmp_path) == DATA


# ---------------------------------------------------------------- from httpd's configuration


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Httpd]:
    """Both ways in, in all modes; the keys of the last two are in files that only root reads."""
    url = f"{s3.url}/{BUCKET}"
    config = "AllowEncodedSlashes On\n"
    for mode in MODES:
        config += section(f"/gateway-{mode}", s3, mode=mode, path=f"{BUCKET}/deep/")
        config += f"ProxyPass /proxy-{mode} {url}/{mode}\n" + proxy_section(f"{url}/{mode}/", s3, mode=mode)
    folder = tmp_path_factory.mktemp("keys")
    (folder / "secret").write_text(f"{s3.secret_key}\n")
    config += section("/files", s3).replace(f"S3SecretKey {s3.secret_key}", f"S3SecretKeyFile {folder}/secret")
    with Httpd(config) as server:
        server.expect_error("USPS30805|USPS30807")
        yield server


@NEEDS_CURL
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["gateway", "proxy"])
def test_the_request_that_this_server_sends(httpd: Httpd, s3: EmbeddedS3, tmp_path: Path, way: str, mode: str) -> None:
    """A path of this server is the object that Apache serves there, with the section's keys and mode."""
    key = "a b+c é.ts"
    stored = f"deep/{key}" if way == "gateway" else f"{mode}/{key}"
    s3.put(BUCKET, stored, DATA)
    mount = f"/{way}-{mode}"
    served = httpd.fetch(f"{mount}/{quote(key)}")
    assert (served.status, served.body) == (200, DATA)
    s3.clear()
    for url in (f"{mount}/{key}", key, f"{s3.url}/{BUCKET}/{stored}"):
        script = sign("--from", mount, *commands.of(httpd), "--output", "curl", url)
        assert run_by_shell(script, tmp_path) == DATA
        is_v4, headers = MODES[mode]
        place = "header = .*" if headers else ""
        assert re.search(f"{place}({'AWS4-HMAC-SHA256' if is_v4 else 'AWS |AWSAccessKeyId'})", script)
    assert [request["status"] for request in s3.requests()] == [200] * 3


def test_keys_in_files_of_the_section(httpd: Httpd, s3: EmbeddedS3) -> None:
    assert sign("--from", "/files", *commands.of(httpd), "a.ts").startswith("x-amz-content-sha256: ")


def test_an_error_shows_no_secret(httpd: Httpd, s3: EmbeddedS3) -> None:
    for arguments in (
        ["--from", "/none", "a"],
        ["--from", "/files", "https://evil.example/a"],
        ["--from", "/files", "#"],
    ):
        done = commands.usp_s3("sign", *arguments[:2], *commands.of(httpd), *arguments[2:])
        assert done.returncode in {1, 2} and done.stdout == ""
        assert not leaks(done.stderr) and "Traceback" not in done.stderr


@NEEDS_CURL
@NEEDS_SSL
def test_over_tls(s3_tls: EmbeddedS3, certificate: Certificate, tmp_path: Path) -> None:
    s3_tls.put(BUCKET, "a.ts", DATA)
    url = f"{s3_tls.url}/{BUCKET}/a.ts"
    script = sign("--region", s3_tls.region, "--output", "curl", url, environment=keys_of(s3_tls))
    script = script.replace("\nEOF\n", f'\ncacert = "{certificate.root}"\nEOF\n')
    assert run_by_shell(script, tmp_path) == DATA
