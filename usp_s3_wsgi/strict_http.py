"""http.client's reading of an answer, made strict: what S3 broke off never passes for what it said.

http.client takes the end of a connection for the end of a header, and half a chunk size for a whole one; it takes
headers that it cannot parse for the body's begin, waits for a header for as long as bytes of it trickle in, and takes
any informational answer but 100 for the final one. With urllib3 these connections behave like its own in all else.
"""

from __future__ import annotations

import errno
import http.client
import io
import re
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

#: The status line of a final answer: https://www.rfc-editor.org/rfc/rfc9112#section-4.
_FINAL = re.compile(rb"HTTP/1\.[01] [2-9]")


class _StrictLines:
    """A connection's file, whose lines raise where they are cut off or not there within the time limit.

    ``begun``: something came before, so that there must be a line.
    """

    def __init__(self, file: io.BufferedReader, deadline: float, begun: bool) -> None:
        self._file, self._deadline, self._begun = file, deadline, begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def readline(self, size: int = -1) -> bytes:
        """Return the next line with its end, or the first ``size`` bytes of it; nothing only where nothing ever came.

        Raises:
            ConnectionAbortedError: the connection ended within the line, or before it.
            TimeoutError: the deadline has passed, however many bytes have trickled in.
            http.client.HTTPException: there is a CR within the line.
        """
        limit = sys.maxsize if size < 0 else size
        line = b""
        while not line.endswith(b"\n") and len(line) < limit:
            buffered = self._file.peek()
            if not buffered and not self._begun:
                return b""
            if not buffered:
                raise ConnectionAbortedError(errno.ECONNABORTED, "S3 ended the connection within a line")
            self._begun = True
            if time.monotonic() > self._deadline:
                raise TimeoutError("timed out")
            end = buffered.find(b"\n") + 1 or len(buffered)
            line += self._file.read(min(end, limit - len(line)))
        if line.find(b"\r", 0, -2) >= 0:
            raise http.client.HTTPException("a CR within a line")  # another reader would take it for the line's end
        return line


class _Response(http.client.HTTPResponse):
    """http.client's response, its header and its chunk sizes read strictly, the header within the time limit."""

    def __init__(self, sock: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(sock, *given, **named)
        patience = sock.gettimeout()
        self._deadline = float("inf") if patience is None else time.monotonic() + patience

    def begin(self) -> None:
        """Read the header. Raises: OSError where it ends early, http.client.HTTPException where it is none."""
        plain = self.fp
        if not _is_whole_header(plain.peek()):
            self.fp = _StrictLines(plain, self._deadline, begun=False)  # type: ignore[assignment]
        super().begin()
        if any(isinstance(defect, _HEADER_DEFECTS) for defect in self.msg.defects):
            raise http.client.HTTPException("S3 sent a header that is none")
        if self.fp is not None:
            self.fp = _StrictLines(plain, float("inf"), begun=True) if self.chunked else plain  # type: ignore[assignment]

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        # https://www.rfc-editor.org/rfc/rfc9110#section-15.2: 103 and its like are to be skipped as 100 is.
        skipped = 100 < status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS
        return version, http.client.CONTINUE if skipped else status, reason


def _is_whole_header(received: bytes) -> bool:
    """Whether all of the final answer's header is here already, as it mostly is: then no line of it can be cut off."""
    end = received.find(b"\r\n\r\n")
    return (
        end >= 0
        and _FINAL.match(received) is not None
        and received.count(b"\r", 0, end) == received.count(b"\r\n", 0, end)
    )


class StrictHTTPConnection(HTTPConnection):
    """urllib3's connection, read strictly."""

    response_class = _Response


class StrictHTTPSConnection(HTTPSConnection):
    """urllib3's connection over TLS, read strictly."""

    response_class = _Response
