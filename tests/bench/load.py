"""wrk: many requests at once, by a client that costs less than what it asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.server import BenchError

#: Seconds for one answer: 64 objects of 6 MB may be under way at once.
_PATIENCE = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted. ``p50``, ``p99``: milliseconds. ``failures``: answers from 400 on, or none, errors of sockets.

    ``ended``: connections that the server ended where wrk waited for an answer. The event MPM ends kept connections
    that are idle when its threads are all at work, and a client must then ask again; wrk cannot tell that from an
    answer that is cut short, but httpd's error log does.
    """

    requests: int
    bytes: int
    seconds: float
    p50: float
    p99: float
    failures: int
    ended: int


def wrk(url: str, connections: int, seconds: float, *what: object, close: bool = False) -> Load:
    """Ask so long on so many connections; ``what``: the arguments of wrk.lua. ``close``: one request for each.

    Raises: BenchError.
    """
    threads = min(connections, os.cpu_count() or 1)
    command = [
        "wrk", f"-t{threads}", f"-c{connections}", f"-d{int(seconds) + 1}s", f"--timeout={_PATIENCE}s",
        "--script", str(Path(__file__).with_name("wrk.lua")), *(["--header", "Connection: close"] if close else []),
        url, "--", *map(str, what),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        # It knows whole seconds alone, and tells what it has counted when it is interrupted.
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=2 * _PATIENCE)
    finally:
        process.kill()
        process.wait(_PATIENCE)
    try:
        return Load(**json.loads(output.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        raise BenchError(f"{' '.join(command)}:\n{output}") from None
