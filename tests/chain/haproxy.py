"""HAProxy in front of several caches, with the file of apache/chain."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from tests.chain.programs import CHAIN, WAIT, Program
from tests.fleet.haproxy import read_statistics
from tests.httpd.machine import find_program


class HaProxy(Program):
    """HAProxy in front of three caches."""

    program = "haproxy"

    def __init__(self, caches: Sequence[int], changes: Mapping[str, str] | None = None) -> None:
        """``caches``: the ports of the three caches. ``changes``: what an operator changes in the file."""
        addresses = {f"192.0.2.2{number}:80": f"127.0.0.1:{port}" for number, port in enumerate(caches, 1)}
        super().__init__(CHAIN / "haproxy.cfg", {**addresses, **(changes or {})})
        self._admin_socket = self.root / "admin.sock"

    def start(self) -> None:
        super().start()
        for number in (1, 2, 3):
            self.wait_for(number, "UP")

    def command(self) -> list[str]:
        config = self.root / "haproxy.cfg"
        own = {
            "log /dev/log local0": "log stdout format raw local0",
            "/run/haproxy/admin.sock": str(self._admin_socket),
            "bind :80\n": f"bind 127.0.0.1:{self.port}\n",
        }
        if os.geteuid() != 0:
            own |= {"  chroot /var/lib/haproxy\n": "", "  user haproxy\n": "", "  group haproxy\n": ""}
        config.write_text(self.localized_file(own))
        return [find_program(self.program), "-db", "-dW", "-f", str(config)]

    def statistics(self, number: int) -> dict[str, str]:
        """The state and the counters of a cache (1 to 3)."""
        return read_statistics(self._admin_socket, "caches", f"cache{number}")

    def wait_for(self, number: int, status: str) -> None:
        """Wait until HAProxy has seen that a cache is UP or DOWN."""
        deadline = time.monotonic() + WAIT
        while (found := self.statistics(number)["status"]) != status:
            assert time.monotonic() < deadline, f"cache {number} is {found}, not {status}:\n{self.log()[-3000:]}"
            time.sleep(0.02)
