"""S3's response: its header read strictly, and its body, which never ends early without an error.

Not by http.client, which accepts the end of the connection as the end of a header, an incomplete chunk size as a whole
one, ``-5`` as a size, and the bytes after a response as the next one. With http.client and urllib3, reading took three
quarters of a request's time.
https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, LineTooLong, RemoteDisconnected

from usp_s3_wsgi.config.limits import MAX_HEADER_SIZE
from usp_s3_wsgi.errors import BadUpstreamResponse
from usp_s3_wsgi.transport.connection import HEADER_READ_SIZE, S3Connection
from usp_s3_wsgi.transport.network_errors import InvalidHTTP, TLSExpected

_STATUS_LINE = re.compile(r"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t].*)?")
#: Some servers end lines without CR.
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
#: https://www.rfc-editor.org/rfc/rfc9112#section-7.1
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_MAX_LINE = 65_536
_MAX_TRAILERS = 100
_CONTENT_LENGTH = re.compile(r"[0-9]{1,18}")
#: The start of a TLS alert: how a server answers plain HTTP. https://www.rfc-editor.org/rfc/rfc8446#section-5.1.
_TLS_ALERT = b"\x15\x03"
#: The largest rest of a body that is read so that the connection can be reused, and the seconds to spend on it.
_MAX_DRAIN = 65_536
_DRAIN_TIMEOUT = 0.25

OnRelease = Callable[[S3Connection], None]


def read_response(connection: S3Connection, method: str, on_release: OnRelease) -> S3Response:
    """Read the header of the response to a request and return the response, its body unread.

    Interim responses (1xx) are skipped. ``on_release`` is called with the connection when the body is read or closed,
    and not if this raises.

    Raises:
        TimeoutError: no header within ``read_timeout``. OSError: the connection broke. HTTPException: not valid HTTP.
    """
    reader = _HeaderReader(connection)
    while True:
        first, _, rest = reader.read_header().partition("\n")
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise InvalidHTTP("no status line")
        status = int(match[2])
        # https://www.rfc-editor.org/rfc/rfc9110#section-15.2: 103 and the like are skipped as 100 is.
        if status >= 200 or status == 101:
            version = 10 + (match[1] != "0")
            headers = _parse_fields(rest) if rest else {}
            return S3Response(connection, method, version, status, headers, reader.buffer, on_release)
        reader.receive_next()


class _HeaderReader:
    """Reads headers within one time limit, however many interim ones there are; ``buffer``: what follows the last."""

    def __init__(self, connection: S3Connection) -> None:
        self._connection = connection
        self._started_at = time.monotonic()
        self.buffer = b""

    def read_header(self) -> str:
        """Return the lines of the next header, without the empty one at its end."""
        received = self.buffer or self._connection.receive(HEADER_READ_SIZE)
        if not received:
            raise RemoteDisconnected("connection closed without a response")
        searched = 0
        while (end := _END_OF_HEADER.search(received, max(0, searched - 3))) is None:
            if len(received) > MAX_HEADER_SIZE:
                raise LineTooLong("header")
            if received.startswith(_TLS_ALERT):
                raise TLSExpected("a TLS alert")
            if b"\n" in received and not received.startswith(b"HTTP/1."):
                raise InvalidHTTP("no status line")  # a server of another protocol, which may wait for us now
            searched = len(received)
            received += _receive_more(self._connection, self._started_at)
        if end.end() > MAX_HEADER_SIZE:
            raise LineTooLong("header")
        self.buffer = received[end.end() :]
        text = received[: end.start()].decode("latin-1").replace("\r\n", "\n")
        if "\r" in text:
            raise InvalidHTTP("CR within a line")  # another parser would take it for the end of the line
        return text

    def receive_next(self) -> None:
        """Receive the start of the header after an interim one."""
        if not self.buffer:
            self.buffer = _receive_more(self._connection, self._started_at)


class S3Response:
    """S3's response: its header, and its body to be read.

    ``version``: 10 or 11. ``headers``: values by name in lowercase; several of one name are joined with ``, ``.
    ``chunked``: the body has the chunked transfer coding. ``length_remaining``: bytes of the body that are still to
    come; None if only the end of the body tells.
    """

    def __init__(
        self,
        connection: S3Connection,
        method: str,
        version: int,
        status: int,
        headers: dict[str, str],
        buffer: bytes,
        on_release: OnRelease,
    ) -> None:
        """``buffer``: what was received after the header."""
        self._connection, self._on_release = connection, on_release
        self.version, self.status, self.headers = version, status, headers
        self._buffer = buffer
        self.closed = False
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._chunk_remaining: int | None = None
        self.length_remaining = self._body_length(method)
        if self.length_remaining == 0:
            self.chunked = False
            self._release()

    @property
    def content_length(self) -> int | None:
        """The Content-Length, None if there is none: https://www.rfc-editor.org/rfc/rfc9112#section-6.

        Raises:
            BadUpstreamResponse: the end of the body is not certain.
        """
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if coding is not None and (coding.lower() != "chunked" or length is not None or self.version < 11):
            raise BadUpstreamResponse("response has a Transfer-Encoding other than chunked alone")
        if length is not None and not _CONTENT_LENGTH.fullmatch(length):
            raise BadUpstreamResponse("response has an invalid Content-Length")
        return None if length is None else int(length)

    def read1(self, size: int) -> bytes:
        """Return the next bytes of the body, at most ``size``, after one read; nothing at its end.

        Raises:
            TimeoutError: nothing arrived in time. OSError: the connection broke. HTTPException: not valid HTTP.
        """
        if self.closed:
            return b""
        if self.chunked:
            return self._read_chunk(size)
        left = self.length_remaining
        data = self._read_some(size if left is None or left > size else left)
        if left is None:
            if not data:
                self._release(is_reusable=False)
            return data
        if not data:
            raise ConnectionAbortedError(f"connection closed {left} bytes before the end of the body")
        self.length_remaining = left - len(data)
        if left == len(data):
            self._release()
        return data

    def drain(self, seconds: float) -> None:
        """Read the rest of the body within that time and drop it. Raises: as :meth:`read1`."""
        deadline = time.monotonic() + seconds
        while not self.closed:
            if not self._buffer:
                self._buffer = self._connection.receive_within(deadline - time.monotonic())
            self.read1(HEADER_READ_SIZE)

    def drain_or_close(self) -> None:
        """Release the connection: the rest of a short body is read, so that it can be reused; else it is closed."""
        left = self.length_remaining
        if left is not None and left <= _MAX_DRAIN:
            with suppress(OSError, HTTPException):
                self.drain(_DRAIN_TIMEOUT)
        self.close()

    def close(self) -> None:
        """Release the connection, closed unless the whole body was read."""
        if not self.closed:
            self._release(is_reusable=False)

    def _body_length(self, method: str) -> int | None:
        """https://www.rfc-editor.org/rfc/rfc9112#section-6.3."""
        if method == "HEAD" or self.status in {101, 204, 304}:
            return 0
        length = self.headers.get("content-length", "")
        # More digits are rejected later, by content_length.
        return int(length) if length.isdecimal() and len(length) <= 18 and not self.chunked else None

    def _read_some(self, size: int) -> bytes:
        buffer = self._buffer
        if not buffer:
            return self._connection.receive(size)
        self._buffer = buffer[size:]
        return buffer[:size]

    def _read_chunk(self, size: int) -> bytes:
        if not self._chunk_remaining:
            if self._chunk_remaining == 0 and self._read_exactly(2) != b"\r\n":
                raise InvalidHTTP("chunk longer than its size")
            self._chunk_remaining = self._read_chunk_size()
            if not self._chunk_remaining:
                self._skip_trailers()
                self._release()
                return b""
        data = self._read_some(min(size, self._chunk_remaining))
        if not data:
            raise ConnectionAbortedError("connection closed within a chunk")
        self._chunk_remaining -= len(data)
        return data

    def _read_chunk_size(self) -> int:
        size = _CHUNK_SIZE.fullmatch(self._read_line())
        if size is None:
            raise InvalidHTTP("malformed chunk size")
        return int(size[1], 16)

    def _skip_trailers(self) -> None:
        for _ in range(_MAX_TRAILERS):
            if self._read_line() in {b"\r\n", b"\n"}:
                return
        raise InvalidHTTP("too many trailers")

    def _read_line(self) -> bytes:
        started_at = time.monotonic()
        while (end := self._buffer.find(b"\n") + 1) == 0:
            if len(self._buffer) > _MAX_LINE:
                raise LineTooLong("chunk")
            self._buffer += _receive_more(self._connection, started_at)
        if end > _MAX_LINE:
            raise LineTooLong("chunk")
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        return line

    def _read_exactly(self, size: int) -> bytes:
        started_at = time.monotonic()
        while len(self._buffer) < size:
            self._buffer += _receive_more(self._connection, started_at)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _release(self, is_reusable: bool = True) -> None:
        """Release the connection, closed where the next response would not begin where this one ends."""
        self.closed = True
        if not is_reusable or self._buffer or not self._is_kept_alive():
            self._connection.close()
        self._on_release(self._connection)

    def _is_kept_alive(self) -> bool:
        """https://www.rfc-editor.org/rfc/rfc9112#section-9.3; after 101 another protocol follows."""
        connection = self.headers.get("connection", "").lower()
        is_kept_alive = "keep-alive" in connection if self.version == 10 else "close" not in connection
        return is_kept_alive and self.status != 101 and not self._is_end_ambiguous()

    def _is_end_ambiguous(self) -> bool:
        """Whether another parser may see another end: https://www.rfc-editor.org/rfc/rfc9112#section-6.1."""
        coding = self.headers.get("transfer-encoding")
        if coding is None:
            return False
        return coding.lower() != "chunked" or "content-length" in self.headers or self.version == 10


def _receive_more(connection: S3Connection, started_at: float) -> bytes:
    """Return further bytes, within the read timeout from ``started_at`` on, however slowly they arrive."""
    more = connection.receive_within(started_at + connection.read_timeout - time.monotonic())
    if not more:
        raise ConnectionAbortedError("connection closed within a line")
    return more


def _parse_fields(text: str) -> dict[str, str]:
    if text[0] in " \t" or "\n " in text or "\n\t" in text:
        raise InvalidHTTP("folded header line")
    fields: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        name, value = name.rstrip(" \t").lower(), value.lstrip(" \t")
        if name != "transfer-encoding":  # "chunked " is an unknown coding for a parser that does not strip it
            value = value.rstrip(" \t")
        if not colon or not name:
            raise InvalidHTTP("header line without a name")
        if name in fields:
            repeated.setdefault(name, [fields[name]]).append(value)
        fields[name] = value
    fields.update({name: ", ".join(values) for name, values in repeated.items()})
    return fields
