"""The ways in which the soak's S3 fails, each played on an answer that would be right."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from tests.faults.server import Connection, Request, error
from tests.soak.objects import Film

#: Seconds for which httpd and the gateway wait for S3's next byte, and what is longer than that.
TIMEOUT = 2
_STALL = 3.0
_CODES = {404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}
_GARBAGE = b"SSH-2.0-OpenSSH_9.2\r\n" + bytes(range(256))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and the right answer to it; the body is what the object holds between two places."""

    connection: Connection
    request: Request
    chance: random.Random
    status: int
    film: Film | None = None
    version: int = 0
    start: int = 0
    stop: int = 0

    @property
    def length(self) -> int:
        """How many bytes of an object are to be sent."""
        return 0 if self.request.method == "HEAD" else self.stop - self.start

    def send(self, data: bytes) -> None:
        """Send bytes. Raises: OSError where the client has gone, which ends the connection's thread."""
        self.connection.socket.sendall(data)

    def head(self, chunked: bool = False) -> bytes:
        """Status and headers, and the whole answer where its body is no object's."""
        if self.film is None or self.status in _CODES:
            return self._refusal()
        fields = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", f"ETag: {self.film.etag(self.version)}"]
        if self.status == 206:
            fields.append(f"Content-Range: bytes {self.start}-{self.stop - 1}/{self.film.size}")
        if self.status != 304:
            length = self.stop - self.start
            fields.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}")
            fields.append("Content-Type: video/mp4")
        return "\r\n".join([*fields, "", ""]).encode()

    def _refusal(self) -> bytes:
        more = [("Content-Range", f"bytes */{self.film.size}")] if self.film and self.status == 416 else []
        whole = error(self.status, _CODES[self.status], *more)
        return whole.partition(b"<?xml")[0] if self.request.method == "HEAD" else whole

    def send_body(self, begin: int, end: int, pause: float = 0.0) -> None:
        """Send the bytes of the body from the one place to the other, ``pause`` before each piece."""
        if self.film is not None and self.length:
            for piece in self.film.pieces(self.version, self.start + begin, self.start + end):
                time.sleep(pause)
                self.send(piece)

    def send_all(self) -> None:
        """Answer right."""
        self.send(self.head())
        self.send_body(0, self.length)

    def send_some(self) -> None:
        """Send the header and the body's beginning, maybe nothing of it."""
        self.send(self.head())
        self.send_body(0, self.place())

    def place(self) -> int:
        """Anywhere in the body, and its first and last bytes more often than others."""
        inside = self.chance.randrange(max(1, self.length))
        return self.chance.choice([0, inside, inside, inside, max(0, self.length - 1)])


class Flaw(NamedTuple):
    """How often it comes, in proportion to the others, and what S3 does."""

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


def _cut_head(exchange: Exchange) -> None:
    head = exchange.head().partition(b"\r\n\r\n")[0]
    exchange.send(head[: exchange.chance.randrange(1, len(head))])


def _slow_down(exchange: Exchange, *headers: tuple[str, str], status: int = 503, code: str = "SlowDown") -> None:
    answer = error(status, code, *headers)
    exchange.send(answer.partition(b"<?xml")[0] if exchange.request.method == "HEAD" else answer)


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
    for place in range(few):
        exchange.send_body(place, place + 1, pause=0.01)
    exchange.send_body(few, exchange.length)


def _surplus(exchange: Exchange) -> None:
    exchange.send_all()
    exchange.send(b"x" * 300)


def _no_http(exchange: Exchange) -> None:
    exchange.send(_GARBAGE)


def _broken_field(exchange: Exchange) -> None:
    exchange.send(exchange.head().replace(b"\r\n", b"\r\nthis is no field\r\n", 1))
    exchange.send_body(0, exchange.length)


FLAWS = {
    "closed before the header": Flaw(8, _close),
    "reset before the header": Flaw(8, _reset),
    "closed in the header": Flaw(8, _then(_cut_head, _close)),
    "reset in the header": Flaw(4, _then(_cut_head, _reset)),
    "closed in the body": Flaw(12, _then(Exchange.send_some, _close)),
    "reset in the body": Flaw(8, _then(Exchange.send_some, _reset)),
    "stall in the body": Flaw(2, _then(Exchange.send_some, _stall)),
    "503": Flaw(8, _slow_down),
    "503 with Retry-After": Flaw(2, lambda exchange: _slow_down(exchange, ("Retry-After", "1"))),
    "500": Flaw(8, lambda exchange: _slow_down(exchange, status=500, code="InternalError")),
    "chunked": Flaw(8, _chunks),
    "chunked and cut": Flaw(4, _then(lambda exchange: _chunks(exchange, b"", exchange.chance.random()), _close)),
    "chunks of nonsense": Flaw(1, _then(lambda exchange: _chunks(exchange, b"no hex\r\n", 0.5), _close)),
    "slow drip": Flaw(4, _drip),
    "closed after the answer": Flaw(8, _then(Exchange.send_all, _close)),
    "more than the length": Flaw(2, _then(_surplus, _close)),
    "changed and closed": Flaw(3, _then(Exchange.send_some, _close)),
    "changed and closed, If-Match ignored": Flaw(3, _then(Exchange.send_some, _close)),
    "not HTTP": Flaw(1, _then(_no_http, _close)),
    "a header field without colon": Flaw(1, _then(_broken_field, _close)),
}
WEIGHTS = [flaw.weight for flaw in FLAWS.values()]
