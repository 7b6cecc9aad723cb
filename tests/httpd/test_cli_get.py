"""``usp-s3 get`` with a real httpd and a real S3: straight, through Apache, and compared; on terminals and in pipes."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificate, make_certificate
from tests.faults.server import Connection, Request, ScriptedS3, answer, head_of
from tests.httpd.conftest import BUCKET, MODES, NEEDS_SSL, proxy_section, section
from tests.httpd.machine import free_port, httpd_binary, httpd_environment
from tests.httpd.server import Httpd
from tests.leaks import leaks
from tests.s3 import EmbeddedS3

PROGRAM = Path(sys.executable).with_name("usp-s3")
OBJECT = b"a film, byte by byte\n" * 50_000
TIMEOUT = 60


@pytest.fixture(scope="module")
def named_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("named"), "DNS:tls.example")


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    s3.put(BUCKET, "film/1.mp4", OBJECT)
    s3.put(BUCKET, "film/a b+c%.mp4", b"unusual")
    s3.put(BUCKET, "page.html", b"<p>film</p>\n" * 1000, content_type="text/html")
    url = f"{s3.url}/{BUCKET}"
    config = f"""
{section("/media", s3)}
{section("/filtered", s3, "AddOutputFilterByType SUBSTITUTE text/html", 'Substitute "s/film/tape/"')}
{section("/locked", s3, "AuthType Basic", "AuthName x", "AuthUserFile none", "Require valid-user")}
{"".join(section(f"/{mode}", s3, mode=mode) for mode in MODES)}
ProxyPass /tv {url}
{proxy_section(f"{url}/", s3)}
<VirtualHost 127.0.0.1:${{PORT}}>
  ServerName first.example
</VirtualHost>
<VirtualHost 127.0.0.1:${{PORT}}>
  ServerName second.example
  {section("/second", s3)}
</VirtualHost>
"""
    with Httpd(config) as server:
        yield server


def command(httpd: Httpd, *arguments: str) -> list[str]:
    return [str(PROGRAM), "get", "-f", str(httpd.root / "httpd.conf"), "--httpd", httpd_binary(), *arguments]


def get(httpd: Httpd, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder. Nothing that it prints is a secret."""
    done = subprocess.run(
        command(httpd, *arguments), cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False,
        stdin=subprocess.DEVNULL, env=httpd_environment(),
    )  # fmt: skip
    assert not leaks(done.stdout) and not leaks(done.stderr)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    return done


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("key", "options", "stored"),
    [
        ("film/1.mp4", ["--from", "/media"], OBJECT),
        ("/media/film/1.mp4", ["--through-apache"], OBJECT),
        *((f"/{mode}/film/1.mp4", [], OBJECT) for mode in MODES),
        ("/tv/film/1.mp4", [], OBJECT),
        ("/tv/film/1.mp4", ["--through-apache"], OBJECT),
        ("film/1.mp4", ["--from", "/second", "--through-apache"], OBJECT),
        ("/media/film/a%20b+c%25.mp4", [], b"unusual"),
        ("/tv/film/a%20b+c%25.mp4", ["--through-apache"], b"unusual"),
        ("/tv/film/a%20b+c%25.mp4", [], b"unusual"),
        ("/media/film/1.mp4", ["--range", "7-20"], OBJECT[7:21]),
        ("/tv/film/1.mp4", ["--range", "-5", "--through-apache"], OBJECT[-5:]),
    ],
)
def test_the_object(httpd: Httpd, tmp_path: Path, key: str, options: list[str], stored: bytes) -> None:
    done = get(httpd, tmp_path, key, *options, "--json")
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    assert file.name == re.sub("%20", " ", key.rpartition("/")[2]).replace("%25", "%")
    assert file.read_bytes() == stored
    (download,) = result(done)["downloads"]
    assert download["sha256"] == hashlib.sha256(stored).hexdigest()
    assert download["times"][0]["first_byte"] > 0
    if "--range" not in options:
        assert download["checksums"] == [
            {"name": "ETag", "result": "equal", "reason": "it is the MD5 of the bytes"},
        ]


@pytest.mark.parametrize("mount", ["/media", "/tv", "/second"])
def test_both_ways_are_equal(httpd: Httpd, tmp_path: Path, mount: str) -> None:
    done = get(httpd, tmp_path, f"{mount}/film/1.mp4", "--compare", "--json", "--repeat", "3")
    assert done.returncode == 0, done.stderr
    found = result(done)
    assert (found["equal"], found["different_headers"]) == (True, [])
    assert [len(one["times"]) for one in found["downloads"]] == [3, 3]
    assert "The bytes and headers are equal." in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_filter_of_httpd_makes_a_difference(httpd: Httpd, tmp_path: Path) -> None:
    done = get(httpd, tmp_path, "/filtered/page.html", "--compare", "--json")
    assert done.returncode == 1
    found = result(done)
    assert (found["equal"], found["first_difference"]) == (False, 3)
    assert "Content-Length" in found["different_headers"]
    assert "The bytes differ from byte 3 on" in done.stderr


def test_another_object_behind_a_url(httpd: Httpd, tmp_path: Path) -> None:
    done = get(httpd, tmp_path, "/media/film/1.mp4", "--compare", "--url", f"{httpd.url}/media/page.html", "--json")
    assert done.returncode == 1
    assert (result(done)["equal"], result(done)["first_difference"]) == (False, 0)


@pytest.mark.parametrize(
    ("key", "options", "words"),
    [
        ("/media/none", [], "S3 answered 404 NoSuchKey"),
        ("/media/none", ["--through-apache"], "Apache answered 404 Not Found"),
        ("/tv/none", ["--compare"], "Apache answered 404 Not Found"),
        ("/locked/film/1.mp4", ["--through-apache"], "Apache answered 401 Unauthorized: it asks for a password"),
    ],
)
def test_failures(httpd: Httpd, tmp_path: Path, key: str, options: list[str], words: str) -> None:
    done = get(httpd, tmp_path, key, *options)
    assert done.returncode == 1
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_httpd_that_does_not_run(httpd: Httpd, tmp_path: Path) -> None:
    config = tmp_path / "httpd.conf"
    config.write_text((httpd.root / "httpd.conf").read_text().replace(str(httpd.port), str(free_port())))
    done = subprocess.run(
        [PROGRAM, "get", "-f", str(config), "--httpd", httpd_binary(), "--through-apache", "/media/film/1.mp4"],
        cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=httpd_environment(),
    )  # fmt: skip
    assert done.returncode == 1 and "Connection refused" in done.stderr


@NEEDS_SSL
def test_a_virtual_host_with_tls(s3: EmbeddedS3, tmp_path: Path, named_certificate: Certificate) -> None:
    s3.put(BUCKET, "film/1.mp4", OBJECT)
    port = free_port()
    config = f"""
Listen 127.0.0.1:{port}
<VirtualHost *:{port}>
  ServerName tls.example
  SSLEngine on
  SSLCertificateFile {named_certificate.chain}
  SSLCertificateKeyFile {named_certificate.key}
  {section("/media", s3)}
</VirtualHost>
"""
    with Httpd(config) as httpd:
        ca_file = ["--ca-file", str(named_certificate.root)]
        done = get(httpd, tmp_path, "/media/film/1.mp4", "--compare", "--json", *ca_file)
        assert done.returncode == 0, done.stderr
        apache = result(done)["downloads"][1]
        assert apache["url"] == f"https://tls.example:{port}/media/film/1.mp4"
        assert apache["times"][0]["tls"] > 0 and apache["times"][0]["lookup"] is None
        done = get(httpd, tmp_path, "/media/film/1.mp4", "--through-apache")
        assert done.returncode == 1 and "the certificate for tls.example cannot be verified" in done.stderr
        assert get(httpd, tmp_path, "/media/film/1.mp4", "--through-apache", "--insecure").returncode == 0


# ---------------------------------------------------------------- terminals, pipes, interrupts


@NEEDS_SSL
@pytest.mark.parametrize("directive", ["SSLProxyCACertificateFile {root}", "SSLProxyCACertificatePath {folder}"])
def test_a_proxy_section_trusts_what_mod_ssl_trusts(
    s3_tls: EmbeddedS3, certificate: Certificate, tmp_path: Path, directive: str
) -> None:
    (authorities := tmp_path / "authorities").mkdir(mode=0o700)
    (authorities / "root.pem").write_bytes(certificate.root.read_bytes())
    (authorities / "root.pem").chmod(0o600)
    s3_tls.put(BUCKET, "film/1.mp4", OBJECT)
    url = f"https://localhost:{s3_tls.port}/{BUCKET}"
    trust = directive.format(root=authorities / "root.pem", folder=authorities)
    config = f"SSLProxyEngine on\nSSLProxyVerify require\nSSLProxyVerifyDepth 10\n{trust}\nProxyPass /tv {url}\n"
    (folder := tmp_path / "files").mkdir()
    with Httpd(config + proxy_section(f"{url}/", s3_tls)) as server:
        done = get(server, folder, "/tv/film/1.mp4")
    assert done.returncode == 0, done.stderr
    assert (folder / "1.mp4").read_bytes() == OBJECT


class Slow:
    """Sends an object slowly, or the rest of it."""

    def __init__(self, pause: float) -> None:
        self.pause = pause

    def __call__(self, connection: Connection, request: Request) -> None:
        match = re.fullmatch(r"bytes=(\d+)-\d+", request.headers.get("range", ""))
        start, etag = int(match[1]) if match else 0, ("ETag", '"x"')
        total = len(OBJECT)
        content_range = ("Content-Range", f"bytes {start}-{total - 1}/{total}")
        whole = answer(206 if match else 200, OBJECT[start:], etag, *([content_range] if match else []))
        header = head_of(whole)
        connection.send(header)
        for position in range(start, total, 20_000):
            connection.send(OBJECT[position : position + 20_000])
            time.sleep(self.pause)


@pytest.fixture
def slow() -> Slow:
    return Slow(0.03)


@pytest.fixture
def slow_httpd(slow: Slow) -> Iterator[Httpd]:
    """A configuration whose S3 is slow. httpd itself need not run."""
    with ScriptedS3(then=slow) as server:
        lines = ["SetEnv S3AccessKey A", "SetEnv S3SecretKey S", "SetEnv S3Region r"]
        body = "\n".join([f"SetEnv S3BucketURL {server.url}/bucket/", *lines])
        with Httpd(f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\n{body}\n</Location>\n") as httpd:
            yield httpd


def run_in_terminal(arguments: list[str], folder: Path, **environment: str) -> tuple[int, str]:
    """Run a command whose standard error is a terminal of 80 columns; return its exit status and what it shows."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        arguments, cwd=folder, stdin=follower, stdout=subprocess.PIPE, stderr=follower, close_fds=True,
        env={**httpd_environment(), "TERM": "xterm", "COLUMNS": "80", **environment},
    )  # fmt: skip
    os.close(follower)
    shown, deadline = b"", time.monotonic() + TIMEOUT
    try:
        while time.monotonic() < deadline:
            if not select.select([leader], [], [], 1)[0]:
                continue
            try:
                data = os.read(leader, 65_536)
            except OSError:  # the terminal is closed at the other side
                break
            if not data:
                break
            shown += data
        return process.wait(TIMEOUT), shown.decode()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        os.close(leader)


def test_a_progress_bar_on_a_terminal(slow_httpd: Httpd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    status, shown = run_in_terminal(command(slow_httpd, "/media/1.mp4"), tmp_path)
    assert status == 0, shown
    assert re.search(r"\d+[.\d]*(?:/1\.1 MB| [kM]B/s)", shown) and "━" in shown
    assert "\x1b[" in shown and re.search(r"\x1b\[\d*;?\d*m", shown)
    assert "SHA-256" in shown
    assert (tmp_path / "1.mp4").read_bytes() == OBJECT


def test_no_color(slow_httpd: Httpd, tmp_path: Path) -> None:
    status, shown = run_in_terminal(command(slow_httpd, "/media/1.mp4"), tmp_path, NO_COLOR="1")
    assert status == 0 and "━" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)


@pytest.mark.parametrize(("options", "environment"), [(["-q"], {}), ([], {"TERM": "dumb"})])
def test_no_bar(slow_httpd: Httpd, tmp_path: Path, options: list[str], environment: dict[str, str]) -> None:
    status, shown = run_in_terminal(command(slow_httpd, "/media/1.mp4", *options), tmp_path, **environment)
    assert status == 0 and "━" not in shown and "\x1b[?25l" not in shown


def test_a_pipe_that_is_closed(httpd: Httpd, tmp_path: Path) -> None:
    arguments = command(httpd, "/media/film/1.mp4", "-o", "-")
    script = '"$@" | head -c 7; echo " ${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT,
        check=True, env=httpd_environment(),
    )  # fmt: skip
    assert done.stdout == "a film, 141\n"
    assert done.stderr == ""


def test_a_pipe_gets_the_bytes(httpd: Httpd, tmp_path: Path) -> None:
    done = subprocess.run(
        command(httpd, "/tv/film/1.mp4", "--through-apache", "-o", "-"), cwd=tmp_path, capture_output=True,
        timeout=TIMEOUT, check=True, env=httpd_environment(),
    )  # fmt: skip
    assert done.stdout == OBJECT
    assert b"\x1b" not in done.stderr and max(map(len, done.stderr.decode().splitlines())) <= 80


def test_an_interrupt_and_the_rest(slow_httpd: Httpd, slow: Slow, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(slow_httpd, "/media/1.mp4"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=httpd_environment(),
    )  # fmt: skip
    part, deadline = tmp_path / "1.mp4.part", time.monotonic() + TIMEOUT
    while not part.exists() or part.stat().st_size < 100_000:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (130, "")
    assert re.search(r"bytes are in 1\.mp4\.part: the same command with --continue gets the rest\n", err)
    assert err.endswith("usp-s3: interrupted\n") and "Traceback" not in err
    left = part.stat().st_size
    assert 100_000 <= left < len(OBJECT) and not (tmp_path / "1.mp4").exists()
    slow.pause = 0
    done = get(slow_httpd, tmp_path, "/media/1.mp4", "--continue", "--json")
    assert done.returncode == 0, done.stderr
    assert result(done)["downloads"][0]["continued_at"] == left - 1
    assert (tmp_path / "1.mp4").read_bytes() == OBJECT
    assert [path.name for path in tmp_path.iterdir()] == ["1.mp4"]
