"""usp-s3 check names each planted fault in one line, both ways in, and says what to change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.certificates import make_certificate
from tests.faults.server import ScriptedS3, answer, error, reset
from tests.httpd.conftest import BUCKET
from tests.httpd.machine import compile_shared, free_port, has_module, httpd_binary, httpd_environment
from tests.httpd.planted import PLANTS, Bucket, configuration, plant
from tests.httpd.server import Httpd
from tests.leaks import leaks
from tests.s3 import EmbeddedS3

COMMAND = Path(sys.prefix, "bin", "usp-s3")
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shared(Path(__file__).with_name("shifted_clock.c"), tmp_path_factory.mktemp("clock"))


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


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


def check(config: str, *options: str, preload: Path | None = None, **environment: str) -> Checked:
    """Run the command with a configuration of httpd. Asserts that nothing it prints is a secret."""
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        httpd = Httpd(config)
        httpd.root, httpd.port = root, free_port()
        for name in ("run", "htdocs"):
            (root / name).mkdir()
        (root / "httpd.conf").write_text(httpd._whole_config())
        return run(root / "httpd.conf", *options, preload=preload, **environment)


def run(file: Path, *options: str, preload: Path | None = None, **environment: str) -> Checked:
    done = subprocess.run(
        [COMMAND, "check", "--httpd", httpd_binary(), "-f", file, *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        env={**httpd_environment(preload), **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert not leaks((done.stdout + done.stderr).encode())
    return Checked(done.returncode, done.stdout or done.stderr)


class Named(NamedTuple):
    """What names a fault: the check, words of its text, words of what to change."""

    check: str
    text: str
    action: str


#: For each fault: what names it at a mount of the gateway, and in a <Proxy> section if that is something else.
FAULTS: dict[str, tuple[Named, ...]] = {
    "wrong key": (Named("signed request", "SignatureDoesNotMatch", "secret key"),),
    "wrong region": (Named("signed request", "the bucket is in region eu-central-1", "set S3Region eu-central-1"),),
    "slow clock": (Named("clock", " s behind S3's: signatures are not valid", "correct this server's clock"),),
    "missing permission": (Named("signed request", "accepted, but S3 denies", "s3:GetObject"),),
    "unreadable secret": (Named("files", "missing: the file cannot be read: No such", "give Apache's user access"),),
    "closed port": (Named("connection", "Connection refused", "firewall"),),
    "expired certificate": (Named("TLS", "the certificate expired on", "renew it"),),
    "throttling": (Named("signed request", "SlowDown, twice: S3 throttles", "cache in front"),),
    "unknown access key": (Named("signed request", "S3 answered 403 SignatureDoesNotMatch", "access key"),),
    "missing bucket": (Named("signed request", "there is no bucket nosuch at", "bucket's name"),),
    "unknown name": (Named("name", "no-such-host.invalid has no address", "DNS"),),
    "certificate for another name": (Named("TLS", "is not for localhost: it is for films.example", "write a name"),),
    "unknown authority": (
        Named("TLS", "an authority that is not trusted: Test Intermediate 2", "set S3CAFile"),
        Named("TLS", "an authority that is not trusted: Test Intermediate 2", "SSLProxyCACertificateFile"),
    ),
    "http to a TLS port": (Named("signed request", "speaks TLS", "write https://"),),
    "https to a plain port": (Named("TLS", "does not speak TLS", "write http://"),),
    "page of a proxy": (Named("signed request", "with a page that is not S3's", "proxy or firewall"),),
    "expired token": (Named("signed request", "ExpiredToken", "token"),),
    "another endpoint": (Named("signed request", "the bucket is in region eu-west-3", "set S3Region eu-west-3"),),
    "no answer": (Named("signed request", "no response within 1 s", "S3"),),
    "reset": (Named("signed request", "Connection reset by peer", ""),),
}


@plant("unknown access key")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}", {"S3AccessKey": "AKIAUNKNOWN000000000"})


@plant("missing bucket")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/nosuch")


@plant("unknown name")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"http://no-such-host.invalid/{BUCKET}")


@plant("certificate for another name")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    certificate = make_certificate(folder, "DNS:films.example")
    with ScriptedS3(tls=certificate) as other:
        yield Bucket(f"https://localhost:{other.port}/{BUCKET}", root=certificate.root)


@plant("unknown authority")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    for name in ("one", "other"):
        (folder / name).mkdir()
    trusted, used = make_certificate(folder / "one"), make_certificate(folder / "other")
    with ScriptedS3(tls=used) as other:
        yield Bucket(f"https://localhost:{other.port}/{BUCKET}", root=trusted.root)


@plant("http to a TLS port")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with EmbeddedS3([BUCKET], tls=make_certificate(folder)) as s3_tls:
        yield Bucket(f"http://{s3_tls.host}/{BUCKET}")


@plant("https to a plain port")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"https://localhost:{s3.port}/{BUCKET}", root=make_certificate(folder).root)


@plant("page of a proxy")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=answer(403, b"<html>Blocked by policy</html>", ("Content-Type", "text/html"))) as between:
        yield Bucket(f"{between.url}/{BUCKET}")


@plant("expired token")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=error(400, "ExpiredToken")) as other:
        yield Bucket(f"{other.url}/{BUCKET}", {"S3SecurityToken": "a-token-that-has-expired"})


@plant("another endpoint")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=error(301, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3"))) as other:
        yield Bucket(f"{other.url}/{BUCKET}")


@plant("no answer")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=lambda connection, request: connection.wait()) as other:
        yield Bucket(f"{other.url}/{BUCKET}", {"S3ProxySet": "timeout=1"})


@plant("reset")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=reset) as other:
        yield Bucket(f"{other.url}/{BUCKET}")


@pytest.mark.parametrize("mount", ["/embedded", "/proxied"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(
    s3: EmbeddedS3, shifted_clock: Path, readable_folder: Path, name: str, mount: str
) -> None:
    if mount == "/proxied" and not has_module("ssl"):
        pytest.skip("this httpd has no mod_ssl")
    named = FAULTS[name][-1 if mount == "/proxied" else 0]
    with PLANTS[name](s3, readable_folder) as bucket:
        if mount == "/proxied" and "S3ProxySet" in bucket.settings:
            pytest.skip("the gateway's setting")
        preload = shifted_clock if name == "slow clock" else None
        checked = check(configuration(bucket, s3, mount), "--json", preload=preload, CLOCK_SHIFT="-3600")
    assert checked.document["verdict"] == "wrong" or (named.check == "signed request" and name == "missing permission")
    result = checked.results()[named.check]
    assert named.text in result["text"] and named.action in result["action"], result
    assert checked.status == (0 if name == "missing permission" else 1)
