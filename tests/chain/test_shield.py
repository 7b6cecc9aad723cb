"""apache/chain/shield: a cache in front of the server, which only the CDN may read."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.chain.client import Response, fetch, fetch_at_once
from tests.chain.engines import CDN_SECRET, MOD_CACHE_DISK, SHIELDS, Engine, parameters
from tests.chain.mod_cache_disk import ModCacheDisk
from tests.chain.programs import Program, Varnish
from tests.chain.scripted import ScriptedObject
from tests.chain.signing import WAYS, Bucket, Signing
from tests.chain.storage_chain import FAILURES
from tests.httpd.machine import find_program, unpacked_environment
from tests.s3 import EmbeddedS3

MB = 1 << 20
DATA = os.urandom(MB) * 2 + b"the end"
CDN = {"x_cdn_secret": CDN_SECRET}
#: The server logs what it gets of the secret, and of the path. Its responses have a header as those of a storage cache.
SERVER_LINES = {
    "ServerName media.example.com": "ServerName media.example.com\n"
    '  CustomLog secret.log "%{X-Cdn-Secret}i %U"\n'
    "  Header set X-Cache-Status STORAGE"
}
#: Short times in place of those in the files.
SHORT_TIMES = {
    "nginx": {"200 206 10m": "200 206 1s", "404 416 5s": "404 416 1s", "404 5s": "404 1s"},
    "Varnish": {"ttl = 10m": "ttl = 1s", "ttl = 5s": "ttl = 1s"},
    "mod_cache_disk": {},
}
Selected = tuple[Engine, str]
EACH = parameters(SHIELDS, WAYS)


@dataclass(frozen=True)
class Shielded:
    """A running shield in front of a server."""

    engine: Engine
    server: Signing
    shield: Program

    def fetch(self, target: str, method: str = "GET", **headers: str) -> Response:
        """A request of the CDN."""
        return fetch(self.shield.port, target, method, **CDN, **headers)

    def fetch_stored(self, target: str) -> Response:
        """Fetch an object whole until it is stored: mod_cache_disk does that after the client has it."""
        deadline = time.monotonic() + 20
        while True:
            reply = self.fetch(target)
            if self.engine is not MOD_CACHE_DISK or reply.headers["X-Cache"].startswith("HIT"):
                return reply
            assert time.monotonic() < deadline, reply.headers.items()
            time.sleep(0.05)


@pytest.fixture(scope="module", params=EACH)
def shielded(request: pytest.FixtureRequest, bucket_server: EmbeddedS3) -> Iterator[Shielded]:
    """A shield for many tests: each has a key of its own."""
    engine, way = request.param
    server = Signing(way, Bucket.of(bucket_server), has_storage_cache=False, changes=SERVER_LINES)
    with server, engine.shield(server.port) as shield:
        yield Shielded(engine, server, shield)
        time.sleep(0.2)
        assert {line.split()[0] for line in (server.root / "secret.log").read_text().splitlines()} == {"-"}
        assert CDN_SECRET not in shield.log()
        if isinstance(shield, ModCacheDisk):
            assert not [
                file for file in shield.cache.rglob("*") if file.is_file() and CDN_SECRET.encode() in file.read_bytes()
            ]
        if isinstance(shield, Varnish):
            command = [find_program("varnishlog"), "-n", str(shield.run), "-d", "-g", "raw"]
            done = subprocess.run(command, check=True, timeout=30, capture_output=True, env=unpacked_environment())
            assert b"/media/" in done.stdout and CDN_SECRET.encode() not in done.stdout
    assert server.unexpected == []


@pytest.fixture
def put(shielded: Shielded, s3: EmbeddedS3, request: pytest.FixtureRequest) -> Callable[..., str]:
    """A function that stores an object of this test, and returns its URL's path."""

    def stored(data: bytes, name: str = "film.mp4") -> str:
        key = f"{re.sub('[^a-zA-Z0-9]+', '-', request.node.name)}/{name}"
        s3.put("bucket", key, data)
        s3.clear()
        return f"/media/{key}"

    return stored


@pytest.mark.parametrize("name", ["film.mp4", "segment.ts", "list.m3u8"])
def test_only_the_cdn_may_read(shielded: Shielded, s3: EmbeddedS3, put: Callable[..., str], name: str) -> None:
    """Also what is stored."""
    target = put(DATA, name)
    for _ in range(2):
        for headers in (
            {},
            {"x_cdn_secret": ""},
            {"x_cdn_secret": CDN_SECRET.upper()},
            {"x_cdn_secret": f"{CDN_SECRET},x"},
        ):
            for method in ("GET", "HEAD", "OPTIONS", "POST"):
                reply = fetch(shielded.shield.port, target, method, **headers)
                assert reply.status == 403 and DATA[:100] not in reply.body
        assert shielded.fetch_stored(target).body == DATA
    requests = len(s3.requests())
    shielded.fetch(target)
    assert len(s3.requests()) == requests


@pytest.mark.parametrize("name", ["film.mp4", "segment.ts", "list.m3u8"])
def test_a_response_tells_once_whether_the_shield_had_it(
    shielded: Shielded, put: Callable[..., str], name: str
) -> None:
    """A storage cache behind the server has the same header, which is stored with the object."""
    target = put(DATA, name)
    if shielded.engine is MOD_CACHE_DISK:  # its own header is another one
        shielded.fetch(target)
        assert shielded.fetch_stored(target).headers.get_all("X-Cache") == ["HIT from media.example.com"]
    else:
        states = [shielded.fetch(target).headers.get_all("X-Cache-Status") for _ in range(2)]
        assert states == [["MISS"], ["HIT"]]


@pytest.mark.parametrize("name", ["film.mp4", "segment.ts"])
def test_many_at_once(shielded: Shielded, s3: EmbeddedS3, put: Callable[..., str], name: str) -> None:
    target = put(DATA, name)
    for headers, status, body in (({"range": "bytes=100-1123"}, 206, DATA[100:1124]), ({}, 200, DATA)):
        s3.clear()
        replies = fetch_at_once(100, shielded.shield.port, [f"{target}?x=1", target], **CDN, **headers)
        assert {(reply.status, reply.body, reply.is_complete) for reply in replies} == {(status, body, True)}
        if shielded.engine is not MOD_CACHE_DISK:
            sliced = shielded.engine.has_slices and name == "film.mp4"
            assert len(s3.requests()) == ((1 if headers else 2) if sliced else (1 if headers else 0))
    shielded.fetch_stored(target)
    s3.clear()
    assert {reply.body for reply in fetch_at_once(100, shielded.shield.port, [target], **CDN)} == {DATA}
    assert shielded.fetch(target, range="bytes=-9").body == DATA[-9:]
    assert s3.requests() == []


@pytest.mark.parametrize("name", ["film.mp4", "segment.ts", "list.m3u8"])
def test_what_players_ask(shielded: Shielded, put: Callable[..., str], name: str) -> None:
    """Ranges, HEAD, conditions, CORS, cold and stored; an empty object."""
    target, site = put(DATA, name), {"origin": "https://player.example.com"}
    lifetime = "max-age=2" if name == "list.m3u8" else "max-age=86400"
    etag = shielded.fetch(target, "HEAD").headers["ETag"]
    for _ in range(2):
        for status, body, headers in (
            (206, DATA[MB - 5 : MB + 5], {"range": f"bytes={MB - 5}-{MB + 4}"}),
            (206, DATA[-7:], {"range": "bytes=-7"}),
            (206, DATA, {"range": "bytes=0-"}),
            (200, DATA, {}),
            (304, b"", {"if_none_match": etag}),
            (206, DATA[5:9], {"range": "bytes=5-8", "if_range": etag}),
            (200, DATA, {"range": "bytes=5-8", "if_range": '"another"'}),
            (416, None, {"range": f"bytes={9 * MB}-"}),
        ):
            reply = shielded.fetch(target, **site, **headers)
            assert (reply.status, reply.is_complete) == (status, True), headers
            assert body is None or reply.body == body
            # nginx and Varnish write a 416 of their own for an object that is stored.
            if status != 416:
                assert reply.headers.get_all("Access-Control-Allow-Origin") == ["*"], headers
                assert reply.headers["Cache-Control"] == lifetime
            assert reply.headers["Vary"] is None
        head = shielded.fetch(target, "HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(DATA)))
        shielded.fetch_stored(target)
    several = shielded.fetch(target, range="bytes=0-1,5-6")
    assert several.is_complete and (several.body == DATA if several.status == 200 else several.status == 206)
    preflight = shielded.fetch(target, "OPTIONS", **site)
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, "*")
    assert shielded.fetch(target, "DELETE").status == 405
    missing = shielded.fetch(f"{target}.missing", **site)
    assert (missing.status, missing.headers["Access-Control-Allow-Origin"]) == (404, "*")
    empty = put(b"", f"empty-{name}")
    for _ in range(2):
        assert (reply := shielded.fetch(empty)).status == 200 and reply.body == b"" and reply.is_complete


def test_keys(shielded: Shielded, s3: EmbeddedS3) -> None:
    keys = {"a%20b+c%25.txt": "a b+c%.txt", "caf%C3%A9": "café", "a//b": "a//b", "a/b": "a/b", "a%2Fb": "a/b"}
    for key in keys.values():
        s3.put("bucket", key, f"the object {key}".encode())
    for _ in range(2):
        for path, key in keys.items():
            reply = shielded.fetch_stored(f"/media/{path}")
            assert (reply.status, reply.body) == (200, f"the object {key}".encode()), path
    for path in ("x/../a/b", "x/%2e%2e/a/b", "x%2F..%2Fa/b"):
        reply = shielded.fetch(f"/media/{path}")
        # httpd has removed the dots before it looks at its rules and into its cache.
        removed = shielded.engine is MOD_CACHE_DISK and reply.body == b"the object a/b"
        assert removed or reply.status in {400, 404}, path


@pytest.mark.chain
@pytest.mark.parametrize("selected", parameters((MOD_CACHE_DISK,), ("gateway",)))
def test_access_rules_hold_for_what_mod_cache_has_stored(selected: Selected, s3: EmbeddedS3) -> None:
    engine, way = selected
    s3.put("bucket", "secret/film.mp4", DATA)
    rule = (
        "CacheQuickHandler Off\n<Location \"/media/secret\">\nRequire expr \"req_novary('X-Ok') == 'y'\"\n</Location>"
    )
    server = Signing(way, Bucket.of(s3), has_storage_cache=False)
    with server, engine.shield(server.port, {"  CacheQuickHandler Off": f"{rule}\n  CacheQuickHandler Off"}) as shield:
        shielded = Shielded(engine, server, shield)
        for _ in range(3):
            assert shielded.fetch("/media/secret/film.mp4", x_ok="y").body == DATA
            time.sleep(0.2)
        assert shielded.fetch("/media/secret/film.mp4", x_ok="y").headers["X-Cache"].startswith("HIT")
        for path in (
            "secret/film.mp4",
            "x/../secret/film.mp4",
            "x%2F..%2Fsecret/film.mp4",
            "x/%2e%2e%2Fsecret%2Ffilm.mp4",
        ):
            assert shielded.fetch(f"/media/{path}").status in {400, 403, 404}, path


def test_requests_with_a_password_go_to_the_server(shielded: Shielded, s3: EmbeddedS3, put: Callable[..., str]) -> None:
    target = put(DATA, "segment.ts")
    shielded.fetch_stored(target)
    s3.clear()
    for _ in range(2):
        assert shielded.fetch(target, authorization="Basic dmlld2VyOnBhc3N3b3Jk").body == DATA
    # mod_cache has stored what the server sends without a password.
    assert len(s3.requests()) == (0 if shielded.engine is MOD_CACHE_DISK else 2)


@pytest.mark.parametrize("selected", parameters(SHIELDS, WAYS, slow=True))
def test_the_server_or_s3_is_away(selected: Selected) -> None:
    """What is stored is sent although it is old, also if the server itself does not answer; a 404 is asked again."""
    engine, way = selected
    item = ScriptedObject(DATA, headers=(("Cache-Control", "max-age=1"),))
    with item.serve() as s3:
        server = Signing(way, Bucket(f"{s3.url}/bucket"), has_storage_cache=False)
        server.expect_error(FAILURES)
        with server, engine.shield(server.port, SHORT_TIMES[engine.name]) as shield:
            shielded = Shielded(engine, server, shield)
            item.error_status = 404
            assert shielded.fetch("/media/segment.ts").status == 404
            item.error_status = 0
            deadline = time.monotonic() + 10
            while (reply := shielded.fetch("/media/segment.ts")).status != 200:
                assert reply.status == 404 and time.monotonic() < deadline
                time.sleep(0.1)
            for target in ("/media/segment.ts", "/media/film.mp4"):
                assert shielded.fetch_stored(target).body == DATA
            for failure in ("S3", "server"):
                time.sleep(2.1)
                if failure == "S3":
                    item.error_status = 503
                else:
                    server.stop()
                for _ in range(3):
                    for target in ("/media/segment.ts", "/media/film.mp4"):
                        reply = shielded.fetch(target)
                        assert (reply.status, reply.body, reply.is_complete) == (200, DATA, True), failure
                cold = shielded.fetch("/media/cold.ts")
                assert cold.status in {502, 503, 504}


@pytest.mark.parametrize("selected", parameters(SHIELDS, WAYS))
def test_a_body_that_s3_truncates(selected: Selected) -> None:
    engine, way = selected
    item = ScriptedObject(DATA, sent=5000, truncates=True)
    with item.serve() as s3:
        server = Signing(way, Bucket(f"{s3.url}/bucket"), has_storage_cache=False)
        server.expect_error(FAILURES)
        with server, engine.shield(server.port) as shield:
            shielded = Shielded(engine, server, shield)
            for target in ("/media/segment.ts", "/media/film.mp4"):
                item.sent = 5000
                reply = shielded.fetch(target)
                assert reply.status >= 500 or (not reply.is_complete and DATA.startswith(reply.body))
                item.sent = None
                deadline = time.monotonic() + 10
                while (reply := shielded.fetch(target)).status >= 500:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                assert (reply.status, reply.body, reply.is_complete) == (200, DATA, True)


@pytest.mark.parametrize("selected", parameters(SHIELDS, WAYS, slow=True))
def test_an_object_that_changes(selected: Selected, s3: EmbeddedS3) -> None:
    """It is never mixed with its predecessor, whichever slices are stored: one that becomes shorter, and longer."""
    engine, way = selected
    aged = {"Cache-Control": "max-age=1"}
    long, short = os.urandom(MB) * 3, b"now it is short"
    server = Signing(way, Bucket.of(s3), has_storage_cache=False)
    server.expect_error(FAILURES)
    with server, engine.shield(server.port, SHORT_TIMES[engine.name]) as shield:
        shielded = Shielded(engine, server, shield)
        for before, after in ((long, short), (short, long)):
            target = f"/media/{engine.name}-{way}/{len(before)}.mp4"
            s3.put("bucket", target.removeprefix("/media/"), before, headers=aged)
            assert shielded.fetch(target).body == before
            time.sleep(2.1)  # all slices are old, and one of them is read again
            assert shielded.fetch(target, range="bytes=0-9").status == 206
            s3.put("bucket", target.removeprefix("/media/"), after, headers=aged)
            deadline = time.monotonic() + 20
            while (reply := shielded.fetch(target)).body != after or not reply.is_complete:
                assert (
                    reply.status == 200 and (before if reply.is_complete else before[: len(reply.body)]) == reply.body
                )
                assert time.monotonic() < deadline
                time.sleep(0.2)
