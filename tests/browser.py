"""A headless Chromium, driven through its DevTools pipe: without a port or a library.

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
from pathlib import Path
from types import TracebackType
from typing import Any

#: Seconds in which the browser must respond.
LIMIT = 30.0
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


class BrowserError(Exception):
    """The browser reported an error, or did not respond."""


class NoBrowser(Exception):
    """No browser is installed, or it does not start."""


def start(stopped: Callable[[], bool] = lambda: False) -> Browser:
    """Return a browser for a ``with`` statement. Raises: NoBrowser: none is installed.

    ``stopped``: called while the browser is waited for; if it returns True the call ends with a BrowserError.
    """
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        raise NoBrowser(f"none of {', '.join(NAMES)} is installed")
    return Browser(program, stopped)


class Browser:
    """A browser with a temporary profile; all of its processes end with it.

    ``events``: the messages that the browser has sent by itself, such as those of the console, as far as
    they are enabled.
    """

    def __init__(self, program: str, stopped: Callable[[], bool]) -> None:
        self._program, self._stopped = program, stopped
        self._session: dict[str, str] = {}
        self._id = 0
        self._unread = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        self._home = tempfile.mkdtemp(prefix="usp-s3-browser-")
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

    def version(self) -> str:
        """Return the name and the version of the browser. Raises: NoBrowser: it does not start."""
        try:
            return str(self.call("Browser.getVersion")["product"])
        except BrowserError as error:
            raise NoBrowser(f"{self._program} does not start ({error})") from error

    def open(self, url: str) -> None:
        """Open a page in a new tab; later calls apply to this tab."""
        self._session = {}
        target = self.call("Target.createTarget", url=url)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, or of its promise. Raises: BrowserError, also of the script."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    def wait_until(self, expression: str, seconds: float = LIMIT) -> None:
        """Wait until a JavaScript expression is true. Raises: BrowserError: it is not within these seconds."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                raise BrowserError(f"not within {seconds:g} s: {expression}")
            time.sleep(0.05)

    def screenshot(self, file: Path, **parameters: Any) -> None:
        """Save a screenshot of the whole page. ``parameters``: further ones of Page.captureScreenshot."""
        result = self.call("Page.captureScreenshot", captureBeyondViewport=True, **parameters)
        file.write_bytes(base64.b64decode(result["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result. Raises: BrowserError."""
        self._send(method, parameters)
        deadline = time.monotonic() + LIMIT
        while (response := self._message(deadline)).get("id") != self._id:
            self.events.append(response)
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
