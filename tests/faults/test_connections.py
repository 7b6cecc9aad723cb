"""The connections to S3: reused, refreshed, bounded, as mod_proxy's parameters say."""

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


def numbers(s3: ScriptedS3) -> list[int]:
    """On which connection each request came."""
    return [request.connection for request in s3.requests]


def ask(s3: ScriptedS3, proxy_set: str = "timeout=30", method: str = "GET", **changes: str) -> int:
    """Ask for a film, read it whole, return the status."""
    return call(environ("/media/film.mp4", s3_settings(s3.url, S3ProxySet=proxy_set, **changes), method=method)).status


# --- reuse


@pytest.mark.parametrize("mode", MODES)
def test_one_connection_serves_many_requests(mode: str) -> None:
    with ScriptedS3(*[HELLO] * 5) as s3:
        for _ in range(5):
            assert call(environ("/media/film.mp4", s3_settings(s3.url, mode))).body == b"hello"
    assert numbers(s3) == [1] * 5


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
def test_other_answers_keep_the_connection(step: Step, method: str) -> None:
    with ScriptedS3(step, HELLO) as s3:
        ask(s3, method=method)
        assert ask(s3) == 200
    assert numbers(s3) == [1, 1]


def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    with ScriptedS3(HELLO, NEXT) as s3:
        one = begin(environ("/media/film.mp4", s3_settings(s3.url)))
        two = begin(environ("/media/film.mp4", s3_settings(s3.url)))
        assert (list(two.pieces), list(one.pieces)) == ([b"next"], [b"hello"])
        one.close()
        two.close()
    assert numbers(s3) == [1, 2]


def test_a_connection_that_s3_closed_meanwhile_is_replaced() -> None:
    with ScriptedS3(first(HELLO, close), NEXT) as s3:
        assert ask(s3) == 200
        s3.join()  # S3's end of it is closed
        assert ask(s3) == 200
    assert numbers(s3) == [1, 2]


def test_a_connection_that_s3_closes_just_now_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    with ScriptedS3(HELLO, close, NEXT) as s3:
        assert ask(s3) == 200
        assert ask(s3, S3Retries="1") == 200
    assert numbers(s3) == [1, 1, 2]


def after_a_restart(connection: Connection, request: Request) -> None:
    """Serve on new connections; the four from before are gone, which S3 tells only whoever uses them."""
    if connection.number > 4:
        connection.send(NEXT)
    else:
        connection.close()


def four_idle(settings: dict[str, str]) -> None:
    """Make four connections and leave them to the next requests."""
    for begun in [begin(environ("/media/film.mp4", settings)) for _ in range(4)]:
        assert list(begun.pieces) == [b"hello"]
        begun.close()


def test_connections_that_s3_closed_all_at_once_are_all_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    with ScriptedS3(*[HELLO] * 4, then=after_a_restart) as s3:
        settings = s3_settings(s3.url, S3Retries="1")
        four_idle(settings)
        assert call(environ("/media/film.mp4", settings)).body == b"next"
        assert numbers(s3) == [1, 2, 3, 4, 4, 5]
        assert all(connection.finished.wait(2) for connection in s3.connections[:4])


def test_they_fail_no_request_that_meets_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it pauses, others take the place of the connection that failed; those below it must not fail it again."""
    others: list[Begun] = []

    def meanwhile(seconds: float) -> None:
        others.extend(begin(environ("/media/film.mp4", settings)) for _ in range(2))

    with ScriptedS3(*[HELLO] * 4, then=after_a_restart) as s3:
        settings = s3_settings(s3.url, S3Retries="1")
        four_idle(settings)
        monkeypatch.setattr(time, "sleep", meanwhile)
        assert call(environ("/media/film.mp4", settings)).body == b"next"
        for other in others:
            assert list(other.pieces) == [b"next"]
            other.close()
    assert numbers(s3) == [1, 2, 3, 4, 4, 5, 6, 7]


def test_connections_are_not_shared_by_other_parameters() -> None:
    with ScriptedS3(HELLO, NEXT) as s3:
        assert ask(s3, "timeout=30") == ask(s3, "timeout=31") == 200
    assert numbers(s3) == [1, 2]


def test_enablereuse_off_says_so_and_never_reuses() -> None:
    with ScriptedS3(*[HELLO] * 3) as s3:
        for _ in range(3):
            assert ask(s3, "enablereuse=off") == 200
    assert numbers(s3) == [1, 2, 3]
    assert {request.headers["connection"] for request in s3.requests} == {"close"}


def test_with_reuse_nothing_is_said() -> None:
    with ScriptedS3(HELLO) as s3:
        ask(s3)
    assert "connection" not in s3.requests[0].headers


# --- addressttl


@pytest.mark.parametrize(("parameters", "connections"), [("addressttl=60 ttl=300", [1, 1, 2, 2]), ("ttl=300", [1] * 4)])
def test_a_connection_that_is_always_busy_is_made_anew(
    clock: list[float], parameters: str, connections: list[int]
) -> None:
    """With a new look at the host's addresses; as mod_proxy's, it lasts without end unless this is set."""
    with ScriptedS3(then=answer(200, b"ok")) as s3:
        for ahead in (0.0, 50.0, 100.0, 150.0):
            clock[0] = ahead
            assert ask(s3, parameters) == 200
    assert [request.connection for request in s3.requests] == connections


# --- ttl


@pytest.mark.parametrize(("seconds", "connections"), [(0, [1, 1]), (50, [1, 1]), (70, [1, 2])])
def test_an_idle_connection_serves_for_ttl_seconds(clock: list[float], seconds: float, connections: list[int]) -> None:
    with ScriptedS3(HELLO, NEXT) as s3:
        assert ask(s3, "ttl=60") == 200
        clock[0] = seconds
        assert ask(s3, "ttl=60") == 200
    assert numbers(s3) == connections


def test_connections_that_nobody_needs_any_more_are_closed(clock: list[float]) -> None:
    with ScriptedS3(*[HELLO] * 4) as s3:
        settings = s3_settings(s3.url, S3ProxySet="ttl=60")
        both = [begin(environ("/media/film.mp4", settings)) for _ in range(2)]
        for begun in both:
            assert list(begun.pieces) == [b"hello"]
            begun.close()
        # One connection is in use all the time, the other one rests below it.
        for seconds in (40, 80):
            clock[0] = seconds
            assert ask(s3, "ttl=60") == 200
        assert numbers(s3) == [1, 2, 2, 2]
        assert s3.connections[0].finished.wait(WAIT)


# --- max, acquire


def test_503_when_no_connection_comes_free_in_time() -> None:
    with ScriptedS3(HELLO, NEXT) as s3:
        settings = s3_settings(s3.url, S3ProxySet="max=1 acquire=20")
        one = begin(environ("/media/film.mp4", settings))
        refused = call(environ("/media/film.mp4", settings))
        assert list(one.pieces) == [b"hello"]
        one.close()
        assert call(environ("/media/film.mp4", settings)).body == b"next"
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert "the connection pool is exhausted: no connection within 0.02 s" in refused.log
    assert numbers(s3) == [1, 1]


@pytest.mark.parametrize(
    "step",
    [close, first(answer(200, b"x", length=9), close), answer(200, b"x" * 100_000, length=1 << 20), error(503, "Slow")],
    ids=["closed", "cut short", "abandoned", "busy"],
)
def test_failures_use_up_no_connection_of_max(step: Step) -> None:
    with ScriptedS3(*[step] * 3, HELLO) as s3:
        settings = s3_settings(s3.url, S3ProxySet="max=1 acquire=1")
        for _ in range(3):
            begin(environ("/media/film.mp4", settings)).close()
        assert call(environ("/media/film.mp4", settings)).body == b"hello"


def test_failed_connects_use_up_no_connection_of_max() -> None:
    with ScriptedS3() as s3:
        pass
    assert [ask(s3, "max=1 acquire=1") for _ in range(3)] == [502] * 3


# --- keepalive


@pytest.mark.parametrize(("keepalive", "expected"), [("on", 1), ("off", 0)])
def test_tcp_keepalive(keepalive: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[socket.socket] = []
    connect = socket.socket.connect

    def remember(self: socket.socket, address: tuple[str, int]) -> None:
        opened.append(self)
        connect(self, address)

    with ScriptedS3(HELLO) as s3:
        monkeypatch.setattr(socket.socket, "connect", remember)
        assert ask(s3, f"keepalive={keepalive}") == 200
    [one] = opened
    assert bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == bool(expected)
    assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_stalled_request_leaves_no_connection_behind() -> None:
    with ScriptedS3(stall, HELLO) as s3:
        assert ask(s3, "timeout=1 max=1 acquire=1") == 504
        assert ask(s3, "timeout=1 max=1 acquire=1") == 200
    assert numbers(s3) == [1, 2]


def test_an_error_in_chunks_keeps_the_connection() -> None:
    """As Amazon sends them: a bucket that players probe for what is not there must not cost a handshake each time."""
    document = b"<Error><Code>NoSuchKey</Code></Error>"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(document), document)
    missing = answer(404, chunks, ("Transfer-Encoding", "chunked"), length=None)
    with ScriptedS3(missing, missing, answer(200, b"hello")) as s3:
        assert [ask(s3) for _ in range(3)] == [404, 404, 200]
    assert {request.connection for request in s3.requests} == {1}


# --- what is left of a body that the client does not get

PLACE = ("Content-Range", "bytes */5")


@pytest.mark.parametrize(("size", "connections"), [(0, [1, 1]), (65_536, [1, 1]), (65_537, [1, 2])])
def test_only_a_short_rest_is_read_so_that_the_connection_serves_again(size: int, connections: list[int]) -> None:
    """Else a request would wait for a whole film that nobody wants."""
    with ScriptedS3(answer(416, b"x" * size, PLACE), HELLO) as s3:
        assert [ask(s3), ask(s3)] == [416, 200]
    assert numbers(s3) == connections


def test_a_rest_of_unknown_length_is_not_read() -> None:
    chunks = answer(416, b"5\r\nhello\r\n0\r\n\r\n", PLACE, ("Transfer-Encoding", "chunked"), length=None)
    with ScriptedS3(chunks, HELLO) as s3:
        assert [ask(s3), ask(s3)] == [416, 200]
    assert numbers(s3) == [1, 2]


# --- a host that takes no connection


@pytest.fixture
def full() -> Iterator[str]:
    """The URL of a host whose queue is full: it answers nobody who wants to connect."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(16):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def knock(url: str, proxy_set: str, retries: str = "0") -> Reply:
    return call(environ("/media/film.mp4", s3_settings(url, S3Retries=retries, S3ProxySet=proxy_set)))


def test_502_without_a_connection_in_time(full: str) -> None:
    reply = knock(full, "connectiontimeout=60ms timeout=30")
    assert (reply.status, reply.body) == (502, b"502 Bad Gateway\n")
    assert "no connection within 0.06 s" in reply.log


def test_no_connection_in_time_is_tried_again(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    reply = knock(full, "connectiontimeout=60ms timeout=30", retries="2")
    assert reply.status == 502
    assert [line.endswith("; retrying") for line in reply.log.splitlines()] == [True, True, False]


def test_a_host_that_takes_no_connection_rests_for_retry_seconds(full: str, clock: list[float]) -> None:
    section = "connectiontimeout=60ms timeout=30 retry=10"
    assert knock(full, section, retries="2").log.count("\n") == 1
    resting = knock(full, section)
    assert (resting.status, resting.headers["Retry-After"]) == (503, "10")
    clock[0] = 11
    assert knock(full, section).status == 502
