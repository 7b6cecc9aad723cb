"""Traffic Server as a storage cache and as a shield, with the files of apache/chain."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.chain.client import fetch, shown
from tests.chain.engines import CDN_SECRET, TRAFFIC_SERVER
from tests.chain.signing import WAYS, Bucket
from tests.chain.storage_chain import StorageChain, storage_chain
from tests.chain.test_storage_cache import put as put
from tests.chain.test_storage_cache import test_an_empty_object as test_an_empty_object
from tests.chain.test_storage_cache import test_headers_for_players as test_headers_for_players
from tests.chain.test_storage_cache import test_keys as test_keys
from tests.chain.test_storage_cache import (
    test_many_readers_of_what_is_not_there as test_many_readers_of_what_is_not_there,
)
from tests.chain.test_storage_cache import test_ranges as test_ranges
from tests.chain.traffic_server import TrafficServer
from tests.chain.traffic_server_places import PLACES, RANGE, Place, running, wait_for
from tests.s3 import EmbeddedS3

MB = 1 << 20
DATA = os.urandom(MB)
#: The requests to S3 of many readers at the same moment, for an object or a range that is not stored. It is 1, and once
#: in a while 2 here: each of Traffic Server's network threads, one for a core, may have looked for it before one of
#: them began to store it.
AT_MOST = max(2, os.cpu_count() or 2)

pytestmark = [
    pytest.mark.chain,
    pytest.mark.skipif(bool(TrafficServer.missing()), reason=TrafficServer.missing()),
]


@pytest.fixture(scope="module", params=WAYS)
def chain(request: pytest.FixtureRequest, bucket_server: EmbeddedS3) -> Iterator[StorageChain]:
    """For the tests of test_storage_cache.py that hold for Traffic Server too: read through the public virtual host."""
    with storage_chain(TRAFFIC_SERVER, request.param, Bucket.of(bucket_server)) as started:
        yield started


EACH = [pytest.param((name, way), id=f"{name}-{way}") for name in PLACES for way in WAYS]


@pytest.fixture(scope="module", params=EACH)
def place(request: pytest.FixtureRequest, bucket_server: EmbeddedS3) -> Iterator[Place]:
    """For many tests: each has a key of its own."""
    name, way = request.param
    with running(name, way, Bucket.of(bucket_server)) as started:
        yield started


@pytest.fixture
def store(s3: EmbeddedS3, request: pytest.FixtureRequest) -> Callable[..., str]:
    """A function that stores an object of this test, and returns its key."""

    def stored(data: bytes = DATA, name: str = "film.mp4", **headers: str) -> str:
        key = re.sub(r"[^\w/.]", "-", f"{request.node.name}/{name}")
        s3.put("bucket", key, data, headers={name.replace("_", "-"): value for name, value in headers.items()})
        s3.clear()
        return key

    return stored


def test_many_readers_of_one_cold_object(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    key = store()
    assert {shown(reply) for reply in place.fetch_at_once(200, key)} == {(200, DATA)}
    assert 1 <= len(s3.requests()) <= AT_MOST
    s3.clear()
    assert {shown(reply) for reply in place.fetch_at_once(200, f"{key}?session=1")} == {(200, DATA)}
    assert place.fetch(key, "HEAD").headers["Content-Length"] == str(MB)
    assert s3.requests() == []


def test_many_readers_of_one_cold_range(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    """The range alone is read, and stored by itself: another range, and the whole object, are other objects."""
    key = store()
    part = (206, DATA[5000:6024])
    assert {shown(reply) for reply in place.fetch_at_once(200, key, range="bytes=5000-6023")} == {part}
    assert {entry["length"] for entry in s3.requests()} == {1024}
    assert len(s3.requests()) <= AT_MOST
    s3.clear()
    again = place.fetch_at_once(200, f"{key}?session=1", range="bytes=5000-6023", host="other.example.com")
    assert {shown(reply) for reply in again} == {part}
    assert s3.requests() == []
    for headers, expected in (({"range": "bytes=5000-6022"}, (206, DATA[5000:6023])), ({}, (200, DATA))):
        for _ in range(2):
            assert place.shown(key, **headers) == expected
    assert [entry["length"] for entry in s3.requests()] == [1023, MB]


def test_what_is_no_single_range(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    """A list of ranges, a wrong one, and one of HEAD: the whole object, which is stored."""
    key = store()
    for value in ("bytes=0-1,5-6", "bytes=0-1, 5-6", "items=0-1", "bytes=", "bytes=abc", "bytes=1-2-3"):
        assert place.shown(key, range=value) == (200, DATA)
    head = place.fetch(key, "HEAD", range="bytes=0-9")
    assert (head.status, head.headers["Content-Length"]) == (200, str(MB))
    assert len(s3.requests()) == 1


def test_a_key_that_looks_like_a_stored_range(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    """cache_range_requests stores a range under the object's URL, "-" and the range: it is not taken for an object."""
    key = store()
    for ending in ("", ";v=1"):
        stored, missing = f"{key}{ending}", f"{key}{ending}.missing"
        s3.put("bucket", stored, DATA)
        s3.put("bucket", f"{stored}-bytes=5-9", b"another object")
        for _ in range(2):
            assert place.shown(stored, range="bytes=5-9") == (206, DATA[5:10])
            assert place.shown(f"{stored}-bytes=5-9") == (200, b"another object")
            assert place.shown(f"{stored}-bytes=5-9?x=1", range="bytes=0-2") == (206, b"ano")
        assert place.status(f"{missing}-bytes=0-9") == 404
        assert place.status(f"{missing}-bytes=-9?x=1") == 404
        s3.put("bucket", missing, DATA)
        assert place.shown(missing, range="bytes=0-9") == (206, DATA[:10])
        assert place.shown(missing, range="bytes=-9") == (206, DATA[-9:])


def test_the_rest_of_an_object(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    """A seek in a browser. The storage cache keeps it, the shield does not."""
    key = store()
    for _ in range(2):
        assert place.shown(key, range="bytes=0-") == (206, DATA)
    assert len(s3.requests()) == 1
    for _ in range(2):
        assert place.shown(key, range="bytes=1000000-") == (206, DATA[1000000:])
    assert len(s3.requests()) == (3 if place.name == "shield" else 2)


def test_conditions(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    """No stored range is sent for an If-Range: only S3 knows which version it is of."""
    key = store()
    part = DATA[5:10]
    assert place.shown(key, range="bytes=5-9") == (206, part)
    etag = place.fetch(key).headers["ETag"]
    for _ in range(2):
        assert place.shown(key, range="bytes=5-9", if_range=etag) == (206, part)
        assert place.shown(key, range="bytes=5-9", if_range='"another"') == (200, DATA)
        assert place.shown(key, range="bytes=7-9", if_range='"another"') == (200, DATA)
    s3.clear()
    for headers, expected in (({}, (200, DATA)), ({"range": "bytes=5-9"}, (206, part))):
        assert place.fetch(key, if_none_match=etag, **headers).status == 304
        assert place.fetch(key, if_match='"another"', **headers).status == 412
        assert place.shown(key, if_match=etag, **headers) == expected
        assert place.shown(key, if_none_match='"another"', **headers) == expected
    assert s3.requests() == []
    cold = store(name="cold.mp4")
    assert place.fetch(cold, if_none_match=etag, range="bytes=5-9").status == 304
    assert place.shown(cold, range="bytes=5-9") == (206, part)


def test_head_before_the_object(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    """HEAD stores nothing, and is answered from what a GET has stored."""
    key = store()
    for _ in range(2):
        head = place.fetch(key, "HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, str(MB))
    assert [entry["method"] for entry in s3.requests()] == ["HEAD", "HEAD"]
    assert place.shown(key) == (200, DATA)
    assert place.fetch(key, "HEAD").headers["Content-Length"] == str(MB)
    assert len(s3.requests()) == 3


def test_a_missing_object_appears(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    """One request to S3 for many readers, and again after 5 seconds."""
    key = f"{store()}.later"
    headers: tuple[dict[str, str], ...] = ({}, {"range": "bytes=5-9"})
    for chosen in headers:
        assert {reply.status for reply in place.fetch_at_once(50, key, **chosen)} == {404}
    assert len(s3.requests()) <= 2 * AT_MOST
    s3.put("bucket", key, DATA)
    for chosen, expected in zip(headers, ((200, DATA), (206, DATA[5:10])), strict=True):
        wait_for(place.shown, key, expected=expected, **chosen)


def test_an_object_changes(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    """When the old one is a second old, each of its parts is revalidated. No response has bytes of both."""
    old, new = DATA, DATA[::-1][: MB // 2]
    key = store(old, cache_control="max-age=1")
    reads = {"": slice(None), "bytes=5-9": slice(5, 10), "bytes=-9": slice(-9, None), "bytes=0-": slice(None)}

    def read() -> list[bool]:
        is_new = []
        for value, part in reads.items():
            reply = place.fetch(key, **({"range": value} if value else {}))
            assert (reply.status, reply.is_complete) == (206 if value else 200, True)
            is_new.append(reply.headers["ETag"] != etag)
            assert reply.body == (new if is_new[-1] else old)[part]
            if value:
                assert reply.headers["Content-Range"].endswith(f"/{len(new if is_new[-1] else old)}")
        return is_new

    etag = place.fetch(key).headers["ETag"]
    assert read() == [False] * 4
    time.sleep(2.1)
    s3.clear()
    assert read() == [False] * 4
    assert {entry["status"] for entry in s3.requests()} == {304}
    s3.put("bucket", key, new, headers={"Cache-Control": "max-age=1"})
    wait_for(read, expected=[True] * 4)
    s3.delete("bucket", key)
    for value in reads:
        wait_for(place.status, key, expected=404, **({"range": value} if value else {}))


def test_purge(place: Place, s3: EmbeddedS3, store: Callable[..., str]) -> None:
    """PURGE removes the whole object or a range, and purge.config all of them."""
    key = store()
    parts: tuple[dict[str, str], ...] = ({}, {"range": "bytes=5-9"}, {"range": "bytes=7-9"})

    def read_again() -> list[int]:
        """The statuses of S3 for the parts that are not stored."""
        s3.clear()
        for headers in parts:
            assert place.fetch(key, **headers).status in {200, 206}
        return [entry["status"] for entry in s3.requests()]

    read_again()
    assert read_again() == []
    assert place.fetch(key, "PURGE").status == 200
    assert place.fetch(key, "PURGE").status == 404
    assert read_again() == [200]
    assert place.fetch(key, "PURGE", range="bytes=5-9").status == 200
    assert read_again() == [206]
    new = DATA[::-1]
    time.sleep(1.1)  # Swift looks at If-Modified-Since too: two versions of the same second are the same for it
    s3.put("bucket", key, new)
    assert place.shown(key) == (200, DATA)
    path = re.escape(place.target(key))
    (place.cache.root / "etc" / "purge.config").write_text(f"^http://[^/]*{path}$ {int(time.time()) + 3600}\n")
    place.cache.control("config", "reload")
    wait_for(place.shown, key, expected=(200, new))
    assert place.shown(key, range="bytes=5-9") == (206, new[5:10])
    assert place.shown(key, range="bytes=7-9") == (206, new[7:10])
    wait_for(read_again, expected=[])  # not in the same second


# --- who may read


@pytest.mark.parametrize("way", WAYS)
def test_only_the_cdn_reads_from_the_shield(way: str, s3: EmbeddedS3) -> None:
    """Stored or not; and the secret goes nowhere else."""
    s3.put("bucket", "film.mp4", DATA)
    log = 'CustomLog "${ROOT}/headers.log" "%{X-Cdn-Secret}i %{Host}i %{X-Forwarded-For}i"'
    named = "  ServerName media.example.com\n"
    with running("shield", way, Bucket.of(s3), httpd={named: f"{named}  {log}\n"}) as place:
        secrets: tuple[dict[str, str], ...] = ({"x_cdn_secret": ""}, {"x_cdn_secret": CDN_SECRET[:-1]})
        for _ in range(2):
            for headers in secrets:
                for method in ("GET", "HEAD", "PURGE"):
                    assert place.fetch("film.mp4", method, **headers).status == 403
                    assert place.fetch("film.mp4", method, **headers, **RANGE).status == 403
            assert place.shown("film.mp4", host="cdn.example.net") == (200, DATA)
            assert place.shown("film.mp4", host="cdn.example.net", **RANGE) == (206, DATA[5:10])
        log_file = place.signing.root / "headers.log"  # httpd writes it after the response
        wait_for(log_file.read_text, expected="- media.example.com 127.0.0.1\n" * 2)
        written = [path for path in place.cache.root.rglob("*") if path.is_file()]
        assert [path.name for path in written if CDN_SECRET.encode() in path.read_bytes()] == ["requests.config"]


@pytest.mark.parametrize("way", WAYS)
def test_what_needs_a_password_is_not_stored_in_the_shield(way: str, s3: EmbeddedS3) -> None:
    """httpd decides, each time."""
    s3.put("bucket", "private/film.mp4", DATA)
    s3.clear()
    after = "  # Preflight requests"  # behind the section of /media, whose rules would replace this one
    rule = """Require expr "req_novary('Authorization') == 'Bearer ticket'\""""
    httpd = {after: f'  <Location "/media/private">\n    {rule}\n  </Location>\n{after}'}
    with running("shield", way, Bucket.of(s3), httpd=httpd) as place:
        place.signing.expect_error("AH01630: client denied")
        for _ in range(2):
            assert place.shown("private/film.mp4", authorization="Bearer ticket") == (200, DATA)
            assert place.shown("private/film.mp4", authorization="Bearer ticket", **RANGE) == (206, DATA[5:10])
            for headers in ({}, {"authorization": "Bearer another"}):
                assert place.status("private/film.mp4", **headers) == 403
                assert place.status("private/film.mp4", **headers, **RANGE) == 403
        assert len(s3.requests()) == 4


def test_clients_of_httpd_cannot_purge(chain: StorageChain, s3: EmbeddedS3, put: Callable[..., str]) -> None:
    """For the storage cache httpd is on this machine, from where PURGE is allowed. httpd does not pass it on."""
    target = put(DATA)
    assert shown(fetch(chain.port, target)) == (200, DATA)
    for method in ("PURGE", "DELETE", "PUSH"):
        assert fetch(chain.port, target, method).status in {403, 405}
    s3.clear()
    assert shown(fetch(chain.port, target)) == (200, DATA)
    assert s3.requests() == []
