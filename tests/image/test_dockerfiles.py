"""The Dockerfiles that users build have no findings of hadolint."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image.build import ROOT

FOLDER = ROOT / "apache" / "container"


@pytest.mark.parametrize("file", ["Dockerfile", "compose/Dockerfile"])
def test_has_no_findings(file: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed (tests/requirements/image.txt)")
    done = subprocess.run([hadolint, str(FOLDER / file)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
