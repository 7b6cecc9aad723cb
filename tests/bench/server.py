"""Start and stop the programs of a benchmark, each with a temporary folder and a log."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.httpd.machine import apache_user, is_listening

WAIT = 15.0


class BenchError(Exception):
    """The benchmark cannot continue; the message says why."""


@contextmanager
def temporary_root(prefix: str, *folders: str) -> Iterator[Path]:
    """A folder with subfolders that every user can read, and that servers can write to without root."""
    root = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        root.chmod(0o755)
        for folder in (root, *(root / name for name in folders)):
            folder.mkdir(exist_ok=True)
            if os.geteuid() == 0:
                shutil.chown(folder, apache_user().pw_name)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def running(
    command: list[str],
    log: Path,
    ports: list[int],
    *,
    environment: dict[str, str] | None = None,
) -> Iterator[int]:
    """Run a foreground program and wait until it listens on all ports; yields its pid. Raises: BenchError."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + WAIT
        while not all(is_listening(port) for port in ports):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{command[0]} does not start:\n{log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(WAIT)
        with suppress(ProcessLookupError):  # it has not ended, or has left children
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(WAIT)
