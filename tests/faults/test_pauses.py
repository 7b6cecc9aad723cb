"""How long the gateway waits before it asks again: longer each time, never as long as others do, and not too long."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.named import OBJECT, WHOLE, cut, rest
from tests.faults.server import ScriptedS3, Step, answer, close, error, first
from tests.wsgi import Reply, call, environ, s3_settings

HELLO = answer(200, b"hello")


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> list[float]:
    """The seconds of each pause; they pass at once. By chance each pause is the longest of those that may be."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        pauses.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda shortest, longest: longest)
    return pauses


def ask(*script: Step, retries: int = 10, timeout: str = "30") -> Reply:
    with ScriptedS3(*script) as s3:
        settings = s3_settings(s3.url, S3Retries=str(retries), S3ProxySet=f"timeout={timeout}")
        return call(environ("/media/film.mp4", settings))


def test_without_a_failure_nothing_waits(slept: list[float]) -> None:
    assert ask(HELLO).body == b"hello"
    assert slept == []


def test_each_pause_is_twice_the_last_one(slept: list[float]) -> None:
    assert ask(*[close] * 4, HELLO).body == b"hello"
    assert slept == [0.05, 0.1, 0.2, 0.4]


def test_a_pause_is_2_s_at_most(slept: list[float]) -> None:
    assert ask(*[close] * 8, HELLO).body == b"hello"
    assert slept[-3:] == [1.6, 2.0, 2.0]


def test_tries_and_resumes_of_a_request_count_together(slept: list[float]) -> None:
    script: list[Step] = [close, first(cut(2000), close), error(503, "SlowDown"), first(cut(500, rest(2000)), close)]
    assert ask(*script, rest(2500)).body == OBJECT
    assert slept == [0.05, 0.1, 0.2, 0.4]


def test_the_next_request_begins_anew(slept: list[float]) -> None:
    ask(close, close, HELLO)
    ask(close, HELLO)
    assert slept == [0.05, 0.1, 0.05]


def test_chance_shortens_each_pause_down_to_none(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    """Many clients that S3 has refused at once must not come back at once."""
    limits: list[tuple[float, float]] = []
    chances = iter([0.5, 0.25, 0.0])

    def uniform(shortest: float, longest: float) -> float:
        limits.append((shortest, longest))
        return shortest + (longest - shortest) * next(chances)

    monkeypatch.setattr(random, "uniform", uniform)
    assert ask(close, close, close, HELLO).body == b"hello"
    assert limits == [(0, 0.05), (0, 0.1), (0, 0.2)]
    assert slept == [0.025, 0.025, 0.0]


def test_another_region_needs_no_pause(slept: list[float]) -> None:
    assert ask(error(301, "PermanentRedirect", region="eu-west-3"), WHOLE).body == OBJECT
    assert sum(slept) == 0


@pytest.mark.parametrize(("stated", "pause"), [("3", 3.0), ("0", 0.05), ("29", 29.0), ("soon", 0.05)])
def test_s3s_retry_after_is_waited_for(slept: list[float], stated: str, pause: float) -> None:
    assert ask(error(503, "SlowDown", ("Retry-After", stated)), HELLO).body == b"hello"
    assert slept == [pause]


def test_s3s_retry_after_counts_for_the_rest_of_a_body_too(slept: list[float]) -> None:
    assert ask(first(cut(2000), close), error(503, "SlowDown", ("Retry-After", "7")), rest(2000)).body == OBJECT
    assert slept == [0.05, 7.0]


def test_a_retry_after_that_is_longer_than_the_timeout_is_the_clients(slept: list[float]) -> None:
    reply = ask(error(503, "SlowDown", ("Retry-After", "31")))
    assert (reply.status, reply.headers["Retry-After"]) == (503, "31")
    assert slept == []


def test_retry_afters_add_up_to_the_timeout(slept: list[float]) -> None:
    busy = error(503, "SlowDown", ("Retry-After", "12"))
    assert ask(busy, busy, busy).status == 503
    assert slept == [12.0, 12.0]


def test_no_try_begins_later_than_the_timeout(slept: list[float]) -> None:
    assert ask(*[close] * 9, timeout="9").status == 502
    assert slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]  # with the next one more than 9 s


def test_the_timeout_begins_anew_where_a_body_breaks_off(slept: list[float]) -> None:
    """Otherwise a film that takes an hour could not be resumed."""
    busy = error(503, "SlowDown", ("Retry-After", "8"))
    assert ask(busy, first(cut(2000), close), busy, rest(2000), timeout="9").body == OBJECT
    assert slept == [8.0, 0.1, 8.0]
