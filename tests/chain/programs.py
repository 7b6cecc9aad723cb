"""Run a cache with its file from apache/chain, on ports and in folders of the test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.httpd.machine import apache_user, find_program, free_port, is_listening, unpacked_environment

CHAIN = Path(__file__).resolve().parents[2] / "apache" / "chain"
#: Seconds in which a program must start or stop.
WAIT = 30.0


def localized(text: str, replacements: Mapping[str, str]) -> str:
    """Replace addresses and folders in the text of a file. Raises: AssertionError: one of them is not in it."""
    for old, new in replacements.items():
        assert old in text, f"{old!r} is not in the file"
        text = text.replace(old, new)
    return text


class Program(ABC):
    """A program that listens on a free port of 127.0.0.1, as a context manager. Its data outlives ``kill``."""

    #: The name of the program file.
    program: ClassVar[str]

    def __init__(self, file: Path, replacements: Mapping[str, str], *, port: int = 0) -> None:
        """``file``: as it is shipped. ``replacements``: see `localized`; without the program's own port and folders.

        ``port``: where it listens, if that is not any free port.
        """
        self.port = port or free_port()
        self._folder = tempfile.TemporaryDirectory(prefix=f"chain-{self.program}-")
        self.root = Path(self._folder.name)
        self.root.chmod(0o755)
        self._file, self._replacements = file, replacements
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run here; empty if it can."""
        return "" if find_program(cls.program) else f"{cls.program} is not installed"

    @staticmethod
    def backend(address: str, port: int) -> dict[str, str]:
        """The replacements that put a port of this machine in the place of the backend's address in the file."""
        return {address: f"127.0.0.1:{port}"}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def start(self) -> None:
        """Start it, and wait until it listens. Raises: AssertionError with the end of its log."""
        # The port was free when it was chosen. A connection of another program may use it since then, for a moment.
        for _ in range(5):
            if self._launch():
                return
            if "Address already in use" not in self.log():
                break
            self._end(signal.SIGKILL)
            time.sleep(2)
        raise AssertionError(f"{self.program} does not start:\n{self.log()[-3000:]}")

    def _launch(self) -> bool:
        """Start it, and wait until it listens or has ended; returns whether it runs."""
        with (self.root / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(),
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + WAIT
        while self._process.poll() is None and time.monotonic() < deadline:
            if is_listening(self.port):
                return True
            time.sleep(0.05)
        return False

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop it, as its service does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill all of its processes at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stop it, and remove its data."""
        self.stop()
        self._folder.cleanup()

    def log(self) -> str:
        """What it has written to its logs."""
        return "\n".join(file.read_text(errors="replace") for file in sorted(self.root.glob("*.log")))

    @abstractmethod
    def command(self) -> list[str]:
        """Write the localized configuration, and return the command that runs it in the foreground."""

    def environment(self) -> dict[str, str]:
        """The environment of the program."""
        return unpacked_environment()

    def localized_file(self, own: Mapping[str, str]) -> str:
        """The shipped file with the addresses and folders of the test; ``own``: those of this program itself."""
        return localized(self._file.read_text(), {**self._replacements, **own})

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if number is signal.SIGKILL:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(process.pid, number)
        else:
            process.terminate()
        try:
            process.wait(WAIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(WAIT)


class Nginx(Program):
    """nginx with a file for its conf.d folder."""

    program = "nginx"

    def command(self) -> list[str]:
        temporary = "".join(
            f"{kind}_temp_path {self.root}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = f"user {apache_user().pw_name};\n" if os.geteuid() == 0 else ""
        config = self.root / "nginx.conf"
        config.write_text(
            f"{user}daemon off;\npid {self.root}/pid;\nerror_log {self.root}/error.log;\n"
            f"events {{ worker_connections 4096; }}\n"
            f"http {{\naccess_log {self.root}/access.log;\n{temporary}{self.localized_file(self._own_places())}}}\n"
        )
        return [find_program("nginx"), "-c", str(config), "-p", str(self.root), "-e", f"{self.root}/error.log"]

    def _own_places(self) -> dict[str, str]:
        text = self._file.read_text()
        (listen,) = re.findall(r"^ *listen .*;", text, re.MULTILINE)
        # The machine's disk may be fuller than the shipped file allows.
        full = {"min_free=5g": "min_free=1k"} if "min_free=5g" in text else {}
        return {listen: f"listen 127.0.0.1:{self.port} backlog=4096;", "/var/cache/nginx": str(self.root), **full}


class Varnish(Program):
    """Varnish with a VCL file."""

    program = "varnishd"
    #: Its storage (``-s``), as Debian's service has it, and the parameter that the comments of the shield name.
    options: ClassVar[tuple[str, ...]] = ("-s", "malloc,256m", "-p", "vsl_mask=-ReqHeader,-ReqUnset")

    @staticmethod
    def backend(address: str, port: int) -> dict[str, str]:
        host, _, old = address.rpartition(":")
        return {f'.host = "{host}"': '.host = "127.0.0.1"', f'.port = "{old}"': f'.port = "{port}"'}

    def command(self) -> list[str]:
        config = self.root / "default.vcl"
        config.write_text(self.localized_file({}))
        options = ["-n", str(self.run), "-a", f"127.0.0.1:{self.port}", "-f", str(config), *self.options]
        return [find_program("varnishd"), "-F", "-j", "none", *options]

    @property
    def run(self) -> Path:
        """The folder by which varnishadm and varnishlog find it (``-n``)."""
        return self.root / "run"
