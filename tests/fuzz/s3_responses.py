"""The parser of S3's responses, compared with h11's.

Where the connection can be reused after a response, h11 must see the same status and body, and the end at the same
byte: else the next response would belong to another request. Where a body is complete, h11 must see the same one. The
result does not depend on the pieces in which the bytes arrive.
https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from itertools import repeat
from typing import NamedTuple

import h11

from tests.fuzz.target import Target
from usp_s3_wsgi.errors import BadUpstreamResponse
from usp_s3_wsgi.transport.happy_eyeballs import ConnectTimes
from usp_s3_wsgi.transport.http_response import ReadableConnection, read_response

#: Pieces of a single byte take too long for longer inputs.
_MAX_SINGLE_BYTES = 2_048
#: h11's patterns take quadratic time for white space: with more of it, only this package reads the response.
_MAX_SPACES = 4_000
_READ_SIZE = 65_536
#: More than the package reads of a header.
_MAX_LENGTH = 67_000
#: The limit of chunk extensions and trailers is for what has arrived, so it depends a little on the pieces of that.
_TOO_LARGE = "chunk extensions or trailers are too large"
#: More than the longest input: limits of length are no differences of meaning.
_NO_LIMIT = 1 << 20


class MemoryConnection:
    """A connection on which these bytes are received, in pieces of the given sizes; then S3 closes it or is silent."""

    def __init__(self, received: bytes, is_closed_by_s3: bool, sizes: Iterator[int]) -> None:
        self._received, self._is_closed_by_s3, self._sizes = received, is_closed_by_s3, sizes
        self._position = 0
        self.read_timeout, self.connected_at, self.connect_times = 30.0, 0.0, ConnectTimes()
        self.was_closed = False

    def receive(self, size: int) -> bytes:
        if self._position == len(self._received) and not self._is_closed_by_s3:
            raise TimeoutError("timed out")
        piece = self._received[self._position : self._position + min(size, next(self._sizes))]
        self._position += len(piece)
        return piece

    def receive_within(self, seconds: float) -> bytes:
        return self.receive(_READ_SIZE)

    def close(self) -> None:
        self.was_closed = True

    @property
    def has_unread_bytes(self) -> bool:
        """Whether more bytes have arrived: the pool does not reuse such a connection."""
        return self._position < len(self._received)


class Result(NamedTuple):
    """What a parser makes of a response. ``end``: "complete", or the kind of failure; ``failure`` describes it.

    ``in_step``: the next response would begin where this one ends, after all bytes.
    """

    status: int
    body: bytes
    end: str
    in_step: bool
    failure: str = ""


def check(data: bytes) -> None:
    """The first line of an input has the options: H for HEAD, o if S3 leaves the connection open."""
    options, _, received = data.partition(b"\n")
    method = "HEAD" if b"H" in options else "GET"
    is_closed_by_s3 = b"o" not in options
    rng = random.Random(zlib.crc32(data))
    smallest = 1 if len(received) <= _MAX_SINGLE_BYTES else 256
    whole = read(received, method, is_closed_by_s3, repeat(_READ_SIZE))
    for sizes in (repeat(smallest), iter(lambda: rng.randint(smallest, 4 * smallest + 100), 0)):
        sliced = read(received, method, is_closed_by_s3, sizes)
        if not any(_TOO_LARGE in result.failure for result in (whole, sliced)):
            assert sliced[:4] == whole[:4], (whole, sliced)
    has_few_spaces = received.count(b" ") + received.count(b"\t") <= _MAX_SPACES
    # After 101 another protocol follows.
    if whole.end == "complete" and whole.status != 101 and has_few_spaces:
        _compare(whole, received, method, is_closed_by_s3)
    assert not (whole.in_step and whole.status == 101)


def read(received: bytes, method: str, is_closed_by_s3: bool, sizes: Iterator[int]) -> Result:
    """Read a response as the gateway does."""
    connection = MemoryConnection(received, is_closed_by_s3, sizes)
    released: list[ReadableConnection] = []
    status, body, end, failure = 0, b"", "complete", ""
    response = None
    try:
        response = read_response(connection, method)
        response.when_released(released.append)
        status = response.status
        _ = response.content_length  # raises where the end of the body is not certain
        while piece := response.read1(_READ_SIZE):
            body += piece
    except (BadUpstreamResponse, HTTPException) as error:
        end, failure = "malformed", repr(error)
    except OSError as error:
        end, failure = "incomplete", repr(error)
    if response is not None:
        response.close()
        assert len(released) == 1, "released once, however the response ends"
    in_step = bool(released) and not connection.was_closed and not connection.has_unread_bytes
    return Result(status, body, end, in_step, failure)


def _compare(ours: Result, received: bytes, method: str, is_closed_by_s3: bool) -> None:
    theirs = read_with_h11(received, method, is_closed_by_s3)
    if theirs.end != "complete":
        # The same bytes, without what this package accepts on purpose.
        strict = rewrite(received)
        theirs = read_with_h11(strict, method, is_closed_by_s3)
    assert (theirs.status, theirs.body, theirs.end) == (ours.status, ours.body, "complete"), (ours, theirs)
    assert theirs.in_step or not ours.in_step, (ours, theirs)


def read_with_h11(received: bytes, method: str, is_closed_by_s3: bool) -> Result:
    """Read a response with h11."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_NO_LIMIT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "s3.example")]))
    client.send(h11.EndOfMessage())
    client.receive_data(received)
    if is_closed_by_s3:
        client.receive_data(b"")
    status, body, is_http_1_0 = 0, b"", False
    try:
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status, is_http_1_0 = event.status_code, event.http_version == b"1.0"
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                # It never keeps HTTP/1.0 alive, which RFC 9112, appendix C.2.2, allows.
                is_kept_alive = client.their_state is h11.DONE or is_http_1_0
                return Result(status, body, "complete", is_kept_alive and not client.trailing_data[0])
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return Result(status, body, "incomplete", False)
    except h11.RemoteProtocolError as error:
        # h11 also raises this where a body is cut short.
        end = "incomplete" if "incomplete" in str(error) or "peer closed" in str(error) else "malformed"
        return Result(status, body, end, False, repr(error))


# --- what is accepted on purpose, and h11 rejects: rewritten to the strict form, which must mean the same

_END_OF_HEADER = re.compile(rb"\n\r?\n")
#: But CR, which other parsers may take for the end of the line: RFC 9112, section 2.2.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x0c\x0e-\x1f\x7f]")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_NOT_A_TOKEN = re.compile(rb"[^A-Za-z0-9!#$%&'*+.^_`|~-]")


def rewrite(received: bytes) -> bytes:
    """Return a response without what this package ignores: phrase, names that are not tokens, extensions, trailers."""
    strict = b""
    while (end := _END_OF_HEADER.search(received)) is not None:
        head, received = received[: end.start()], received[end.start() :]
        first, *lines = head.split(b"\n")
        named = [_with_valid_name(line) for line in lines]
        phrase_dropped = re.sub(rb"\A(HTTP/1\.[01] [1-9][0-9]{2}) [^\r]*", rb"\1 ", first)  # nobody reads the phrase
        strict += b"\n".join([phrase_dropped, *named]) + end[0]
        received = received[len(end[0]) :]
        if not first.startswith(b"HTTP/1.1 1"):
            is_chunked = any(re.fullmatch(rb"(?i)transfer-encoding:[ \t]*chunked\r?", line) for line in lines)
            return strict + (_plain_chunks(received) if is_chunked else received)
    return strict + received


def _with_valid_name(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    if (valid := _NOT_A_TOKEN.sub(b"_", name)) == name and not name.lower().startswith(b"x-"):
        return line
    return valid + colon + _CONTROL.sub(b"_", value)


def _plain_chunks(body: bytes) -> bytes:
    """RFC 9110, section 6.5.1: a recipient may ignore them; h11 reads their Transfer-Encoding as one of the header.

    Nor with chunk extensions, where h11 does not allow white space before them: RFC 9112, section 7.1.1, does.
    """
    strict = b""
    while (size := _CHUNK_SIZE.match(body)) is not None:
        length = int(size[1], 16)
        if length == 0:
            end = re.compile(rb"\r\n(?:[^\r\n]+\r\n)*?\r\n").match(body, size.end() - 2)
            return strict + (size[1] + b"\r\n\r\n" + body[end.end() :] if end else body)
        end_of_chunk = size.end() + length + 2
        strict, body = strict + size[1] + b"\r\n" + body[size.end() : end_of_chunk], body[end_of_chunk:]
    return strict + body


def _response(*lines: bytes, body: bytes = b"", options: bytes = b"o", end: bytes = b"\r\n") -> bytes:
    return options + b"\n" + b"".join(line + end for line in (*lines, b"")) + body


_OK, _CHUNKED = b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"
_CHUNKS = b"5;a=b\r\nhello\r\n1 \r\n!\r\n0\r\nTrailer: x\r\n\r\n"
#: After a response. None of it may be lost: it belongs to the next one.
_EXCESS = (b"\r", b"\n", b"\r\n", b"\r\r", b"\n\n", b"\r\n\r\n", b"\0", b"0\r\n\r\n", b"HTTP/1.1 ")
TARGET = Target(
    check,
    (
        b"",
        *(_response(_OK, _CHUNKED, body=_CHUNKS + excess) for excess in _EXCESS),
        *(_response(_OK, b"Content-Length: 2", body=b"ab" + excess) for excess in _EXCESS),
        *(_response(b"HTTP/1.1 304 Not", b"Content-Length: 2", body=excess) for excess in _EXCESS),
        _response(_OK, b'ETag: "e"', b"Content-Length: 5", body=b"hello"),
        _response(_OK, b'ETag: "e"', b"Content-Length: 5", body=b"hello" + _OK + b"\r\n\r\n"),
        _response(_OK, b"Content-Length: 5", options=b"H"),
        _response(_OK, b"Content-Length: 22", body=b"hi \r\n\r\n not the header", end=b"\n"),
        _response(_OK, body=b"until close", options=b""),
        _response(_OK, _CHUNKED, body=_CHUNKS),
        _response(_OK, _CHUNKED, body=_CHUNKS.replace(b"\r\n", b"\n")),
        _response(_OK, _CHUNKED, b"Content-Length: 3", body=_CHUNKS),
        _response(_OK, b"Transfer-Encoding: gzip, chunked", body=_CHUNKS),
        _response(_OK, b"Transfer-Encoding: chunked ", body=_CHUNKS),
        _response(_OK, b"Transfer-Encoding : chunked", body=_CHUNKS),
        _response(_OK, b"Transfer-Encoding:\x0bchunked", body=_CHUNKS),
        _response(_OK, b"Transfer-Encoding: chunked", b"transfer-encoding: chunked", body=_CHUNKS),
        _response(b"HTTP/1.0 200 OK", _CHUNKED, body=_CHUNKS),
        _response(b"HTTP/1.0 200 OK", b"Connection: Keep-Alive", b"Content-Length: 2", body=b"ab"),
        _response(_OK, b"Connection: close", b"Content-Length: 2", body=b"ab"),
        _response(_OK, b"Content-Length: 2", b"Content-Length: 2", body=b"ab"),
        _response(_OK, b"Content-Length: 2, 2", body=b"ab"),
        _response(_OK, b"Content-Length: +2", body=b"ab"),
        _response(_OK, b"Content-Length: 00000000000000000002", body=b"ab"),
        _response(_OK, b"Content-Length: 99999999999999999999999", body=b"ab"),
        _response(_OK, b"Content-Length : 2", b"Content-Length\xa0: 3", body=b"ab"),
        _response(b"HTTP/1.1\t103\tEarly", b"Link: </a>", body=_response(_OK, b"Content-Length: 0")[2:]),
        _response(b"HTTP/1.1 100 Continue", body=_response(_OK, b"Content-Length: 0")[2:]),
        _response(b"HTTP/1.1 101 Switching", b"Upgrade: x"),
        _response(b"HTTP/1.1 204 No", b"Content-Length: 5"),
        _response(b"HTTP/1.1 304 Not", b"Content-Length: 5"),
        _response(b"HTTP/1.1 304 Not", _CHUNKED, b"Content-Length: 5"),
        _response(b"HTTP/1.1 206", b"X-A: \xe9\x00", b"X\xe9: a", b"Content-Length: 0"),
        _response(_OK, b"a: b\r", b"Content-Length: 0"),
        _response(_OK, b" folded: a", b"Content-Length: 0"),
        _response(_OK, b"a: b", b"\tfolded", b"Content-Length: 0"),
        _response(_OK, _CHUNKED, body=b"fffffffffffffff\r\nx"),
        _response(_OK, _CHUNKED, body=b"0x1\r\nx\r\n0\r\n\r\n"),
        _response(_OK, _CHUNKED, body=b"1\r\nxy\r\n0\r\n\r\n"),
        _response(_OK, _CHUNKED, body=b"1_0\r\nx\r\n-0\r\n\r\n"),
        _response(_OK, _CHUNKED, body=b"0;\n\n" + _OK),
        _response(_OK, _CHUNKED, body=b"0\r\n" + b"a:b\r\n" * 99 + b"\r\n"),
        _response(_OK, b"a:" + b" " * 8_000 + b"b", b"Content-Length: 0"),
        _response(_OK, b"a:" + b" " * 66_000 + b"b", b"Content-Length: 0"),
        _response(_OK + b" " * 8_000, b"Content-Length: 0"),
        _response(_OK, b"Content-Length:" + b"\t" * 4_000 + b"0" + b" " * 4_000),
        _response(_OK, _CHUNKED, body=b"1" + b" " * 8_000 + b"\r\nx\r\n0\r\n\r\n"),
        _response(*[b"HTTP/1.1 100 C", b""] * 400, _OK),
        _response(*[b"\r"] * 4_000),
        _response(_OK, *[b"a:b"] * 2_000),
    ),
    _MAX_LENGTH,
)
