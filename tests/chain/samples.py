"""Objects that the stand-in for Unified Origin reads (``reading_origin.c``): samples, and an index of their places."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

MAGIC = b"SAMPLES1"
HEADER = struct.Struct(">8sQQ")
ENTRY = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Samples:
    """An object. ``places``: of each sample, offset and length; ``table``: those of the table."""

    data: bytes
    places: tuple[tuple[int, int], ...]
    table: tuple[int, int]

    def body(self, first: int = 0, last: int | None = None) -> bytes:
        """What an origin answers with: the samples from ``first`` to ``last``, in their order."""
        return b"".join(self.data[offset : offset + length] for offset, length in self._chosen(first, last))

    def ranges(self, first: int = 0, last: int | None = None) -> list[str]:
        """The Range of each read for that answer: the index, then the samples."""
        index = [f"bytes=0-{HEADER.size - 1}", f"bytes=-{len(MAGIC)}", _range(*self.table)]
        return index + [_range(*place) for place in self._chosen(first, last)]

    def _chosen(self, first: int, last: int | None) -> tuple[tuple[int, int], ...]:
        return self.places[first : len(self.places) if last is None else last + 1]


def make_samples(*lengths: int, seed: int = 22) -> Samples:
    """Make an object with samples of these lengths, which are stored in another order than that of their numbers."""
    chance = random.Random(seed)  # the same object in each run
    order = list(range(len(lengths)))
    chance.shuffle(order)
    data, places = bytearray(HEADER.size), [(0, 0)] * len(lengths)
    for number in order:
        places[number] = (len(data), lengths[number])
        data += chance.randbytes(lengths[number])
    table = (len(data), ENTRY.size * len(places))
    data[: HEADER.size] = HEADER.pack(MAGIC, table[0], len(places))
    data += b"".join(ENTRY.pack(*place) for place in places) + MAGIC
    return Samples(bytes(data), tuple(places), table)


def _range(offset: int, length: int) -> str:
    return f"bytes={offset}-{offset + length - 1}"
