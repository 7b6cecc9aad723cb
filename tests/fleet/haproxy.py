"""HAProxy with the file that operators copy, in which only addresses are replaced."""

from __future__ import annotations

import csv
import io
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.fleet.network import HUB

CONFIG = Path(__file__).parents[2] / "apache" / "fleet" / "haproxy.cfg"
PORT = 80
#: What the file says: "retries", and after how many failed responses each request is sent to one node only.
RETRIES, FAILURE_LIMIT = 2, 20
WAIT = 20.0


def program() -> str:
    """The path of HAProxy; empty if it is not installed."""
    return shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin") or ""


def read_statistics(admin_socket: Path, backend: str, server: str) -> dict[str, str]:
    """The state and the counters of a server, from HAProxy's "stats socket"."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT)
        connection.connect(str(admin_socket))
        connection.sendall(b"show stat\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    rows = csv.DictReader(io.StringIO(answer.removeprefix("# ")))
    return next(row for row in rows if (row["pxname"], row["svname"]) == (backend, server))


class HaProxy:
    """The load balancer as a context manager. ``log`` has its lines."""

    def __init__(self, *nodes: str, server_timeout: str = "75s", at_root: bool = False) -> None:
        """``nodes``: the addresses of one to three nodes. All use port 80, and port 8081 for health checks.

        ``server_timeout``: another "timeout server" than that of the file, which is too long for a test.
        ``at_root``: with the line for a bucket at ``/`` that is a comment in the file.
        """
        self._nodes, self._server_timeout, self._at_root = nodes, server_timeout, at_root
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> HaProxy:
        self._root = Path(tempfile.mkdtemp(prefix="haproxy-"))
        config = self._root / "haproxy.cfg"
        config.write_text(self._config())
        with (self._root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program(), "-db", "-dW", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + WAIT
        while not (self._root / "admin.sock").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise RuntimeError(f"HAProxy does not start:\n{self.log()}")
            time.sleep(0.02)
        for number, _ in enumerate(self._nodes, 1):
            self.wait_for(number, "UP")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        shutil.rmtree(self._root, ignore_errors=True)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.kill()
            process.wait(timeout=WAIT)

    def _config(self) -> str:
        text = CONFIG.read_text("utf-8")
        replaced = {
            "timeout server 75s": f"timeout server {self._server_timeout}",
            "log /dev/log": "log stdout format raw",
            "/run/haproxy/admin.sock": f"{self._root}/admin.sock",
            "bind :80": f"bind {HUB}:{PORT}",
            **{f"192.0.2.{10 + number}:80": f"{address}:80" for number, address in enumerate(self._nodes, 1)},
        }
        if self._at_root:
            replaced["  http-request track-sc0 path,field(2,/)\n"] = ""
            replaced["# http-request track-sc0"] = "http-request track-sc0"
        for documented, used in replaced.items():
            assert text.count(documented) == 1, documented
            text = text.replace(documented, used)
        # The nodes of the file that there are not.
        return re.sub(r"(?m)^  server .* 192\.0\.2\..*\n", "", text)

    def log(self) -> str:
        """The log's lines until now."""
        return (self._root / "log").read_text("utf-8", "replace")

    def statistics(self, server: str) -> dict[str, str]:
        """The state and the counters of a node ("node1")."""
        return read_statistics(self._root / "admin.sock", "nodes", server)

    def wait_for(self, number: int, status: str) -> None:
        """Wait until HAProxy has seen that a node is up or down."""
        self._wait_for(number, "status", status)

    def wait_for_no_requests(self, number: int) -> None:
        """Wait until no request is in transfer at a node, as HAProxy sees it."""
        self._wait_for(number, "scur", "0")

    def _wait_for(self, number: int, field: str, value: str) -> None:
        deadline = time.monotonic() + WAIT
        while (found := self.statistics(f"node{number}")[field]) != value:
            if time.monotonic() > deadline:
                raise AssertionError(f"{field} of node {number} is {found}, not {value}:\n{self.log()[-3000:]}")
            time.sleep(0.02)
