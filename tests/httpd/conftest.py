"""Fixtures of the end-to-end tests: two embedded S3 (http and https), recorders, and the sections for a bucket."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificate, make_certificate
from tests.httpd.machine import compile_shared, has_module, has_openssl, readable_folder
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

pytest.register_assert_rewrite("tests.httpd.ways")

BUCKET = "private"
MODES = {"v4-header": (True, True), "v4-query": (True, False), "v2-header": (False, True), "v2-query": (False, False)}
#: A single child, so that its memory and connections are those of the whole server.
ONE_CHILD = """
StartServers 1
ServerLimit 1
ThreadsPerChild 32
MaxRequestWorkers 32
MinSpareThreads 1
MaxSpareThreads 32
"""
#: Pages that mod_include processes: the file "page", or the files in a folder "page".
PAGES = """
<Location /page>
  SetHandler default-handler
  Options +Includes
  SetOutputFilter INCLUDES
</Location>
"""


#: For tests of mod_proxy over https.
NEEDS_SSL = pytest.mark.skipif(not has_module("ssl"), reason="this httpd has no mod_ssl")
#: For tests of signatures without Python.
NEEDS_OPENSSL = pytest.mark.skipif(not has_openssl(), reason="OpenSSL's headers are not on this machine")


@pytest.fixture(scope="session")
def certificate() -> Iterator[Certificate]:
    """A certificate for the embedded S3, in a folder that httpd's children can read."""
    directory = Path(tempfile.mkdtemp(prefix="certificate-"))
    directory.chmod(0o755)
    yield make_certificate(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def localhost_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared object that an httpd preloads to resolve names below localhost (virtual-host style)."""
    return compile_shared(Path(__file__).with_name("localhost_names.c"), tmp_path_factory.mktemp("preload"))


@pytest.fixture(scope="session")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=(BUCKET,)) as server:
        yield server


@pytest.fixture(scope="session")
def s3_tls(certificate: Certificate) -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=(BUCKET,), tls=certificate) as server:
        yield server


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[Recorder]:
    """A recorder in the place of S3."""
    with Recorder() as server:
        yield server


@pytest.fixture(scope="session")
def other_server() -> Iterator[Recorder]:
    """A backend that is not S3."""
    with Recorder() as server:
        yield server


@pytest.fixture
def bucket(bucket_server: Recorder) -> Recorder:
    """The bucket server without the requests of earlier tests."""
    bucket_server.requests.clear()
    return bucket_server


@pytest.fixture
def other(other_server: Recorder) -> Recorder:
    """The other server without the requests of earlier tests."""
    other_server.requests.clear()
    return other_server


def section(
    mount: str, server: EmbeddedS3, *lines: str, mode: str = "v4-header", host: str = "", path: str = ""
) -> str:
    """The gateway's mount and section for one bucket. ``host`` and ``path`` choose the style; ``lines`` are added."""
    url = f"{server.scheme}://{host or server.host}/{path or ('' if host else BUCKET + '/')}"
    bucket = [f"SetEnv S3Bucket {BUCKET}"] if host else []
    body = "\n".join([f"SetEnv S3BucketURL {url}", *settings(server, mode), *bucket, *lines])
    return f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}}\n<Location {mount}>\n{body}\n</Location>\n"


def settings(server: EmbeddedS3, mode: str = "v4-header") -> list[str]:
    """The settings of a section with keys, region and mode, for the gateway and for ``<Proxy>``."""
    region, headers = MODES[mode]
    lines = [
        f"SetEnv S3AccessKey {server.access_key}",
        f"SetEnv S3SecretKey {server.secret_key}",
        f"SetEnv S3UseHeaders {'on' if headers else 'off'}",
    ]
    return [*lines, f"SetEnv S3Region {server.region}"] if region else lines


def proxy_section(url: str, server: EmbeddedS3, *lines: str, mode: str = "v4-header") -> str:
    """The ``<Proxy>`` section of one bucket; ``lines`` are added."""
    body = "\n".join([*settings(server, mode), *lines])
    return f'<Proxy "{url}">\n{body}\n</Proxy>\n'


def assert_no_information_about_the_bucket(httpd: Httpd, s3: EmbeddedS3) -> None:
    """Assert that no response tells of the bucket: of an object, of a missing one, and of two broken sections."""
    for target in ("/media/missing", "/wrong-secret/a.ts", "/misspelt/a.ts", "/media/a.ts"):
        reply = httpd.fetch(target)
        text = str(reply.headers) + (reply.body.decode() if reply.status != 200 else "")
        for secret in ("<Error>", "x-amz", s3.access_key, s3.secret_key, BUCKET, "S3", str(s3.port)):
            assert secret.lower() not in text.lower(), (target, secret)


@pytest.fixture
def checked() -> Iterator[list[Httpd]]:
    """A list of servers that are stopped at the end. Every line in their error logs must have been expected."""
    servers: list[Httpd] = []
    yield servers
    for server in servers:
        server.stop()
    assert [server.unexpected for server in servers] == [[] for _ in servers]


@pytest.fixture(scope="module")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the clock of the process that preloads it by CLOCK_SHIFT seconds."""
    return compile_shared(Path(__file__).with_name("shifted_clock.c"), tmp_path_factory.mktemp("clock"))


@pytest.fixture(name="readable_folder")
def _readable_folder() -> Iterator[Path]:
    with readable_folder() as folder:
        yield folder
