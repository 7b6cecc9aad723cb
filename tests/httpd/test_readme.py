"""README's configuration blocks, to the letter but for names of hosts, keys and folders: each works."""

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
#: What httpd knows without the vendor's module.
OURS = [block for block in BLOCKS if not re.search(r"^\s*S3\w+ ", block, re.MULTILINE)]
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


def adapted(block: str, s3: EmbeddedS3, secret: Path, certificate: Certificate) -> str:
    """A block with this machine's names."""
    names = {
        URL: f"https://localhost:{s3.port}/{BUCKET}",
        "https://your-bucket.s3.eu-central-1.amazonaws.com": f"https://localhost:{s3.port}/{BUCKET}",
        "/etc/apache2/s3/mybucket.secret": str(secret),
        "/etc/ssl/certs/ca-certificates.crt": str(certificate.root),
        " SECRET_KEY": f" {s3.secret_key}",
        " ACCESS_KEY": f" {s3.access_key}",
    }
    for old, new in names.items():
        block = block.replace(old, new)
    return block


#: What some blocks are a part of, by what they begin with.
AROUND = {
    "<Location /media>": "WSGIScriptAlias /media ${{USP_S3_WSGI}}\n{block}",
    "<Proxy": "ProxyPass /media https://localhost:{port}/private\n{block}",
    "  SetEnv S3Fallback": "WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\nSetEnv S3BucketURL https://s3.example/films/\n"
    "SetEnv S3AccessKey AK\nSetEnv S3SecretKey SK\n{block}</Location>\n",
}


def whole(block: str, s3: EmbeddedS3) -> str:
    """A block with what it is a part of."""
    around = next((text for start, text in AROUND.items() if block.startswith(start)), "{block}")
    return around.format(block=block, port=s3.port)


def test_the_blocks_are_found() -> None:
    assert len(OURS) >= 6 and len(BLOCKS) == len(OURS) + 1


@pytest.mark.parametrize("number", range(len(OURS)))
def test_httpd_takes_each_block(
    number: int, s3_tls: EmbeddedS3, secret: Path, certificate: Certificate, checked: list[Httpd]
) -> None:
    if "SSLProxy" in OURS[number] and not has_module("ssl"):
        pytest.skip("this httpd has no mod_ssl")
    httpd = Httpd(whole(adapted(OURS[number], s3_tls, secret, certificate), s3_tls))
    checked.append(httpd)
    httpd.start()


def commented(name: str, first: str, last: str) -> str:
    """The example in the comments of a file that httpd includes."""
    text = (ROOT / "apache" / "include" / name).read_text("utf-8").replace("#   ", "")
    return text[text.index(first) : text.index(last) + len(last)] + "\n"


SERVING = {
    "README, the gateway": next(block for block in OURS if block.startswith("WSGIScriptAlias /media") and URL in block),
    "README, <Proxy>": next(block for block in OURS if block.startswith("SSLProxyEngine on") and URL in block),
    "gateway.conf": commented("gateway.conf", "WSGIScriptAlias", "</Location>"),
    "proxy.conf": commented("proxy.conf", "SSLProxyEngine", "</Proxy>"),
}


@NEEDS_SSL
@pytest.mark.parametrize("source", SERVING)
def test_each_serves_from_a_bucket_with_a_certificate_like_a_providers(
    source: str, s3_tls: EmbeddedS3, secret: Path, certificate: Certificate, checked: list[Httpd],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Below a root and two intermediate authorities, of which httpd trusts the root."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.root))  # the system's list, for Python
    s3_tls.put(BUCKET, "film/film.mp4", b"a film")
    httpd = Httpd(adapted(SERVING[source], s3_tls, secret, certificate) + ONE_CHILD)
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/media/film/film.mp4").body == b"a film"


@NEEDS_SSL
def test_without_the_depth_a_providers_certificate_is_refused(
    s3_tls: EmbeddedS3, secret: Path, certificate: Certificate, checked: list[Httpd]
) -> None:
    """What the line is for."""
    block = SERVING["README, <Proxy>"]
    httpd = Httpd(adapted(block.replace("SSLProxyVerifyDepth 10\n", ""), s3_tls, secret, certificate))
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("AH02039|AH00898|AH01102|AH01084|AH01097|AH10291|usp_s3_wsgi: mod_proxy got no response: 50[02]")
    assert httpd.fetch("/media/film/film.mp4").status == 500
    httpd.wait_for_error("AH02040: Certificate Verification: Certificate Chain too long")


@NEEDS_SSL
def test_mod_ssl_needs_the_root_of_an_authority(
    s3_tls: EmbeddedS3, secret: Path, certificate: Certificate, checked: list[Httpd]
) -> None:
    """The gateway trusts an intermediate one by itself: tests/faults/test_tls.py."""
    end = "-----END CERTIFICATE-----\n"
    between = secret.with_name("between.pem")
    between.write_text("".join(part + end for part in certificate.chain.read_text().split(end)[1:-1]))
    config = adapted(SERVING["README, <Proxy>"], s3_tls, secret, certificate).replace(
        str(certificate.root), str(between)
    )
    httpd = Httpd(config)
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("AH00898|AH01102|AH01084|AH01097|AH10291|usp_s3_wsgi: mod_proxy got no response: 50[02]")
    assert httpd.fetch("/media/film/film.mp4").status == 500
    httpd.wait_for_error("AH02039: Certificate Verification: Error")


@NEEDS_SSL
def test_https_by_ip_address_in_proxy(s3_tls: EmbeddedS3, certificate: Certificate, checked: list[Httpd]) -> None:
    """The certificate has the address, which mod_ssl does not compare; with the name it has no difficulty."""
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
    httpd.expect_error(r"\[ssl:info\]|AH00898|AH01102|AH01084|AH01097|AH10291|usp_s3_wsgi: mod_proxy got no response")
    assert httpd.fetch("/name/a.ts").body == b"an object"
    assert httpd.fetch("/address/a.ts").status == 500
    httpd.wait_for_error("AH02411: SSL Proxy: Peer certificate does not match for hostname 127.0.0.1")
