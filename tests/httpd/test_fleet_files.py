"""The files in apache/fleet are valid. ``make test-fleet`` uses them with real servers and a real HAProxy."""

from __future__ import annotations

import subprocess

import pytest

from tests.fleet.haproxy import CONFIG, program
from tests.fleet.node import fleet_lines
from tests.httpd.machine import has_module
from tests.httpd.server import Httpd


@pytest.mark.skipif(not program(), reason="there is no HAProxy on this machine: tests/fleet/install.sh")
def test_haproxy_reports_neither_an_error_nor_a_warning() -> None:
    checked = subprocess.run(
        [program(), "-c", "-dW", "-f", str(CONFIG)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # HAProxy 3.0 prints nothing.
    assert (checked.returncode, checked.stdout + checked.stderr) in ((0, ""), (0, "Configuration file is valid\n"))


@pytest.mark.skipif(not has_module("remoteip"), reason="this httpd has no mod_remoteip")
def test_httpd_accepts_the_lines_of_a_node() -> None:
    checked = Httpd(fleet_lines("192.0.2.10", "/run/usp_s3/drain")).configtest()
    assert (checked.returncode, checked.stdout) == (0, "Syntax OK\n")
