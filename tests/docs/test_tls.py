"""The table of rejected certificates in docs/tls.md: each cause gives the log lines that it names."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificate, make_certificate
from tests.docs.tables import codes, table
from tests.faults.server import ScriptedS3, answer
from tests.httpd.conftest import NEEDS_SSL, ONE_CHILD
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

pytestmark = NEEDS_SSL

ROWS = {cause: cells for cause, *cells in table("tls.md", "cause")}
#: What makes the certificate of each row; the URL's scheme and port are the subject of the other rows.
CERTIFICATES: dict[str, Callable[[Path], Certificate]] = {
    "unknown authority, or the server does not send its intermediate certificates": make_certificate,
    "expired": lambda folder: make_certificate(folder, days=-1),
    "another name": lambda folder: make_certificate(folder, "DNS:other.example"),
    "too many intermediate authorities": make_certificate,
}


@pytest.fixture
def folders() -> Iterator[Callable[[], Path]]:
    """Makes folders that httpd's children can read."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="tls-")))
        made[-1].chmod(0o755)
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder)


def config(url: str, authorities: Path, depth: int) -> str:
    """The same bucket by both ways in."""
    keys = "SetEnv S3AccessKey AK\nSetEnv S3SecretKey SK\nSetEnv S3Region r\n"
    return (
        f"SSLProxyEngine on\nSSLProxyVerify require\nSSLProxyVerifyDepth {depth}\n"
        f"SSLProxyCACertificateFile {authorities}\n"
        f"WSGIScriptAlias /gateway ${{USP_S3_WSGI}}\n<Location /gateway>\nSetEnv S3BucketURL {url}/\n"
        f"{keys}SetEnv S3CAFile {authorities}\n</Location>\n"
        f'ProxyPass /proxied {url}\n<Proxy "{url}/">\n{keys}</Proxy>\n{ONE_CHILD}'
    )


@pytest.mark.parametrize("cause", CERTIFICATES)
def test_a_rejected_certificate(cause: str, folders: Callable[[], Path]) -> None:
    certificate = CERTIFICATES[cause](folders())
    authorities = make_certificate(folders()).root if cause.startswith("unknown") else certificate.root
    gateway_line, mod_ssl_line, _ = ROWS[cause]
    is_depth = cause.startswith("too many")
    step = answer(200, b"an object")
    with ScriptedS3(tls=certificate, then=step) as s3:
        level = "LogLevel ssl:info\n" if "LogLevel ssl:info" in mod_ssl_line else ""
        url = f"https://localhost:{s3.port}/films"
        with Httpd(level + config(url, authorities, 1 if is_depth else 10)) as httpd:
            httpd.expect_error("")
            assert httpd.fetch("/gateway/a.ts").status == (200 if is_depth else 502)
            assert httpd.fetch("/proxied/a.ts").status == 500
            for text in [] if is_depth else codes(gateway_line):
                httpd.wait_for_error(f"USPS30403: .*{text}")
            texts = [text for text in codes(mod_ssl_line) if not text.startswith("LogLevel")]
            for text in texts or [""]:
                httpd.wait_for_error(f"{mod_ssl_line[:7]}.*{re.escape(text)}")
            httpd.wait_for_error("USPS30408: .*the TLS handshake failed")


def test_https_to_a_port_without_tls(folders: Callable[[], Path]) -> None:
    (text,) = codes(ROWS["the port does not speak TLS"][0])
    with EmbeddedS3(buckets=("films",)) as s3:
        with Httpd(config(f"https://localhost:{s3.port}/films", make_certificate(folders()).root, 10)) as httpd:
            httpd.expect_error("")
            assert [httpd.fetch(f"/{way}/a.ts").status for way in ("gateway", "proxied")] == [502, 500]
            httpd.wait_for_error(f"USPS30403: .*{text}")


def test_http_to_a_port_with_tls(folders: Callable[[], Path]) -> None:
    cell = ROWS["`http://` to a port that speaks TLS"][0]
    certificate = make_certificate(folders())
    with EmbeddedS3(buckets=("films",), tls=certificate) as s3:
        with Httpd(config(f"http://localhost:{s3.port}/films", certificate.root, 10)) as httpd:
            httpd.expect_error("")
            assert [httpd.fetch(f"/{way}/a.ts").status for way in ("gateway", "proxied")] == [502, 502]
            httpd.wait_for_error(f"{codes(cell)[2]}: .*{codes(cell)[3]}")
    page = b"Client sent an HTTP request to an HTTPS server.\n"
    with ScriptedS3(then=answer(400, page)) as s3:
        with Httpd(config(f"{s3.url}/films", certificate.root, 10)) as httpd:
            httpd.expect_error("")
            assert httpd.fetch("/gateway/a.ts").status == 502
            httpd.wait_for_error(f"{codes(cell)[0]}: .*{codes(cell)[1]}")
