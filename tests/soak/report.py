"""The soak's report: responses by tenth of the time, and memory and open files of httpd's children."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, linear_regression, median, variance
from typing import NamedTuple

from tests.soak.client import MOUNTS

ROWS = 10
#: The growth of a child that is allowed in the second half, in MB per minute: a few bytes per request exceed it.
LIMIT = 0.1
#: The growth in MB that is allowed in the second half of a short soak, while caches and free lists still fill.
WARM_UP = 1.0
#: The second half is divided into so many parts; the median of each part is used.
_PARTS = 8
#: The margin of the slope in standard errors: Student's t, 95 %, six degrees of freedom.
_T_VALUE = 2.45
_TITLES = ("time", "requests", "wrong", "aborted", "5xx", "resident MB", "fds")


class Sample(NamedTuple):
    """Memory and files of one child of httpd; ``at``: seconds since the start of the soak."""

    at: float
    child: int
    resident: float
    fds: int
    threads: int


def sample(at: float, child: int) -> Sample | None:
    """Measure a child; None if it has ended."""
    folder = Path("/proc", str(child))
    try:
        lines = (folder / "status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return Sample(
            at,
            child,
            int(fields["VmRSS"].split()[0]) / 1024,
            len(list((folder / "fd").iterdir())),
            int(fields["Threads"]),
        )
    except (OSError, KeyError):  # the process has ended
        return None


class Trend(NamedTuple):
    """The growth of a child in MB per minute, its margin of error, and the minutes of observation."""

    slope: float
    margin: float
    minutes: float

    @property
    def verdict(self) -> str:
        """ "grows", "flat", or "inconclusive" if the time was too short."""
        if self.slope - self.margin > max(LIMIT, WARM_UP / self.minutes):
            return "grows"
        return "flat" if self.slope + self.margin <= LIMIT else "inconclusive: the time was too short"

    def __str__(self) -> str:
        return f"{self.slope:+.2f} ± {self.margin:.2f} MB per minute: {self.verdict}"


def trend(points: list[tuple[float, float]], minutes: float) -> Trend:
    """Fit a line through points (minute, MB) by least squares.

    With two points or fewer the margin is infinite.
    """
    if len(points) < 3:
        return Trend(0.0, math.inf, minutes)
    at, sizes = zip(*points, strict=True)
    slope, start = linear_regression(at, sizes)
    errors = sum((size - slope * minute - start) ** 2 for minute, size in points)
    spread = (len(points) - 1) * variance(at)
    return Trend(slope, _T_VALUE * math.sqrt(errors / (len(points) - 2) / spread), minutes)


class Report:
    """Counts and samples, and the conclusions from them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.samples: list[Sample] = []
        self._lock = threading.Lock()
        self._counts: Counter[tuple[int, str, str]] = Counter()

    def count(self, at: float, mount: str, outcome: str) -> None:
        """Count a response at this second: "ok", "aborted", "5xx" or "wrong"."""
        with self._lock:
            self._counts[self._row(at), mount, outcome] += 1

    def _row(self, at: float) -> int:
        return min(ROWS - 1, int(at * ROWS / self.seconds))

    def total(self, row: int | None = None, mount: str | None = None, *outcomes: str) -> int:
        """The number of responses in a tenth, of a mount, with one of the outcomes; None or no outcome: all."""
        return sum(
            number
            for (counted_row, counted_mount, outcome), number in self._counts.items()
            if row in {None, counted_row} and mount in {None, counted_mount} and (not outcomes or outcome in outcomes)
        )

    def failed(self, mount: str) -> float:
        """The percentage of a mount's requests that failed."""
        return 100 * self.total(None, mount, "aborted", "5xx", "wrong") / max(1, self.total(None, mount))

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
            *(str(self.total(row, None, outcome)) for outcome in ("wrong", "aborted", "5xx")),
            " + ".join(f"{_median(one.resident for one in seen if one.child == child):.1f}" for child in children),
            " + ".join(f"{_median(one.fds for one in seen if one.child == child):.0f}" for child in children),
        )

    def summary(self) -> str:
        """How many requests failed, for each mount."""
        return "\n".join(
            f"{mount}: {self.failed(mount):.2f} % of {self.total(None, mount)} requests failed "
            f"({self.total(None, mount, 'aborted')} aborted, {self.total(None, mount, '5xx')} 5xx)"
            for mount in MOUNTS
        )

    def growth(self, since: float) -> list[str]:
        """List the children that ended early or started late, or whose memory or files grow in the second half."""
        errors = []
        for child in dict.fromkeys(one.child for one in self.samples if one.at >= since):
            files = [_median(one.fds for one in part) for part in self._quarters(child)]
            if not all(self._quarters(child)):
                errors.append(f"child {child} ended early or started late")
            elif files[1] > files[0] + _median(one.threads for one in self._quarters(child)[1]):
                errors.append(f"the open files of child {child} grew from {files[0]:.0f} to {files[1]:.0f}")
            elif (memory := self.memory(child)).verdict == "grows":
                errors.append(f"the memory of child {child}: {memory}")
        return errors

    def memories(self) -> dict[int, Trend]:
        """The growth of each child that ran to the end."""
        children = dict.fromkeys(one.child for one in self.samples)
        return {child: self.memory(child) for child in children if all(self._quarters(child))}

    def memory(self, child: int) -> Trend:
        """The growth of a child in the second half."""
        half = self.seconds / 2
        parts: dict[int, list[Sample]] = {}
        for one in self.samples:
            if one.child == child and one.at >= half:
                parts.setdefault(min(_PARTS - 1, int((one.at - half) / half * _PARTS)), []).append(one)
        points = [
            (fmean(one.at for one in part) / 60, _median(one.resident for one in part)) for part in parts.values()
        ]
        return trend(points, half / 60)

    def _quarters(self, child: int) -> tuple[list[Sample], list[Sample]]:
        """The samples of a child in the third and the fourth quarter."""
        late = [one for one in self.samples if one.child == child and one.at >= self.seconds / 2]
        boundary = self.seconds * 3 / 4
        return [one for one in late if one.at < boundary], [one for one in late if one.at >= boundary]


def _median(values: Iterable[float]) -> float:
    return median(list(values) or [0.0])
