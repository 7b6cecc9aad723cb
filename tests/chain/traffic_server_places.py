"""Traffic Server in one of its two places, for its tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.chain.client import Response, fetch, fetch_at_once, shown
from tests.chain.engines import CDN_SECRET, TRAFFIC_SERVER
from tests.chain.programs import WAIT
from tests.chain.signing import Bucket, Signing
from tests.chain.storage_chain import FAILURES
from tests.chain.traffic_server import TrafficServer

PLACES = ("storage cache", "shield")
#: The header of a small range.
RANGE = {"range": "bytes=5-9"}


@dataclass(frozen=True)
class Place:
    """Traffic Server in one of its two places."""

    name: str
    signing: Signing
    cache: TrafficServer

    def target(self, key: str) -> str:
        """The path of an object."""
        return f"/{'media' if self.name == 'shield' else 'bucket'}/{key}"

    def fetch(self, key: str, method: str = "GET", **headers: str) -> Response:
        """Send a request, as the CDN does in front of the shield."""
        return fetch(self.cache.port, self.target(key), method, **self._headers(headers))

    def shown(self, key: str, **headers: str) -> tuple[int, bytes]:
        """The status and the body of a response, which must be complete."""
        return shown(self.fetch(key, **headers))

    def status(self, key: str, **headers: str) -> int:
        """The status of a response."""
        return self.fetch(key, **headers).status

    def fetch_at_once(self, number: int, key: str, **headers: str) -> list[Response]:
        """Send many at the same moment."""
        return fetch_at_once(number, self.cache.port, [self.target(key)], **self._headers(headers))

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"x_cdn_secret": CDN_SECRET, **headers} if self.name == "shield" else dict(headers)


@contextmanager
def running(
    name: str,
    way: str,
    bucket: Bucket,
    changes: Mapping[str, str] | None = None,
    *,
    httpd: Mapping[str, str] | None = None,
    fails: bool = False,
) -> Iterator[Place]:
    """Start httpd and Traffic Server. ``changes``, ``httpd``: in their files. ``fails``: httpd's log says so."""
    signing = Signing(way, bucket, has_storage_cache=name != "shield", changes=httpd)
    if fails:
        signing.expect_error(FAILURES)
    with signing:
        shield = name == "shield"
        program = (
            TRAFFIC_SERVER.shield(signing.port, changes) if shield else TRAFFIC_SERVER.storage_cache(signing, changes)
        )
        assert isinstance(program, TrafficServer)
        with program as cache:
            yield Place(name, signing, cache)
    assert signing.unexpected == []


def wait_for(read: Callable[..., Any], *arguments: Any, expected: object, **headers: str) -> None:
    """Call this again until it returns what is expected."""
    deadline = time.monotonic() + WAIT
    while read(*arguments, **headers) != expected:
        assert time.monotonic() < deadline
        time.sleep(0.2)
