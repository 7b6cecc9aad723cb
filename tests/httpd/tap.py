"""A server that records every byte that it receives: the host of an attacker, or a wire tap before a real S3."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

#: The body of the attacker's responses: a test looks for it in what a client got.
ATTACKER_BODY = b"from the attacker's host"
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (
    len(ATTACKER_BODY),
    ATTACKER_BODY,
)


class Tap:
    """The server, on a free port of 127.0.0.1 or at a path (a Unix socket), while the context lasts.

    ``relay``: a port of 127.0.0.1 to which all bytes are forwarded, and whose responses are returned.
    """

    def __init__(self, *, relay: int = 0, path: Path | None = None) -> None:
        self._relay, self._path = relay, path
        self._lock = threading.Lock()
        self._received: list[bytearray] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Tap:
        if self._path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self._path))
            self._path.chmod(0o777)
            self._listener.listen()
            self.host = ""
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for endpoint in (self._listener, *self._sockets):
            with suppress(OSError):
                endpoint.shutdown(socket.SHUT_RDWR)
            endpoint.close()

    @property
    def received(self) -> bytes:
        """All bytes since the start or the last ``clear``, connection by connection."""
        with self._lock:
            return b"\n".join(bytes(record) for record in self._received if record)

    @property
    def targets(self) -> list[str]:
        """The request targets since the start or the last ``clear``, in the order of connections."""
        return [match[1].decode("latin-1") for match in re.finditer(rb"(?m)^[A-Z]+ (\S+) HTTP/1\.1\r$", self.received)]

    def clear(self) -> None:
        """Discard the bytes that were received so far."""
        with self._lock:
            for record in self._received:
                record.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                record = bytearray()
                with self._lock:
                    self._received.append(record)
                    self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client, record), daemon=True).start()

    def _serve(self, client: socket.socket, record: bytearray) -> None:
        with suppress(OSError):
            if self._relay:
                upstream = socket.create_connection(("127.0.0.1", self._relay))
                with self._lock:
                    self._sockets.append(upstream)
                threading.Thread(target=_copy, args=(upstream, client), daemon=True).start()
                while data := self._read(client, record):
                    upstream.sendall(data)
                upstream.shutdown(socket.SHUT_WR)
                return
            head = b""
            while data := self._read(client, record):
                head += data
                if b"\r\n\r\n" in head:
                    head = b""
                    client.sendall(_RESPONSE)
            client.close()

    def _read(self, client: socket.socket, record: bytearray) -> bytes:
        data = client.recv(65_536)
        with self._lock:
            record += data
        return data


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
