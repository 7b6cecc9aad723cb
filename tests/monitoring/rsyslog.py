"""rsyslog with apache/monitoring/rsyslog.conf, in the foreground, and a log server that it sends to."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.monitoring.programs import FILES, RSYSLOGD, UNPACKED, environment

CONFIG = FILES / "rsyslog.conf"
WAIT = 30.0


class LogServer:
    """Receives lines over TCP, as a log server does. ``port`` stays the same after ``stop`` and ``start``."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.received = b""

    def start(self) -> None:
        """Listen, and receive in a thread."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(0.1)
        self.port = self._listener.getsockname()[1]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def stop(self) -> None:
        """Close the listener and the connections."""
        self._stopped.set()
        self._thread.join(WAIT)
        self._listener.close()

    def __enter__(self) -> LogServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _receive(self) -> None:
        connections: list[socket.socket] = []
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
                connection.settimeout(0.05)
                connections.append(connection)
            except TimeoutError:
                pass
            for connection in connections:
                try:
                    while data := connection.recv(65_536):
                        self.received += data
                except OSError:
                    pass
        for connection in connections:
            connection.close()

    def objects(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many lines, and return the JSON objects of all that have arrived."""
        deadline = time.monotonic() + WAIT
        while self.received.count(b"\n") < count:
            assert time.monotonic() < deadline, self.received
            time.sleep(0.05)
        return [json.loads(line) for line in self.received.decode().splitlines()]


class Rsyslog:
    """rsyslogd as a context manager; it writes to ``root`` only."""

    def __init__(self, access_log: Path, port: int) -> None:
        """``port``: of the log server on this machine."""
        self._access_log, self._port = access_log, port
        self.root = Path(tempfile.mkdtemp(prefix="rsyslog-"))

    def __enter__(self) -> Rsyslog:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def invalid(self) -> Path:
        """The file of the lines that are not JSON."""
        return self.root / "invalid.log"

    def _write_config(self) -> Path:
        text = CONFIG.read_text("utf-8")
        names = {
            '"/var/log/apache2/access.json"': f'"{self._access_log}"',
            '"/var/log/usp_s3_invalid.log"': f'"{self.invalid}"',
            '"logs.example.com"': '"127.0.0.1"',
            '"5170"': f'"{self._port}"',
            'resumeInterval="10"': 'resumeInterval="1"',
        }
        for old, new in names.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = self.root / "rsyslog.conf"
        path.write_text(f'global(workDirectory="{self.root}")\n{text}')
        return path

    def _command(self, *options: str | Path) -> list[str | Path]:
        (modules,) = UNPACKED.glob("usr/lib/*/rsyslog")
        return [RSYSLOGD, "-f", self._write_config(), "-M", str(modules), *options]

    def check(self) -> subprocess.CompletedProcess[str]:
        """Run ``rsyslogd -N1``."""
        return subprocess.run(
            self._command("-N1"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=60, check=False, env=environment(),
        )  # fmt: skip

    def start(self) -> None:
        """Start it in the foreground."""
        with (self.root / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._command("-n", "-i", self.root / "pid"),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(),
            )  # fmt: skip

    def stop(self) -> None:
        """Stop it as systemd does."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._process.send_signal(number)
            try:
                self._process.wait(timeout=WAIT)
                return
            except subprocess.TimeoutExpired:
                pass
