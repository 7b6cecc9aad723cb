"""To connect to a host of several addresses, of which some may swallow what they are sent: RFC 8305, "Happy Eyeballs".

https://www.rfc-editor.org/rfc/rfc8305
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any

#: Seconds after which the next address is tried, too: https://www.rfc-editor.org/rfc/rfc8305#section-5.
_DELAY = 0.25
#: Seconds for which an address that stayed silent, while another one answered, is tried last.
_REMEMBERED = 60.0

#: Family and socket address, as getaddrinfo tells them.
Address = tuple[int, tuple[Any, ...]]
Options = Iterable[tuple[int, int, int | bytes]]


class _Silent:
    """The addresses that have stayed silent of late, of all hosts of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def note(self, ip: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._until = {each: until for each, until in self._until.items() if until > now}
            self._until[ip] = now + _REMEMBERED

    def forget(self, ip: str) -> None:
        with self._lock:
            self._until.pop(ip, None)

    def __contains__(self, ip: str) -> bool:
        return self._until.get(ip, 0.0) > time.monotonic()


_silent = _Silent()


def connect(host: str, port: int, seconds: float, options: Options) -> socket.socket:
    """Return a connection to the first of the host's addresses that answers.

    ``seconds``: the limit for all addresses together, without the look-up of the name; the connection has it, too, for
    each read and write. ``options`` are set before.

    Raises:
        UnicodeError, socket.gaierror: the host has no address.
        TimeoutError: none has answered in time. OSError: all have refused; it is the last one's reason.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    in_turns = _in_turns(list(dict.fromkeys((family, address) for family, _, _, _, address in found)))
    with _Race(sorted(in_turns, key=lambda each: each[1][0] in _silent), seconds, options) as race:
        connection = race.winner()
    connection.settimeout(seconds)
    return connection


def _in_turns(found: list[Address]) -> list[Address]:
    """Let the two families take turns, which else are in the resolver's order."""
    preferred = [each for each in found if each[0] == found[0][0]]
    others = [each for each in found if each[0] != found[0][0]]
    return [each for each in chain.from_iterable(zip_longest(preferred, others)) if each is not None]


class _Race:
    """Attempts to connect, of which each next one begins when the one before has failed or been silent for a while."""

    def __init__(self, addresses: list[Address], seconds: float, options: Options) -> None:
        self._left, self._options = deque(addresses), options
        self._deadline = time.monotonic() + seconds
        self._delay = min(_DELAY, seconds / len(addresses))  # each has its turn
        self._next_begins = 0.0
        self._poll = select.poll()
        self._pending: dict[int, tuple[socket.socket, str, float]] = {}
        self._failure: OSError | None = None

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *error: object) -> None:
        for attempt, _, _ in self._pending.values():
            attempt.close()

    def winner(self) -> socket.socket:
        """Return the first connection that is made; the others are closed at the end of the context."""
        while self._left or self._pending:
            now = time.monotonic()
            if now >= self._deadline:
                self._note_silent(now)
                raise TimeoutError("timed out")
            if self._left and (not self._pending or now >= self._next_begins):
                self._begin(now)
                continue
            until = min(self._deadline, self._next_begins) if self._left else self._deadline
            for fd, _ in self._poll.poll(max(0.0, until - now) * 1000):
                if connection := self._ended(fd):
                    return connection
        assert self._failure is not None
        raise self._failure

    def _begin(self, now: float) -> None:
        family, address = self._left.popleft()
        self._next_begins = now + self._delay
        try:
            attempt = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a family that this machine has not got
            self._failure = error
            return
        self._pending[attempt.fileno()] = attempt, address[0], now
        try:
            for option in self._options:
                attempt.setsockopt(*option)
            attempt.setblocking(False)
            attempt.connect(address)
        except BlockingIOError:
            pass
        except OSError as error:
            self._pending.pop(attempt.fileno())
            attempt.close()
            self._failure = error
            return
        self._poll.register(attempt, select.POLLOUT)

    def _ended(self, fd: int) -> socket.socket | None:
        """Return the connection if it was made; else the next one's turn has come."""
        attempt, ip, _ = self._pending.pop(fd)
        self._poll.unregister(fd)
        number = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            attempt.close()
            self._failure = OSError(number, os.strerror(number))
            self._next_begins = 0.0
            return None
        _silent.forget(ip)
        self._note_silent(time.monotonic())
        return attempt

    def _note_silent(self, now: float) -> None:
        for _, ip, begun in self._pending.values():
            if now >= begun + self._delay:
                _silent.note(ip)
