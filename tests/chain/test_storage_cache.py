"""apache/chain/storage_cache: a cache between httpd's public virtual host and the one that signs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import pytest

from tests.chain.client import fetch, fetch_at_once, shown
from tests.chain.engines import NGINX, STORAGE_CACHES, Engine, parameters
from tests.chain.programs import CHAIN
from tests.chain.signing import WAYS, Bucket
from tests.chain.storage_chain import SHORT_TIMES, StorageChain, storage_chain
from tests.s3 import EmbeddedS3

MB = 1 << 20
LARGE = os.urandom(MB) * 4 + b"the last slice"


Selected = tuple[Engine, str]
EACH = parameters(STORAGE_CACHES, WAYS)


@pytest.fixture(scope="module", params=EACH)
def chain(request: pytest.FixtureRequest, bucket_server: EmbeddedS3) -> Iterator[StorageChain]:
    """A chain for many tests: each has a key of its own."""
    engine, way = request.param
    with storage_chain(engine, way, Bucket.of(bucket_server)) as started:
        yield started


@pytest.fixture
def put(chain: StorageChain, s3: EmbeddedS3, request: pytest.FixtureRequest) -> Callable[..., str]:
    """A function that stores an object of this test, and returns its URL's path."""

    def stored(data: bytes, name: str = "film.mp4", **headers: str) -> str:
        key = f"{re.sub('[^a-zA-Z0-9]+', '-', request.node.name)}/{name}"
        s3.put("bucket", key, data, headers={key.replace("_", "-"): value for key, value in headers.items()})
        s3.clear()
        return f"/media/{key}"

    return stored


def test_many_readers_of_one_cold_range(chain: StorageChain, s3: EmbeddedS3, put: Callable[..., str]) -> None:
    """200 readers through the public virtual host cost S3 one request, of one slice with nginx; later readers none."""
    target = put(LARGE)
    first = fetch_at_once(200, chain.port, [target], range=f"bytes={2 * MB + 5}-{2 * MB + 1028}")
    assert {shown(reply) for reply in first} == {(206, LARGE[2 * MB + 5 : 2 * MB + 1029])}
    lengths = [entry["length"] for entry in s3.requests()]
    assert lengths == ([MB] if chain.engine.has_slices else [len(LARGE)])
    s3.clear()
    second = fetch_at_once(200, chain.port, [target], range=f"bytes={2 * MB + 5}-{2 * MB + 1028}")
    assert {shown(reply) for reply in second} == {(206, LARGE[2 * MB + 5 : 2 * MB + 1029])}
    assert s3.requests() == []


def test_many_readers_of_one_cold_object(chain: StorageChain, s3: EmbeddedS3, put: Callable[..., str]) -> None:
    target = put(LARGE)
    replies = fetch_at_once(30, chain.port, [target])
    assert {shown(reply) for reply in replies} == {(200, LARGE)}
    ranges = sorted(entry["headers"].get("range", "") for entry in s3.requests())
    slices = [f"bytes={start}-{start + MB - 1}" for start in range(0, 5 * MB, MB)]
    assert ranges == (slices if chain.engine.has_slices else [""])


def test_many_readers_of_what_is_not_there(chain: StorageChain, s3: EmbeddedS3, put: Callable[..., str]) -> None:
    """They get the answer together, not one after the other: a missing object, and an empty one."""
    empty = put(b"")
    for target, expected in ((f"{empty}.missing", 404), (empty, 200)):
        s3.clear()
        began = time.monotonic()
        replies = fetch_at_once(100, chain.port, [target])
        assert {reply.status for reply in replies} == {expected}
        assert time.monotonic() - began < 20  # half a second for each of them would be 50
        assert len(s3.requests()) <= 2


KEYS = {
    "a%20b+c%25.txt": "a b+c%.txt",
    "a%20b%2Bc%25.txt": "a b+c%.txt",
    "caf%C3%A9": "café",
    "a//b": "a//b",
    "a/b": "a/b",
    "a%2Fb": "a/b",
    "a%2fb": "a/b",
    "a%252Fb": "a%2Fb",
    "a%3Fb": "a?b",
    "a%23b;c=d&e'f(g)": "a#b;c=d&e'f(g)",
    "/c": "/c",
    "folder/": "folder/",
    ".hidden": ".hidden",
    "list%20of.m3u8": "list of.m3u8",
    "x//list.m3u8": "x//list.m3u8",
    "film%20bytes=0-1048575": "film bytes=0-1048575",
    "film": "film",
    "film?version=1": "film",
    "%E2%82%AC" * 100: "€" * 100,
}


def test_keys(chain: StorageChain, s3: EmbeddedS3) -> None:
    """Each byte of the path arrives, and no object is taken for another, when it is stored too."""
    for key in KEYS.values():
        s3.put("bucket", key, f"the object {key}".encode())
    s3.clear()
    for _ in range(2):
        for path, key in KEYS.items():
            assert shown(fetch(chain.port, f"/media/{path}")) == (200, f"the object {key}".encode()), path
    expected = dict.fromkeys(KEYS.values(), 1)
    counted = dict.fromkeys(expected, 0)
    for entry in s3.requests():
        assert entry["method"] == "GET"
        counted[unquote(entry["target"]).removeprefix("/bucket/")] += 1
    if chain.engine.has_slices:
        assert counted == expected
    else:  # Varnish stores an object once for each spelling of its path
        spellings = {path.partition("?")[0] for path in KEYS}
        assert counted == {key: sum(KEYS[path] == key for path in spellings) for key in expected}
    for path in ("a/../a/b", "x/%2e%2e/a/b", "a/./b", "x%2F..%2Fa/b", "x/%2E%2E%2Fa%2fb", "a/b/..", "a/b/.?x", "a/%00"):
        assert fetch(chain.port, f"/media/{path}").status in {400, 404}, path
    assert fetch(chain.port, "/media/").status == 404


def test_keys_with_queries(s3: EmbeddedS3) -> None:
    """The key that the comment of nginx.conf has for S3PassQuery: a query is part of it, and not taken for a path."""
    (key,) = re.findall(r'With S3PassQuery: ("[^"]+")', (CHAIN / "storage_cache" / NGINX.file).read_text())
    if reason := NGINX.program.missing():
        pytest.skip(reason)
    for name in ("a", "a?v=1"):
        s3.put("bucket", name, f"the object {name}".encode())
    s3.clear()
    with storage_chain(NGINX, "gateway", Bucket.of(s3), {'"$uri $slice_range"': key}) as chain:
        for path, name in {"a%3Fv=1": "a?v=1", "a?v=1": "a", "a?v=2": "a", "a": "a"}.items():
            assert shown(fetch(chain.cache.port, f"/bucket/{path}")) == (200, f"the object {name}".encode()), path
    assert len(s3.requests()) == 4


def test_ranges(chain: StorageChain, put: Callable[..., str]) -> None:
    """Cold and stored: a reader gets the range, or the whole object, or 416."""
    size = len(LARGE)
    expected: dict[str, tuple[int, bytes | None]] = {
        "bytes=0-": (206, LARGE),
        f"bytes={MB - 6}-{MB + 13}": (206, LARGE[MB - 6 : MB + 14]),
        f"bytes={size - 3}-": (206, LARGE[-3:]),
        f"bytes={MB}-{9 * size}": (206, LARGE[MB:]),
        "bytes=-9": (206, LARGE[-9:]),
        f"bytes=-{9 * size}": (206, LARGE),
        "bytes=0-1,5-6": (200, LARGE),
        f"bytes={size}-": (416, None),
        f"bytes={99 * MB}-{99 * MB + 5}": (416, None),
        "bytes=-0": (416, None),
        "items=0-1": (200, LARGE),
    }
    for number, (value, (status, body)) in enumerate(expected.items()):
        target = put(LARGE, f"{number}.mp4")
        for _ in range(2):
            reply = fetch(chain.port, target, range=value)
            assert (reply.status, reply.is_complete) == (status, True), value
            assert body is None or reply.body == body, value
    # Not a range: S3 ignores it, the caches do not.
    assert fetch(chain.port, put(LARGE), range="bytes=9-5").status in {200, 416}


@pytest.mark.parametrize("name", ["empty.mp4", "empty.m3u8"])
def test_an_empty_object(chain: StorageChain, put: Callable[..., str], name: str) -> None:
    target = put(b"", name)
    for _ in range(3):
        assert shown(fetch(chain.port, target)) == (200, b"")
        head = fetch(chain.port, target, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert fetch(chain.port, target, range="bytes=0-9").status in {200, 416}


def test_head_before_get(chain: StorageChain, s3: EmbeddedS3, put: Callable[..., str]) -> None:
    target = put(LARGE)
    head = fetch(chain.port, target, "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(LARGE)))
    before = len(s3.requests())
    assert shown(fetch(chain.port, target)) == (200, LARGE)
    assert fetch(chain.port, target, "HEAD").headers["Content-Length"] == str(len(LARGE))
    assert (before, len(s3.requests())) == ((1, 5) if chain.engine.has_slices else (1, 1))
    assert fetch(chain.port, f"{target}.missing", "HEAD").status == 404


@pytest.mark.parametrize("name", ["film.mp4", "list.m3u8"])
def test_conditions(chain: StorageChain, s3: EmbeddedS3, put: Callable[..., str], name: str) -> None:
    data = LARGE[:5000]
    target = put(data, name)
    reply = fetch(chain.port, target, if_none_match='"another"')
    time.sleep(1.1)  # Swift's Last-Modified is in the future for up to a second, and Varnish ignores such dates
    etag, modified = reply.headers["ETag"], reply.headers["Last-Modified"]
    assert shown(reply) == (200, data)
    for headers in ({"if_none_match": etag}, {"if_modified_since": modified}):
        assert fetch(chain.port, target, **headers).status == 304
    assert shown(fetch(chain.port, target, range="bytes=5-9", if_range=etag)) == (206, data[5:10])
    assert shown(fetch(chain.port, target, range="bytes=5-9", if_range='"another"')) == (200, data)
    assert len(s3.requests()) == 1


def test_headers_for_players(chain: StorageChain, put: Callable[..., str]) -> None:
    """CORS on each status, once; a lifetime where S3 sends none, and not for errors; preflight."""
    film, playlist, aged = put(LARGE), put(b"#EXTM3U\n", "list.m3u8"), put(b"x", "aged.mp4", cache_control="max-age=77")
    etag = fetch(chain.port, film).headers["ETag"]
    site = {"origin": "https://player.example.com"}
    for target, status, lifetime, headers in (
        (film, 200, "max-age=86400", {}),
        (film, 206, "max-age=86400", {"range": "bytes=0-9"}),
        (film, 304, "max-age=86400", {"if_none_match": etag}),
        (playlist, 200, "max-age=2", {}),
        (aged, 200, "max-age=77", {}),
        (film, 416, None, {"range": f"bytes={99 * MB}-"}),
        (f"{film}.missing", 404, None, {}),
    ):
        for _ in range(2):
            reply = fetch(chain.port, target, **site, **headers)
            assert (reply.status, reply.headers["Cache-Control"]) == (status, lifetime), target
            assert reply.headers.get_all("Access-Control-Allow-Origin") == ["*"], (target, status)
            assert reply.headers["Vary"] is None
    preflight = fetch(chain.port, film, "OPTIONS", **site)
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, "*")
    assert fetch(chain.port, film, "DELETE").status == 405


@pytest.mark.parametrize("name", ["film.mp4", "list.m3u8"])
@pytest.mark.parametrize("lifetime", ["no-cache", "private, no-store", "max-age=0"])
def test_cache_control_of_s3_is_for_players(
    chain: StorageChain, s3: EmbeddedS3, put: Callable[..., str], name: str, lifetime: str
) -> None:
    """It does not send each reader to S3, nor one after the other."""
    target = put(b"#EXTM3U\n", name, cache_control=lifetime)
    replies = fetch_at_once(30, chain.port, [target])
    assert {(reply.body, reply.headers["Cache-Control"]) for reply in replies} == {(b"#EXTM3U\n", lifetime)}
    assert {reply.headers["Age"] for reply in replies} == {None}
    assert len(s3.requests()) == 1


# --- bad input


@pytest.mark.parametrize("selected", parameters(STORAGE_CACHES, WAYS, slow=True))
def test_an_object_that_appears_later_and_then_changes(selected: Selected, s3: EmbeddedS3) -> None:
    """It is never mixed with its predecessor, whichever slices are stored, and is there when the times are over."""
    engine, way = selected
    old, new, short = b"old" * MB, b"new!" * MB, b"now it is short"
    target = f"/media/{engine.name}-{way}/film.mp4"
    key = target.removeprefix("/media/")
    with storage_chain(engine, way, Bucket.of(s3), SHORT_TIMES[engine.name], fails=True) as chain:
        assert fetch(chain.port, target).status == 404
        s3.put("bucket", key, old)
        assert wait_for(chain.port, target, old) <= {b""}
        for before, after, stored in ((old, new, f"bytes={2 * MB}-{2 * MB + 9}"), (new, short, "bytes=0-9")):
            time.sleep(2.1)  # all slices are old, and one of them is read again
            assert fetch(chain.port, target, range=stored).status == 206
            s3.put("bucket", key, after)
            for part in wait_for(chain.port, target, after):
                assert before.startswith(part) or after.startswith(part)


def wait_for(port: int, target: str, body: bytes) -> set[bytes]:
    """Read an object until it is complete and has this body, for ten seconds. Returns what was read until then."""
    seen: set[bytes] = set()
    deadline = time.monotonic() + 10
    while True:
        reply = fetch(port, target)
        if reply.status == 200 and reply.is_complete and reply.body == body:
            return seen
        assert reply.status in {200, 404, 502}, reply.status
        seen.add(reply.body if reply.status == 200 else b"")
        assert time.monotonic() < deadline, (reply.status, len(reply.body), reply.headers.items())
        time.sleep(0.2)
