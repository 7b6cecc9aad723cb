"""A truncated body must not look complete, and an abandoned or invalid body must not affect the next request."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from tests.certificates import Certificate
from tests.faults.named import OBJECT, chunked_range, rest, truncated
from tests.faults.server import WAIT, Connection, Request, ScriptedS3, Step, answer, close, first, reset, stall
from tests.wsgi import begin, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher
from usp_s3_wsgi.signing import signer
from usp_s3_wsgi.signing.types import S3Request

CHUNKED = answer(200, b"5\r\nhello\r\n", ("Transfer-Encoding", "chunked"), length=None)
TRUNCATED = answer(200, b"hello", length=50)


@pytest.mark.parametrize("end", [close, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("start", [TRUNCATED, CHUNKED], ids=["length", "chunked"])
def test_a_truncated_body_raises_and_is_logged(start: bytes, end: Step) -> None:
    assert callable(end)
    with ScriptedS3(first(start, end)) as s3:
        reply = call(environ("/media/film.mp4", s3_settings(s3.url)))
    assert reply.status == 200
    assert reply.truncated is not None
    assert reply.log.count("\n") == 1
    assert "response body truncated" in reply.log and "/bucket/film.mp4" in reply.log


def test_the_number_of_missing_bytes_is_logged() -> None:
    with ScriptedS3(first(TRUNCATED, close)) as s3:
        reply = call(environ("/media/film.mp4", s3_settings(s3.url)))
    assert reply.headers["Content-Length"] == "50"
    assert reply.body == b"hello"
    assert "45 bytes are missing" in reply.log


def test_a_malformed_chunk_truncates_the_body() -> None:
    with ScriptedS3(first(CHUNKED + b"no hex\r\n", close)) as s3:
        assert call(environ("/media/film.mp4", s3_settings(s3.url))).truncated is not None


def test_a_stalled_body_is_truncated() -> None:
    with ScriptedS3(first(TRUNCATED, stall)) as s3:
        reply = call(environ("/media/film.mp4", s3_settings(s3.url, S3ProxySet="timeout=60ms")))
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.truncated is not None


def test_a_complete_chunked_body_is_forwarded() -> None:
    with ScriptedS3(CHUNKED + b"0\r\n\r\n") as s3:
        reply = call(environ("/media/film.mp4", s3_settings(s3.url)))
    assert (reply.status, reply.body, reply.truncated) == (200, b"hello", None)
    assert "Content-Length" not in reply.headers


@pytest.fixture
def client() -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """The client's socket of a connection to this process, and the variables by which mod_wsgi describes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname(), WAIT) as client_socket:
            accepted, peer = listener.accept()
            with accepted:
                port = str(listener.getsockname()[1])
                variables = {"REMOTE_PORT": str(peer[1]), "SERVER_ADDR": "127.0.0.1", "SERVER_PORT": port}
                yield client_socket, {**variables, "mod_wsgi.process_group": ""}


@pytest.mark.parametrize("begun", [TRUNCATED, CHUNKED])
def test_in_embedded_mode_the_clients_connection_is_reset(
    client: tuple[socket.socket, dict[str, str]], begun: bytes
) -> None:
    client_socket, variables = client
    with ScriptedS3(first(begun, close)) as s3:
        reply = call({**environ("/media/film.mp4", s3_settings(s3.url)), **variables})
    # Also raised: a cache or another filter of httpd must not take the body for complete.
    assert reply.truncated is not None
    with pytest.raises(ConnectionResetError):
        client_socket.recv(1)
    assert ("45 bytes are missing" if begun is TRUNCATED else "some bytes are missing") in reply.log


def test_in_daemon_mode_no_connection_is_reset(client: tuple[socket.socket, dict[str, str]]) -> None:
    client_socket, variables = client
    with ScriptedS3(first(TRUNCATED, close)) as s3:
        request = {**environ("/media/film.mp4", s3_settings(s3.url)), **variables}
        reply = call({**request, "mod_wsgi.process_group": "daemons"})
    assert reply.truncated is not None
    client_socket.settimeout(0.02)
    with pytest.raises(TimeoutError):
        client_socket.recv(1)


@pytest.mark.parametrize("end", [close, reset, stall])
def test_the_failed_connection_is_closed_before_the_rest_is_requested(
    end: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    """max=1 allows no second connection: the first one must be closed before the rest is requested."""
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    assert callable(end)
    with ScriptedS3(first(truncated(2000), end), rest(2000)) as s3:
        settings = s3_settings(s3.url, S3Retries="1", S3ProxySet="max=1 acquire=1 timeout=250ms")
        reply = call(environ("/media/film.mp4", settings))
    assert (reply.body, reply.truncated) == (OBJECT, None)


def test_no_request_has_a_header_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The If-Match of the request for the rest replaces the client's."""
    names: list[list[str]] = []

    def sign(request: S3Request, *arguments: Any) -> S3Request:
        names.append([name for name, _ in request.headers])
        return signer.sign(request, *arguments)

    monkeypatch.setattr(fetcher, "sign", sign)
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    with ScriptedS3(first(truncated(2000), close), rest(2000)) as s3:
        headers = {"If-Match": '"other", "9b2cf535f27731c974343645a3985328"'}
        call(environ("/media/film.mp4", s3_settings(s3.url, S3Retries="1"), headers=headers))
    assert names == [["If-Match"], ["Range", "If-Match"]]


def test_a_range_that_is_too_short_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    too_short = chunked_range(0, 4000, OBJECT[:1000]) + b"0\r\n\r\n"
    with ScriptedS3(too_short, rest(1000, 4000)) as s3:
        settings = s3_settings(s3.url, S3Retries="1", S3ProxySet="max=1 acquire=1")
        reply = call(environ("/media/film.mp4", settings, headers={"Range": "bytes=0-3999"}))
    assert (reply.body, reply.truncated) == (OBJECT[:4000], None)
    assert "the body ended before the end of the range" in reply.log


# --- bodies whose truncation could not be detected

WITHOUT_LENGTH = first(answer(200, b"hello", length=None), close)


@pytest.mark.parametrize(
    ("step", "variables"),
    [
        (WITHOUT_LENGTH, {}),
        (CHUNKED, {"mod_wsgi.process_group": "daemons"}),
        (CHUNKED, {"SERVER_PROTOCOL": "HTTP/1.0"}),
        (answer(200, b"hello", length=None, version="HTTP/1.0"), {}),
    ],
    ids=["until close", "chunked in daemon mode", "chunked to HTTP/1.0", "HTTP/1.0"],
)
def test_a_body_of_unknown_length_is_rejected(step: Step, variables: dict[str, str]) -> None:
    with ScriptedS3(step) as s3:
        reply = call({**environ("/media/film.mp4", s3_settings(s3.url)), **variables})
    assert reply.status == 502
    assert "Content-Length" in reply.log


def test_a_head_needs_no_length() -> None:
    with ScriptedS3(first(answer(200, length=None), close)) as s3:
        reply = call(environ("/media/film.mp4", s3_settings(s3.url), method="HEAD"))
    assert reply.status == 200
    assert "Content-Length" not in reply.headers


def test_contradicting_lengths_are_rejected() -> None:
    with ScriptedS3(answer(200, b"hello", ("Content-Length", "4"))) as s3:
        assert call(environ("/media/film.mp4", s3_settings(s3.url))).status == 502


# --- abandoned bodies, surplus bytes


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, certificate: Certificate) -> Certificate | None:
    return certificate if request.param == "https" else None


def test_an_abandoned_body_closes_its_connection(tls: Certificate | None) -> None:
    ended: list[bool] = []

    def endless(connection: Connection, request: Request) -> None:
        connection.send(answer(200, b"x" * 100_000, length=1 << 30))
        ended.append(connection.ended())
        connection.close()

    with ScriptedS3(endless, answer(200, b"next"), tls=tls) as s3:
        settings = s3_settings(s3.url, **({"S3CAFile": str(tls.root)} if tls else {}))
        begun = begin(environ("/media/film.mp4", settings))
        assert set(next(begun.pieces)) == set(b"x")
        begun.close()
        reply = call(environ("/media/film.mp4", settings))
        assert s3.connections[0].finished.wait(WAIT)  # checked before the server stops, which would close it too
    assert reply.body == b"next"
    assert ended == [True]
    assert [request.connection for request in s3.requests] == [1, 2]
    assert begun.log == reply.log == ""


def test_an_unread_body_does_not_affect_the_next_request() -> None:
    with ScriptedS3(answer(200, b"first"), answer(200, b"second")) as s3:
        begin(environ("/media/film.mp4", s3_settings(s3.url))).close()
        assert call(environ("/media/film.mp4", s3_settings(s3.url))).body == b"second"


@pytest.mark.parametrize("surplus", [19, 100_000])
def test_surplus_bytes_do_not_affect_the_next_request(surplus: int) -> None:
    too_long = answer(200, b"hello" + b"HTTP/1.1 200 OK\r\n\r\n".ljust(surplus, b"x"), length=5)
    with ScriptedS3(too_long, answer(200, b"next")) as s3:
        assert call(environ("/media/film.mp4", s3_settings(s3.url))).body == b"hello"
        assert call(environ("/media/film.mp4", s3_settings(s3.url))).body == b"next"


def test_a_tls_connection_closed_without_close_notify_truncates_the_body(certificate: Certificate) -> None:
    def close_without_notify(connection: Connection, request: Request) -> None:
        assert isinstance(connection.socket, ssl.SSLSocket)
        connection.send(TRUNCATED)
        connection.close()  # no close_notify

    with ScriptedS3(close_without_notify, tls=certificate) as s3:
        reply = call(environ("/media/film.mp4", s3_settings(s3.url, S3CAFile=str(certificate.root))))
    assert reply.body == b"hello"
    assert reply.truncated is not None
