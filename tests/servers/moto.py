"""moto: a stand-in for AWS in Python, which checks no signatures."""

from __future__ import annotations

from importlib import metadata

from tests.httpd.machine import free_port
from tests.servers.program import Program


class Moto(Program):
    """Each access key may do everything."""

    name = "moto"
    program = "moto_server"

    def version(self) -> str:
        return metadata.version("moto")

    def start(self) -> None:
        port = free_port()
        self.launch(port, "-H", "127.0.0.1", "-p", str(port))
