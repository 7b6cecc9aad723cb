"""What S3 has said of itself, per process: how late it is there, and in which region a bucket is."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from usp_s3_wsgi.config import parsers
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings

#: S3 tells its time in whole seconds: within these two clocks are the same.
_SAME_TIME = 2.0


class Clock(NamedTuple):
    """A clock to sign by; ``since``: its unix time when time.monotonic() was 0, None for this server's own."""

    since: float | None = None

    def now(self) -> datetime:
        """Return the time, in UTC."""
        # Counted by the clock that nobody corrects: when this server's is, nothing changes here.
        return datetime.now(UTC) if self.since is None else datetime.fromtimestamp(self.since + time.monotonic(), UTC)

    def shows(self, date: datetime) -> bool:
        """Whether it is that late by this clock."""
        return _is_same(self.now(), date)


OWN = Clock()


class Learned:
    """Clocks by host and regions by section; what is learned counts until S3 says something else.

    ``version`` grows with each change.
    """

    def __init__(self) -> None:
        self.version = 0
        self._lock = threading.Lock()
        self._clocks: dict[tuple[str, int], tuple[Clock, int]] = {}
        self._moved: dict[tuple[Settings, bool], Settings] = {}

    def clock(self, url: BucketURL) -> Clock:
        """Return the clock to sign by: S3's own where this server's was wrong."""
        return self._clocks[url.host, url.port][0] if (url.host, url.port) in self._clocks else OWN

    def since(self, url: BucketURL) -> int:
        """Return the version with which that clock came, 0 where none was learned."""
        return self._clocks[url.host, url.port][1] if (url.host, url.port) in self._clocks else 0

    def now(self, url: BucketURL) -> datetime:
        """Return the time by that clock, in UTC."""
        return self.clock(url).now()

    def other_clock(self, url: BucketURL, date: datetime | None, signed_at: datetime) -> Clock | None:
        """Return what to sign by where S3 has refused the time that was signed; None where there is nothing else.

        ``date``: S3's clock, if it told one. Where that is the one that was signed by, another one was learned before:
        this server's may be right again.
        """
        if date is not None and not _is_same(date, signed_at):
            return Clock(date.timestamp() - time.monotonic())
        return OWN if self.clock(url) != OWN and not OWN.shows(signed_at) else None

    def take_clock(self, url: BucketURL, clock: Clock) -> None:
        """Sign by that clock from now on."""
        with self._lock:
            self.version += 1
            self._clocks[url.host, url.port] = clock, self.version

    def whereabouts(self, section: Settings, same_host: bool = False) -> Settings:
        """Return the section, with the region that S3 named for its bucket, and with the host unless it must stay."""
        return self._moved.get((section, same_host), section) if self._moved else section

    def take_region(self, section: Settings, asked: Settings, region: str, same_host: bool = False) -> bool:
        """Ask in that region from now on; False where that changes nothing in what was asked, or is no region."""
        try:
            parsers.region(region)
        except ValueError:
            return False
        signed_for = region if section.region is not None else None  # Signature v2 knows of no region
        url = section.bucket_url if same_host else section.bucket_url.in_region(region)
        moved = replace(section, region=signed_for, bucket_url=url)
        if moved == asked:
            return False
        with self._lock:
            self._moved[section, same_host] = moved
            self.version += 1
        return True


def _is_same(one: datetime, other: datetime) -> bool:
    return abs((one - other).total_seconds()) < _SAME_TIME


learned = Learned()
