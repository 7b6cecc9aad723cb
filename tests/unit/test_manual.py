"""The manual pages are those of the command's help."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import textwrap
from importlib.metadata import version
from pathlib import Path

import click
import pytest

import tests.manual
from tests.manual import FOLDER, pages
from usp_s3_wsgi.cli.main import usp_s3

#: Another version of a library may write another text.
NEWEST = (FOLDER.parents[1] / "tests" / "requirements" / "newest" / "test.txt").read_text("utf-8")


@pytest.mark.skipif(
    any(f"{name}=={version(name)} " not in NEWEST for name in ("click", "click-man")),
    reason="the pages are those of the newest click and click-man",
)
def test_the_pages_are_up_to_date() -> None:
    """If not: make man."""
    assert {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()} == pages()


def test_each_subcommand_has_a_page_with_its_options() -> None:
    written = pages()
    assert {"usp-s3.1", "usp-s3-check.1", "usp-s3-apache-config.1", "usp-s3-convert.1"} <= set(written)
    assert "\\-\\-json" in written["usp-s3-check.1"] and "Exit status" in written["usp-s3-check.1"]
    assert all("..." not in text.partition(".SH SYNOPSIS")[0] for text in written.values())  # a name that is cut


@pytest.mark.skipif(not shutil.which("man"), reason="there is no man")
def test_man_formats_the_pages_without_a_warning() -> None:
    for path in FOLDER.iterdir():
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
            env={"LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "PATH": "/usr/bin:/bin", "MANWIDTH": "80"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("man"), reason="there is no man")
def test_an_example_is_copied_verbatim_from_a_page(tmp_path: Path) -> None:
    """man fills texts, hyphenates words, and prints other characters for quotes and hyphens."""
    context = click.Context(usp_s3)
    for name in usp_s3.list_commands(context):
        command = usp_s3.get_command(context, name)
        assert command and command.help
        blocks = re.findall(r"^\x08\n((?:.+\n?)+)", inspect.cleandoc(command.help), re.MULTILINE)
        assert blocks
        shown = rendered(FOLDER / f"usp-s3-{name}.1")
        for block in blocks:
            assert textwrap.dedent(block).strip() in textwrap.dedent(shown)
    odd = "\\b\n.not a request\n'nor this' --a-b ~ ^ ` \\\n  second   line\\n".replace("\\b", "\b", 1)
    page = tmp_path / "odd.1"
    page.write_text(f".TH ODD 1\n.SH NAME\nodd\n.SH TEXT\n{tests.manual._Page('odd').replace_blank_lines(odd)}\n")
    assert ".not a request\n'nor this' --a-b ~ ^ ` \\\n  second   line\\n" in textwrap.dedent(rendered(page))


def rendered(page: Path) -> str:
    """The text of a page as man shows it, without the indentation of its sections."""
    done = subprocess.run(
        ["man", "-E", "UTF-8", "-l", page], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANWIDTH": "80", "MANPAGER": "cat"},
    )  # fmt: skip
    return re.sub("^ {7}", "", done.stdout, flags=re.MULTILINE)
