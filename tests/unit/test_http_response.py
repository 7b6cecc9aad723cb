"""S3's answers as they come in: what is whole is read, what is not raises."""

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

from tests.unit.test_client_response import Wire
from usp_s3_wsgi.transport.connection import S3Connection
from usp_s3_wsgi.transport.http_response import S3Response, read_response

HEAD = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 5\r\n\r\n'


class Exchange:
    """What became of a connection."""

    def __init__(self, near: socket.socket) -> None:
        self.connection = S3Connection("s3.example")
        self.connection.sock = near
        self.connection.read_timeout = 5
        self.connection.register()
        self.released = 0

    def answer(self, method: str = "GET", timeout: float = 5) -> S3Response:
        """Send a request and read the header of the answer to it."""
        self.connection.send_request(b"GET / HTTP/1.1\r\n\r\n", timeout)
        return read_response(self.connection, method, self._take)

    def _take(self, connection: S3Connection) -> None:
        assert connection is self.connection
        self.released += 1

    @property
    def serves_again(self) -> bool:
        """Whether the connection was given back open."""
        return self.released == 1 and self.connection.sock is not None


@contextmanager
def answered(*pieces: bytes, end: bool = True) -> Iterator[Exchange]:
    """A connection to a server that sends these pieces; ``end``: then it ends the connection."""
    near, far = socket.socketpair()

    def send() -> None:
        for number, piece in enumerate(pieces):
            time.sleep(0.01 if number else 0)
            far.sendall(piece)
        if end:
            far.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield Exchange(near)
    finally:
        sender.join()
        near.close()
        far.close()


def body(answer: S3Response, size: int = 100) -> bytes:
    """Read to the end."""
    return b"".join(iter(lambda: answer.read1(size), b""))


# --- the header


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_whole_answer_however_it_arrives(size: int) -> None:
    whole = HEAD + b"hello"
    with answered(*[whole[start : start + size] for start in range(0, len(whole), size)], end=False) as exchange:
        answer = exchange.answer()
        assert (answer.status, answer.version, answer.headers) == (200, 11, {"etag": '"e"', "content-length": "5"})
        assert body(answer) == b"hello"
        assert exchange.serves_again


@pytest.mark.parametrize("length", range(1, len(HEAD)))
def test_a_header_that_is_cut_anywhere(length: int) -> None:
    with answered(HEAD[:length]) as exchange:
        with pytest.raises(ConnectionError):
            exchange.answer()
        assert exchange.released == 0


@pytest.mark.parametrize("hint", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1\t103\tx\r\n\r\n"])
@pytest.mark.parametrize("length", [0, 1, 20, len(HEAD) - 3])
def test_a_header_that_is_cut_after_an_informational_one(hint: bytes, length: int) -> None:
    with answered(hint + HEAD[:length]) as exchange:
        with pytest.raises(ConnectionError):
            exchange.answer()


def test_nothing_at_all_has_a_name_of_its_own() -> None:
    with answered() as exchange:
        with pytest.raises(http.client.RemoteDisconnected):
            exchange.answer()


def test_lines_may_end_without_cr() -> None:
    with answered(b"HTTP/1.1 200 OK\nContent-Length: 22\n\nhi \r\n\r\n not the header") as exchange:
        answer = exchange.answer()
        assert answer.headers == {"content-length": "22"}
        assert body(answer) == b"hi \r\n\r\n not the header"


@pytest.mark.parametrize(
    "line",
    [b"ETag: a\rSet-Cookie: b\r\n", b"ETag: a\r\r\n", b"no colon\r\n", b" folded: at first\r\n",
     b"ETag: a\r\n folded: b\r\n", b": no name\r\n"],
)  # fmt: skip
def test_a_header_that_is_none(line: bytes) -> None:
    with answered(HEAD.replace(b'ETag: "e"\r\n', line)) as exchange:
        with pytest.raises(http.client.HTTPException):
            exchange.answer()


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
def test_a_status_line_that_is_none(line: bytes) -> None:
    with answered(line + b"\r\nContent-Length: 0\r\n\r\n") as exchange:
        with pytest.raises(http.client.HTTPException):
            exchange.answer()


def test_a_server_of_another_kind_is_not_waited_for() -> None:
    with answered(b"SSH-2.0-OpenSSH_9.2\r\n", end=False) as exchange:
        with pytest.raises(http.client.HTTPException):
            exchange.answer()


def test_names_in_any_case_and_values_of_one_name() -> None:
    with answered(b"HTTP/1.0 200\r\nX-A:1\r\nx-a:\t 2 \r\nX-\xe9 : b\r\ncontent-length: 0\r\n\r\n") as exchange:
        answer = exchange.answer()
        assert (answer.version, answer.headers) == (10, {"x-a": "1, 2", "x-\xe9": "b", "content-length": "0"})


@pytest.mark.parametrize("kind", [b"multipart/byteranges", b"multipart/mixed; boundary=x", b"message/rfc822"])
def test_a_type_that_a_parser_of_mails_stumbles_over(kind: bytes) -> None:
    with answered(HEAD.replace(b'ETag: "e"', b"Content-Type: " + kind)) as exchange:
        assert exchange.answer().headers["content-length"] == "5"


@pytest.mark.parametrize("size", [65_536, 65_537, 200_000])
def test_a_header_that_is_too_long(size: int) -> None:
    with answered(b"HTTP/1.1 200 OK\r\nX: " + b"x" * size + b"\r\n\r\n") as exchange:
        with pytest.raises(http.client.LineTooLong):
            exchange.answer()


def test_a_header_of_many_lines() -> None:
    """Of each piece of an object's metadata there is one."""
    lines = b"".join([b"x-%d: y\r\n" % (number % 5_000) for number in range(6_000)])
    with answered(b"HTTP/1.1 200 OK\r\n" + lines + b"content-length: 0\r\n\r\n") as exchange:
        headers = exchange.answer().headers
    assert len(headers) == 5_001 and (headers["x-0"], headers["x-4999"]) == ("y, y", "y")


def test_bytes_that_trickle_in_do_not_extend_the_time() -> None:
    slow = [bytes([byte]) for byte in HEAD]
    with answered(*slow) as exchange:
        with pytest.raises(TimeoutError):
            exchange.answer(timeout=0.1)


def test_an_answer_that_does_not_come_in_time() -> None:
    with answered(end=False) as exchange:
        with pytest.raises(TimeoutError):
            exchange.answer(timeout=0.05)


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_informational_answers_are_skipped(status: int) -> None:
    early = b"HTTP/1.1 %d Early\r\nLink: </a>\r\n\r\n" % status
    with answered(early + early + HEAD + b"hello") as exchange:
        answer = exchange.answer()
        assert (answer.status, "link" in answer.headers, body(answer)) == (200, False, b"hello")


def test_informational_answers_do_not_extend_the_time() -> None:
    with answered(*[b"HTTP/1.1 103 Early\r\n\r\n"] * 100, end=False) as exchange:
        with pytest.raises(TimeoutError):
            exchange.answer(timeout=0.2)


@pytest.mark.parametrize("end", ["\xa0", "\x0b", "\x85"])
def test_a_name_that_ends_in_what_is_no_space_of_http(end: str) -> None:
    with answered(f"HTTP/1.1 200 x\r\nContent-Length{end}: 2\r\n\r\nok".encode("latin-1")) as exchange:
        assert exchange.answer().length_remaining is None


# --- the body


def test_a_header_in_time_though_in_pieces_and_no_limit_for_the_body() -> None:
    with answered(HEAD[:30], HEAD[30:], b"he", b"llo") as exchange:
        assert body(exchange.answer(timeout=2)) == b"hello"


def test_a_body_that_stalls() -> None:
    with answered(HEAD + b"he", end=False) as exchange:
        answer = exchange.answer(timeout=0.05)
        assert answer.read1(100) == b"he"
        with pytest.raises(TimeoutError):
            answer.read1(100)
        answer.close()
        assert exchange.released == 1 and not exchange.serves_again


@pytest.mark.parametrize("cut", [0, 1, 4])
def test_a_body_that_is_cut(cut: int) -> None:
    with answered(HEAD + b"hello"[:cut]) as exchange:
        with pytest.raises(ConnectionError):
            body(exchange.answer())


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", HEAD),
        ("HEAD", b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 x\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.0 200 x\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_answers_without_a_body_set_the_connection_free_at_once(method: str, head: bytes) -> None:
    with answered(head, end=False) as exchange:
        answer = exchange.answer(method)
        assert exchange.serves_again and body(answer) == b""
        answer.close()
        assert exchange.released == 1


@pytest.mark.parametrize(
    "head",
    [HEAD.replace(b"ETag", b"Connection: close\r\nETag"), HEAD.replace(b"1.1", b"1.0"), b"HTTP/1.1 200 x\r\n\r\n"],
)
def test_a_connection_that_ends_with_the_answer(head: bytes) -> None:
    with answered(head + b"hello") as exchange:
        assert body(exchange.answer()) == b"hello"
        assert exchange.released == 1 and not exchange.serves_again


@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 0",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        b"Transfer-Encoding: identity",
    ],
)
def test_a_connection_on_which_another_reader_may_see_another_end(fields: bytes) -> None:
    with answered(b"HTTP/1.1 304 x\r\n" + fields + b"\r\n\r\n", end=False) as exchange:
        assert body(exchange.answer()) == b""
        assert exchange.released == 1 and not exchange.serves_again


def test_space_after_a_length() -> None:
    with answered(b"HTTP/1.1 404 x\r\nContent-Length: 5 \r\n\r\nhello", end=False) as exchange:
        assert body(exchange.answer()) == b"hello"


class Without(socket.socket):
    """A socket of a machine where the kernel takes no such time limits."""

    def setsockopt(self, *given: object) -> None:
        raise OSError(22, "Invalid argument")


def test_time_limits_where_the_kernel_has_none() -> None:
    near, far = socket.socketpair()
    tested = S3Connection("s3.example")
    with Without(fileno=near.detach()) as sock, far:
        tested.sock = sock
        tested.read_timeout = 0.05
        tested.register()
        tested.send_request(b"GET / HTTP/1.1\r\n\r\n", 0.05)
        with pytest.raises(TimeoutError):
            read_response(tested, "GET", lambda connection: None)


@pytest.mark.parametrize(
    "answer", [HEAD + b"hello", b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
def test_what_comes_after_an_answer_is_never_the_next_one(answer: bytes) -> None:
    with answered(answer + HEAD + b"other", end=False) as exchange:
        assert body(exchange.answer()) == b"hello"
        assert exchange.released == 1 and not exchange.serves_again


@pytest.mark.parametrize("late", [HEAD + b"other", b"x"])
def test_what_comes_later_makes_a_connection_useless(late: bytes) -> None:
    with answered(HEAD + b"hello", late, end=False) as exchange:
        assert body(exchange.answer()) == b"hello"
        deadline = time.monotonic() + 10
        while exchange.connection.is_connected:  # the late bytes are another thread's
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_connection_that_nobody_closed() -> None:
    with answered(HEAD + b"hello", end=False) as exchange:
        assert body(exchange.answer()) == b"hello"
        assert exchange.connection.is_connected


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    piece=st.integers(1, 200),
    size=st.integers(1, 400),
)
@settings(max_examples=50)
def test_chunks_however_they_arrive(chunks: list[bytes], piece: int, size: int) -> None:
    sent = b"".join(b"%x ;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    wire = Wire(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n" + sent, piece)
    freed: list[object] = []
    answer = read_response(wire, "GET", freed.append)
    assert answer.length_remaining is None and answer.chunked
    assert body(answer, size) == b"".join(chunks)
    assert freed == [wire] and not wire.stream.read()


@pytest.mark.parametrize(
    "end", [b"5", b"5\r", b"5\r\nhello", b"5\r\nhello\r\n", b"5\r\nhello\r\n0", b"5\r\nhello\r\n0\r\n"]
)
def test_chunks_that_are_cut(end: bytes) -> None:
    with answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + end) as exchange:
        with pytest.raises(ConnectionError):
            body(exchange.answer())


class Measured:
    """A socket, and how large the pieces of memory are that its bytes came in."""

    def __init__(self, near: socket.socket) -> None:
        self._near, self.pieces = near, list[tuple[int, int]]()

    def fileno(self) -> int:
        return self._near.fileno()

    def recv(self, size: int) -> bytes:
        data = self._near.recv(size)
        self.pieces.append((size, len(data)))
        return data

    def recv_into(self, buffer: memoryview, size: int) -> int:
        return self._near.recv_into(buffer, size)


@pytest.mark.parametrize("length", [1, 5_000, 65_536, 65_537, 100_000, 150_000])
def test_a_read_takes_no_more_memory_than_has_come(length: int) -> None:
    """What malloc gets back of a larger piece lies between the others, and keeps them apart for ever."""
    near, far = socket.socketpair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    tested = S3Connection("s3.example")
    tested.sock = measured = Measured(near)
    with near, far:
        far.sendall(bytes(length))
        received = tested.receive(786_432)
    assert received == bytes(len(received)) and (len(received) == length if length > 65_536 else received)
    assert all(taken == came for taken, came in measured.pieces)
