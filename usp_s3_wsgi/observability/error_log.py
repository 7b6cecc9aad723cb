"""The lines of the server's error log: one for each failure, and not a flood where a host is down."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from usp_s3_wsgi.errors import GatewayError

if TYPE_CHECKING:
    from usp_s3_wsgi.s3.error_response import S3Error

#: So many lines of a kind are written in so many seconds; how many more there were is told by the first one after.
_LINES, _SECONDS = 10, 10.0
#: More kinds than servers and their codes have; beyond that S3 makes them up.
_MOST_KINDS = 1_000


class Limiter:
    """Counts lines of a kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def admit(self, kind: Hashable) -> int | None:
        """Return None for a line that is too many, else how many of its kind have been left out just before."""
        now = time.monotonic()
        with self._lock:
            if kind not in self._seen and len(self._seen) >= _MOST_KINDS:
                self._seen = {old: seen for old, seen in self._seen.items() if now - seen[0] < _SECONDS}
                if len(self._seen) >= _MOST_KINDS:
                    kind = None
            begun, count = self._seen.get(kind, (now, 0))
            left_out = 0
            if now - begun >= _SECONDS:
                left_out = max(0, count - _LINES)
                begun, count = now, 0
            self._seen[kind] = (begun, count + 1)
        return left_out if count < _LINES else None


def line(failure: GatewayError, then: str = "") -> str | None:
    """Return the line for a failure, None where there is to be none; ``then``: what is done about it."""
    if not failure.logged:
        return None
    host = urlsplit(failure.place.partition(" ")[2]).netloc
    left_out = limiter.admit((host, failure.kind) if host else str(failure))
    if left_out is None:
        return None
    what_next = "; ".join([part for part in (failure.advice, then) if part])
    return with_details(str(failure), failure.place, failure.tried, what_next) + _more(left_out)


def debug_line(answer: S3Error, place: str, tried: str, then: str = "") -> str:
    """Return the line for an answer of S3's that no other line tells of; they are not limited in number."""
    return f"debug: {with_details(answer.words, place, tried, then)}"


def with_details(text: str, place: str, tried: str, then: str = "") -> str:
    """Return a line's text with what was asked, which attempt it was, and what is done about it."""
    details = ", ".join(part for part in (place, tried) if part)
    if details:
        text = f"{text} ({details})"
    return f"{text}; {then}" if then else text


def warn(message: str, kind: Hashable = None) -> None:
    """Write a line that is about no request: what a process of httpd prints there stands in the server's error log.

    ``kind``: what it has in common with others, which are limited together; None: only the same is.
    """
    left_out = limiter.admit(kind or message)
    if left_out is not None:
        print(printable(f"usp_s3_wsgi: {message}{_more(left_out)}"), file=sys.stderr, flush=True)


def printable(line: str) -> str:
    """Return the line so that it is one: control characters cannot begin a second one."""
    return line.encode("ascii", "backslashreplace").decode().translate(_CONTROL)


_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127)}


def _more(left_out: int) -> str:
    return f" [{left_out} more of this kind were not written]" if left_out else ""


limiter = Limiter()
