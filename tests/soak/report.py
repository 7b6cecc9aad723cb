"""What the soak saw: answers by tenth of the time, and what the children held meanwhile."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

from tests.soak.client import MOUNTS

ROWS = 10
#: What a child may gain in the last half of the time, in MB a minute: a leak of a few bytes in each request is more.
LIMIT = 0.1
#: MB that a child may gain in that half of a short soak: caches and free lists still fill then.
WARM_UP = 1.0
#: Into so many parts that half is divided; the median of each says what a child held in it.
_PARTS = 8
#: Of so many standard errors the slope may be wrong: Student's t, 95 %, six degrees of freedom.
_STUDENT = 2.45
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


class Trend(NamedTuple):
    """What a child gains in MB a minute, by how much that may be wrong, and in how many minutes it was seen."""

    slope: float
    margin: float
    minutes: float

    @property
    def verdict(self) -> str:
        """ "grows" or "flat", or that the time was too short to tell."""
        if self.slope - self.margin > max(LIMIT, WARM_UP / self.minutes):
            return "grows"
        return "flat" if self.slope + self.margin <= LIMIT else "cannot be told in so short a time"

    def __str__(self) -> str:
        return f"{self.slope:+.2f} MB a minute, give or take {self.margin:.2f}: {self.verdict}"


def trend(points: list[tuple[float, float]], minutes: float) -> Trend:
    """Fit a line through points (minute, MB) of so many minutes, by least squares.

    Of two points and less, which any line fits, the margin is without limit.
    """
    if len(points) < 3:
        return Trend(0.0, math.inf, minutes)
    middle, height = fmean(minute for minute, _ in points), fmean(held for _, held in points)
    spread = sum((minute - middle) ** 2 for minute, _ in points)
    slope = sum((minute - middle) * (held - height) for minute, held in points) / spread
    errors = sum((held - height - slope * (minute - middle)) ** 2 for minute, held in points)
    return Trend(slope, _STUDENT * math.sqrt(errors / (len(points) - 2) / spread), minutes)


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
        """Say which child did not live from ``since`` on, or gains memory or files in the last half of the time."""
        complaints = []
        for child in dict.fromkeys(one.child for one in self.samples if one.at >= since):
            files = [_middle(one.fds for one in part) for part in self._quarters(child)]
            if not all(self._quarters(child)):
                complaints.append(f"the child {child} did not live to the end, or began late")
            elif files[1] > files[0] + _middle(one.threads for one in self._quarters(child)[1]):
                complaints.append(f"the open files of the child {child} grew from {files[0]:.0f} to {files[1]:.0f}")
            elif (memory := self.memory(child)).verdict == "grows":
                complaints.append(f"the memory of the child {child}: {memory}")
        return complaints

    def memories(self) -> dict[int, Trend]:
        """What each child that lived to the end gains."""
        children = dict.fromkeys(one.child for one in self.samples)
        return {child: self.memory(child) for child in children if all(self._quarters(child))}

    def memory(self, child: int) -> Trend:
        """What a child gains in the last half of the time."""
        half = self.seconds / 2
        parts: dict[int, list[Sample]] = {}
        for one in self.samples:
            if one.child == child and one.at >= half:
                parts.setdefault(min(_PARTS - 1, int((one.at - half) / half * _PARTS)), []).append(one)
        points = [
            (fmean(one.at for one in part) / 60, _middle(one.resident for one in part)) for part in parts.values()
        ]
        return trend(points, half / 60)

    def _quarters(self, child: int) -> tuple[list[Sample], list[Sample]]:
        """What was seen of a child in the third and in the fourth quarter of the time."""
        late = [one for one in self.samples if one.child == child and one.at >= self.seconds / 2]
        border = self.seconds * 3 / 4
        return [one for one in late if one.at < border], [one for one in late if one.at >= border]


def _middle(values: Iterable[float]) -> float:
    return median(list(values) or [0.0])
