"""Paragraphs for a terminal or a pipe: words are wrapped at its width, and what is copied stays in one piece."""

from __future__ import annotations

import textwrap

from usp_s3_wsgi.cli import console
from usp_s3_wsgi.status.words import visible

#: Longer lines are hard to read.
_MAX_WIDTH = 100


def entry(label: str, text: str, width: int = 0) -> None:
    """Print a label and a text beside it. ``width``: of the label's column, its own length if that is more."""
    _print(label, text, f"{label:<{width}}  ")


def paragraph(text: str, style: str = "") -> None:
    """Print a text that is wrapped at the width of the terminal; an empty one is an empty line."""
    for line in _wrapped(text, "", "") or [""]:
        console.output().print(console.text(line, style), soft_wrap=True)


def _print(label: str, text: str, column: str) -> None:
    first, *others = _wrapped(text, column, " " * len(column)) or [column.rstrip()]
    line = console.text(first)
    line.stylize("bold", 0, len(label))
    for each in (line, *map(console.text, others)):
        console.output().print(each, soft_wrap=True)


def _wrapped(text: str, first: str, others: str) -> list[str]:
    # A request id, a path or a URL is not broken, also where it is longer than the line.
    return textwrap.wrap(
        visible(text),
        min(console.output().width, _MAX_WIDTH),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
