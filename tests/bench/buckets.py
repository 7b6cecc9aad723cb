"""The cost of many buckets: the same requests with 1, 10, 1,000 and 10,000 configured buckets.

All buckets are at one endpoint, as with Ceph and MinIO, and share its connections: only the configuration grows, and
not the number of connections.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.bench import apache
from tests.bench.bucket import Bucket, Route
from tests.bench.load import Load, wrk
from tests.bench.processes import memory
from tests.bench.server import temporary_root
from tests.httpd.server import Httpd

COUNTS = (1, 10, 1_000, 10_000)
LOCATIONS, SECTIONS = "<Location> each", "<Proxy> each"
UNSIGNED, MAP = "ProxyPass each, unsigned", "one mount, RewriteMap"
WAYS = (LOCATIONS, SECTIONS, UNSIGNED, MAP)
_CONNECTIONS = 16
#: Few children, so that each has soon served all buckets.
_CHILDREN = 2
_FEW_CHILDREN = f"StartServers {_CHILDREN}\nServerLimit {_CHILDREN}\nMaxRequestWorkers {16 * _CHILDREN}\n"
#: With three random requests per bucket, 95 % of the buckets are requested. The warm-up is limited to 20 measurements.
_WARM_UP_REQUESTS, _WARM_UP_LIMIT = 3, 20
_HTTP = Route("http", False)


@dataclass(slots=True)
class BucketsResult:
    """A number of buckets, configured in one way. ``start``: seconds. ``child_memory``: private MB after load."""

    way: str
    buckets: int
    start: float
    requests_per_second: list[float] = field(default_factory=list)
    failures: int = 0
    child_memory: float = 0.0

    @property
    def speed(self) -> float:
        """The median of the rounds."""
        return median(self.requests_per_second)


def measure(bucket: Bucket, rounds: int, seconds: float, counts: tuple[int, ...] = COUNTS) -> Iterator[BucketsResult]:
    """Measure each way, with an httpd for each number of buckets, in turns; yields each result when it is complete."""
    for way in WAYS:
        with ExitStack() as stack:
            folder = stack.enter_context(temporary_root("buckets-"))
            servers = []
            for count in counts:
                httpd = Httpd(_FEW_CHILDREN + _CONFIGS[way](bucket, count, folder), tune=True)
                begun = time.perf_counter()
                stack.enter_context(httpd)
                servers.append((httpd, BucketsResult(way, count, time.perf_counter() - begun)))
            for httpd, result in servers:
                _warm_up(httpd, result, seconds)
            for _ in range(rounds):
                for httpd, result in servers:
                    load = _load(httpd, result, seconds)
                    result.requests_per_second.append(load.requests / load.seconds)
            for httpd, result in servers:
                result.child_memory = memory(apache.pid(httpd)).private_each
                yield result


def _warm_up(httpd: Httpd, result: BucketsResult, seconds: float) -> None:
    """Let each child parse the settings and resolve the keys of each bucket."""
    remaining = _WARM_UP_REQUESTS * result.buckets * _CHILDREN
    deadline = time.monotonic() + _WARM_UP_LIMIT * seconds
    while remaining > 0 and time.monotonic() < deadline:
        remaining -= _load(httpd, result, seconds).requests


def _load(httpd: Httpd, result: BucketsResult, seconds: float) -> Load:
    load = wrk(f"{httpd.url}/many/", _CONNECTIONS, seconds, "buckets", result.buckets, "1k")
    result.failures += load.failures
    return load


def _locations(bucket: Bucket, count: int, folder: Path) -> str:
    return "".join(apache.gateway(f"/many/{number}", bucket, _HTTP, number) for number in range(count))


def _sections(bucket: Bucket, count: int, folder: Path) -> str:
    return _shared(bucket) + "".join(
        apache.signer(f"/many/{number}", bucket, _HTTP, number=number) for number in range(count)
    )


def _unsigned(bucket: Bucket, count: int, folder: Path) -> str:
    return _shared(bucket) + "".join(
        apache.unsigned(f"/many/{number}", bucket.open(_HTTP, number)) for number in range(count)
    )


def _shared(bucket: Bucket) -> str:
    """A worker for the endpoint, declared first: all buckets share it and its connections."""
    return apache.unsigned("/shared", f"{bucket.origins['http']}/", "enablereuse=on keepalive=on")


def _map(bucket: Bucket, count: int, folder: Path) -> str:
    """One mount: RewriteMap finds a bucket's URL and keys by the first path segment; httpd caches the result."""
    text = folder / f"buckets-{count}.txt"
    values = ("|".join([f"{bucket.signed(_HTTP, number)}/", *apache.keys(number).values()]) for number in range(count))
    text.write_text("".join(f"{number} {value}\n" for number, value in enumerate(values)))
    command = ["httxt2dbm", "-i", str(text), "-o", str(text.with_suffix(".dbm"))]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return f"""
RewriteEngine On
RewriteMap buckets dbm:{text.with_suffix(".dbm")}
RewriteCond ${{buckets:$1}} ^([^|]+)\\|([^|]+)\\|(.+)$
RewriteRule ^/many/([^/]+)/ - [E=S3BucketURL:%1,E=S3AccessKey:%2,E=S3SecretKey:%3]
WSGIScriptAliasMatch ^/many/[^/]+ ${{USP_S3_WSGI}}
<Location /many>{apache.SIGNING_MODE}
</Location>
"""


_CONFIGS: dict[str, Callable[[Bucket, int, Path], str]] = {
    LOCATIONS: _locations,
    SECTIONS: _sections,
    UNSIGNED: _unsigned,
    MAP: _map,
}
