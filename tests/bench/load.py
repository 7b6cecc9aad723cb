"""Load with many connections, by wrk, which needs little CPU time itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.server import BenchError

#: Seconds for one response: 64 objects of 6 MB may be in transfer at the same time.
_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted. ``p50``, ``p99``: milliseconds. ``failures``: statuses from 400 on, timeouts, socket errors.

    ``closed``: connections that the server closed while wrk waited for a response. The event MPM closes idle keep-alive
    connections when all of its threads are busy, and clients then retry. wrk cannot distinguish that from a truncated
    response; httpd's error log does.
    """

    requests: int
    bytes: int
    seconds: float
    p50: float
    p99: float
    failures: int
    closed: int


def wrk(url: str, connections: int, seconds: float, *script_arguments: object, close: bool = False) -> Load:
    """Load a URL; ``script_arguments``: those of wrk.lua. ``close``: use a new connection for each request.

    Raises: BenchError.
    """
    threads = min(connections, os.cpu_count() or 1)
    command = [
        "wrk", f"-t{threads}", f"-c{connections}", f"-d{int(seconds) + 1}s", f"--timeout={_TIMEOUT}s",
        "--script", str(Path(__file__).with_name("wrk.lua")), *(["--header", "Connection: close"] if close else []),
        url, "--", *map(str, script_arguments),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        # wrk accepts only whole seconds; when it is interrupted, it prints what it has counted.
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=2 * _TIMEOUT)
    finally:
        process.kill()
        process.wait(_TIMEOUT)
    try:
        return Load(**json.loads(output.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        raise BenchError(f"{' '.join(command)}:\n{output}") from None
