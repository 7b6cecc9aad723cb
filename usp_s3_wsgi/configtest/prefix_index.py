"""Texts and what they begin with, for thousands of them: not each is compared with each."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefixes(Generic[T]):
    """Things by their texts."""

    def __init__(self, things: Mapping[str, T]) -> None:
        self._things = dict(things)
        self._texts = sorted(self._things)

    def __len__(self) -> int:
        return len(self._texts)

    def starting_with(self, text: str) -> Iterator[T]:
        """What has a text that begins with this one, or is it."""
        for index in range(bisect.bisect_left(self._texts, text), len(self._texts)):
            if not self._texts[index].startswith(text):
                return
            yield self._things[self._texts[index]]

    def beginning(self, text: str) -> Iterator[T]:
        """What has a text that this one begins with, or is, the shortest first."""
        for end in range(len(text) + 1):
            if (thing := self._things.get(text[:end])) is not None:
                yield thing
