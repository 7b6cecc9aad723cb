"""The parser of S3's responses: complete responses are read, truncated and invalid ones raise an exception."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_client_response import FakeConnection
from usp_s3_wsgi.errors import BadUpstreamResponse
from usp_s3_wsgi.transport.connection import S3Connection
from usp_s3_wsgi.transport.http_response import ReadableConnection, S3Response, read_response

HEADER = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 5\r\n\r\n'


class Exchange:
    """A connection to a server, and whether it was released after the response."""

    def __init__(self, client: socket.socket) -> None:
        self.connection = S3Connection("s3.example", read_timeout=5)
        self.connection.sock = client
        self.connection.register()
        self.released = 0

    def get_response(self, method: str = "GET", timeout: float = 5) -> S3Response:
        """Send a request and read the header of the response."""
        self.connection.read_timeout = timeout
        self.connection.register()
        self.connection.request(method, "/", b"GET / HTTP/1.1\r\n\r\n")
        response = self.connection.getresponse()
        response.when_released(self._release)
        return response

    def _release(self, connection: ReadableConnection) -> None:
        assert connection is self.connection
        self.released += 1

    @property
    def is_reusable(self) -> bool:
        """Whether the connection was released open."""
        return self.released == 1 and self.connection.sock is not None


@contextmanager
def server_sends(*pieces: bytes, end: bool = True) -> Iterator[Exchange]:
    """A connection to a server that sends these pieces; ``end``: then it closes the connection."""
    client, server = socket.socketpair()

    def send() -> None:
        for number, piece in enumerate(pieces):
            time.sleep(0.01 if number else 0)
            server.sendall(piece)
        if end:
            server.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield Exchange(client)
    finally:
        sender.join()
        client.close()
        server.close()


def read_body(response: S3Response, size: int = 100) -> bytes:
    """Read a body to its end, ``size`` bytes at a time."""
    return b"".join(iter(lambda: response.read1(size), b""))


# --- the header


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_complete_response_in_pieces_of_any_size(size: int) -> None:
    complete = HEADER + b"hello"
    with server_sends(
        *[complete[start : start + size] for start in range(0, len(complete), size)], end=False
    ) as exchange:
        response = exchange.get_response()
        assert (response.status, response.version, response.headers) == (
            200,
            11,
            {"etag": '"e"', "content-length": "5"},
        )
        assert read_body(response) == b"hello"
        assert exchange.is_reusable


@pytest.mark.parametrize("length", range(1, len(HEADER)))
def test_a_header_truncated_anywhere(length: int) -> None:
    with server_sends(HEADER[:length]) as exchange:
        with pytest.raises(ConnectionError):
            exchange.get_response()
        assert exchange.released == 0


@pytest.mark.parametrize("hint", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 103\n\n"])
@pytest.mark.parametrize("length", [0, 1, 20, len(HEADER) - 3])
def test_a_header_truncated_after_an_informational_response(hint: bytes, length: int) -> None:
    with server_sends(hint + HEADER[:length]) as exchange:
        with pytest.raises(ConnectionError):
            exchange.get_response()


def test_a_connection_closed_without_a_response() -> None:
    with server_sends() as exchange:
        with pytest.raises(http.client.RemoteDisconnected):
            exchange.get_response()


def test_lines_may_end_without_cr() -> None:
    with server_sends(b"HTTP/1.1 200 OK\nContent-Length: 22\n\nhi \r\n\r\n not the header") as exchange:
        response = exchange.get_response()
        assert response.headers == {"content-length": "22"}
        assert read_body(response) == b"hi \r\n\r\n not the header"


@pytest.mark.parametrize(
    "line",
    [b"ETag: a\rSet-Cookie: b\r\n", b"ETag: a\r\r\n", b"no colon\r\n", b" folded: at first\r\n",
     b"ETag: a\r\n folded: b\r\n", b": no name\r\n"],
)  # fmt: skip
def test_invalid_header_lines(line: bytes) -> None:
    with server_sends(HEADER.replace(b'ETag: "e"\r\n', line)) as exchange:
        with pytest.raises(http.client.HTTPException):
            exchange.get_response()


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/2 200 OK",
        b"HTTP/1.1 OK",
        b"HTTP/1.1 20 x",
        b"HTTP/1.1 2000 x",
        b"HTTP/1.1 000 x",
        b"ICY 200 OK",
        b"",
        b"HTTP/1.1 200\0",
    ],
)
def test_invalid_status_lines(line: bytes) -> None:
    with server_sends(line + b"\r\nContent-Length: 0\r\n\r\n") as exchange:
        with pytest.raises(http.client.HTTPException):
            exchange.get_response()


def test_another_protocol_is_detected_before_the_timeout() -> None:
    with server_sends(b"SSH-2.0-OpenSSH_9.2\r\n", end=False) as exchange:
        with pytest.raises(http.client.HTTPException):
            exchange.get_response()


def test_header_names_in_any_case_and_repeated_headers() -> None:
    with server_sends(b"HTTP/1.0 200\r\nX-A:1\r\nx-a:\t 2 \t\r\nX-B: \xe9\r\ncontent-length: 0\r\n\r\n") as exchange:
        response = exchange.get_response()
        assert (response.version, response.headers) == (10, {"x-a": "1, 2", "x-b": "\xe9", "content-length": "0"})


@pytest.mark.parametrize("content_type", [b"multipart/byteranges", b"multipart/mixed; boundary=x", b"message/rfc822"])
def test_content_types_with_a_meaning_for_a_mail_parser(content_type: bytes) -> None:
    with server_sends(HEADER.replace(b'ETag: "e"', b"Content-Type: " + content_type)) as exchange:
        assert exchange.get_response().headers["content-length"] == "5"


@pytest.mark.parametrize("size", [65_536, 65_537, 200_000])
def test_a_header_longer_than_the_limit(size: int) -> None:
    with server_sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * size + b"\r\n\r\n") as exchange:
        with pytest.raises(http.client.LineTooLong):
            exchange.get_response()


def test_a_header_of_many_lines() -> None:
    """Each item of an object's metadata is a line."""
    lines = b"".join([b"x-%d: y\r\n" % (number % 5_000) for number in range(6_000)])
    with server_sends(b"HTTP/1.1 200 OK\r\n" + lines + b"content-length: 0\r\n\r\n") as exchange:
        headers = exchange.get_response().headers
    assert len(headers) == 5_001 and (headers["x-0"], headers["x-4999"]) == ("y, y", "y")


def test_single_bytes_do_not_extend_the_timeout() -> None:
    slow = [bytes([byte]) for byte in HEADER]
    with server_sends(*slow) as exchange:
        with pytest.raises(TimeoutError):
            exchange.get_response(timeout=0.1)


def test_no_response_within_the_timeout() -> None:
    with server_sends(end=False) as exchange:
        with pytest.raises(TimeoutError):
            exchange.get_response(timeout=0.05)


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_informational_responses_are_skipped(status: int) -> None:
    early = b"HTTP/1.1 %d Early\r\nLink: </a>\r\n\r\n" % status
    with server_sends(early + early + HEADER + b"hello") as exchange:
        response = exchange.get_response()
        assert (response.status, "link" in response.headers, read_body(response)) == (200, False, b"hello")


@pytest.mark.parametrize("coding", [b"chunked", b"x"])
def test_an_informational_response_with_a_transfer_coding_is_rejected(coding: bytes) -> None:
    """Another parser may see a body: https://www.rfc-editor.org/rfc/rfc9112#section-6.1."""
    early = b"HTTP/1.1 103 Early\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    with server_sends(early + HEADER + b"hello") as exchange:
        with pytest.raises(http.client.HTTPException):
            exchange.get_response()


def test_informational_responses_do_not_extend_the_timeout() -> None:
    with server_sends(*[b"HTTP/1.1 103 Early\r\n\r\n"] * 100, end=False) as exchange:
        with pytest.raises(TimeoutError):
            exchange.get_response(timeout=0.2)


@pytest.mark.parametrize("end", ["\xa0", "\x85"])
def test_whitespace_that_is_not_http_whitespace_is_part_of_a_name(end: str) -> None:
    with server_sends(f"HTTP/1.1 200 x\r\nContent-Length{end}: 2\r\n\r\nok".encode("latin-1")) as exchange:
        assert exchange.get_response().length_remaining is None


@pytest.mark.parametrize("end", [" ", "\t", "\x0b", "\0"])
def test_whitespace_after_a_name(end: str) -> None:
    """One parser may see a Content-Length here, another one none: https://www.rfc-editor.org/rfc/rfc9112#section-5.1."""
    with server_sends(f"HTTP/1.1 200 x\r\nContent-Length{end}: 2\r\n\r\nok".encode("latin-1")) as exchange:
        with pytest.raises(http.client.HTTPException):
            exchange.get_response()


# --- the body


def test_header_and_body_in_pieces_within_the_timeout() -> None:
    with server_sends(HEADER[:30], HEADER[30:], b"he", b"llo") as exchange:
        assert read_body(exchange.get_response(timeout=2)) == b"hello"


def test_a_stalled_body() -> None:
    with server_sends(HEADER + b"he", end=False) as exchange:
        response = exchange.get_response(timeout=0.05)
        assert response.read1(100) == b"he"
        with pytest.raises(TimeoutError):
            response.read1(100)
        response.close()
        assert exchange.released == 1 and not exchange.is_reusable


@pytest.mark.parametrize("cut", [0, 1, 4])
def test_a_truncated_body(cut: int) -> None:
    with server_sends(HEADER + b"hello"[:cut]) as exchange:
        with pytest.raises(ConnectionError):
            read_body(exchange.get_response())


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", HEADER),
        ("HEAD", b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 x\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.0 200 x\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_a_response_without_a_body_releases_the_connection_at_once(method: str, head: bytes) -> None:
    with server_sends(head, end=False) as exchange:
        response = exchange.get_response(method)
        assert exchange.is_reusable and read_body(response) == b""
        response.close()
        assert exchange.released == 1


@pytest.mark.parametrize(
    "head",
    [HEADER.replace(b"ETag", b"Connection: close\r\nETag"), HEADER.replace(b"1.1", b"1.0"), b"HTTP/1.1 200 x\r\n\r\n"],
)
def test_a_connection_that_is_not_kept_alive(head: bytes) -> None:
    with server_sends(head + b"hello") as exchange:
        assert read_body(exchange.get_response()) == b"hello"
        assert exchange.released == 1 and not exchange.is_reusable


@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 0",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        b"Transfer-Encoding: identity",
    ],
)
def test_a_connection_with_ambiguous_framing_is_not_reused(fields: bytes) -> None:
    with server_sends(b"HTTP/1.1 304 x\r\n" + fields + b"\r\n\r\n", end=False) as exchange:
        assert read_body(exchange.get_response()) == b""
        assert exchange.released == 1 and not exchange.is_reusable


def test_a_connection_is_not_reused_after_a_204_with_a_transfer_coding() -> None:
    with server_sends(b"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n", end=False) as exchange:
        assert read_body(exchange.get_response()) == b""
        assert exchange.released == 1 and not exchange.is_reusable


def test_space_after_content_length() -> None:
    with server_sends(b"HTTP/1.1 404 x\r\nContent-Length: 5 \r\n\r\nhello", end=False) as exchange:
        assert read_body(exchange.get_response()) == b"hello"


class SocketWithoutTimeouts(socket.socket):
    """A socket whose kernel does not support SO_RCVTIMEO and SO_SNDTIMEO."""

    def setsockopt(self, *arguments: object) -> None:
        raise OSError(22, "Invalid argument")


def test_timeouts_if_the_kernel_has_none() -> None:
    client, server = socket.socketpair()
    connection = S3Connection("s3.example", read_timeout=0.05)
    with SocketWithoutTimeouts(fileno=client.detach()) as sock, server:
        connection.sock = sock
        connection.register()
        connection.request("GET", "/", b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):
            connection.getresponse()


@pytest.mark.parametrize(
    "received", [HEADER + b"hello", b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
def test_bytes_after_a_response_are_never_the_next_response(received: bytes) -> None:
    with server_sends(received + HEADER + b"other", end=False) as exchange:
        assert read_body(exchange.get_response()) == b"hello"
        assert exchange.released == 1 and not exchange.is_reusable


@pytest.mark.parametrize(
    ("method", "received"),
    [
        ("HEAD", HEADER + b"hello"),
        ("HEAD", HEADER.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
        ("HEAD", HEADER + HEADER),
        ("GET", HEADER.replace(b"200", b"304") + b"hello"),
        ("GET", HEADER.replace(b"200", b"204") + b"\r\n"),
        ("GET", HEADER.replace(b"5", b"0") + b"hello"),
    ],
)
def test_bytes_after_a_response_without_a_body_are_never_the_next_response(method: str, received: bytes) -> None:
    """llhttp cannot be told that the request was a HEAD."""
    with server_sends(received, end=False) as exchange:
        assert read_body(exchange.get_response(method)) == b""
        assert exchange.released == 1 and not exchange.is_reusable


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_gzip_before_chunked_is_not_a_chunked_body(end: bytes) -> None:
    """llhttp decodes it as chunks, whose content is not the object."""
    lines = (b"HTTP/1.1 200 OK", b"Transfer-Encoding: gzip, chunked", b"", b"0", b"", b"")
    with server_sends(end.join(lines), end=False) as exchange:
        response = exchange.get_response()
        with pytest.raises(BadUpstreamResponse):
            _ = response.content_length
        response.close()
        assert exchange.released == 1 and not exchange.is_reusable


def test_switching_protocols_is_a_response_without_a_body() -> None:
    with server_sends(b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", end=False) as exchange:
        response = exchange.get_response()
        assert (response.status, read_body(response), exchange.is_reusable) == (101, b"", False)


@pytest.mark.parametrize("late", [HEADER + b"other", b"x"])
def test_late_bytes_make_a_connection_unusable(late: bytes) -> None:
    with server_sends(HEADER + b"hello", late, end=False) as exchange:
        assert read_body(exchange.get_response()) == b"hello"
        deadline = time.monotonic() + 10
        while exchange.connection.is_connected:  # another thread sends the late bytes
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_connection_that_stays_open() -> None:
    with server_sends(HEADER + b"hello", end=False) as exchange:
        assert read_body(exchange.get_response()) == b"hello"
        assert exchange.connection.is_connected


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    piece=st.integers(1, 200),
    size=st.integers(1, 400),
)
@settings(max_examples=50)
def test_chunks_in_pieces_of_any_size(chunks: list[bytes], piece: int, size: int) -> None:
    sent = b"".join(b"%x ;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    connection = FakeConnection(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n" + sent, piece)
    released: list[object] = []
    response = read_response(connection, "GET")
    response.when_released(released.append)
    assert response.length_remaining is None and response.chunked
    assert read_body(response, size) == b"".join(chunks)
    assert released == [connection] and not connection.stream.read()


@pytest.mark.parametrize(
    "end", [b"5", b"5\r", b"5\r\nhello", b"5\r\nhello\r\n", b"5\r\nhello\r\n0", b"5\r\nhello\r\n0\r\n"]
)
def test_truncated_chunks(end: bytes) -> None:
    with server_sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + end) as exchange:
        with pytest.raises(ConnectionError):
            read_body(exchange.get_response())


class RecordingSocket:
    """A socket that records the size of each buffer of recv(), and of what it received."""

    def __init__(self, client: socket.socket) -> None:
        self._client, self.calls = client, list[tuple[int, int]]()

    def fileno(self) -> int:
        return self._client.fileno()

    def recv(self, size: int) -> bytes:
        data = self._client.recv(size)
        self.calls.append((size, len(data)))
        return data

    def recv_into(self, buffer: memoryview, size: int) -> int:
        return self._client.recv_into(buffer, size)


@pytest.mark.parametrize("length", [1, 5_000, 65_536, 65_537, 100_000, 150_000])
def test_a_read_allocates_no_more_than_was_received(length: int) -> None:
    """The unused end of a larger buffer would fragment the memory for ever."""
    client, server = socket.socketpair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    connection = S3Connection("s3.example", read_timeout=5)
    connection.sock = recording = RecordingSocket(client)
    with client, server:
        server.sendall(bytes(length))
        received = connection.receive(786_432)
    assert received == bytes(len(received)) and (len(received) == length if length > 65_536 else received)
    assert all(allocated == received_size for allocated, received_size in recording.calls)
