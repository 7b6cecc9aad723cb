"""Limits on repeated log lines, and a counter of repeated events."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable

#: At most so many lines of a kind are written in this many seconds; the next line says how many were suppressed.
_LINES, _SECONDS = 10, 10.0
#: More kinds than servers and their error codes have: beyond that S3 makes them up, and they are limited together.
_MAX_KINDS = 1_000


class RateLimiter:
    """Counts lines by kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[Hashable, tuple[float, int]] = {}

    def clear(self) -> None:
        """Forget all lines."""
        with self._lock:
            self._windows.clear()

    def allow(self, kind: Hashable) -> int | None:
        """Return None for a line over the limit, else how many lines of its kind were suppressed just before."""
        now = time.monotonic()
        with self._lock:
            if kind not in self._windows and len(self._windows) >= _MAX_KINDS:
                self._windows = {old: window for old, window in self._windows.items() if now - window[0] < _SECONDS}
                if len(self._windows) >= _MAX_KINDS:
                    kind = None
            begin, count = self._windows.get(kind, (now, 0))
            suppressed = 0
            if now - begin >= _SECONDS:
                suppressed = max(0, count - _LINES)
                begin, count = now, 0
            self._windows[kind] = (begin, count + 1)
        return suppressed if count < _LINES else None


class FrequencyAlarm:
    """Says when events of a kind are frequent: at the ``threshold``-th within ``seconds``, once in that time."""

    def __init__(self, threshold: int, seconds: float) -> None:
        self.threshold, self.seconds = threshold, seconds
        self._lock = threading.Lock()
        self._windows: dict[Hashable, tuple[float, int]] = {}

    def clear(self) -> None:
        """Forget all events."""
        with self._lock:
            self._windows.clear()

    def record(self, kind: Hashable) -> bool:
        """Count an event; return whether the alarm is to be given now."""
        now = time.monotonic()
        with self._lock:
            if kind not in self._windows and len(self._windows) >= _MAX_KINDS:
                self._windows = {old: window for old, window in self._windows.items() if now - window[0] < self.seconds}
                if len(self._windows) >= _MAX_KINDS:
                    kind = None
            begin, count = self._windows.get(kind, (now, 0))
            if now - begin >= self.seconds:
                begin, count = now, 0
            self._windows[kind] = (begin, count + 1)
        return count + 1 == self.threshold
