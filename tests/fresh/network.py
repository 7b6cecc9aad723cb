"""A network of a machine's own: its ports are free, whatever listens on the caller's machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds until a process is in its own network at most.
WAIT = 10.0


@contextmanager
def own_network(process: int) -> Iterator[None]:
    """Within the context, the network namespace of a process reaches the outside. Raises: TimeoutError.

    slirp4netns does this without any change to the caller's network. The caller's own ports cannot be reached.
    """
    deadline = time.monotonic() + WAIT
    own = os.readlink("/proc/self/ns/net")
    while Path(f"/proc/{process}/ns/net").exists() and os.readlink(f"/proc/{process}/ns/net") == own:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {process} has no network of its own after {WAIT} seconds")
        time.sleep(0.02)
    command = ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", str(process), "tap0"]
    slirp = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        slirp.terminate()
        slirp.wait()
