"""http.client's reading of an answer, made strict: what S3 broke off never passes for what it said.

http.client takes the end of a connection for the end of a header, and half a chunk size for a whole one; it takes
headers that it cannot parse for the body's begin, waits for a header for as long as bytes of it trickle in, takes any
informational answer but 100 for the final one, and ``-5`` for the size of a chunk. What comes after an answer it drops
or takes for the next one. With urllib3 these connections behave like its own in all else.
"""

from __future__ import annotations

import errno
import http.client
import io
import re
import socket
import ssl
import sys
import time
from contextlib import suppress
from email.errors import (
    FirstHeaderLineIsContinuationDefect,
    MisplacedEnvelopeHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

#: Of an e-mail's other defects a header knows nothing, such as a multipart type that names no boundary.
_HEADER_DEFECTS = (MissingHeaderBodySeparatorDefect, FirstHeaderLineIsContinuationDefect, MisplacedEnvelopeHeaderDefect)

#: The status line of a final answer: https://www.rfc-editor.org/rfc/rfc9112#section-4.
_FINAL = re.compile(rb"HTTP/1\.[01] [2-9]")


#: https://www.rfc-editor.org/rfc/rfc9112#section-7.1; http.client itself takes a line that ends without CR.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LONGEST_LINE = 65_536
_MOST_TRAILERS = 100


class HandshakeError(ssl.SSLError):
    """TLS failed before anything was asked."""


class _StrictLines:
    """A connection's file, whose lines raise where they are cut off or not there within the time limit.

    ``since``: when the time limit began. ``begun``: something came before, so that there must be a line.
    """

    def __init__(self, file: io.BufferedReader, sock: socket.socket, since: float, begun: bool) -> None:
        self._file, self._sock, self._since, self._begun = file, sock, since, begun
        self._patience = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def restart(self) -> None:
        """Let the time limit begin now."""
        self._since = time.monotonic()

    def readline(self, size: int = -1) -> bytes:
        """Return the next line with its end, or the first ``size`` bytes of it; nothing only where nothing ever came.

        Raises:
            ConnectionAbortedError: the connection ended within the line, or before it.
            TimeoutError: the deadline has passed, however many bytes have trickled in.
            http.client.HTTPException: there is a CR within the line.
        """
        limit = sys.maxsize if size < 0 else size
        line = b""
        try:
            while not line.endswith(b"\n") and len(line) < limit:
                self._wait_no_longer_than_is_left()
                buffered = self._file.peek()
                if not buffered and not self._begun:
                    return b""
                if not buffered:
                    raise ConnectionAbortedError(errno.ECONNABORTED, "S3 ended the connection within a line")
                self._begun = True
                end = buffered.find(b"\n") + 1 or len(buffered)
                line += self._file.read(min(end, limit - len(line)))
        finally:
            self._sock.settimeout(self._patience)
        if line.find(b"\r", 0, -2) >= 0:
            raise http.client.HTTPException("a CR within a line")  # another reader would take it for the line's end
        return line

    def _wait_no_longer_than_is_left(self) -> None:
        if self._patience is not None:
            left = self._since + self._patience - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)


class _Response(http.client.HTTPResponse):
    """http.client's response, its header and its chunks read strictly, each of their lines within the time limit."""

    def __init__(self, sock: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(sock, *given, **named)
        self._sock, self._since = sock, time.monotonic()
        self._may_have_surplus = False

    def begin(self) -> None:
        """Read the header. Raises: OSError where it ends early, http.client.HTTPException where it is none."""
        plain = self.fp
        received = plain.peek()
        header = _length_of_header(received)
        if not header:
            self.fp = _StrictLines(plain, self._sock, self._since, begun=False)  # type: ignore[assignment]
        super().begin()
        if any(isinstance(defect, _HEADER_DEFECTS) for defect in self.msg.defects):
            raise http.client.HTTPException("S3 sent a header that is none")
        if self.length == 0:
            self.chunked = False  # a 304 may say so of the body that it has not got
        # What is read later on, piece by piece, is never more than the body's rest.
        self._may_have_surplus = self.chunked or not header or len(received) - header > (self.length or 0)
        if self.fp is not None:
            lines = _StrictLines(plain, self._sock, self._since, begun=True)
            self.fp = lines if self.chunked else plain  # type: ignore[assignment]

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        # https://www.rfc-editor.org/rfc/rfc9110#section-15.2: 103 and its like are to be skipped as 100 is.
        skipped = 100 < status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS
        return version, http.client.CONTINUE if skipped else status, reason

    def _get_chunk_left(self) -> int | None:
        """Return how many bytes of a chunk are to be read next, None at the body's end; http.client asks here."""
        left: int | None = self.chunk_left
        if left:
            return left
        if left is not None and self._safe_read(2) != b"\r\n":  # type: ignore[attr-defined]
            raise http.client.HTTPException("a chunk of another length than its size")
        left = self._next_chunk_size() or None
        if left is None:
            self._skip_trailers()
            self._close_conn()
        self.chunk_left = left
        return left

    def _next_chunk_size(self) -> int:
        size = _CHUNK_SIZE.fullmatch(self._line())
        if size is None:
            raise http.client.HTTPException("no size of a chunk")
        return int(size[1], 16)

    def _skip_trailers(self) -> None:
        for _ in range(_MOST_TRAILERS):
            if self._line() in {b"\r\n", b"\n"}:
                return
        raise http.client.HTTPException("too many trailers")

    def _line(self) -> bytes:
        lines: Any = self.fp
        lines.restart()
        return bytes(lines.readline(_LONGEST_LINE))

    def _close_conn(self) -> None:
        """The answer's end: http.client calls this before the connection may serve again."""
        if self._may_have_surplus and self._has_surplus():
            # The next answer would begin with it, or lack what was dropped. urllib3 sees the end, and connects again.
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        super()._close_conn()  # type: ignore[misc]

    def _has_surplus(self) -> bool:
        patience = self._sock.gettimeout()
        try:
            self._sock.settimeout(0)
            return bool(self.fp.peek())
        except (OSError, ValueError):  # TLS: nothing there yet; or the file is closed
            return False
        finally:
            with suppress(OSError):
                self._sock.settimeout(patience)


def _length_of_header(received: bytes) -> int:
    """Return how long the final answer's header is, 0 where not all of it is here, as it mostly is.

    No line of a header that is here can be cut off.
    """
    end = received.find(b"\r\n\r\n")
    whole = (
        end >= 0
        and _FINAL.match(received) is not None
        and received.count(b"\r", 0, end) == received.count(b"\r\n", 0, end)
    )
    return end + 4 if whole else 0


class StrictHTTPConnection(HTTPConnection):
    """urllib3's connection, read strictly."""

    response_class = _Response


class StrictHTTPSConnection(HTTPSConnection):
    """urllib3's connection over TLS, read strictly; what fails in its handshake is told from what fails later."""

    response_class = _Response

    def connect(self) -> None:
        """Connect. Raises, besides urllib3's own errors: HandshakeError, ConnectTimeoutError of the handshake too."""
        try:
            super().connect()
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no TLS within the time limit") from error
        except OSError as error:  # what fails in TCP has a name of urllib3's own
            raise HandshakeError("TLS handshake") from error  # no words of its own: the cause has them
