"""``<Proxy>``: which clock signs the next requests, after denials that may be the clock's or the object's own."""

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
    """An S3 with that clock, and a front that dates its answers; what is signed and granted goes as in httpd."""

    def __init__(self, ahead: timedelta = timedelta(0), dated: timedelta | None = None) -> None:
        self.ahead, self.dated = ahead, ahead if dated is None else dated
        self.state = EndpointState()
        self.trials = ClockCorrector(self.state)
        self.granted = -1

    def ask(self, denied: bool = False) -> str:
        """One request with a query signature, or for an object that is denied; what the client gets."""
        version, at = self.state.version, self.state.now(CEPH)
        if not denied and at - timedelta(minutes=15) <= now() + self.ahead < at + timedelta(minutes=5):
            self.granted = version
            return "granted"
        refused, date = RejectedSignature(at, version, self.granted), now() + self.dated
        if at - timedelta(minutes=15) <= date < at + timedelta(minutes=5):
            self.trials.record_denial(CEPH, refused)
            return "denied"
        return "clock" if self.trials.record_denial_outside_validity(CEPH, date, refused) else "denied"

    def asks(self, count: int, denied: Callable[[int], bool] = lambda number: False) -> list[str]:
        return [self.ask(denied(number)) for number in range(count)]


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_the_next_request_is_signed_by_s3s_clock(ahead: timedelta) -> None:
    assert Bucket(ahead).asks(4) == ["clock", "granted", "granted", "granted"]


def test_a_clock_that_changes_after_it_was_granted() -> None:
    bucket = Bucket()
    assert bucket.asks(2) == ["granted"] * 2
    for ahead in (HOUR, -HOUR, timedelta(0)):
        bucket.ahead = bucket.dated = ahead
        assert bucket.asks(4) == ["denied", "clock", "granted", "granted"]


@pytest.mark.parametrize("every", [2, 3, 4])
def test_denied_objects_among_the_others_change_nothing(every: int) -> None:
    """Whoever dates the denials has another clock than S3."""
    bucket = Bucket(dated=HOUR)
    assert bucket.ask() == "granted"
    answers = bucket.asks(60, lambda number: number % every == 0)
    assert answers == ["denied" if number % every == 0 else "granted" for number in range(60)]
    assert bucket.state.clock(CEPH) == SYSTEM_CLOCK


@pytest.mark.parametrize("pattern", ["x", "xy", "xxy", "xxxxy", "yx"])
def test_a_wrong_clock_is_found_among_denied_objects(pattern: str) -> None:
    """The object of x is denied by any clock."""
    bucket = Bucket(HOUR)
    answers = "".join(answer[0] for answer in bucket.asks(60, lambda number: pattern[number % len(pattern)] == "x"))
    wrong = [answer for number, answer in enumerate(answers) if pattern[number % len(pattern)] == "y" and answer != "g"]
    assert len(wrong) <= 2 and answers.count("c") <= 3
    assert "c" not in answers[10:] or pattern == "x"


@pytest.mark.parametrize("pattern", ["xxy", "xxyy", "xxxxxxxyyyyyyy"])
def test_a_wrong_date_costs_little(pattern: str) -> None:
    """Two and more denials in a row, dated by a clock that is not S3's: a few requests, fewer and fewer."""
    bucket = Bucket(dated=HOUR)
    answers = bucket.asks(1000, lambda number: pattern[number % len(pattern)] == "x")
    wrong = [
        number for number, answer in enumerate(answers) if answer != "granted" and pattern[number % len(pattern)] == "y"
    ]
    assert len(wrong) <= 20 and not [number for number in wrong if number > 300]
    assert answers.count("clock") <= 20


def test_any_date_that_differs_each_time() -> None:
    bucket = Bucket()
    assert bucket.ask() == "granted"
    for number in range(200):
        bucket.dated = HOUR * (number + 1)
        bucket.ask(denied=True)
    bucket.dated = timedelta(0)
    assert "granted" in bucket.asks(7)


def test_several_at_once() -> None:
    """Those that were on their way when it was state are no evidence against it."""
    bucket = Bucket(HOUR)
    old = [RejectedSignature(now(), bucket.state.version, -1) for _ in range(10)]
    assert all(bucket.trials.record_denial_outside_validity(CEPH, now() + HOUR, refused) for refused in old)
    assert not bucket.trials.record_denial_outside_validity(CEPH, now() + 2 * HOUR, old[0])
    assert bucket.state.version == 1 and bucket.ask() == "granted"


def test_s3_names_the_clock() -> None:
    bucket = Bucket()
    assert bucket.trials.record_skew(CEPH, now() + HOUR, RejectedSignature(now(), 0, 0))
    assert bucket.state.clock(CEPH).shows(now() + HOUR)
    # The same of another request that was signed before, and nothing new.
    assert bucket.trials.record_skew(CEPH, now() + HOUR, RejectedSignature(now(), 0, 0))
    assert bucket.state.version == 1


def test_s3_names_the_clock_and_tells_none_or_the_one_that_it_refuses() -> None:
    bucket = Bucket()
    assert not bucket.trials.record_skew(CEPH, None, RejectedSignature(now(), 0, -1))
    assert bucket.trials.record_skew(CEPH, now() + HOUR, RejectedSignature(now(), 0, -1))
    assert bucket.trials.record_skew(CEPH, now() + HOUR, RejectedSignature(now() + HOUR, 1, -1))
    assert bucket.state.clock(CEPH) == SYSTEM_CLOCK
