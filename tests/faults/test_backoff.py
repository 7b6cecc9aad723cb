"""The delay before a retry: exponential, with jitter, and limited by the timeout."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.named import OBJECT, WHOLE, rest, truncated
from tests.faults.server import ScriptedS3, Step, answer, close, error, first
from tests.wsgi import Reply, call, environ, s3_settings

HELLO = answer(200, b"hello")


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> list[float]:
    """The delays in seconds, which take no real time here. The jitter always gives the longest delay."""
    delays: list[float] = []

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        delays.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda shortest, longest: longest)
    return delays


def fetch(*script: Step, retries: int = 10, timeout: str = "30") -> Reply:
    with ScriptedS3(*script) as s3:
        settings = s3_settings(s3.url, S3Retries=str(retries), S3ProxySet=f"timeout={timeout}")
        return call(environ("/media/film.mp4", settings))


def test_no_delay_without_a_failure(slept: list[float]) -> None:
    assert fetch(HELLO).body == b"hello"
    assert slept == []


def test_each_delay_is_twice_the_last_one(slept: list[float]) -> None:
    assert fetch(*[close] * 4, HELLO).body == b"hello"
    assert slept == [0.05, 0.1, 0.2, 0.4]


def test_a_delay_is_at_most_2_s(slept: list[float]) -> None:
    assert fetch(*[close] * 8, HELLO).body == b"hello"
    assert slept[-3:] == [1.6, 2.0, 2.0]


def test_retries_and_resumes_of_a_request_count_together(slept: list[float]) -> None:
    script: list[Step] = [
        close,
        first(truncated(2000), close),
        error(503, "SlowDown"),
        first(truncated(500, rest(2000)), close),
    ]
    assert fetch(*script, rest(2500)).body == OBJECT
    assert slept == [0.05, 0.1, 0.2, 0.4]


def test_the_next_request_starts_with_the_shortest_delay(slept: list[float]) -> None:
    fetch(close, close, HELLO)
    fetch(close, HELLO)
    assert slept == [0.05, 0.1, 0.05]


def test_jitter_is_between_zero_and_the_full_delay(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    """Clients that failed at the same time must not retry at the same time."""
    limits: list[tuple[float, float]] = []
    chances = iter([0.5, 0.25, 0.0])

    def uniform(shortest: float, longest: float) -> float:
        limits.append((shortest, longest))
        return shortest + (longest - shortest) * next(chances)

    monkeypatch.setattr(random, "uniform", uniform)
    assert fetch(close, close, close, HELLO).body == b"hello"
    assert limits == [(0, 0.05), (0, 0.1), (0, 0.2)]
    assert slept == [0.025, 0.025, 0.0]


def test_no_delay_before_another_region(slept: list[float]) -> None:
    assert fetch(error(301, "PermanentRedirect", region="eu-west-3"), WHOLE).body == OBJECT
    assert sum(slept) == 0


@pytest.mark.parametrize(("retry_after", "delay"), [("3", 3.0), ("0", 0.05), ("29", 29.0), ("soon", 0.05)])
def test_retry_after_is_respected(slept: list[float], retry_after: str, delay: float) -> None:
    assert fetch(error(503, "SlowDown", ("Retry-After", retry_after)), HELLO).body == b"hello"
    assert slept == [delay]


def test_retry_after_is_respected_when_the_rest_is_requested(slept: list[float]) -> None:
    assert fetch(first(truncated(2000), close), error(503, "SlowDown", ("Retry-After", "7")), rest(2000)).body == OBJECT
    assert slept == [0.05, 7.0]


def test_a_retry_after_beyond_the_timeout_is_forwarded(slept: list[float]) -> None:
    reply = fetch(error(503, "SlowDown", ("Retry-After", "31")))
    assert (reply.status, reply.headers["Retry-After"]) == (503, "31")
    assert slept == []


def test_retry_afters_add_up_to_the_timeout(slept: list[float]) -> None:
    busy = error(503, "SlowDown", ("Retry-After", "12"))
    assert fetch(busy, busy, busy).status == 503
    assert slept == [12.0, 12.0]


def test_no_retry_begins_after_the_timeout(slept: list[float]) -> None:
    assert fetch(*[close] * 9, timeout="9").status == 502
    assert slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]  # with the next one more than 9 s


def test_the_timeout_restarts_when_a_body_is_truncated(slept: list[float]) -> None:
    """Otherwise a download that takes an hour could not be resumed."""
    busy = error(503, "SlowDown", ("Retry-After", "8"))
    assert fetch(busy, first(truncated(2000), close), busy, rest(2000), timeout="9").body == OBJECT
    assert slept == [8.0, 0.1, 8.0]
