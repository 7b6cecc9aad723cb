"""What this process has recorded about S3's endpoints: their clock where it differs, and the regions of buckets."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from usp_s3_wsgi.config import parsers
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings

#: S3's Date has whole seconds: two times within this are the same.
_SAME_TIME = 2.0


class Clock(NamedTuple):
    """A clock to sign with; ``offset``: its unix time when time.monotonic() was 0, None for this server's own clock."""

    offset: float | None = None

    def now(self) -> datetime:
        """Return the time, in UTC."""
        # S3's clock is counted by the monotonic clock: it stays right when this server's clock is set.
        return datetime.now(UTC) if self.offset is None else datetime.fromtimestamp(self.offset + time.monotonic(), UTC)

    def shows(self, date: datetime) -> bool:
        """Whether this clock shows that time now."""
        return _is_same_time(self.now(), date)


SYSTEM_CLOCK = Clock()


class EndpointState:
    """Clocks by host, and regions by settings; a record is used until S3 contradicts it.

    ``version`` grows with each change.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all records, as in a new process."""
        self.version = 0
        self._clocks: dict[tuple[str, int], tuple[Clock, int]] = {}
        self._redirected_settings: dict[tuple[Settings, bool], Settings] = {}

    def clock(self, url: BucketURL) -> Clock:
        """Return the clock to sign with: S3's own where this server's was wrong."""
        return self._clocks[url.host, url.port][0] if (url.host, url.port) in self._clocks else SYSTEM_CLOCK

    def clock_version(self, url: BucketURL) -> int:
        """Return the version in which that clock was recorded, 0 for this server's own without a record."""
        return self._clocks[url.host, url.port][1] if (url.host, url.port) in self._clocks else 0

    def now(self, url: BucketURL) -> datetime:
        """Return the time by that clock, in UTC."""
        return self.clock(url).now()

    def alternative_clock(self, url: BucketURL, date: datetime | None, signed_at: datetime) -> Clock | None:
        """Return the clock to try after S3 has rejected the time in a signature; None if there is no other.

        ``date``: S3's clock, None if the response has none. If it is None, or the time that was signed, this
        server's own clock is tried, if another one was recorded, and this server's shows another time.
        """
        if date is not None and not _is_same_time(date, signed_at):
            return Clock(date.timestamp() - time.monotonic())
        return SYSTEM_CLOCK if self.clock(url) != SYSTEM_CLOCK and not SYSTEM_CLOCK.shows(signed_at) else None

    def record_clock(self, url: BucketURL, clock: Clock) -> None:
        """Sign with that clock from now on."""
        with self._lock:
            self.version += 1
            self._clocks[url.host, url.port] = clock, self.version

    def effective_settings(self, settings: Settings, keep_host: bool = False) -> Settings:
        """Return the settings with the region that S3 named for the bucket, and its endpoint unless the host stays."""
        return self._redirected_settings.get((settings, keep_host), settings) if self._redirected_settings else settings

    def record_region(self, settings: Settings, signed_with: Settings, region: str, keep_host: bool = False) -> bool:
        """Use that region from now on; return False if it is not valid, or already in the settings ``signed_with``."""
        try:
            parsers.region(region)
        except ValueError:
            return False
        signing_region = region if settings.region is not None else None  # Signature v2 has no region
        url = settings.bucket_url if keep_host else settings.bucket_url.in_region(region)
        moved = replace(settings, region=signing_region, bucket_url=url)
        if moved == signed_with:
            return False
        with self._lock:
            self._redirected_settings[settings, keep_host] = moved
            self.version += 1
        return True


def _is_same_time(one: datetime, other: datetime) -> bool:
    return abs((one - other).total_seconds()) < _SAME_TIME


endpoint_state = EndpointState()
