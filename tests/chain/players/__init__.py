"""hls.js, dash.js and shaka-player in a browser: a page on a site of its own that plays a URL of the chain."""

from __future__ import annotations

import functools
import http.server
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.browser import Browser
from tests.httpd.machine import serving

HERE = Path(__file__).resolve().parent
#: Which formats each player plays.
FORMATS = {"hls.js": ("main.m3u8",), "dash.js": ("manifest.mpd",), "shaka-player": ("main.m3u8", "manifest.mpd")}
#: Seconds in which a player must do what it was told.
WAIT = 45.0


def missing() -> str:
    """Why no player can be served; empty if they can."""
    return "" if (HERE / "node_modules").is_dir() else "the players are not installed: tests/chain/install.sh"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""


@contextmanager
def site() -> Iterator[str]:
    """Serve the page and the players on a port of their own, so that the chain is another site; yields the URL."""
    handler = functools.partial(_Quiet, directory=str(HERE))
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as port:
        yield f"http://127.0.0.1:{port}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A media file as a player has got it."""

    url: str
    status: int
    bytes: int
    sha256: str


class Page:
    """The page in a browser."""

    def __init__(self, browser: Browser, site_url: str, player: str, url: str, level: int = 0) -> None:
        """Open the page, and wait until the player has begun. ``level``: another rendition to begin with (hls.js)."""
        self._browser = browser
        browser.open(f"{site_url}/player.html?{urlencode({'player': player, 'url': url, 'level': level})}")
        self.wait("window.chain && chain.ready")

    def call(self, script: str) -> Any:
        """The value of an expression."""
        return self._browser.evaluate(script)

    def state(self) -> dict[str, Any]:
        """What is shown, and what went wrong."""
        found: dict[str, Any] = self.call("chain.state()")
        return found

    def wait(self, condition: str) -> None:
        """Wait for a condition. Raises: AssertionError: an error of the player, or it does not come true."""
        deadline = time.monotonic() + WAIT
        while not self.call(condition):
            errors = self.call("window.chain ? chain.errors : []")
            assert not errors, errors
            assert time.monotonic() < deadline, f"{condition}: {json.dumps(self.state())}"
            time.sleep(0.05)

    def wait_for_width(self, width: int) -> None:
        """Wait until the rendition with this width is shown."""
        self.wait(f"chain.state().width === {width}")

    def seek(self, seconds: float) -> None:
        """Seek, and wait until it plays from there."""
        self.call(f"chain.seek({seconds})")
        self.wait(
            f"!chain.state().seeking && chain.state().time > {seconds + 0.3} && chain.state().time < {seconds + 10}"
        )

    def fetched(self) -> list[Fetched]:
        """What the player has fetched until now."""
        self.wait("chain.pending === 0")
        return [Fetched(**entry) for entry in self.call("chain.fetched")]
