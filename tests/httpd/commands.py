"""Runs the command usp-s3 as a user does, against the configuration of a test's httpd."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.httpd.machine import httpd_binary, httpd_environment
from tests.httpd.server import Httpd

LIMIT = 120


def usp_s3(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed command with the variables of httpd's environment, none of AWS and of proxies, and these."""
    inherited = {
        name: value
        for name, value in httpd_environment().items()
        if not name.startswith("AWS_") and not name.lower().endswith("_proxy")
    }
    return subprocess.run(
        [f"{sys.prefix}/bin/usp-s3", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=LIMIT, check=False, env={**inherited, **(environment or {})}, cwd="/",
    )  # fmt: skip


def of(httpd: Httpd) -> tuple[str, ...]:
    """The options that name an httpd and its configuration."""
    return "--httpd", httpd_binary(), "-f", str(httpd.root / "httpd.conf")


def recording_program(name: str, folder: Path) -> dict[str, str]:
    """Put a program before the real one in PATH, which records its arguments as all users see them.

    Returns the variable PATH; the records are in the file ``NAME.cmdline`` of the folder.
    """
    script = folder / name
    path = os.environ.get("PATH", os.defpath)
    script.write_text(
        f'#!/bin/sh\ncat "/proc/$$/cmdline" >> "{folder}/{name}.cmdline"\nPATH="{path}" exec {name} "$@"\n'
    )
    script.chmod(0o755)
    return {"PATH": f"{folder}:{path}"}
