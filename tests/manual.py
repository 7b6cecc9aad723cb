"""The manual pages of usp-s3 in docs/man, from the command's own help: ``make man``."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path

import click
from click_man.core import write_man_pages

import usp_s3_wsgi
from usp_s3_wsgi.cli.main import usp_s3

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "man"


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    version = usp_s3_wsgi.__version__
    released = re.search(
        rf"^## \[{re.escape(version)}\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert released, "CHANGELOG.md has no date for this version"
    context = click.Context(usp_s3)
    commands = {
        name: command for name in usp_s3.list_commands(context) if (command := usp_s3.get_command(context, name))
    }
    group = click.Group("usp-s3", commands, params=usp_s3.params, help=usp_s3.help)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # click-man calls a function that click 9 will not have
        write_man_pages("usp-s3", group, version=version, target_dir=folder, date=released[1])
        return {path.name: path.read_text("utf-8") for path in sorted(Path(folder).iterdir())}


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
