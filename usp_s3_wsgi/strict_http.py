"""http.client's reading of an answer, made strict: what S3 broke off never passes for what it said.

http.client takes the end of a connection for the end of a header, and half a chunk size for a whole one; it takes
headers that it cannot parse for the body's begin, waits for a header for as long as bytes of it trickle in, and takes
any informational answer but 100 for the final one. With urllib3 these connections behave like its own in all else.
"""

from __future__ import annotations

import errno
import http.client
import io
import socket
import sys
import time
from email.errors import (
    FirstHeaderLineIsContinuationDefect,
    MisplacedEnvelopeHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection

#: Of an e-mail's other defects a header knows nothing, such as a multipart type that names no boundary.
_HEADER_DEFECTS = (MissingHeaderBodySeparatorDefect, FirstHeaderLineIsContinuationDefect, MisplacedEnvelopeHeaderDefect)


class _Lines(io.BufferedReader):
    """A connection's file. A line that is cut off raises, and so does one that is not there within the time limit."""

    deadline = float("inf")
    _begun = False

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line with its end, or the first ``size`` bytes of it; nothing only where nothing ever came.

        Raises:
            ConnectionAbortedError: the connection ended within the line, or before it.
            TimeoutError: the deadline has passed, however many bytes have trickled in.
            http.client.HTTPException: there is a CR within the line.
        """
        buffered = self.peek()
        end = buffered.find(b"\n") + 1
        if end and (size is None or size < 0 or end <= size):
            line = self.read(end)  # the usual way, and the fast one: it is here already
        elif buffered or self._begun:
            line = self._line_in_pieces(size)
        else:
            return b""
        self._begun = True
        if time.monotonic() > self.deadline:
            raise TimeoutError("timed out")
        if line.find(b"\r", 0, -2) >= 0:
            raise http.client.HTTPException("a CR within a line")  # another reader would take it for the line's end
        return line

    def _line_in_pieces(self, size: int | None) -> bytes:
        limit = sys.maxsize if size is None or size < 0 else size
        line = b""
        while not line.endswith(b"\n") and len(line) < limit:
            if time.monotonic() > self.deadline:
                raise TimeoutError("timed out")
            buffered = self.peek()
            if not buffered:
                raise ConnectionAbortedError(errno.ECONNABORTED, "S3 ended the connection within a line")
            end = buffered.find(b"\n") + 1 or len(buffered)
            line += self.read(min(end, limit - len(line)))
        return line


class _Response(http.client.HTTPResponse):
    """http.client's response, its header read strictly and within the connection's time limit."""

    def __init__(self, sock: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(sock, *given, **named)
        self.fp = _Lines(self.fp.detach())
        patience = sock.gettimeout()
        if patience is not None:
            self.fp.deadline = time.monotonic() + patience

    def begin(self) -> None:
        """Read the header. Raises: OSError where it ends early, http.client.HTTPException where it is none."""
        super().begin()
        # What the parser could not take for a header stands in the message's body.
        left = self.msg.get_payload()
        if (left and isinstance(left, str)) or any(isinstance(defect, _HEADER_DEFECTS) for defect in self.msg.defects):
            raise http.client.HTTPException("S3 sent a header that is none")
        if isinstance(self.fp, _Lines):
            self.fp.deadline = float("inf")

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        # https://www.rfc-editor.org/rfc/rfc9110#section-15.2: 103 and its like are to be skipped as 100 is.
        skipped = 100 < status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS
        return version, http.client.CONTINUE if skipped else status, reason


class StrictHTTPConnection(HTTPConnection):
    """urllib3's connection, read strictly."""

    response_class = _Response


class StrictHTTPSConnection(HTTPSConnection):
    """urllib3's connection over TLS, read strictly."""

    response_class = _Response
