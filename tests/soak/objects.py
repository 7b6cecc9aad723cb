"""The objects of the soak: each byte follows from number, version and place, so that both ends know it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

#: As much as is sent or compared at once.
PIECE = 1 << 18
#: A prime, so that no buffer's size falls in with it and a body moved by one buffer is seen.
_PERIOD = 1_000_003
_BLOCK = random.Random("block").randbytes(_PERIOD) * 2


@dataclass(frozen=True, slots=True)
class Film:
    """An object; S3 may exchange it for another ``version`` of the same size at any time."""

    number: int
    size: int

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return f"film/{self.number}"

    def etag(self, version: int) -> str:
        """The entity tag of a version, which tells all of its bytes."""
        return f'"{self.number}-{version}"'

    def version(self, etag: str | None) -> int | None:
        """The version that has this entity tag, None where there is none."""
        match = re.fullmatch(rf'"{self.number}-([0-9]+)"', etag or "")
        return int(match[1]) if match else None

    def piece(self, version: int, start: int, stop: int) -> bytes:
        """The bytes between two places, of which there are ``PIECE`` at most."""
        begin = (self.number * 7_919 + version * 104_729 + start) % _PERIOD
        return _BLOCK[begin : begin + stop - start]

    def pieces(self, version: int, start: int, stop: int) -> Iterator[bytes]:
        """The same of any length."""
        for place in range(start, stop, PIECE):
            yield self.piece(version, place, min(place + PIECE, stop))


def _size(number: int) -> int:
    """1 KB to 8 MB, as many small ones as large ones; the first is a large film."""
    return 1 << 26 if number == 0 else int(2 ** random.Random(f"size {number}").uniform(10, 23))


FILMS = [Film(number, _size(number)) for number in range(200)]
BY_KEY = {film.key: film for film in FILMS}


def asked_part(header: str, size: int) -> tuple[int, int] | None:
    """Where a Range of one range begins and ends in an object of that size, None where it lies outside."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    stop = min(size, int(last) + 1) if last else size
    return (int(first), stop) if int(first) < size else None
