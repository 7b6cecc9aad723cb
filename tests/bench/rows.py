"""The rows of the tables: what is requested, and with how many connections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from tests.bench.bucket import KB, SCHEMES, SIZES, Route


class Kind(Enum):
    """How the objects of a row are read."""

    WHOLE = auto()
    COLD = auto()
    RANGES = auto()
    STREAM = auto()


RANGE = 64 * KB


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of load. ``name``: the object x the number of connections."""

    name: str
    key: str
    connections: int
    kind: Kind
    scheme: str

    @property
    def route(self) -> Route:
        """The route to the bucket."""
        return Route(self.scheme, self.kind is Kind.COLD)

    @property
    def script_arguments(self) -> tuple[object, ...]:
        """The arguments of wrk.lua."""
        return ("ranges", SIZES[self.key], RANGE) if self.kind is Kind.RANGES else ()

    @property
    def is_large(self) -> bool:
        """Whether bytes per second are compared, instead of requests per second."""
        return self.kind is Kind.STREAM or (self.kind is Kind.WHOLE and SIZES[self.key] >= SIZES["1m"])


_WHOLE = {"1 KB": "1k", "64 KB": "64k", "1 MB": "1m", "6 MB": "6m"}
STREAM, RANGES, COLD = "256 MB x 1", "64 KB ranges x 16", "1 KB cold x 16"


def rows(schemes: Iterable[str] = SCHEMES) -> list[Row]:
    """All rows, in the order of the tables."""
    return [
        row
        for scheme in schemes
        for row in (
            *(
                Row(f"{size} x {number}", key, number, Kind.WHOLE, scheme)
                for size, key in _WHOLE.items()
                for number in (16, 64)
            ),
            Row(STREAM, "256m", 1, Kind.STREAM, scheme),
            Row(RANGES, "256m", 16, Kind.RANGES, scheme),
            Row(COLD, "1k", 16, Kind.COLD, scheme),
        )
    ]
