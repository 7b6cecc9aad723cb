"""A scripted S3: a raw socket that answers each request with the next step of a script, right or wrong.

    with ScriptedS3(answer(200, b"hello"), reset, error(503, "SlowDown")) as s3:
        ...                              # three requests to s3.url, on whatever connections
    assert [request.connection for request in s3.requests] == [1, 1, 2]

A step is the bytes of an answer, exactly as they go out, or a function of the connection and the request. Steps that
are left over, requests beyond the script and errors of a step fail the ``with`` block. Every wait has an end.
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
from types import TracebackType

from tests.certificates import Certificate

#: Seconds that anything may take; only a test that is about to fail waits for so long.
WAIT = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived. ``target`` is as sent; names of headers are lowercase; connections are numbered from 1."""

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
        self._changing = threading.Lock()  # the socket: shut_down comes from another thread

    def begin_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's part of the handshake."""
        with self._changing:  # the plain socket is none any more, the new one is not here yet
            secured = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.socket = secured
        secured.do_handshake()

    def shut_down(self) -> None:
        """End it from another thread: to the one that serves it, the client has gone."""
        # Not SSLSocket.shutdown: it takes TLS away from a thread that is about to read, which fails with ValueError.
        with self._changing, suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def send(self, data: bytes) -> None:
        """Send bytes; a client that is gone already is no error."""
        with suppress(OSError):
            self.socket.sendall(data)

    def close(self) -> None:
        """End the connection in order (FIN)."""
        self.closed = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        """End the connection at once (RST)."""
        self.closed = True
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait(self) -> None:
        """Do nothing until the server's ``release`` (or its end)."""
        self._released.wait(WAIT)

    def ended(self) -> bool:
        """Whether the client ends the connection, within the time that a test may take; what it sends is dropped."""
        try:
            while self.socket.recv(65_536):
                pass
        except TimeoutError:
            return False
        except OSError:  # a reset, or TLS without its own end, for which versions of OpenSSL have several errors
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
        """``then`` answers what comes after the script, ``accepted`` acts on a new connection (before TLS).

        ``tls``: speak https. ``host``: an address of the loopback interface; ``port`` 0: a free one.
        """
        self._script, self._then, self._accepted = deque(script), then, accepted
        self._wanted = (host, port)
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
        self._listener = socket.create_server(self._wanted, family=_family(self._wanted[0]))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{self._scheme}://{self._wanted[0]}:{self.port}"
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        accepting, *_ = self._threads
        accepting.join(WAIT)  # all connections are known now
        for connection in self.connections:
            connection.shut_down()
        for thread in self._threads:
            thread.join(WAIT)
        self._listener.close()
        if error is None:
            if self._script:
                self._failures.append(f"{len(self._script)} steps of the script were not asked for")
            assert not self._failures, "; ".join(self._failures)

    def release(self) -> None:
        """End the wait of every step that waits."""
        self._released.set()

    def forget(self) -> None:
        """Drop what is left of the script."""
        self._script.clear()

    def join(self) -> None:
        """Wait until every connection has ended (the client's or the script's work)."""
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
            pass  # the client has gone, or did not like the certificate
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
        piece = connection.socket.recv(1)  # no byte beyond the head: a pipelined request stays where it is
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
    """Return a whole answer. ``length``: the Content-Length if it is not that of the body; None for none."""
    length = len(body) if length == -1 else length
    fields = [*headers, ("Content-Length", str(length))] if length is not None else [*headers]
    lines = [f"{version} {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def error(status: int, code: str, *headers: tuple[str, str], region: str = "") -> bytes:
    """Return S3's answer to what it refuses: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html."""
    inner = f"<Code>{code}</Code><Message>{S3_WORDS}</Message><Region>{region}</Region><RequestId>4442587FB7D0A2F9"
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</RequestId></Error>'.encode()
    return answer(status, document, ("Content-Type", "application/xml"), *headers)


#: In every error document, so that a test can search for it where it must not be.
S3_WORDS = "words that only S3 says"


def head_of(whole: bytes) -> bytes:
    """Return the header of an answer without its body, as a HEAD gets it."""
    return re.split(rb"(?<=\r\n\r\n)", whole, maxsplit=1)[0]


def close(connection: Connection, request: Request) -> None:
    """End the connection without an answer."""
    connection.close()


def reset(connection: Connection, request: Request) -> None:
    """Reset the connection without an answer."""
    connection.reset()


def stall(connection: Connection, request: Request) -> None:
    """Answer nothing until the release, then end the connection."""
    connection.wait()
    connection.close()


def first(data: bytes, step: Callable[[Connection, Request], None]) -> Step:
    """Return a step that sends ``data``, then does what ``step`` does (``close``, ``reset``, ``stall``)."""

    def both(connection: Connection, request: Request) -> None:
        connection.send(data)
        step(connection, request)

    return both
