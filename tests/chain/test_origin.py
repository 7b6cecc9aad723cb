"""An origin that reads a private bucket by ranges, as Unified Origin does: ``reading_origin.c``.

With ``<Proxy>`` sections, in both directions of mod_proxy, and with a mount of the gateway that it reads by http. S3's
failures are in test_origin_faults.py.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chain.engines import STORAGE_CACHES, Engine, parameters
from tests.chain.origin import DIRECTIONS, ONE_LARGE_CHILD, compile_origin, mount, mounted, origin, proxy
from tests.chain.samples import make_samples
from tests.chain.signing import WAYS as SIGNING_WAYS
from tests.chain.signing import Bucket
from tests.chain.storage_chain import storage_chain
from tests.httpd import http2
from tests.httpd.conftest import MODES, settings
from tests.httpd.conftest import checked as checked
from tests.httpd.machine import has_module
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

#: 64 small samples and three large ones.
FILM = make_samples(*(200 + number * 131 for number in range(64)), 2 << 20, 3 << 20, (5 << 20) + 1)
SMALL = (0, 30)
MEGABYTE = 1 << 20
WAYS = [f"{way}-{direction}" for way, direction in itertools.product(("proxy", "gateway"), DIRECTIONS)]
#: In each mode.
PATHS = [f"{way}-{mode}" for way, mode in itertools.product(WAYS, MODES)]


def config(s3: EmbeddedS3) -> str:
    """An origin for each way and signing mode; each mode has a bucket of its own."""
    parts = []
    for mode in MODES:
        url, own = f"{s3.url}/{mode}", settings(s3, mode)
        parts += [proxy(url, own), mount(f"/bucket-{mode}", url, own)]
        for direction in DIRECTIONS:
            parts.append(origin(f"/proxy-{direction}-{mode}", url, direction))
            parts.append(origin(f"/gateway-{direction}-{mode}", mounted(f"/bucket-{mode}"), direction))
    return "".join(parts)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The line that loads the module."""
    return compile_origin(tmp_path_factory.mktemp("origin"))


@pytest.fixture(scope="module")
def bucket() -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=tuple(MODES)) as server:
        for name in MODES:
            server.put(name, "film/1 +.mp4", FILM.data)
        yield server


@pytest.fixture(scope="module")
def httpd(bucket: EmbeddedS3, module: str) -> Iterator[Httpd]:
    h2c = "Protocols h2c http/1.1\n" if has_module("http2") else ""
    with Httpd(module + h2c + ONE_LARGE_CHILD + config(bucket)) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


def target(path: str, first: int | None = None, last: int | None = None) -> str:
    """The URL of the samples from ``first`` to ``last``, or of all."""
    return f"/{path}/film/1%20+.mp4" + ("" if first is None else f"?{first}-{last}")


@pytest.mark.parametrize("path", PATHS)
def test_index_and_samples(httpd: Httpd, bucket: EmbeddedS3, path: str) -> None:
    """Each read is signed, none is left out or made twice, and one connection to S3 is used for all of them."""
    bucket.clear()
    reply = httpd.fetch(target(path))
    assert (reply.status, reply.body == FILM.body()) == (200, True)
    requests = bucket.requests()
    assert [entry["headers"]["range"] for entry in requests] == FILM.ranges()
    assert {entry["status"] for entry in requests} == {206}
    version, _, place = path.split("-", 2)[2].partition("-")
    scheme = {"v4": "AWS4-HMAC-SHA256", "v2": "AWS"}[version] if place == "header" else None
    assert {entry["headers"].get("authorization") for entry in requests} == {scheme}
    assert all(("Signature=" in entry["target"]) == (place == "query") for entry in requests)
    assert len({entry["port"] for entry in requests}) == 1


@pytest.mark.parametrize("path", PATHS)
def test_nothing_that_signs_is_seen_by_the_module(httpd: Httpd, bucket: EmbeddedS3, path: str) -> None:
    """Neither in the subrequest after its end, nor in the main request: headers, variables, notes, URL.

    ``fetch`` searches the body for the secret key, signing keys and signatures.
    """
    shown = httpd.fetch(target(path, *SMALL), x_show="on", authorization="Basic eDp5").body.decode()
    assert "request: of the subrequest\n" in shown and f"uri: /{path}/film/1 +.mp4\n" in shown
    assert "Authorization: Basic eDp5\n" in shown.title().replace("Edp5", "eDp5")
    for word in ("AWS4-HMAC", "AWS ", "Signature", "X-Amz", "AWSAccessKeyId", bucket.access_key, bucket.secret_key):
        assert word.lower() not in shown.lower(), word


@pytest.mark.parametrize("way", WAYS)
def test_the_clients_own_headers_concern_the_answer_alone(httpd: Httpd, bucket: EmbeddedS3, way: str) -> None:
    path, body = f"{way}-v4-header", FILM.body(*SMALL)
    bucket.clear()
    reply = httpd.fetch(target(path, *SMALL), range="bytes=1000-1999")
    assert (reply.status, reply.body) == (206, body[1000:2000])
    reply = httpd.fetch(target(path, *SMALL), range="bytes=5-9", if_range='"x"')
    assert (reply.status, reply.body == body) == (200, True)
    for name in ("if_none_match", "if_match"):
        assert httpd.fetch(target(path, *SMALL), method="GET", timeout=30.0, **{name: '"x"'}).body == body
    assert [entry["headers"]["range"] for entry in bucket.requests()] == FILM.ranges(*SMALL) * 4
    head = httpd.fetch(target(path, *SMALL), method="HEAD")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(body)), b"")


@pytest.mark.parametrize("way", WAYS)
def test_a_missing_object_and_a_wrong_query(httpd: Httpd, way: str) -> None:
    httpd.expect_error("reading_origin: bytes=0-23 of .*: returned (404|0), status 404, ")
    assert httpd.fetch(f"/{way}-v4-header/none").status == 404
    assert httpd.fetch(target(f"{way}-v4-header", 5, 4)).status == 400


def test_many_clients_at_once(httpd: Httpd, bucket: EmbeddedS3) -> None:
    """Their reads are not mixed up, and need no more connections to S3 than there are clients."""
    clients, asked = 12, [(number * 4, number * 4 + 11) for number in range(13)]
    jobs = [(path, *span) for path, span in zip(itertools.cycle(PATHS), asked * 3)]
    bucket.clear()
    with ThreadPoolExecutor(clients) as pool:
        replies = list(pool.map(lambda job: httpd.fetch(target(*job)), jobs))
    assert [reply.status for reply in replies] == [200] * len(jobs)
    assert all(reply.body == FILM.body(first, last) for reply, (_, first, last) in zip(replies, jobs, strict=True))
    requests = bucket.requests()
    assert len(requests) == sum(len(FILM.ranges(first, last)) for _, first, last in jobs)
    assert len({entry["port"] for entry in requests}) <= clients * 2 < len(requests) / 10


@pytest.mark.skipif(not has_module("http2"), reason="this httpd has no mod_http2")
@pytest.mark.parametrize("way", WAYS)
def test_streams_of_http_2(httpd: Httpd, way: str) -> None:
    """Several at once on one connection, one of them with a large sample."""
    spans = [(0, 9), (10, 19), (60, 65), (20, 29), (5, 14), (30, 39)]
    streams = http2.ask(httpd.port, *({"path": target(f"{way}-v4-header", *span)} for span in spans))
    assert [(stream.status, stream.ended) for stream in streams] == [(200, True)] * len(spans)
    assert all(stream.body == FILM.body(*span) for stream, span in zip(streams, spans, strict=True))


@pytest.mark.parametrize("way", ["proxy-reverse", "gateway-reverse"])
def test_clients_that_disconnect(httpd: Httpd, bucket: EmbeddedS3, way: str) -> None:
    """While the origin reads, and while it answers. The next client gets what it should."""
    path = target(f"{way}-v4-header", 0, 64)
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    before = httpd.children()
    for seconds in (0.0, 0.05, 0.2):
        with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
            client.sendall(request)
            time.sleep(seconds)
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
        client.sendall(request)
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    assert httpd.fetch(path).body == FILM.body(0, 64)
    assert httpd.children() == before


@pytest.mark.parametrize("mpm", ["event", "worker"])
def test_a_graceful_restart_while_the_origin_reads(
    mpm: str, bucket: EmbeddedS3, module: str, checked: list[Httpd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both MPMs that Unified Streaming names. Every answer is whole."""
    if not has_module(f"mpm_{mpm}"):
        pytest.skip(f"this httpd has no mpm_{mpm}")
    monkeypatch.setattr("tests.httpd.server.MPM", mpm)
    httpd = Httpd(module + config(bucket) + "StartServers 2\n")
    checked.append(httpd)
    httpd.start()
    with ThreadPoolExecutor(len(WAYS)) as pool:
        for _ in range(2):
            bucket.clear()
            bodies = [pool.submit(lambda way: httpd.fetch(target(f"{way}-v4-header", 0, 64)).body, way) for way in WAYS]
            while len(bucket.requests()) < 20:
                assert not any(body.done() for body in bodies)
            httpd.begin_reload()
            assert [body.result() == FILM.body(0, 64) for body in bodies] == [True] * len(WAYS)


@pytest.mark.parametrize("selected", parameters(STORAGE_CACHES, SIGNING_WAYS))
def test_behind_a_storage_cache(
    selected: tuple[Engine, str], bucket: EmbeddedS3, module: str, checked: list[Httpd]
) -> None:
    """The origin is on the machine of the cache. S3 sends each byte once, however often the origin reads it."""
    engine, way = selected
    with storage_chain(engine, way, Bucket.of(bucket, "v4-header")) as chain:
        url = f"http://127.0.0.1:{chain.signing.storage_port}/bucket"
        sections = [origin(f"/{direction}", url, direction) for direction in DIRECTIONS]
        httpd = Httpd(module + ONE_LARGE_CHILD + proxy(url, []) + "".join(sections))
        checked.append(httpd)
        httpd.start()
        bucket.clear()
        with ThreadPoolExecutor(4) as pool:
            bodies = list(pool.map(lambda direction: httpd.fetch(target(direction)).body, DIRECTIONS * 2))
        assert [body == FILM.body() for body in bodies] == [True] * 4
        ranges = [entry["headers"].get("range") for entry in bucket.requests()]
        assert len(ranges) == len(set(ranges)) == (1 + len(FILM.data) // MEGABYTE if engine.has_slices else 1)
