"""S3's response: its header read strictly, and its body, which never ends early without an error.

https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, RemoteDisconnected
from typing import Protocol

from usp_s3_wsgi.errors import BadUpstreamResponse
from usp_s3_wsgi.transport.happy_eyeballs import ConnectTimes
from usp_s3_wsgi.transport.http_parser import InvalidHTTP, ResponseParser, header_length

#: Bytes of one read of a header: a small object is received along with it.
HEADER_READ_SIZE = 65_536
_CONTENT_LENGTH = re.compile(r"[0-9]{1,18}")
#: The largest rest of a body that is read so that the connection can be reused, and the seconds to spend on it.
_MAX_DRAIN = 65_536
_DRAIN_TIMEOUT = 0.25


class ReadableConnection(Protocol):
    """The side of a connection that a response is read from.

    ``read_timeout``: seconds, for each read. ``connected_at``: when it was made, by time.monotonic().
    ``connect_times``: what came before that, apart from the TLS handshake.
    """

    read_timeout: float
    connected_at: float
    connect_times: ConnectTimes

    def receive(self, size: int) -> bytes:
        """Return the bytes that are there, at most ``size``; wait if there are none. Nothing at the end."""

    def receive_within(self, seconds: float) -> bytes:
        """Receive at most HEADER_READ_SIZE bytes within this time limit."""

    def close(self) -> None:
        """Close the connection."""


def read_response(connection: ReadableConnection, method: str) -> S3Response:
    """Read the header of the response to a request and return the response, its body unread.

    Interim responses (1xx) are skipped; all headers together have ``read_timeout``.

    Raises:
        TimeoutError: no header within ``read_timeout``. OSError: the connection broke. HTTPException: not valid HTTP.
    """
    started_at, searched = time.monotonic(), 0
    received = connection.receive(HEADER_READ_SIZE)
    if not received:
        raise RemoteDisconnected("connection closed without a response")
    while True:
        length = header_length(received, searched)
        if not length:
            searched = len(received)
            received += _receive_more(connection, started_at)
            continue
        parser = ResponseParser(received[:length])
        received, searched = received[length:], 0
        # https://www.rfc-editor.org/rfc/rfc9110#section-15.2: 103 and the like are skipped as 100 is.
        if parser.status >= 200 or parser.status == 101:
            return S3Response(connection, method, parser, received)
        if "transfer-encoding" in parser.headers:  # https://www.rfc-editor.org/rfc/rfc9112#section-6.1
            raise InvalidHTTP("interim response with a Transfer-Encoding")


class S3Response:
    """S3's response: its header, and its body to be read.

    ``version``: 10 or 11. ``headers``: values by name in lowercase; several of one name are joined with ``, ``.
    ``chunked``: the body has the chunked transfer coding. ``length_remaining``: bytes of the body that are still to
    come; None if only the end of the body tells. ``closed``: the body was read or given up.
    """

    def __init__(self, connection: ReadableConnection, method: str, parser: ResponseParser, received: bytes) -> None:
        """``received``: what was received after the header."""
        self.version, self.status, self.headers = parser.version, parser.status, parser.headers
        self.retries, self._pool, self._connection = None, None, connection  # urllib3's pool sets these three
        self._on_release: Callable[[ReadableConnection], None] | None = None
        self._received, self._pieces = received, deque[bytes]()
        self.closed = False
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self.length_remaining = self._body_length(method)
        if self.length_remaining == 0:
            self.chunked = False
        self._parser = parser if self.chunked else None
        if self.length_remaining == 0:
            self._release()

    @property
    def connected_at(self) -> float:
        """When the connection was made, by time.monotonic()."""
        return self._connection.connected_at

    @property
    def connect_times(self) -> ConnectTimes:
        """When the name of its host was resolved, and when TCP was connected."""
        return self._connection.connect_times

    @property
    def version_string(self) -> str:
        """The version of HTTP, for urllib3's debug lines."""
        return f"HTTP/1.{self.version - 10}"

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

    def when_released(self, callback: Callable[[ReadableConnection], None]) -> None:
        """Call this with the connection when the body is read, or closed; at once if it is already."""
        if self.closed:
            callback(self._connection)
        else:
            self._on_release = callback

    def read1(self, size: int) -> bytes:
        """Return the next bytes of the body, at most ``size``, after one read; nothing at its end.

        Raises:
            TimeoutError: nothing arrived in time. OSError: the connection broke. HTTPException: not valid HTTP.
        """
        if self.closed:
            return b""
        if self._parser is not None:
            return self._read_chunked(self._parser, size)
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
            if not self._received:
                self._received = self._connection.receive_within(deadline - time.monotonic())
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
        received = self._received
        if not received:
            return self._connection.receive(size)
        self._received = received[size:]
        return received[:size]

    def _read_chunked(self, parser: ResponseParser, size: int) -> bytes:
        started_at = time.monotonic()
        while not self._pieces:
            if parser.failure is not None:
                raise InvalidHTTP(parser.failure)
            if parser.is_complete:
                self._release()
                return b""
            received, self._received = self._received or _receive_more(self._connection, started_at), b""
            self._pieces.extend(parser.decode_chunks(received))
        piece = self._pieces.popleft()
        if len(piece) > size:
            self._pieces.appendleft(piece[size:])
        elif parser.is_complete and not self._pieces:
            self._release()
        return piece[:size]

    def _release(self, is_reusable: bool = True) -> None:
        """Release the connection, closed where the next response would not begin where this one ends."""
        self.closed = True
        has_excess = self._received or (self._parser is not None and self._parser.has_excess)
        if not is_reusable or has_excess or not self._is_kept_alive():
            self._connection.close()
        if self._on_release is not None:
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
        has_no_body = self.status == 204
        return coding.lower() != "chunked" or "content-length" in self.headers or self.version == 10 or has_no_body


def _receive_more(connection: ReadableConnection, started_at: float) -> bytes:
    """Return further bytes, within the read timeout from ``started_at`` on, however slowly they arrive."""
    more = connection.receive_within(started_at + connection.read_timeout - time.monotonic())
    if not more:
        raise ConnectionAbortedError("connection closed within the header or a chunked body")
    return more
