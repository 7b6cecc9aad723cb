"""CPU time and memory of a server's processes, from /proc."""

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
    """MB of a server's processes. ``pss``: proportional set size; ``private``: private pages only.

    ``pss_each``, ``private_each``: the median per process.
    """

    processes: int
    pss: float
    private: float
    pss_each: float
    private_each: float


def tree(pid: int) -> Iterator[int]:
    """The process and its descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of the process tree, including children that have ended."""
    ticks = 0
    for process in tree(pid):
        with suppress(OSError):
            # utime, stime, cutime, cstime: proc(5), fields 14 to 17
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS


def memory(pid: int) -> Memory:
    """Measure a server's children, or the server itself if it has none."""
    _, *children = tree(pid)
    pages = [one for process in children or [pid] if (one := _pages(process))]
    shares, own = [pss for pss, _ in pages], [private for _, private in pages]
    return Memory(len(pages), sum(shares), sum(own), median(shares), median(own))


def _pages(pid: int) -> tuple[float, float] | None:
    """PSS and private memory in MB; None if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    kilobytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return kilobytes["Pss"] / _MB, (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) / _MB
