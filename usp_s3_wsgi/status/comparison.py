"""What this server has signed beside what S3 says that it has computed, line by line."""

from __future__ import annotations

from itertools import zip_longest
from typing import NamedTuple


class Row(NamedTuple):
    """A line of both texts, None where a text has no more lines.

    ``ours``, ``theirs``: what both begin with, what differs, and what both end with. ``is_first``: whether
    it is the first line that differs.
    """

    number: int
    ours: tuple[str, str, str] | None
    theirs: tuple[str, str, str] | None
    differs: bool
    is_first: bool


class Comparison(NamedTuple):
    """``first``: the number of the first line that differs, 0 if none does or if one of the texts is empty."""

    rows: tuple[Row, ...]
    has_ours: bool
    has_theirs: bool
    first: int


def compare(ours: str, theirs: str) -> Comparison:
    """Compare two texts. If one of them is empty there is nothing to compare, and no line differs."""
    both = bool(ours and theirs)
    rows: list[Row] = []
    first = 0
    lines = zip_longest(ours.split("\n") if ours else (), theirs.split("\n") if theirs else ())
    for number, (our_line, their_line) in enumerate(lines, start=1):
        differs = both and our_line != their_line
        is_first = differs and not first
        first = number if is_first else first
        our_parts, their_parts = _parts(our_line, their_line) if both else (_whole(our_line), _whole(their_line))
        rows.append(Row(number, our_parts, their_parts, differs, is_first))
    return Comparison(tuple(rows), bool(ours), bool(theirs), first)


def _whole(line: str | None) -> tuple[str, str, str] | None:
    return None if line is None else (line, "", "")


def _parts(one: str | None, other: str | None) -> tuple[tuple[str, str, str] | None, tuple[str, str, str] | None]:
    if one is None or other is None:
        return (None if one is None else ("", one, "")), (None if other is None else ("", other, ""))
    shorter = min(len(one), len(other))
    begin = next((i for i in range(shorter) if one[i] != other[i]), shorter)
    rest = shorter - begin
    end = next((i for i in range(rest) if one[-1 - i] != other[-1 - i]), rest)
    return _split(one, begin, end), _split(other, begin, end)


def _split(line: str, begin: int, end: int) -> tuple[str, str, str]:
    return line[:begin], line[begin : len(line) - end], line[len(line) - end :]
