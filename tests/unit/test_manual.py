"""The manual pages are those of the command's help."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version

import pytest

from tests.manual import FOLDER, pages

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
