"""Lines of the error log: their text, and how many similar ones are written."""

from __future__ import annotations

import pytest

from usp_s3_wsgi.errors import (
    GatewayError,
    LogCode,
    ObjectNotFound,
    SettingError,
    UpstreamConnectionError,
    UpstreamTimeout,
)
from usp_s3_wsgi.observability import error_log
from usp_s3_wsgi.observability.error_log import Attempt, format_failure
from usp_s3_wsgi.observability.rate_limiter import FrequencyAlarm, RateLimiter

ATTEMPT = Attempt("GET", "https", "one.example", "/b/a.ts")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("usp_s3_wsgi.observability.rate_limiter.time.monotonic", lambda: now[0])
    return now


def log_failure(host: str = "one.example", exception: type[GatewayError] = UpstreamConnectionError) -> str | None:
    return format_failure(exception("refused"), ATTEMPT._replace(host=host))


def test_format_failure() -> None:
    failure, second = UpstreamConnectionError("refused"), ATTEMPT._replace(number=2, seconds=0.0211)
    assert format_failure(failure, ATTEMPT) == "refused (GET https://one.example/b/a.ts)"
    assert format_failure(failure, second) == "refused (GET https://one.example/b/a.ts, attempt 2, 0.021 s)"
    assert format_failure(failure, second, "retrying") == (
        "refused (GET https://one.example/b/a.ts, attempt 2, 0.021 s); retrying"
    )
    assert format_failure(SettingError("S3Region must be")) == "S3Region must be"
    assert format_failure(UpstreamConnectionError("x", hint="check it"), None, "retrying") == "x; check it; retrying"
    assert format_failure(ObjectNotFound("x")) is None


def test_a_complete_line_begins_with_its_code() -> None:
    line = error_log.format_line(LogCode.INVALID_SETTING, "/media: S3Region must be\nset")
    assert line == r"USPS30101: usp_s3_wsgi: /media: S3Region must be\x0aset"


def test_ten_similar_lines_in_ten_seconds_then_how_many_were_suppressed(clock: list[float]) -> None:
    lines = [log_failure() for _ in range(25)]
    assert [line is None for line in lines] == [False] * 10 + [True] * 15
    clock[0] += 9.9
    assert log_failure() is None
    clock[0] += 0.2
    assert str(log_failure()).endswith(" [16 similar messages suppressed]")
    assert not str(log_failure()).endswith("]")


def test_another_exception_or_host_is_not_suppressed(clock: list[float]) -> None:
    for _ in range(25):
        log_failure()
    assert log_failure("two.example") is not None
    assert log_failure(exception=UpstreamTimeout) is not None
    assert format_failure(SettingError("a")) is not None


def test_a_failure_before_an_attempt_is_counted_by_its_text(clock: list[float]) -> None:
    lines = [format_failure(SettingError("S3Region must be")) for _ in range(12)]
    assert lines[9] is not None and lines[10] is None
    assert format_failure(SettingError("S3Expires must be")) is not None


def test_the_number_of_kinds_is_bounded() -> None:
    limiter = RateLimiter(lines=10, seconds=10.0)
    allowed = [limiter.allow(("host", number)) for number in range(5_000)]
    assert allowed[:1_000] == [0] * 1_000
    assert allowed[1_000:] == [0] * 10 + [None] * 3_990


def test_the_alarm_for_frequent_events_is_given_once_in_a_period(clock: list[float]) -> None:
    alarm = FrequencyAlarm(threshold=3, seconds=60.0)
    assert [alarm.record("a") for _ in range(5)] == [False, False, True, False, False]
    assert [alarm.record("b") for _ in range(2)] == [False, False]
    clock[0] += 61
    assert [alarm.record("a") for _ in range(4)] == [False, False, True, False]


def test_the_number_of_kinds_of_frequent_events_is_bounded() -> None:
    """Kinds over the maximum are one kind, and do not reset the counts of the others."""
    alarm = FrequencyAlarm(threshold=2, seconds=60.0)
    assert [alarm.record(number) for number in range(5_000)].count(True) == 1
    assert alarm.record(0)


def test_a_warning_outside_of_a_request_is_rate_limited(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(20):
        error_log.write_to_stderr(LogCode.KEY_FILE_UNREADABLE, "the same each time")
    assert capsys.readouterr().err == "USPS30604: usp_s3_wsgi: the same each time\n" * 10


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    error_log.write_to_stderr(LogCode.KEY_FILE_UNREADABLE, "a\nb\x1b\u20ac")
    assert capsys.readouterr().err == "USPS30604: usp_s3_wsgi: a\\x0ab\\x1b\\u20ac\n"
