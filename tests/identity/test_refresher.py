"""The credentials of one identity: asked for ahead of their end, once for all, and never lost by a failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from usp_s3_wsgi.credentials import refresher
from usp_s3_wsgi.credentials.identity import Temporary
from usp_s3_wsgi.credentials.refresher import Refresher
from usp_s3_wsgi.errors import CredentialsUnavailable, SettingError
from usp_s3_wsgi.signing.types import Credentials

NOW = 1_800_000_000.0
WAIT = 10.0


class Source:
    """Issues numbered credentials, or fails, when it is let; counts how often it was asked."""

    def __init__(self, lifetime: float | None = 3600.0) -> None:
        self.lifetime = lifetime
        self.asked = 0
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.now = NOW
        self.answered = threading.Semaphore(0)

    def fetch(self) -> Temporary:
        self.asked += 1
        number = self.asked
        try:
            assert self.may_answer.wait(WAIT)
            if self.error is not None:
                raise self.error
            expires = None if self.lifetime is None else self.now + self.lifetime
            return Temporary(Credentials(f"ASIA{number:016}", f"secret-{number}", f"token-{number}"), expires, "a test")
        finally:
            self.answered.release()

    def clock(self) -> float:
        return self.now


def number(credentials: Credentials) -> int:
    return int(credentials.access_key[4:])


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresher, "_JITTER", 0.0)


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of pauses, which stands still otherwise."""
    now = [1000.0]
    monkeypatch.setattr("usp_s3_wsgi.credentials.refresher.time.monotonic", lambda: now[0])
    monkeypatch.setattr("usp_s3_wsgi.credentials.refresher.random.uniform", lambda low, high: high)
    return now


def start(source: Source) -> Refresher:
    return Refresher("role x", source.fetch, source.clock)


def settle(subject: Refresher) -> None:
    """Wait until no refresh is under way."""
    with subject._changed:
        assert subject._changed.wait_for(lambda: not subject._running, WAIT)


def test_the_first_ones_are_waited_for_and_kept(source: Source) -> None:
    subject = start(source)
    assert [number(subject.get(WAIT)) for _ in range(3)] == [1, 1, 1]
    assert source.asked == 1


@pytest.mark.parametrize(("lifetime", "due"), [(3600, 900), (1800, 900), (900, 450), (60, 30)])
def test_new_ones_are_asked_for_ahead_of_the_end(lifetime: int, due: int) -> None:
    """A quarter of an hour before, or where they live no longer than half an hour, at half of that."""
    source = Source(lifetime)
    subject = start(source)
    subject.get(WAIT)
    source.now += lifetime - due - 1
    subject.get(WAIT)
    settle(subject)
    assert source.asked == 1
    source.now += 1
    assert number(subject.get(WAIT)) == 1
    settle(subject)
    assert (number(subject.get(WAIT)), source.asked) == (2, 2)


def test_nobody_waits_for_a_refresh_while_there_are_valid_ones(source: Source) -> None:
    subject = start(source)
    subject.get(WAIT)
    source.now += 3600 - 300
    source.may_answer.clear()
    assert [number(subject.get(0.0)) for _ in range(100)] == [1] * 100
    assert source.asked == 2
    source.may_answer.set()
    settle(subject)
    assert number(subject.get(0.0)) == 2


def test_what_has_no_known_end_is_looked_at_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The keys of a profile may have been exchanged; where they have not, nobody hears of it."""
    source = Source(None)
    subject = start(source)
    subject.get(WAIT)
    source.now += 59
    assert (number(subject.get(0.0)), source.asked) == (1, 1)
    source.now += 1
    source.may_answer.clear()
    assert number(subject.get(0.0)) == 1
    source.may_answer.set()
    settle(subject)
    assert number(subject.get(0.0)) == 2
    assert capsys.readouterr().err.count("credentials from") == 1


def test_many_threads_at_the_end_cause_one_refresh(source: Source) -> None:
    subject = start(source)
    subject.get(WAIT)
    source.now += 3600
    source.may_answer.clear()
    with ThreadPoolExecutor(64) as pool:
        waiting = [pool.submit(subject.get, WAIT) for _ in range(64)]
        while source.asked < 2:
            pass
        source.may_answer.set()
        assert {number(one.result()) for one in waiting} == {2}
    assert source.asked == 2


# --- failures


def unavailable(call: Callable[[], object]) -> CredentialsUnavailable:
    with pytest.raises(CredentialsUnavailable) as caught:
        call()
    return caught.value


def test_a_failure_keeps_the_last_ones_until_they_end(
    source: Source, monotonic: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    subject = start(source)
    subject.get(WAIT)
    capsys.readouterr()
    source.now += 3600 - 700
    source.error = CredentialsUnavailable("STS answered 500")
    assert number(subject.get(WAIT)) == 1
    settle(subject)
    assert capsys.readouterr().err == (
        "USPS30603: usp_s3_wsgi: role x: STS answered 500; going on with the credentials that are there, which end in 700 s\n"
    )
    source.now += 690
    assert number(subject.get(WAIT)) == 1
    source.now += 10
    failure = unavailable(lambda: subject.get(WAIT))
    assert (str(failure), failure.status) == ("role x: STS answered 500", 503)
    assert failure.headers == (("Retry-After", "1"),)


def test_pauses_grow_and_are_shorter_in_need(source: Source, monotonic: list[float]) -> None:
    """A minute at most while there is time, ten seconds when ten minutes are left; then success begins anew."""
    subject = start(source)
    subject.get(WAIT)
    source.error = CredentialsUnavailable("no")

    def pauses(count: int) -> list[float]:
        found = []
        for _ in range(count):
            asked, begun = source.asked, monotonic[0]
            subject.get(WAIT)
            settle(subject)
            while source.asked == asked:
                monotonic[0] += 0.5
                subject.get(WAIT)
                settle(subject)
            found.append(monotonic[0] - begun)
        return found

    source.now += 3600 - 800
    assert pauses(8) == [0, 1, 2, 4, 8, 16, 32, 60]
    source.now += 300
    assert pauses(3) == [60, 10, 10]
    source.error = None
    pauses(1)
    assert number(subject.get(WAIT)) == source.asked


def test_nobody_asks_while_the_last_failure_is_new(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    source.error = CredentialsUnavailable("no")
    for _ in range(50):
        unavailable(lambda: subject.get(WAIT))
    assert source.asked == 1
    monotonic[0] += 1
    source.error = None
    assert number(subject.get(WAIT)) == 2


def test_nobody_waits_longer_than_he_may(source: Source) -> None:
    subject = start(source)
    source.may_answer.clear()
    assert str(unavailable(lambda: subject.get(0.01))) == "role x: no credentials came in time"
    source.may_answer.set()
    assert number(subject.get(WAIT)) == 1


def test_what_has_expired_on_arrival_is_none() -> None:
    source = Source(-60)
    failure = unavailable(lambda: start(source).get(WAIT))
    assert str(failure) == "role x: what came had expired already; is this server's clock right?"


def test_worse_ones_do_not_replace_better_ones(source: Source) -> None:
    subject = start(source)
    subject.get(WAIT)
    source.now += 3600 - 300
    source.lifetime = -60
    for _ in range(3):
        assert number(subject.get(WAIT)) == 1
        settle(subject)


def test_an_internal_error_is_told_without_its_words(source: Source) -> None:
    subject = start(source)
    source.error = KeyError("secret-1")
    failure = str(unavailable(lambda: subject.get(WAIT)))
    assert failure.startswith("role x: internal error: KeyError in fetch, ") and "secret" not in failure


def test_nothing_that_ends_a_thread_ends_the_asking(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    source.error = SystemExit("secret-1")  # type: ignore[assignment]
    assert "internal error: SystemExit" in str(unavailable(lambda: subject.get(WAIT)))
    monotonic[0] += 2
    source.error = None
    assert number(subject.get(WAIT)) == 2


def test_a_setting_that_cannot_work_is_told_as_one(source: Source) -> None:
    subject = start(source)
    source.error = SettingError("botocore is missing")
    for _ in range(2):
        with pytest.raises(SettingError, match="role x: botocore is missing"):
            subject.get(WAIT)


def test_where_no_thread_can_be_started(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("daemon threads are disabled in this (sub)interpreter")

    subject = start(source)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            failure = unavailable(lambda: subject.get(WAIT))
            assert str(failure) == "role x: no thread can be started: RuntimeError"
    assert source.asked == 0


# --- refused by S3


def test_what_s3_refuses_is_exchanged(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    first = subject.get(WAIT)
    assert not subject.renew(first, WAIT)  # too new to be exchanged
    monotonic[0] += 60
    source.now -= 3600  # whatever the clock is set to meanwhile
    assert subject.renew(first, WAIT)
    assert number(subject.get(WAIT)) == 2
    assert subject.renew(first, WAIT)  # another request has done it
    assert source.asked == 2


def test_what_is_doubted_is_exchanged_in_the_background(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    first = subject.get(WAIT)
    monotonic[0] += 60
    source.may_answer.clear()
    subject.doubt()
    assert subject.get(0.0) == first
    source.may_answer.set()
    settle(subject)
    assert number(subject.get(0.0)) == 2


def test_who_refuses_whatever_comes_is_not_the_reason_to_ask_for_ever(source: Source, monotonic: list[float]) -> None:
    """One object that S3 always refuses must not have STS asked every ten seconds."""
    subject = start(source)
    subject.get(WAIT)
    begun = monotonic[0]
    while monotonic[0] < begun + 3600:
        monotonic[0] += 1
        subject.doubt()
        settle(subject)
    assert 5 <= source.asked <= 15


def test_many_who_are_refused_at_once_count_for_one(source: Source, monotonic: list[float]) -> None:
    """The next ones are exchanged as soon as ever, should S3 refuse them too; and so is what a failure left doubted."""
    subject = start(source)
    first = subject.get(WAIT)
    monotonic[0] += 60
    source.may_answer.clear()
    with ThreadPoolExecutor(64) as pool:
        refused = [pool.submit(subject.renew, first, WAIT) for _ in range(64)]
        while source.asked < 2:
            pass
        for _ in range(64):
            subject.doubt()
        source.may_answer.set()
        assert all(each.result() for each in refused)
    monotonic[0] += 11
    source.error = CredentialsUnavailable("no")
    for _ in range(10):
        subject.doubt()
        settle(subject)
        monotonic[0] += 20
    source.error = None
    assert subject.renew(subject.get(WAIT), WAIT)
    monotonic[0] += 21
    assert subject.renew(subject.get(WAIT), WAIT)


def test_many_that_got_the_same_do_not_come_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresher, "_JITTER", 60.0)
    dues = set()
    for _ in range(20):
        subject = start(Source())
        subject.get(WAIT)
        assert subject._held is not None
        dues.add(subject._held.due)
    assert len(dues) == 20 and all(NOW + 3600 - 960 <= due <= NOW + 3600 - 900 for due in dues)


# --- attempts that take long


def test_who_waits_does_not_hold_a_thread_for_long(source: Source, monotonic: list[float]) -> None:
    """The first attempt is waited for 5 seconds, by whomever; then all hear at once that there are none."""
    subject = start(source)
    source.may_answer.clear()
    unavailable(lambda: subject.get(0.0))
    monotonic[0] += 5
    for _ in range(100):
        assert "no credentials came in time" in str(unavailable(lambda: subject.get(3600.0)))
    assert source.asked == 1
    source.may_answer.set()
    settle(subject)
    assert number(subject.get(0.0)) == 1


def test_an_attempt_that_never_ends_has_failed(source: Source, monotonic: list[float]) -> None:
    """Its answer does not count either, should it come."""
    subject = start(source)
    source.may_answer.clear()
    unavailable(lambda: subject.get(0.0))
    hanging, source.may_answer = source.may_answer, threading.Event()
    source.may_answer.set()
    monotonic[0] += 61
    assert "no response within 60 s" in str(unavailable(lambda: subject.get(0.0)))
    monotonic[0] += 1
    assert number(subject.get(WAIT)) == 2
    hanging.set()
    assert source.answered.acquire(timeout=WAIT) and source.answered.acquire(timeout=WAIT)
    assert number(subject.get(WAIT)) == 2


def test_attempts_that_hang_are_few(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    source.may_answer.clear()
    for _ in range(20):
        monotonic[0] += 100
        unavailable(lambda: subject.get(0.0))
    assert source.asked == 3
    assert "3 attempts hang" in str(unavailable(lambda: subject.get(0.0)))
    source.may_answer.set()
    for thread in subject._threads:
        thread.join(WAIT)
    monotonic[0] += 100
    assert number(subject.get(WAIT)) == 4


def test_what_s3_refuses_is_kept_where_there_is_nothing_else(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    first = subject.get(WAIT)
    monotonic[0] += 60
    source.error = CredentialsUnavailable("no")
    assert not subject.renew(first, WAIT)
    assert subject.get(WAIT) == first


# --- what the operator sees


def test_the_line_at_first_use(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    subject = start(source)
    subject.get(WAIT)
    source.now += 3000
    subject.get(WAIT)
    settle(subject)
    assert capsys.readouterr().err == (
        "USPS30602: usp_s3_wsgi: role x: credentials from a test, access key ASIA...0001, until 2027-01-15T09:00:00Z\n"
    )
