"""Responses whose length or range is ambiguous are rejected, and do not affect the next request on the connection."""

from __future__ import annotations

import pytest

from tests.faults.server import Connection, Request, ScriptedS3, answer, close, error, first, head_of
from tests.wsgi import Reply, call, environ, s3_settings

WHOLE = answer(200, b"bob's object")


def fetch(s3: ScriptedS3, target: str = "/media/film.mp4", method: str = "GET", **headers: str) -> Reply:
    settings = s3_settings(s3.url, S3PassQuery="partNumber")
    return call(environ(target, settings, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()}))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unexpected_101_does_not_shift_the_responses(method: str) -> None:
    """http.client takes a 101 for the final response; the bytes after it must not be read as the next response."""
    switching = b"HTTP/1.1 101 Early\r\nLink: </a>; rel=preload\r\n\r\n"

    def send_101_then_200(connection: Connection, request: Request) -> None:
        connection.send(switching)
        connection.socket.settimeout(0.2)
        connection.ended()
        connection.send(answer(200, b"ALICE'S OBJECT"))

    with ScriptedS3(send_101_then_200, WHOLE) as s3:
        alice = fetch(s3, "/media/alice", method)
        bob = fetch(s3, "/media/bob")
    assert alice.status == 502
    assert (bob.status, bob.body) == (200, b"bob's object")
    assert s3.requests[0].connection != s3.requests[1].connection


@pytest.mark.parametrize(
    "headers",
    [
        "Transfer-Encoding: chunked ",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 20",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 1_0",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: ٥",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ambiguous_message_length_is_rejected(headers: str, method: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n{headers}\r\n\r\n".encode()
    with ScriptedS3(first(head + b"5\r\nhello\r\n0\r\n\r\n", close)) as s3:
        reply = fetch(s3, method=method)
    assert reply.status == 502


def test_transfer_encoding_is_case_insensitive() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: Chunked\r\n\r\n"
    with ScriptedS3(head + b"5\r\nhello\r\n0\r\n\r\n") as s3:
        assert fetch(s3).body == b"hello"


@pytest.mark.parametrize(
    ("requested_range", "content_range", "status"),
    [
        ("bytes=1-3", "bytes 1-3/5", 206),
        ("bytes=1-9", "bytes 1-3/4", 206),
        ("bytes=1-", "bytes 1-3/4", 206),
        ("bytes=-3", "bytes 2-4/5", 206),
        ("bytes=1-3", "bytes 1-3/*", 206),
        (None, "bytes 1-3/5", 502),
        ("bytes=1-3", None, 502),
        ("bytes=1-3", "bytes 0-2/5", 502),
        ("bytes=1-3", "bytes 1-4/5", 502),
        ("bytes=1-2", "bytes 1-3/5", 502),
        ("bytes=1-3", "octets 1-3/5", 502),
        ("bytes=-3", "bytes 0-2/5", 502),
        ("bytes=-9", "bytes 0-2/3", 206),
        ("bytes=1-3", "bytes 1-3/3", 502),
        ("bytes=0-1,3-4", "bytes 0-2/5", 206),
    ],
)
def test_content_range_must_match_the_requested_range(
    requested_range: str | None, content_range: str | None, status: int
) -> None:
    headers = [("Content-Range", content_range)] if content_range else []
    with ScriptedS3(answer(206, b"ell", *headers)) as s3:
        reply = fetch(s3, **({"Range": requested_range} if requested_range else {}))
    assert reply.status == status


@pytest.mark.parametrize("length", [0, 2, 4, 5])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("total", ["5", "*"])
def test_content_length_must_match_content_range(length: int, method: str, total: str) -> None:
    part = answer(206, b"hello"[:length], ("Content-Range", f"bytes 1-3/{total}"))
    with ScriptedS3(part if method == "GET" else head_of(part)) as s3:
        reply = fetch(s3, "/media/film.mp4?partNumber=2", method)
    assert reply.status == 502
    assert "Content-Length does not match Content-Range" in reply.log


def test_206_for_a_part_number_and_for_several_ranges() -> None:
    with ScriptedS3(answer(206, b"ell", ("Content-Range", "bytes 1-3/5"))) as s3:
        assert fetch(s3, "/media/film.mp4?partNumber=2").status == 206
    with ScriptedS3(answer(206, b"--x--", ("Content-Type", "multipart/byteranges; boundary=x"))) as s3:
        assert fetch(s3, Range="bytes=0-0,2-2").status == 206


def test_an_expired_signature_is_a_502() -> None:
    """AWS answers AccessDenied to an expired query signature; only its error document has a ServerTime."""
    document = (
        b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message><ServerTime>x</ServerTime></Error>"
    )
    with ScriptedS3(answer(403, document), error(403, "AccessDenied")) as s3:
        expired, denied = fetch(s3), fetch(s3)
    assert (expired.status, denied.status) == (502, 403)
    assert "RequestExpired" in expired.log


@pytest.mark.parametrize("stated", ["bytes */0", "bytes 0--1/0"])
def test_a_range_of_an_empty_object_gets_200(stated: str) -> None:
    """Ceph and MinIO answer 206 without bytes; a player that requests bytes=0- must not get an error."""
    with ScriptedS3(answer(206, b"", ("Content-Range", stated)), answer(200, b"")) as s3:
        reply = fetch(s3, Range="bytes=0-")
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")
    assert "range" not in s3.requests[1].headers


def test_a_200_may_have_a_content_range_of_the_whole_object() -> None:
    with ScriptedS3(answer(200, b"hello", ("Content-Range", "bytes 0-4/5"))) as s3:
        reply = fetch(s3)
    assert (reply.status, reply.body) == (200, b"hello")
    assert "Content-Range" not in reply.headers


def test_the_rest_of_a_body_may_have_status_200() -> None:
    """Some implementations send ranges with status 200."""
    begun = answer(200, b"hel", ("ETag", '"x"'), length=5)
    rest = answer(200, b"lo", ("ETag", '"x"'), ("Content-Range", "bytes 3-4/5"))
    with ScriptedS3(first(begun, close), rest) as s3:
        settings = s3_settings(s3.url, S3Retries="1")
        reply = call(environ("/media/film.mp4", settings))
    assert (reply.body, reply.truncated) == (b"hello", None)


@pytest.mark.parametrize(("body", "received"), [(b"he", b"he"), (b"hello you", b"")])
def test_a_chunked_range_of_a_wrong_length_is_truncated(body: bytes, received: bytes) -> None:
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    headers = [("Content-Range", "bytes 0-4/9"), ("Transfer-Encoding", "chunked")]
    with ScriptedS3(answer(206, chunks, *headers, length=None)) as s3:
        reply = fetch(s3, Range="bytes=0-4")
    assert (reply.body, reply.truncated is None) == (received, False)


def test_content_range_is_checked_for_a_stored_multipart_content_type() -> None:
    headers = [("Content-Range", "bytes 3-4/5"), ("Content-Type", "multipart/byteranges; boundary=x")]
    with ScriptedS3(answer(206, b"lo", *headers)) as s3:
        assert fetch(s3, Range="bytes=0-1").status == 502


def test_chunked_encoding_in_http_1_0_is_rejected() -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
    with ScriptedS3(first(head + b"5\r\nhello\r\n0\r\n\r\n", close)) as s3:
        assert fetch(s3).status == 502


def test_http_0_9_in_daemon_mode_is_rejected() -> None:
    """HTTP/0.9 has no Content-Length, and daemon mode cannot reset the client's connection."""
    with ScriptedS3(answer(200, b"hello")) as s3:
        request = environ("/media/film.mp4", s3_settings(s3.url))
        reply = call({**request, "SERVER_PROTOCOL": "HTTP/0.9", "mod_wsgi.process_group": "daemons"})
    assert reply.status == 502
    assert "load usp_s3_module" in reply.log
