"""Connect to a host with several addresses, some of which may not respond: "Happy Eyeballs".

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
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

#: Seconds after which the next address is tried as well: https://www.rfc-editor.org/rfc/rfc8305#section-5.
_ATTEMPT_DELAY = 0.25
#: Seconds for which an address that did not respond is tried last.
_REMEMBERED = 60.0

#: Family and socket address, as getaddrinfo returns them.
Address = tuple[int, tuple[Any, ...]]
SocketOptions = Iterable[tuple[int, int, int | bytes]]


@dataclass(slots=True)
class ConnectTimes:
    """When a connection began, when its host's name was resolved, and when TCP was connected, by time.monotonic().

    0: not yet.
    """

    begun_at: float = 0.0
    resolved_at: float = 0.0
    connected_at: float = 0.0


class _UnresponsiveAddresses:
    """The IP addresses, of all hosts of this process, that recently did not respond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def add(self, ip: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._until = {other: until for other, until in self._until.items() if until > now}
            self._until[ip] = now + _REMEMBERED

    def discard(self, ip: str) -> None:
        with self._lock:
            self._until.pop(ip, None)

    def __contains__(self, ip: str) -> bool:
        return self._until.get(ip, 0.0) > time.monotonic()


_unresponsive = _UnresponsiveAddresses()


def connect(
    host: str, port: int, seconds: float, options: SocketOptions, times: ConnectTimes | None = None
) -> socket.socket:
    """Return a connection to the first of the host's addresses that accepts one.

    ``seconds``: the limit for all addresses together, without the name's resolution; also the connection's limit for
    each later read and write. ``options`` are set before connecting. ``times`` gets what was measured.

    Raises:
        UnicodeError, socket.gaierror: the host has no address.
        TimeoutError: none has responded in time. OSError: all have refused; it is the reason of the last one.
    """
    times = times or ConnectTimes()
    times.begun_at = time.monotonic()
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    times.resolved_at = time.monotonic()
    addresses = _alternate_families(list(dict.fromkeys((family, address) for family, _, _, _, address in found)))
    addresses.sort(key=lambda address: address[1][0] in _unresponsive)
    with _Race(addresses, seconds, options) as race:
        connection = race.winner()
    times.connected_at = time.monotonic()
    connection.settimeout(seconds)
    return connection


def _alternate_families(found: list[Address]) -> list[Address]:
    """Let IPv6 and IPv4 addresses alternate, and begin with the family that the resolver prefers."""
    preferred = [address for address in found if address[0] == found[0][0]]
    others = [address for address in found if address[0] != found[0][0]]
    return [address for address in chain.from_iterable(zip_longest(preferred, others)) if address is not None]


class _Race:
    """Connection attempts: the next one begins when the one before has failed, or has not responded for a while."""

    def __init__(self, addresses: list[Address], seconds: float, options: SocketOptions) -> None:
        self._remaining, self._options = deque(addresses), options
        self._deadline = time.monotonic() + seconds
        self._delay = min(_ATTEMPT_DELAY, seconds / len(addresses))  # so that each address is tried
        self._next_begin = 0.0
        self._poll = select.poll()
        #: Socket, IP address and begin of each attempt, by file descriptor.
        self._pending: dict[int, tuple[socket.socket, str, float]] = {}
        self._failure: OSError | None = None

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *error: object) -> None:
        for attempt, _, _ in self._pending.values():
            attempt.close()

    def winner(self) -> socket.socket:
        """Return the first connection that is made; the other attempts are closed at the end of the context."""
        while self._remaining or self._pending:
            now = time.monotonic()
            if now >= self._deadline:
                self._record_unresponsive(now)
                raise TimeoutError("timed out")
            if self._remaining and (not self._pending or now >= self._next_begin):
                self._begin_attempt(now)
                continue
            until = min(self._deadline, self._next_begin) if self._remaining else self._deadline
            for fd, _ in self._poll.poll(max(0.0, until - now) * 1000):
                if connection := self._finish_attempt(fd):
                    return connection
        assert self._failure is not None
        raise self._failure

    def _begin_attempt(self, now: float) -> None:
        family, address = self._remaining.popleft()
        self._next_begin = now + self._delay
        try:
            attempt = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a family that this machine does not support
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

    def _finish_attempt(self, fd: int) -> socket.socket | None:
        """Return the connection if it was made; else let the next attempt begin at once."""
        attempt, ip, _ = self._pending.pop(fd)
        self._poll.unregister(fd)
        number = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            attempt.close()
            self._failure = OSError(number, os.strerror(number))
            self._next_begin = 0.0
            return None
        _unresponsive.discard(ip)
        self._record_unresponsive(time.monotonic())
        return attempt

    def _record_unresponsive(self, now: float) -> None:
        for _, ip, begin in self._pending.values():
            if now >= begin + self._delay:
                _unresponsive.add(ip)
