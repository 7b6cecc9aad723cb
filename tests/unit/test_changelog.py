"""CHANGELOG.md keeps the form of https://keepachangelog.com/en/1.1.0. Its newest version is that of the package."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

import usp_s3_wsgi
from usp_s3_wsgi.config.settings import TABLE

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
#: In this order. "Upgrading" is our own: what to do before or after the installation.
KINDS = ["Upgrading", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
UNRELEASED = "Unreleased"


def sections(text: str, level: int) -> list[tuple[str, str]]:
    """Return the headings of this level, each with the text up to the next one."""
    parts = re.split(rf"^{'#' * level} (.*)\n", text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def version_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def mistakes(text: str, current: str) -> list[str]:
    """Return what is wrong in a change log. ``current``: the package's version."""
    found = [f"a heading of level {len(marks)}" for marks in re.findall(r"^(#{4,}) ", text, re.MULTILINE)]
    releases: list[tuple[tuple[int, ...], date]] = []
    for number, (heading, body) in enumerate(sections(text, 2)):
        if heading == f"[{UNRELEASED}]" and number == 0:
            pass
        elif not (match := re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", heading)):
            found.append(f"## {heading}: not [1.2.3] - 2026-01-31")
        else:
            try:
                releases.append((version_numbers(match[1]), date.fromisoformat(match[2])))
            except ValueError:
                found.append(f"## {heading}: no such date")
        found += [f"## {heading}: {mistake}" for mistake in mistakes_of_version(body)]
    versions, dates = [release[0] for release in releases], [release[1] for release in releases]
    if versions != sorted(set(versions), reverse=True) or dates != sorted(dates, reverse=True):
        found.append("the versions are not from the newest to the oldest, each once")
    if versions[:1] != [version_numbers(current)]:
        found.append(f"the newest version is not {current}")
    return found


def mistakes_of_version(body: str) -> list[str]:
    kinds = sections(body, 3)
    names = [name for name, _ in kinds]
    found = [f"### {name} is not one of {', '.join(KINDS)}" for name in names if name not in KINDS]
    known = [name for name in names if name in KINDS]
    if known != sorted(set(known), key=KINDS.index):
        found.append("its headings are not in order, each once")
    introduction = re.split(r"^### ", body, maxsplit=1, flags=re.MULTILINE)[0]
    if re.search(r"^- ", introduction, re.MULTILINE):
        found.append("entries without a heading")
    return found + [f"### {name}: {mistake}" for name, text in kinds for mistake in mistakes_of_entries(text)]


def mistakes_of_entries(text: str) -> list[str]:
    lines = text.strip("\n").split("\n")
    if lines == [""]:
        return ["no entry"]
    return [f"not a list: {line}" for line in lines if not re.match(r"- \S|  ( *- )?\S", line)]


def test_the_form_is_kept() -> None:
    assert mistakes(CHANGELOG.read_text("utf-8"), usp_s3_wsgi.__version__) == []


RIGHT = """\
# Changelog

## [Unreleased]

### Upgrading

- Call it again.

## [1.10.0] - 2026-02-01

What it is about.

### Added

- A setting,
  on two lines.

### Security

- A fix.

## [1.9.0] - 2026-02-01
"""


@pytest.mark.parametrize("text", [RIGHT, RIGHT.replace("## [Unreleased]\n\n### Upgrading\n\n- Call it again.\n", "")])
def test_a_right_change_log(text: str) -> None:
    assert mistakes(text, "1.10.0") == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("] - 2026-02-01", "]", "not [1.2.3]"),
        ("2026-02-01", "2026-02-30", "no such date"),
        ("2026-02-01\n\nWhat", "2026-01-31\n\nWhat", "from the newest"),
        ("[1.9.0]", "[1.10.0]", "from the newest"),
        ("[1.9.0]", "[1.11.0]", "from the newest"),
        ("[1.9.0] - 2026-02-01", "[Unreleased]", "not [1.2.3]"),
        ("1.10.0", "1.10.1", "the newest version is not 1.10.0"),
        ("### Security", "### Docs", "is not one of"),
        ("### Added", "### Security", "in order"),
        ("### Security", "### Added", "in order"),
        ("What it is about.", "- An entry.", "entries without a heading"),
        ("- A fix.\n", "", "no entry"),
        ("- A fix.", "A fix.", "not a list"),
        ("  on two lines", "on two lines", "not a list"),
        ("### Security", "#### Security", "a heading of level 4"),
    ],
)
def test_a_mistake_is_found(old: str, new: str, expected: str) -> None:
    assert old in RIGHT
    assert any(expected in mistake for mistake in mistakes(RIGHT.replace(old, new, 1), "1.10.0"))


def test_each_setting_is_in_a_version() -> None:
    """A setting that is not released yet names the next version."""
    text, current = CHANGELOG.read_text("utf-8"), version_numbers(usp_s3_wsgi.__version__)
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", text, re.MULTILINE)
    wrong = [row.name for row in TABLE if row.since not in released and version_numbers(row.since) <= current]
    assert wrong == []
