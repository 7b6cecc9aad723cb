"""usp-s3 check names each planted fault in one line, both ways in, and says what to change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.certificates import Certificate, make_certificate
from tests.httpd.conftest import BUCKET, proxy_section, section
from tests.httpd.machine import free_port, has_module, httpd_binary, httpd_environment
from tests.httpd.planted import PLANTS, configuration
from tests.httpd.server import Httpd
from tests.leaks import leaks
from tests.s3 import EmbeddedS3
from tests.unit.test_cli_check import CASES, FAULTS

COMMAND = Path(sys.prefix, "bin", "usp-s3")
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


class Checked(NamedTuple):
    """The command's result: its exit status and its standard output."""

    status: int
    output: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.output)
        return document

    def results(self, number: int = 0) -> dict[str, dict[str, Any]]:
        """The results of a bucket by the name of the check."""
        return {one["check"]: one for one in self.document["buckets"][number]["results"]}


@contextmanager
def prepared(config: str) -> Iterator[Path]:
    """Write a configuration of httpd, which is not started; yields the file."""
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        httpd = Httpd(config)
        httpd.root, httpd.port = root, free_port()
        for name in ("run", "htdocs"):
            (root / name).mkdir()
        (root / "httpd.conf").write_text(httpd._whole_config())
        yield root / "httpd.conf"


def check(config: str, *options: str, preload: Path | None = None, **environment: str) -> Checked:
    """Run the command with a configuration of httpd. Asserts that nothing it prints is a secret."""
    with prepared(config) as file:
        return run(file, *options, preload=preload, **environment)


def run(file: Path, *options: str, preload: Path | None = None, **environment: str) -> Checked:
    done = subprocess.run(
        [COMMAND, "check", "--httpd", httpd_binary(), "-f", file, *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        env={**httpd_environment(preload), **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert not leaks((done.stdout + done.stderr).encode())
    return Checked(done.returncode, done.stdout or done.stderr)


@pytest.mark.parametrize(("name", "mount"), [*CASES, ("slow clock", "/embedded"), ("slow clock", "/proxied")])
def test_a_planted_fault_is_named(
    s3: EmbeddedS3, shifted_clock: Path, readable_folder: Path, name: str, mount: str
) -> None:
    if mount == "/proxied" and not has_module("ssl"):
        pytest.skip("this httpd has no mod_ssl")
    named = FAULTS[name][-1 if mount == "/proxied" else 0]
    with PLANTS[name](s3, readable_folder) as bucket:
        preload = shifted_clock if name == "slow clock" else None
        checked = check(configuration(bucket, s3, mount), "--json", preload=preload, CLOCK_SHIFT="-3600")
    assert checked.document["verdict"] == "wrong" or (named.check == "signed request" and name == "missing permission")
    result = checked.results()[named.check]
    assert named.text in result["text"] and named.action in result["action"], result
    assert checked.status == (0 if name == "missing permission" else 1)


# --- with a running httpd


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    """Buckets without faults, both ways in, in two virtual hosts, and one that a map names."""
    s3.put(BUCKET, "film.mp4", b"film")
    keys = f"{s3.url}/{BUCKET}/|{s3.access_key}|{{folder}}/map.secret"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "map.secret").write_text(s3.secret_key)
        Path(folder, "buckets.txt").write_text(f"films {keys.format(folder=folder)}\n")
        config = f"""
{section("/media", s3)}
{section("/denied", s3)}
<Location /denied>
  Require all denied
</Location>
<VirtualHost *:${{PORT}}>
  ServerName first.example
  {section("/media", s3)}
</VirtualHost>
<VirtualHost *:${{PORT}}>
  ServerName films.example
  ProxyPass /films {s3.url}/{BUCKET}
  {proxy_section(f"{s3.url}/{BUCKET}/", s3)}
  {section('"/with space"', s3)}
  RewriteEngine On
  RewriteMap buckets "txt:{folder}/buckets.txt"
  RewriteCond ${{buckets:$1}} ^([^|]+)\\|([^|]+)\\|([^|]+)$
  RewriteRule ^/many/([^/]+)/ - [E=S3BucketURL:%1,E=S3AccessKey:%2,E=S3SecretKeyFile:%3,S=1]
  RewriteRule ^/many - [R=404]
  WSGIScriptAliasMatch ^/many/[^/]+ ${{USP_S3_WSGI}}
  <Location /many>
    SetEnv S3Region {s3.region}
    SetEnv S3UseHeaders on
  </Location>
</VirtualHost>
"""
        with Httpd(config) as server:
            server.expect_error("AH01630: client denied by server configuration")
            yield server


def test_each_bucket_is_requested_through_httpd(httpd: Httpd) -> None:
    checked = run(httpd.root / "httpd.conf", "--json", "--key", "film.mp4")
    buckets = {(one["place"], one["location"]): one for one in checked.document["buckets"]}
    through = {
        place: one
        for (place, _), bucket in buckets.items()
        for one in bucket["results"]
        if one["check"] == "through httpd"
    }
    assert through["/media"]["verdict"] == "fine" and "206, as S3 itself" in through["/media"]["text"]
    assert through["/with space"]["verdict"] == "fine", through["/with space"]
    proxied = through["/films"]
    assert proxied["verdict"] == "fine" and f"http://films.example:{httpd.port}/films: 206" in proxied["text"]
    assert checked.status == 0


def test_a_bucket_of_a_map_is_requested_by_its_path(httpd: Httpd) -> None:
    file = httpd.root / "httpd.conf"
    for path, verdict in (("/many/films/film.mp4", "fine"), ("/many/other/film.mp4", "look")):
        checked = run(file, "--json", "--bucket", "/many", "--path", path)
        found = checked.results()
        assert found["settings"]["verdict"] == "not tested" and "--path" in found["settings"]["text"]
        assert found["through httpd"]["verdict"] == verdict, found
    assert "through httpd" not in run(file, "--json", "--bucket", "/many").results()


def test_httpd_that_does_not_run(s3: EmbeddedS3) -> None:
    checked = check(section("/media", s3), "--json")
    assert checked.results()["through httpd"]["verdict"] == "not tested"
    assert "Connection refused" in checked.results()["through httpd"]["text"]


def test_a_path_that_another_directive_handles(s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "film.mp4", b"film")
    with Httpd(f"{section('/media', s3)}\nRewriteEngine On\nRewriteRule ^/media - [R=404]\n") as server:
        checked = run(server.root / "httpd.conf", "--json", "--key", "film.mp4")
    assert checked.status == 1
    assert "404, but S3 has the object" in checked.results()["through httpd"]["text"]


# --- the command


@AS_ROOT
def test_key_files_are_read_as_the_user_of_httpds_children(s3: EmbeddedS3, readable_folder: Path) -> None:
    file = readable_folder / "secret"
    file.touch(mode=0o600)
    file.write_text(s3.secret_key)
    config = section("/media", s3).replace(f"S3SecretKey {s3.secret_key}", f"S3SecretKeyFile {file}")
    checked = check(config, "--json")
    assert checked.status == 1
    assert "by the user of httpd's children" in checked.results()["files"]["text"]
    assert "Permission denied" in checked.results()["files"]["text"] and "identity" not in checked.results()
    file.chmod(0o644)
    assert check(config, "--json").results()["files"]["verdict"] == "fine"


def test_the_table_fits_into_80_columns_without_colors(httpd: Httpd) -> None:
    for term in ("xterm", "dumb"):
        checked = run(httpd.root / "httpd.conf", TERM=term)
        lines = checked.output.splitlines()
        assert max(map(len, lines)) <= 80 and all(line == line.rstrip() for line in lines)
        assert "\x1b" not in checked.output and "signed request   fine" in checked.output
    assert lines[-1].startswith("6 buckets: ")


def test_a_terminal_gets_colors(httpd: Httpd) -> None:
    arguments = [str(COMMAND), "check", "--httpd", httpd_binary(), "-f", str(httpd.root / "httpd.conf")]
    for variables, has_color in (
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
    ):
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            arguments, stdout=theirs, stderr=theirs, stdin=theirs, env=httpd_environment() | variables
        )
        os.close(theirs)
        output = b""
        with suppress(OSError):  # EIO: the other end is closed
            while part := os.read(ours, 65_536):
                output += part
        os.close(ours)
        assert process.wait(timeout=60) == 0
        assert (b"\x1b[32m" in output) is has_color


def test_a_closed_pipe_is_no_error(httpd: Httpd) -> None:
    command = f"{COMMAND} check --httpd {httpd_binary()} -f {httpd.root}/httpd.conf | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, env=httpd_environment())
    assert done.stdout.startswith("/media -> ") and done.stderr == ""


GATEWAY = """WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://127.0.0.1:1/b/
</Location>
"""


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("NoSuchDirective on\n", (), "Invalid command 'NoSuchDirective'"),
        ("", (), "no bucket is configured"),
        ("", ("--no-such-option",), "No such option"),
        (GATEWAY, ("--bucket", "/x"), "no bucket is configured at /x; there are:\n  /media"),
    ],
)
def test_nothing_can_be_checked(config: str, options: tuple[str, ...], words: str) -> None:
    checked = check(config, *options)
    assert checked.status == 2 and words in checked.output


def test_without_usp_s3_module(s3: EmbeddedS3, tmp_path: Path) -> None:
    with Httpd(section("/media", s3)) as server:
        text = re.sub(r"\n *LoadModule usp_s3_module .*", "", (server.root / "httpd.conf").read_text())
        file = tmp_path / "httpd.conf"
        file.write_text(text)
        checked = run(file, "--json")
    assert checked.status == 0 and checked.results()["signed request"]["verdict"] == "fine"


# --- <Proxy> sections over https: what mod_ssl trusts


@pytest.fixture(scope="module")
def private() -> Iterator[tuple[EmbeddedS3, Certificate]]:
    """An S3 with a certificate of a private authority, whose files only root can read."""
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        Path(folder, "authorities").mkdir()
        Path(folder, "authorities", "root.pem").write_bytes(certificate.root.read_bytes())
        with EmbeddedS3([BUCKET], tls=certificate) as server:
            server.put(BUCKET, "film.mp4", b"film")
            yield server, certificate


TRUSTS = {
    "file": "SSLProxyVerify require\nSSLProxyVerifyDepth 10\nSSLProxyCACertificateFile {root}",
    "folder": "SSLProxyVerify require\nSSLProxyVerifyDepth 10\nSSLProxyCACertificatePath {folder}/authorities",
    "relative": "SSLProxyVerify require\nSSLProxyVerifyDepth 10\nSSLProxyCACertificateFile htdocs/root.pem",
    "none": "",
}


@pytest.mark.skipif(not has_module("ssl"), reason="this httpd has no mod_ssl")
@pytest.mark.parametrize("name", TRUSTS)
def test_what_mod_ssl_trusts_is_trusted(private: tuple[EmbeddedS3, Certificate], name: str) -> None:
    s3, certificate = private
    url = f"https://localhost:{s3.port}/{BUCKET}"
    lines = TRUSTS[name].format(root=certificate.root, folder=certificate.root.parent)
    config = f"SSLProxyEngine on\n{lines}\nProxyPass /p {url}\n{proxy_section(f'{url}/', s3)}"
    with prepared(config) as file:
        (file.parent / "htdocs" / "root.pem").write_bytes(certificate.root.read_bytes())
        (file.parent / "htdocs" / "root.pem").chmod(0o600)
        checked = run(file, "--json", "--key", "film.mp4")
    found = checked.results()
    assert found["TLS"]["verdict"] == "fine" and found["signed request"]["verdict"] == "fine", found
    assert ("TLS settings" in found) is (name == "none") and checked.status == 0
