"""The page in a headless Chromium: play the film, press the buttons, take the screenshot of the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import browser
from tests.browser import Browser
from tests.chain.demo.run import LINKS, Demo

_FIRST_ROW = '[...document.querySelectorAll("#results tr:first-child td")].map((cell) => cell.textContent)'


@contextmanager
def opened(demo: Demo) -> Iterator[Browser]:
    """Open the page, and wait until it shows the links. Raises: NoBrowser, BrowserError."""
    with browser.start() as found:
        found.version()
        found.open(f"{demo.url}/")
        found.wait_until(f"document.querySelectorAll('#links > li').length === {len(LINKS)}")
        yield found


def play_until(page: Browser, second: float) -> None:
    """Play the film from its start until it has reached this second."""
    page.evaluate("document.getElementById('play').click()")
    page.wait_until(f"document.getElementById('film').currentTime > {second}", 60)


def press(page: Browser, herd: str) -> list[str]:
    """Press a button of the 200 clients; returns its row: requested, right answers, requests and bytes of S3."""
    page.evaluate(f"document.querySelector('[data-herd={herd}]').click()")
    page.wait_until("!document.querySelector('[data-herd]:disabled')", 100)
    return list(page.evaluate(_FIRST_ROW))


def take_screenshot(demo: Demo, file: Path) -> None:
    """Save a picture of the page after all buttons. Raises: NoBrowser, BrowserError."""
    with opened(demo) as page:
        page.call("Emulation.setDeviceMetricsOverride", width=1440, height=900, deviceScaleFactor=1, mobile=False)
        play_until(page, 3)
        for herd in demo.functions.herds:
            press(page, herd)
        # Two polls of the page later, no box has a colour any more.
        page.evaluate("document.getElementById('film').pause()")
        page.evaluate("new Promise((done) => setTimeout(done, 3000))")
        page.screenshot(file)
