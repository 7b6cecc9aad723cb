"""Answers that S3 itself hardly gives, but something between it and here may: each is seen for what it is."""

from __future__ import annotations

import socket
import time

import pytest

from tests.faults.named import ETAG, OBJECT, chunked, cut, rest
from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, close, error, first, head_of, stall
from tests.wsgi import Reply, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher
from usp_s3_wsgi.gateway.body import Body

HELLO = answer(200, b"hello", ETAG)
HEAD = answer(200, b"", ETAG, ("Transfer-Encoding", "chunked"), length=None)


@pytest.fixture(autouse=True)
def _no_pauses_and_nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


def ask(s3: ScriptedS3, *, method: str = "GET", query: str = "", **settings: str) -> Reply:
    given = {"S3ProxySet": "timeout=300ms", "S3Retries": "1", **settings}
    return call(environ("/media/film.mp4", s3_settings(s3.url, **given), method=method, QUERY_STRING=query))


# --- chunks


@pytest.mark.parametrize(
    "line", [b"-5\r\n", b"+5\r\n", b"0x5\r\n", b"1_0\r\n", b" 5\r\n", b"5;a\rb\r\n", b"\r\n", b"g\r\n"]
)
def test_a_chunk_size_that_is_none_is_no_break(line: bytes) -> None:
    """What came after it was no part of the object, so nobody knows where to go on."""
    begun = chunked(OBJECT[:2000], end=line + b"GARBAGE")
    with ScriptedS3(first(begun, close)) as s3:
        reply = ask(s3)
    assert reply.truncated is not None and OBJECT.startswith(reply.body)
    assert len(s3.requests) == 1


def test_a_chunk_of_another_length_than_its_size() -> None:
    with ScriptedS3(first(HEAD + b"5\r\nhelloXX0\r\n\r\n", close)) as s3:
        reply = ask(s3)
    assert reply.truncated is not None
    assert "chunk longer than its size" in reply.log


@pytest.mark.parametrize("size", [b"5", b"005", b"5;name=value", b"5 ;name", b"000000000000005"])
def test_sizes_may_be_written_so(size: bytes) -> None:
    with ScriptedS3(HEAD + size + b"\r\nhello\r\n0;last\r\nTrailer: x\r\n\r\n", HELLO) as s3:
        assert [(reply.body, reply.truncated) for reply in (ask(s3), ask(s3))] == [(b"hello", None)] * 2
    assert [request.connection for request in s3.requests] == [1, 1]


def test_trailers_come_to_an_end() -> None:
    with ScriptedS3(first(HEAD + b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 10_000, close)) as s3:
        reply = ask(s3)
    assert reply.truncated is not None and "too many trailers" in reply.log


def drip(data: bytes) -> Step:
    def slowly(connection: Connection, request: Request) -> None:
        for byte in data:
            connection.send(bytes([byte]))
            time.sleep(0.02)

    return slowly


def test_a_trailer_that_trickles_in_ends_in_time() -> None:
    begun = HEAD + b"5\r\nhello\r\n0\r\n"
    with ScriptedS3(first(begun, drip(b"X: " + b"y" * 60))) as s3:  # type: ignore[arg-type]
        reply = ask(s3, S3Retries="0")
    assert reply.truncated is not None


# --- more than was asked for


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_that_follows_an_answer_is_taken_for_the_next_one(method: str) -> None:
    evil = answer(200, b"EVIL")
    begun = HELLO if method == "GET" else head_of(HELLO)
    with ScriptedS3(begun + evil, HELLO) as s3:
        assert ask(s3, method=method).status == 200
        assert ask(s3).body == b"hello"
    assert [request.connection for request in s3.requests] == [1, 2]


def test_a_304_that_speaks_of_chunks_has_none() -> None:
    with ScriptedS3(answer(304, b"", ETAG, ("Transfer-Encoding", "chunked"), length=None), HELLO) as s3:
        assert ask(s3, S3ProxySet="timeout=9").status == 304
        assert ask(s3, S3ProxySet="timeout=9").body == b"hello"
    assert [request.connection for request in s3.requests] == [1, 1]


def test_a_document_that_nobody_needs_is_not_waited_for() -> None:
    refusal = error(416, "InvalidRange", ("Content-Range", "bytes */5"))
    with ScriptedS3(first(refusal[:-20], stall), HELLO) as s3:
        assert ask(s3, S3ProxySet="timeout=600").status == 416
        assert ask(s3).body == b"hello"
    assert [request.connection for request in s3.requests] == [1, 2]


# --- refusals that break off


@pytest.mark.parametrize(("status", "code"), [(403, "SignatureDoesNotMatch"), (404, "NoSuchBucket"), (400, "X")])
def test_a_refusal_without_its_reason_is_no_word_about_the_object(status: int, code: str) -> None:
    whole = error(status, code)
    begun = whole[: whole.index(b"<Error>") + 3]
    with ScriptedS3(first(begun, close), HELLO) as s3:
        reply = ask(s3, S3DeniedStatus="404")
        assert reply.body == b"hello"
        assert f"S3 answered {status}, and the connection broke before the error code" in reply.log
    with ScriptedS3(first(begun, close), first(begun, close)) as s3:
        assert ask(s3, S3DeniedStatus="404").status == 502
    with ScriptedS3(first(begun, stall)) as s3:
        assert ask(s3, S3DeniedStatus="404").status == 502


def test_a_refusal_that_tells_its_code_before_it_breaks_off() -> None:
    whole = error(404, "NoSuchKey")
    with ScriptedS3(first(whole[: whole.index(b"</Code>") + 8], close)) as s3:
        assert ask(s3).status == 404


def test_an_error_document_that_trickles_in_ends_in_time() -> None:
    head = answer(404, b"", length=500)
    with ScriptedS3(first(head, drip(b"x" * 60))) as s3:  # type: ignore[arg-type]
        assert ask(s3).status == 502


@pytest.mark.parametrize("code", ["InvalidArgument", "InvalidRequest"])
def test_a_parameter_that_s3_refuses_is_the_clients_fault(code: str) -> None:
    with ScriptedS3(error(400, code), error(400, code)) as s3:
        reply = ask(s3, query="versionId=zzz", S3PassQuery="versionId")
        assert (reply.status, reply.log) == (400, "")
        assert ask(s3, S3PassQuery="versionId").status == 502


# --- what is learned


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 2024 00:00:00 +99999999999999999"])
def test_a_clock_beyond_all_bounds_is_none_to_go_by(date: str) -> None:
    with ScriptedS3(error(403, "RequestTimeTooSkewed", ("Date", date)), HELLO) as s3:
        assert ask(s3).status == 502
        assert ask(s3).body == b"hello"


def test_what_is_no_region_is_not_signed_for() -> None:
    with ScriptedS3(error(301, "PermanentRedirect", region="x/y:z"), HELLO) as s3:
        assert ask(s3).status == 502
        assert ask(s3).body == b"hello"
        assert "/eu-central-1/s3/" in s3.requests[1].headers["authorization"]


def test_the_log_names_the_host_that_was_asked() -> None:
    """Once S3 has named another region, that is Amazon's endpoint there."""
    settings = s3_settings("http://b.s3.eu-central-1.amazonaws.com")
    asked = [error(301, "PermanentRedirect", region="eu-west-3"), error(403, "SignatureDoesNotMatch")]
    with ScriptedS3(*asked) as s3, pytest.MonkeyPatch.context() as patch:
        patch.setattr("usp_s3_wsgi.transport.happy_eyeballs.connect", lambda *given: s3_socket(s3))
        reply = call(environ("/media/film.mp4", settings))
    assert "(GET http://b.s3.eu-central-1.amazonaws.com/bucket/film.mp4, attempt 1, " in reply.log
    assert "(GET http://b.s3.eu-west-3.amazonaws.com/bucket/film.mp4, attempt 2, " in reply.log


def s3_socket(s3: ScriptedS3) -> socket.socket:
    return socket.create_connection(("127.0.0.1", s3.port), 5)


# --- an error of our own, in the middle of a body


def test_an_internal_error_ends_the_body_as_any_other_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("of our own")

    monkeypatch.setattr(Body, "_validate_rest", fail)
    with ScriptedS3(first(cut(2000), close), rest(2000)) as s3:
        reply = ask(s3)
    assert reply.truncated is not None and reply.body == OBJECT[:2000]
    assert "internal error: RuntimeError in fail, " in reply.log and "of our own" not in reply.log
