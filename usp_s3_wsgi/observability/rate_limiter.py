"""Limits on repeated log lines, and an alarm for frequent events: both count events by kind in windows of time."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable

#: More kinds than servers and their error codes have: beyond that S3 makes them up, and they are counted together.
_MAX_KINDS = 1_000


class _EventCounter:
    """Counts events by kind. The window of a kind begins with its first event, and lasts for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._windows: dict[Hashable, tuple[float, int]] = {}

    def clear(self) -> None:
        """Forget all events."""
        with self._lock:
            self._windows.clear()

    def _count(self, kind: Hashable) -> tuple[int, int]:
        """Count an event; return its number in its window, and, of the first one, how many the last window had."""
        now = time.monotonic()
        with self._lock:
            if kind not in self._windows and len(self._windows) >= _MAX_KINDS:
                self._windows = {old: window for old, window in self._windows.items() if now - window[0] < self.seconds}
                if len(self._windows) >= _MAX_KINDS:
                    kind = None
            begin, count = self._windows.get(kind, (now, 0))
            last = 0
            if now - begin >= self.seconds:
                begin, count, last = now, 0, count
            self._windows[kind] = (begin, count + 1)
        return count + 1, last


class RateLimiter(_EventCounter):
    """Allows at most ``lines`` log lines of a kind in a window; the first line of the next says how many were not."""

    def __init__(self, lines: int, seconds: float) -> None:
        super().__init__(seconds)
        self._lines = lines

    def allow(self, kind: Hashable) -> int | None:
        """Return None for a line over the limit, else how many lines of its kind were suppressed just before."""
        number, last = self._count(kind)
        return max(0, last - self._lines) if number <= self._lines else None


class FrequencyAlarm(_EventCounter):
    """Says when events of a kind are frequent: at the ``threshold``-th within ``seconds``, once in that time."""

    def __init__(self, threshold: int, seconds: float) -> None:
        super().__init__(seconds)
        self.threshold = threshold

    def record(self, kind: Hashable) -> bool:
        """Count an event; return whether the alarm is to be given now."""
        return self._count(kind)[0] == self.threshold
