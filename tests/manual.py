"""The manual pages of usp-s3 in docs/man, from the command's own help: ``make man``."""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path

import click
from click_man.core import get_short_help_str
from click_man.man import ManPage

import usp_s3_wsgi
from usp_s3_wsgi.cli.main import usp_s3

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "man"
#: The first line of a block that click does not fill.
_NO_FILL = "\b"
#: roff would print other characters for these, which a shell does not take.
_VERBATIM = str.maketrans({
    "\\": r"\e", "-": r"\-", "'": r"\[aq]", "`": r"\[ga]", "^": r"\[ha]", "~": r"\[ti]",
})  # fmt: skip


class _Page(ManPage):  # type: ignore[misc]  # click-man has no type hints
    """A page whose texts are escaped for roff, and whose examples are not filled."""

    def replace_blank_lines(self, s: str) -> str:
        """Return a text of the help in roff."""
        return "\n.PP\n".join(map(_paragraph, re.split(r"\n\s*\n", s.strip("\n"))))


def _paragraph(text: str) -> str:
    first, *lines = text.split("\n")
    if first == _NO_FILL:
        return "\n".join([".EX", *map(_line, lines), ".EE"])
    return "\n".join(map(_line, (first, *lines)))


def _line(text: str) -> str:
    """Escape a line: what begins with a dot or a quote would be a request."""
    escaped = text.translate(_VERBATIM)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    version: str = usp_s3_wsgi.__version__
    released = re.search(
        rf"^## \[{re.escape(version)}\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert released, "CHANGELOG.md has no date for this version"
    context = click.Context(usp_s3)
    commands = {
        name: command for name in usp_s3.list_commands(context) if (command := usp_s3.get_command(context, name))
    }
    group = click.Group("usp-s3", commands, params=usp_s3.params, help=usp_s3.help)
    top = click.Context(group, info_name="usp-s3")
    contexts = [top, *(click.Context(command, top, info_name=name) for name, command in commands.items())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # click-man calls a function that click 9 will not have
        return {
            f"{context.command_path.replace(' ', '-')}.1": _page(context, version, released[1]) for context in contexts
        }


def _page(context: click.Context, version: str, date: str) -> str:
    command = context.command
    page = _Page(context.command_path)
    page.version, page.date = version, date
    page.short_help = get_short_help_str(command).translate(_VERBATIM)
    page.description = inspect.cleandoc(command.help or "")
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    options = (each for each in command.params if isinstance(each, click.Option) and not each.hidden)
    records = (option.get_help_record(context) for option in options)
    page.options = [record for record in records if record]
    if isinstance(command, click.Group):
        page.commands = [(name, get_short_help_str(each)) for name, each in command.commands.items()]
    title, _, text = str(page).partition("\n")
    # No word is hyphenated: it may be an option or a path.
    return f"{title}\n.nh\n{text}"


def main() -> None:
    """Write the pages, and remove those of commands that are no more."""
    written = pages()
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
