"""The objects of the soak: each byte is computed from number, version and position, by S3 and by the clients."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

#: How many bytes are sent or compared at a time.
PIECE = 1 << 18
#: A prime: a body that is shifted by any buffer's size has other bytes.
_PERIOD = 1_000_003
_BLOCK = random.Random("block").randbytes(_PERIOD) * 2


@dataclass(frozen=True, slots=True)
class Film:
    """An object; S3 may replace it by another ``version`` of the same size at any time."""

    number: int
    size: int

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return f"film/{self.number}"

    def etag(self, version: int) -> str:
        """The ETag of a version."""
        return f'"{self.number}-{version}"'

    def version(self, etag: str | None) -> int | None:
        """The version with this ETag; None if there is no such version."""
        match = re.fullmatch(rf'"{self.number}-([0-9]+)"', etag or "")
        return int(match[1]) if match else None

    def piece(self, version: int, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to ``stop``, ``PIECE`` at most."""
        begin = (self.number * 7_919 + version * 104_729 + start) % _PERIOD
        return _BLOCK[begin : begin + stop - start]

    def pieces(self, version: int, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` to ``stop`` in pieces."""
        for position in range(start, stop, PIECE):
            yield self.piece(version, position, min(position + PIECE, stop))


def _size(number: int) -> int:
    """1 KB to 8 MB on a logarithmic scale; the first object has 64 MB."""
    return 1 << 26 if number == 0 else int(2 ** random.Random(f"size {number}").uniform(10, 23))


FILMS = [Film(number, _size(number)) for number in range(200)]
BY_KEY = {film.key: film for film in FILMS}


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The start and end of a Range header with one range, in an object of this size; None if it is unsatisfiable."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    stop = min(size, int(last) + 1) if last else size
    return (int(first), stop) if int(first) < size else None
