"""What more connections do to speed, patience and memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from tests.bench.bucket import Route
from tests.bench.columns import Column
from tests.bench.load import wrk
from tests.bench.processes import Memory, memory

COUNTS = (1, 4, 16, 64, 256, 512)
OBJECTS = {"1 KB": "1k", "1 MB": "1m"}
_HTTP = Route("http", False)


@dataclass(frozen=True, slots=True)
class Crowd:
    """A column with so many connections; medians of the rounds. ``p99``: milliseconds."""

    column: str
    size: str
    connections: int
    requests_per_second: float
    bytes_per_second: float
    p99: float
    memory: Memory
    failures: int
    ended: int


def measure(
    columns: list[Column], rounds: int, seconds: float, counts: tuple[int, ...] = COUNTS
) -> Iterator[list[Crowd]]:
    """Measure size by size and count by count; servers that stand alone take turns. Yields what is done."""
    for size, key in OBJECTS.items():
        for count in counts:
            loads = [[wrk(column.url(_HTTP, key), count, seconds) for column in columns] for _ in range(rounds)]
            yield [
                Crowd(
                    column.name,
                    size,
                    count,
                    median(load.requests / load.seconds for load in of_column),
                    median(load.bytes / load.seconds for load in of_column),
                    median(load.p99 for load in of_column),
                    memory(column.pid or 0),
                    sum(load.failures for load in of_column),
                    sum(load.ended for load in of_column),
                )
                for column, of_column in zip(columns, zip(*loads, strict=True), strict=True)
            ]
