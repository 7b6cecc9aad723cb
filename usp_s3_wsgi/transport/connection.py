"""A connection to S3: urllib3 connects it; whole requests are sent and bytes are received within time limits."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import threading
import time
from typing import Any, cast

from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError

from usp_s3_wsgi.transport import happy_eyeballs
from usp_s3_wsgi.transport.happy_eyeballs import ConnectTimes
from usp_s3_wsgi.transport.http_response import HEADER_READ_SIZE, S3Response, read_response


class _Buffer(threading.local):
    """The receive buffer of each thread."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(HEADER_READ_SIZE))


thread_buffer = _Buffer()


class S3Connection(HTTPConnection):
    """urllib3's connection, with a request and a response that are not http.client's.

    ``idle_since``, ``connected_at``: when it was released last, and when it was made, by time.monotonic().
    ``connect_times``: what came before that, apart from the TLS handshake.
    """

    idle_since = 0.0
    connected_at = 0.0
    _method = ""
    _poll: select.poll

    def __init__(self, *arguments: Any, read_timeout: float, **options: Any) -> None:
        """``read_timeout``: seconds for a response's header, for each read of its body, and for sending a request."""
        super().__init__(*arguments, **options)
        self.read_timeout, self.connect_times = read_timeout, ConnectTimes()

    def connect(self) -> None:
        """Connect, and prepare the socket. Raises: urllib3.exceptions.HTTPError."""
        super().connect()
        self.register()

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Send a request, after connecting where there is no connection yet. urllib3's pool calls this.

        ``body``: the complete head of the request, with the empty line at its end; it has no body. ``url`` and
        ``headers`` are not used: urllib3 writes the URL, which may hold a signature, to its debug lines and exceptions.

        Raises:
            urllib3.exceptions.HTTPError, HandshakeError: no connection.
            TimeoutError, OSError: the request could not be sent.
        """
        self._method = method
        if self.sock is None:
            self.connect()
        try:
            self.sock.sendall(body)
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    def getresponse(self) -> S3Response:  # type: ignore[override]
        """Return the response, its body unread. Raises: as :func:`read_response`."""
        return read_response(self, self._method)

    def _new_conn(self) -> socket.socket:
        """Connect to the host, instead of urllib3, which applies the time limit to each address in turn."""
        seconds = cast("float", self.timeout)
        try:
            return happy_eyeballs.connect(self.host, self.port, seconds, self.socket_options or (), self.connect_times)
        except UnicodeError:
            raise LocationParseError(f"'{self.host}', label empty or too long") from None
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection within {seconds:g} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection: {error}") from error

    def register(self) -> None:
        """Prepare the socket of a new connection."""
        self.connected_at = time.monotonic()
        self.set_timeout(self.read_timeout)
        self._poll = select.poll()
        self._poll.register(self.sock, select.POLLIN)

    def set_timeout(self, seconds: float) -> None:
        """Limit each later read and write."""
        # By the kernel: with Python's own time limit each of them would be two system calls, and take the GIL twice.
        limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6) or 1)  # 0 means no limit
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        except OSError:  # a 32-bit machine with 64-bit times
            self.sock.settimeout(seconds)
        else:
            self.sock.settimeout(None)

    @property
    def is_connected(self) -> bool:
        """Whether S3 has neither closed the connection nor sent anything on it since the last response."""
        return self.sock is not None and not self._poll.poll(0)

    def receive(self, size: int) -> bytes:
        """Return the bytes that are there, at most ``size``; wait if there are none. Nothing at the end."""
        try:
            # Into memory of exactly that size: what recv() frees of a larger allocation stays in glibc's arenas, where
            # small pieces keep the large ones apart, until the arenas hold several times what is in use.
            if size > HEADER_READ_SIZE and (available := self._available()) > HEADER_READ_SIZE:
                return self.sock.recv(min(size, available))
            length = self.sock.recv_into(thread_buffer.view, min(size, HEADER_READ_SIZE))
            return bytes(thread_buffer.view[:length])
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    def _available(self) -> int:
        return int(struct.unpack("@i", fcntl.ioctl(self.sock, termios.FIONREAD, bytes(4)))[0])

    def receive_within(self, seconds: float) -> bytes:
        """Receive at most HEADER_READ_SIZE bytes within this time limit."""
        if seconds <= 0:
            raise TimeoutError("timed out")
        self.set_timeout(seconds)
        try:
            return self.receive(HEADER_READ_SIZE)
        finally:
            self.set_timeout(self.read_timeout)
