"""What the demos need of the terminal: signals, output in any encoding, the port that the user has chosen."""

from __future__ import annotations

import os
import signal
import socket
import sys
from types import FrameType

from tests.httpd.machine import HttpdError


class Signals:
    """Signals only set a flag: an exception during start or stop would leave processes and files behind."""

    def __init__(self) -> None:
        self.name = ""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = self.name or signal.Signals(number).name

    def stopped(self) -> bool:
        """Whether a signal has arrived."""
        return bool(self.name)


def port(text: str) -> int:
    """A port number; 0: any free port."""
    number = int(text)
    if not 0 <= number <= 65_535:
        raise ValueError(text)
    return number


def require_free(port: int, command: str = "make demo") -> None:
    """Check that the port is free, before anything is started. Raises: HttpdError."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise HttpdError(
            f"port {port} of 127.0.0.1 cannot be used: {os.strerror(error.errno or 0)}\n"
            f"Choose another port ({command} PORT=8081), or none: then a free port is used."
        ) from None


def say(text: str) -> None:
    """Print immediately, on terminals with any encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)
