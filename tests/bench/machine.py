"""The machine and the versions of a benchmark."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from tests.httpd.machine import httpd_binary
from tests.httpd.server import MPM

#: The command that prints each program's version, and a pattern for the version.
_PROGRAMS = {
    "httpd": ([httpd_binary(), "-v"], r"Apache/(\S+)"),
    "nginx": (["nginx", "-v"], r"nginx/(\S+)"),
    "Traffic Server": (["traffic_server", "--version"], r"Traffic Server (\S+)"),
    "wrk": (["wrk", "-v"], r"wrk \S*?([0-9]\S*)"),
    "OpenSSL": (["openssl", "version"], r"OpenSSL (\S+)"),
}
_PACKAGES = ("usp_s3_wsgi", "mod_wsgi", "urllib3", "botocore")


def machine() -> dict[str, str]:
    """CPU, memory and kernel of this machine."""
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return {
        "CPU": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GB",
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """The versions of packages and programs."""
    return {
        **{package: importlib.metadata.version(package) for package in _PACKAGES},
        "Python": platform.python_version(),
        "MPM": MPM,
        **{name: _version(*command) for name, command in _PROGRAMS.items()},
    }


def _version(command: list[str], pattern: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "unknown"
