"""The levels of a request's log lines, where usp_s3_module writes them."""

from __future__ import annotations

import pytest

from tests.faults.server import ScriptedS3, answer, error
from tests.wsgi import call, environ, s3_settings
from usp_s3_wsgi.errors import S3ErrorResponse, UpstreamUnavailable
from usp_s3_wsgi.gateway import httpd_module
from usp_s3_wsgi.gateway.request_log import Level, RequestLog
from usp_s3_wsgi.observability.error_log import Attempt

ATTEMPT = Attempt("GET", "https", "s3.example", "/b/a.ts", 1, 0.02)
FILM = answer(200, b"film")


class FakeModule:
    """usp_s3_module, which writes lines to a list."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []

    def log(self, capsule: object, level: int, line: str) -> None:
        self.lines.append((level, line))

    def mark_body_truncated(self, capsule: object) -> None:
        raise AssertionError("no body is truncated here")

    def levels(self) -> list[Level]:
        return [Level(level) for level, _ in self.lines]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> FakeModule:
    fake = FakeModule()
    request = httpd_module.HttpdRequest(fake, None)  # type: ignore[arg-type]
    monkeypatch.setattr(httpd_module, "current_request", lambda: request)
    return fake


def busy(number: int = 0) -> UpstreamUnavailable:
    s3_error = S3ErrorResponse(503, "SlowDown")
    return UpstreamUnavailable(str(s3_error), s3_error=s3_error)


def request_log() -> RequestLog:
    return RequestLog(environ(), httpd_module.current_request())


def test_a_failure_is_an_error_and_a_retry_is_info(module: FakeModule) -> None:
    log = request_log()
    log.failure(busy(), ATTEMPT)
    log.retry(busy(), ATTEMPT)
    log.retry(busy(), ATTEMPT, is_misconfigured=True)
    assert module.levels() == [Level.ERROR, Level.INFO, Level.WARNING]
    assert all(line.startswith("USPS30405: usp_s3_wsgi: /media: S3 answered 503 SlowDown") for _, line in module.lines)


def test_retries_do_not_suppress_errors(module: FakeModule) -> None:
    """httpd drops lines at level info by default: they must not use up the limit of those that it writes."""
    log = request_log()
    for _ in range(30):
        log.retry(busy(), ATTEMPT)
    log.failure(busy(), ATTEMPT)
    assert module.levels().count(Level.INFO) == 10
    assert module.levels()[-1] == Level.ERROR


def test_lines_at_one_level_have_one_limit() -> None:
    """Without the module mod_wsgi writes all lines at level error."""
    variables = environ()
    log = RequestLog(variables)
    for _ in range(12):
        log.retry(busy(), ATTEMPT)
        log.failure(busy(), ATTEMPT, "using S3FallbackURL", Level.WARNING)
        log.failure(busy(), ATTEMPT)
    assert variables["wsgi.errors"].getvalue().count("\n") == 10


def test_frequent_retries_are_one_warning(module: FakeModule) -> None:
    log = request_log()
    for _ in range(30):
        log.retry(busy(), ATTEMPT)
    (warning,) = [line for level, line in module.lines if level == Level.WARNING]
    assert warning == (
        "USPS30409: usp_s3_wsgi: /media: 10 attempts to s3.example failed and were retried within 60 s; "
        "the last failure: S3 answered 503 SlowDown, request id (none) (LogLevel usp_s3:info shows each)"
    )


def test_a_response_that_no_other_line_reports_is_debug(module: FakeModule) -> None:
    log = request_log()
    log.s3_response(S3ErrorResponse(404, "NoSuchKey"), ATTEMPT)
    assert module.lines == []
    log.is_debug = True
    log.s3_response(S3ErrorResponse(404, "NoSuchKey"), ATTEMPT)
    assert module.levels() == [Level.DEBUG] and "debug:" not in module.lines[0][1]


def respond(module: FakeModule, first: bytes, fallback: bytes) -> tuple[int, list[Level]]:
    with ScriptedS3(first) as primary, ScriptedS3(fallback) as copies:
        settings = s3_settings(primary.url, S3FallbackURL=f"{copies.url}/copies/")
        reply = call(environ(settings=settings))
    assert reply.log == ""
    return reply.status, module.levels()


def test_the_use_of_the_fallback_bucket_is_a_warning_if_it_helped(module: FakeModule) -> None:
    assert respond(module, error(503, "SlowDown"), FILM) == (200, [Level.WARNING])


@pytest.mark.parametrize("fallback", [error(404, "NoSuchKey"), error(403, "AccessDenied")])
def test_the_first_failure_is_an_error_if_the_fallback_bucket_lacks_the_object(
    module: FakeModule, fallback: bytes
) -> None:
    assert respond(module, error(503, "SlowDown"), fallback) == (503, [Level.ERROR])


def test_both_failures_are_errors_if_the_fallback_bucket_fails_too(module: FakeModule) -> None:
    assert respond(module, error(503, "SlowDown"), error(500, "InternalError")) == (503, [Level.ERROR, Level.ERROR])
