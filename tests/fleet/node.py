"""A node: a real httpd in a network namespace of its own, with the files that operators include."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from tests.fleet.network import HUB, Network, node_address
from tests.httpd.machine import modules_directory
from tests.httpd.server import Httpd
from usp_s3_wsgi.cli import apache_config

NODE_CONF = Path(__file__).parents[2] / "apache" / "fleet" / "node.conf"
HEALTH_PORT = 8081
#: Seconds that a stop may take: slow clients still read their objects.
STOP = 60.0


def fleet_lines(load_balancer: str, drain_file: str) -> str:
    """The lines that the two files need before them, and the two files. A second load balancer does not run."""
    return f"""
LoadModule remoteip_module "{modules_directory()}/mod_remoteip.so"
Define USP_S3_LOAD_BALANCER "{load_balancer} 192.0.2.20"
Define USP_S3_HEALTH_PORT {HEALTH_PORT}
Define USP_S3_DRAIN_FILE "{drain_file}"
Include "{apache_config.share_directory()}/health.conf"
Include "{NODE_CONF}"
"""


class Node(Httpd):
    """A node at port 80 of its own network. It can be started again after each kind of end."""

    def __init__(self, number: int, network: Network, config: str, preload: Path | None = None) -> None:
        self.number = number
        self.state = Path(tempfile.mkdtemp(prefix=f"node{number}-"))
        self.state.chmod(0o755)
        lines = fleet_lines(HUB, str(self.state / "drain"))
        super().__init__(
            config + lines, port=80, prefix=f"node{number}-", address=node_address(number),
            namespace=network.namespace(number), preload=preload,
        )  # fmt: skip

    def drain(self) -> None:
        """Create the drain file."""
        (self.state / "drain").touch()

    def undrain(self) -> None:
        """Remove the drain file."""
        (self.state / "drain").unlink(missing_ok=True)

    def restart_gracefully(self) -> None:
        """Restart as ``apachectl graceful`` does, and wait for a new child. Old ones may still send responses."""
        assert self._process is not None
        old, before, deadline = self.children(), self._times_ready(), time.monotonic() + STOP
        self._process.send_signal(signal.SIGUSR1)
        while self._times_ready() == before or not set(self.children()) - set(old):
            assert time.monotonic() < deadline, self._all_errors()
            time.sleep(0.02)
        self.wait_for_health()

    def wait_for_health(self) -> None:
        """Wait for a response: a new child has loaded Python."""
        connection = http.client.HTTPConnection(self.address, HEALTH_PORT, timeout=STOP)
        try:
            connection.request("GET", "/health/live")
            assert connection.getresponse().status == 204
        finally:
            connection.close()

    def stop_gracefully(self) -> None:
        """Stop as ``apachectl graceful-stop`` does, and wait until the last response has been sent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGWINCH)
        self._process.wait(timeout=STOP)
        self.stop()
        assert self.unexpected == []

    def kill(self) -> None:
        """Kill all processes at once, as a machine that loses its power does not even do."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=STOP)
        self.stop()

    def remove(self) -> None:
        """Stop, and remove the folder of the drain file."""
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.state, ignore_errors=True)
