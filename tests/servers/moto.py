"""moto, an emulation of AWS in Python. It does not check signatures."""

from __future__ import annotations

from importlib import metadata

from tests.httpd.machine import free_port
from tests.servers.program import Program


class Moto(Program):
    """Any access key is allowed everything."""

    name = "moto"
    program = "moto_server"

    def version(self) -> str:
        return metadata.version("moto")

    def start(self) -> None:
        port = free_port()
        self.launch(port, "-H", "127.0.0.1", "-p", str(port))
