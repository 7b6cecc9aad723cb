"""The soak test: a real httpd in front of an S3 that fails, and clients that check each byte, for some minutes.

    python -m tests.soak 3      # minutes

The exit status is 1 if a response was wrong, if the error log has an unexpected line, or if memory or open files grew
in the second half of the time. Only a long soak finds a slow leak: if the time was too short for a verdict, the report
says so, and that is not a failure. S3 has no faults until httpd has been reloaded: no request may fail before that.
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

from tests.httpd import metrics
from tests.httpd.server import Httpd
from tests.httpd.test_truncation import TRACEBACK
from tests.leaks import SECRET_KEY
from tests.soak.client import READ_TIMEOUT, Client, WrongResponse
from tests.soak.flaws import TIMEOUT
from tests.soak.operator import Operator
from tests.soak.report import Report, sample

CLIENTS = 8
FAULT_RATE = 0.08
#: Two children. ServerLimit is higher for those that finish their last responses after the reload.
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
#: Log lines for S3's faults: no "internal error", and a traceback only for a truncated body.
_EXPECTED = (
    r"usp_s3_wsgi: (?!.*internal error)",
    TRACEBACK,
    r"\[proxy(_http)?:error\]|\[proxy_http:warn\]",
)
#: glibc returns freed blocks of this size (its default) to the system at once. Otherwise the threshold grows, and glibc
#: keeps the gateway's read buffers in an arena per thread for many minutes, which would hide a slow leak.
_MMAP_THRESHOLD = "131072"
_PASSED = "passed: each byte was checked, no request failed during the reload, no child grew"


def _config(s3_port: int) -> str:
    url = f"http://127.0.0.1:{s3_port}/bucket"
    return f"""{CHILDREN}{metrics.CONFIG}
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
    """The faulty S3, in a process of its own."""

    def __enter__(self) -> S3Process:
        command = [sys.executable, "-m", "tests.soak.faulty_s3"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def set_fault_rate(self, rate: float) -> None:
        """Set the share of responses that are faulty."""
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
    """Run the clients, and watch httpd's children."""

    def __init__(self, httpd: Httpd, s3: S3Process, seconds: float) -> None:
        self._httpd, self._s3 = httpd, s3
        self.report = Report(seconds)
        self.errors: list[str] = []
        self._no_faults, self._stop = threading.Event(), threading.Event()
        self._begun = 0.0
        self.operator = Operator(httpd, self._fail)

    def _fail(self, message: str) -> None:
        self.errors.append(message)
        self._stop.set()

    @property
    def _now(self) -> float:
        return time.monotonic() - self._begun

    def run(self) -> None:
        """Run the clients until the time is up or a check fails."""
        self._no_faults.set()
        self._begun = time.monotonic()
        threads = [threading.Thread(target=self._client, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        self.operator.start()
        try:
            since = self._reload()
            self._watch(self.report.seconds)
        finally:
            self._stop.set()
            self.operator.stop()
        for thread in threads:
            thread.join(2 * READ_TIMEOUT)
            if thread.is_alive():
                self.errors.append("a request did not end")
        if not self.errors:
            self.errors += self.report.growth(since)

    def _client(self, number: int) -> None:
        client = Client(self._httpd.port, f"client {number}", self._no_faults.is_set)
        while not self._stop.is_set():
            try:
                mount, outcome = client.fetch()
                if outcome != "ok" and self._no_faults.is_set():
                    raise WrongResponse(f"a request to the {mount} failed ({outcome}), although S3 had no faults")
            except Exception as error:
                message = str(error) if isinstance(error, WrongResponse) else f"the client failed: {error!r}"
                mount, outcome = ("proxy" if "/proxy/" in message else "gateway"), "wrong"
                self._fail(message)
            self.report.count(self._now, mount, outcome)
        client.close()

    def _reload(self) -> float:
        """Reload httpd once without faults of S3, then start the faults; returns the time at which they started."""
        interval = min(5.0, self.report.seconds / 30)
        self._watch(interval)
        self._httpd.reload()
        self._watch(self._now + interval)
        since = self._now
        self._no_faults.clear()
        self._s3.set_fault_rate(FAULT_RATE)
        return since

    def _watch(self, until: float) -> None:
        interval = min(3.0, self.report.seconds / 60)
        while self._now < until and not self._stop.wait(interval):
            if not self._httpd.running:
                self._fail("httpd ended")
                return
            samples = [sample(self._now, child) for child in self._httpd.children()]
            self.report.samples += [one for one in samples if one is not None]


def main() -> int:
    """Run the soak, print the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("minutes", type=float, nargs="?", default=3.0)
    parser.add_argument(
        "--default-malloc", action="store_true", help="do not limit the freed memory that httpd's children keep"
    )
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    if not arguments.default_malloc:
        os.environ["MALLOC_MMAP_THRESHOLD_"] = _MMAP_THRESHOLD
    with S3Process() as s3, Httpd(_config(s3.port)) as httpd:
        for pattern in _EXPECTED:
            httpd.expect_error(pattern)
        soak = Soak(httpd, s3, seconds)
        soak.run()
    print(soak.report.table())
    print(soak.report.summary())
    for child, memory in soak.report.memories().items():
        print(f"memory of child {child} in the second half: {memory}")
    print(
        "malloc:",
        "default" if arguments.default_malloc else f"blocks of {_MMAP_THRESHOLD} bytes or more are returned at once",
    )
    ways = ", ".join(f"{soak.operator.total(way):.0f} exchanges of {way}" for way in ("gateway", "proxy"))
    print(f"operator: {soak.operator.scrapes} scrapes, no counter became less; {ways}")
    print("S3:", ", ".join(f"{name} {number}" for name, number in s3.played.items()))
    errors = _all_errors(soak, httpd)
    print("\n".join(f"ERROR: {error}" for error in errors) or _PASSED)
    return 1 if errors else 0


def _all_errors(soak: Soak, httpd: Httpd) -> list[str]:
    errors = soak.errors + [f"in the error log: {line}" for line in httpd.unexpected[:5]]
    if not errors and soak.report.failed("gateway") > soak.report.failed("proxy") / 2:
        errors.append("the gateway retries too few of S3's faults")
    return errors


if __name__ == "__main__":
    sys.exit(main())
