"""A container of the image as docs/container.md runs it, with what the tests ask about it."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.httpd.machine import free_port
from tests.image.engine import Container, Engine

#: The options that the documentation recommends.
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
#: Seconds until a container has started or ended.
WAIT = 60.0


@dataclass(frozen=True)
class Server:
    """A running container, and its two ports."""

    container: Container
    port: int
    health_port: int

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of a response."""
        return get(self.port, path, headers)

    def health(self, path: str) -> int:
        return get(self.health_port, path)[0]

    def processes(self) -> list[Path]:
        """The folders in /proc of the container's processes."""
        pids = [self.container.pid()]
        for pid in pids:
            text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
            pids += [int(child) for child in text.split()]
        return [Path(f"/proc/{pid}") for pid in pids]


def assert_unprivileged(process: Path, *secrets: str) -> None:
    """Assert that a process, by its folder in /proc, has no rights, and shows no secret in arguments or environment."""
    status = (process / "status").read_text()
    for line in (
        r"Uid:\s+33\s+33\s+33\s+33",
        r"Gid:\s+33\s+33\s+33\s+33",
        "CapEff:\\s+0+",
        "CapBnd:\\s+0+",
        "NoNewPrivs:\\s+1",
    ):
        assert re.search(rf"^{line}$", status, re.MULTILINE), (line, status)
    visible = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
    for secret in secrets:
        assert secret.encode() not in visible


@contextmanager
def running(
    engine: Engine, image: str, environment: Mapping[str, str], *options: str, command: Sequence[str] = ()
) -> Iterator[Server]:
    """A container that is ready."""
    ports = free_ports()
    with engine.container(
        image, *HARDENED, *options, environment=ports | dict(environment), command=command
    ) as started:
        server = Server(started, int(ports["PORT"]), int(ports["HEALTH_PORT"]))
        deadline = time.monotonic() + WAIT
        while True:
            try:
                if server.health("/health/ready") == 204:
                    break
            except OSError:
                assert started.is_running() and time.monotonic() < deadline, started.logs()
                time.sleep(0.05)
        yield server


def free_ports() -> dict[str, str]:
    """The variables of a container with two different ports."""
    port = health_port = free_port()
    while health_port == port:
        health_port = free_port()
    return {"PORT": str(port), "HEALTH_PORT": str(health_port)}


def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of a response from a port of this machine. Raises: OSError, also if the body is truncated."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
