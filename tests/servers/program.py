"""An S3 server on loopback: what each of them has, and the programs that they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.httpd.machine import is_listening
from tests.leaks import ACCESS_KEY, SECRET_KEY

WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Keys:
    """A key pair."""

    access_key: str
    secret_key: str = field(repr=False)


class Server(ABC):
    """A server from ``start`` to ``stop``, empty at first; ``others`` are the keys of another of its users."""

    #: As docs/servers.md calls it.
    name: str
    region = "eu-central-1"
    #: What a bucket's location is called when it is made, empty where it has none.
    location = "eu-central-1"
    keys = Keys(ACCESS_KEY, SECRET_KEY)
    others = Keys("AKIAI44QH8DHBEXAMPLE", "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY")
    #: Without the slash at its end.
    url: str

    @classmethod
    @abstractmethod
    def missing(cls) -> str:
        """Say what of it is not installed here; empty where all is there."""

    @abstractmethod
    def version(self) -> str:
        """Its version, as it says itself."""

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it, by its pid, and remove what it has stored."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Program(Server):
    """A server that is one program of this environment, with a folder of its own."""

    #: The program's file, beside this environment's Python.
    program: str

    def __init__(self) -> None:
        self._root: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def path(cls) -> Path:
        """Where the program is."""
        return Path(sys.prefix, "bin", cls.program)

    @classmethod
    def missing(cls) -> str:
        return "" if cls.path().exists() else f"{cls.program} (tests/servers/install.sh)"

    @property
    def root(self) -> Path:
        """The folder; it goes when the server stops."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix=f"{self.program}-"))
        return self._root

    def launch(self, port: int, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Run the program and wait until it listens on the port. No secrets: a command line is public."""
        self.url = f"http://127.0.0.1:{port}"
        with (self.root / "log").open("ab") as log:
            # "setpriv": the kernel kills it when this process is gone, however it went.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(self.path()), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root, start_new_session=True,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        deadline = time.monotonic() + WAIT
        while not is_listening(port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start:\n{(self.root / 'log').read_text()[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.kill()
            process.wait(timeout=WAIT)
        root, self._root = self._root, None
        if root is not None:
            shutil.rmtree(root, ignore_errors=True)

    def output_of(self, *arguments: str) -> str:
        """What the program prints with these arguments."""
        done = subprocess.run(
            [str(self.path()), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT,
            check=True,
        )  # fmt: skip
        return done.stdout
