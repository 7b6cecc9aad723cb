"""Every signing mode with both styles of URL, over http and https, with a real httpd and a real S3."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.httpd.conftest import BUCKET, MODES, section
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

DATA = bytes(range(256)) * 400
KEY, TARGET = "seg ment/1+2.m4s", "seg%20ment/1%2B2.m4s"
CASES = list(product(MODES, ("path", "host"), ("http", "https")))


def mount(mode: str, style: str, scheme: str) -> str:
    return f"/{scheme}-{style}-{mode}"


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3, s3_tls: EmbeddedS3, certificate: Certificate, localhost_names: Path) -> Iterator[Httpd]:
    sections = []
    for mode, style, scheme in CASES:
        server = s3_tls if scheme == "https" else s3
        host = f"{BUCKET}.{server.domain}:{server.port}" if style == "host" else ""
        trust = [f"SetEnv S3CAFile {certificate.root}"] if scheme == "https" else []
        sections.append(section(mount(mode, style, scheme), server, *trust, mode=mode, host=host))
    for server in (s3, s3_tls):
        server.put(BUCKET, KEY, DATA, content_type="video/iso.segment", headers={"Cache-Control": "max-age=60"})
    with Httpd("\n".join(sections), preload=localhost_names) as running:
        yield running
    assert "\n".join(running.unexpected) == ""


@pytest.mark.parametrize(("mode", "style", "scheme"), CASES)
def test_object_and_range(httpd: Httpd, s3: EmbeddedS3, s3_tls: EmbeddedS3, mode: str, style: str, scheme: str) -> None:
    server = s3_tls if scheme == "https" else s3
    server.clear()
    target = f"{mount(mode, style, scheme)}/{TARGET}"
    reply = httpd.fetch(target, cookie="session=1", authorization="Basic eDp5", x_amz_acl="public-read")
    assert (reply.status, reply.body) == (200, DATA)
    assert reply.headers["Content-Type"] == "video/iso.segment"
    assert reply.headers["Cache-Control"] == "max-age=60"
    partial = httpd.fetch(target, range="bytes=1000-1999")
    assert (partial.status, partial.body) == (206, DATA[1000:2000])
    assert partial.headers["Content-Range"] == f"bytes 1000-1999/{len(DATA)}"
    head = httpd.fetch(target, method="HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(DATA)))
    same = httpd.fetch(target, if_none_match=reply.headers["ETag"])
    assert (same.status, same.body, same.headers["Content-Length"]) == (304, b"", None)
    assert httpd.fetch(f"{mount(mode, style, scheme)}/missing").status == 404

    s3_requests = server.requests()
    assert [entry["method"] for entry in s3_requests] == ["GET", "GET", "HEAD", "GET", "GET"]
    for entry in s3_requests:
        headers = entry["headers"]
        authorization = headers.get("authorization", "")
        assert authorization == ({"v4": "AWS4-HMAC-SHA256", "v2": "AWS"}[mode[:2]] if "header" in mode else "")
        assert ("Signature=" in entry["target"]) == ("query" in mode)
        assert "cookie" not in headers and "x-amz-acl" not in headers
        assert headers["host"] == (f"{BUCKET}.{server.domain}:{server.port}" if style == "host" else server.host)
