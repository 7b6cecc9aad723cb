"""S3's clock in ``<Proxy>`` sections, where nothing is asked again: what one request has met counts for the next ones.

Where S3 names the clock as its reason, there is no doubt. A denial without a reason, dated outside of the signature's
validity, may be the clock's as well; or an object's, dated by a cache or another device. So S3's clock is tried, until
S3 grants something that is signed by it. Where S3 has granted something by the present clock, a trial needs two such
denials with nothing granted in between; after each trial in vain, four times as many.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.s3.endpoint_state import Clock, Learned

#: So many denials end a trial: some objects may be denied by any clock.
_LONGEST_TRIAL = 5
_MOST_NEEDED = 1_000
_MOST_HOSTS = 10_000


class Signature(NamedTuple):
    """What S3 refuses: the time that was signed, and which version of what was learned that was by.

    ``granted``: by which version the last request was signed that S3 granted at this host, -1 for none.
    """

    at: datetime
    version: int
    granted: int


@dataclass(slots=True)
class _Host:
    """``before``: during a trial, the clock to return to. ``denials``: with nothing granted in between.

    During a trial all of them count, else those that may be the clock's: ``needed`` of them begin a trial.
    """

    before: Clock | None = None
    denials: int = 0
    needed: int = 1


class ClockTrials:
    """The trials of a process, by host."""

    def __init__(self, learned: Learned) -> None:
        self._learned = learned
        self._lock = threading.Lock()
        self._hosts: dict[tuple[str, int], _Host] = {}

    def clock_refused(self, url: BucketURL, date: datetime | None, refused: Signature) -> bool:
        """S3 says that the clock is wrong: whether the next requests are signed by another one."""
        with self._lock:
            if refused.version < self._learned.since(url):
                return date is not None and self._learned.clock(url).shows(date)
            clock = self._learned.other_clock(url, date, refused.at)
            if clock is None:
                return False
            self._end_trial(self._host(url), in_vain=True)
            self._learned.take_clock(url, clock)
            return True

    def denied_out_of_time(self, url: BucketURL, date: datetime, refused: Signature) -> bool:
        """S3 denies what was not valid by its clock: whether that is the reason, and the next ones are signed by it."""
        with self._lock:
            learned, host = self._learned, self._host(url)
            if refused.version < learned.since(url):
                return learned.clock(url).shows(date)
            if refused.granted >= learned.since(url):
                self._end_trial(host, in_vain=False)
                learned.take_clock(url, learned.clock(url))  # by a new version: is it granted anything from now on?
            host.denials += 1
            clock = learned.other_clock(url, date, refused.at)
            if clock is None or self._is_over(url, host) or (host.before is None and host.denials < host.needed):
                return False
            if host.before is None:
                host.before, host.denials = learned.clock(url), 0
            learned.take_clock(url, clock)
            return True

    def denied(self, url: BucketURL, refused: Signature) -> None:
        """S3 denies what was valid by its clock."""
        with self._lock:
            host, since = self._hosts.get((url.host, url.port)), self._learned.since(url)
            if host is None or host.before is None or refused.version < since:
                return
            if refused.granted >= since:
                self._end_trial(host, in_vain=False)
            else:
                host.denials += 1
                self._is_over(url, host)

    def _host(self, url: BucketURL) -> _Host:
        if len(self._hosts) >= _MOST_HOSTS:
            self._hosts.clear()  # names that clients make up, where a pattern allows that
        return self._hosts.setdefault((url.host, url.port), _Host())

    def _is_over(self, url: BucketURL, host: _Host) -> bool:
        """Return to the clock of before where the present one was denied all that was asked."""
        if host.before is None or host.denials < _LONGEST_TRIAL:
            return False
        self._learned.take_clock(url, host.before)
        self._end_trial(host, in_vain=True)
        return True

    def _end_trial(self, host: _Host, in_vain: bool) -> None:
        if host.before is not None and in_vain:
            host.needed = min(_MOST_NEEDED, 4 * max(2, host.needed))
        elif host.before is not None:
            host.needed = 2
        elif not in_vain:
            host.needed = max(2, host.needed)
        host.before, host.denials = None, 0
