"""``<Proxy>``: which clock signs the next requests after denials, which a wrong clock or a bucket policy may cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.proxy.clock_correction import ClockCorrector, RejectedSignature
from usp_s3_wsgi.s3.endpoint_state import SYSTEM_CLOCK, EndpointState

CEPH = bucket_url("http://ceph.example:8080/films/")
HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


class Bucket:
    """An S3 bucket, and an httpd that signs requests to it.

    ``skew``: how far S3's clock is ahead of this server's. ``date_skew``: the same of the Date of its responses, which
    another device may set; None: as ``skew``.
    """

    def __init__(self, skew: timedelta = timedelta(0), date_skew: timedelta | None = None) -> None:
        self.skew, self.date_skew = skew, skew if date_skew is None else date_skew
        self.state = EndpointState()
        self.correction = ClockCorrector(self.state)
        self.accepted_version = -1

    def request(self, is_denied: bool = False) -> str:
        """Request an object with a query signature; ``is_denied``: a policy denies the object.

        Return "granted", "denied", or "clock" where the next requests are signed with another clock.
        """
        version, signed_at = self.state.version, self.state.now(CEPH)
        valid_from, valid_until = signed_at - timedelta(minutes=15), signed_at + timedelta(minutes=5)
        if not is_denied and valid_from <= now() + self.skew < valid_until:
            self.accepted_version = version
            return "granted"
        rejected, date = RejectedSignature(signed_at, version, self.accepted_version), now() + self.date_skew
        if valid_from <= date < valid_until:
            self.correction.record_denial(CEPH, rejected)
            return "denied"
        return "clock" if self.correction.record_denial_outside_validity(CEPH, date, rejected) else "denied"

    def requests(self, count: int, is_denied: Callable[[int], bool] = lambda number: False) -> list[str]:
        return [self.request(is_denied(number)) for number in range(count)]


@pytest.mark.parametrize("skew", [HOUR, -HOUR])
def test_the_next_request_is_signed_with_s3s_clock(skew: timedelta) -> None:
    assert Bucket(skew).requests(4) == ["clock", "granted", "granted", "granted"]


def test_a_clock_that_changes_after_granted_requests() -> None:
    bucket = Bucket()
    assert bucket.requests(2) == ["granted"] * 2
    for skew in (HOUR, -HOUR, timedelta(0)):
        bucket.skew = bucket.date_skew = skew
        assert bucket.requests(4) == ["denied", "clock", "granted", "granted"]


@pytest.mark.parametrize("every", [2, 3, 4])
def test_denied_objects_among_granted_ones_do_not_change_the_clock(every: int) -> None:
    """The Date of the denials is from a device with another clock than S3's."""
    bucket = Bucket(date_skew=HOUR)
    assert bucket.request() == "granted"
    results = bucket.requests(60, lambda number: number % every == 0)
    assert results == ["denied" if number % every == 0 else "granted" for number in range(60)]
    assert bucket.state.clock(CEPH) == SYSTEM_CLOCK


@pytest.mark.parametrize("pattern", ["x", "xy", "xxy", "xxxxy", "yx"])
def test_a_wrong_clock_is_found_among_denied_objects(pattern: str) -> None:
    """x: an object that is denied with any clock."""
    bucket = Bucket(HOUR)
    results = bucket.requests(60, lambda number: pattern[number % len(pattern)] == "x")
    failed = [
        result for number, result in enumerate(results) if pattern[number % len(pattern)] == "y" and result != "granted"
    ]
    assert len(failed) <= 2 and results.count("clock") <= 3
    assert "clock" not in results[10:] or pattern == "x"


@pytest.mark.parametrize("pattern", ["xxy", "xxyy", "xxxxxxxyyyyyyy"])
def test_a_wrong_date_causes_few_failures(pattern: str) -> None:
    """Two and more denials in a row (x) with the Date of another clock than S3's: trials become rare."""
    bucket = Bucket(date_skew=HOUR)
    results = bucket.requests(1000, lambda number: pattern[number % len(pattern)] == "x")
    failed = [
        number for number, result in enumerate(results) if result != "granted" and pattern[number % len(pattern)] == "y"
    ]
    assert len(failed) <= 20 and not [number for number in failed if number > 300]
    assert results.count("clock") <= 20


def test_a_date_that_differs_each_time() -> None:
    bucket = Bucket()
    assert bucket.request() == "granted"
    for number in range(200):
        bucket.date_skew = HOUR * (number + 1)
        bucket.request(is_denied=True)
    bucket.date_skew = timedelta(0)
    assert "granted" in bucket.requests(7)


def test_concurrent_requests() -> None:
    """Requests that were sent before the clock was recorded are not counted against it."""
    bucket = Bucket(HOUR)
    old = [RejectedSignature(now(), bucket.state.version, -1) for _ in range(10)]
    assert all(bucket.correction.record_denial_outside_validity(CEPH, now() + HOUR, rejected) for rejected in old)
    assert not bucket.correction.record_denial_outside_validity(CEPH, now() + 2 * HOUR, old[0])
    assert bucket.state.version == 1 and bucket.request() == "granted"


def test_request_time_too_skewed() -> None:
    bucket = Bucket()
    assert bucket.correction.record_skew(CEPH, now() + HOUR, RejectedSignature(now(), 0, 0))
    assert bucket.state.clock(CEPH).shows(now() + HOUR)
    # Another request that was signed before: the version stays.
    assert bucket.correction.record_skew(CEPH, now() + HOUR, RejectedSignature(now(), 0, 0))
    assert bucket.state.version == 1


def test_request_time_too_skewed_without_a_date_or_with_the_signed_time() -> None:
    bucket = Bucket()
    assert not bucket.correction.record_skew(CEPH, None, RejectedSignature(now(), 0, -1))
    assert bucket.correction.record_skew(CEPH, now() + HOUR, RejectedSignature(now(), 0, -1))
    assert bucket.correction.record_skew(CEPH, now() + HOUR, RejectedSignature(now() + HOUR, 1, -1))
    assert bucket.state.clock(CEPH) == SYSTEM_CLOCK
