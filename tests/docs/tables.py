"""The tables of a page of the documentation, for tests that check their rows."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_INLINE_CODE = re.compile(r"`([^`]+)`")


def table(page: str, first_header: str, number: int = 0) -> list[list[str]]:
    """Return the rows of a table whose first column has this header; each row is a list of its cells.

    ``number``: which of the tables with this header, from 0.
    """
    lines = (DOCS / page).read_text("utf-8").splitlines()
    start = [index for index, line in enumerate(lines) if line.startswith(f"| {first_header} |")][number]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    assert rows
    return rows


def codes(cell: str) -> list[str]:
    """Return what is written as inline code."""
    return _INLINE_CODE.findall(cell)
