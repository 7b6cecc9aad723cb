"""Lines of the error log: what they say, and how many of a kind there are."""

from __future__ import annotations

import pytest

from usp_s3_wsgi.errors import GatewayError, ObjectNotFound, SettingError, UpstreamTimeout, UpstreamUnreachable
from usp_s3_wsgi.observability import error_log


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("usp_s3_wsgi.observability.error_log.time.monotonic", lambda: now[0])
    return now


def failure(host: str = "one.example", kind: type[GatewayError] = UpstreamUnreachable, tried: str = "") -> GatewayError:
    error = kind("refused")
    error.place, error.tried = f"GET https://{host}/b/a.ts", tried
    return error


def test_what_a_line_says() -> None:
    whole = failure(tried="attempt 2, 0.021 s")
    assert error_log.line(whole) == "refused (GET https://one.example/b/a.ts, attempt 2, 0.021 s)"
    assert error_log.line(whole, "asking again") == (
        "refused (GET https://one.example/b/a.ts, attempt 2, 0.021 s); asking again"
    )
    assert error_log.line(SettingError("S3Region must be")) == "S3Region must be"
    assert error_log.line(ObjectNotFound("x")) is None


def test_ten_of_a_kind_in_ten_seconds_then_how_many_were_left_out(clock: list[float]) -> None:
    lines = [error_log.line(failure()) for _ in range(25)]
    assert [line is None for line in lines] == [False] * 10 + [True] * 15
    clock[0] += 9.9
    assert error_log.line(failure()) is None
    clock[0] += 0.2
    assert str(error_log.line(failure())).endswith(" [16 more of this kind were not written]")
    assert not str(error_log.line(failure())).endswith("]")


def test_another_kind_or_host_is_not_hidden(clock: list[float]) -> None:
    for _ in range(25):
        error_log.line(failure())
    assert error_log.line(failure("two.example")) is not None
    assert error_log.line(failure(kind=UpstreamTimeout)) is not None
    assert error_log.line(SettingError("a")) is not None


def test_what_has_no_place_is_counted_by_its_words(clock: list[float]) -> None:
    lines = [error_log.line(SettingError("S3Region must be")) for _ in range(12)]
    assert lines[9] is not None and lines[10] is None
    assert error_log.line(SettingError("S3Expires must be")) is not None


def test_kinds_that_s3_makes_up_are_one_kind() -> None:
    limiter = error_log.Limiter()
    admitted = [limiter.admit(("host", number)) for number in range(5_000)]
    assert admitted[:1_000] == [0] * 1_000
    assert admitted[1_000:] == [0] * 10 + [None] * 3_990


def test_a_line_about_no_request(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(20):
        error_log.warn("the same each time")
    assert capsys.readouterr().err == "usp_s3_wsgi: the same each time\n" * 10


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error_log.warn("a\nb\x1b\u20ac")
    assert capsys.readouterr().err == "usp_s3_wsgi: a\\x0ab\\x1b\\u20ac\n"
