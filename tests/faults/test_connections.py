"""The connection pool: reuse, expiry and limits, as set by mod_proxy's parameters."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.server import WAIT, Connection, Request, ScriptedS3, Step, answer, close, error, first, head_of, stall
from tests.wsgi import MODES, Begun, Reply, begin, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher

HELLO = answer(200, b"hello")
NEXT = answer(200, b"next")


def connection_numbers(s3: ScriptedS3) -> list[int]:
    """The number of each request's connection."""
    return [request.connection for request in s3.requests]


def fetch(s3: ScriptedS3, proxy_set: str = "timeout=30", method: str = "GET", **changes: str) -> int:
    """Request a film, read its body, return the status."""
    return call(environ("/media/film.mp4", s3_settings(s3.url, S3ProxySet=proxy_set, **changes), method=method)).status


# --- reuse


@pytest.mark.parametrize("mode", MODES)
def test_one_connection_serves_many_requests(mode: str) -> None:
    with ScriptedS3(*[HELLO] * 5) as s3:
        for _ in range(5):
            assert call(environ("/media/film.mp4", s3_settings(s3.url, mode))).body == b"hello"
    assert connection_numbers(s3) == [1] * 5


@pytest.mark.parametrize(
    ("step", "method"),
    [
        (answer(304), "GET"),
        (error(404, "NoSuchKey"), "GET"),
        (error(403, "AccessDenied"), "GET"),
        (error(416, "InvalidRange"), "GET"),
        (error(503, "SlowDown"), "GET"),
        (answer(200, length=6_000_000), "HEAD"),
        (head_of(error(404, "NoSuchKey")), "HEAD"),
    ],
    ids=["304", "404", "403", "416", "503", "HEAD", "HEAD 404"],
)
def test_error_responses_keep_the_connection(step: Step, method: str) -> None:
    with ScriptedS3(step, HELLO) as s3:
        fetch(s3, method=method)
        assert fetch(s3) == 200
    assert connection_numbers(s3) == [1, 1]


def test_concurrent_requests_use_separate_connections() -> None:
    with ScriptedS3(HELLO, NEXT) as s3:
        one = begin(environ("/media/film.mp4", s3_settings(s3.url)))
        two = begin(environ("/media/film.mp4", s3_settings(s3.url)))
        assert (list(two.pieces), list(one.pieces)) == ([b"next"], [b"hello"])
        one.close()
        two.close()
    assert connection_numbers(s3) == [1, 2]


def test_an_idle_connection_that_s3_closed_is_replaced() -> None:
    with ScriptedS3(first(HELLO, close), NEXT) as s3:
        assert fetch(s3) == 200
        s3.join()  # S3 has closed the connection
        assert fetch(s3) == 200
    assert connection_numbers(s3) == [1, 2]


def test_a_connection_that_s3_closes_during_the_request_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    with ScriptedS3(HELLO, close, NEXT) as s3:
        assert fetch(s3) == 200
        assert fetch(s3, S3Retries="1") == 200
    assert connection_numbers(s3) == [1, 1, 2]


def serve_after_restart(connection: Connection, request: Request) -> None:
    """Serve new connections; close the first four when a request arrives on them."""
    if connection.number > 4:
        connection.send(NEXT)
    else:
        connection.close()


def fill_pool(settings: dict[str, str]) -> None:
    """Leave four idle connections in the pool."""
    for begun in [begin(environ("/media/film.mp4", settings)) for _ in range(4)]:
        assert list(begun.pieces) == [b"hello"]
        begun.close()


def test_idle_connections_are_all_closed_after_a_restart_of_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    with ScriptedS3(*[HELLO] * 4, then=serve_after_restart) as s3:
        settings = s3_settings(s3.url, S3Retries="1")
        fill_pool(settings)
        assert call(environ("/media/film.mp4", settings)).body == b"next"
        assert connection_numbers(s3) == [1, 2, 3, 4, 4, 5]
        assert all(connection.finished.wait(2) for connection in s3.connections[:4])


def test_a_retry_does_not_get_a_connection_from_before_the_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other requests take connections during the backoff; the retry must not get one of the closed connections."""
    others: list[Begun] = []

    def meanwhile(seconds: float) -> None:
        others.extend(begin(environ("/media/film.mp4", settings)) for _ in range(2))

    with ScriptedS3(*[HELLO] * 4, then=serve_after_restart) as s3:
        settings = s3_settings(s3.url, S3Retries="1")
        fill_pool(settings)
        monkeypatch.setattr(time, "sleep", meanwhile)
        assert call(environ("/media/film.mp4", settings)).body == b"next"
        for other in others:
            assert list(other.pieces) == [b"next"]
            other.close()
    assert connection_numbers(s3) == [1, 2, 3, 4, 4, 5, 6, 7]


def test_connections_are_not_shared_between_different_parameters() -> None:
    with ScriptedS3(HELLO, NEXT) as s3:
        assert fetch(s3, "timeout=30") == fetch(s3, "timeout=31") == 200
    assert connection_numbers(s3) == [1, 2]


def test_enablereuse_off_sends_connection_close() -> None:
    with ScriptedS3(*[HELLO] * 3) as s3:
        for _ in range(3):
            assert fetch(s3, "enablereuse=off") == 200
    assert connection_numbers(s3) == [1, 2, 3]
    assert {request.headers["connection"] for request in s3.requests} == {"close"}


def test_with_reuse_no_connection_header_is_sent() -> None:
    with ScriptedS3(HELLO) as s3:
        fetch(s3)
    assert "connection" not in s3.requests[0].headers


# --- addressttl


@pytest.mark.parametrize(("parameters", "connections"), [("addressttl=60 ttl=300", [1, 1, 2, 2]), ("ttl=300", [1] * 4)])
def test_a_connection_in_use_is_replaced_after_addressttl(
    clock: list[float], parameters: str, connections: list[int]
) -> None:
    """The new connection resolves the host name again. Without addressttl there is no age limit, as in mod_proxy."""
    with ScriptedS3(then=answer(200, b"ok")) as s3:
        for ahead in (0.0, 50.0, 100.0, 150.0):
            clock[0] = ahead
            assert fetch(s3, parameters) == 200
    assert [request.connection for request in s3.requests] == connections


# --- ttl


@pytest.mark.parametrize(("seconds", "connections"), [(0, [1, 1]), (50, [1, 1]), (70, [1, 2])])
def test_an_idle_connection_is_reused_within_ttl(clock: list[float], seconds: float, connections: list[int]) -> None:
    with ScriptedS3(HELLO, NEXT) as s3:
        assert fetch(s3, "ttl=60") == 200
        clock[0] = seconds
        assert fetch(s3, "ttl=60") == 200
    assert connection_numbers(s3) == connections


def test_idle_connections_are_closed_after_ttl(clock: list[float]) -> None:
    with ScriptedS3(*[HELLO] * 4) as s3:
        settings = s3_settings(s3.url, S3ProxySet="ttl=60")
        both = [begin(environ("/media/film.mp4", settings)) for _ in range(2)]
        for begun in both:
            assert list(begun.pieces) == [b"hello"]
            begun.close()
        # One connection is reused all the time, the other one stays idle.
        for seconds in (40, 80):
            clock[0] = seconds
            assert fetch(s3, "ttl=60") == 200
        assert connection_numbers(s3) == [1, 2, 2, 2]
        assert s3.connections[0].finished.wait(WAIT)


# --- max, acquire


def test_503_when_the_pool_is_exhausted() -> None:
    with ScriptedS3(HELLO, NEXT) as s3:
        settings = s3_settings(s3.url, S3ProxySet="max=1 acquire=20")
        one = begin(environ("/media/film.mp4", settings))
        exhausted = call(environ("/media/film.mp4", settings))
        assert list(one.pieces) == [b"hello"]
        one.close()
        assert call(environ("/media/film.mp4", settings)).body == b"next"
    assert (exhausted.status, exhausted.headers["Retry-After"]) == (503, "1")
    assert "the connection pool is exhausted: no connection within 0.02 s" in exhausted.log
    assert connection_numbers(s3) == [1, 1]


@pytest.mark.parametrize(
    "step",
    [close, first(answer(200, b"x", length=9), close), answer(200, b"x" * 100_000, length=1 << 20), error(503, "Slow")],
    ids=["closed", "truncated", "abandoned", "503"],
)
def test_failed_requests_release_their_connection(step: Step) -> None:
    with ScriptedS3(*[step] * 3, HELLO) as s3:
        settings = s3_settings(s3.url, S3ProxySet="max=1 acquire=1")
        for _ in range(3):
            begin(environ("/media/film.mp4", settings)).close()
        assert call(environ("/media/film.mp4", settings)).body == b"hello"


def test_failed_connects_release_their_slot() -> None:
    with ScriptedS3() as s3:
        pass
    assert [fetch(s3, "max=1 acquire=1") for _ in range(3)] == [502] * 3


# --- keepalive


@pytest.mark.parametrize(("keepalive", "expected"), [("on", 1), ("off", 0)])
def test_tcp_keepalive(keepalive: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[socket.socket] = []
    connect = socket.socket.connect

    def recording_connect(self: socket.socket, address: tuple[str, int]) -> None:
        opened.append(self)
        connect(self, address)

    with ScriptedS3(HELLO) as s3:
        monkeypatch.setattr(socket.socket, "connect", recording_connect)
        assert fetch(s3, f"keepalive={keepalive}") == 200
    [one] = opened
    assert bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == bool(expected)
    assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_timed_out_connection_is_not_reused() -> None:
    with ScriptedS3(stall, HELLO) as s3:
        assert fetch(s3, "timeout=1 max=1 acquire=1") == 504
        assert fetch(s3, "timeout=1 max=1 acquire=1") == 200
    assert connection_numbers(s3) == [1, 2]


def test_a_chunked_error_document_keeps_the_connection() -> None:
    """Amazon sends errors so: requests for missing objects must not cost a TLS handshake each."""
    document = b"<Error><Code>NoSuchKey</Code></Error>"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(document), document)
    missing = answer(404, chunks, ("Transfer-Encoding", "chunked"), length=None)
    with ScriptedS3(missing, missing, answer(200, b"hello")) as s3:
        assert [fetch(s3) for _ in range(3)] == [404, 404, 200]
    assert {request.connection for request in s3.requests} == {1}


# --- bodies that are not forwarded to the client

CONTENT_RANGE = ("Content-Range", "bytes */5")


@pytest.mark.parametrize(("size", "connections"), [(0, [1, 1]), (65_536, [1, 1]), (65_537, [1, 2])])
def test_only_a_short_body_is_drained_to_keep_the_connection(size: int, connections: list[int]) -> None:
    """Otherwise a request would wait for a large body that is discarded."""
    with ScriptedS3(answer(416, b"x" * size, CONTENT_RANGE), HELLO) as s3:
        assert [fetch(s3), fetch(s3)] == [416, 200]
    assert connection_numbers(s3) == connections


def test_a_body_of_unknown_length_is_not_drained() -> None:
    chunks = answer(416, b"5\r\nhello\r\n0\r\n\r\n", CONTENT_RANGE, ("Transfer-Encoding", "chunked"), length=None)
    with ScriptedS3(chunks, HELLO) as s3:
        assert [fetch(s3), fetch(s3)] == [416, 200]
    assert connection_numbers(s3) == [1, 2]


# --- a host that accepts no connection


@pytest.fixture
def unresponsive_url() -> Iterator[str]:
    """The URL of a host whose listen queue is full: it does not answer new connections."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(16):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def fetch_url(url: str, proxy_set: str, retries: str = "0") -> Reply:
    return call(environ("/media/film.mp4", s3_settings(url, S3Retries=retries, S3ProxySet=proxy_set)))


def test_502_after_a_connect_timeout(unresponsive_url: str) -> None:
    reply = fetch_url(unresponsive_url, "connectiontimeout=60ms timeout=30")
    assert (reply.status, reply.body) == (502, b"502 Bad Gateway\n")
    assert "no connection within 0.06 s" in reply.log


def test_a_connect_timeout_is_retried(unresponsive_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    reply = fetch_url(unresponsive_url, "connectiontimeout=60ms timeout=30", retries="2")
    assert reply.status == 502
    assert [line.endswith("; retrying") for line in reply.log.splitlines()] == [True, True, False]


def test_a_host_that_accepts_no_connection_is_not_tried_for_retry_seconds(
    unresponsive_url: str, clock: list[float]
) -> None:
    proxy_set = "connectiontimeout=60ms timeout=30 retry=10"
    assert fetch_url(unresponsive_url, proxy_set, retries="2").log.count("\n") == 1
    in_error_state = fetch_url(unresponsive_url, proxy_set)
    assert (in_error_state.status, in_error_state.headers["Retry-After"]) == (503, "10")
    clock[0] = 11
    assert fetch_url(unresponsive_url, proxy_set).status == 502
