"""The start page in a headless browser.

``--dump-dom`` prints the page at its load event, before its checks are done, and virtual time does not work with a film
that plays in real time. Through the DevTools pipe we can wait for the page's own result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.browser import Browser, BrowserError, NoBrowser, start

__all__ = ["BrowserError", "NoBrowser", "PageResult", "visit"]

#: Seconds in which the page must have its result.
RESULT = 60.0
STATE = "JSON.stringify([document.documentElement.dataset.demo, document.getElementById('summary')?.innerText])"


@dataclass(frozen=True, slots=True)
class PageResult:
    """The result of the page's checks."""

    browser: str
    outcome: str
    summary: str


def visit(url: str, screenshot: Path | None, stopped: Callable[[], bool]) -> PageResult:
    """Open the start page and wait for the result of its checks. Raises: NoBrowser, BrowserError."""
    with start(stopped) as browser:
        version = browser.version()
        browser.open(url)
        outcome, summary = wait_for_result(browser)
        if screenshot:
            browser.screenshot(screenshot)
        return PageResult(version, outcome, summary)


def wait_for_result(browser: Browser) -> tuple[str, str]:
    """Wait for the page's result; returns it and its summary."""
    deadline = time.monotonic() + RESULT
    while time.monotonic() < deadline:
        # Until the page is loaded, the value is null or an error of the script.
        value = browser.call("Runtime.evaluate", expression=STATE)["result"].get("value", "[null, null]")
        outcome, summary = json.loads(value)
        if outcome in {"ok", "failed"}:
            return outcome, summary
        time.sleep(0.1)
    raise BrowserError(f"the page has no result within {RESULT:g} s")
