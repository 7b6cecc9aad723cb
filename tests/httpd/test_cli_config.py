"""What ``usp-s3 config`` writes is accepted by a real httpd, and serves a private S3, both ways."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.certificates import Certificate
from tests.httpd.conftest import BUCKET, NEEDS_SSL
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3
from tests.unit.test_cli_config import KNOWN, WAYS, options, run
from usp_s3_wsgi.cli.config.providers import BY_NAME

KEY, BODY = "film/a b+é.mp4", bytes(range(256)) * 300


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that httpd's children can read."""
    with tempfile.TemporaryDirectory(prefix="keys ") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def configuration(way: str, s3: EmbeddedS3, folder: Path, *arguments: str, file: str = "a.secret") -> str:
    """The command's output for the embedded S3."""
    (folder / file).write_text(f"{s3.secret_key}\n")
    done = run(
        way, f"--bucket={BUCKET}", f"--access-key={s3.access_key}", f"--secret-key-file={folder / file}",
        *([] if "--signature=v2" in arguments else [f"--region={s3.region}"]), *arguments,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return done.stdout


def assert_served(text: str, s3: EmbeddedS3, path: str, checked: list[Httpd], preload: Path | None = None) -> None:
    """Assert that httpd accepts the configuration, and serves an object and a part of it with exact bytes."""
    s3.put(BUCKET, KEY, BODY)
    done = Httpd(text, preload=preload).configtest()
    assert (done.returncode, done.stdout) == (0, "Syntax OK\n"), done.stdout
    httpd = Httpd(text, preload=preload)
    checked.append(httpd)
    httpd.start()
    s3.clear()
    target = f"{quote(path.rstrip('/'))}/{quote(KEY)}"
    whole = httpd.fetch(target)
    assert (whole.status, whole.body) == (200, BODY), httpd.errors()
    part = httpd.fetch(target, range="bytes=100-199")
    assert (part.status, part.body) == (206, BODY[100:200])
    assert httpd.fetch(f"{quote(path.rstrip('/'))}/none").status == 404
    assert len(s3.requests()) == 3


@pytest.mark.parametrize("path", ["/media", "/", "/with space/é 'x'$1"])
@pytest.mark.parametrize("provider", ["swift", "other"])
@pytest.mark.parametrize("way", WAYS)
def test_served(way: str, provider: str, path: str, s3: EmbeddedS3, folder: Path, checked: list[Httpd]) -> None:
    text = configuration(way, s3, folder, f"--provider={provider}", f"--endpoint={s3.url}", f"--path={path}")
    assert_served(text, s3, path, checked)


@pytest.mark.parametrize("signature", ["v4", "v2"])
@pytest.mark.parametrize("way", WAYS)
def test_the_bucket_in_the_host(
    way: str, signature: str, s3: EmbeddedS3, folder: Path, localhost_names: Path, checked: list[Httpd]
) -> None:
    arguments = (f"--endpoint=http://{s3.domain}:{s3.port}", "--style=host", f"--signature={signature}")
    text = configuration(way, s3, folder, "--provider=other", *arguments)
    assert f"{BUCKET}.{s3.domain}" in text and f"SetEnv S3Bucket        {BUCKET}\n" in text
    assert_served(text, s3, "/media", checked, localhost_names)


@NEEDS_SSL
@pytest.mark.parametrize("way", WAYS)
def test_a_private_authority(
    way: str, s3_tls: EmbeddedS3, folder: Path, certificate: Certificate, checked: list[Httpd]
) -> None:
    endpoint = f"--endpoint=https://localhost:{s3_tls.port}"
    text = configuration(way, s3_tls, folder, "--provider=swift", endpoint, f"--ca-file={certificate.root}")
    assert_served(text, s3_tls, "/media", checked)


@NEEDS_SSL
def test_another_authority_is_not_trusted(s3_tls: EmbeddedS3, folder: Path, checked: list[Httpd]) -> None:
    """The section of a bucket verifies certificates, though httpd's default does not."""
    s3_tls.put(BUCKET, KEY, BODY)
    text = configuration("proxy", s3_tls, folder, "--provider=swift", f"--endpoint=https://localhost:{s3_tls.port}")
    httpd = Httpd(text)
    checked.append(httpd)
    httpd.expect_error("AH0|USPS30408")
    httpd.start()
    assert httpd.fetch(f"/media/{quote(KEY)}").status == 500


@pytest.mark.parametrize("file", ["a b.secret", "a'b\"c.secret", "back\\slash\\", "#x", "%{d}$1", "<a>&;|.secret"])
@pytest.mark.parametrize("way", WAYS)
def test_odd_names_of_files(way: str, file: str, s3: EmbeddedS3, folder: Path, checked: list[Httpd]) -> None:
    text = configuration(way, s3, folder, "--provider=swift", f"--endpoint={s3.url}", file=file)
    assert_served(text, s3, "/media", checked)


@pytest.mark.parametrize("bucket", ["my.bucket", "A_b", "a b", "a'b\"c\\", "$x%20", "t:b", "é"])
def test_httpd_accepts_odd_answers(bucket: str, folder: Path) -> None:
    """Also where the parser of this package is not asked: an access key, a bucket and a path are arguments."""
    (folder / "odd.secret").write_text("S\n")
    key = "--access-key=A'b\"c\\d<e>#$f%{g}!\\"
    arguments = [f"--secret-key-file={folder}/odd.secret", key, "--path=/a 'b'/$1~&;=", "--provider=ceph"]
    done = run("gateway", f"--bucket={bucket}", *KNOWN["ceph"], *arguments)
    assert done.exit_code == 0, done.stderr
    tested = Httpd(done.stdout).configtest()
    assert (tested.returncode, tested.stdout) == (0, "Syntax OK\n")


@NEEDS_SSL
@pytest.mark.parametrize("way", WAYS)
def test_httpd_accepts_the_configurations_of_all_providers(way: str, folder: Path) -> None:
    """All of them in one server: none disturbs another."""
    (folder / "odd.secret").write_text("S\n")
    text = ""
    for name, provider in BY_NAME.items():
        keys = [f"--secret-key-file={folder}/odd.secret"] if provider.credentials == "keys" else []
        bucket = f"bucket-{name}"
        done = run(way, *options(name, f"--path=/{name}", *keys, bucket=bucket))
        assert done.exit_code == 0, done.stderr
        text += done.stdout
    assert len(re.findall("SetEnv S3UseHeaders", text)) == len(BY_NAME)
    tested = Httpd(text).configtest()
    assert (tested.returncode, tested.stdout) == (0, "Syntax OK\n")
