"""LogLevel debug: each response of S3 that is not a success is in exactly one log line."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.faults.server import ScriptedS3, Step, answer, close, error, first, head_of
from tests.wsgi import MODES, PROOF, call, environ, handed_over, s3_settings
from usp_s3_wsgi.gateway import fetcher, httpd_module

FILM = answer(200, b"film", ("ETag", '"e"'))
TRUNCATED = first(answer(200, b"fi", ("ETag", '"e"'), length=4), close)
#: Its Date is that of another clock.
DENIED = error(403, "AccessDenied", ("Date", "Thu, 01 Jan 2099 00:00:00 GMT"))
HEAD_DENIED = head_of(answer(403, b"x"))


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process whose httpd has loaded usp_s3_module, which passes the log level on."""
    monkeypatch.setattr(httpd_module, "PROOF", PROOF)


def debug_environ(settings: dict[str, str], **more: Any) -> dict[str, Any]:
    """The environ of a request where LogLevel is debug."""
    return environ(USP_S3_SETTINGS=handed_over(settings, debug=""), **more)


#: The method, S3's responses, and a pattern for each log line.
CASES: dict[str, tuple[str, tuple[Step, ...], list[str]]] = {
    "success": ("GET", (FILM,), []),
    "not found": ("GET", (error(404, "NoSuchKey"),), ["debug: S3 answered 404 NoSuchKey"]),
    "not found after a retry": (
        "GET",
        (error(503, "SlowDown"), error(404, "NoSuchKey")),
        ["S3 answered 503 SlowDown.*; retrying", "debug: S3 answered 404 NoSuchKey"],
    ),
    "denied, and another clock does not help": (
        "GET",
        (DENIED, DENIED),
        [
            "debug: S3 answered 403 AccessDenied.*attempt 1.*; retrying",
            "debug: S3 answered 403 AccessDenied.*attempt 2",
        ],
    ),
    "denied, and S3's clock helps": ("GET", (DENIED, FILM), ["S3 answered 403 AccessDenied.*attempt 1.*; retrying"]),
    "another failure while S3's clock is tried": (
        "GET",
        (DENIED, error(501, "NotImplemented")),
        ["debug: S3 answered 403 AccessDenied.*; retrying", "S3 answered 501 NotImplemented"],
    ),
    "a GET for the error code of a HEAD": (
        "HEAD",
        (HEAD_DENIED, error(403, "AccessDenied")),
        ["debug: S3 answered 403 AccessDenied"],
    ),
    "a GET for the error code that fails otherwise": (
        "HEAD",
        (HEAD_DENIED, error(503, "SlowDown")),
        [r"debug: S3 answered 503 SlowDown.* \(GET .*", r"debug: S3 answered 403 \(no code\).* \(HEAD .*"],
    ),
    "a GET for the error code that succeeds": ("HEAD", (HEAD_DENIED, FILM), [r"debug: S3 answered 403 \(no code\)"]),
    "the rest of another object": (
        "GET",
        (TRUNCATED, error(412, "PreconditionFailed")),
        [
            "response body truncated: 2 bytes are missing.*; retrying",
            "debug: S3 answered 412 PreconditionFailed",
            "the object was changed meanwhile",
        ],
    ),
    "the rest is not found": (
        "GET",
        (TRUNCATED, error(404, "NoSuchKey")),
        ["response body truncated.*; retrying", "response body truncated.*; then S3 answered 404 NoSuchKey"],
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_each_error_response_is_in_one_line(name: str, mode: str) -> None:
    method, steps, lines = CASES[name]
    with ScriptedS3(*steps) as s3:
        settings = s3_settings(s3.url, mode, S3Retries="1")
        reply = call(debug_environ(settings, url="/media/film.mp4?X-Amz-Signature=1", method=method))
    found = reply.log.splitlines()
    assert len(found) == len(lines), reply.log
    for line, expected in zip(found, lines, strict=True):
        assert re.match(rf"USPS30\d{{3}}: usp_s3_wsgi: /media: {expected}", line), line
        assert f"{s3.url}/bucket/film.mp4, attempt " in line
        assert "X-Amz" not in line and "Signature" not in line


@pytest.mark.parametrize("with_module", [False, True])
def test_nothing_is_written_above_debug(with_module: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_module:
        monkeypatch.setattr(httpd_module, "PROOF", None)
    steps = (error(404, "NoSuchKey"), error(403, "AccessDenied"), answer(304, length=None), error(412, "x"))
    with ScriptedS3(*steps) as s3:
        for status in (404, 403, 304, 412):
            settings = s3_settings(s3.url)
            request = environ(USP_S3_SETTINGS=handed_over(settings)) if with_module else environ(settings=settings)
            reply = call(request)
            assert (reply.status, reply.log) == (status, "")


def test_the_connection_is_reused() -> None:
    """At this level the error document is read for the log, and not discarded."""
    with ScriptedS3(error(412, "PreconditionFailed"), error(416, "InvalidRange"), FILM) as s3:
        settings = s3_settings(s3.url)
        replies = [call(debug_environ(settings)) for _ in range(3)]
    assert [reply.status for reply in replies] == [412, 416, 200]
    assert [request.connection for request in s3.requests] == [1, 1, 1]


def test_responses_of_the_fallback_bucket() -> None:
    with (
        ScriptedS3(error(503, "SlowDown"), error(404, "NoSuchKey")) as bucket,
        ScriptedS3(error(404, "NoSuchKey"), FILM) as fallback,
    ):
        more = {"S3FallbackURL": f"{fallback.url}/fallback/", "S3FallbackOn404": "on"}
        settings = s3_settings(bucket.url, **more)
        failed, served = (call(debug_environ(settings)) for _ in range(2))
    assert (failed.status, served.body) == (503, b"film")
    unavailable, not_found = failed.log.splitlines()
    assert re.fullmatch(
        rf"USPS30405: usp_s3_wsgi: /media: S3 answered 503 .* \(GET {bucket.url}.*; using S3FallbackURL", unavailable
    )
    assert re.fullmatch(
        rf"USPS30301: usp_s3_wsgi: /media: debug: S3 answered 404 .* \(GET {fallback.url}/fallback/.*\)", not_found
    )
    (line,) = served.log.splitlines()
    assert re.fullmatch(
        rf"USPS30301: usp_s3_wsgi: /media: debug: S3 answered 404 .* \(GET {bucket.url}.*; using S3FallbackURL", line
    )
