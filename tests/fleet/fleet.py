"""Nodes behind HAProxy, the S3 servers behind the nodes, and the load of a scenario."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fleet.haproxy import HaProxy
from tests.fleet.load import KB, MB, Load
from tests.fleet.network import HUB, Network
from tests.fleet.node import Node
from tests.httpd.conftest import BUCKET
from tests.httpd.processes import mpm_lines
from tests.s3 import EmbeddedS3
from tests.servers.rclone import Rclone

SIZES = {"1k": KB, "64k": 64 * KB, "6m": 6 * MB}
#: The ways in, in turn.
WAYS = ("gateway", "proxy")
#: How often an object is requested. The embedded S3 serves some dozens of requests per second, so most are for rclone.
_WEIGHTS = {("rclone", "1k"): 75.0, ("rclone", "64k"): 22.0, ("rclone", "6m"): 1.0, ("swift", "1k"): 1.0,
            ("swift", "64k"): 1.0}  # fmt: skip
_CLIENTS, _SLOW_CLIENTS = 16, 5
#: Two children at the start, and as much room for those that finish their responses as mpm_event.conf leaves.
_CHILDREN = mpm_lines(4, 16, start=2)
_ACCESS_LOG = 'CustomLog "${ROOT}/access.log" "%h %U"\n'


@dataclass(frozen=True, slots=True)
class Stores:
    """The S3 servers. rclone checks signatures too, and serves far more requests per second than the embedded S3."""

    network: Network
    swift: EmbeddedS3
    rclone: Rclone
    #: The bytes by size.
    objects: dict[str, bytes]


@contextmanager
def stores(network: Network) -> Iterator[Stores]:
    """Start the S3 servers, and store the objects."""
    objects = {name: os.urandom(size) for name, size in SIZES.items()}
    with EmbeddedS3(buckets=(BUCKET,), address=HUB) as swift, Rclone(HUB) as rclone:
        (rclone.root / "data" / BUCKET).mkdir()
        for name, data in objects.items():
            swift.put(BUCKET, name, data)
            (rclone.root / "data" / BUCKET / name).write_bytes(data)
        yield Stores(network, swift, rclone, objects)


def bucket(way: str, name: str, url: str, *lines: str) -> str:
    """A bucket at /way/name, with the settings in ``lines``."""
    body = "\n".join([*lines, "SetEnv S3UseHeaders on"])
    if way == "gateway":
        section = f"<Location /gateway/{name}>\nSetEnv S3BucketURL {url}/\n{body}\n</Location>\n"
        return f"WSGIScriptAlias /gateway/{name} ${{USP_S3_WSGI}}\n{section}"
    proxy_set = "ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300"
    return f'ProxyPass /proxy/{name} {url}\n<Proxy "{url}/">\n{body}\n{proxy_set}\n</Proxy>\n'


def keys(access_key: str, secret_key: str, region: str) -> tuple[str, ...]:
    """The settings of a key pair."""
    return (f"SetEnv S3AccessKey {access_key}", f"SetEnv S3SecretKey {secret_key}", f"SetEnv S3Region {region}")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The running nodes; the first one is number 1."""

    stores: Stores
    nodes: list[Node]
    haproxy: HaProxy

    def load(self) -> Load:
        """The clients of a scenario."""
        targets = {f"/{way}/{store}/{size}": weight for (store, size), weight in _WEIGHTS.items() for way in WAYS}
        return Load(
            HUB,
            {target: self.stores.objects[target.rpartition("/")[2]] for target in targets},
            list(targets.values()),
            clients=_CLIENTS,
            slow=_SLOW_CLIENTS,
            slow_targets=[f"/{way}/rclone/6m" for way in WAYS],
        )


@contextmanager
def fleet(
    found: Stores, number: int, *further: str, children: str = _CHILDREN, preload: Path | None = None
) -> Iterator[Fleet]:
    """Start the nodes and HAProxy. ``further``: lines of each node's configuration; ``preload``: for LD_PRELOAD."""
    config = children + _ACCESS_LOG + "\n".join(further)
    for way in WAYS:
        for name, server, access_key, secret_key in (
            ("swift", found.swift, found.swift.access_key, found.swift.secret_key),
            ("rclone", found.rclone, found.rclone.keys.access_key, found.rclone.keys.secret_key),
        ):
            config += bucket(way, name, f"{server.url}/{BUCKET}", *keys(access_key, secret_key, server.region))
    with ExitStack() as stack:
        nodes = []
        for index in range(number):
            node = Node(index + 1, found.network, config, preload)
            stack.callback(node.remove)
            node.start()
            nodes.append(node)
        balancer = stack.enter_context(HaProxy(*(node.address for node in nodes)))
        yield Fleet(found, nodes, balancer)
