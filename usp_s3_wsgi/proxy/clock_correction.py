"""S3's clock in ``<Proxy>`` sections, where requests are not retried: what S3 answers changes how the next are signed.

If S3 names the clock as its reason, it is corrected at once. A denial without a reason, whose Date is outside of the
signature's validity, is ambiguous: the clock may be wrong, or the object is denied, and a cache or another device has
set the Date. Such a denial begins a probe, in which requests are signed with S3's clock::

    present clock --- ambiguous denials: 1, or 2 in a row if S3 has accepted signatures with it -> probe of S3's clock
    probe         --- S3 accepts a signature -------------------------------------------------> S3's clock stays
    probe         --- 5 denials ---------------------------------------------------------------> present clock again;
                                                 the next probe needs 8 ambiguous denials, then 32, 128, ... 1000

The last accepted signature is recorded in C, without Python's lock (``mod_usp_s3/endpoint_state.c``).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.s3.endpoint_state import Clock, EndpointState

#: A probe ends after this many denials: some objects are denied with any clock.
_MAX_DENIALS_IN_PROBE = 5
_MAX_DENIALS_BEFORE_PROBE = 1_000
_MAX_HOSTS = 10_000


class RejectedSignature(NamedTuple):
    """A signature that S3 rejected: the time in it, and the version of the endpoint state with which it was made.

    ``accepted_version``: the version of the last signature that S3 accepted at this host, -1 for none.
    """

    signed_at: datetime
    version: int
    accepted_version: int


@dataclass(slots=True)
class _Host:
    """``clock_before``: during a probe, the clock to return to. ``denials``: with no accepted signature between them.

    During a probe all denials count; else the ambiguous ones: ``denials_before_probe`` of them begin a probe.
    """

    clock_before: Clock | None = None
    denials: int = 0
    denials_before_probe: int = 1


class ClockCorrector:
    """The clock probes of a process, by host."""

    def __init__(self, state: EndpointState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._hosts: dict[tuple[str, int], _Host] = {}

    def clear(self) -> None:
        """Forget all probes."""
        with self._lock:
            self._hosts.clear()

    def record_skew(self, url: BucketURL, date: datetime | None, rejected: RejectedSignature) -> bool:
        """S3 says that the clock is wrong: return whether the next requests are signed with another one."""
        with self._lock:
            if rejected.version < self._state.clock_version(url):
                return date is not None and self._state.clock(url).shows(date)
            clock = self._state.alternative_clock(url, date, rejected.signed_at)
            if clock is None:
                return False
            self._end_probe(self._get_or_create_host(url), has_failed=True)
            self._state.record_clock(url, clock)
            return True

    def record_denial_outside_validity(self, url: BucketURL, date: datetime, rejected: RejectedSignature) -> bool:
        """S3 denies a signature that was not valid by its clock: return whether the next are signed with that clock."""
        with self._lock:
            state, host = self._state, self._get_or_create_host(url)
            if rejected.version < state.clock_version(url):
                return state.clock(url).shows(date)
            if rejected.accepted_version >= state.clock_version(url):
                self._end_probe(host, has_failed=False)
                state.record_clock(url, state.clock(url))  # a new version, so that only later signatures count
            host.denials += 1
            clock = state.alternative_clock(url, date, rejected.signed_at)
            is_too_early = host.clock_before is None and host.denials < host.denials_before_probe
            if clock is None or self._end_probe_after_many_denials(url, host) or is_too_early:
                return False
            if host.clock_before is None:
                host.clock_before, host.denials = state.clock(url), 0
            state.record_clock(url, clock)
            return True

    def record_denial(self, url: BucketURL, rejected: RejectedSignature) -> None:
        """S3 denies a signature that was valid by its clock."""
        with self._lock:
            host, clock_version = self._hosts.get((url.host, url.port)), self._state.clock_version(url)
            if host is None or host.clock_before is None or rejected.version < clock_version:
                return
            if rejected.accepted_version >= clock_version:
                self._end_probe(host, has_failed=False)
            else:
                host.denials += 1
                self._end_probe_after_many_denials(url, host)

    def _get_or_create_host(self, url: BucketURL) -> _Host:
        if len(self._hosts) >= _MAX_HOSTS:
            self._hosts.clear()  # with <Proxy "*"> or <ProxyMatch> clients can make up names
        return self._hosts.setdefault((url.host, url.port), _Host())

    def _end_probe_after_many_denials(self, url: BucketURL, host: _Host) -> bool:
        """Return to the clock before the probe, if all requests of the probe were denied; return whether it ended."""
        if host.clock_before is None or host.denials < _MAX_DENIALS_IN_PROBE:
            return False
        self._state.record_clock(url, host.clock_before)
        self._end_probe(host, has_failed=True)
        return True

    def _end_probe(self, host: _Host, has_failed: bool) -> None:
        if host.clock_before is not None and has_failed:
            host.denials_before_probe = min(_MAX_DENIALS_BEFORE_PROBE, 4 * max(2, host.denials_before_probe))
        elif host.clock_before is not None:
            host.denials_before_probe = 2
        elif not has_failed:
            host.denials_before_probe = max(2, host.denials_before_probe)
        host.clock_before, host.denials = None, 0
