"""What an operator's programs ask of a busy server: metrics and health each second, the status page now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from tests.httpd import metrics
from tests.httpd.server import Httpd

#: Seconds between two scrapes, and scrapes between two looks at the status page.
INTERVAL, SCRAPES_PER_LOOK = 1.0, 10


class Operator:
    """Scrapes until it is stopped. ``scrapes``: how many. No counter may become less, also not at a reload."""

    def __init__(self, httpd: Httpd, report_error: Callable[[str], None]) -> None:
        self._httpd, self._report_error = httpd, report_error
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._last: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.scrapes = 0

    def start(self) -> None:
        """Begin to scrape."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the last scrape."""
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                with suppress(ConnectionError):  # at a reload
                    self._look()
            except Exception as error:
                self._report_error(f"the operator: {error!r}")
                return

    def _look(self) -> None:
        paths = ["/usp-s3/health/ready", "/usp-s3/metrics"]
        if self.scrapes % SCRAPES_PER_LOOK == 0:
            paths += ["/usp-s3/status", "/usp-s3/status/json"]
        for path in paths:
            reply = self._httpd.fetch(path)
            assert reply.status == 200, (path, reply)
        self.scrapes += 1
        for name, samples in metrics.scrape(self._httpd).items():
            if not name.endswith(("_total", "_count", "_sum", "_bucket")):
                continue
            for labels, value in samples.items():
                assert value >= self._last.get((name, labels), 0.0), (name, labels, value)
                self._last[name, labels] = value

    def total(self, way: str) -> float:
        """The exchanges of a way in, at the last scrape."""
        return sum(
            value
            for (name, labels), value in self._last.items()
            if name == "usp_s3_exchanges_total" and ("way", way) in labels
        )
