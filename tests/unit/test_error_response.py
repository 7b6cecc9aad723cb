"""S3's error responses: how they are parsed, which exception they mean, and what the log line says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.unit.test_client_response import Wire, from_s3
from usp_s3_wsgi import errors
from usp_s3_wsgi.errors import S3ErrorResponse
from usp_s3_wsgi.gateway import error_document
from usp_s3_wsgi.s3 import error_codes
from usp_s3_wsgi.transport.http_response import read_response


def line(error: S3ErrorResponse) -> str:
    """What the error log says of it."""
    return str(error_codes.to_exception(error, denied_status=403))


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"<Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
        (b'<?xml version="1.0"?>\n<Error xmlns="x">\n  <Code>\n NoSuchKey </Code>\n</Error>', "NoSuchKey"),
        (b"<Error><Code></Code></Error>", ""),
        (b"<Error><Code>two words</Code></Error>", ""),
        (b"<Error><Code>" + b"x" * 200 + b"</Code></Error>", ""),
        (b"<html><body>Forbidden</body></html>", ""),
        (b"\xff\xfe\x00binary", ""),
        (b"", ""),
        (b"<Code>a\x1b[31m</Code>", ""),
    ],
)
def test_the_code(document: bytes, code: str) -> None:
    assert error_document.read(from_s3(403, document), 5).code == code


def test_request_id_and_region_from_headers_first() -> None:
    document = b"<Error><Code>X</Code><RequestId>in-body</RequestId><Region>body-1</Region></Error>"
    parsed = error_document.read(
        from_s3(301, document, x_amz_request_id="in-header", x_amz_bucket_region="header-1"), 5
    )
    assert (parsed.request_id, parsed.region) == ("in-header", "header-1")
    parsed = error_document.read(from_s3(301, document), 5)
    assert (parsed.request_id, parsed.region) == ("in-body", "body-1")


def test_an_endless_error_document_is_not_read_to_its_end() -> None:
    wire = Wire(b"HTTP/1.1 403 X\r\n\r\n" + b"x" * (1 << 22))
    error_document.read(read_response(wire, "GET", lambda connection: None), 5)
    assert wire.stream.tell() < 1 << 20


def test_the_line_for_the_error_log() -> None:
    assert line(S3ErrorResponse(403, "ExpiredToken", "4442")) == "S3 answered 403 ExpiredToken, request id 4442"
    assert line(S3ErrorResponse(403, "")) == "S3 answered 403 (no code), request id (none)"
    assert line(S3ErrorResponse(301, "PermanentRedirect", "4", "eu-west-3")).endswith(
        ", the bucket is in region eu-west-3: set S3Region to it"
    )


@pytest.mark.parametrize(
    ("seconds", "hint"),
    [
        (3600, r", this server's clock is (3598|3599|3600) s behind S3's: correct it"),
        (-900, r" is 90\d s ahead of S3's"),
        (1, ""),
    ],
)
def test_the_line_says_how_wrong_the_clock_is(seconds: int, hint: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    parsed = error_document.read(from_s3(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Date=date), 5)
    assert re.search(hint, line(parsed)) and ("clock" in line(parsed)) == bool(hint)
    other = error_document.read(from_s3(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", Date=date), 5)
    assert "clock" not in line(other)


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Jan 2026 00:00:00 GMT", "0"])
def test_a_date_that_is_none(date: str) -> None:
    parsed = error_document.read(from_s3(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Date=date), 5)
    assert parsed.date is None and "clock" not in line(parsed)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("99999", 99_999), ("999999", None), ("soon", None), ("-1", None), ("", None), ("1.5", None)],
)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert error_document.read(from_s3(503, b"", Retry_After=text), 5).retry_after == seconds


@pytest.mark.parametrize(("seconds", "low", "high"), [(60, 57, 60), (-60, 0, 0)])
def test_retry_after_as_a_date(seconds: int, low: float, high: float) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    wait = error_document.read(from_s3(503, b"", Retry_After=date), 5).retry_after
    assert wait is not None and low <= wait <= high


@pytest.mark.parametrize(
    ("status", "code", "kind", "client"),
    [
        (404, "NoSuchKey", errors.ObjectNotFound, 404),
        (404, "NoSuchVersion", errors.ObjectNotFound, 404),
        (404, "", errors.ObjectNotFound, 404),
        (404, "NoSuchBucket", errors.RequestRejected, 502),
        (403, "AccessDenied", errors.AccessDenied, 404),
        (403, "InvalidObjectState", errors.AccessDenied, 404),  # archived
        (403, "", errors.AccessDenied, 404),
        (403, "SignatureDoesNotMatch", errors.RequestRejected, 502),
        (403, "AccountProblem", errors.RequestRejected, 502),
        (400, "KeyTooLongError", errors.BadRequestTarget, 400),
        (400, "ExpiredToken", errors.RequestRejected, 502),
        (400, "", errors.RequestRejected, 502),
        (301, "PermanentRedirect", errors.RequestRejected, 502),
        (401, "", errors.RequestRejected, 502),
        (500, "InternalError", errors.UpstreamUnavailable, 503),
        (503, "SlowDown", errors.UpstreamUnavailable, 503),
        (599, "", errors.UpstreamUnavailable, 503),
        (429, "", errors.UpstreamUnavailable, 503),
        (403, "RequestThrottled", errors.UpstreamUnavailable, 503),
        (501, "NotImplemented", errors.RequestRejected, 502),
        (505, "", errors.RequestRejected, 502),
        (405, "MethodNotAllowed", errors.RequestRejected, 502),
        (410, "", errors.ObjectNotFound, 404),
    ],
)
def test_what_a_refusal_means(status: int, code: str, kind: type[errors.GatewayError], client: int) -> None:
    failure = error_codes.to_exception(error := S3ErrorResponse(status, code, "4442"), denied_status=404)
    assert type(failure) is kind and failure.s3_error is error
    assert failure.status == client
    assert failure.should_log == (kind in {errors.RequestRejected, errors.UpstreamUnavailable})


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (403, ""), (400, "InvalidRequest")])
def test_a_denial_that_the_clock_explains_is_this_servers_fault(status: int, code: str) -> None:
    error = S3ErrorResponse(status, code, clock_skew=3600.0, is_signature_time_invalid=True)
    failure = error_codes.to_exception(error, denied_status=404, may_be_client_error=True)
    assert type(failure) is errors.RequestRejected and failure.status == 502
    assert str(failure).endswith(", this server's clock is 3600 s behind S3's: correct it")


@pytest.mark.parametrize("year", [1970, 1999, 2100, 9999])
def test_a_year_that_no_clock_shows(year: int) -> None:
    date = f"Thu, 01 Jan {year} 00:00:00 GMT"
    parsed = error_document.read(from_s3(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Date=date), 5)
    assert parsed.date is None and "clock" not in line(parsed)
