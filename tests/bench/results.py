"""The results as they are written to JSON; the tables, goals and chart are made from them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

Record = dict[str, Any]


@dataclass(slots=True)
class Results:
    """Each list has the records of the module that measures them."""

    about: Record
    throughput: list[Record] = field(default_factory=list)
    connections: list[Record] = field(default_factory=list)
    buckets: list[Record] = field(default_factory=list)
    memory: list[Record] = field(default_factory=list)
    streams: list[Record] = field(default_factory=list)
    micro: list[Record] = field(default_factory=list)
    goals: list[Record] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    # --- files

    def save(self, path: Path) -> None:
        """Write the results as JSON."""
        text = json.dumps({name: getattr(self, name) for name in self.__slots__}, indent=1)
        path.write_text(text + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read results that :meth:`save` has written."""
        return cls(**json.loads(path.read_text()))

    # --- throughput

    def rows(self, scheme: str) -> list[str]:
        """The names of the rows, in their order."""
        return list(dict.fromkeys(cell["row"] for cell in self.throughput if cell["scheme"] == scheme))

    def columns(self) -> list[str]:
        """The names of the columns, in their order."""
        return list(dict.fromkeys(cell["column"] for cell in self.throughput))

    def cell(self, scheme: str, row: str, column: str) -> Record | None:
        """The record of a column in a row; None if it was not measured."""
        key = (scheme, row, column)
        return next((one for one in self.throughput if (one["scheme"], one["row"], one["column"]) == key), None)

    def ratio(self, scheme: str, row: str, column: str, reference: str) -> float | None:
        """The speed relative to a reference column: the median of the rounds' ratios."""
        ours, theirs = self.cell(scheme, row, column), self.cell(scheme, row, reference)
        return _median_ratio(ours["speeds"], theirs["speeds"]) if ours and theirs else None

    # --- other measurements

    def buckets_record(self, way: str, number: int) -> Record | None:
        """The record for a number of buckets."""
        return next((one for one in self.buckets if (one["way"], one["buckets"]) == (way, number)), None)

    def bucket_ratio(self, way: str, number: int) -> float | None:
        """The speed relative to one bucket: the median of the rounds' ratios."""
        many, one = self.buckets_record(way, number), self.buckets_record(way, 1)
        return _median_ratio(many["requests_per_second"], one["requests_per_second"]) if many and one else None

    def stream_memory(self, server: str) -> float | None:
        """MB per stream above idle."""
        return next((one["per_stream"] for one in self.streams if one["server"] == server), None)

    def step(self, name: str) -> Record | None:
        """The timing of a single step."""
        return next((one for one in self.micro if one["step"] == name), None)


def _median_ratio(ours: Iterable[float], theirs: Iterable[float]) -> float | None:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True) if other]
    return median(ratios) if ratios else None
