"""What S3 answered, on request (LogLevel debug): each answer that is no success is in one line, whatever follows it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.faults.server import ScriptedS3, Step, answer, close, error, first, head_of
from tests.wsgi import MODES, PROOF, call, environ, handed_over, s3_settings
from usp_s3_wsgi.gateway import fetcher, httpd_module

FILM = answer(200, b"film", ("ETag", '"e"'))
CUT = first(answer(200, b"fi", ("ETag", '"e"'), length=4), close)
#: Dated by another clock.
DENIED = error(403, "AccessDenied", ("Date", "Thu, 01 Jan 2099 00:00:00 GMT"))
PROBE = head_of(answer(403, b"x"))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process whose httpd has loaded usp_s3_module, which alone knows the level."""
    monkeypatch.setattr(httpd_module, "PROOF", PROOF)


def at_debug(settings: dict[str, str], **more: Any) -> dict[str, Any]:
    """The environ of a request where LogLevel is debug."""
    return environ(USP_S3_SETTINGS=handed_over(settings, debug=""), **more)


#: The method, S3's answers, and the beginning and end of each line.
CASES: dict[str, tuple[str, tuple[Step, ...], list[str]]] = {
    "success": ("GET", (FILM,), []),
    "absent": ("GET", (error(404, "NoSuchKey"),), ["debug: S3 answered 404 NoSuchKey"]),
    "absent after a retry": (
        "GET",
        (error(503, "SlowDown"), error(404, "NoSuchKey")),
        ["S3 answered 503 SlowDown.*; retrying", "debug: S3 answered 404 NoSuchKey"],
    ),
    "denied, and not by the clock": (
        "GET",
        (DENIED, DENIED),
        [
            "debug: S3 answered 403 AccessDenied.*attempt 1.*; retrying",
            "debug: S3 answered 403 AccessDenied.*attempt 2",
        ],
    ),
    "denied by the clock": ("GET", (DENIED, FILM), ["S3 answered 403 AccessDenied.*attempt 1.*; retrying"]),
    "a clock that is not tried to its end": (
        "GET",
        (DENIED, error(501, "NotImplemented")),
        ["debug: S3 answered 403 AccessDenied.*; retrying", "S3 answered 501 NotImplemented"],
    ),
    "a probe that says why": ("HEAD", (PROBE, error(403, "AccessDenied")), ["debug: S3 answered 403 AccessDenied"]),
    "a probe that is refused otherwise": (
        "HEAD",
        (PROBE, error(503, "SlowDown")),
        [r"debug: S3 answered 503 SlowDown.* \(GET .*", r"debug: S3 answered 403 \(no code\).* \(HEAD .*"],
    ),
    "a probe that is served": ("HEAD", (PROBE, FILM), [r"debug: S3 answered 403 \(no code\)"]),
    "another object's rest": (
        "GET",
        (CUT, error(412, "PreconditionFailed")),
        [
            "response body truncated: 2 bytes are missing.*; retrying",
            "debug: S3 answered 412 PreconditionFailed",
            "the object was changed meanwhile",
        ],
    ),
    "an absent rest": (
        "GET",
        (CUT, error(404, "NoSuchKey")),
        ["response body truncated.*; retrying", "response body truncated.*; then S3 answered 404 NoSuchKey"],
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_each_answer_is_in_one_line(name: str, mode: str) -> None:
    method, steps, lines = CASES[name]
    with ScriptedS3(*steps) as s3:
        settings = s3_settings(s3.url, mode, S3Retries="1")
        reply = call(at_debug(settings, url="/media/film.mp4?X-Amz-Signature=1", method=method))
    found = reply.log.splitlines()
    assert len(found) == len(lines), reply.log
    for line, expected in zip(found, lines, strict=True):
        assert re.match(rf"USPS30\d{{3}}: usp_s3_wsgi: /media: {expected}", line), line
        assert f"{s3.url}/bucket/film.mp4, attempt " in line
        assert "X-Amz" not in line and "Signature" not in line


@pytest.mark.parametrize("by_module", [False, True])
def test_nothing_is_written_unasked(by_module: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not by_module:
        monkeypatch.setattr(httpd_module, "PROOF", None)
    steps = (error(404, "NoSuchKey"), error(403, "AccessDenied"), answer(304, length=None), error(412, "x"))
    with ScriptedS3(*steps) as s3:
        for status in (404, 403, 304, 412):
            settings = s3_settings(s3.url)
            given = environ(USP_S3_SETTINGS=handed_over(settings)) if by_module else environ(settings=settings)
            reply = call(given)
            assert (reply.status, reply.log) == (status, "")


def test_the_connection_serves_again() -> None:
    """Though the document is read here that would have been dropped."""
    with ScriptedS3(error(412, "PreconditionFailed"), error(416, "InvalidRange"), FILM) as s3:
        settings = s3_settings(s3.url)
        replies = [call(at_debug(settings)) for _ in range(3)]
    assert [reply.status for reply in replies] == [412, 416, 200]
    assert [request.connection for request in s3.requests] == [1, 1, 1]


def test_the_first_bucket_and_its_copy() -> None:
    with (
        ScriptedS3(error(503, "SlowDown"), error(404, "NoSuchKey")) as one,
        ScriptedS3(error(404, "NoSuchKey"), FILM) as copies,
    ):
        more = {"S3FallbackURL": f"{copies.url}/copies/", "S3FallbackOn404": "on"}
        settings = s3_settings(one.url, **more)
        failed, served = (call(at_debug(settings)) for _ in range(2))
    assert (failed.status, served.body) == (503, b"film")
    busy, absent = failed.log.splitlines()
    assert re.fullmatch(
        rf"USPS30405: usp_s3_wsgi: /media: S3 answered 503 .* \(GET {one.url}.*; using S3FallbackURL", busy
    )
    assert re.fullmatch(
        rf"USPS30301: usp_s3_wsgi: /media: debug: S3 answered 404 .* \(GET {copies.url}/copies/.*\)", absent
    )
    (line,) = served.log.splitlines()
    assert re.fullmatch(
        rf"USPS30301: usp_s3_wsgi: /media: debug: S3 answered 404 .* \(GET {one.url}.*; using S3FallbackURL", line
    )
