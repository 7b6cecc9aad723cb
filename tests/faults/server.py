"""A scripted S3: a raw socket that answers each request with the next step of a script, valid or not.

    with ScriptedS3(answer(200, b"hello"), reset, error(503, "SlowDown")) as s3:
        ...                              # three requests to s3.url
    assert [request.connection for request in s3.requests] == [1, 1, 2]

A step is the exact bytes of a response, or a function of the connection and the request. Unused steps, requests beyond
the script and exceptions in a step fail the ``with`` block. Every wait has a time limit.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from time import sleep  # tests replace time.sleep
from types import TracebackType

from tests.certificates import Certificate

#: The time limit of each wait, in seconds; only a test that fails reaches it.
WAIT = 10.0
#: A state in the first byte of TCP_INFO: the FIN was sent and is not acknowledged. include/net/tcp_states.h of Linux.
TCP_FIN_WAIT1 = 4


@dataclass(frozen=True, slots=True)
class Request:
    """A request that arrived. ``target`` is as sent; header names are lowercase; connections are numbered from 1."""

    method: str
    target: str
    headers: Mapping[str, str]
    connection: int


class Connection:
    """One connection from the client, as a step sees it."""

    def __init__(self, number: int, plain: socket.socket, released: threading.Event) -> None:
        self.number = number
        self.socket: socket.socket = plain
        self.closed = False
        self.finished = threading.Event()  # set when it is closed on both sides
        self._released = released
        self._changing = threading.Lock()  # held while the socket changes: another thread calls shut_down

    def begin_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's side of the TLS handshake."""
        with self._changing:  # the plain socket cannot be used any more, and the TLS socket is not assigned yet
            secured = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.socket = secured
        secured.do_handshake()

    def shut_down(self) -> None:
        """Shut the connection down from another thread: the serving thread sees a client that has disconnected."""
        # Not SSLSocket.shutdown: it removes the TLS object, and a thread that is about to read fails with ValueError.
        with self._changing, suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def send(self, data: bytes) -> None:
        """Send bytes; a client that has disconnected is not an error."""
        with suppress(OSError):
            self.socket.sendall(data)

    def close(self) -> None:
        """Close the connection (FIN)."""
        self.closed = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
            _wait_for_acknowledged_end(self.socket)
        self.socket.close()

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self.closed = True
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait(self) -> None:
        """Do nothing until the server's ``release``, or until it stops."""
        self._released.wait(WAIT)

    def ended(self) -> bool:
        """Whether the client closes the connection within the socket's timeout; bytes that it sends are discarded."""
        try:
            while self.socket.recv(65_536):
                pass
        except TimeoutError:
            return False
        except OSError:  # a reset, or TLS without close_notify, which OpenSSL's versions report differently
            pass
        return True


Step = bytes | Callable[[Connection, Request], None]
Accepted = Callable[[Connection], None]


class ScriptedS3:
    """The server as a context manager, on a free port of the loopback interface."""

    def __init__(
        self,
        *script: Step,
        then: Step | None = None,
        accepted: Accepted | None = None,
        tls: Certificate | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """``then`` answers the requests after the script; ``accepted`` is called with each new connection, before TLS.

        ``tls``: serve https. ``host``: an address of the loopback interface; ``port`` 0: a free port.
        """
        self._script, self._then, self._accepted = deque(script), then, accepted
        self._address = (host, port)
        self.server_names: list[str | None] = []
        self._scheme = "https" if tls else "http"
        self._tls = _tls_context(tls, self.server_names) if tls else None
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: list[str] = []
        self.connections: list[Connection] = []
        self.requests: list[Request] = []

    def __enter__(self) -> ScriptedS3:
        self._listener = socket.create_server(self._address, family=_family(self._address[0]))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{self._scheme}://{self._address[0]}:{self.port}"
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        accepting, *_ = self._threads
        accepting.join(WAIT)  # from here on there are no new connections
        for connection in self.connections:
            connection.shut_down()
        for thread in self._threads:
            thread.join(WAIT)
        self._listener.close()
        if error is None:
            if self._script:
                self._failures.append(f"{len(self._script)} steps of the script were not used")
            assert not self._failures, "; ".join(self._failures)

    def release(self) -> None:
        """Wake every step that waits."""
        self._released.set()

    def forget(self) -> None:
        """Discard the remaining steps of the script."""
        self._script.clear()

    def join(self) -> None:
        """Wait until every connection is closed, by the client or by the script."""
        for connection in self.connections:
            assert connection.finished.wait(WAIT), f"connection {connection.number} did not end"

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is shut down
            while True:
                plain, _ = self._listener.accept()
                plain.settimeout(WAIT)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(len(self.connections) + 1, plain, self._released)
                self.connections.append(connection)
                self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: Connection) -> None:
        try:
            if self._accepted:
                self._accepted(connection)
            if self._tls and not connection.closed:
                connection.begin_tls(self._tls)
            while not connection.closed and (request := _read_request(connection)):
                self._play(connection, request)
        except OSError:
            pass  # the client has disconnected, or rejected the certificate
        except Exception as error:
            self._failures.append(f"a step failed: {error!r}")
        finally:
            if not connection.closed:
                connection.close()
            connection.finished.set()

    def _play(self, connection: Connection, request: Request) -> None:
        with self._lock:
            self.requests.append(request)
            step = self._script.popleft() if self._script else self._then
        if step is None:
            self._failures.append(f"a request beyond the script: {request.method} {request.target}")
            connection.close()
        elif isinstance(step, bytes):
            connection.send(step)
        else:
            step(connection, request)


def _wait_for_acknowledged_end(closing: socket.socket) -> None:
    """Wait until the client's kernel has the FIN, at most a second.

    Loopback is asynchronous on a busy machine: a client without the FIN sends its next request on this connection.
    """
    for _ in range(200):
        if closing.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_FIN_WAIT1:
            return
        sleep(0.005)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _tls_context(certificate: Certificate, names: list[str | None]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    return context


def _read_request(connection: Connection) -> Request | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.socket.recv(1)  # one byte at a time: a pipelined request is not read
        if not piece:
            return None
        head += piece
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, target, headers, connection.number)


# --- steps


def answer(
    status: int, body: bytes = b"", *headers: tuple[str, str], length: int | None = -1, version: str = "HTTP/1.1"
) -> bytes:
    """Return a response. ``length``: a Content-Length that differs from the body's; None: no Content-Length."""
    length = len(body) if length == -1 else length
    fields = [*headers, ("Content-Length", str(length))] if length is not None else [*headers]
    lines = [f"{version} {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def error(status: int, code: str, *headers: tuple[str, str], region: str = "") -> bytes:
    """Return an error response of S3: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html."""
    inner = f"<Code>{code}</Code><Message>{S3_WORDS}</Message><Region>{region}</Region><RequestId>4442587FB7D0A2F9"
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</RequestId></Error>'.encode()
    return answer(status, document, ("Content-Type", "application/xml"), *headers)


#: The message of every error document; tests check that clients never get it.
S3_WORDS = "words that only S3 says"


def head_of(whole: bytes) -> bytes:
    """Return the header of a response without its body, as for HEAD."""
    return re.split(rb"(?<=\r\n\r\n)", whole, maxsplit=1)[0]


def close(connection: Connection, request: Request) -> None:
    """Close the connection without a response."""
    connection.close()


def reset(connection: Connection, request: Request) -> None:
    """Reset the connection without a response."""
    connection.reset()


def stall(connection: Connection, request: Request) -> None:
    """Send nothing until ``release``, then close the connection."""
    connection.wait()
    connection.close()


def first(data: bytes, step: Callable[[Connection, Request], None]) -> Step:
    """Return a step that sends ``data`` and then calls ``step`` (``close``, ``reset``, ``stall``)."""

    def both(connection: Connection, request: Request) -> None:
        connection.send(data)
        step(connection, request)

    return both
