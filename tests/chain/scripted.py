"""Objects of a scripted S3: for what a real one does not do on request."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

from tests.faults.server import Connection, Request, ScriptedS3, answer, error, head_of


@dataclass
class ScriptedObject:
    """One object at each key, answered as S3 does, with what a test changes: the fields, at any time.

    ``etag``: if it is empty, there is no such header. ``sent``: after so many bytes of a body S3 waits for ``resume``,
    or closes the connection if ``truncates``.
    """

    data: bytes
    etag: str = '"one"'
    headers: tuple[tuple[str, str], ...] = ()
    error_status: int = 0
    sent: int | None = None
    truncates: bool = False
    resume: threading.Event = field(default_factory=threading.Event)

    def serve(self) -> ScriptedS3:
        """An S3 with this object."""
        return ScriptedS3(then=self.respond)

    def respond(self, connection: Connection, request: Request) -> None:
        """A step of the script, see `ScriptedS3`."""
        whole, sent, truncates = self._response(request), self.sent, self.truncates
        head = len(head_of(whole))
        if sent is None or len(whole) < head + sent or request.method == "HEAD":
            connection.send(whole)
            return
        connection.send(whole[: head + sent])
        if truncates:
            connection.close()
            return
        self.resume.wait(60)
        connection.send(whole[head + sent :])

    def _response(self, request: Request) -> bytes:
        if self.error_status:
            return error(self.error_status, {404: "NoSuchKey", 503: "SlowDown"}.get(self.error_status, "InternalError"))
        version = (("ETag", self.etag),) if self.etag else ()
        headers = (*version, ("Accept-Ranges", "bytes"), *self.headers)
        if request.headers.get("if-none-match") == self.etag:
            return head_of(answer(304, b"", *headers, length=None))
        part, status = self.data, 200
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "")):
            size = len(self.data)
            start = int(match[1]) if match[1] else max(size - int(match[2]), 0)
            stop = min(int(match[2]) + 1, size) if match[1] and match[2] else size
            if start >= size:
                return error(416, "InvalidRange", ("Content-Range", f"bytes */{size}"))
            part, status = self.data[start:stop], 206
            headers = (*headers, ("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
        whole = answer(status, part, *headers)
        return head_of(whole) if request.method == "HEAD" else whole
