"""An origin that reads a bucket by ranges, while S3 fails: it answers with an error, and never with wrong bytes.

Each fault is tested in each part that the origin reads, with ``<Proxy>`` sections in both directions of mod_proxy, and
with a mount of the gateway that it reads by http.
"""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.chain.origin import ONE_LARGE_CHILD, compile_origin, mount, mounted, origin, proxy
from tests.chain.samples import make_samples
from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, close, error, first, reset, stall
from tests.httpd import http2
from tests.httpd.conftest import settings
from tests.httpd.machine import free_port, has_module
from tests.httpd.server import Httpd, Reply
from tests.leaks import ACCESS_KEY, SECRET_KEY
from tests.s3 import EmbeddedS3

FILM = make_samples(4_000, 300, 700_000, 5_000, 9_000)
OTHER = make_samples(4_000, 300, 700_000, 5_000, 9_000, seed=1)
TYPE = ("Content-Type", "video/mp4")
ETAG, OTHER_ETAG = ("ETag", '"film"'), ("ETag", '"other"')
#: The parts in which S3 fails. The index: its first bytes, the end of the object, the table.
PARTS = {
    "header": (0, 23),
    "end": (len(FILM.data) - 8, len(FILM.data) - 1),
    "table": (FILM.table[0], sum(FILM.table) - 1),
    "small": (FILM.places[1][0], sum(FILM.places[1]) - 1),
    "large": (FILM.places[2][0], sum(FILM.places[2]) - 1),
}
PORT = free_port()
URL, DOWN = f"http://127.0.0.1:{PORT}", f"http://127.0.0.1:{free_port()}"
KEYS = [
    f"SetEnv S3AccessKey {ACCESS_KEY}",
    f"SetEnv S3SecretKey {SECRET_KEY}",
    "SetEnv S3Region eu-central-1",
    "SetEnv S3UseHeaders on",
]
PROXY_SET = "ProxySet enablereuse=on keepalive=on retry=0 timeout=2"
GATEWAY_SET = ["SetEnv S3Retries 1", 'SetEnv S3ProxySet "retry=0 timeout=2"']
WAYS = ("proxy-forward", "proxy-reverse", "gateway")


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from ``start`` to ``stop``, without ``stop``: what S3 is asked for."""

    start: int
    stop: int

    @property
    def data(self) -> bytes:
        return FILM.data[self.start : self.stop]

    @property
    def half(self) -> bytes:
        return self.data[: self.length // 2]

    @property
    def length(self) -> int:
        return self.stop - self.start

    def content_range(self, start: int = 0, stop: int = 0, total: int = 0) -> tuple[str, str]:
        """Content-Range, with other numbers than those that are right if they are given."""
        end = (stop or self.stop) - 1
        return "Content-Range", f"bytes {start or self.start}-{end}/{total or len(FILM.data)}"

    def answer(self, *headers: tuple[str, str], status: int = 206, length: int | None = -1) -> bytes:
        return answer(status, self.data, TYPE, *(headers or (ETAG, self.content_range())), length=length)

    def truncated(self, at: int) -> bytes:
        whole = self.answer()
        return whole[: len(whole) - self.length + at]

    def chunked(self, *pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces or (self.data,))
        headers = TYPE, ETAG, self.content_range(), ("Transfer-Encoding", "chunked")
        return answer(206, body + end, *headers, length=None)


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def multipart(part: Part) -> bytes:
    content_range = ": ".join(part.content_range())
    body = f"--x\r\nContent-Type: video/mp4\r\n{content_range}\r\n\r\n".encode() + part.data + b"\r\n--x--\r\n"
    return answer(206, body, ETAG, ("Content-Type", "multipart/byteranges; boundary=x"))


#: What S3 does instead, and the status that the origin answers with.
FAULTS: dict[str, tuple[Callable[[Part], Step], int]] = {
    **{
        f"{status} {code}": (lambda _, status=status, code=code: error(status, code), 502)  # type: ignore[misc]
        for status, code in [
            (400, "AuthorizationHeaderMalformed"), (400, "ExpiredToken"), (400, "InvalidToken"),
            (400, "RequestTimeout"), (403, "AccessDenied"), (403, "AccountProblem"), (403, "AllAccessDisabled"),
            (403, "InvalidAccessKeyId"), (403, "InvalidObjectState"), (403, "InvalidPayer"),
            (403, "InvalidSecurity"), (403, "NotSignedUp"), (403, "RequestTimeTooSkewed"),
            (403, "SignatureDoesNotMatch"), (404, "NoSuchBucket"), (405, "MethodNotAllowed"),
            (409, "OperationAborted"), (412, "PreconditionFailed"), (416, "InvalidRange"), (429, "TooManyRequests"),
            (500, "InternalError"), (501, "NotImplemented"), (503, "ServiceUnavailable"), (503, "SlowDown"),
        ]
    },
    "404 NoSuchKey": (lambda _: error(404, "NoSuchKey"), 404),
    "403 without a body": (lambda _: answer(403), 502),
    "404 without a body": (lambda _: answer(404), 404),
    "502 of a proxy": (lambda _: answer(502, b"<html>bad gateway"), 502),
    "504 of a proxy": (lambda _: answer(504, b"<html>timeout"), 502),
    "301 to elsewhere": (lambda _: error(301, "PermanentRedirect", ("Location", f"{DOWN}/bucket/film")), 502),
    "302 to elsewhere": (lambda _: answer(302, b"", ("Location", f"{DOWN}/bucket/film")), 502),
    "307 to another region": (lambda _: error(307, "TemporaryRedirect", ("x-amz-bucket-region", "eu-west-1")), 502),
    "308 to another region": (lambda _: error(308, "PermanentRedirect", region="eu-west-1"), 502),
    "reset before the header": (lambda _: reset, 502),
    "closed before the header": (lambda _: close, 502),
    "closed after early hints": (lambda _: first(HINTS, close), 502),
    "closed in the status line": (lambda _: first(b"HTTP/1.1 2", close), 502),
    "closed in the header": (lambda part: first(part.answer()[:40], close), 502),
    "reset after the header": (lambda part: first(part.truncated(0), reset), 502),
    "closed after the header": (lambda part: first(part.truncated(0), close), 502),
    "no answer": (lambda _: stall, 502),
    "no body": (lambda part: first(part.truncated(0), stall), 502),
    "half of the body": (lambda part: first(part.truncated(part.length // 2), close), 502),
    "half of the body, then a reset": (lambda part: first(part.truncated(part.length // 2), reset), 502),
    "half of the body, then nothing": (lambda part: first(part.truncated(part.length // 2), stall), 502),
    "all but the last byte": (lambda part: first(part.truncated(part.length - 1), close), 502),
    "half of a chunked body": (lambda part: first(part.chunked(part.half, end=b""), close), 502),
    "half of a chunked body with a last chunk": (lambda part: part.chunked(part.half), 502),
    "closed in a chunk size": (lambda part: first(part.chunked(part.half, end=b"7"), close), 502),
    "closed in the last chunk": (lambda part: first(part.chunked(part.half, end=b"0\r\n"), close), 502),
    "a chunk too many": (lambda part: first(part.chunked(part.data, b"surplus"), close), 502),
    "malformed chunks": (lambda part: first(part.chunked(part.data[:4], end=b"zz\r\n"), close), 502),
    "no length and no chunks": (lambda part: first(part.answer(length=None), close), 502),
    "200 and the whole object": (lambda _: answer(200, FILM.data, TYPE, ETAG), 502),
    "200 and only the part": (lambda part: part.answer(ETAG, status=200), 502),
    "206 without Content-Range": (lambda part: part.answer(ETAG), 502),
    "206 and the whole object": (
        lambda part: answer(206, FILM.data, TYPE, ETAG, part.content_range(0, len(FILM.data))), 502
    ),
    "the part after it": (
        lambda part: part.answer(ETAG, part.content_range(part.start + 1, part.stop + 1, len(FILM.data) + 9)), 502
    ),
    "a shorter part": (
        lambda part: answer(206, part.data[:-1], TYPE, ETAG, part.content_range(stop=part.stop - 1)), 502
    ),
    "Content-Length shorter than Content-Range": (
        lambda part: answer(206, part.data[:-1], TYPE, ETAG, part.content_range()), 502
    ),
    "Content-Length longer than Content-Range": (
        lambda part: answer(206, part.data + b"x", TYPE, ETAG, part.content_range()), 502
    ),
    "two Content-Ranges": (
        lambda part: part.answer(ETAG, part.content_range(), part.content_range(part.start + 1)), 502
    ),
    "two Content-Lengths": (
        lambda part: first(part.answer(ETAG, part.content_range(), ("Content-Length", "3")), close), 502
    ),
    "a length and chunks": (
        lambda part: part.answer(ETAG, part.content_range(), ("Transfer-Encoding", "chunked")), 502
    ),
    "an ETag with a control character": (lambda part: part.answer(("ETag", '"\x0b"'), part.content_range()), 502),
    "a line that would split the header": (
        lambda part: part.answer(ETAG, part.content_range(), ("Content-Language", "en\rSet-Cookie: a=b")), 502
    ),
    "a header line without a colon": (
        lambda part: part.answer(ETAG, part.content_range()).replace(b"ETag: ", b"ETag "), 502
    ),
    "multipart": (multipart, 502),
    "204": (lambda _: answer(204, length=None), 502),
    "206 without a body": (lambda _: answer(206, b"", ETAG, ("Content-Range", "bytes */0")), 502),
    "304": (lambda _: answer(304, length=None), 502),
    "101": (lambda _: answer(101, length=None), 502),
    "not HTTP": (lambda _: first(b"SSH-2.0-OpenSSH_9.2\r\n", close), 502),
    "a header of 100 KB": (lambda part: part.answer(ETAG, part.content_range(), ("X", "x" * 100_000)), 502),
    "another object": (
        lambda part: answer(206, OTHER.data[part.start : part.stop], TYPE, OTHER_ETAG, part.content_range()), 502
    ),
}  # fmt: skip


#: They take as long as the timeout, so they are not tested in each part.
STALLS = {"no answer", "no body", "half of the body, then nothing"}


class FailingS3:
    """A handler of the scripted S3: serves FILM by ranges, and fails for those that begin within one part.

    ``times``: the number of failures; None: without end.
    """

    def __init__(self, part: str = "header", fault: Callable[[Part], Step] | None = None, times: int | None = None):
        self._first, self._last = PARTS[part]
        self._fault, self._left = fault, times
        self._lock = threading.Lock()

    def __call__(self, connection: Connection, request: Request) -> None:
        if "range" not in request.headers:  # the gateway, if S3 cannot send a part of the object
            connection.send(answer(200, FILM.data, TYPE, ETAG))
            return
        part = requested(request)
        with self._lock:
            fails = self._fault is not None and self._first <= part.start <= self._last and self._left != 0
            if fails and self._left is not None:
                self._left -= 1
        play(self._fault(part) if fails and self._fault else part.answer(), connection, request)


def play(step: Step, connection: Connection, request: Request) -> None:
    """Do what a step of a script says."""
    if isinstance(step, bytes):
        connection.send(step)
    else:
        step(connection, request)


def requested(request: Request) -> Part:
    """The part that a request is for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    assert match, request.headers
    if not match[1]:
        return Part(len(FILM.data) - int(match[2]), len(FILM.data))
    return Part(int(match[1]), min(int(match[2] or len(FILM.data)) + 1, len(FILM.data)))


def config(url: str, keys: list[str], prefix: str = "") -> str:
    """The origins of all ways for one bucket."""
    own = f"/{prefix}bucket"
    return "".join(
        [
            proxy(url, keys, PROXY_SET),
            mount(own, url, keys, *GATEWAY_SET),
            origin(f"/{prefix}proxy-forward", url, "forward"),
            origin(f"/{prefix}proxy-reverse", url, "reverse"),
            origin(f"/{prefix}gateway", mounted(own), "reverse"),
        ]
    )


@pytest.fixture(scope="module")
def bucket() -> Iterator[EmbeddedS3]:
    with EmbeddedS3() as server:
        server.put("private", "film", FILM.data)
        yield server


@pytest.fixture(scope="module")
def httpd(bucket: EmbeddedS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Httpd]:
    wrong = [*settings(bucket), "SetEnv S3SecretKey another+secret/key"]
    parts = [
        config(f"{URL}/bucket", KEYS),
        config(f"{DOWN}/bucket", KEYS, "down-"),
        config(f"{bucket.url}/private", settings(bucket), "real-"),
        config(f"{bucket.url}/private/wrong", wrong, "wrong-"),
    ]
    h2c = "Protocols h2c http/1.1\n" if has_module("http2") else ""
    module = compile_origin(tmp_path_factory.mktemp("origin"))
    with Httpd(module + h2c + ONE_LARGE_CHILD + "".join(parts)) as server:
        # Which line S3's failures write is tested in tests/httpd. Here none says that a child has crashed.
        server.expect_error(
            r"reading_origin: |USPS3|AH(00898|00940|00957|01084|01097|01102|01106|01110|01114|10404|10412): "
        )
        yield server
    assert "\n".join(server.unexpected) == ""


def read(httpd: Httpd, way: str, query: str = "1-3") -> Reply | None:
    """Ask the origin for the object; None: the connection ended before the end of the response."""
    try:
        return httpd.fetch(f"/{way}/film?{query}")
    except (http.client.HTTPException, ConnectionError):
        return None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FAULTS)
def test_s3_fails_each_time(httpd: Httpd, name: str, way: str) -> None:
    """In each part in turn. The request after the failures succeeds: nothing of them is left on a connection."""
    fault, status = FAULTS[name]
    for part in PARTS if name not in STALLS else ("table", "large"):
        with ScriptedS3(then=FailingS3(part, fault), port=PORT) as s3:
            reply = read(httpd, way)
            s3.release()
        assert reply is not None and reply.status == status, part
        assert b"<Error>" not in reply.body and b"words that only S3" not in reply.body
    with ScriptedS3(then=FailingS3(), port=PORT):
        reply = read(httpd, way)
    assert reply is not None and (reply.status, reply.body == FILM.body(1, 3)) == (200, True)


@pytest.mark.parametrize("name", FAULTS)
def test_s3_fails_once_behind_the_gateway(httpd: Httpd, name: str) -> None:
    """The gateway retries and resumes, so the answer may be right. It is never wrong."""
    fault, status = FAULTS[name]
    for part in ("table", "large"):
        with ScriptedS3(then=FailingS3(part, fault, times=1), port=PORT) as s3:
            reply = read(httpd, "gateway")
            s3.release()
        assert reply is not None
        assert reply.status == status or (reply.status, reply.body == FILM.body(1, 3)) == (200, True), part


#: Answers that look unusual, and are right.
UNUSUAL: dict[str, Callable[[Part], Step]] = {
    "in chunks": lambda part: part.chunked(part.data[: part.length // 2], part.data[part.length // 2 :]),
    "with 200 and Content-Range": lambda part: part.answer(status=200),
    "after early hints": lambda part: HINTS + b"HTTP/1.1 100 Continue\r\n\r\n" + part.answer(),
    "on a connection that is closed": lambda part: first(
        part.answer(ETAG, part.content_range(), ("Connection", "close")), close
    ),
    "with many headers": lambda part: part.answer(ETAG, part.content_range(), *[("X-Amz-Meta-A", "a" * 50)] * 90),
    "with names in lowercase": lambda part: answer(
        206, part.data, *((name.lower(), value) for name, value in (TYPE, ETAG, part.content_range()))
    ),
    "without ETag": lambda part: part.answer(part.content_range()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_answers(httpd: Httpd, name: str, way: str) -> None:
    with ScriptedS3(
        then=lambda connection, request: play(UNUSUAL[name](requested(request)), connection, request), port=PORT
    ):
        replies = [read(httpd, way, "0-4") for _ in range(2)]
    assert all(reply is not None and (reply.status, reply.body == FILM.body()) == (200, True) for reply in replies)


@pytest.mark.parametrize("way", WAYS)
def test_a_slow_s3(httpd: Httpd, way: str) -> None:
    """The parts of each body come with pauses that are shorter than the timeout."""

    def drip(part: Part) -> Step:
        def slowly(connection: Connection, request: Request) -> None:
            data = part.answer()
            for start in range(0, len(data), 1 + len(data) // 5):
                connection.send(data[start : start + 1 + len(data) // 5])
                time.sleep(0.02)

        return slowly

    with ScriptedS3(then=FailingS3("large", drip), port=PORT):
        reply = read(httpd, way)
    assert reply is not None and (reply.status, reply.body == FILM.body(1, 3)) == (200, True)


@pytest.mark.parametrize("way", WAYS)
def test_s3_fails_at_random_for_many_clients(httpd: Httpd, way: str) -> None:
    """One failing read does not spoil that of another client, which may use the same connection afterwards."""
    chance = random.Random(way)
    faults = [fault for name, (fault, _) in FAULTS.items() if "no " not in name and "nothing" not in name]
    lock = threading.Lock()

    def sometimes(part: Part) -> Step:
        with lock:
            return chance.choice(faults)(part) if chance.random() < 0.1 else part.answer()

    class Unreliable(FailingS3):
        def __init__(self) -> None:
            super().__init__("header", sometimes)
            self._first, self._last = 0, len(FILM.data)

    with ScriptedS3(then=Unreliable(), port=PORT) as s3, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda first: read(httpd, way, f"{first % 5}-{first % 5}"), range(80)))
        s3.release()
    right = [reply is not None and reply.body == FILM.body(first % 5, first % 5) for first, reply in enumerate(replies)]
    statuses = {reply.status for reply, is_right in zip(replies, right, strict=True) if reply and not is_right}
    assert any(right) and statuses <= {404, 502}
    assert None not in replies


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "end", [close, reset, first(b"HTTP/1.1 206 P", close)], ids=["close", "reset", "in the header"]
)
def test_s3_closes_at_a_later_request_of_a_client(httpd: Httpd, way: str, end: Step) -> None:
    """For a client's own request mod_proxy would close the client's connection then. The origin still answers."""
    connection = http.client.HTTPConnection("127.0.0.1", httpd.port, timeout=20)
    try:
        for query, fails in (("1-3", False), ("1-3", True), ("0-1", True), ("1-1", False)):
            with ScriptedS3(then=FailingS3("small", lambda _: end) if fails else FailingS3(), port=PORT):
                connection.request("GET", f"/{way}/film?{query}")
                response = connection.getresponse()
                body = response.read()
            if fails:
                assert response.status == 502
            else:
                wanted = FILM.body(*map(int, query.split("-")))
                assert (response.status, body == wanted) == (200, True)
    finally:
        connection.close()


@pytest.mark.skipif(not has_module("http2"), reason="this httpd has no mod_http2")
@pytest.mark.parametrize("way", WAYS)
def test_one_stream_of_http_2_fails(httpd: Httpd, way: str) -> None:
    samples = range(len(FILM.places))
    for end in (close, reset, error(503, "SlowDown"), first(Part(*PARTS["large"]).truncated(9), close)):
        with ScriptedS3(then=FailingS3("large", lambda _, end=end: end), port=PORT):  # type: ignore[misc]
            streams = http2.ask(httpd.port, *({"path": f"/{way}/film?{number}-{number}"} for number in samples))
        assert [stream.status for stream in streams] == [200, 200, 502, 200, 200]
        assert all(stream.ended for stream in streams)
        assert all(stream.body == FILM.body(n, n) for n, stream in enumerate(streams) if stream.status == 200)


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_port(httpd: Httpd, way: str) -> None:
    reply = read(httpd, f"down-{way}")
    assert reply is not None and reply.status == 502


@pytest.mark.parametrize("way", WAYS)
def test_a_real_s3_that_denies_and_misses(httpd: Httpd, bucket: EmbeddedS3, way: str) -> None:
    reply = read(httpd, f"real-{way}")
    assert reply is not None and (reply.status, reply.body == FILM.body(1, 3)) == (200, True)
    assert httpd.fetch(f"/real-{way}/none").status == 404
    reply = read(httpd, f"wrong-{way}")
    assert reply is not None and reply.status == 502
    assert bucket.requests()[-1]["status"] == 403
