"""Base classes of the S3 servers, which listen on the loopback interface by default."""

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
    """An S3 server, empty after ``start``; ``other_keys`` belong to a second user."""

    #: Its name in docs/servers.md.
    name: str
    region = "eu-central-1"
    #: The LocationConstraint for new buckets; empty: none is sent.
    location = "eu-central-1"
    keys = Keys(ACCESS_KEY, SECRET_KEY)
    other_keys = Keys("AKIAI44QH8DHBEXAMPLE", "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY")
    #: Without a trailing slash.
    url: str

    @classmethod
    @abstractmethod
    def missing(cls) -> str:
        """What is not installed here; empty if nothing is missing."""

    @abstractmethod
    def version(self) -> str:
        """The version that the server reports."""

    @abstractmethod
    def start(self) -> None:
        """Start the server and wait until it accepts requests."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the server and remove its data."""

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
    """A server that is a single program of this virtual environment, with a temporary folder."""

    #: The name of the program's file in the virtual environment.
    program: str

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self._root: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def path(cls) -> Path:
        """The path of the program."""
        return Path(sys.prefix, "bin", cls.program)

    @classmethod
    def missing(cls) -> str:
        return "" if cls.path().exists() else f"{cls.program} (tests/servers/install.sh)"

    @property
    def root(self) -> Path:
        """The temporary folder, which ``stop`` removes."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix=f"{self.program}-"))
        return self._root

    def launch(self, port: int, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Run the program and wait until it listens on the port. No secrets: every user can read ``arguments``."""
        self.url = f"http://{self.address}:{port}"
        with (self.root / "log").open("ab") as log:
            # setpriv --pdeathsig: the kernel kills the program when this process ends, in any way.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(self.path()), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root, start_new_session=True,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        deadline = time.monotonic() + WAIT
        while not is_listening(port, self.address):
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
        """What the program prints when it is called with these arguments."""
        done = subprocess.run(
            [str(self.path()), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT,
            check=True,
        )  # fmt: skip
        return done.stdout
