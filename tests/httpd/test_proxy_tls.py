"""TLS from mod_proxy to the bucket: what the SSLProxy lines of the documentation are for."""

from __future__ import annotations

from pathlib import Path

from tests.certificates import Certificate
from tests.httpd.conftest import BUCKET, NEEDS_SSL, proxy_section
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

pytestmark = NEEDS_SSL
#: Lines in the error log for a certificate that is rejected.
FAILED = "AH00898|AH01102|AH01084|AH01097|AH10291|usp_s3_wsgi: no response from S3; mod_proxy returned 50[02]"


def config(s3: EmbeddedS3, authority: Path, *, depth: str = "SSLProxyVerifyDepth 10", host: str = "localhost") -> str:
    """A bucket at /media with a certificate like a provider's, which is verified."""
    url = f"https://{host}:{s3.port}/{BUCKET}"
    trust = f"SSLProxyEngine on\nSSLProxyVerify require\n{depth}\nSSLProxyCACertificateFile {authority}\n"
    return f"{trust}ProxyPass /media {url}\n{proxy_section(f'{url}/', s3)}"


def started(text: str, checked: list[Httpd]) -> Httpd:
    """A server that is stopped and checked at the end."""
    httpd = Httpd(text)
    checked.append(httpd)
    httpd.start()
    return httpd


def test_without_the_verify_depth_a_providers_certificate_is_rejected(
    s3_tls: EmbeddedS3, certificate: Certificate, checked: list[Httpd]
) -> None:
    httpd = started(config(s3_tls, certificate.root, depth=""), checked)
    httpd.expect_error(f"AH02039|{FAILED}")
    assert httpd.fetch("/media/film/film.mp4").status == 500
    httpd.wait_for_error("AH02040: Certificate Verification: Certificate Chain too long")


def test_mod_ssl_needs_the_root_of_an_authority(
    s3_tls: EmbeddedS3, certificate: Certificate, checked: list[Httpd]
) -> None:
    """The gateway accepts an intermediate authority without its root: tests/faults/test_tls.py."""
    end = "-----END CERTIFICATE-----\n"
    intermediates = certificate.root.with_name("intermediates.pem")
    intermediates.write_text("".join(part + end for part in certificate.chain.read_text().split(end)[1:-1]))
    httpd = started(config(s3_tls, intermediates), checked)
    httpd.expect_error(FAILED)
    assert httpd.fetch("/media/film/film.mp4").status == 500
    httpd.wait_for_error("AH02039: Certificate Verification: Error")


def test_https_by_ip_address(s3_tls: EmbeddedS3, certificate: Certificate, checked: list[Httpd]) -> None:
    """mod_ssl does not compare the addresses of a certificate; with the name the request succeeds."""
    s3_tls.put(BUCKET, "a.ts", b"an object")
    assert started(config(s3_tls, certificate.root), checked).fetch("/media/a.ts").body == b"an object"
    httpd = started("LogLevel ssl:info\n" + config(s3_tls, certificate.root, host="127.0.0.1"), checked)
    httpd.expect_error(rf"\[ssl:info\]|{FAILED}")
    assert httpd.fetch("/media/a.ts").status == 500
    httpd.wait_for_error("AH02411: SSL Proxy: Peer certificate does not match for hostname 127.0.0.1")
