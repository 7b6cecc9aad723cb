"""The page of ``make demo-chain`` in Chromium: it plays, its counters rise, and its buttons count what reaches S3."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.browser import Browser, NoBrowser
from tests.chain import stage
from tests.chain.client import fetch
from tests.chain.demo.browser import opened, play_until, press
from tests.chain.demo.run import CLIENTS, HLS_JS, Demo, running
from tests.chain.ladder import SECONDS

pytestmark = pytest.mark.chain
COUNTS = """Object.fromEntries([...document.querySelectorAll("#links > li")].map((box) => [box.id.slice(5),
  Object.fromEntries([...box.querySelectorAll("dd")].map((value) => [value.dataset.count, value.textContent]))]))"""


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    reason = stage.missing() or ("" if HLS_JS.exists() else "hls.js is not installed: tests/chain/install.sh")
    if reason:
        pytest.skip(reason)
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def page(demo: Demo) -> Iterator[Browser]:
    try:
        with opened(demo) as found:
            yield found
    except NoBrowser as error:
        pytest.skip(str(error))


def counts(page: Browser) -> dict[str, dict[str, str]]:
    """The numbers that the page shows, by link, once they do not change any more."""
    before: Any = None
    while before != (now := page.evaluate(f"new Promise((done) => setTimeout(() => done({COUNTS}), 1200))")):
        before = now
    return dict(now)


def store_all(demo: Demo) -> None:
    """Read each segment of each rendition, so that the caches have them whichever the player chooses."""
    port = int(demo.functions.media.rpartition(":")[2])
    waiting = [urlsplit(demo.functions.playlist).path]
    while waiting:
        target = waiting.pop()
        response = fetch(port, target)
        assert response.status == 200, target
        if target.endswith(".m3u8"):
            text = response.body.decode()
            named = [line for line in text.splitlines() if line and not line.startswith("#")]
            waiting += [urljoin(target, name) for name in [*named, *re.findall(r'URI="([^"]+)"', text)]]


def test_a_view_of_what_is_stored_costs_s3_no_bytes(demo: Demo, page: Browser) -> None:
    store_all(demo)
    before = counts(page)
    assert int(before["s3"]["requests"]) > 0
    play_until(page, 3)
    page.evaluate(f"document.getElementById('film').currentTime = {SECONDS - 3}")
    page.wait_until("document.getElementById('film').ended", 60)
    assert page.evaluate("document.getElementById('player-problem').hidden")
    assert page.evaluate("document.getElementById('quality').textContent") in {"180p", "360p", "540p"}
    after = counts(page)
    assert int(after["player"]["segments"]) > 5
    assert int(after["shield"]["hits"]) > int(before["shield"]["hits"])
    assert after["s3"]["bytes"] == before["s3"]["bytes"]


def test_200_clients_at_once(page: Browser) -> None:
    _, right, requests, sent = press(page, "object")
    assert (right, sent) == (f"{CLIENTS} of {CLIENTS}", "2.0 MB")
    assert int(requests) <= 2  # slices of 1 MB
    _, right, requests, sent = press(page, "range")
    assert (right, requests, sent) == (f"{CLIENTS} of {CLIENTS}", "1", "1.0 MB")
    _, right, requests, _ = press(page, "unprotected")
    assert (right, requests) == (f"{CLIENTS} of {CLIENTS}", str(CLIENTS))


@pytest.mark.parametrize("width", [390, 1100, 1500])
def test_the_page_fits(page: Browser, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


OTHER_SITE = {"Origin": "http://player.example.com"}


@pytest.mark.parametrize("headers", [{}, OTHER_SITE, {**OTHER_SITE, "Host": "player.example.com"}])
def test_a_page_of_another_site_cannot_send_the_clients(demo: Demo, headers: dict[str, str]) -> None:
    def requests_to_s3() -> int:
        return next(link.counts["requests"] for link in demo.functions.links() if link.id == "s3")

    before = requests_to_s3()
    connection = http.client.HTTPConnection(demo.url.removeprefix("http://"), timeout=20)
    connection.request("POST", "/herd/range", headers=headers)
    assert connection.getresponse().status == 404
    connection.close()
    assert requests_to_s3() == before
