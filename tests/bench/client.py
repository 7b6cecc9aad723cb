"""A client for one request at a time, for figures that wrk does not have."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from tests.bench.server import BenchError

_BUFFER = 1 << 20
_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Response:
    """``first_byte``, ``seconds``: the time from the request (or a new connection) to the first and the last byte."""

    status: int
    length: int
    first_byte: float
    seconds: float


class Client:
    """A client with one persistent connection to the server of a URL."""

    def __init__(self, url: str, ca: Path) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self._address, self._host = (parts.hostname, parts.port), parts.netloc
        self._tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        self._socket: socket.socket | None = None
        self._buffer = memoryview(bytearray(_BUFFER))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def get(
        self, url: str, take: Callable[[memoryview], object] | None = None, *, headers: tuple[str, ...] = ()
    ) -> Response:
        """Read an object, and pass its bytes to ``take``. Raises: BenchError."""
        parts = urlsplit(url)
        lines = [f"GET {parts.path} HTTP/1.1", f"Host: {self._host}", *headers, "", ""]
        begun = time.perf_counter()
        try:
            connection = self._connect()
            connection.sendall("\r\n".join(lines).encode())
            head, filled = self._read_head(connection)
            first_byte = time.perf_counter() - begun
            status, length = _parse_head(self._buffer[:head].tobytes())
            received = filled - head
            if take is not None:
                take(self._buffer[head:filled])
            while received < length:
                number = connection.recv_into(self._buffer)
                if number == 0:
                    break
                received += number
                if take is not None:
                    take(self._buffer[:number])
        except OSError as error:
            raise BenchError(f"{url}: {error!r}") from error
        if received != length:
            raise BenchError(f"{url}: {received} bytes of {length}")
        return Response(status, length, first_byte, time.perf_counter() - begun)

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, _TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                self._socket = self._tls.wrap_socket(self._socket, server_hostname=self._address[0])
        return self._socket

    def _read_head(self, connection: socket.socket) -> tuple[int, int]:
        """Read the header; returns its length, and how much of the buffer is filled."""
        filled = 0
        while True:
            number = connection.recv_into(self._buffer[filled:])
            if number == 0:
                raise ConnectionError("the connection was closed within the response header")
            filled += number
            end = self._buffer[:filled].tobytes().find(b"\r\n\r\n")
            if end >= 0:
                return end + 4, filled


def _parse_head(head: bytes) -> tuple[int, int]:
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if "content-length" not in fields:
        raise BenchError(f"a response without Content-Length:\n{head.decode('latin-1')}")
    return int(lines[0].split()[1]), int(fields["content-length"])
