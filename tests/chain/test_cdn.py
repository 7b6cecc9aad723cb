"""A CDN in front of httpd: what it sends along, and ``apache/chain/cdn.conf``.

No header of a CDN breaks a signature, and none of them reaches S3. For both ways in and every signing mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.chain.cdns import CDNS, MEGABYTE, VIEWER, Cdn
from tests.chain.client import Response, fetch
from tests.httpd.conftest import MODES, settings
from tests.httpd.server import Httpd
from tests.leaks import leaks
from tests.s3 import EmbeddedS3

FILM = bytes(range(251)) * (5 * MEGABYTE // 251 + 300)
PLAYLIST = b"#EXTM3U\n#EXT-X-VERSION:7\n" * 40
OLD_DATE = "Wed, 01 Jan 2020 00:00:00 GMT"
WAYS = ("gateway", "proxy")
#: The headers of each request to S3, besides those of the signature. Of the client's, S3 gets a range and conditions.
BASE = {"gateway": {"host", "user-agent", "accept-encoding"}, "proxy": {"host", "connection"}}
FORWARDED = {"range", "if-match", "if-none-match", "if-modified-since", "if-range"}
SIGNED = {
    "v4-header": {"authorization", "x-amz-date", "x-amz-content-sha256"},
    "v4-query": set(),
    "v2-header": {"authorization", "date"},
    "v2-query": set(),
}


def config(s3: EmbeddedS3) -> str:
    """Each bucket in both ways; each mode has a bucket of its own."""
    parts = []
    for mode in MODES:
        url, own = f"{s3.url}/{mode}", "\n".join(settings(s3, mode))
        parts.append(f"WSGIScriptAlias /gateway-{mode} ${{USP_S3_WSGI}}\n")
        parts.append(f"<Location /gateway-{mode}>\nSetEnv S3BucketURL {url}/\n{own}\n</Location>\n")
        parts.append(f'ProxyPass /proxy-{mode} {url}\n<Proxy "{url}/">\n{own}\nProxySet enablereuse=on\n</Proxy>\n')
    return "".join(parts)


@pytest.fixture(scope="module")
def bucket() -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=tuple(MODES)) as server:
        for name in MODES:
            server.put(name, "film.mp4", FILM, content_type="video/mp4")
            server.put(name, "list.m3u8", PLAYLIST, content_type="application/vnd.apple.mpegurl")
        yield server


@pytest.fixture(scope="module")
def httpd(bucket: EmbeddedS3) -> Iterator[Httpd]:
    with Httpd(config(bucket)) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


class Edge:
    """A server of a CDN: each request has the CDN's headers and the viewer's."""

    def __init__(self, httpd: Httpd, cdn: Cdn, mount: str) -> None:
        self._port, self._mount = httpd.port, mount
        self._headers = {**VIEWER, "Accept-Encoding": cdn.encodings[0], **cdn.headers}

    def fetch(self, key: str, method: str = "GET", **more: str) -> Response:
        """Fetch an object; ``if_range="x"`` sends If-Range."""
        headers = {name.lower().replace("-", "_"): value for name, value in self._headers.items()} | more
        response = fetch(self._port, f"{self._mount}/{key}", method, **headers)
        assert response.is_complete
        assert not leaks(str(response.headers)) and not leaks(response.body[:100_000])
        return response


def part(byte_range: str) -> bytes:
    """The bytes of a range of the film."""
    first, _, last = byte_range.removeprefix("bytes=").partition("-")
    return FILM[int(first) : int(last) + 1 if last else None]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CDNS)
def test_requests_of_a_cdn(httpd: Httpd, bucket: EmbeddedS3, name: str, way: str, mode: str) -> None:
    cdn = CDNS[name]
    edge = Edge(httpd, cdn, f"/{way}-{mode}")
    bucket.clear()
    whole = edge.fetch("film.mp4")
    assert (whole.status, whole.body == FILM) == (200, True)
    head = edge.fetch("film.mp4", "HEAD")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(FILM)), b"")
    # How it reads objects.
    for byte_range in cdn.ranges:
        response = edge.fetch("film.mp4", range=byte_range)
        assert (response.status, response.body == part(byte_range)) == (206, True), byte_range
        first = byte_range[6:].partition("-")[0]
        stated = f"bytes {first}-{int(first) + len(response.body) - 1}/{len(FILM)}"
        assert response.headers["Content-Range"] == stated
    for encoding in cdn.encodings:
        response = edge.fetch("list.m3u8", accept_encoding=encoding)
        assert (response.status, response.body == PLAYLIST, response.headers["Vary"]) == (200, True, None), encoding
        assert response.headers["Content-Encoding"] is None
    assert_conditions_hold(edge, whole.headers)
    assert edge.fetch("none").status == 404
    assert edge.fetch("none", "HEAD").status == 404
    assert_nothing_of_the_cdn_reached_s3(bucket, way, mode)


def assert_conditions_hold(edge: Edge, headers: Mapping[str, str]) -> None:
    """Revalidation, and the rest of an object, with strong and weak ETags and with dates."""
    etag, date = headers["ETag"], headers["Last-Modified"]
    for condition in ({"if_none_match": etag}, {"if_none_match": f'"x", {etag}'}, {"if_modified_since": date}):
        response = edge.fetch("film.mp4", **condition)
        assert (response.status, response.body, response.headers["ETag"]) == (304, b"", etag), condition
    # What a CDN sends that has compressed the object. Swift does not find it equal, so the object is sent.
    weak = edge.fetch("film.mp4", if_none_match=f"W/{etag}")
    assert (weak.status, weak.body == FILM, weak.headers["ETag"]) == (200, True, etag)
    for condition in ({"if_none_match": '"x"'}, {"if_modified_since": OLD_DATE}, {"if_match": etag}):
        response = edge.fetch("film.mp4", range="bytes=5-9", **condition)
        assert (response.status, response.body) == (206, FILM[5:10]), condition
    assert edge.fetch("film.mp4", if_match='"x"').status == 412
    for validator in (etag, date):
        response = edge.fetch("film.mp4", range="bytes=5-9", if_range=validator)
        assert (response.status, response.body) == (206, FILM[5:10]), validator
    for validator in ('"x"', f"W/{etag}", OLD_DATE):
        response = edge.fetch("film.mp4", range="bytes=5-9", if_range=validator)
        assert (response.status, response.body == FILM) == (200, True), validator


def assert_nothing_of_the_cdn_reached_s3(bucket: EmbeddedS3, way: str, mode: str) -> None:
    """Assert that each request had the headers of its signature, and of the client's those that S3 needs."""
    for entry in bucket.requests():
        names = set(entry["headers"])
        expected = BASE[way] | SIGNED[mode]
        assert names - FORWARDED == expected, (entry["method"], names ^ expected)
        assert entry["headers"]["host"] == bucket.host
        authorization = entry["headers"].get("authorization", "")
        assert authorization == ({"v4": "AWS4-HMAC-SHA256", "v2": "AWS"}[mode[:2]] if "header" in mode else "")
        assert entry["status"] != 403
