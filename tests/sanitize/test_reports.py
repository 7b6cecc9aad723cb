"""A report of a sanitizer fails a test: otherwise ``make sanitize`` would succeed without finding anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sanitize.errors_in_httpd import CALLS

FOLDER = Path(__file__).parent
#: What the report of each error contains.
REPORTS = {
    "read_behind": "AddressSanitizer: heap-buffer-overflow",
    "read_behind_pool_memory": "AddressSanitizer: heap-buffer-overflow",
    "read_after_pool_end": "AddressSanitizer: heap-use-after-free",
    "add": "runtime error: signed integer overflow",
}

pytestmark = pytest.mark.skipif("HTTPD_PRELOAD" not in os.environ, reason="make sanitize runs this")


@pytest.mark.parametrize("name", CALLS)
def test_an_error_in_httpd_fails_its_test(name: str) -> None:
    options = ["-q", "-p", "tests.sanitize.plugin", "-k", f"[{name}]", "errors_in_httpd.py"]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert REPORTS[name] in done.stdout
