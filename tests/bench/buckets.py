"""What it costs to have many buckets: the same requests with 1, 10, 1,000 and 10,000 of them configured.

All of them are at one endpoint, as Ceph's and MinIO's are, and share its connections: what grows is what httpd and the
two ways in look through, and not the number of connections.
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
#: Few, so that each soon knows all buckets.
_CHILDREN = 2
_FEW_CHILDREN = f"StartServers {_CHILDREN}\nServerLimit {_CHILDREN}\nMaxRequestWorkers {16 * _CHILDREN}\n"
#: Of things chosen by chance so often each, 95 % were chosen. The warm-up takes so many times a run's seconds at most.
_OFTEN, _LONG = 3, 20
_HTTP = Route("http", False)


@dataclass(slots=True)
class Growth:
    """A way to configure so many buckets. ``start``: seconds. ``each``: MB of private memory of a child after load."""

    way: str
    buckets: int
    start: float
    requests_per_second: list[float] = field(default_factory=list)
    failures: int = 0
    each: float = 0.0

    @property
    def speed(self) -> float:
        """The median of the rounds."""
        return median(self.requests_per_second)


def measure(bucket: Bucket, rounds: int, seconds: float, counts: tuple[int, ...] = COUNTS) -> Iterator[Growth]:
    """Measure way by way; one httpd for each count, which take turns. Yields what is done."""
    for way in WAYS:
        with ExitStack() as stack:
            folder = stack.enter_context(temporary_root("buckets-"))
            servers = []
            for count in counts:
                httpd = Httpd(_FEW_CHILDREN + _CONFIGS[way](bucket, count, folder), tune=True)
                begun = time.perf_counter()
                stack.enter_context(httpd)
                servers.append((httpd, Growth(way, count, time.perf_counter() - begun)))
            for httpd, growth in servers:
                _warm_up(httpd, growth, seconds)
            for _ in range(rounds):
                for httpd, growth in servers:
                    load = _load(httpd, growth, seconds)
                    growth.requests_per_second.append(load.requests / load.seconds)
            for httpd, growth in servers:
                growth.each = memory(apache.pid(httpd)).private_each
                yield growth


def _warm_up(httpd: Httpd, growth: Growth, seconds: float) -> None:
    """Let each child do what it does once for each bucket: parse settings, look up keys."""
    wanted = _OFTEN * growth.buckets * _CHILDREN
    deadline = time.monotonic() + _LONG * seconds
    while wanted > 0 and time.monotonic() < deadline:
        wanted -= _load(httpd, growth, seconds).requests


def _load(httpd: Httpd, growth: Growth, seconds: float) -> Load:
    load = wrk(f"{httpd.url}/many/", _CONNECTIONS, seconds, "buckets", growth.buckets, "1k")
    growth.failures += load.failures
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
    """The first of mod_proxy's workers: those of all longer URLs share it, and so its connections."""
    return apache.unsigned("/shared", f"{bucket.origins['http']}/", "enablereuse=on keepalive=on")


def _map(bucket: Bucket, count: int, folder: Path) -> str:
    """One mount: the first part of the path finds a bucket's URL and keys in a file; httpd keeps what it has found."""
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
<Location /many>{apache.HOW_TO_SIGN}
</Location>
"""


_CONFIGS: dict[str, Callable[[Bucket, int, Path], str]] = {
    LOCATIONS: _locations,
    SECTIONS: _sections,
    UNSIGNED: _unsigned,
    MAP: _map,
}
