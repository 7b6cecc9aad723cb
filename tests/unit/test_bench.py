"""The benchmark's command line, as README documents it, in the environment of ``make test``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Parses the options in a process that cannot import matplotlib, even if it is installed.
WITHOUT_MATPLOTLIB = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *arguments: None if name.startswith("matplotlib") else find(name, *arguments)
from tests.bench.__main__ import main
sys.argv = ["python -m tests.bench", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--help"], 0, "--quick"),
        (["--only", "throughput"], 2, "tests/bench/install.sh"),
        (["--plot", "results.json"], 2, "tests/bench/install.sh"),
    ],
)
def test_only_plotting_requires_matplotlib(arguments: list[str], status: int, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MATPLOTLIB, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert message in done.stdout + done.stderr
