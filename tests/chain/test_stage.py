"""The whole chain with each of its links left out or replaced, and its counters, which the players' tests rely on."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

from tests.chain import stage
from tests.chain.client import fetch
from tests.chain.ladder import LADDER, PACKAGED
from tests.chain.stage import Counters

pytestmark = pytest.mark.chain

CHAINS: list[dict[str, Any]] = [
    {"shield": "nginx", "origin": "packager", "storage": "nginx", "way": "gateway"},
    {"shield": "varnish", "origin": "packager", "storage": "varnish", "way": "proxy"},
    {"shield": "none", "origin": "packager", "storage": "none", "way": "gateway"},
    {"shield": "varnish", "origin": "none", "storage": "nginx", "way": "proxy"},
    {"shield": "none", "origin": "none", "storage": "varnish", "way": "gateway"},
]


@pytest.mark.parametrize("links", CHAINS, ids=lambda links: "-".join(links.values()))
def test_counters(links: dict[str, Any]) -> None:
    way = links["way"]
    without_way = {name: value for name, value in links.items() if name != "way"}
    if reason := stage.missing(**without_way):
        pytest.skip(reason)
    with stage.running(**without_way, way=way) as chain:
        key = f"{LADDER}/plain/chunk-stream1-00004.m4s"
        url = chain.url(key)
        port, path = chain.port, url[url.index("/", 8) :]
        digest = hashlib.sha256(chain.files[key].read_bytes()).digest()
        for number in range(4):
            response = fetch(port, path)
            assert (response.status, hashlib.sha256(response.body).digest()) == (200, digest), number
        size = chain.files[key].stat().st_size
        first_cache = next((name for name in ("shield", "storage") if name in chain.urls), "")
        counters = settled(chain, first_cache or "public", 4)
        if first_cache:
            assert counters[first_cache] == Counters(4, 3, 1, 0, 4 * size)
        assert counters["s3"].requests == counters["signing"].requests == (1 if first_cache else 4)
        assert counters["s3"].bytes == (size if first_cache else 4 * size)
        assert counters["public"].requests == (1 if links["shield"] != "none" else 4)
        assert set(counters) == set(chain.urls) <= set(stage.LINKS)
        if chain.packager:
            chain.clear()
            main = chain.url(f"{PACKAGED}/main.m3u8", packaged=True)
            assert fetch(port, main[main.index("/", 8) :]).status == 200
            counters = settled(chain, "packager", 1)
            assert counters["packager"].requests == 1
            assert counters["s3"].requests == 3  # the indexes of three renditions
    assert chain.httpd.unexpected == []


def settled(chain: stage.Stage, link: str, requests: int) -> dict[str, Counters]:
    """The counters, when this link has counted so many requests: programs count after they have sent the response."""
    deadline = time.monotonic() + 10
    while (counters := chain.counters())[link].requests < requests:
        assert time.monotonic() < deadline, counters
        time.sleep(0.05)
    return counters
