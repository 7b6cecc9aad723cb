"""A FastCGI server such as php-fpm, as far as mod_proxy_fcgi sees one: it answers with the variables that it was sent.

https://fastcgi-archives.github.io/FastCGI_Specification.html
"""

from __future__ import annotations

import socketserver
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from tests.httpd.machine import serving

_HEADER = struct.Struct("!BBHHBx")
_END_REQUEST, _PARAMS, _STDIN, _STDOUT = 3, 4, 5, 6


class _Handler(socketserver.StreamRequestHandler):
    """One connection, one request."""

    def handle(self) -> None:
        params = b""
        while header := self.rfile.read(_HEADER.size):
            _, kind, request, length, padding = _HEADER.unpack(header)
            content = self.rfile.read(length + padding)[:length]
            if kind == _PARAMS:
                params += content
            elif kind == _STDIN and not content:
                break
        else:
            return
        lines = [f"{name}={value}" for name, value in sorted(_pairs(params)) if name.startswith("S3") or "_URI" in name]
        self._send(_STDOUT, request, f"Content-Type: text/plain\r\n\r\n{lines}".encode())
        self._send(_STDOUT, request, b"")
        self._send(_END_REQUEST, request, bytes(8))

    def _send(self, kind: int, request: int, content: bytes) -> None:
        self.wfile.write(_HEADER.pack(1, kind, request, len(content), 0) + content)


def _pairs(data: bytes) -> list[tuple[str, str]]:
    pairs, at = [], 0
    while at < len(data):
        sizes = []
        for _ in range(2):
            wide = data[at] >> 7
            sizes.append(struct.unpack_from("!I", data, at)[0] & 0x7FFFFFFF if wide else data[at])
            at += 4 if wide else 1
        name, value = data[at : at + sizes[0]], data[at + sizes[0] : at + sum(sizes)]
        pairs.append((name.decode(), value.decode()))
        at += sum(sizes)
    return pairs


@contextmanager
def fastcgi_server() -> Iterator[int]:
    """Run the server on a free port of 127.0.0.1; yields the port."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    with serving(server) as port:
        yield port
