"""The table of URLs and keys in docs/url-to-key.md, for the gateway and for a ``<Proxy>`` section."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.docs.tables import codes, table
from tests.httpd.conftest import BUCKET, ONE_CHILD, proxy_section, section
from tests.httpd.conftest import s3 as s3
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

ROWS = [(url, expected) for urls, expected in table("url-to-key.md", "URL") for url in codes(urls)]


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    config = section("/media", s3) + f"ProxyPass /proxied {s3.url}/{BUCKET}\n"
    with Httpd(config + proxy_section(f"{s3.url}/{BUCKET}/", s3) + ONE_CHILD) as server:
        server.expect_error("AH10244: invalid URI path")
        yield server
    assert server.unexpected == []


@pytest.mark.parametrize("mount", ["/media", "/proxied"])
@pytest.mark.parametrize(("url", "expected"), ROWS, ids=[url for url, _ in ROWS])
def test_row(httpd: Httpd, s3: EmbeddedS3, url: str, expected: str, mount: str) -> None:
    status = re.match(r"[0-9]{3}\b", expected)
    if not status:
        s3.put(BUCKET, codes(expected)[0], expected.encode())
    reply = httpd.fetch(mount + url.removeprefix("/media"))
    if status:
        assert reply.status == int(status[0])
    else:
        assert (reply.status, reply.body) == (200, expected.encode())
