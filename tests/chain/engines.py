"""The caches that the tests of the chain compare, in each of their places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tests.chain.mod_cache_disk import ModCacheDisk
from tests.chain.programs import CHAIN, Nginx, Program, Varnish
from tests.chain.signing import SIGNING, Signing
from tests.chain.traffic_server import TrafficServer

#: Where the files of a shield say that the server is, and the secret of the CDN in them.
SERVER, CDN_SECRET = "192.0.2.10:80", "a-long-random-word"


@dataclass(frozen=True, slots=True)
class Engine:
    """A cache. ``file``: its name in apache/chain/storage_cache and in apache/chain/shield.

    ``has_slices``: it reads and stores parts of large objects, not whole ones. ``in_ci``: its tests are part of
    ``make test``, and not only of ``make chain``.
    """

    name: str
    program: type[Program]
    file: str
    has_slices: bool = False
    in_ci: bool = False

    def storage_cache(self, signing: Signing, changes: Mapping[str, str] | None = None) -> Program:
        """This cache between the two virtual hosts of an httpd; ``changes``: what an operator changes in its file."""
        backend = self.program.backend(SIGNING, signing.signing_port)
        file = CHAIN / "storage_cache" / self.file
        return self.program(file, {**backend, **(changes or {})}, port=signing.storage_port)

    def shield(self, server_port: int, changes: Mapping[str, str] | None = None) -> Program:
        """This cache in front of a server."""
        backend = self.program.backend(SERVER, server_port)
        return self.program(CHAIN / "shield" / self.file, {**backend, **(changes or {})})


NGINX = Engine("nginx", Nginx, "nginx.conf", has_slices=True, in_ci=True)
VARNISH = Engine("Varnish", Varnish, "varnish.vcl")
#: It stores each range alone. test_traffic_server.py has its tests.
TRAFFIC_SERVER = Engine("Traffic Server", TrafficServer, "trafficserver")
MOD_CACHE_DISK = Engine("mod_cache_disk", ModCacheDisk, "mod_cache_disk.conf")
STORAGE_CACHES = (NGINX, VARNISH)
SHIELDS = (NGINX, VARNISH, MOD_CACHE_DISK)


def parameters(engines: tuple[Engine, ...], ways: tuple[str, ...], *, slow: bool = False) -> list[object]:
    """Each engine with each way of signing, for pytest. Those that are not installed are skipped.

    ``slow``: only the first way is part of ``make test``.
    """
    return [
        pytest.param(
            (engine, way),
            id=f"{engine.name}-{way}",
            marks=[
                pytest.mark.skipif(bool(engine.program.missing()), reason=engine.program.missing()),
                *([] if engine.in_ci and not (slow and way != ways[0]) else [pytest.mark.chain]),
            ],
        )
        for engine in engines
        for way in ways
    ]
