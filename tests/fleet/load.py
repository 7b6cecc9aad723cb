"""Clients that check every byte of each response, and count how responses ended."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType

KB, MB = 1024, 1024**2
#: Longer than each time limit of HAProxy that a test waits for.
TIMEOUT = 60.0
#: A slow client reads so many bytes, then pauses for so many seconds: an object of 6 MB takes 3 s.
_SLOW_PIECE, _SLOW_PAUSE = 64 * KB, 0.03
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a whole response. ``status`` 0: the response had not begun."""

    target: str
    status: int
    received: int
    reason: str


@dataclass(slots=True)
class Result:
    """What has happened until now."""

    responses: int = 0
    bytes: int = 0
    #: Seconds until the slowest response began.
    slowest: float = 0.0
    #: Whole and right responses by path.
    by_target: dict[str, int] = field(default_factory=dict)
    #: The response had not begun, or has another status than 200.
    failed: list[Failure] = field(default_factory=list)
    #: The response had begun and ended abnormally, and its bytes until then were right.
    truncated: list[Failure] = field(default_factory=list)
    #: The response looked complete, or its bytes were wrong.
    wrong: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        found = f"{len(self.failed)} failed, {len(self.truncated)} truncated, {len(self.wrong)} wrong"
        return f"{self.responses} requests, {self.bytes / MB:.0f} MB, {found}, slowest {self.slowest:.1f} s"


class Load:
    """Clients that send requests while the context lasts."""

    def __init__(
        self,
        address: str,
        objects: Mapping[str, bytes],
        weights: Sequence[float],
        *,
        clients: int,
        slow: int,
        slow_targets: Sequence[str],
        port: int = 80,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``objects`` by target. ``slow``: further clients, which read ``slow_targets`` slowly.

        ``headers``: sent with each request, besides Host.
        """
        self._server, self._objects, self._slow_targets = (address, port), objects, slow_targets
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in {"Host": address, **(headers or {})}.items())
        self._targets, self._weights = list(objects), list(weights)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.result = Result()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(number, False)) for number in range(clients)]
        self._threads += [threading.Thread(target=self._run, args=(number, True)) for number in range(slow)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT + 10)
        if error is None and self._errors:
            raise self._errors[0]

    def wait_for(self, responses: int, seconds: float = 180) -> None:
        """Wait until so many requests have been sent in all."""
        deadline = time.monotonic() + seconds
        while self.result.responses < responses:
            if time.monotonic() > deadline or self._errors:
                raise AssertionError(f"less than {responses} requests in {seconds} s: {self.result} {self._errors}")
            time.sleep(0.02)

    # --- one client

    def _run(self, number: int, is_slow: bool) -> None:
        chosen = random.Random(f"{number} {is_slow}")
        client = _Client(self._server, self._headers, is_slow)
        try:
            for turn in count():
                if self._stop.is_set():
                    break
                if is_slow:
                    target, method = self._slow_targets[turn % len(self._slow_targets)], "GET"
                else:
                    target = chosen.choices(self._targets, self._weights)[0]
                    method = "HEAD" if chosen.randrange(20) == 0 else "GET"
                self._record(client.request(method, target, self._objects[target]), target)
        except BaseException as error:
            self._errors.append(error)
        finally:
            client.close()

    def _record(self, response: Response, target: str) -> None:
        failure = Failure(response.request, response.status, response.received, response.problem)
        with self._lock:
            result = self.result
            result.responses += 1
            result.bytes += response.received
            result.slowest = max(result.slowest, response.first_byte)
            if response.is_wrong:
                result.wrong.append(failure)
            elif response.status != 200:
                result.failed.append(failure)
            elif response.problem:
                result.truncated.append(failure)
            else:
                result.by_target[target] = result.by_target.get(target, 0) + 1


@dataclass(slots=True)
class Response:
    """How a response ended. ``status`` 0: it had not begun; ``received``: bytes of the body.

    ``problem``: why it is not whole; ``first_byte``: seconds until it began.
    """

    request: str
    status: int = 0
    received: int = 0
    first_byte: float = 0.0
    problem: str = ""
    is_wrong: bool = False


class _Client:
    """A client with a persistent connection, on a plain socket: http.client would take most of the machine's time."""

    def __init__(self, server: tuple[str, int], headers: str, is_slow: bool) -> None:
        self._server, self._headers, self._is_slow = server, headers, is_slow
        self._buffer = bytearray(_SLOW_PIECE if is_slow else MB)
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(self, method: str, target: str, expected: bytes) -> Response:
        """Send a request, read the response, and compare it with the expected bytes."""
        response = Response(f"{method} {target}")
        begun = time.monotonic()
        try:
            connection = self._connect()
            connection.sendall(f"{method} {target} HTTP/1.1\r\n{self._headers}\r\n".encode())
            self._read(connection, response, begun, b"" if method == "HEAD" else expected, len(expected))
        except OSError as error:
            response.problem = repr(error)
        if response.problem or response.status != 200:
            self.close()
        return response

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket()
            if self._is_slow:  # a small receive buffer, so that the server notices
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_PIECE)
            self._socket.settimeout(TIMEOUT)
            self._socket.connect(self._server)
        return self._socket

    def _read(self, connection: socket.socket, response: Response, begun: float, expected: bytes, length: int) -> None:
        filled, end = 0, -1
        with memoryview(self._buffer) as view, memoryview(expected) as whole:
            while end < 0:
                number = connection.recv_into(view[filled:])
                filled += number
                end = self._buffer.find(b"\r\n\r\n", 0, filled)
                if number == 0 and end < 0:
                    response.problem = f"closed after {filled} bytes of the header"
                    return
            header = bytes(view[: end + 4])
            response.status, response.first_byte = int(header[9:12]), time.monotonic() - begun
            if response.status != 200:
                response.problem = f"status {response.status}"
                return
            found = _LENGTH.search(header)
            # An object of known length must be sent with it, or its truncation would not be noticed.
            response.is_wrong = found is None or int(found[1]) != length
            piece = view[end + 4 : filled]
            while True:
                response.is_wrong |= piece != whole[response.received : response.received + len(piece)]
                response.received += len(piece)
                if response.received >= len(expected):
                    return
                if self._is_slow:
                    time.sleep(_SLOW_PAUSE)
                number = connection.recv_into(view)
                if number == 0:
                    response.problem = f"closed after {response.received} of {length} bytes"
                    return
                piece = view[:number]
