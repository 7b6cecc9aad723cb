"""The memory of each server: idle, after load, and while many clients read large objects slowly."""

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
#: Bytes per read, and reads per second of each stream: too slow for any stream to end.
_READ_SIZE, _READS_PER_SECOND = 65_536, 10
_SECONDS, _TIMEOUT = 8.0, 30.0
#: The number of children does not change, so that the difference is the memory of the streams.
_ALL_CHILDREN = "StartServers 16\nMinSpareThreads 256\nMaxSpareThreads 256\n"


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """The memory of a server that runs separately."""

    server: str
    idle: Memory
    after_load: Memory


@dataclass(frozen=True, slots=True)
class Streams:
    """Concurrent streams of 256 MB. ``idle``, ``peak``: MB of PSS of all children, before and during the streams."""

    server: str
    streams: int
    idle: float
    peak: float

    @property
    def per_stream(self) -> float:
        """MB per stream above idle."""
        return (self.peak - self.idle) / self.streams


def measure(servers: list[Column], seconds: float) -> Iterator[MemoryResult]:
    """Measure separate servers before and after loads of small and large objects."""
    for server in servers:
        assert server.pid is not None
        _warm_up(server.url(_HTTP, "1k"), 4, seconds)
        idle = memory(server.pid)
        for key in ("1k", "1m"):
            wrk(server.url(_HTTP, key), 64, 2 * seconds)
        yield MemoryResult(server.name, idle, memory(server.pid))


def measure_streams(bucket: Bucket, seconds: float = _SECONDS) -> Iterator[Streams]:
    """Measure the gateway and ``<Proxy>`` while many clients read slowly."""
    gateways, signers = apache.gateways(bucket), apache.verify_tls(bucket) + apache.signers(bucket)
    for name, mount, config in ((GATEWAY, "gateway", gateways), (SIGNER, "signer", signers)):
        with Httpd(_ALL_CHILDREN + config, tune=True) as httpd:
            url, pid = f"{httpd.url}/{mount}/{_HTTP}", apache.pid(httpd)
            _warm_up(f"{url}/1k", STREAMS, 2.0)
            idle = memory(pid).pss
            peak = max(memory(pid).pss for _ in _reading_slowly(f"{url}/256m", STREAMS, seconds))
            yield Streams(name, STREAMS, idle, peak)


def _warm_up(url: str, connections: int, seconds: float) -> None:
    """Send small requests, so that connections, caches and threads exist."""
    if wrk(url, connections, seconds).failures:
        raise BenchError(f"{url} fails")


def _reading_slowly(url: str, streams: int, seconds: float) -> Iterator[None]:
    """Read an object on many connections; yields repeatedly while all streams run. Raises: BenchError."""
    parts = urlsplit(url)
    with selectors.DefaultSelector() as selector:
        received: dict[socket.socket, int] = {}
        try:
            for _ in range(streams):
                connection = socket.create_connection((parts.hostname, parts.port or 80), _TIMEOUT)
                connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
                selector.register(connection, selectors.EVENT_READ)
                received[connection] = 0
            deadline = time.monotonic() + _TIMEOUT
            while not all(received.values()):
                _read_available(selector, received)
                if time.monotonic() > deadline:
                    raise BenchError(f"{url}: not all of {streams} clients get a response at the same time")
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                begun = time.monotonic()
                _read_available(selector, received)
                yield
                time.sleep(max(0.0, 1 / _READS_PER_SECOND - (time.monotonic() - begun)))
            if max(received.values()) >= SIZES["256m"]:
                raise BenchError(f"{url}: a stream ended too early")
        finally:
            for connection in received:
                connection.close()


def _read_available(selector: selectors.BaseSelector, received: dict[socket.socket, int]) -> None:
    """Read once from each connection that has data. Raises: BenchError."""
    for key, _ in selector.select(timeout=0.1):
        connection = key.fileobj
        assert isinstance(connection, socket.socket)
        data = connection.recv(_READ_SIZE)
        if not data or (not received[connection] and not data.startswith(b"HTTP/1.1 200 ")):
            raise BenchError(f"a stream failed: {data[:80]!r}")
        received[connection] += len(data)
