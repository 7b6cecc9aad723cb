"""What the processes of each server hold: idle, after load, and while many clients read large objects slowly."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.bench import apache
from tests.bench.bucket import SIZES, Bucket, Route
from tests.bench.columns import GATEWAY, SIGNER, Column
from tests.bench.load import wrk
from tests.bench.processes import Memory, memory
from tests.bench.server import BenchError
from tests.httpd.server import Httpd

_HTTP = Route("http", False)
STREAMS = 100
#: Bytes that each stream is read by at once, and how often a second: too slow for any to end meanwhile.
_SIP, _SIPS = 65_536, 10
_SECONDS, _PATIENCE = 8.0, 30.0
#: As many children from the first to the last moment: what is counted is streams, and not new children.
_ALL_CHILDREN = "StartServers 16\nMinSpareThreads 256\nMaxSpareThreads 256\n"


@dataclass(frozen=True, slots=True)
class Held:
    """A kind of server, alone."""

    server: str
    idle: Memory
    loaded: Memory


@dataclass(frozen=True, slots=True)
class Streams:
    """So many at once, of 256 MB each. MB of PSS of all children, before them and at most while they ran."""

    server: str
    streams: int
    idle: float
    at_most: float

    @property
    def each(self) -> float:
        """MB for each stream, above idle."""
        return (self.at_most - self.idle) / self.streams


def measure(servers: list[Column], seconds: float) -> Iterator[Held]:
    """Look at servers that stand alone, before and after loads of small and of large objects."""
    for server in servers:
        assert server.pid is not None
        _burst(server.url(_HTTP, "1k"), 4, seconds)
        idle = memory(server.pid)
        for key in ("1k", "1m"):
            wrk(server.url(_HTTP, key), 64, 2 * seconds)
        yield Held(server.name, idle, memory(server.pid))


def measure_streams(bucket: Bucket, seconds: float = _SECONDS) -> Iterator[Streams]:
    """Let many clients read slowly from each way in."""
    gateways, signers = apache.gateways(bucket), apache.verified(bucket) + apache.signers(bucket)
    for name, mount, config in ((GATEWAY, "gateway", gateways), (SIGNER, "signer", signers)):
        with Httpd(_ALL_CHILDREN + config, tune=True) as httpd:
            url, pid = f"{httpd.url}/{mount}/{_HTTP}", apache.pid(httpd)
            _burst(f"{url}/1k", STREAMS, 2.0)
            idle = memory(pid).pss
            at_most = max(memory(pid).pss for _ in _reading_slowly(f"{url}/256m", STREAMS, seconds))
            yield Streams(name, STREAMS, idle, at_most)


def _burst(url: str, connections: int, seconds: float) -> None:
    """Small requests, so that what is made once is made: connections, caches, threads."""
    if wrk(url, connections, seconds).failures:
        raise BenchError(f"{url} fails")


def _reading_slowly(url: str, streams: int, seconds: float) -> Iterator[None]:
    """Read an object on many connections at once; yields now and then while all are under way. Raises: BenchError."""
    parts = urlsplit(url)
    with selectors.DefaultSelector() as selector:
        received: dict[socket.socket, int] = {}
        try:
            for _ in range(streams):
                connection = socket.create_connection((parts.hostname, parts.port or 80), _PATIENCE)
                connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
                selector.register(connection, selectors.EVENT_READ)
                received[connection] = 0
            deadline = time.monotonic() + _PATIENCE
            while not all(received.values()):
                _sip(selector, received)
                if time.monotonic() > deadline:
                    raise BenchError(f"{url}: not all of {streams} clients are answered at once")
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                begun = time.monotonic()
                _sip(selector, received)
                yield
                time.sleep(max(0.0, 1 / _SIPS - (time.monotonic() - begun)))
            if max(received.values()) >= SIZES["256m"]:
                raise BenchError(f"{url}: a stream has ended too early")
        finally:
            for connection in received:
                connection.close()


def _sip(selector: selectors.BaseSelector, received: dict[socket.socket, int]) -> None:
    """Read once from each connection that has something. Raises: BenchError."""
    for key, _ in selector.select(timeout=0.1):
        connection = key.fileobj
        assert isinstance(connection, socket.socket)
        data = connection.recv(_SIP)
        if not data or (not received[connection] and not data.startswith(b"HTTP/1.1 200 ")):
            raise BenchError(f"a stream broke off: {data[:80]!r}")
        received[connection] += len(data)
