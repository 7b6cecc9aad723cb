"""The servers of the end-to-end tests: two embedded S3 (http and https) and the buckets' sections of an httpd."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd.machine import make_certificate
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

BUCKET = "private"
MODES = {"v4-header": (True, True), "v4-query": (True, False), "v2-header": (False, True), "v2-query": (False, False)}


@pytest.fixture(scope="session")
def certificate() -> Iterator[tuple[Path, Path]]:
    """A certificate for the embedded S3, where httpd's children can read it."""
    directory = Path(tempfile.mkdtemp(prefix="certificate-"))
    directory.chmod(0o755)
    yield make_certificate(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=(BUCKET,)) as server:
        yield server


@pytest.fixture(scope="session")
def s3_tls(certificate: tuple[Path, Path]) -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=(BUCKET,), tls=certificate) as server:
        yield server


def section(
    mount: str, server: EmbeddedS3, *lines: str, mode: str = "v4-header", host: str = "", path: str = ""
) -> str:
    """The Apache configuration of one bucket; ``host`` and ``path`` choose the style, ``lines`` are added."""
    region, headers = MODES[mode]
    settings = [
        f"S3BucketURL {server.scheme}://{host or server.host}/{path or ('' if host else BUCKET + '/')}",
        f"S3AccessKey {server.access_key}",
        f"S3SecretKey {server.secret_key}",
        f"S3UseHeaders {'on' if headers else 'off'}",
    ]
    if host:
        settings.append(f"S3Bucket {BUCKET}")
    if region:
        settings.append(f"S3Region {server.region}")
    body = "\n".join(["SetEnv " + setting for setting in settings] + list(lines))
    return f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}}\n<Location {mount}>\n{body}\n</Location>\n"


@pytest.fixture
def checked() -> Iterator[list[Httpd]]:
    """Servers put in here are stopped at the end, and every line in their error logs must have been expected."""
    servers: list[Httpd] = []
    yield servers
    for server in servers:
        server.stop()
    assert [server.unexpected for server in servers] == [[] for _ in servers]
