"""A soak of bounded length: a real httpd before an S3 that fails, clients that check each byte, what children hold.

    python -m tests.soak 3      # minutes

The exit status is 1 if an answer was wrong, if the error log has a line that no fault explains, or if memory or open
files grew in the last half of the time. A slow leak is seen in a long soak alone: what the time was too short for is
said, and is no failure. S3 fails in no answer until the reload is over: until then no request may fail.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType

from tests.httpd.server import Httpd
from tests.httpd.test_truncation import TRACEBACK
from tests.leaks import SECRET_KEY
from tests.soak.client import PATIENCE, Client, Wrong
from tests.soak.flaws import TIMEOUT
from tests.soak.report import Report, sample

CLIENTS = 8
RATE = 0.08
#: Two children for good. The places beyond two are for those that finish their last answers after the reload.
CHILDREN = """
StartServers 2
ServerLimit 4
ThreadsPerChild 16
MaxRequestWorkers 32
MinSpareThreads 1
MaxSpareThreads 32
KeepAliveTimeout 300
"""
_KEYS = f"""
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region eu-central-1
  SetEnv S3UseHeaders on
"""
#: What the two ways in say of S3's faults. No "internal error", and of a traceback only what ends a body.
_EXPECTED = (
    r"usp_s3_wsgi: (?!.*internal error)",
    TRACEBACK,
    r"\[proxy(_http)?:error\]|\[proxy_http:warn\]",
)
#: glibc gives freed memory of that size (its own default) back at once. Left alone it learns to keep the gateway's read
#: buffers in an arena for each thread, and fills these for many minutes: a slow leak would hide in that.
_LARGE = "131072"
_ALL_IS_WELL = "right: each byte was checked, no request failed for the reload, no child grew"


def _config(s3_port: int) -> str:
    url = f"http://127.0.0.1:{s3_port}/bucket"
    return f"""{CHILDREN}
WSGIScriptAlias /gateway ${{USP_S3_WSGI}}
<Location /gateway>
  SetEnv S3BucketURL {url}/{_KEYS}
  SetEnv S3ProxySet "timeout={TIMEOUT} retry=0"
</Location>
ProxyPass /proxy {url}
<Proxy "{url}/">{_KEYS}
  ProxySet timeout={TIMEOUT} retry=0 enablereuse=on keepalive=on
</Proxy>
"""


class S3Process:
    """The faulty S3, with an interpreter of its own."""

    def __enter__(self) -> S3Process:
        command = [sys.executable, "-m", "tests.soak.faulty_s3"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def fail(self, rate: float) -> None:
        """Let so many of its answers be flawed from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{rate}\n")
        self._process.stdin.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.played: dict[str, int] = {}
        with suppress(subprocess.TimeoutExpired):
            self.played = json.loads(self._process.communicate(timeout=10)[0] or "{}")
        self._process.kill()
        self._process.wait(10)


class Soak:
    """The clients at work, and what is watched meanwhile."""

    def __init__(self, httpd: Httpd, s3: S3Process, seconds: float) -> None:
        self._httpd, self._s3 = httpd, s3
        self.report = Report(seconds)
        self.complaints: list[str] = []
        self._calm, self._stop = threading.Event(), threading.Event()
        self._begun = 0.0

    @property
    def _now(self) -> float:
        return time.monotonic() - self._begun

    def run(self) -> None:
        """Let the clients ask until the time is up or something is wrong."""
        self._calm.set()
        self._begun = time.monotonic()
        threads = [threading.Thread(target=self._client, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            since = self._reload()
            self._watch(self.report.seconds)
        finally:
            self._stop.set()
        for thread in threads:
            thread.join(2 * PATIENCE)
            if thread.is_alive():
                self.complaints.append("a request did not end")
        if not self.complaints:
            self.complaints += self.report.growth(since)

    def _client(self, number: int) -> None:
        client = Client(self._httpd.port, f"client {number}", self._calm.is_set)
        while not self._stop.is_set():
            try:
                mount, outcome = client.ask()
                if outcome != "right" and self._calm.is_set():
                    raise Wrong(f"a request to the {mount} failed ({outcome}), though S3 did not fail")
            except Exception as error:
                wrong = str(error) if isinstance(error, Wrong) else f"the client failed: {error!r}"
                mount, outcome = ("proxy" if "/proxy/" in wrong else "gateway"), "wrong"
                self.complaints.append(wrong)
                self._stop.set()
            self.report.count(self._now, mount, outcome)
        client.close()

    def _reload(self) -> float:
        """Reload httpd once while all is well, then let S3 fail; returns when that was."""
        moment = min(5.0, self.report.seconds / 30)
        self._watch(moment)
        self._httpd.reload()
        self._watch(self._now + moment)
        since = self._now
        self._calm.clear()
        self._s3.fail(RATE)
        return since

    def _watch(self, until: float) -> None:
        pause = min(3.0, self.report.seconds / 60)
        while self._now < until and not self._stop.wait(pause):
            if not self._httpd.running:
                self.complaints.append("httpd ended")
                self._stop.set()
                return
            seen = [sample(self._now, child) for child in self._httpd.children()]
            self.report.samples += [one for one in seen if one is not None]


def main() -> int:
    """Soak, print table and verdict; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("minutes", type=float, nargs="?", default=3.0)
    parser.add_argument(
        "--usual-malloc", action="store_true", help="let httpd's children keep freed memory, as they do in service"
    )
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    if not arguments.usual_malloc:
        os.environ["MALLOC_MMAP_THRESHOLD_"] = _LARGE
    with S3Process() as s3, Httpd(_config(s3.port)) as httpd:
        for pattern in _EXPECTED:
            httpd.expect_error(pattern)
        soak = Soak(httpd, s3, seconds)
        soak.run()
    print(soak.report.table())
    print(soak.report.summary())
    for child, memory in soak.report.memories().items():
        print(f"memory of the child {child} in the last half: {memory}")
    print("malloc:", "as in service" if arguments.usual_malloc else f"gives back blocks from {_LARGE} bytes on")
    print("S3:", ", ".join(f"{name} {number}" for name, number in s3.played.items()))
    complaints = _complaints(soak, httpd)
    print("\n".join(f"WRONG: {complaint}" for complaint in complaints) or _ALL_IS_WELL)
    return 1 if complaints else 0


def _complaints(soak: Soak, httpd: Httpd) -> list[str]:
    complaints = soak.complaints + [f"in the error log: {line}" for line in httpd.unexpected[:5]]
    if not complaints and soak.report.failed("gateway") > soak.report.failed("proxy") / 2:
        complaints.append("the gateway hides too few of S3's faults")
    return complaints


if __name__ == "__main__":
    sys.exit(main())
