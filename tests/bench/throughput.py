"""How fast each column is in each row: rounds in which all columns take turns, so that noise meets them alike."""

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

#: Requests whose first bytes are timed, one after the other, in each round.
_FIRST_BYTES = 8
#: A server may still be at work for a client that has left: its time must not be the next column's.
_PAUSE = 0.1
_GB, _MS = 1024**3, 1000.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run, or the median of several, has shown.

    ``p50``, ``p99``: milliseconds for a whole answer. ``first_byte``: milliseconds until its first byte, of requests
    one after the other on one connection, or each on its own where the row is cold; of the stream, its own.
    ``cpu_per_gb``, ``cpu_per_1000``: seconds of CPU of the proxy for so many bytes or requests. ``failures`` and
    ``ended`` are those of Load; of several runs their sum, as ``requests``.
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
    ended: int


@dataclass(slots=True)
class Cell:
    """A column in a row, round by round."""

    row: Row
    column: str
    rounds: list[Figures] = field(default_factory=list)

    @property
    def is_failed(self) -> bool:
        """Whether an answer was wrong or missing. Of what httpd has cut short its error log tells."""
        is_httpd = self.column not in {NGINX, TRAFFIC_SERVER, DIRECT}
        return any(one.failures or (one.ended and not is_httpd) for one in self.rounds)

    @property
    def speeds(self) -> list[float]:
        """What is compared, round by round: bytes of large objects, requests of small ones, each by second."""
        return [one.bytes_per_second if self.row.is_large else one.requests_per_second for one in self.rounds]

    def record(self) -> Record:
        """What is written of it."""
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
        middle: dict[str, Any] = {
            name: None if any(one[name] is None for one in each) else median(one[name] for one in each)
            for name in each[0]
        }
        sums = {name: sum(one[name] for one in each) for name in ("requests", "failures", "ended")}
        return Figures(**{**middle, **sums})


def measure(
    rows: Iterable[Row], columns: list[Column], ca: Path, rounds: int, seconds: float
) -> Iterator[tuple[Row, list[Cell]]]:
    """Measure row by row; yields each row as soon as it is done."""
    for row in rows:
        cells = [Cell(row, column.name) for column in columns]
        for column in columns:  # connections, and threads or children where they are started on demand
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
        ended=load.ended,
    )


def _load(row: Row, column: Column, ca: Path, seconds: float) -> tuple[Load, list[float]]:
    """Put the row's load on the column; returns the times to the first byte as well where the load shows them."""
    url = column.url(row.route, row.key)
    if row.kind is Kind.STREAM:
        return _stream(url, ca, seconds)
    return wrk(url, row.connections, seconds, *row.script_arguments, close=row.kind is Kind.COLD), []


def _stream(url: str, ca: Path, seconds: float) -> tuple[Load, list[float]]:
    """Read whole objects until the time is up. Raises: BenchError, of which nothing can be measured any more."""
    begun = time.perf_counter()
    with Client(url, ca) as client:
        answers = [client.get(url)]
        while time.perf_counter() - begun < seconds:
            answers.append(client.get(url))
    durations = [answer.seconds for answer in answers]
    failures = sum(answer.status != 200 for answer in answers)
    middle = median(durations) * _MS
    received = sum(answer.length for answer in answers)
    load = Load(len(answers), received, sum(durations), middle, middle, failures, ended=0)
    return load, [answer.first_byte for answer in answers]


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
