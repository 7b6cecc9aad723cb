"""What S3 has said of itself, per process: how late it is there, and in which region a bucket is."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

from usp_s3_wsgi import values
from usp_s3_wsgi.bucket_url import BucketURL
from usp_s3_wsgi.settings import Settings

#: S3 tells its time in whole seconds: within these two clocks are the same.
_SAME_TIME = 2.0
#: A year that no clock of S3 shows is no clock to go by.
_YEARS = range(2000, 2100)


class Learned:
    """Clocks by host and regions by section; what is learned counts until S3 says something else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clocks: dict[tuple[str, int], float] = {}
        self._moved: dict[Settings, Settings] = {}

    def now(self, url: BucketURL) -> datetime:
        """Return the time, in UTC: S3's own where this server's clock was wrong."""
        since = self._clocks.get((url.host, url.port)) if self._clocks else None
        # Counted by the clock that nobody corrects: when this server's is, nothing changes here.
        return datetime.now(UTC) if since is None else _utc(since + time.monotonic())

    def take_clock(self, url: BucketURL, date: datetime | None, signed_at: datetime) -> bool:
        """Go by S3's clock from now on; False where that is the one that was signed with, or S3 did not tell."""
        if date is None or date.year not in _YEARS or abs((date - signed_at).total_seconds()) < _SAME_TIME:
            return False
        with self._lock:
            self._clocks[url.host, url.port] = date.timestamp() - time.monotonic()
        return True

    def whereabouts(self, section: Settings) -> Settings:
        """Return the section, with the region and the host that S3 named for its bucket."""
        return self._moved.get(section, section) if self._moved else section

    def take_region(self, section: Settings, asked: Settings, region: str) -> bool:
        """Ask in that region from now on; False where that changes nothing in what was asked, or is no region."""
        try:
            values.region(region)
        except ValueError:
            return False
        signed_for = region if section.region is not None else None  # Signature v2 knows of no region
        moved = replace(section, region=signed_for, bucket_url=section.bucket_url.in_region(region))
        if moved == asked:
            return False
        with self._lock:
            self._moved[section] = moved
        return True


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


learned = Learned()
