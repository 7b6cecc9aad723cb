"""The table of commands in CONTRIBUTING.md has each target of the Makefile, and says what continuous integration runs.

The hooks for commits run what ``make lint`` runs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MAX_MINUTES_OF_CI = 90
MINUTES = {"s": 1 / 60, "min": 1, "h": 60}


class Row(NamedTuple):
    """A row of the table."""

    command: str
    purpose: str
    needs: str
    time: str
    in_ci: str


def makefile() -> str:
    return (ROOT / "Makefile").read_text("utf-8")


def documented_targets() -> list[str]:
    """The targets that ``make help`` lists."""
    return re.findall(r"^([a-z-]+):.*## ", makefile(), re.MULTILINE)


def rows() -> list[Row]:
    lines = re.findall(r"^\| (`make .*) \|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    return [Row(*(cell.strip() for cell in line.split("|"))) for line in lines]


def target(command: str) -> str:
    """The target in a command: "make fuzz JOBS=2" has fuzz."""
    match = re.fullmatch(r"`?make ([a-z-]+)( [^`]*)?`?", command)
    assert match, command
    return match[1]


def minutes(time: str) -> float:
    match = re.fullmatch(r"(\d+) (s|min|h)", time)
    assert match, time
    return int(match[1]) * MINUTES[match[2]]


def targets_of_ci() -> list[str]:
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    return [target(line) for line in lines if line.startswith("make ")]


def test_each_target_is_in_the_table_once() -> None:
    assert sorted(target(row.command) for row in rows()) == sorted(documented_targets())


def test_the_table_says_what_continuous_integration_runs() -> None:
    assert {row.in_ci for row in rows()} >= {"yes", "no"}
    assert sorted(target(row.command) for row in rows() if row.in_ci != "no") == sorted(targets_of_ci())


def test_continuous_integration_is_limited_in_time() -> None:
    assert all(minutes(row.time) > 0 for row in rows())
    times = [row.time if row.in_ci == "yes" else row.in_ci for row in rows() if row.in_ci != "no"]
    assert sum(map(minutes, times)) <= MAX_MINUTES_OF_CI


def test_the_hooks_for_commits_are_those_of_make_lint() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    hooks = re.findall(r"^ +entry: (.*)\n +language: (.*)$", config, re.MULTILINE)
    recipe = re.search(r"^lint:.*\n\t@\$\(MAKE\) --no-print-directory ([a-z -]+)$", makefile(), re.MULTILINE)
    assert recipe and hooks
    assert [f"make --no-print-directory {name}" for name in recipe[1].split()] == [entry for entry, _ in hooks]
    assert {language for _, language in hooks} == {"system"}  # no other versions of the tools, and no network
