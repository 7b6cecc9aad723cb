"""An S3 that serves the soak's objects and fails in a part of its answers; a process of its own.

    python -m tests.soak.faulty_s3     # says its port; "0.08" on its input: so many answers are flawed from now on

It ends when its input does, and then says as JSON how often it failed in which way.
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
from tests.soak.objects import BY_KEY, Film, asked_part

SEED = 20_240_817
#: Of so many connections one finds nobody listening, and those that came just before it are reset.
_REFUSED_IN = 300
_REFUSED_FOR = 0.02


class FaultyS3:
    """The server. Which flaw an answer has follows from its number alone; which request gets it is a matter of time."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.played: Counter[str] = Counter()
        self._versions: Counter[Film] = Counter()
        self._deaf: set[Film] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def accept(self) -> None:
        """Serve each connection in a thread of its own, for ever."""
        chance = random.Random(SEED)
        for number in range(1, sys.maxsize):
            plain, _ = self._listener.accept()
            plain.settimeout(60)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(number, plain, threading.Event())
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            if self.rate and chance.randrange(_REFUSED_IN) == 0:
                self._refuse()

    def _refuse(self) -> None:
        self._count("refused")
        self._listener.close()
        time.sleep(_REFUSED_FOR)
        while True:
            with suppress(OSError):  # another program has the port for a moment
                self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
                return
            time.sleep(_REFUSED_FOR)

    def _serve(self, connection: Connection) -> None:
        try:
            while not connection.closed and (request := _read(connection)):
                self._answer(connection, request)
        except OSError:
            pass  # the client has gone
        finally:
            if not connection.closed:
                connection.close()

    def _answer(self, connection: Connection, request: Request) -> None:
        chance = random.Random(f"{SEED} {self._count('answers')}")
        exchange = self._right_answer(connection, request, chance)
        if chance.random() >= self.rate:
            exchange.send_all()
            return
        name = chance.choices(list(FLAWS), WEIGHTS)[0]
        self._count(name)
        if exchange.film is not None and name.startswith("changed"):
            with self._lock:
                self._versions[exchange.film] += 1
                if "If-Match ignored" in name:
                    self._deaf.add(exchange.film)
        FLAWS[name].play(exchange)

    def _count(self, name: str) -> int:
        with self._lock:
            self.played[name] += 1
            return self.played[name]

    def _right_answer(self, connection: Connection, request: Request, chance: random.Random) -> Exchange:
        film = BY_KEY.get(request.target.removeprefix("/bucket/"))
        if film is None:
            return Exchange(connection, request, chance, status=404)
        with self._lock:
            version = self._versions[film]
            # Both are in the gateway's request for the rest, and in no client's.
            deaf = film in self._deaf and {"if-match", "range"} <= request.headers.keys()
            if deaf:
                self._deaf.remove(film)
        status, start, stop = _outcome(film, film.etag(version), request.headers, deaf)
        return Exchange(connection, request, chance, status, film, version, start, stop)


def _outcome(film: Film, etag: str, headers: Mapping[str, str], deaf: bool) -> tuple[int, int, int]:
    """S3's status, and where the body begins and ends."""
    if not deaf and headers.get("if-match", etag) != etag:
        return 412, 0, 0
    if headers.get("if-none-match") == etag:
        return 304, 0, 0
    if "range" not in headers or headers.get("if-range", etag) != etag:
        return 200, 0, film.size
    part = asked_part(headers["range"], film.size)
    return (206, *part) if part else (416, 0, 0)


def _read(connection: Connection) -> Request | None:
    """Read one request; neither httpd nor the gateway sends a second one before it is answered."""
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
    """Serve until the input ends."""
    s3 = FaultyS3()
    threading.Thread(target=s3.accept, daemon=True).start()
    print(s3.port, flush=True)
    for line in sys.stdin:
        s3.rate = float(line)
    print(json.dumps(s3.played), flush=True)


if __name__ == "__main__":
    main()
