"""Shows a comparison of signed texts on a terminal: in two columns, or one text below the other if it is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from usp_s3_wsgi.cli.check.rejected_signature.computed_texts import ComparedLine
from usp_s3_wsgi.cli.console import text
from usp_s3_wsgi.status.comparison import compare

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

#: Columns of a terminal on which two columns are readable: most lines are hashes of 64 digits, and headers.
_TWO_COLUMNS = 180
_OURS, _THEIRS = "this server has signed", "S3 says that it has computed"
_FIRST = "^ the first difference"


class ComparisonView:
    """A renderable of rich. Control characters are escaped."""

    def __init__(self, lines: Sequence[ComparedLine]) -> None:
        self._lines = lines
        self._has_theirs = any(line.is_compared for line in lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._has_theirs:
            yield text(f"What {_OURS} (S3 does not say what it has computed):")
            yield self._one_column()
        elif options.max_width >= _TWO_COLUMNS:
            yield self._two_columns()
        else:
            yield text(f"- {_OURS}    + {_THEIRS}")
            yield self._one_column()

    def _two_columns(self) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for header in ("", _OURS, _THEIRS, ""):
            table.add_column(header, overflow="fold")
        for line in self._lines:
            ours, theirs = _parts(line)
            table.add_row(text(line.label), ours, theirs, text("<- first" if line.is_first_difference else ""))
        return table

    def _one_column(self) -> Table:
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        for _ in range(3):
            table.add_column(overflow="fold")
        for line in self._lines:
            ours, theirs = _parts(line)
            if not line.is_compared or (line.ours == line.theirs and not line.is_first_difference):
                table.add_row("", text(line.label), ours)
                continue
            if line.ours is not None:
                table.add_row("-", text(line.label), ours)
            if line.theirs is not None:
                table.add_row("+", text(line.label), theirs)
            if line.is_first_difference:
                table.add_row("", "", text(_FIRST, "bold"))
        return table


def _parts(line: ComparedLine) -> tuple[Text, Text]:
    """Return both lines, with the part that differs marked."""
    if line.ours is None or line.theirs is None:
        return text(line.ours or "", "red"), text(line.theirs or "", "green")
    row = compare(line.ours, line.theirs).rows[0] if line.ours and line.theirs else None
    if row is None or row.ours is None or row.theirs is None:
        return text(line.ours), text(line.theirs)
    return _marked(row.ours, "bold red"), _marked(row.theirs, "bold green")


def _marked(parts: tuple[str, str, str], style: str) -> Text:
    before, differs, after = parts
    return text(before).append_text(text(differs, style)).append_text(text(after))
