"""Traffic Server when S3, httpd, its disk or itself fails, in both of its places."""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.chain.client import Response, shown
from tests.chain.programs import WAIT
from tests.chain.scripted import ScriptedObject
from tests.chain.signing import Bucket
from tests.chain.traffic_server import TrafficServer
from tests.chain.traffic_server_places import RANGE, Place, running
from tests.s3 import EmbeddedS3

MB = 1 << 20
DATA = os.urandom(MB)
#: Each place, and each way of signing.
SELECTED = [("storage cache", "gateway"), ("shield", "proxy")]
ALL = [*SELECTED, ("storage cache", "proxy")]

pytestmark = [
    pytest.mark.chain,
    pytest.mark.skipif(bool(TrafficServer.missing()), reason=TrafficServer.missing()),
]


def started_stale(place: Place, key: str) -> None:
    """Read an object and a range that are stale after a second."""
    assert place.shown(key) == (200, DATA)
    assert place.shown(key, **RANGE) == (206, DATA[5:10])
    time.sleep(2.1)


@pytest.mark.parametrize("selected", ALL)
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


@pytest.mark.parametrize("selected", ALL)
def test_errors_and_truncated_bodies_are_not_stored(selected: tuple[str, str]) -> None:
    """Each reader sees that the body ends early, and the next one gets all of it."""
    thing = scripted()
    with thing.serve() as s3, running(*selected, Bucket(f"{s3.url}/bucket"), fails=True) as place:
        for number, headers in enumerate(({}, {"range": "bytes=5-900004"})):
            body = DATA[5:900005] if headers else DATA
            key = f"{number}.mp4"
            for thing.error_status in (503, 500, 403):
                assert place.fetch(key, **headers).status in {403, 500, 502, 503}
            thing.error_status, thing.sent, thing.truncates = 0, 200_000, True
            for reply in place.fetch_at_once(20, key, **headers):
                assert not reply.is_complete
                assert (reply.status, body.startswith(reply.body)) == (206 if headers else 200, True)
            thing.sent, thing.truncates = None, False
            replies = [*place.fetch_at_once(20, key, **headers), place.fetch(key, **headers)]
            assert {shown(reply) for reply in replies} == {(206 if headers else 200, body)}


@pytest.mark.parametrize("selected", SELECTED)
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


@pytest.mark.parametrize("selected", SELECTED)
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


@pytest.mark.parametrize("selected", SELECTED)
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


@pytest.mark.parametrize("selected", SELECTED)
def test_killed_under_load(selected: tuple[str, str], s3: EmbeddedS3) -> None:
    """Objects and ranges are stored and read while it is killed, twice: no wrong byte, before and after."""
    objects = {f"load/{number}.ts": os.urandom(size) for number in range(10) for size in (1000, 100_000, MB)}
    for key, data in objects.items():
        s3.put("bucket", key, data)
    # What it knows is written every second, so that it finds objects of before after the start.
    often = {"wait_for_cache INT 1": "wait_for_cache INT 1\nCONFIG proxy.config.cache.dir.sync_frequency INT 1"}
    whole, is_ended = [0], threading.Event()
    with running(*selected, Bucket.of(s3), often, fails=True) as place, ThreadPoolExecutor(6) as pool:

        def read(number: int) -> None:
            start = number * 100
            ranged = {"range": f"bytes={start}-{start + 499}"} if number % 2 else {}
            for key, data in itertools.cycle(objects.items()):
                if is_ended.is_set():
                    return
                body = data[start : start + 500] if ranged else data
                try:
                    reply = place.fetch(key, **ranged)
                except OSError:  # it is not there; the response had not begun
                    time.sleep(0.05)
                    continue
                assert reply.status == (206 if ranged else 200)
                assert reply.body == body if reply.is_complete else body.startswith(reply.body)
                whole[0] += reply.is_complete

        readers = [pool.submit(read, number) for number in range(6)]
        try:
            for _ in range(3):
                enough, deadline = whole[0] + 60, time.monotonic() + WAIT
                while whole[0] < enough:
                    assert time.monotonic() < deadline and not any(reader.done() for reader in readers)
                    time.sleep(0.05)
                place.cache.kill()
                place.cache.start()
        finally:
            is_ended.set()
        for reader in readers:
            reader.result(WAIT)
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
        assert "unable to open cache disk(s)" in place.cache.log()
