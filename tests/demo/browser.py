"""The start page in a headless Chromium, driven through its DevTools pipe.

``--dump-dom`` prints the page at its load event, before its checks are done, and virtual time does not work with a film
that plays in real time. Through the pipe we can wait for the page's own result, without a port or a library.
https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

#: Time limits in seconds: for a response of the browser, and for the result of the page.
START, RESULT = 30.0, 60.0
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: No sandbox, which does not work as root. Only loopback: no names, no proxy, no background services.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --mute-audio "
    "--disable-background-networking --disable-component-update --disable-sync --disable-default-apps "
    "--disable-extensions --disable-breakpad --no-pings --no-proxy-server --window-size=1280,1000 "
    "--disable-features=MediaRouter,OptimizationHints --remote-debugging-pipe"
).split()
ONLY_LOOPBACK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
#: Chromium expects the pipes as file descriptors 3 and 4, which subprocess cannot set.
EXEC_WITH_PIPES = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
STATE = "JSON.stringify([document.documentElement.dataset.demo, document.getElementById('summary')?.innerText])"


class BrowserError(Exception):
    """The browser reported an error, or did not respond."""


class NoBrowser(Exception):
    """No browser is installed, or it does not start."""


@dataclass(frozen=True, slots=True)
class PageResult:
    """The result of the page's checks."""

    browser: str
    outcome: str
    summary: str


def visit(url: str, screenshot: Path | None, stopped: Callable[[], bool]) -> PageResult:
    """Open the start page and wait for the result of its checks. Raises: NoBrowser, BrowserError."""
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        raise NoBrowser(f"none of {', '.join(NAMES)} is installed")
    with Browser(program, stopped) as browser:
        try:
            version = browser.call("Browser.getVersion", START)["product"]
        except BrowserError as error:
            raise NoBrowser(f"{program} does not start ({error})") from error
        browser.open(url)
        outcome, summary = browser.wait_for_result()
        if screenshot:
            browser.screenshot(screenshot)
        return PageResult(version, outcome, summary)


class Browser:
    """A browser with a temporary profile; all of its processes end with it."""

    def __init__(self, program: str, stopped: Callable[[], bool]) -> None:
        self._program, self._stopped = program, stopped
        self._session: dict[str, str] = {}
        self._id = 0
        self._unread = b""

    def __enter__(self) -> Browser:
        self._home = tempfile.mkdtemp(prefix="usp-s3-demo-browser-")
        to_browser, self._requests = pipe()
        self._responses, from_browser = pipe()
        os.set_blocking(self._responses, False)
        # Caches, fonts and sockets go to the folder of the profile.
        folders = {
            "HOME": self._home,
            "TMPDIR": self._home,
            "XDG_CONFIG_HOME": self._home,
            "XDG_CACHE_HOME": self._home,
        }
        launch = [sys.executable, "-c", EXEC_WITH_PIPES, str(to_browser), str(from_browser), self._program]
        self._process = subprocess.Popen(
            [*launch, *FLAGS, ONLY_LOOPBACK, f"--user-data-dir={self._home}/profile", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._home,
            env={**os.environ, **folders}, pass_fds=(to_browser, from_browser), start_new_session=True,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Browser.close ends most of its processes; then kill the process group, because some may be left.
        with suppress(BrowserError, subprocess.TimeoutExpired):
            self._session = {}
            self._send("Browser.close", {})
            self._process.wait(timeout=5)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)
        os.close(self._requests)
        os.close(self._responses)
        for _ in range(20):  # a killed process may still write for a moment
            shutil.rmtree(self._home, ignore_errors=True)
            if not os.path.exists(self._home):
                break
            time.sleep(0.1)

    def open(self, url: str) -> None:
        """Open the page in a tab; later calls apply to this tab."""
        target = self.call("Target.createTarget", START, url=url)["targetId"]
        attached = self.call("Target.attachToTarget", START, targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def wait_for_result(self) -> tuple[str, str]:
        """Wait for the page's result; returns it and its summary."""
        deadline = time.monotonic() + RESULT
        while time.monotonic() < deadline:
            # Until the page is loaded, the value is null or an error of the script.
            value = self.call("Runtime.evaluate", START, expression=STATE)["result"].get("value", "[null, null]")
            outcome, summary = json.loads(value)
            if outcome in {"ok", "failed"}:
                return outcome, summary
            time.sleep(0.1)
        raise BrowserError(f"the page has no result within {RESULT:g} s")

    def screenshot(self, file: Path) -> None:
        """Save a screenshot of the whole page."""
        result = self.call("Page.captureScreenshot", START, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(result["data"]))

    def call(self, method: str, timeout: float, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result. Raises: BrowserError."""
        self._send(method, parameters)
        deadline = time.monotonic() + timeout
        while (response := self._message(deadline)).get("id") != self._id:
            pass  # an event
        if "error" in response:
            raise BrowserError(f"{method}: {response['error'].get('message')}")
        result: dict[str, Any] = response["result"]
        return result

    def _send(self, method: str, parameters: dict[str, Any]) -> None:
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters, **self._session}
        try:
            os.write(self._requests, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise BrowserError("the browser has ended by itself") from None

    def _message(self, deadline: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._responses, selectors.EVENT_READ)
            while b"\0" not in self._unread:
                if self._stopped() or time.monotonic() > deadline:
                    raise BrowserError("stopped" if self._stopped() else "no response in time")
                if selector.select(0.2):
                    piece = os.read(self._responses, 1 << 16)
                    if not piece:
                        raise BrowserError("the browser has ended by itself")
                    self._unread += piece
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


def pipe() -> tuple[int, int]:
    """A pipe with high descriptor numbers, so that neither end occupies 3 or 4."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]
