"""Traffic Server as a storage cache and as a shield, with the files of apache/chain."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chain.chains import FAILURES, StorageChain, storage_chain
from tests.chain.client import Response, fetch, fetch_at_once
from tests.chain.engines import CDN_SECRET, TRAFFIC_SERVER
from tests.chain.programs import WAIT
from tests.chain.scripted import ScriptedObject
from tests.chain.signing import WAYS, Bucket, Signing
from tests.chain.test_storage_cache import put as put
from tests.chain.test_storage_cache import shown
from tests.chain.test_storage_cache import test_an_empty_object as test_an_empty_object
from tests.chain.test_storage_cache import test_head_before_get as test_head_before_get
from tests.chain.test_storage_cache import test_headers_for_players as test_headers_for_players
from tests.chain.test_storage_cache import test_keys as test_keys
from tests.chain.test_storage_cache import (
    test_many_readers_of_what_is_not_there as test_many_readers_of_what_is_not_there,
)
from tests.chain.test_storage_cache import test_ranges as test_ranges
from tests.chain.traffic_server import TrafficServer
from tests.s3 import EmbeddedS3

MB = 1 << 20
DATA = os.urandom(MB)
#: The requests to S3 of many readers at the same moment, for an object or a range that is not stored. It is 1, and once
#: in a while 2: two of Traffic Server's threads have looked for it before one of them began to store it.
AT_MOST = 2
PLACES = ("storage cache", "shield")

pytestmark = [
    pytest.mark.chain,
    pytest.mark.skipif(bool(TrafficServer.missing()), reason=TrafficServer.missing()),
]


@dataclass(frozen=True)
class Place:
    """Traffic Server in one of its two places."""

    name: str
    signing: Signing
    cache: TrafficServer

    def target(self, key: str) -> str:
        """The path of an object."""
        return f"/{'media' if self.name == 'shield' else 'bucket'}/{key}"

    def fetch(self, key: str, method: str = "GET", **headers: str) -> Response:
        """Send a request, as the CDN does in front of the shield."""
        return fetch(self.cache.port, self.target(key), method, **self._headers(headers))

    def shown(self, key: str, **headers: str) -> tuple[int, bytes]:
        """The status and the body of a response, which must be complete."""
        return shown(self.fetch(key, **headers))

    def status(self, key: str, **headers: str) -> int:
        """The status of a response."""
        return self.fetch(key, **headers).status

    def fetch_at_once(self, number: int, key: str, **headers: str) -> list[Response]:
        """Send many at the same moment."""
        return fetch_at_once(number, self.cache.port, [self.target(key)], **self._headers(headers))

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"x_cdn_secret": CDN_SECRET, **headers} if self.name == "shield" else dict(headers)


@contextmanager
def running(
    name: str,
    way: str,
    bucket: Bucket,
    changes: Mapping[str, str] | None = None,
    *,
    httpd: Mapping[str, str] | None = None,
    fails: bool = False,
) -> Iterator[Place]:
    """Start httpd and Traffic Server. ``changes``, ``httpd``: in their files. ``fails``: httpd's log says so."""
    signing = Signing(way, bucket, has_storage_cache=name != "shield", changes=httpd)
    if fails:
        signing.expect_error(FAILURES)
    with signing:
        shield = name == "shield"
        program = (
            TRAFFIC_SERVER.shield(signing.port, changes) if shield else TRAFFIC_SERVER.storage_cache(signing, changes)
        )
        assert isinstance(program, TrafficServer)
        with program as cache:
            yield Place(name, signing, cache)
    assert signing.unexpected == []


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


def wait_for(read: Callable[..., Any], *arguments: Any, expected: object, **headers: str) -> None:
    """Call this again until it returns what is expected."""
    deadline = time.monotonic() + WAIT
    while read(*arguments, **headers) != expected:
        assert time.monotonic() < deadline
        time.sleep(0.2)


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
    s3.put("bucket", key, new)
    assert place.shown(key) == (200, DATA)
    path = re.escape(place.target(key))
    (place.cache.root / "etc" / "purge.config").write_text(f"^http://[^/]*{path}$ {int(time.time()) + 3600}\n")
    place.cache.control("config", "reload")
    wait_for(place.shown, key, expected=(200, new))
    assert place.shown(key, range="bytes=5-9") == (206, new[5:10])
    assert place.shown(key, range="bytes=7-9") == (206, new[7:10])
    assert read_again() == []


# --- what fails

RANGE = {"range": "bytes=5-9"}


def started_stale(place: Place, key: str) -> None:
    """Read an object and a range that are stale after a second."""
    assert place.shown(key) == (200, DATA)
    assert place.shown(key, **RANGE) == (206, DATA[5:10])
    time.sleep(2.1)


@pytest.mark.parametrize("selected", EACH)
def test_stale_objects_while_s3_is_away(selected: tuple[str, str]) -> None:
    """All of many readers get them, also if httpd is away. What is not stored is an error."""
    with EmbeddedS3(buckets=("bucket",)) as s3:
        s3.put("bucket", "film.mp4", DATA, headers={"Cache-Control": "max-age=1"})
        with running(*selected, Bucket.of(s3), fails=True) as place:
            started_stale(place, "film.mp4")
            for stop in (s3.stop, place.signing.stop):
                stop()
                for _ in range(2):
                    assert {shown(reply) for reply in place.fetch_at_once(50, "film.mp4")} == {(200, DATA)}
                    stale = place.fetch_at_once(50, "film.mp4", **RANGE)
                    assert {shown(reply) for reply in stale} == {(206, DATA[5:10])}
                assert place.fetch("other.mp4").status in {502, 503}


def test_why_a_stale_range_needs_a_rule() -> None:
    """Without the rule of requests.config a reader gets a range as if it were the whole object."""
    rule = """cond %{SEND_RESPONSE_HDR_HOOK} [AND]
cond %{STATUS} =200 [AND]
cond %{HEADER:Content-Range} /./
set-status 206
"""
    with EmbeddedS3(buckets=("bucket",)) as s3:
        s3.put("bucket", "film.mp4", DATA, headers={"Cache-Control": "max-age=1"})
        with running("storage cache", "gateway", Bucket.of(s3), {rule: ""}, fails=True) as place:
            started_stale(place, "film.mp4")
            s3.stop()
            assert place.shown("film.mp4", **RANGE) == (200, DATA[5:10])


def scripted(**options: Any) -> ScriptedObject:
    """An object of 1 MB of a scripted S3, which is fresh for an hour."""
    lasting = ("Cache-Control", "max-age=3600"), ("Last-Modified", "Tue, 10 Nov 2026 10:00:00 GMT")
    return ScriptedObject(DATA, **{"headers": lasting, **options})


@pytest.mark.parametrize("selected", EACH)
def test_errors_and_truncated_bodies_are_not_stored(selected: tuple[str, str]) -> None:
    """Each reader sees that the body ends early, and the next one gets all of it."""
    thing = scripted()
    with thing.serve() as s3, running(*selected, Bucket(f"{s3.url}/bucket"), fails=True) as place:
        for number, headers in enumerate(({}, {"range": "bytes=5-900004"})):
            body = DATA[5:900005] if headers else DATA
            key = f"{number}.mp4"
            for thing.error_status in (503, 500, 403):
                assert place.fetch(key, **headers).status in {403, 500, 502, 503}
            thing.error_status, thing.sent, thing.truncates = 0, MB // 2, True
            for reply in place.fetch_at_once(20, key, **headers):
                assert not reply.is_complete or reply.status in {502, 504}
                assert body.startswith(reply.body) or reply.status != (206 if headers else 200)
            thing.sent, thing.truncates = None, False
            replies = [*place.fetch_at_once(20, key, **headers), place.fetch(key, **headers)]
            assert {shown(reply) for reply in replies} == {(206 if headers else 200, body)}


@pytest.mark.parametrize("selected", EACH)
def test_an_object_changes_while_it_is_read(selected: tuple[str, str]) -> None:
    """Readers who come while it is read get what is being stored, to its end."""
    thing = scripted(sent=MB // 2)
    new = DATA[::-1]
    with thing.serve() as s3, running(*selected, Bucket(f"{s3.url}/bucket")) as place, ThreadPoolExecutor(20) as pool:
        for headers, part in (({}, slice(None)), ({"range": "bytes=5-900004"}, slice(5, 900005))):
            thing.data, thing.etag, thing.sent, before = DATA, '"one"', MB // 2, len(s3.requests)
            thing.resume.clear()
            readers: list[Future[Response]] = [pool.submit(place.fetch, "film.mp4", **headers)]
            while len(s3.requests) == before:
                time.sleep(0.1)
            time.sleep(0.5)
            thing.data, thing.etag, thing.sent = new, '"two"', None
            readers += [pool.submit(place.fetch, "film.mp4", **headers) for _ in range(10)]
            time.sleep(0.5)
            thing.resume.set()
            for reply in (reader.result(60) for reader in readers):
                assert reply.is_complete
                assert reply.body == (DATA if reply.headers["ETag"] == '"one"' else new)[part]
            assert readers[0].result().body == DATA[part]


@pytest.mark.parametrize("selected", EACH)
def test_vary_and_no_store(selected: tuple[str, str]) -> None:
    """Right bytes for each reader. A Vary of S3 is not forwarded, and what must not be stored is not."""
    thing = scripted()
    with thing.serve() as s3, running(*selected, Bucket(f"{s3.url}/bucket")) as place:
        for number, vary in enumerate(("Origin", "Accept-Encoding", "*")):
            thing.headers = (("Vary", vary), ("Cache-Control", "max-age=3600"))
            for origin in ("https://one.example.com", "https://two.example.com") * 2:
                reply = place.fetch(f"{number}.mp4", origin=origin, accept_encoding="gzip" if "one" in origin else "br")
                assert shown(reply) == (200, DATA)
                assert reply.headers["Vary"] is None
                assert place.shown(f"{number}.mp4", origin=origin, **RANGE) == (206, DATA[5:10])
        assert len(s3.requests) == 6
        thing.headers = (("Cache-Control", "no-store"),)
        for _ in range(2):
            assert place.shown("private.mp4") == (200, DATA)
            assert place.shown("private.mp4", **RANGE) == (206, DATA[5:10])
        assert len(s3.requests) == 10


@pytest.mark.parametrize("selected", EACH)
def test_killed_while_it_reads(selected: tuple[str, str]) -> None:
    """Each reader has right bytes and sees the end; after the start everybody gets all."""
    thing = scripted(sent=MB // 2)
    with thing.serve() as s3, running(*selected, Bucket(f"{s3.url}/bucket"), fails=True) as place:
        for headers, body in (({}, DATA), ({"range": "bytes=5-900004"}, DATA[5:900005])):
            thing.sent, before = MB // 2, len(s3.requests)
            thing.resume.clear()
            with ThreadPoolExecutor(10) as pool:
                readers = [pool.submit(place.fetch, "film.mp4", **headers) for _ in range(10)]
                while len(s3.requests) == before:
                    time.sleep(0.1)
                time.sleep(1)
                place.cache.kill()
                for reader in readers:
                    try:
                        reply = reader.result(60)
                    except OSError:  # its response had not begun
                        continue
                    assert not reply.is_complete
                    assert body.startswith(reply.body)
            thing.sent = None
            thing.resume.set()
            place.cache.start()
            for _ in range(2):
                assert {shown(reply) for reply in place.fetch_at_once(10, "film.mp4", **headers)} == {
                    (206 if headers else 200, body)
                }


@pytest.mark.parametrize("selected", EACH[:2])
def test_killed_under_load(selected: tuple[str, str], s3: EmbeddedS3) -> None:
    """Objects and ranges are stored and read while it is killed, four times: no wrong byte, before and after."""
    objects = {f"load/{number}.ts": os.urandom(size) for number in range(12) for size in (1000, 100_000, 2 * MB)}
    for key, data in objects.items():
        s3.put("bucket", key, data)
    # What it knows is written every second, so that it finds objects of before after the start.
    often = {"wait_for_cache INT 1": "wait_for_cache INT 1\nCONFIG proxy.config.cache.dir.sync_frequency INT 1"}
    counted = {"whole": 0, "truncated": 0}
    with running(*selected, Bucket.of(s3), often, fails=True) as place, ThreadPoolExecutor(8) as pool:
        deadline = time.monotonic() + 12

        def read(number: int) -> None:
            while time.monotonic() < deadline:
                for key, data in objects.items():
                    start = number * 100
                    ranged = number % 2 and {"range": f"bytes={start}-{start + 499}"}
                    body = data[start : start + 500] if ranged else data
                    try:
                        reply = place.fetch(key, **(ranged or {}))
                    except OSError:
                        time.sleep(0.05)
                        continue
                    if reply.status in {502, 503}:
                        continue
                    assert reply.status == (206 if ranged else 200)
                    assert reply.body == body if reply.is_complete else body.startswith(reply.body)
                    counted["whole" if reply.is_complete else "truncated"] += 1

        readers = [pool.submit(read, number) for number in range(8)]
        for _ in range(4):
            time.sleep(2)
            place.cache.kill()
            place.cache.start()
        for reader in readers:
            reader.result(120)
        assert counted["whole"] > 100
        for key, data in objects.items():
            assert place.shown(key) == (200, data)


def test_without_a_disk(s3: EmbeddedS3) -> None:
    """It starts, serves what it cannot store, and says so in its log."""
    s3.put("bucket", "film.mp4", DATA)
    s3.clear()
    with running("storage cache", "gateway", Bucket.of(s3), {"cache 256M": "none/cache 256M"}) as place:
        for _ in range(2):
            assert place.shown("film.mp4") == (200, DATA)
            assert place.shown("film.mp4", **RANGE) == (206, DATA[5:10])
        assert len(s3.requests()) == 4
        assert "cache disabled" in place.cache.log()


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
                    for ranged in ({}, RANGE):
                        assert place.fetch("film.mp4", method, **headers, **ranged).status == 403
            assert place.shown("film.mp4", host="cdn.example.net") == (200, DATA)
            assert place.shown("film.mp4", host="cdn.example.net", **RANGE) == (206, DATA[5:10])
        lines = (place.signing.root / "headers.log").read_text().splitlines()
        assert lines == ["- media.example.com 127.0.0.1"] * 2
        written = [path for path in place.cache.root.rglob("*") if path.is_file()]
        assert [path.name for path in written if CDN_SECRET.encode() in path.read_bytes()] == ["requests.config"]
