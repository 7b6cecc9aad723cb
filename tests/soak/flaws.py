"""The faults of the soak's S3, each applied to a correct response."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from tests.faults.server import Connection, Request, error
from tests.soak.objects import Film

#: The read timeout of httpd and the gateway in seconds, and a longer stall.
TIMEOUT = 2
_STALL = 3.0
_CODES = {404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}
_GARBAGE = b"SSH-2.0-OpenSSH_9.2\r\n" + bytes(range(256))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and the correct response; its body is the object from ``start`` to ``stop``."""

    connection: Connection
    request: Request
    rng: random.Random
    status: int
    film: Film | None = None
    version: int = 0
    start: int = 0
    stop: int = 0

    @property
    def length(self) -> int:
        """The length of the body."""
        return 0 if self.request.method == "HEAD" else self.stop - self.start

    def send(self, data: bytes) -> None:
        """Send bytes. Raises: OSError if the client has disconnected, which ends the connection's thread."""
        self.connection.socket.sendall(data)

    def head(self, chunked: bool = False) -> bytes:
        """Status and headers; for an error the complete response."""
        if self.film is None or self.status in _CODES:
            return self._error_response()
        fields = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", f"ETag: {self.film.etag(self.version)}"]
        if self.status == 206:
            fields.append(f"Content-Range: bytes {self.start}-{self.stop - 1}/{self.film.size}")
        if self.status != 304:
            length = self.stop - self.start
            fields.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}")
            fields.append("Content-Type: video/mp4")
        return "\r\n".join([*fields, "", ""]).encode()

    def _error_response(self) -> bytes:
        more = [("Content-Range", f"bytes */{self.film.size}")] if self.film and self.status == 416 else []
        whole = error(self.status, _CODES[self.status], *more)
        return whole.partition(b"<?xml")[0] if self.request.method == "HEAD" else whole

    def send_body(self, begin: int, end: int, pause: float = 0.0) -> None:
        """Send the body from ``begin`` to ``end``, with ``pause`` before each piece."""
        if self.film is not None and self.length:
            for piece in self.film.pieces(self.version, self.start + begin, self.start + end):
                time.sleep(pause)
                self.send(piece)

    def send_all(self) -> None:
        """Send the correct response."""
        self.send(self.head())
        self.send_body(0, self.length)

    def send_truncated(self) -> None:
        """Send the header and a truncated, possibly empty, body."""
        self.send(self.head())
        self.send_body(0, self.truncated_length())

    def truncated_length(self) -> int:
        """A random length of the truncated body; none and all but one byte are more frequent."""
        inside = self.rng.randrange(max(1, self.length))
        return self.rng.choice([0, inside, inside, inside, max(0, self.length - 1)])


class Flaw(NamedTuple):
    """A relative frequency, and what S3 does."""

    weight: int
    play: Callable[[Exchange], None]


def _close(exchange: Exchange) -> None:
    exchange.connection.close()


def _reset(exchange: Exchange) -> None:
    exchange.connection.reset()


def _stall(exchange: Exchange) -> None:
    time.sleep(_STALL)
    exchange.connection.close()


def _then(first: Callable[[Exchange], None], second: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
    def both(exchange: Exchange) -> None:
        first(exchange)
        second(exchange)

    return both


def _truncated_head(exchange: Exchange) -> None:
    head = exchange.head().partition(b"\r\n\r\n")[0]
    exchange.send(head[: exchange.rng.randrange(1, len(head))])


def _unavailable(exchange: Exchange, *headers: tuple[str, str], status: int = 503, code: str = "SlowDown") -> None:
    response = error(status, code, *headers)
    exchange.send(response.partition(b"<?xml")[0] if exchange.request.method == "HEAD" else response)


def _chunks(exchange: Exchange, end: bytes = b"0\r\n\r\n", share: float = 1.0) -> None:
    if not exchange.length:
        exchange.send_all()
        return
    assert exchange.film is not None
    exchange.send(exchange.head(chunked=True))
    stop = exchange.start + int(exchange.length * share)
    for piece in exchange.film.pieces(exchange.version, exchange.start, stop):
        exchange.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    exchange.send(end)


def _drip(exchange: Exchange) -> None:
    exchange.send(exchange.head())
    few = min(exchange.length, 50)
    for position in range(few):
        exchange.send_body(position, position + 1, pause=0.01)
    exchange.send_body(few, exchange.length)


def _surplus(exchange: Exchange) -> None:
    exchange.send_all()
    exchange.send(b"x" * 300)


def _not_http(exchange: Exchange) -> None:
    exchange.send(_GARBAGE)


def _malformed_field(exchange: Exchange) -> None:
    exchange.send(exchange.head().replace(b"\r\n", b"\r\nthis is not a field\r\n", 1))
    exchange.send_body(0, exchange.length)


FLAWS = {
    "closed before the header": Flaw(8, _close),
    "reset before the header": Flaw(8, _reset),
    "closed in the header": Flaw(8, _then(_truncated_head, _close)),
    "reset in the header": Flaw(4, _then(_truncated_head, _reset)),
    "closed in the body": Flaw(12, _then(Exchange.send_truncated, _close)),
    "reset in the body": Flaw(8, _then(Exchange.send_truncated, _reset)),
    "stall in the body": Flaw(2, _then(Exchange.send_truncated, _stall)),
    "503": Flaw(8, _unavailable),
    "503 with Retry-After": Flaw(2, lambda exchange: _unavailable(exchange, ("Retry-After", "1"))),
    "500": Flaw(8, lambda exchange: _unavailable(exchange, status=500, code="InternalError")),
    "chunked": Flaw(8, _chunks),
    "chunked and truncated": Flaw(4, _then(lambda exchange: _chunks(exchange, b"", exchange.rng.random()), _close)),
    "malformed chunked encoding": Flaw(1, _then(lambda exchange: _chunks(exchange, b"no hex\r\n", 0.5), _close)),
    "slow drip": Flaw(4, _drip),
    "closed after the response": Flaw(8, _then(Exchange.send_all, _close)),
    "surplus bytes": Flaw(2, _then(_surplus, _close)),
    "changed and closed": Flaw(3, _then(Exchange.send_truncated, _close)),
    "changed and closed, If-Match ignored": Flaw(3, _then(Exchange.send_truncated, _close)),
    "not HTTP": Flaw(1, _then(_not_http, _close)),
    "a header field without colon": Flaw(1, _then(_malformed_field, _close)),
}
WEIGHTS = [flaw.weight for flaw in FLAWS.values()]
