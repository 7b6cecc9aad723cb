"""A CDN in front of httpd: what it sends along, and ``apache/chain/cdn.conf``.

No header of a CDN breaks a signature, and none of them reaches S3. For both ways in and every signing mode.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificate, make_client_certificates
from tests.chain.cdns import CDNS, MEGABYTE, VIEWER, Cdn
from tests.chain.client import Response, fetch
from tests.chain.engines import NGINX
from tests.chain.programs import CHAIN, Nginx, localized
from tests.chain.signing import Bucket, Signing
from tests.docs.blocks import blocks_of
from tests.docs.pages import ROOT
from tests.httpd import http2
from tests.httpd.conftest import MODES, NEEDS_SSL, settings
from tests.httpd.conftest import _readable_folder as _readable_folder
from tests.httpd.conftest import certificate as certificate
from tests.httpd.conftest import checked as checked
from tests.httpd.machine import free_port, has_module, modules_directory
from tests.httpd.recorder import Recorder
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
    h2c = "Protocols h2c http/1.1\n" if has_module("http2") else ""
    with Httpd(h2c + config(bucket)) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


class Edge:
    """A server of a CDN: each request has the CDN's headers and the viewer's."""

    def __init__(self, httpd: Httpd, cdn: Cdn, mount: str, **more: str) -> None:
        """``more``: further headers, as in `fetch`."""
        self._port, self._mount, self._more = httpd.port, mount, more
        self._headers = {**VIEWER, "Accept-Encoding": cdn.encodings[0], **cdn.headers}

    def fetch(self, key: str, method: str = "GET", **more: str) -> Response:
        """Fetch an object; ``if_range="x"`` sends If-Range."""
        headers = {name.lower().replace("-", "_"): value for name, value in self._headers.items()}
        headers |= self._more | more
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
        assert response.headers["Content-Length"] == str(len(response.body))
    for encoding in cdn.encodings:
        response = edge.fetch("list.m3u8", accept_encoding=encoding)
        assert (response.status, response.body == PLAYLIST, response.headers["Vary"]) == (200, True, None), encoding
        assert response.headers["Content-Encoding"] is None
    assert_conditions_hold(edge)
    assert edge.fetch("none").status == 404
    assert edge.fetch("none", "HEAD").status == 404
    assert_nothing_of_the_cdn_reached_s3(bucket, way, mode)


@pytest.mark.skipif(not has_module("http2"), reason="this httpd has no mod_http2")
@pytest.mark.parametrize("way", WAYS)
def test_a_cdn_that_reads_by_http_2(httpd: Httpd, bucket: EmbeddedS3, way: str) -> None:
    """Its ranges as streams of one connection."""
    cdn = CDNS["Google"]
    headers = {name.lower(): value for name, value in {**VIEWER, **cdn.headers}.items()}
    bucket.clear()
    requests = [{"path": f"/{way}-v4-header/film.mp4", "range": byte_range, **headers} for byte_range in cdn.ranges]
    streams = http2.ask(httpd.port, *requests)
    assert [(stream.status, stream.ended) for stream in streams] == [(206, True)] * len(requests)
    assert all(stream.body == part(byte_range) for stream, byte_range in zip(streams, cdn.ranges, strict=True))
    assert_nothing_of_the_cdn_reached_s3(bucket, way, "v4-header")


def assert_conditions_hold(edge: Edge) -> None:
    """Revalidation, and the rest of an object, with strong and weak ETags and with dates."""
    headers = edge.fetch("list.m3u8", "HEAD").headers
    etag, date = headers["ETag"], headers["Last-Modified"]
    for condition in ({"if_none_match": etag}, {"if_none_match": f'"x", {etag}'}, {"if_modified_since": date}):
        response = edge.fetch("list.m3u8", **condition)
        assert (response.status, response.body, response.headers["ETag"]) == (304, b"", etag), condition
    # What a CDN sends that has compressed the object. Swift does not find it equal, so the object is sent.
    weak = edge.fetch("list.m3u8", if_none_match=f"W/{etag}")
    assert (weak.status, weak.body == PLAYLIST, weak.headers["ETag"]) == (200, True, etag)
    for condition in ({"if_none_match": '"x"'}, {"if_modified_since": OLD_DATE}, {"if_match": etag}):
        response = edge.fetch("list.m3u8", range="bytes=5-9", **condition)
        assert (response.status, response.body) == (206, PLAYLIST[5:10]), condition
    assert edge.fetch("list.m3u8", if_match='"x"').status == 412
    for validator in (etag, date):
        response = edge.fetch("list.m3u8", range="bytes=5-9", if_range=validator)
        assert (response.status, response.body) == (206, PLAYLIST[5:10]), validator
    for validator in ('"x"', f"W/{etag}", OLD_DATE):
        response = edge.fetch("list.m3u8", range="bytes=5-9", if_range=validator)
        assert (response.status, response.body == PLAYLIST) == (200, True), validator


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


# --- apache/chain/cdn.conf

CONF = CHAIN / "cdn.conf"
NEW, OLD = "a-new-long-random-word", "an-old-long-random-word"
SECRETS = {"NEW_SECRET": NEW, "OLD_SECRET": OLD}
SITE = "https://player.example.com"


def cdn_conf(*further: str, **replacements: str) -> str:
    """The file with the secrets of the test. ``further``: the first words of the lines that are enabled with it."""
    lines = localized(CONF.read_text(), {**SECRETS, **replacements}).splitlines()
    return "\n".join(line.replace("#", "", 1) if line.strip().startswith(further) else line for line in lines) + "\n"


def bucket_at_media(s3: EmbeddedS3, way: str) -> str:
    """A bucket at /media."""
    url, own = f"{s3.url}/v4-header", "\n".join(settings(s3))
    if way == "proxy":
        return f'ProxyPass /media {url}\n<Proxy "{url}/">\n{own}\n</Proxy>\n'
    return (
        f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\nSetEnv S3BucketURL {url}/\n{own}\n</Location>\n"
    )


@pytest.mark.parametrize("slashes", ["On", "Off"])
@pytest.mark.parametrize("way", WAYS)
def test_only_requests_with_a_secret_are_answered(
    bucket: EmbeddedS3, checked: list[Httpd], way: str, slashes: str
) -> None:
    """Two secrets are valid at once, and not in the log. No spelling of the path is without the lock."""
    lines = f"MergeSlashes {slashes}\nLogLevel debug authz_core:trace8 setenvif:trace8\n"
    httpd = Httpd(lines + bucket_at_media(bucket, way) + cdn_conf())
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("AH01630: client denied")
    bucket.clear()
    secrets: list[dict[str, str]] = [
        {},
        {"x_cdn_secret": "x"},
        {"x_cdn_secret": f"{NEW}x"},
        {"x_cdn_secret": f"{OLD}, {NEW}"},
    ]
    for headers in [*secrets, {"x_cdn_secret": ""}, {"authorization": "Basic eDp5"}, {"range": "bytes=0-9"}]:
        for method in ("GET", "HEAD"):
            assert fetch(httpd.port, "/media/film.mp4", method, **headers).status == 403, headers
    for target in (
        "//media/film.mp4",
        "/%6dedia/film.mp4",
        "/x/..//media/film.mp4",
        "///media//film.mp4",
        "/media//film.mp4",
    ):
        assert fetch(httpd.port, target).status in {403, 404}, target
    assert bucket.requests() == []
    httpd.expect_error("")
    for secret in (NEW, OLD):
        response = fetch(httpd.port, "/media/film.mp4", x_cdn_secret=secret)
        assert (response.status, response.body == FILM, response.headers["Vary"]) == (200, True, None)
    assert not [line for line in httpd.errors() if NEW in line or OLD in line]


@pytest.mark.parametrize("way", WAYS)
def test_lifetimes_and_cors(bucket: EmbeddedS3, checked: list[Httpd], way: str) -> None:
    """Each header once. S3's own Cache-Control stays; errors are kept for a second at most."""
    bucket.put("v4-header", "hour.mp4", b"an hour", headers={"Cache-Control": "max-age=3600"})
    httpd = Httpd(bucket_at_media(bucket, way) + cdn_conf())
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("AH01630: client denied")
    etag = fetch(httpd.port, "/media/film.mp4", "HEAD", x_cdn_secret=NEW).headers["ETag"]
    requests: list[tuple[str, int, str | None, dict[str, str]]] = [
        ("film.mp4", 200, "max-age=86400", {}),
        ("film.mp4", 200, "max-age=86400", {"method": "HEAD"}),
        ("film.mp4", 206, "max-age=86400", {"range": "bytes=0-9"}),
        ("film.mp4", 304, "max-age=86400", {"if_none_match": etag}),
        ("film.mp4", 412, None, {"if_match": '"x"'}),
        ("film.mp4", 416, None, {"range": "bytes=99999999-"}),
        ("film.mp4", 405, None, {"method": "DELETE"}),
        ("film.mp4", 204, None, {"method": "OPTIONS", "x_cdn_secret": ""}),
        ("film.mp4", 403, "max-age=1", {"x_cdn_secret": ""}),
        ("list.m3u8", 200, "max-age=2", {}),
        ("hour.mp4", 200, "max-age=3600", {}),
        ("none.mp4", 404, "max-age=1", {}),
    ]
    for key, status, lifetime, headers in requests:
        response = fetch(httpd.port, f"/media/{key}", **{"x_cdn_secret": NEW, "origin": SITE, **headers})
        assert response.status == status, (key, headers)
        assert response.headers.get_all("Cache-Control") == ([lifetime] if lifetime else None), (key, status)
        assert response.headers.get_all("Access-Control-Allow-Origin") == ["*"], (key, status)
        assert response.headers["Vary"] is None
        allowed = response.headers["Access-Control-Allow-Headers"]
        assert allowed == ("Range, If-Match, If-None-Match, If-Range" if status == 204 else None)


@pytest.mark.parametrize("way", WAYS)
def test_the_secret_and_a_foreign_authorization_go_no_further(
    bucket: EmbeddedS3, checked: list[Httpd], way: str
) -> None:
    """Neither to S3, nor to a cache behind this virtual host. And a cache inside httpd stores the object."""
    signed = CDNS["CloudFront that signs"].headers["Authorization"]
    cache = "CacheRoot ${ROOT}/run/cache\nCacheEnable disk /media\nCacheMaxFileSize 100000000\n"
    cache += "CacheQuickHandler Off\nCacheHeader On\n"
    httpd = Httpd(bucket_at_media(bucket, way) + cdn_conf() + cache)
    checked.append(httpd)
    httpd.start()
    (httpd.root / "run" / "cache").mkdir(mode=0o777)
    (httpd.root / "run" / "cache").chmod(0o777)
    httpd.expect_error("AH01630: client denied")
    for _ in range(100):
        response = fetch(httpd.port, "/media/list.m3u8", x_cdn_secret=NEW, authorization=signed)
        assert (response.status, response.body) == (200, PLAYLIST)
        if response.headers["X-Cache"].startswith("HIT"):
            break
        time.sleep(0.02)
    assert response.headers["X-Cache"].startswith("HIT")
    stored = [file.read_bytes() for file in httpd.written()]
    assert any(PLAYLIST in data for data in stored) and not any(NEW.encode() in data for data in stored)
    assert fetch(httpd.port, "/media/list.m3u8", authorization=signed).status == 403  # also what is in the cache
    with Recorder() as backend:
        httpd = Httpd(f"ProxyPass /media http://127.0.0.1:{backend.port}/bucket\n{cdn_conf()}")
        checked.append(httpd)
        httpd.start()
        assert fetch(httpd.port, "/media/a.ts", x_cdn_secret=NEW, authorization=signed).status == 200
        (received,) = backend.requests
    assert not {"x-cdn-secret", "authorization"} & {name.lower() for name in received.headers}


@pytest.mark.skipif(not has_module("remoteip"), reason="this httpd has no mod_remoteip")
@pytest.mark.parametrize("way", WAYS)
def test_the_addresses_of_the_cdn(bucket: EmbeddedS3, checked: list[Httpd], way: str) -> None:
    """They are those of the connection, also where mod_remoteip takes the player's address from the CDN."""
    module = f'LoadModule remoteip_module "{modules_directory()}/mod_remoteip.so"\n'
    lines = module + "RemoteIPHeader X-Forwarded-For\nRemoteIPTrustedProxy 127.0.0.1\n" + bucket_at_media(bucket, way)
    enabled = ("#<RequireAny>", "#  Require expr", "#</RequireAny>")
    for addresses, status in (("127.0.0.0/8", 200), ("192.0.2.0/24", 403)):
        httpd = Httpd(lines + cdn_conf(*enabled, **{"192.0.2.0/24": addresses}))
        checked.append(httpd)
        httpd.start()
        httpd.expect_error("AH01630: client denied")
        for headers in ({}, {"x_forwarded_for": "198.51.100.7"}, {"x_forwarded_for": "192.0.2.7"}):
            assert fetch(httpd.port, "/media/list.m3u8", x_cdn_secret=NEW, **headers).status == status
            assert fetch(httpd.port, "/media/list.m3u8", **headers).status == 403


@NEEDS_SSL
@pytest.mark.parametrize("way", WAYS)
def test_mutual_tls(
    bucket: EmbeddedS3, checked: list[Httpd], certificate: Certificate, readable_folder: Path, way: str
) -> None:
    """A client without a certificate, or with one of another CA, does not get through the handshake."""
    (readable_folder / "other").mkdir()
    ours, stranger = make_client_certificates(readable_folder, "cdn.example.com", "another-customer.example")
    (forged,) = make_client_certificates(readable_folder / "other", "cdn.example.com")
    port = free_port()
    tls = f"SSLEngine on\nSSLCertificateFile {certificate.chain}\nSSLCertificateKeyFile {certificate.key}\n"
    conf = cdn_conf("#SSL", "#Require expr", **{"/etc/apache2/cdn-clients.pem": str(ours.root)})
    inner = f"{tls}{bucket_at_media(bucket, way)}{conf}"
    httpd = Httpd(f"Listen 127.0.0.1:{port}\n<VirtualHost 127.0.0.1:{port}>\n{inner}</VirtualHost>\n")
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("AH01630: client denied|AH02039: Certificate Verification|AH02008|AH02261|SSL Library Error")

    def status(client: Certificate | None, secret: str = NEW) -> int:
        context = ssl.create_default_context(cafile=str(certificate.root))
        if client:
            context.load_cert_chain(client.chain, client.key)
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
        try:
            connection.request("GET", "/media/list.m3u8", headers={"X-Cdn-Secret": secret})
            return connection.getresponse().status
        except (ssl.SSLError, ConnectionError):
            return 0
        finally:
            connection.close()

    bucket.clear()
    assert [status(None), status(forged), status(stranger), status(ours, "x")] == [0, 0, 403, 403]
    assert bucket.requests() == []
    assert status(ours) == 200


@pytest.mark.skipif(bool(Nginx.missing()), reason=Nginx.missing())
@pytest.mark.parametrize("way", WAYS)
def test_the_file_in_front_of_a_storage_cache(bucket: EmbeddedS3, checked: list[Httpd], way: str) -> None:
    """In the public virtual host of ``apache/chain/storage_cache``: only the CDN reads from the cache."""
    name = "  ServerName media.example.com\n"
    httpd = Signing(way, Bucket.of(bucket, "v4-header"), changes={name: name + cdn_conf()})
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("AH01630: client denied")
    with NGINX.storage_cache(httpd):
        bucket.clear()
        edge = Edge(httpd, CDNS["Akamai"], "/media", x_cdn_secret=OLD)
        for byte_range in CDNS["Akamai"].ranges * 2:
            response = edge.fetch("film.mp4", range=byte_range)
            assert (response.status, response.body == part(byte_range)) == (206, True)
            assert response.headers.get_all("Access-Control-Allow-Origin") == ["*"]
        slices = {entry["headers"]["range"] for entry in bucket.requests()}
        assert len(bucket.requests()) == len(slices) == 1 + len(FILM) // MEGABYTE
        assert fetch(httpd.port, "/media/film.mp4").status == 403


def test_the_documentation_has_the_lines_of_the_file() -> None:
    """docs/cdn.md explains them one by one, docs/caching.md has those that are for all caches."""
    lines = {line.strip().lstrip("#").strip() for line in CONF.read_text().splitlines()}
    caching = [block for block in blocks_of(ROOT / "docs" / "caching.md") if block.language == "apache"]
    shared = [block for block in caching if "setifempty" in block.text or 'Allow-Origin   "*"' in block.text]
    assert len(shared) == 2
    for block in [*blocks_of(ROOT / "docs" / "cdn.md"), *shared]:
        for line in block.text.splitlines():
            assert line.strip().replace("<Location /media>", '<Location "/media">') in lines, (block.id, line)
