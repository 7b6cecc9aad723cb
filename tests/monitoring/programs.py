"""The programs that ``tests/monitoring/install.sh`` has unpacked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What operators copy.
FILES = ROOT / "apache" / "monitoring"
UNPACKED = ROOT / "build" / "monitoring"
PROMETHEUS = UNPACKED / "usr" / "bin" / "prometheus"
PROMTOOL = UNPACKED / "usr" / "bin" / "promtool"
RSYSLOGD = UNPACKED / "usr" / "sbin" / "rsyslogd"

NEEDS_PROMETHEUS = pytest.mark.skipif(
    not (PROMETHEUS.exists() and PROMTOOL.exists()),
    reason="Prometheus is not unpacked in build/monitoring: make test-monitoring",
)
NEEDS_RSYSLOG = pytest.mark.skipif(
    not RSYSLOGD.exists(), reason="rsyslog is not unpacked in build/monitoring: make test-monitoring"
)


def environment() -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries."""
    folders = [*map(str, UNPACKED.glob("usr/lib/*-linux-gnu*")), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, folders))}


def promtool(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run promtool. Its whole output is in ``stdout``."""
    done = subprocess.run(
        [PROMTOOL, *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), "")
