"""The speed of each column in each row. In each round all columns take turns, so that noise affects all of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.bucket import SIZES
from tests.bench.client import Client
from tests.bench.columns import DIRECT, NGINX, TRAFFIC_SERVER, Column
from tests.bench.load import Load, wrk
from tests.bench.processes import cpu_seconds
from tests.bench.results import Record
from tests.bench.rows import RANGE, Kind, Row

#: The number of requests per round whose time to first byte is measured.
_FIRST_BYTES = 8
#: A server may still work for a client that has disconnected: its CPU time must not count for the next column.
_PAUSE = 0.1
_GB, _MS = 1024**3, 1000.0


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run, or the medians of several.

    ``p50``, ``p99``: milliseconds for a complete response. ``first_byte``: milliseconds to the first byte, of single
    requests on one connection (with a new connection each if the row is cold; for the stream: its own).
    ``cpu_per_gb``, ``cpu_per_1000``: CPU seconds of the proxy per GB or per 1,000 requests. ``failures`` and ``closed``
    are those of Load; of several runs ``requests``, ``failures`` and ``closed`` are sums.
    """

    requests: int
    requests_per_second: float
    bytes_per_second: float
    p50: float
    p99: float | None
    first_byte: float
    cpu_per_gb: float | None
    cpu_per_1000: float | None
    failures: int
    closed: int


@dataclass(slots=True)
class Cell:
    """A column in a row, round by round."""

    row: Row
    column: str
    rounds: list[Figures] = field(default_factory=list)

    @property
    def is_failed(self) -> bool:
        """Whether a response was wrong or missing. Truncated responses of httpd are found in its error log."""
        is_httpd = self.column not in {NGINX, TRAFFIC_SERVER, DIRECT}
        return any(one.failures or (one.closed and not is_httpd) for one in self.rounds)

    @property
    def speeds(self) -> list[float]:
        """The compared figure of each round: bytes per second of large objects, requests per second of small ones."""
        return [one.bytes_per_second if self.row.is_large else one.requests_per_second for one in self.rounds]

    def record(self) -> Record:
        """The record in the results."""
        return {
            "scheme": self.row.scheme,
            "row": self.row.name,
            "column": self.column,
            "is_large": self.row.is_large,
            "speeds": self.speeds,
            "median": asdict(self._median()),
            "rounds": [asdict(one) for one in self.rounds],
        }

    def _median(self) -> Figures:
        """The median of each figure."""
        each = [asdict(one) for one in self.rounds]
        medians: dict[str, Any] = {
            name: None if any(one[name] is None for one in each) else median(one[name] for one in each)
            for name in each[0]
        }
        sums = {name: sum(one[name] for one in each) for name in ("requests", "failures", "closed")}
        return Figures(**{**medians, **sums})


def measure(
    rows: Iterable[Row], columns: list[Column], ca: Path, rounds: int, seconds: float
) -> Iterator[tuple[Row, list[Cell]]]:
    """Measure row by row; yields each row when it is complete."""
    for row in rows:
        cells = [Cell(row, column.name) for column in columns]
        for column in columns:  # warm-up: connections, threads, children
            _load(row, column, ca, seconds / 4)
        for _ in range(rounds):
            for column, cell in zip(columns, cells, strict=True):
                cell.rounds.append(_figures(row, column, ca, seconds))
        yield row, cells


def _figures(row: Row, column: Column, ca: Path, seconds: float) -> Figures:
    time.sleep(_PAUSE)
    before = cpu_seconds(column.pid) if column.pid else 0.0
    load, first_bytes = _load(row, column, ca, seconds)
    time.sleep(_PAUSE)
    used = cpu_seconds(column.pid) - before if column.pid else None
    first_bytes = first_bytes or list(_first_bytes(row, column, ca))
    return Figures(
        requests=load.requests,
        requests_per_second=load.requests / load.seconds,
        bytes_per_second=load.bytes / load.seconds,
        p50=load.p50,
        p99=load.p99 if row.kind is not Kind.STREAM else None,
        first_byte=median(first_bytes) * _MS,
        cpu_per_gb=used / load.bytes * _GB if used is not None and load.bytes else None,
        cpu_per_1000=used / load.requests * 1000 if used is not None and load.requests else None,
        failures=load.failures,
        closed=load.closed,
    )


def _load(row: Row, column: Column, ca: Path, seconds: float) -> tuple[Load, list[float]]:
    """Put the row's load on the column; also returns the times to first byte, if the load measures them."""
    url = column.url(row.route, row.key)
    if row.kind is Kind.STREAM:
        return _stream(url, ca, seconds)
    return wrk(url, row.connections, seconds, *row.script_arguments, close=row.kind is Kind.COLD), []


def _stream(url: str, ca: Path, seconds: float) -> tuple[Load, list[float]]:
    """Read complete objects until the time is up. Raises: BenchError."""
    begun = time.perf_counter()
    with Client(url, ca) as client:
        responses = [client.get(url)]
        while time.perf_counter() - begun < seconds:
            responses.append(client.get(url))
    durations = [response.seconds for response in responses]
    failures = sum(response.status != 200 for response in responses)
    median_ms = median(durations) * _MS
    received = sum(response.length for response in responses)
    load = Load(len(responses), received, sum(durations), median_ms, median_ms, failures, closed=0)
    return load, [response.first_byte for response in responses]


def _first_bytes(row: Row, column: Column, ca: Path) -> Iterator[float]:
    url = column.url(row.route, row.key)
    headers: tuple[str, ...] = ()
    if row.kind is Kind.RANGES:
        first = SIZES[row.key] // 2
        headers = (f"Range: bytes={first}-{first + RANGE - 1}",)
    if row.kind is Kind.COLD:
        headers = ("Connection: close",)
    with Client(url, ca) as client:
        if row.kind is not Kind.COLD:
            client.get(url, headers=headers)
        for _ in range(_FIRST_BYTES):
            yield client.get(url, headers=headers).first_byte
            if row.kind is Kind.COLD:
                client.close()
