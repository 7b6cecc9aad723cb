"""The refresher: refreshes once for all requests before the expiration, and keeps valid credentials on failures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from usp_s3_wsgi.credentials import refresher
from usp_s3_wsgi.credentials.identity import FetchedCredentials
from usp_s3_wsgi.credentials.refresher import Refresher
from usp_s3_wsgi.errors import CredentialsUnavailable, SettingError
from usp_s3_wsgi.signing.types import Credentials

NOW = 1_800_000_000.0
WAIT = 10.0


class Source:
    """Issues numbered credentials, or fails, and counts the calls. It blocks until ``may_answer`` is set."""

    def __init__(self, lifetime: float | None = 3600.0) -> None:
        self.lifetime = lifetime
        self.calls = 0
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.now = NOW
        self.answered = threading.Semaphore(0)

    def fetch(self) -> FetchedCredentials:
        self.calls += 1
        number = self.calls
        try:
            assert self.may_answer.wait(WAIT)
            if self.error is not None:
                raise self.error
            expires = None if self.lifetime is None else self.now + self.lifetime
            return FetchedCredentials(
                Credentials(f"ASIA{number:016}", f"secret-{number}", f"token-{number}"), expires, "a test"
            )
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
    """The monotonic clock, which only the test advances; and backoff without randomness."""
    now = [1000.0]
    monkeypatch.setattr("usp_s3_wsgi.credentials.refresher.time.monotonic", lambda: now[0])
    monkeypatch.setattr("usp_s3_wsgi.credentials.refresher.random.uniform", lambda low, high: high)
    return now


def start(source: Source) -> Refresher:
    return Refresher("role x", source.fetch, source.clock)


def settle(subject: Refresher) -> None:
    """Wait until no refresh is running."""
    with subject._changed:
        assert subject._changed.wait_for(lambda: not subject._refreshing, WAIT)


def test_the_first_call_waits_for_credentials_and_they_are_kept(source: Source) -> None:
    subject = start(source)
    assert [number(subject.get(WAIT)) for _ in range(3)] == [1, 1, 1]
    assert source.calls == 1


@pytest.mark.parametrize(("lifetime", "remaining"), [(3600, 900), (1800, 900), (900, 450), (60, 30)])
def test_credentials_are_refreshed_before_they_expire(lifetime: int, remaining: int) -> None:
    """15 minutes before, or at half their lifetime if they are valid for 30 minutes or less."""
    source = Source(lifetime)
    subject = start(source)
    subject.get(WAIT)
    source.now += lifetime - remaining - 1
    subject.get(WAIT)
    settle(subject)
    assert source.calls == 1
    source.now += 1
    assert number(subject.get(WAIT)) == 1
    settle(subject)
    assert (number(subject.get(WAIT)), source.calls) == (2, 2)


def test_no_call_waits_for_a_refresh_while_credentials_are_valid(source: Source) -> None:
    subject = start(source)
    subject.get(WAIT)
    source.now += 3600 - 300
    source.may_answer.clear()
    assert [number(subject.get(0.0)) for _ in range(100)] == [1] * 100
    assert source.calls == 2
    source.may_answer.set()
    settle(subject)
    assert number(subject.get(0.0)) == 2


def test_credentials_without_known_expiration_are_loaded_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The keys of a profile may have changed. The reload is not logged."""
    source = Source(None)
    subject = start(source)
    subject.get(WAIT)
    source.now += 59
    assert (number(subject.get(0.0)), source.calls) == (1, 1)
    source.now += 1
    source.may_answer.clear()
    assert number(subject.get(0.0)) == 1
    source.may_answer.set()
    settle(subject)
    assert number(subject.get(0.0)) == 2
    assert capsys.readouterr().err.count("credentials refreshed from") == 1


def test_many_threads_cause_one_refresh_at_expiration(source: Source) -> None:
    subject = start(source)
    subject.get(WAIT)
    source.now += 3600
    source.may_answer.clear()
    with ThreadPoolExecutor(64) as pool:
        waiting = [pool.submit(subject.get, WAIT) for _ in range(64)]
        while source.calls < 2:
            pass
        source.may_answer.set()
        assert {number(one.result()) for one in waiting} == {2}
    assert source.calls == 2


# --- failures


def unavailable(call: Callable[[], object]) -> CredentialsUnavailable:
    with pytest.raises(CredentialsUnavailable) as caught:
        call()
    return caught.value


def test_after_a_failure_credentials_are_used_until_they_expire(
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
        "USPS30603: usp_s3_wsgi: role x: refresh failed: STS answered 500; using the current credentials, "
        "which expire in 700 s\n"
    )
    source.now += 690
    assert number(subject.get(WAIT)) == 1
    source.now += 10
    failure = unavailable(lambda: subject.get(WAIT))
    assert (str(failure), failure.status) == ("role x: STS answered 500", 503)
    assert failure.headers == (("Retry-After", "1"),)


def test_backoff_grows_and_is_shorter_after_the_mandatory_timeout(source: Source, monotonic: list[float]) -> None:
    """At most 60 seconds, or 10 seconds when less than 10 minutes remain; a success resets it."""
    subject = start(source)
    subject.get(WAIT)
    source.error = CredentialsUnavailable("no")

    def backoffs(count: int) -> list[float]:
        found = []
        for _ in range(count):
            calls, started_at = source.calls, monotonic[0]
            subject.get(WAIT)
            settle(subject)
            while source.calls == calls:
                monotonic[0] += 0.5
                subject.get(WAIT)
                settle(subject)
            found.append(monotonic[0] - started_at)
        return found

    source.now += 3600 - 800
    assert backoffs(8) == [0, 1, 2, 4, 8, 16, 32, 60]
    source.now += 300
    assert backoffs(3) == [60, 10, 10]
    source.error = None
    backoffs(1)
    assert number(subject.get(WAIT)) == source.calls


def test_no_refresh_during_backoff(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    source.error = CredentialsUnavailable("no")
    for _ in range(50):
        unavailable(lambda: subject.get(WAIT))
    assert source.calls == 1
    monotonic[0] += 1
    source.error = None
    assert number(subject.get(WAIT)) == 2


def test_the_timeout_limits_the_wait(source: Source) -> None:
    subject = start(source)
    source.may_answer.clear()
    assert str(unavailable(lambda: subject.get(0.01))) == "role x: timed out waiting for credentials"
    source.may_answer.set()
    assert number(subject.get(WAIT)) == 1


def test_credentials_that_have_already_expired_are_a_failure() -> None:
    source = Source(-60)
    failure = unavailable(lambda: start(source).get(WAIT))
    assert str(failure) == "role x: the new credentials have already expired: check this server's clock"


def test_expired_credentials_do_not_replace_valid_ones(source: Source) -> None:
    subject = start(source)
    subject.get(WAIT)
    source.now += 3600 - 300
    source.lifetime = -60
    for _ in range(3):
        assert number(subject.get(WAIT)) == 1
        settle(subject)


def test_the_message_of_an_internal_error_is_not_shown(source: Source) -> None:
    subject = start(source)
    source.error = KeyError("secret-1")
    failure = str(unavailable(lambda: subject.get(WAIT)))
    assert failure.startswith("role x: internal error: KeyError in fetch, ") and "secret" not in failure


def test_refreshes_continue_after_system_exit_in_the_thread(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    source.error = SystemExit("secret-1")  # type: ignore[assignment]
    assert "internal error: SystemExit" in str(unavailable(lambda: subject.get(WAIT)))
    monotonic[0] += 2
    source.error = None
    assert number(subject.get(WAIT)) == 2


def test_a_setting_error_is_raised_as_one(source: Source) -> None:
    subject = start(source)
    source.error = SettingError("botocore is missing")
    for _ in range(2):
        with pytest.raises(SettingError, match="role x: botocore is missing"):
            subject.get(WAIT)


def test_a_thread_that_cannot_be_started_is_a_failure(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("daemon threads are disabled in this (sub)interpreter")

    subject = start(source)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            failure = unavailable(lambda: subject.get(WAIT))
            assert str(failure) == "role x: cannot start a refresh thread: RuntimeError"
    assert source.calls == 0


# --- rejected by S3


def test_rejected_credentials_are_replaced(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    first = subject.get(WAIT)
    assert not subject.replace_rejected(first, WAIT)  # too new to be replaced
    monotonic[0] += 60
    source.now -= 3600  # the wall clock does not matter
    assert subject.replace_rejected(first, WAIT)
    assert number(subject.get(WAIT)) == 2
    assert subject.replace_rejected(first, WAIT)  # another request has replaced them
    assert source.calls == 2


def test_invalidated_credentials_are_replaced_in_the_background(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    first = subject.get(WAIT)
    monotonic[0] += 60
    source.may_answer.clear()
    subject.invalidate()
    assert subject.get(0.0) == first
    source.may_answer.set()
    settle(subject)
    assert number(subject.get(0.0)) == 2


def test_permanent_rejection_does_not_cause_permanent_refreshes(source: Source, monotonic: list[float]) -> None:
    """One object that S3 always refuses must not cause a request to STS every 10 seconds."""
    subject = start(source)
    subject.get(WAIT)
    started_at = monotonic[0]
    while monotonic[0] < started_at + 3600:
        monotonic[0] += 1
        subject.invalidate()
        settle(subject)
    assert 5 <= source.calls <= 15


def test_simultaneous_rejections_count_once(source: Source, monotonic: list[float]) -> None:
    """They do not delay the next replacement, and neither do failed refreshes of invalidated credentials."""
    subject = start(source)
    first = subject.get(WAIT)
    monotonic[0] += 60
    source.may_answer.clear()
    with ThreadPoolExecutor(64) as pool:
        refused = [pool.submit(subject.replace_rejected, first, WAIT) for _ in range(64)]
        while source.calls < 2:
            pass
        for _ in range(64):
            subject.invalidate()
        source.may_answer.set()
        assert all(each.result() for each in refused)
    monotonic[0] += 11
    source.error = CredentialsUnavailable("no")
    for _ in range(10):
        subject.invalidate()
        settle(subject)
        monotonic[0] += 20
    source.error = None
    assert subject.replace_rejected(subject.get(WAIT), WAIT)
    monotonic[0] += 21
    assert subject.replace_rejected(subject.get(WAIT), WAIT)


def test_refresh_times_of_processes_have_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresher, "_JITTER", 60.0)
    times = set()
    for _ in range(20):
        subject = start(Source())
        subject.get(WAIT)
        assert subject._current is not None
        times.add(subject._current.refresh_at)
    assert len(times) == 20 and all(NOW + 3600 - 960 <= time <= NOW + 3600 - 900 for time in times)


# --- slow refreshes


def test_a_slow_refresh_occupies_threads_for_a_limited_time(source: Source, monotonic: list[float]) -> None:
    """Calls wait for a refresh until 5 seconds after its start; later calls fail immediately."""
    subject = start(source)
    source.may_answer.clear()
    unavailable(lambda: subject.get(0.0))
    monotonic[0] += 5
    for _ in range(100):
        assert "timed out waiting for credentials" in str(unavailable(lambda: subject.get(3600.0)))
    assert source.calls == 1
    source.may_answer.set()
    settle(subject)
    assert number(subject.get(0.0)) == 1


def test_a_refresh_that_hangs_is_a_failure(source: Source, monotonic: list[float]) -> None:
    """A late result is ignored."""
    subject = start(source)
    source.may_answer.clear()
    unavailable(lambda: subject.get(0.0))
    hanging, source.may_answer = source.may_answer, threading.Event()
    source.may_answer.set()
    monotonic[0] += 61
    assert "no answer within 60 s" in str(unavailable(lambda: subject.get(0.0)))
    monotonic[0] += 1
    assert number(subject.get(WAIT)) == 2
    hanging.set()
    assert source.answered.acquire(timeout=WAIT) and source.answered.acquire(timeout=WAIT)
    assert number(subject.get(WAIT)) == 2


def test_the_number_of_hanging_threads_is_limited(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    source.may_answer.clear()
    for _ in range(20):
        monotonic[0] += 100
        unavailable(lambda: subject.get(0.0))
    assert source.calls == 3
    assert "3 refresh threads hang" in str(unavailable(lambda: subject.get(0.0)))
    source.may_answer.set()
    for thread in subject._threads:
        thread.join(WAIT)
    monotonic[0] += 100
    assert number(subject.get(WAIT)) == 4


def test_rejected_credentials_are_kept_if_there_are_no_others(source: Source, monotonic: list[float]) -> None:
    subject = start(source)
    first = subject.get(WAIT)
    monotonic[0] += 60
    source.error = CredentialsUnavailable("no")
    assert not subject.replace_rejected(first, WAIT)
    assert subject.get(WAIT) == first


# --- the error log


def test_the_log_line_of_the_first_refresh(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    subject = start(source)
    subject.get(WAIT)
    source.now += 3000
    subject.get(WAIT)
    settle(subject)
    assert capsys.readouterr().err == (
        "USPS30602: usp_s3_wsgi: role x: credentials refreshed from a test, access key ASIA...0001, "
        "expiration 2027-01-15T09:00:00Z\n"
    )
