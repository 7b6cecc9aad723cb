"""README's configuration blocks work; only names of hosts, keys and folders are replaced."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.httpd.conftest import BUCKET, NEEDS_SSL, ONE_CHILD
from tests.httpd.machine import has_module
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```apache\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
#: The blocks without directives of mod_unified_s3_auth.
PACKAGE_BLOCKS = [block for block in BLOCKS if not re.search(r"^\s*S3\w+ ", block, re.MULTILINE)]
URL = "https://mybucket.s3.eu-central-1.amazonaws.com"


@pytest.fixture
def secret(s3_tls: EmbeddedS3) -> Iterator[Path]:
    """A secret file that httpd's children can read."""
    with tempfile.TemporaryDirectory(prefix="secret-") as name:
        Path(name).chmod(0o755)
        file = Path(name) / "mybucket.secret"
        file.write_text(s3_tls.secret_key)
        file.chmod(0o644)
        yield file


def with_test_names(block: str, s3: EmbeddedS3, secret: Path, certificate: Certificate) -> str:
    """A block with the names of the tests' servers and files."""
    replacements = {
        URL: f"https://localhost:{s3.port}/{BUCKET}",
        "https://your-bucket.s3.eu-central-1.amazonaws.com": f"https://localhost:{s3.port}/{BUCKET}",
        "/etc/apache2/s3/mybucket.secret": str(secret),
        "/etc/ssl/certs/ca-certificates.crt": str(certificate.root),
        " SECRET_KEY": f" {s3.secret_key}",
        " ACCESS_KEY": f" {s3.access_key}",
    }
    for old, new in replacements.items():
        block = block.replace(old, new)
    return block


#: Configuration around blocks that are incomplete, by the first words of the block.
SURROUNDING = {
    "<Location /media>": "WSGIScriptAlias /media ${{USP_S3_WSGI}}\n{block}",
    "<Proxy": "ProxyPass /media https://localhost:{port}/private\n{block}",
    "  SetEnv S3Fallback": "WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\nSetEnv S3BucketURL https://s3.example/films/\n"
    "SetEnv S3AccessKey AK\nSetEnv S3SecretKey SK\n{block}</Location>\n",
}


def complete(block: str, s3: EmbeddedS3) -> str:
    """A block with the configuration around it that it needs."""
    surrounding = next((text for start, text in SURROUNDING.items() if block.startswith(start)), "{block}")
    return surrounding.format(block=block, port=s3.port)


def test_the_blocks_are_found() -> None:
    assert len(PACKAGE_BLOCKS) >= 6 and len(BLOCKS) == len(PACKAGE_BLOCKS) + 1


@pytest.mark.parametrize("number", range(len(PACKAGE_BLOCKS)))
def test_httpd_accepts_each_block(
    number: int, s3_tls: EmbeddedS3, secret: Path, certificate: Certificate, checked: list[Httpd]
) -> None:
    if "SSLProxy" in PACKAGE_BLOCKS[number] and not has_module("ssl"):
        pytest.skip("this httpd has no mod_ssl")
    httpd = Httpd(complete(with_test_names(PACKAGE_BLOCKS[number], s3_tls, secret, certificate), s3_tls))
    checked.append(httpd)
    httpd.start()


def commented_example(name: str, first: str, last: str) -> str:
    """The example in the comments of a file that httpd includes."""
    text = (ROOT / "apache" / "include" / name).read_text("utf-8").replace("#   ", "")
    return text[text.index(first) : text.index(last) + len(last)] + "\n"


SERVING = {
    "README, the gateway": next(
        block for block in PACKAGE_BLOCKS if block.startswith("WSGIScriptAlias /media") and URL in block
    ),
    "README, <Proxy>": next(
        block for block in PACKAGE_BLOCKS if block.startswith("SSLProxyEngine on") and URL in block
    ),
    "gateway.conf": commented_example("gateway.conf", "WSGIScriptAlias", "</Location>"),
    "proxy.conf": commented_example("proxy.conf", "SSLProxyEngine", "</Proxy>"),
}


@NEEDS_SSL
@pytest.mark.parametrize("source", SERVING)
def test_each_serves_from_a_bucket_with_a_providers_certificate_chain(
    source: str, s3_tls: EmbeddedS3, secret: Path, certificate: Certificate, checked: list[Httpd],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The certificate was issued by the second of two intermediate authorities; httpd trusts the root authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.root))  # in the place of the system's list, for Python
    s3_tls.put(BUCKET, "film/film.mp4", b"a film")
    httpd = Httpd(with_test_names(SERVING[source], s3_tls, secret, certificate) + ONE_CHILD)
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/media/film/film.mp4").body == b"a film"


@NEEDS_SSL
def test_without_the_verify_depth_a_providers_certificate_is_rejected(
    s3_tls: EmbeddedS3, secret: Path, certificate: Certificate, checked: list[Httpd]
) -> None:
    """SSLProxyVerifyDepth is needed."""
    block = SERVING["README, <Proxy>"]
    httpd = Httpd(with_test_names(block.replace("SSLProxyVerifyDepth 10\n", ""), s3_tls, secret, certificate))
    checked.append(httpd)
    httpd.start()
    httpd.expect_error(
        "AH02039|AH00898|AH01102|AH01084|AH01097|AH10291|usp_s3_wsgi: no response from S3; mod_proxy returned 50[02]"
    )
    assert httpd.fetch("/media/film/film.mp4").status == 500
    httpd.wait_for_error("AH02040: Certificate Verification: Certificate Chain too long")


@NEEDS_SSL
def test_mod_ssl_needs_the_root_of_an_authority(
    s3_tls: EmbeddedS3, secret: Path, certificate: Certificate, checked: list[Httpd]
) -> None:
    """The gateway accepts an intermediate authority without its root: tests/faults/test_tls.py."""
    end = "-----END CERTIFICATE-----\n"
    intermediates = secret.with_name("between.pem")
    intermediates.write_text("".join(part + end for part in certificate.chain.read_text().split(end)[1:-1]))
    config = with_test_names(SERVING["README, <Proxy>"], s3_tls, secret, certificate).replace(
        str(certificate.root), str(intermediates)
    )
    httpd = Httpd(config)
    checked.append(httpd)
    httpd.start()
    httpd.expect_error(
        "AH00898|AH01102|AH01084|AH01097|AH10291|usp_s3_wsgi: no response from S3; mod_proxy returned 50[02]"
    )
    assert httpd.fetch("/media/film/film.mp4").status == 500
    httpd.wait_for_error("AH02039: Certificate Verification: Error")


@NEEDS_SSL
def test_https_by_ip_address_in_proxy(s3_tls: EmbeddedS3, certificate: Certificate, checked: list[Httpd]) -> None:
    """mod_ssl does not compare the addresses of a certificate; with the name the request succeeds."""
    s3_tls.put(BUCKET, "a.ts", b"an object")
    trust = f"SSLProxyVerify require\nSSLProxyVerifyDepth 10\nSSLProxyCACertificateFile {certificate.root}\n"
    lines = "LogLevel ssl:info\nSSLProxyEngine on\n" + trust
    for mount, host in (("/address", "127.0.0.1"), ("/name", "localhost")):
        url = f"https://{host}:{s3_tls.port}/{BUCKET}"
        keys = f"SetEnv S3AccessKey {s3_tls.access_key}\nSetEnv S3SecretKey {s3_tls.secret_key}\nSetEnv S3Region r\n"
        keys = keys.replace("Region r", f"Region {s3_tls.region}")
        lines += f'ProxyPass {mount} {url}\n<Proxy "{url}/">\n{keys}</Proxy>\n'
    httpd = Httpd(lines)
    checked.append(httpd)
    httpd.start()
    httpd.expect_error(
        r"\[ssl:info\]|AH00898|AH01102|AH01084|AH01097|AH10291|usp_s3_wsgi: no response from S3; mod_proxy returned"
    )
    assert httpd.fetch("/name/a.ts").body == b"an object"
    assert httpd.fetch("/address/a.ts").status == 500
    httpd.wait_for_error("AH02411: SSL Proxy: Peer certificate does not match for hostname 127.0.0.1")
