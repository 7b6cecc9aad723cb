"""docs/caching.md: what its blocks do, also with the caches in front of httpd, which tests/install.sh unpacks."""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.chain.programs import Nginx, Program, Varnish
from tests.docs.blocks import Block, blocks_of
from tests.docs.completion import completed
from tests.docs.names import Names
from tests.docs.pages import ROOT
from tests.httpd.conftest import NEEDS_SSL, ONE_CHILD
from tests.httpd.conftest import checked as checked
from tests.httpd.machine import find_program, unpacked_environment
from tests.httpd.server import Httpd, Reply
from tests.s3 import EmbeddedS3

BUCKET = "mybucket"
WAYS = ("gateway", "proxy")
DATA = bytes(range(256)) * 40
LARGE = os.urandom(1 << 20) * 3
FILM, LIST, AGED, SHORT = (f"/media/film/{name}" for name in ("film.mp4", "list.m3u8", "aged.mp4", "short.mp4"))
OBJECTS = {
    "film.mp4": "",
    "list.m3u8": "",
    "aged.mp4": "max-age=600",
    "short.mp4": "max-age=1",
    "secret.mp4": "",
    "password.mp4": "",
    "password-public.mp4": "public, max-age=600",
}
RULE = "<Location /media/film/secret.mp4>\nRequire expr \"req_novary('X-Ok') == 'y'\"\n</Location>\n"
HTCACHECLEAN = find_program("htcacheclean")
SITE, OTHER_SITE = "https://player.example.com", "https://other.example"
BLOCKS = [block for block in blocks_of(ROOT / "docs" / "caching.md") if not block.untested_because]

pytestmark = NEEDS_SSL


def block(words: str) -> Block:
    """The only block with these words."""
    (found,) = (one for one in BLOCKS if words in one.text)
    return found


LIFETIMES, CACHE, CDN = block("setifempty"), block("CacheRoot"), block("X-Cdn-Secret")
CORS, CORS_SITES = block('Access-Control-Allow-Origin   "*"'), block("SetEnvIf Origin")
NGINX, VARNISH = block("proxy_cache_path"), block("vcl 4.1")


@pytest.fixture(scope="module")
def stoppable(certificate: Certificate) -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=(BUCKET,), tls=certificate) as server:
        yield server


@pytest.fixture
def s3(stoppable: EmbeddedS3) -> EmbeddedS3:
    """A running S3 with all objects. A test may stop it and replace objects."""
    if not stoppable.running:
        stoppable.start()
    for name, lifetime in OBJECTS.items():
        stoppable.put(BUCKET, f"film/{name}", DATA, headers={"Cache-Control": lifetime} if lifetime else {})
    for name, data in (("large.mp4", LARGE), ("a//b", b"two slashes"), ("a/b", b"one slash")):
        stoppable.put(BUCKET, f"film/{name}", data)
    return stoppable


@pytest.fixture
def start(s3: EmbeddedS3, names: Names, checked: list[Httpd]) -> Callable[..., Httpd]:
    """A function that starts an httpd with one bucket, the blocks and further lines."""

    def started(way: str, *parts: Block | str, quick: bool = False) -> Httpd:
        names.servers = {"https": s3, "http": s3}
        first = next(part for part in parts if isinstance(part, Block))
        rest = "\n".join(part if isinstance(part, str) else part.text for part in parts if part is not first)
        text = completed(replace(first, keys={"with": way})) + rest
        if quick:
            text = text.replace("CacheQuickHandler       Off", "CacheQuickHandler On")
        httpd = Httpd(names.localized(text) + ONE_CHILD)
        for folder in names.folder.rglob("mod_cache_disk"):
            folder.chmod(0o777)
        checked.append(httpd)
        httpd.start()
        return httpd

    return started


def fetch_stored(httpd: Httpd, target: str, **headers: str) -> Reply:
    """Fetch until the answer is from the cache, which stores an object after its client has got it."""
    for _ in range(100):
        reply = httpd.fetch(target, method="GET", timeout=30.0, **headers)
        if reply.headers["X-Cache"].startswith("HIT"):
            return reply
        time.sleep(0.02)
    raise AssertionError(f"never from the cache: {reply.headers}")


@pytest.mark.parametrize("way", WAYS)
def test_lifetimes_of_objects_without_one(start: Callable[..., Httpd], way: str) -> None:
    httpd = start(way, LIFETIMES)
    etag = httpd.fetch(FILM).headers["ETag"]
    for target, lifetime in ((FILM, "max-age=86400"), (LIST, "max-age=2"), (AGED, "max-age=600")):
        for status, headers in ((200, {}), (206, {"range": "bytes=0-9"}), (304, {"if_none_match": etag})):
            reply = httpd.fetch(target, method="GET", timeout=30.0, **headers)
            assert (reply.status, reply.headers.get_all("Cache-Control")) == (status, [lifetime])
    assert httpd.fetch("/media/film/none").headers["Cache-Control"] is None


@pytest.mark.parametrize("way", WAYS)
def test_the_cache_inside_httpd(start: Callable[..., Httpd], s3: EmbeddedS3, way: str) -> None:
    httpd = start(way, CACHE, LIFETIMES, RULE, "MergeSlashes Off\n")
    assert httpd.fetch(FILM, range="bytes=0-9").status == 206
    assert httpd.fetch(FILM, method="HEAD").headers["X-Cache"].startswith("MISS")
    assert httpd.fetch(FILM).body == DATA
    assert fetch_stored(httpd, FILM).body == DATA
    s3.clear()
    for headers in ({}, {"host": "x.example"}, {"cache_control": "no-cache"}, {"cache_control": "no-store"}):
        assert httpd.fetch(f"{FILM}?x=1", method="GET", timeout=30.0, **headers).body == DATA
    assert httpd.fetch(FILM, range="bytes=5-9").body == DATA[5:10]
    assert httpd.fetch(FILM, method="HEAD").headers["Content-Length"] == str(len(DATA))
    assert s3.requests() == []
    assert fetch_stored(httpd, "/media/film/large.mp4").body == LARGE
    assert [fetch_stored(httpd, f"/media/film/{key}").body for key in ("a//b", "a/b")] == [b"two slashes", b"one slash"]
    fetch_stored(httpd, "/media/film/secret.mp4", x_ok="y")
    httpd.expect_error("AH01630: client denied")
    assert httpd.fetch("/media/film/secret.mp4").status == 403
    basic = {"authorization": "Basic dmlld2VyOnBhc3N3b3Jk"}
    fetch_stored(httpd, "/media/film/password-public.mp4", **basic)
    for _ in range(5):
        assert httpd.fetch("/media/film/password.mp4", method="GET", timeout=30.0, **basic).body == DATA
        time.sleep(0.05)
    s3.clear()
    assert httpd.fetch("/media/film/password.mp4", method="GET", timeout=30.0, **basic).body == DATA
    assert len(s3.requests()) == 1


@pytest.mark.parametrize("way", WAYS)
def test_with_the_quick_handler_a_cache_precedes_access_rules(start: Callable[..., Httpd], way: str) -> None:
    """Why the block has CacheQuickHandler Off."""
    httpd = start(way, CACHE, LIFETIMES, RULE, quick=True)
    fetch_stored(httpd, "/media/film/secret.mp4", x_ok="y")
    assert httpd.fetch("/media/film/secret.mp4").body == DATA


@pytest.mark.parametrize("way", WAYS)
def test_a_stale_object_of_the_cache_inside_httpd(start: Callable[..., Httpd], s3: EmbeddedS3, way: str) -> None:
    httpd = start(way, CACHE)
    fetch_stored(httpd, SHORT)
    time.sleep(2.1)
    s3.clear()
    assert httpd.fetch(SHORT).headers["X-Cache"].startswith("REVALIDATE")
    assert [entry["status"] for entry in s3.requests()] == [304]
    time.sleep(2.1)
    s3.stop()
    httpd.expect_error("USPS3|AH00957|AH01114|AH01102|AH00898")
    for _ in range(5):
        reply = httpd.fetch(SHORT)
        assert (reply.status, reply.body, reply.headers["Warning"]) == (200, DATA, "111 Revalidation failed")


@pytest.mark.skipif(not HTCACHECLEAN, reason="htcacheclean (apache2-utils) is not installed")
def test_an_object_is_removed_from_the_cache_inside_httpd(start: Callable[..., Httpd], names: Names) -> None:
    httpd = start("gateway", CACHE, LIFETIMES, CORS_SITES)
    for origin in (SITE, "https://www.example.com"):
        fetch_stored(httpd, FILM, origin=origin)
    (folder,) = names.folder.rglob("mod_cache_disk")
    command = [HTCACHECLEAN, "-p", str(folder), f"http://media.example.com{FILM}?"]
    subprocess.run(command, check=True, timeout=30, env=unpacked_environment())
    for origin in (SITE, "https://www.example.com"):
        assert httpd.fetch(FILM, origin=origin).headers["X-Cache"].startswith("MISS")


@pytest.mark.parametrize("cached", [False, True], ids=["no-cache", "cache"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cors", [CORS, CORS_SITES], ids=["any-site", "named-sites"])
def test_cors(start: Callable[..., Httpd], way: str, cors: Block, cached: bool) -> None:
    """Each response has the header once: a browser rejects two."""
    rule = "<Location /media/film/secret.mp4>\nRequire all denied\n</Location>\n"
    httpd = start(way, cors, *([CACHE, LIFETIMES] if cached else []), rule)
    httpd.expect_error("AH01630")
    etag = httpd.fetch(FILM, origin=SITE).headers["ETag"]
    requests: list[tuple[str, int, dict[str, str]]] = [
        (FILM, 200, {}),
        (FILM, 206, {"range": "bytes=0-9"}),
        (FILM, 304, {"if_none_match": etag}),
        (FILM, 412, {"if_match": '"x"'}),
        (FILM, 416, {"range": "bytes=99999999-"}),
        (FILM, 204 if cors is CORS else 405, {"method": "OPTIONS"}),
        (FILM, 405, {"method": "DELETE"}),
        ("/media/film/none", 404, {}),
        ("/media/film/secret.mp4", 403, {}),
    ]
    allowed = "*" if cors is CORS else SITE
    for _ in range(3):  # the cache stores an object after its client has got it
        for target, status, headers in requests:
            reply = httpd.fetch(target, **{"method": "GET", "timeout": 30.0, "origin": SITE, **headers})  # type: ignore[arg-type]
            assert reply.status == status
            assert reply.headers.get_all("Access-Control-Allow-Origin") == [allowed], (target, status)
            assert reply.headers["Vary"] == (None if cors is CORS else "Origin")
        if cors is CORS_SITES:
            assert httpd.fetch(FILM, origin=OTHER_SITE).headers["Access-Control-Allow-Origin"] is None
        time.sleep(0.1)


@pytest.mark.parametrize("way", WAYS)
def test_only_the_cdn_may_read(start: Callable[..., Httpd], way: str) -> None:
    httpd = start(way, CDN)
    httpd.expect_error("AH01630: client denied")
    assert httpd.fetch(FILM).status == 403
    reply = httpd.fetch(FILM, x_cdn_secret="a long random word")
    assert (reply.status, reply.headers["Vary"]) == (200, None)


# --- caches in front of httpd


def ask(port: int, target: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send a request to a cache."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@contextmanager
def cache_in_front(name: str, folder: Path, backend: int) -> Iterator[Program]:
    """Run a cache with its block in front of httpd."""
    program, block, old = {
        "nginx": (Nginx, NGINX, {"127.0.0.1:8080": f"127.0.0.1:{backend}"}),
        "varnish": (Varnish, VARNISH, {'"8080"': f'"{backend}"'}),
    }[name]
    file = folder / f"{name}.block"
    file.write_text(block.text)
    with program(file, old) as cache:
        yield cache


FRONTS = [
    pytest.param(name, marks=pytest.mark.skipif(bool(program.missing()), reason=program.missing()))
    for name, program in (("nginx", Nginx), ("varnish", Varnish))
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("front", FRONTS)
def test_a_cache_in_front(start: Callable[..., Httpd], s3: EmbeddedS3, names: Names, way: str, front: str) -> None:
    httpd = start(way, CORS)
    with cache_in_front(front, names.folder, httpd.port) as cache:
        port = cache.port
        s3.clear()
        with ThreadPoolExecutor(50) as pool:  # all at once
            replies = list(pool.map(lambda _: ask(port, f"{FILM}?x=1"), range(100)))
        assert {(status, body) for status, _, body in replies} == {(200, DATA)}
        assert len(s3.requests()) == 1
        etag = replies[0][1]["ETag"]
        assert ask(port, FILM, if_none_match=etag)[0] == 304
        assert ask(port, FILM, range="bytes=5-9", if_range=etag)[::2] == (206, DATA[5:10])
        assert ask(port, FILM, range="bytes=5-9", if_range='"x"')[::2] == (200, DATA)
        assert ask(port, FILM, origin=SITE)[1].get_all("Access-Control-Allow-Origin") == ["*"]
        assert len(s3.requests()) == 1
        for _ in range(2):
            status, _, body = ask(port, "/media/film/large.mp4", range="bytes=1048570-1048589")
            assert (status, body) == (206, LARGE[1048570:1048590])
        assert len(s3.requests()) == (3 if front == "nginx" else 2)  # two slices, or the whole object
        assert ask(port, "/media/film/large.mp4")[2] == LARGE
        assert ask(port, "/media/film/large.mp4", range="bytes=-9")[2] == LARGE[-9:]
        assert ask(port, "/media/film/large.mp4", range="bytes=0-1,5-6")[0] == (200 if front == "nginx" else 416)
        assert [ask(port, f"/media/film/{key}")[2] for key in ("a//b", "a/b")] == [b"two slashes", b"one slash"]
        assert [ask(port, "/media/film/none")[0] for _ in range(2)] == [404, 404]
        ask(port, SHORT)
        time.sleep(2.1)
        s3.clear()
        assert [ask(port, SHORT)[2] for _ in range(2)] == [DATA] * 2
        time.sleep(0.2)
        assert [entry["status"] for entry in s3.requests()] == [304]
        time.sleep(2.1)
        s3.stop()
        httpd.expect_error("USPS3|AH00957|AH01114|AH01102|AH00898")
        for _ in range(4):
            assert ask(port, SHORT)[::2] == (200, DATA)
            time.sleep(0.2)
        if front == "varnish":
            assert isinstance(cache, Varnish)
            command = [find_program("varnishadm"), "-n", str(cache.run), "ban", "req.url", "==", FILM]
            subprocess.run(command, check=True, timeout=30, env=unpacked_environment())
            assert ask(port, FILM)[0] in {502, 503}


@pytest.mark.skipif(bool(Nginx.missing()), reason=Nginx.missing())
def test_an_object_that_changes_is_not_mixed_with_its_predecessor(
    start: Callable[..., Httpd], s3: EmbeddedS3, names: Names
) -> None:
    httpd = start("gateway", CORS)
    with cache_in_front("nginx", names.folder, httpd.port) as cache:
        port = cache.port
        ask(port, "/media/film/large.mp4", range="bytes=0-9")
        s3.put(BUCKET, "film/large.mp4", b"x" * len(LARGE))
        with pytest.raises(http.client.IncompleteRead) as raised:
            ask(port, "/media/film/large.mp4")
        assert LARGE.startswith(raised.value.partial)
