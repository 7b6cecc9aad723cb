"""``<Proxy>``: each signing mode with path style and virtual-host style, http and https, requests and subrequests."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.httpd.conftest import BUCKET, MODES, NEEDS_SSL, PAGES, proxy_section
from tests.httpd.machine import has_module
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

DATA = bytes(range(256)) * 400
SCHEMES = ("http", "https") if has_module("ssl") else ("http",)
CASES = [
    pytest.param(mode, style, scheme, marks=NEEDS_SSL if scheme == "https" else ())
    for mode, style, scheme in product(MODES, ("path", "host"), ("http", "https"))
]
# As in the documentation of mod_unified_s3_auth.
TRUST = "SSLProxyVerify require\nSSLProxyVerifyDepth 10\nSSLProxyCACertificateFile {root}"
PROXY_SET = "ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300"


def key(mode: str) -> str:
    """The key of a mode; each mode has its own folder, and so its own section."""
    return f"{mode}/seg ment/1+2.m4s"


def authority(server: EmbeddedS3, style: str) -> str:
    """Host and port. mod_ssl verifies names in certificates, not addresses."""
    return f"{BUCKET}.{server.domain}:{server.port}" if style == "host" else f"localhost:{server.port}"


def target(mode: str, style: str, scheme: str) -> str:
    return f"/{scheme}-{style}/{mode}/seg%20ment/1%2B2.m4s"


@pytest.fixture(scope="module", params=["Off", "On"])
def httpd(
    request: pytest.FixtureRequest,
    s3: EmbeddedS3,
    s3_tls: EmbeddedS3,
    certificate: Certificate,
    localhost_names: Path,
) -> Iterator[Httpd]:
    lines = [PAGES, f"ProxyPreserveHost {request.param}", *(["SSLProxyEngine on"] if "https" in SCHEMES else [])]
    for style, scheme in product(("path", "host"), SCHEMES):
        server = s3_tls if scheme == "https" else s3
        url = f"{scheme}://{authority(server, style)}" + ("" if style == "host" else f"/{BUCKET}")
        trust = TRUST.format(root=certificate.root).splitlines() if scheme == "https" else []
        name = [f"SetEnv S3Bucket {BUCKET}"] if style == "host" else []
        lines += [proxy_section(f"{url}/{mode}/", server, PROXY_SET, *trust, *name, mode=mode) for mode in MODES]
        lines.append(f"ProxyPass /{scheme}-{style} {url}")
    for server, mode in product((s3, s3_tls), MODES):
        server.put(BUCKET, key(mode), DATA, content_type="video/iso.segment", headers={"Cache-Control": "max-age=60"})
    with Httpd("\n".join(lines), preload=localhost_names) as running:
        yield running
    assert "\n".join(running.unexpected) == ""


@pytest.mark.parametrize(("mode", "style", "scheme"), CASES)
def test_object_and_range(httpd: Httpd, s3: EmbeddedS3, s3_tls: EmbeddedS3, mode: str, style: str, scheme: str) -> None:
    server = s3_tls if scheme == "https" else s3
    server.clear()
    url = target(mode, style, scheme)
    whole = httpd.fetch(
        f"{url}?versionId=1&acl&X-Amz-Date=1", cookie="session=1", authorization="Basic eDp5", x_amz_acl="public-read",
        x_forwarded_for="192.0.2.1", accept_encoding="gzip", user_agent="player", via="1.1 cdn", content_type="a/b",
    )  # fmt: skip
    assert (whole.status, whole.body) == (200, DATA)
    assert whole.headers["Content-Type"] == "video/iso.segment"
    assert whole.headers["Cache-Control"] == "max-age=60"
    assert not [name for name in whole.headers if name.lower().startswith("x-")]
    part = httpd.fetch(url, range="bytes=1000-1999")
    assert (part.status, part.body) == (206, DATA[1000:2000])
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{len(DATA)}"
    head = httpd.fetch(url, method="HEAD", range="bytes=0-1")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(DATA)))
    same = httpd.fetch(url, if_none_match=whole.headers["ETag"])
    assert (same.status, same.body, same.headers["Content-Length"]) == (304, b"", None)
    assert httpd.fetch(f"{url}x").status == 404

    requests = server.requests()
    assert [entry["method"] for entry in requests] == ["GET", "GET", "HEAD", "GET", "GET"]
    for entry, more in zip(requests, [set(), {"range"}, set(), {"if-none-match"}, set()], strict=True):
        check_signed_once(entry, mode)
        # No other header of the client or of mod_proxy, such as X-Forwarded-For.
        allowed = {"host", "connection", "authorization", "date", "x-amz-date", "x-amz-content-sha256"}
        assert set(entry["headers"]) - allowed == more
        assert entry["headers"]["host"] == authority(server, style)


def check_signed_once(entry: dict[str, object], mode: str) -> None:
    headers, target = entry["headers"], str(entry["target"])
    assert isinstance(headers, dict)
    authorization = headers.get("authorization", "")
    assert authorization == ({"v4": "AWS4-HMAC-SHA256", "v2": "AWS"}[mode[:2]] if "header" in mode else "")
    assert target.count("Signature=") == (1 if "query" in mode else 0)
    assert "versionId" not in target and "acl" not in target


@pytest.mark.parametrize(("mode", "style", "scheme"), CASES)
def test_subrequests(httpd: Httpd, s3: EmbeddedS3, s3_tls: EmbeddedS3, mode: str, style: str, scheme: str) -> None:
    server = s3_tls if scheme == "https" else s3
    server.put(BUCKET, f"{mode}/part one", b"<b>private</b>")
    server.clear()
    folder = target(mode, style, scheme).removesuffix("/seg%20ment/1%2B2.m4s")
    page = httpd.root / "htdocs" / "page"
    page.write_text(
        f'1 <!--#include virtual="{folder}/part%20one" --> 2 <!--#include virtual="{folder}/part%20one" -->'
    )
    for reply in (
        httpd.fetch("/page"),
        httpd.fetch("/page", range="bytes=3-5"),
        httpd.fetch("/page", if_none_match="*"),
    ):
        assert reply.body == b"1 <b>private</b> 2 <b>private</b>"
    requests = server.requests()
    assert len(requests) == 6
    for entry in requests:
        check_signed_once(entry, mode)
