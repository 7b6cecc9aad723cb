"""Clients that read slowly, so that a response is in transfer for as long as a test needs."""

from __future__ import annotations

import socket

from tests.httpd.server import Httpd

#: More than the buffers of the sockets between S3 and a client hold, with these lines in httpd's configuration.
LARGE = 8 * 1024**2
SMALL_BUFFERS = "SendBufferSize 65536\nReceiveBufferSize 65536\n"


def slow_client(httpd: Httpd, target: str = "/media/film.mp4") -> socket.socket:
    """A client that reads the first byte of a response, and no more."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    connection.settimeout(30)
    connection.connect((httpd.address, httpd.port))
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert connection.recv(1) == b"H"
    return connection


def read_to_end(connection: socket.socket, size: int = LARGE) -> None:
    """Read the rest of a response with a body of this size. Raises: AssertionError if it is truncated."""
    received = 1
    while received < size:
        received += len(piece := connection.recv(1_048_576))
        assert piece, f"truncated after {received} bytes"
