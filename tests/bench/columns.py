"""The columns of the tables: the compared proxies and their URLs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.bench import apache, nginx
from tests.bench.bucket import ROUTES, Bucket, Route
from tests.bench.client import Client
from tests.bench.server import BenchError
from tests.bench.traffic_server import traffic_server
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd

GATEWAY = "gateway"
SIGNER = "<Proxy> signer"
UNSIGNED = "mod_proxy unsigned"
BUFFERED = f"{UNSIGNED}, 128 KB buffer"
NGINX = "nginx unsigned"
TRAFFIC_SERVER = "Traffic Server s3_auth"
DIRECT = "direct"
NAMES = (GATEWAY, SIGNER, UNSIGNED, BUFFERED, NGINX, TRAFFIC_SERVER, DIRECT)


@dataclass(frozen=True, slots=True)
class Column:
    """``bases``: the URL for each route. ``pid``: the parent process of the proxy; None for the bucket itself."""

    name: str
    bases: dict[Route, str]
    pid: int | None

    def url(self, route: Route, key: str) -> str:
        """The URL of an object."""
        return f"{self.bases[route]}/{key}"


@contextmanager
def columns(bucket: Bucket) -> Iterator[tuple[list[Column], Httpd]]:
    """Start all compared proxies, in the order of :data:`NAMES`; one httpd is four of them."""
    default, buffered = free_port(), free_port()
    with (
        Httpd(apache.all_sections(bucket, default, buffered), tune=True) as httpd,
        nginx.proxy(bucket) as (nginx_url, nginx_pid),
    ):
        httpd_pid = apache.pid(httpd)
        with traffic_server(bucket) as (traffic_server_url, traffic_server_pid):
            urls = {
                GATEWAY: (f"{httpd.url}/gateway", httpd_pid),
                SIGNER: (f"{httpd.url}/signer", httpd_pid),
                UNSIGNED: (f"http://127.0.0.1:{default}/unsigned", httpd_pid),
                BUFFERED: (f"http://127.0.0.1:{buffered}/unsigned", httpd_pid),
                NGINX: (nginx_url, nginx_pid),
                TRAFFIC_SERVER: (traffic_server_url, traffic_server_pid),
            }
            compared = [_column(name, base, pid) for name, (base, pid) in urls.items()]
            yield [*compared, Column(DIRECT, {route: bucket.open(route) for route in ROUTES}, None)], httpd


@contextmanager
def separate_servers(bucket: Bucket) -> Iterator[list[Column]]:
    """Start a separate server for each column, to measure its memory."""
    configs = {
        GATEWAY: ("gateway", apache.gateways(bucket)),
        SIGNER: ("signer", apache.verify_tls(bucket) + apache.signers(bucket)),
        UNSIGNED: ("unsigned", apache.verify_tls(bucket) + apache.unsigned_proxies(bucket)),
    }
    with ExitStack() as stack:
        servers = []
        for name, (mount, config) in configs.items():
            httpd = stack.enter_context(Httpd(apache.KEEP_CHILDREN + config, tune=True))
            servers.append(_column(name, f"{httpd.url}/{mount}", apache.pid(httpd)))
        servers.append(_column(NGINX, *stack.enter_context(nginx.proxy(bucket))))
        servers.append(_column(TRAFFIC_SERVER, *stack.enter_context(traffic_server(bucket))))
        yield servers


def _column(name: str, base: str, pid: int) -> Column:
    return Column(name, {route: f"{base}/{route}" for route in ROUTES}, pid)


def verify(column: Column, bucket: Bucket) -> None:
    """Check that a column serves the right bytes of each object on each route. Raises: BenchError."""
    for route in ROUTES:
        with Client(column.url(route, ""), bucket.ca) as client:
            for key, digest in bucket.digests.items():
                received = hashlib.sha256()
                response = client.get(column.url(route, key), received.update)
                if response.status != 200 or received.hexdigest() != digest:
                    raise BenchError(f"{column.name}: {column.url(route, key)} is wrong ({response})")


def verify_signature_required(bucket: Bucket) -> None:
    """Check that the bucket rejects unsigned requests. Raises: BenchError."""
    for route in ROUTES:
        url = f"{bucket.signed(route)}/1k"
        with Client(url, bucket.ca) as client:
            if client.get(url).status != 403:
                raise BenchError(f"{url} is served without a signature")
