"""Unusual responses, which a device between S3 and the gateway may send rather than S3 itself."""

from __future__ import annotations

import socket
import time

import pytest

from tests.faults.named import ETAG, OBJECT, chunked, rest, truncated
from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, close, error, first, head_of, stall
from tests.wsgi import Reply, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher
from usp_s3_wsgi.gateway.response_body import Body

HELLO = answer(200, b"hello", ETAG)
CHUNKED_HEADER = answer(200, b"", ETAG, ("Transfer-Encoding", "chunked"), length=None)


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


def fetch(s3: ScriptedS3, *, method: str = "GET", query: str = "", **settings: str) -> Reply:
    values = {"S3ProxySet": "timeout=300ms", "S3Retries": "1", **settings}
    return call(environ("/media/film.mp4", s3_settings(s3.url, **values), method=method, QUERY_STRING=query))


# --- chunked encoding


@pytest.mark.parametrize(
    "line", [b"-5\r\n", b"+5\r\n", b"0x5\r\n", b"1_0\r\n", b" 5\r\n", b"5;a\rb\r\n", b"\r\n", b"g\r\n"]
)
def test_a_malformed_chunk_size_is_not_retried(line: bytes) -> None:
    """The bytes after it may not belong to the object: the body is not resumed."""
    begun = chunked(OBJECT[:2000], end=line + b"GARBAGE")
    with ScriptedS3(first(begun, close)) as s3:
        reply = fetch(s3)
    assert reply.truncated is not None and OBJECT.startswith(reply.body)
    assert len(s3.requests) == 1


def test_a_chunk_longer_than_its_size() -> None:
    with ScriptedS3(first(CHUNKED_HEADER + b"5\r\nhelloXX0\r\n\r\n", close)) as s3:
        reply = fetch(s3)
    assert reply.truncated is not None
    assert "invalid HTTP: Expected LF after chunk data" in reply.log


@pytest.mark.parametrize("size", [b"5", b"005", b"5;name=value", b"5 ;name", b"000000000000005"])
def test_valid_forms_of_a_chunk_size(size: bytes) -> None:
    with ScriptedS3(CHUNKED_HEADER + size + b"\r\nhello\r\n0;last\r\nTrailer: x\r\n\r\n", HELLO) as s3:
        assert [(reply.body, reply.truncated) for reply in (fetch(s3), fetch(s3))] == [(b"hello", None)] * 2
    assert [request.connection for request in s3.requests] == [1, 1]


def test_trailers_are_limited() -> None:
    with ScriptedS3(first(CHUNKED_HEADER + b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 10_000, close)) as s3:
        reply = fetch(s3)
    assert reply.truncated is not None and "chunk extensions or trailers are too large" in reply.log


def drip(data: bytes) -> Step:
    def slowly(connection: Connection, request: Request) -> None:
        for byte in data:
            connection.send(bytes([byte]))
            time.sleep(0.02)

    return slowly


def test_a_slow_trailer_times_out() -> None:
    begun = CHUNKED_HEADER + b"5\r\nhello\r\n0\r\n"
    with ScriptedS3(first(begun, drip(b"X: " + b"y" * 60))) as s3:  # type: ignore[arg-type]
        reply = fetch(s3, S3Retries="0")
    assert reply.truncated is not None


# --- surplus bytes


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_surplus_bytes_are_not_read_as_the_next_response(method: str) -> None:
    surplus = answer(200, b"EVIL")
    begun = HELLO if method == "GET" else head_of(HELLO)
    with ScriptedS3(begun + surplus, HELLO) as s3:
        assert fetch(s3, method=method).status == 200
        assert fetch(s3).body == b"hello"
    assert [request.connection for request in s3.requests] == [1, 2]


def test_a_304_with_transfer_encoding_has_no_body() -> None:
    with ScriptedS3(answer(304, b"", ETAG, ("Transfer-Encoding", "chunked"), length=None), HELLO) as s3:
        assert fetch(s3, S3ProxySet="timeout=9").status == 304
        assert fetch(s3, S3ProxySet="timeout=9").body == b"hello"
    assert [request.connection for request in s3.requests] == [1, 1]


def test_a_stalled_error_document_does_not_delay_the_response() -> None:
    response = error(416, "InvalidRange", ("Content-Range", "bytes */5"))
    with ScriptedS3(first(response[:-20], stall), HELLO) as s3:
        assert fetch(s3, S3ProxySet="timeout=600").status == 416
        assert fetch(s3).body == b"hello"
    assert [request.connection for request in s3.requests] == [1, 2]


# --- truncated error responses


@pytest.mark.parametrize(("status", "code"), [(403, "SignatureDoesNotMatch"), (404, "NoSuchBucket"), (400, "X")])
def test_an_error_truncated_before_its_code_is_retried(status: int, code: str) -> None:
    whole = error(status, code)
    begun = whole[: whole.index(b"<Error>") + 3]
    with ScriptedS3(first(begun, close), HELLO) as s3:
        reply = fetch(s3, S3DeniedStatus="404")
        assert reply.body == b"hello"
        assert f"S3 answered {status}, and the connection broke before the error code" in reply.log
    with ScriptedS3(first(begun, close), first(begun, close)) as s3:
        assert fetch(s3, S3DeniedStatus="404").status == 502
    with ScriptedS3(first(begun, stall)) as s3:
        assert fetch(s3, S3DeniedStatus="404").status == 502


def test_an_error_truncated_after_its_code_is_used() -> None:
    whole = error(404, "NoSuchKey")
    with ScriptedS3(first(whole[: whole.index(b"</Code>") + 8], close)) as s3:
        assert fetch(s3).status == 404


def test_a_slow_error_document_times_out() -> None:
    head = answer(404, b"", length=500)
    with ScriptedS3(first(head, drip(b"x" * 60))) as s3:  # type: ignore[arg-type]
        assert fetch(s3).status == 502


@pytest.mark.parametrize("code", ["InvalidArgument", "InvalidRequest"])
def test_a_query_parameter_that_s3_rejects_is_a_400(code: str) -> None:
    with ScriptedS3(error(400, code), error(400, code)) as s3:
        reply = fetch(s3, query="versionId=zzz", S3PassQuery="versionId")
        assert (reply.status, reply.log) == (400, "")
        assert fetch(s3, S3PassQuery="versionId").status == 502


# --- clock and region from a response


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 2024 00:00:00 +99999999999999999"])
def test_an_impossible_date_is_ignored(date: str) -> None:
    with ScriptedS3(error(403, "RequestTimeTooSkewed", ("Date", date)), HELLO) as s3:
        assert fetch(s3).status == 502
        assert fetch(s3).body == b"hello"


def test_an_invalid_region_is_ignored() -> None:
    with ScriptedS3(error(301, "PermanentRedirect", region="x/y:z"), HELLO) as s3:
        assert fetch(s3).status == 502
        assert fetch(s3).body == b"hello"
        assert "/eu-central-1/s3/" in s3.requests[1].headers["authorization"]


def test_the_log_names_the_host_of_each_attempt() -> None:
    """After S3 has named another region, it is Amazon's endpoint of that region."""
    settings = s3_settings("http://b.s3.eu-central-1.amazonaws.com")
    steps = [error(301, "PermanentRedirect", region="eu-west-3"), error(403, "SignatureDoesNotMatch")]
    with ScriptedS3(*steps) as s3, pytest.MonkeyPatch.context() as patch:
        patch.setattr("usp_s3_wsgi.transport.happy_eyeballs.connect", lambda *arguments: s3_socket(s3))
        reply = call(environ("/media/film.mp4", settings))
    assert "(GET http://b.s3.eu-central-1.amazonaws.com/bucket/film.mp4, attempt 1, " in reply.log
    assert "(GET http://b.s3.eu-west-3.amazonaws.com/bucket/film.mp4, attempt 2, " in reply.log


def s3_socket(s3: ScriptedS3) -> socket.socket:
    return socket.create_connection(("127.0.0.1", s3.port), 5)


# --- an unexpected exception in the middle of a body


def test_an_internal_error_truncates_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("message of the exception")

    monkeypatch.setattr(Body, "_validate_rest", fail)
    with ScriptedS3(first(truncated(2000), close), rest(2000)) as s3:
        reply = fetch(s3)
    assert reply.truncated is not None and reply.body == OBJECT[:2000]
    assert "USPS30001: usp_s3_wsgi: /media: internal error: RuntimeError in fail, " in reply.log
    assert "message of the exception" not in reply.log
