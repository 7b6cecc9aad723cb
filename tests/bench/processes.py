"""What a server's processes have used and hold, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_TICKS = os.sysconf("SC_CLK_TCK")
_MB = 1024.0


@dataclass(frozen=True, slots=True)
class Memory:
    """MB of the processes that serve. ``pss``: all pages, of shared ones a share; ``private``: their own alone.

    ``pss_each``, ``private_each``: the median of one process.
    """

    processes: int
    pss: float
    private: float
    pss_each: float
    private_each: float


def tree(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree until now, that of children which have ended included."""
    ticks = 0
    for process in tree(pid):
        with suppress(OSError):
            # utime, stime and those of the children that it has waited for: proc(5), fields 14 to 17
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS


def memory(pid: int) -> Memory:
    """Look at a server's children, or at itself if it has none."""
    _, *children = tree(pid)
    seen = [one for process in children or [pid] if (one := _pages(process))]
    shares, own = [pss for pss, _ in seen], [private for _, private in seen]
    return Memory(len(seen), sum(shares), sum(own), median(shares), median(own))


def _pages(pid: int) -> tuple[float, float] | None:
    """PSS and private MB; None of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    kilobytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return kilobytes["Pss"] / _MB, (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) / _MB
