"""Speed, latency and memory with more connections."""

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
class ConnectionsResult:
    """A column with a number of connections; medians of the rounds. ``p99``: milliseconds."""

    column: str
    size: str
    connections: int
    requests_per_second: float
    bytes_per_second: float
    p99: float
    memory: Memory
    failures: int
    closed: int


def measure(
    columns: list[Column], rounds: int, seconds: float, counts: tuple[int, ...] = COUNTS
) -> Iterator[list[ConnectionsResult]]:
    """Measure each size with each number of connections; the servers take turns. Yields complete results."""
    for size, key in OBJECTS.items():
        for count in counts:
            loads = [[wrk(column.url(_HTTP, key), count, seconds) for column in columns] for _ in range(rounds)]
            yield [
                ConnectionsResult(
                    column.name,
                    size,
                    count,
                    median(load.requests / load.seconds for load in column_loads),
                    median(load.bytes / load.seconds for load in column_loads),
                    median(load.p99 for load in column_loads),
                    memory(column.pid or 0),
                    sum(load.failures for load in column_loads),
                    sum(load.closed for load in column_loads),
                )
                for column, column_loads in zip(columns, zip(*loads, strict=True), strict=True)
            ]
