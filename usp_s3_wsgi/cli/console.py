"""Terminal output: colors and tables on a terminal, plain text in a pipe, 80 columns where the width is not known.

rich respects NO_COLOR, TERM=dumb and COLUMNS. It is imported when it is needed: "usp-s3 --help" does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

import click

from usp_s3_wsgi.observability.error_log import escape_controls
from usp_s3_wsgi.status.words import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text


@cache
def output() -> Console:
    """Standard output, for results."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


@cache
def messages() -> Console:
    """Standard error, for progress and messages."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def text(words: str, style: str = "") -> Text:
    """Return words for a table, with control characters escaped: S3's words may contain some."""
    from rich.text import Text

    return Text(escape_controls(words), style)


def name(words: str, style: str = "") -> Text:
    """Return a name of the configuration, which may be a non-ASCII one, as far as the terminal can print it."""
    from rich.text import Text

    encoding = output().encoding
    return Text(visible(words).encode(encoding, "backslashreplace").decode(encoding), style)


def completes(words: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return the ``shell_complete`` of an option with these values."""
    return lambda _, __, incomplete: [word for word in words if word.lower().startswith(incomplete.lower())]


def print_error(error: click.ClickException) -> None:
    """Print to standard error why a command has failed; for a wrong command line with the usage, as click does it."""
    if isinstance(error, click.UsageError):
        error.show()
    else:
        click.echo(f"usp-s3: {error.format_message()}", err=True)


def print_table(table: RenderableType) -> None:
    """Print a table and an empty line; no line ends with the spaces with which rich fills a column."""
    with output().capture() as captured:
        output().print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    output().file.write("\n".join([*lines, "", ""]))
