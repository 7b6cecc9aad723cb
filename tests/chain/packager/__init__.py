"""The packager (server.mjs) as a program of the chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from tests.chain.programs import Program
from tests.httpd.machine import find_program, free_port

SERVER = Path(__file__).with_name("server.mjs")


class Packager(Program):
    """The packager on a port of its own. Its data is the log of its requests and reads."""

    program: ClassVar[str] = "node"

    def __init__(self, base: str, *options: str) -> None:
        """``base``: the URL of the bucket, which it reads. It may be started before what serves the bucket."""
        super().__init__(SERVER, {})
        self._base, self._options = base, options

    @classmethod
    def missing(cls) -> str:
        if not SERVER.with_name("node_modules").is_dir():
            return "mp4box is not installed: tests/chain/install.sh"
        return super().missing()

    def command(self) -> list[str]:
        return [find_program("node"), str(SERVER), str(self.port), self._base, *self._options]

    def start(self) -> None:
        """Start it. If another program has taken its port meanwhile, on another one."""
        for _ in range(5):
            try:
                return super().start()
            except AssertionError as error:
                if "EADDRINUSE" not in str(error):
                    raise
                self.port = free_port()
                (self.root / "output.log").unlink()
        return super().start()

    def entries(self) -> list[dict[str, Any]]:
        """What it has written: ``read`` names the object of a read, ``path`` that of a request."""
        lines = self.log().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def requests(self) -> list[dict[str, Any]]:
        """The requests that it has answered: method, path, status, bytes, problem."""
        return [entry for entry in self.entries() if "path" in entry]

    def reads(self) -> list[dict[str, Any]]:
        """Its reads of the bucket: read (the key), range, status, bytes."""
        return [entry for entry in self.entries() if "range" in entry]
