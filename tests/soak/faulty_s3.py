"""An S3 that serves the soak's objects with faults, in a process of its own.

    python -m tests.soak.faulty_s3     # prints its port; "0.08" on stdin sets the share of faulty responses

It ends at the end of stdin, and then prints as JSON how often each fault was played.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from tests.faults.server import Connection, Request
from tests.soak.flaws import FLAWS, WEIGHTS, Exchange
from tests.soak.objects import BY_KEY, Film, byte_range

SEED = 20_240_817
#: After one of so many connections S3 stops listening for a moment, which also resets the connections in its queue.
_REFUSE_ONE_IN = 300
_REFUSE_SECONDS = 0.02


class FaultyS3:
    """The server. The number of a response determines its fault; which request gets it depends on timing."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.played: Counter[str] = Counter()
        self._versions: Counter[Film] = Counter()
        self._ignores_if_match: set[Film] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def accept(self) -> None:
        """Serve each connection in a thread of its own."""
        rng = random.Random(SEED)
        for number in range(1, sys.maxsize):
            plain, _ = self._listener.accept()
            plain.settimeout(60)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(number, plain, threading.Event())
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            if self.rate and rng.randrange(_REFUSE_ONE_IN) == 0:
                self._refuse()

    def _refuse(self) -> None:
        self._count("connections refused")
        self._listener.close()
        time.sleep(_REFUSE_SECONDS)
        while True:
            with suppress(OSError):  # another program uses the port for a moment
                self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
                return
            time.sleep(_REFUSE_SECONDS)

    def _serve(self, connection: Connection) -> None:
        try:
            while not connection.closed and (request := _read(connection)):
                self._respond(connection, request)
        except OSError:
            pass  # the client has disconnected
        finally:
            if not connection.closed:
                connection.close()

    def _respond(self, connection: Connection, request: Request) -> None:
        rng = random.Random(f"{SEED} {self._count('responses')}")
        exchange = self._correct_response(connection, request, rng)
        if rng.random() >= self.rate:
            exchange.send_all()
            return
        name = rng.choices(list(FLAWS), WEIGHTS)[0]
        self._count(name)
        if exchange.film is not None and name.startswith("changed"):
            with self._lock:
                self._versions[exchange.film] += 1
                if "If-Match ignored" in name:
                    self._ignores_if_match.add(exchange.film)
        FLAWS[name].play(exchange)

    def _count(self, name: str) -> int:
        with self._lock:
            self.played[name] += 1
            return self.played[name]

    def _correct_response(self, connection: Connection, request: Request, rng: random.Random) -> Exchange:
        film = BY_KEY.get(request.target.removeprefix("/bucket/"))
        if film is None:
            return Exchange(connection, request, rng, status=404)
        with self._lock:
            version = self._versions[film]
            # Only the gateway's request for the rest has both headers.
            ignores_if_match = film in self._ignores_if_match and {"if-match", "range"} <= request.headers.keys()
            if ignores_if_match:
                self._ignores_if_match.remove(film)
        status, start, stop = _outcome(film, film.etag(version), request.headers, ignores_if_match)
        return Exchange(connection, request, rng, status, film, version, start, stop)


def _outcome(film: Film, etag: str, headers: Mapping[str, str], ignores_if_match: bool) -> tuple[int, int, int]:
    """S3's status, and the start and stop of the body."""
    if not ignores_if_match and headers.get("if-match", etag) != etag:
        return 412, 0, 0
    if headers.get("if-none-match") == etag:
        return 304, 0, 0
    if "range" not in headers or headers.get("if-range", etag) != etag:
        return 200, 0, film.size
    part = byte_range(headers["range"], film.size)
    return (206, *part) if part else (416, 0, 0)


def _read(connection: Connection) -> Request | None:
    """Read one request; neither httpd nor the gateway pipelines requests."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.socket.recv(65_536)
        if not piece:
            return None
        head += piece
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, target, headers, connection.number)


def main() -> None:
    """Serve until the end of stdin."""
    s3 = FaultyS3()
    threading.Thread(target=s3.accept, daemon=True).start()
    print(s3.port, flush=True)
    for line in sys.stdin:
        s3.rate = float(line)
    print(json.dumps(s3.played), flush=True)


if __name__ == "__main__":
    main()
