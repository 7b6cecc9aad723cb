"""http.client's reading, made strict: what is whole is read as ever, what is not raises."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from usp_s3_wsgi import strict_http

HEAD = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 5\r\n\r\n'


@contextmanager
def answered(*pieces: bytes, end: bool = True, timeout: float | None = 5) -> Iterator[http.client.HTTPResponse]:
    """A response to read, of a server that sends these pieces; ``end``: then it ends the connection."""
    near, far = socket.socketpair()
    near.settimeout(timeout)

    def send() -> None:
        for number, piece in enumerate(pieces):
            time.sleep(0.01 if number else 0)
            far.sendall(piece)
        if end:
            far.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    response = strict_http._Response(near, method="GET")
    try:
        yield response
    finally:
        sender.join()
        response.close()
        near.close()
        far.close()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_whole_answer_however_it_arrives(size: int) -> None:
    whole = HEAD + b"hello"
    with answered(*[whole[start : start + size] for start in range(0, len(whole), size)]) as response:
        response.begin()
        assert (response.status, response.headers["ETag"], response.read()) == (200, '"e"', b"hello")


@pytest.mark.parametrize("length", range(1, len(HEAD)))
def test_a_header_that_is_cut_anywhere(length: int) -> None:
    with answered(HEAD[:length]) as response:
        with pytest.raises(ConnectionError):
            response.begin()


@pytest.mark.parametrize("hint", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1\t103\tx\r\n\r\n"])
@pytest.mark.parametrize("length", [1, 20, len(HEAD) - 3])
def test_a_header_that_is_cut_after_an_informational_one(hint: bytes, length: int) -> None:
    with answered(hint + HEAD[:length]) as response:
        with pytest.raises(ConnectionError):
            response.begin()


def test_nothing_at_all_is_http_clients_own_error() -> None:
    with answered() as response:
        with pytest.raises(http.client.RemoteDisconnected):
            response.begin()


def test_lines_may_end_without_cr() -> None:
    with answered(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi") as response:
        response.begin()
        assert response.read() == b"hi"


@pytest.mark.parametrize(
    "line", [b"ETag: a\rSet-Cookie: b\r\n", b"ETag: a\r\r\n", b"no colon\r\n", b" folded: at first\r\n"]
)
def test_a_header_that_is_none(line: bytes) -> None:
    with answered(HEAD.replace(b'ETag: "e"\r\n', line)) as response:
        with pytest.raises(http.client.HTTPException):
            response.begin()


@pytest.mark.parametrize("kind", [b"multipart/byteranges", b"multipart/mixed; boundary=x", b"message/rfc822"])
def test_a_type_that_the_parser_of_mails_stumbles_over(kind: bytes) -> None:
    with answered(HEAD.replace(b'ETag: "e"', b"Content-Type: " + kind)) as response:
        response.begin()
        assert response.headers["Content-Length"] == "5"


@pytest.mark.parametrize("size", [65_536, 65_537, 200_000])
def test_a_line_that_is_too_long(size: int) -> None:
    with answered(b"HTTP/1.1 200 OK\r\nX: " + b"x" * size + b"\r\n\r\n") as response:
        with pytest.raises(http.client.LineTooLong):
            response.begin()


def test_a_header_in_time_though_in_pieces_and_no_limit_for_the_body() -> None:
    with answered(HEAD[:30], HEAD[30:], b"he", b"llo", timeout=2) as response:
        response.begin()
        assert response.read() == b"hello"


def test_bytes_that_trickle_in_do_not_extend_the_time() -> None:
    slow = [bytes([byte]) for byte in HEAD]
    with answered(*slow, timeout=0.1) as response:
        with pytest.raises(TimeoutError):
            response.begin()


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_informational_answers_are_skipped(status: int) -> None:
    early = b"HTTP/1.1 %d Early\r\nLink: </a>\r\n\r\n" % status
    with answered(early + early + HEAD + b"hello") as response:
        response.begin()
        assert (response.status, response.headers["Link"], response.read()) == (200, None, b"hello")


@pytest.mark.parametrize(
    "end", [b"5", b"5\r", b"5\r\nhello", b"5\r\nhello\r\n", b"5\r\nhello\r\n0", b"5\r\nhello\r\n0\r\n"]
)
def test_chunks_that_are_cut(end: bytes) -> None:
    with answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + end) as response:
        response.begin()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            b"".join(iter(lambda: response.read1(100), b""))
