"""What the soak saw: answers by tenth of the time, and what the children held meanwhile."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.soak.client import MOUNTS

ROWS = 10
_SHARE, _MB = 1.10, 8.0
_TITLES = ("time", "requests", "wrong", "ended abnormally", "5xx", "resident MB", "fds")


class Sample(NamedTuple):
    """What one child of httpd holds; ``at``: seconds since the soak's begin."""

    at: float
    child: int
    resident: float
    fds: int
    threads: int


def sample(at: float, child: int) -> Sample | None:
    """Look at a child; None where it has ended."""
    place = Path("/proc", str(child))
    try:
        lines = (place / "status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return Sample(
            at,
            child,
            int(fields["VmRSS"].split()[0]) / 1024,
            len(list((place / "fd").iterdir())),
            int(fields["Threads"]),
        )
    except (OSError, KeyError):  # a process that ends has no memory
        return None


class Report:
    """Counts and samples, and what is to be said of them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.samples: list[Sample] = []
        self._lock = threading.Lock()
        self._counts: Counter[tuple[int, str, str]] = Counter()

    def count(self, at: float, mount: str, outcome: str) -> None:
        """Count an answer that came at that second: "right", "ended", "5xx" or "wrong"."""
        with self._lock:
            self._counts[self._row(at), mount, outcome] += 1

    def _row(self, at: float) -> int:
        return min(ROWS - 1, int(at * ROWS / self.seconds))

    def total(self, row: int | None = None, mount: str | None = None, *outcomes: str) -> int:
        """How many answers: of that tenth (None: all), that mount, one of those outcomes (none named: all)."""
        return sum(
            number
            for (of_row, of_mount, outcome), number in self._counts.items()
            if row in {None, of_row} and mount in {None, of_mount} and (not outcomes or outcome in outcomes)
        )

    def failed(self, mount: str) -> float:
        """The share of a mount's requests that did not get what they asked for, as a percentage."""
        return 100 * self.total(None, mount, "ended", "5xx", "wrong") / max(1, self.total(None, mount))

    def table(self) -> str:
        """One row for each tenth of the time; memory and files of each child."""
        rows = [_TITLES, *(self._cells(row) for row in range(ROWS))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
        return "\n".join(" | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)

    def _cells(self, row: int) -> tuple[str, ...]:
        seen = [one for one in self.samples if self._row(one.at) == row]
        children = list(dict.fromkeys(one.child for one in seen))
        return (
            f"{round(self.seconds * (row + 1) / ROWS, 1):g} s",
            str(self.total(row)),
            *(str(self.total(row, None, outcome)) for outcome in ("wrong", "ended", "5xx")),
            " + ".join(f"{_middle(one.resident for one in seen if one.child == child):.1f}" for child in children),
            " + ".join(f"{_middle(one.fds for one in seen if one.child == child):.0f}" for child in children),
        )

    def summary(self) -> str:
        """What each way in made of the faults."""
        return "\n".join(
            f"{mount}: {self.failed(mount):.2f} % of {self.total(None, mount)} requests failed "
            f"({self.total(None, mount, 'ended')} ended abnormally, {self.total(None, mount, '5xx')} 5xx)"
            for mount in MOUNTS
        )

    def growth(self, since: float) -> list[str]:
        """Say which child holds more in the last third of the time than in the second; nothing: all are flat."""
        complaints = []
        for child in dict.fromkeys(one.child for one in self.samples if one.at >= since):
            of_child = [one for one in self.samples if one.child == child]
            second = [one for one in of_child if self.seconds / 3 <= one.at < self.seconds * 2 / 3]
            last = [one for one in of_child if one.at >= self.seconds * 2 / 3]
            if not second or not last:
                complaints.append(f"the child {child} did not live to the end, or began late")
                continue
            before, after = _middle(one.resident for one in second), _middle(one.resident for one in last)
            if after > before * _SHARE and after > before + _MB:
                complaints.append(f"the memory of the child {child} grew from {before:.1f} to {after:.1f} MB")
            files = [_middle(one.fds for one in third) for third in (second, last)]
            if files[1] > files[0] + _middle(one.threads for one in last):
                complaints.append(f"the open files of the child {child} grew from {files[0]:.0f} to {files[1]:.0f}")
        return complaints


def _middle(values: Iterable[float]) -> float:
    return median(list(values) or [0.0])
