"""hls.js, dash.js and shaka-player in Chromium play a ladder out of a private bucket, through the whole chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import browser
from tests.chain import ladder, players, stage
from tests.chain.client import fetch
from tests.chain.ladder import LADDER, PACKAGED, PLAIN, RENDITIONS
from tests.chain.packager import Packager
from tests.chain.players import FORMATS, Fetched, Page
from tests.chain.stage import MEDIA, Stage

LOWEST, _, HIGHEST = RENDITIONS
REASON = stage.missing() or players.missing()

pytestmark = [pytest.mark.chain, pytest.mark.skipif(bool(REASON), reason=REASON)]


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    try:
        with browser.start() as tried:
            tried.version()
    except browser.NoBrowser as reason:
        pytest.skip(str(reason))
    with players.site() as url:
        yield url


@pytest.fixture(scope="module")
def chain() -> Iterator[Stage]:
    """nginx as shield and as storage cache, and a gateway mount."""
    with stage.running() as running:
        yield running
    assert running.httpd.unexpected == []


@pytest.fixture(scope="module")
def other_chain() -> Iterator[Stage]:
    """Varnish as shield and as storage cache, and a <Proxy> section."""
    if reason := stage.missing(shield="varnish", storage="varnish"):
        pytest.skip(reason)
    with stage.running(shield="varnish", storage="varnish", way="proxy") as running:
        yield running
    assert running.httpd.unexpected == []


def url_of(chain: Stage, source: str, file: str) -> str:
    """The URL that a player opens."""
    return chain.url(f"{PACKAGED if source == 'packager' else PLAIN}/{file}", packaged=source == "packager")


def play(site: str, player: str, url: str) -> list[Fetched]:
    """Play, switch up, seek forward and back, switch down, and play to the end; returns what the player has fetched."""
    with browser.start() as tab:
        page = Page(tab, site, player, url)
        page.call("chain.start(2)")
        page.wait_for_width(LOWEST.width)
        page.wait("chain.state().time > 1")
        page.call("chain.switchTo(2)")
        page.wait_for_width(HIGHEST.width)
        # Back to where nothing is buffered: in a range that is, dash.js 5.2.1 on a busy machine sometimes loads what
        # follows the other range, and waits for ever at the end of this one.
        # https://github.com/Dash-Industry-Forum/dash.js/issues/2187 reports that of older versions.
        page.seek(23)
        page.seek(16)
        page.call("chain.switchTo(0)")
        page.wait_for_width(LOWEST.width)
        page.seek(ladder.SECONDS - 5)
        page.wait("chain.state().ended")
        state = page.state()
        assert state["errors"] == []
        assert state["time"] == pytest.approx(ladder.SECONDS, abs=0.2)
        # Both were decoded, and not only loaded.
        assert page.call("document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames") > 100
        assert page.call("document.querySelector('video').webkitAudioDecodedByteCount") > 10_000
        return page.fetched()


def assert_right_bytes(chain: Stage, fetched: list[Fetched]) -> None:
    """Assert that each file that a player fetched has the bytes of the object, or of what is made of the object.

    What the packager makes is compared with what another one makes, which reads from the signing virtual host; its
    samples are compared with those of the objects in test_packager.py.
    """
    assert len(fetched) > 20
    assert {one.status for one in fetched} == {200}
    packaged = chain.url("", packaged=True)
    paths = sorted({one.url.removeprefix(packaged) for one in fetched if one.url.startswith(packaged)})
    expected = {}
    if paths:
        with Packager(f"http://127.0.0.1:{chain.httpd.signing_port}/bucket/") as fresh:
            for path in paths:
                response = fetch(fresh.port, f"/{path}")
                assert response.status == 200
                expected[packaged + path] = response.body
    else:
        expected = {chain.url(key): file.read_bytes() for key, file in chain.files.items()}
    wrong = [one.url for one in fetched if one.sha256 != hashlib.sha256(expected[one.url]).hexdigest()]
    assert wrong == []


CASES = [
    pytest.param(player, file, source, id=f"{player}-{file}-{source}")
    for player, files in FORMATS.items()
    for file in files
    for source in ("packager", "objects")
]


@pytest.mark.parametrize(("player", "file", "source"), CASES)
def test_a_player(chain: Stage, site: str, player: str, file: str, source: str) -> None:
    fetched = play(site, player, url_of(chain, source, file))
    assert_right_bytes(chain, fetched)
    # All three renditions, or their sound: the lowest, and the highest after the switch.
    folders = {"objects": ("stream0-", "stream2-", "stream3-"), "packager": ("180p/", "540p/", "audio")}[source]
    assert [name for name in folders if not any(name in one.url for one in fetched)] == []


@pytest.mark.parametrize("source", ["packager", "objects"])
def test_a_second_play_costs_no_object(chain: Stage, site: str, source: str) -> None:
    """A second viewer, whose browser has nothing: S3 gets no request but revalidations."""
    url = url_of(chain, source, "main.m3u8")
    whole_play(site, url)
    chain.clear()
    fetched = whole_play(site, url)
    requests = chain.s3.requests()
    assert [entry for entry in requests if entry["status"] != 304] == []
    assert len(requests) <= 10  # playlists, and the indexes of the packager
    counters = chain.counters()
    assert counters["edge"].requests == counters["shield"].requests >= len(fetched)
    assert counters["shield"].misses <= 6  # playlists whose time is over, if the next link has not revalidated them
    assert counters["public"].bytes < 20_000
    assert counters["s3"].bytes == 0


def whole_play(site: str, url: str) -> list[Fetched]:
    """Play from the beginning to the end with hls.js, eight times as fast, in the highest rendition."""
    with browser.start() as tab:
        page = Page(tab, site, "hls.js", url, level=2)
        page.call("chain.start(8)")
        page.wait("chain.state().ended")
        assert page.state()["errors"] == []
        return page.fetched()


@pytest.mark.parametrize("source", ["packager", "objects"])
@pytest.mark.parametrize("player", ["hls.js", "dash.js"])
def test_with_varnish_and_a_proxy_section(other_chain: Stage, site: str, player: str, source: str) -> None:
    fetched = play(site, player, url_of(other_chain, source, FORMATS[player][0]))
    assert_right_bytes(other_chain, fetched)


#: What a page of another site requests, and the status that it must be able to see. Only "Range: bytes=N-" and plain
#: requests need no preflight: https://fetch.spec.whatwg.org/#cors-safelisted-request-header
CROSS_SITE: list[tuple[str, dict[str, str], int, bool]] = [
    ("OBJECT", {}, 200, False),
    ("OBJECT", {"Range": "bytes=0-9"}, 206, False),
    ("OBJECT", {"Range": "bytes=-9"}, 206, True),
    ("OBJECT", {"If-None-Match": "ETAG"}, 304, True),
    ("OBJECT", {"Range": "bytes=5-9", "If-Range": "ETAG"}, 206, True),
    ("OBJECT", {"Range": "bytes=99999999-"}, 416, False),
    ("NONE", {}, 404, False),
]


@pytest.mark.parametrize("chain_name", ["chain", "other_chain"])
@pytest.mark.parametrize("source", ["packager", "objects"])
def test_a_page_of_another_site_sees_each_status(
    request: pytest.FixtureRequest, site: str, chain_name: str, source: str
) -> None:
    running: Stage = request.getfixturevalue(chain_name)
    playlist = fetch(running.port, f"{MEDIA}/packaged/{LADDER}/180p/video.m3u8").body.decode()
    segment = next(line for line in playlist.splitlines() if line.endswith("video-3.m4s"))
    if source == "packager":
        target, none = (running.url(f"{LADDER}/180p/{name}", packaged=True) for name in (segment, "none/video-1.m4s"))
    else:
        target, none = (running.url(f"{PLAIN}/{name}") for name in ("chunk-stream0-00003.m4s", "none.m4s"))
    with browser.start() as tab:
        tab.open(f"{site}/player.html?player=none")
        tab.wait_until("!!window.chain && document.readyState === 'complete'")
        etag = header_of(tab, target, "ETag")
        assert etag.startswith('"')
        for name, headers, status, needs_preflight in CROSS_SITE:
            url = {"OBJECT": target, "NONE": none}[name]
            values = {key: value.replace("ETAG", etag) for key, value in headers.items()}
            before = preflights(running)
            seen = page_fetch(tab, url, values)
            assert seen["status"] == status, (name, headers, seen)
            assert (preflights(running) > before) == needs_preflight, (name, headers)
            if status in {206, 416}:
                assert seen["range"], headers  # Content-Range can be read: Access-Control-Expose-Headers


def preflights(chain: Stage) -> int:
    """How many preflight requests have reached httpd."""
    entries = stage.json_lines(chain.httpd.root / "access.json")
    return sum(entry["method"] == "OPTIONS" and entry["status"] == 204 for entry in entries)


def page_fetch(tab: browser.Browser, url: str, headers: dict[str, str]) -> dict[str, Any]:
    """Fetch in the page, past its cache. Raises: BrowserError: the browser does not show it to the page."""
    options = json.dumps({"headers": headers, "cache": "no-store", "mode": "cors"})
    seen: dict[str, Any] = tab.evaluate(
        f"fetch({json.dumps(url)}, {options}).then(async (response) => ({{status: response.status, "
        "range: response.headers.get('Content-Range'), bytes: (await response.arrayBuffer()).byteLength}))"
    )
    return seen


def header_of(tab: browser.Browser, url: str, name: str) -> str:
    """A header of the response that the page can read."""
    script = f"fetch({json.dumps(url)}).then((response) => response.headers.get({json.dumps(name)}))"
    return str(tab.evaluate(script))
