"""apache/chain/storage_cache when S3, the disk or the cache itself fails: right bytes, an abnormal end or a status."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPException

import pytest

from tests.chain.client import Response, fetch, fetch_at_once
from tests.chain.engines import NGINX, STORAGE_CACHES, VARNISH, Engine, parameters
from tests.chain.programs import CHAIN, Nginx, Varnish
from tests.chain.scripted import ScriptedObject
from tests.chain.signing import WAYS, Bucket
from tests.chain.storage_chain import SHORT_TIMES, StorageChain, storage_chain
from tests.faults.server import ScriptedS3
from tests.httpd.machine import find_program, unpacked_environment

MB = 1 << 20
DATA = os.urandom(MB) * 2 + b"the last slice"
RANGE = {"range": "bytes=1000-2023"}
PART = DATA[1000:2024]
FILM, LIST = "/media/film.mp4", "/media/list.m3u8"
Selected = tuple[Engine, str]
EACH_SLOW = pytest.mark.parametrize("selected", parameters(STORAGE_CACHES, WAYS, slow=True))
EACH = pytest.mark.parametrize("selected", parameters(STORAGE_CACHES, WAYS))


@contextmanager
def scripted(
    selected: Selected, item: ScriptedObject, changes: dict[str, str] | None = None
) -> Iterator[tuple[StorageChain, ScriptedS3]]:
    """A chain in front of a scripted object. At its end S3 answers all that still wait."""
    engine, way = selected
    with (
        item.serve() as s3,
        storage_chain(engine, way, Bucket(f"{s3.url}/bucket"), changes, fails=True) as chain,
    ):
        try:
            yield chain, s3
        finally:
            item.resume.set()


def attempt(port: int, target: str, **headers: str) -> Response | None:
    """Send a request; None: there was no response."""
    try:
        return fetch(port, target, **headers)
    except (OSError, HTTPException):
        return None


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@EACH
@pytest.mark.parametrize("target", [FILM, LIST])
def test_a_body_that_s3_truncates(selected: Selected, target: str) -> None:
    """It is not stored as whole, and no reader takes it for whole. When S3 is well again, all bytes are right."""
    item = ScriptedObject(DATA, sent=5000, truncates=True)
    with scripted(selected, item) as (chain, _):
        for headers in ({}, RANGE, {}):
            reply = attempt(chain.port, target, **headers)
            expected = PART if headers else DATA
            # The first bytes of the slice have arrived, so a range of them may be complete.
            assert reply is None or reply.status >= 500 or not reply.is_complete or (headers and reply.body == PART)
            assert reply is None or reply.status >= 500 or expected.startswith(reply.body)
        item.sent = None
        wait_until(lambda: (reply := attempt(chain.port, target)) is not None and reply.status == 200)
        for _ in range(2):
            reply = fetch(chain.port, target)
            assert (reply.status, reply.body, reply.is_complete) == (200, DATA, True)


@EACH
def test_an_s3_without_etags(selected: Selected) -> None:
    """A part that is stored is not completed with parts of another version, which nothing tells apart."""
    item = ScriptedObject(DATA, etag="")
    with scripted(selected, item) as (chain, _):
        for _ in range(2):
            reply = fetch(chain.port, FILM, range=f"bytes={MB}-{MB + 9}")
            assert (reply.status, reply.body) == (206, DATA[MB : MB + 10])
        old, item.data = item.data, DATA[::-1]
        for _ in range(2):
            reply = fetch(chain.port, FILM)
            assert reply.is_complete and reply.body in {old, item.data}
        assert {reply.status for reply in fetch_at_once(4, chain.port, [FILM], range="bytes=5-9")} == {206}


@EACH_SLOW
def test_s3_is_away(selected: Selected) -> None:
    """What is stored is sent although it is old; what is not stored is an error, for all who wait at the same time."""
    item = ScriptedObject(DATA)
    with scripted(selected, item, SHORT_TIMES[selected[0].name]) as (chain, s3):
        assert fetch(chain.port, FILM).body == DATA
        time.sleep(2.1)
        item.error_status = 503
        for _ in range(3):
            for headers, status, body in (({}, 200, DATA), (RANGE, 206, PART)):
                reply = fetch(chain.port, FILM, **headers)
                assert (reply.status, reply.body, reply.is_complete) == (status, body, True)
        began, before = time.monotonic(), len(s3.requests)
        replies = fetch_at_once(50, chain.port, ["/media/cold.mp4"])
        assert {reply.status for reply in replies} <= {502, 503}
        # The gateway retries. Without the second for which an error is shared, each reader waits for the one before.
        assert len(s3.requests) - before < 25 and time.monotonic() - began < 25
        item.error_status = 0
        wait_until(lambda: fetch(chain.port, "/media/cold.mp4").body == DATA)
        chain.signing.stop()  # httpd itself is away: the cache still has it
        time.sleep(2.1)
        for _ in range(2):
            reply = fetch(chain.cache.port, "/bucket/film.mp4")
            assert (reply.status, reply.body, reply.is_complete) == (200, DATA, True)
        chain.signing.start()


@pytest.mark.chain
@EACH
def test_without_stale_objects_s3_away_is_an_error(selected: Selected) -> None:
    engine, _ = selected
    choice = {
        "nginx": {"error timeout updating http_500 http_502 http_503 http_504": "off"},
        "Varnish": {"beresp.grace = 1d": "beresp.grace = 0s"},
    }
    item = ScriptedObject(DATA)
    with scripted(selected, item, SHORT_TIMES[engine.name] | choice[engine.name]) as (chain, _):
        assert fetch(chain.port, FILM).body == DATA
        time.sleep(2.1)
        item.error_status = 503
        assert fetch(chain.port, FILM).status in {502, 503}
        item.error_status = 0
        wait_until(lambda: fetch(chain.port, FILM).body == DATA)


@EACH
def test_the_cache_is_killed_while_it_fills(selected: Selected) -> None:
    """Each reader has exact bytes or an abnormal end, and what the cache has after its restart is right."""
    item = ScriptedObject(DATA, sent=300_000)
    with scripted(selected, item) as (chain, s3), ThreadPoolExecutor(20) as pool:
        readers: list[Future[Response | None]] = [
            pool.submit(attempt, chain.port, FILM, **(RANGE if number % 2 else {})) for number in range(20)
        ]
        wait_until(lambda: len(s3.requests) > 0)
        time.sleep(1)  # the cache has stored a part
        chain.cache.kill()
        for reader in readers:
            reply = reader.result(60)
            if reply is not None and reply.status < 500:
                assert (PART if reply.status == 206 else DATA).startswith(reply.body)
                assert not reply.is_complete or reply.body in {PART, DATA}
        item.sent = None
        item.resume.set()
        chain.cache.start()
        for headers, status, body in ((RANGE, 206, PART), ({}, 200, DATA), (RANGE, 206, PART)):
            reply = fetch(chain.port, FILM, **headers)
            assert (reply.status, reply.body, reply.is_complete) == (status, body, True)
        if selected[0] is NGINX:  # its cache is on disk: the next start has it
            before = len(s3.requests)
            chain.cache.kill()
            chain.cache.start()
            assert fetch(chain.port, FILM).body == DATA
            assert len(s3.requests) == before


@pytest.mark.chain
@EACH
def test_a_slice_that_takes_long(selected: Selected) -> None:
    """Longer than nginx's own lock_timeout (5 s), after which all who wait would go to S3."""
    item = ScriptedObject(DATA, sent=500)
    with scripted(selected, item) as (chain, s3):
        timer = threading.Timer(7, item.resume.set)
        timer.start()
        replies = fetch_at_once(50, chain.port, [FILM], **RANGE)
        assert {(reply.status, reply.body) for reply in replies} == {(206, PART)}
        assert len(s3.requests) == 1
        timer.join()


@EACH_SLOW
def test_the_start_of_a_cold_object_arrives_before_its_end(selected: Selected) -> None:
    """A reader need not wait for the whole object: only for what is before its range, or for its slice."""
    item = ScriptedObject(DATA, sent=MB + 5000)
    with scripted(selected, item) as (chain, _):
        assert fetch(chain.port, FILM, **RANGE).body == PART
        assert not item.resume.is_set()


@EACH
def test_a_vary_from_s3(selected: Selected) -> None:
    """S3 sends "Vary: Origin" if the bucket has CORS rules. It does not divide the cache."""
    item = ScriptedObject(DATA, headers=(("Vary", "Origin, Access-Control-Request-Headers"),))
    with scripted(selected, item) as (chain, s3):
        for origin in ("https://one.example", "https://two.example"):
            reply = fetch(chain.port, LIST, origin=origin)
            assert (reply.body, reply.headers["Vary"]) == (DATA, None)
        assert len(s3.requests) == 1


@EACH_SLOW
def test_an_object_that_changes_while_it_is_filled(selected: Selected) -> None:
    item = ScriptedObject(DATA, sent=MB // 2)
    with scripted(selected, item, SHORT_TIMES[selected[0].name]) as (chain, s3), ThreadPoolExecutor(2) as pool:
        reader = pool.submit(attempt, chain.port, FILM)
        wait_until(lambda: len(s3.requests) > 0)
        after = bytes(reversed(DATA))
        item.data, item.etag, item.sent = after, '"two"', None
        item.resume.set()
        reply = reader.result(60)
        if reply is not None and reply.status < 500:
            assert DATA.startswith(reply.body)
            assert not reply.is_complete or reply.body == DATA
        wait_until(lambda: fetch(chain.port, FILM).body == after)


class NginxWithoutDisk(Nginx):
    """In a mount namespace of its own, with a file system of 1 MB for the cache."""

    def command(self) -> list[str]:
        folder = self.root / "storage"
        folder.mkdir(exist_ok=True)
        script = f'mount -t tmpfs -o size=1m,mode=777 tmpfs {folder} && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", *super().command()]


class VarnishWithoutSpace(Varnish):
    """With 1 MB for objects."""

    options = ("-s", "malloc,1m")


def can_mount() -> bool:
    """Whether this user may mount a file system in a namespace."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


@EACH_SLOW
def test_a_cache_without_disk(selected: Selected) -> None:
    """Right bytes, an abnormal end, or an error: never a body that looks whole and is not."""
    engine, way = selected
    if engine is NGINX and not can_mount():
        pytest.skip("no file system can be mounted here: run as root")
    small = replace(engine, program=NginxWithoutDisk if engine is NGINX else VarnishWithoutSpace)
    item = ScriptedObject(DATA)
    with scripted((small, way), item) as (chain, _):
        ends = []
        for number in range(4):
            for headers, body in (({}, DATA), (RANGE, PART)):
                reply = attempt(chain.port, f"/media/{number}.mp4", **headers)
                if reply is not None and reply.status < 500:
                    assert body.startswith(reply.body)
                    assert not reply.is_complete or reply.body == body
                ends.append(reply and (reply.status, reply.is_complete, len(reply.body)))
        print(ends)


@pytest.mark.parametrize("selected", parameters((VARNISH,), WAYS))
def test_a_purge(selected: Selected) -> None:
    """From loopback only, and not through the public virtual host: it removes the object and no other one."""
    other = "/media/film.mp4.info"
    item = ScriptedObject(DATA)
    with scripted(selected, item) as (chain, s3):
        for name in (FILM, other):
            assert fetch(chain.port, name).body == DATA
        item.data, item.etag = bytes(reversed(DATA)), '"two"'
        assert fetch(chain.port, FILM, "PURGE").status == 405
        assert fetch(chain.cache.port, "/bucket/film.mp4", "PURGE", source="127.0.0.2").status == 403
        assert fetch(chain.port, FILM).body == DATA
        assert fetch(chain.cache.port, "/bucket/film.mp4", "PURGE").status == 200
        assert fetch(chain.port, FILM).body == item.data
        before = len(s3.requests)
        assert fetch(chain.port, other).body == DATA
        assert len(s3.requests) == before


#: How the slices of an object are removed: docs/chain.md has the same commands. 64 MB: as long as the object, at least.
REMOVE = """
for start in $(seq 0 1048576 67108864); do
  name=$(printf %s "/bucket/film.mp4 bytes=$start-$((start + 1048575))" | md5sum | cut -c 1-32)
  rm -f /var/cache/nginx/storage/${name:31:1}/${name:29:2}/$name
done
"""


@pytest.mark.skipif(bool(Nginx.missing()), reason=Nginx.missing())
def test_the_files_of_an_object_are_removed() -> None:
    item = ScriptedObject(DATA)
    with scripted((NGINX, "gateway"), item) as (chain, _):
        assert fetch(chain.port, FILM).body == DATA
        item.data, item.etag = bytes(reversed(DATA)), '"two"'
        assert REMOVE.strip() in (CHAIN.parents[1] / "docs" / "chain.md").read_text()
        script = REMOVE.replace("/var/cache/nginx", str(chain.cache.root))
        subprocess.run(["bash", "-euc", script], check=True, timeout=30)
        assert fetch(chain.port, FILM).body == item.data


@pytest.mark.chain
@pytest.mark.skipif(bool(Varnish.missing()), reason=Varnish.missing())
def test_a_ban() -> None:
    item = ScriptedObject(DATA)
    with scripted((VARNISH, "gateway"), item) as (chain, _):
        assert fetch(chain.port, FILM).body == DATA
        item.data, item.etag = bytes(reversed(DATA)), '"two"'
        assert isinstance(chain.cache, Varnish)
        command = [find_program("varnishadm"), "-n", str(chain.cache.run), "ban", "req.url", "~", "^/bucket/film"]
        subprocess.run(command, check=True, timeout=30, capture_output=True, env=unpacked_environment())
        assert fetch(chain.port, FILM).body == item.data
