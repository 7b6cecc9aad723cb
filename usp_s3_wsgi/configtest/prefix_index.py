"""An index of values by strings, for prefix searches in both directions, without pairwise comparisons."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class PrefixIndex(Generic[T]):
    """Values by their keys."""

    def __init__(self, values: Mapping[str, T]) -> None:
        self._values = dict(values)
        self._keys = sorted(self._values)

    def __len__(self) -> int:
        return len(self._keys)

    def starting_with(self, text: str) -> Iterator[T]:
        """Yield the values whose key is the text or begins with it."""
        for index in range(bisect.bisect_left(self._keys, text), len(self._keys)):
            if not self._keys[index].startswith(text):
                return
            yield self._values[self._keys[index]]

    def prefixes_of(self, text: str) -> Iterator[T]:
        """Yield the values whose key is the text or a prefix of it, the shortest key first."""
        for end in range(len(text) + 1):
            if (value := self._values.get(text[:end])) is not None:
                yield value
