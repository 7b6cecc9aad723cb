"""S3's error responses: how they are parsed, which exception they mean, and the text of the log line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.unit.test_client_response import FakeConnection, s3_response
from usp_s3_wsgi import errors
from usp_s3_wsgi.errors import S3ErrorResponse
from usp_s3_wsgi.gateway import error_document
from usp_s3_wsgi.s3 import error_codes, error_response
from usp_s3_wsgi.transport.http_response import read_response


def log_message(error: S3ErrorResponse) -> str:
    """Return the text of the log line for an error response."""
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
def test_code(document: bytes, code: str) -> None:
    assert error_document.read(s3_response(403, document), 5).code == code


def test_request_id_and_region_are_read_from_headers_first() -> None:
    document = b"<Error><Code>X</Code><RequestId>in-body</RequestId><Region>body-1</Region></Error>"
    parsed = error_document.read(
        s3_response(301, document, x_amz_request_id="in-header", x_amz_bucket_region="header-1"), 5
    )
    assert (parsed.request_id, parsed.region) == ("in-header", "header-1")
    parsed = error_document.read(s3_response(301, document), 5)
    assert (parsed.request_id, parsed.region) == ("in-body", "body-1")


def test_a_host_id_that_is_the_request_id_is_named_once() -> None:
    assert error_response.request_id({"x-amz-request-id": "4442", "x-amz-id-2": "4442"}) == "4442"
    assert error_response.request_id({"x-amz-request-id": "4442", "x-amz-id-2": "host"}) == "4442, x-amz-id-2 host"


def test_an_error_document_without_end_is_read_in_part() -> None:
    connection = FakeConnection(b"HTTP/1.1 403 X\r\n\r\n" + b"x" * (1 << 22))
    error_document.read(read_response(connection, "GET"), 5)
    assert connection.stream.tell() < 1 << 20


def test_log_message() -> None:
    assert log_message(S3ErrorResponse(403, "ExpiredToken", "4442")) == "S3 answered 403 ExpiredToken, request id 4442"
    assert log_message(S3ErrorResponse(403, "")) == "S3 answered 403 (no code), request id (none)"
    assert log_message(S3ErrorResponse(301, "PermanentRedirect", "4", "eu-west-3")).endswith(
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
def test_the_log_message_states_the_clock_skew(seconds: int, hint: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    parsed = error_document.read(s3_response(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Date=date), 5)
    assert re.search(hint, log_message(parsed)) and ("clock" in log_message(parsed)) == bool(hint)
    other = error_document.read(s3_response(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", Date=date), 5)
    assert "clock" not in log_message(other)


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Jan 2026 00:00:00 GMT", "0"])
def test_invalid_dates_are_ignored(date: str) -> None:
    parsed = error_document.read(s3_response(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Date=date), 5)
    assert parsed.date is None and "clock" not in log_message(parsed)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("99999", 99_999), ("999999", None), ("soon", None), ("-1", None), ("", None), ("1.5", None)],
)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert error_document.read(s3_response(503, b"", Retry_After=text), 5).retry_after == seconds


@pytest.mark.parametrize(("seconds", "low", "high"), [(60, 57, 60), (-60, 0, 0)])
def test_retry_after_as_a_date(seconds: int, low: float, high: float) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    wait = error_document.read(s3_response(503, b"", Retry_After=date), 5).retry_after
    assert wait is not None and low <= wait <= high


@pytest.mark.parametrize(
    ("status", "code", "exception", "client_status"),
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
def test_exception_for_status_and_code(
    status: int, code: str, exception: type[errors.GatewayError], client_status: int
) -> None:
    s3_error = S3ErrorResponse(status, code, "4442")
    failure = error_codes.to_exception(s3_error, denied_status=404)
    assert type(failure) is exception and failure.s3_error is s3_error
    assert failure.status == client_status
    assert failure.should_log == (exception in {errors.RequestRejected, errors.UpstreamUnavailable})


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (403, ""), (400, "InvalidRequest")])
def test_a_denial_outside_of_the_signatures_validity_is_a_clock_error(status: int, code: str) -> None:
    error = S3ErrorResponse(status, code, clock_skew=3600.0, is_signature_time_invalid=True)
    failure = error_codes.to_exception(error, denied_status=404, may_be_client_error=True)
    assert type(failure) is errors.RequestRejected and failure.status == 502
    assert str(failure).endswith(", this server's clock is 3600 s behind S3's: correct it")


@pytest.mark.parametrize("year", [1970, 1999, 2100, 9999])
def test_implausible_years_are_ignored(year: int) -> None:
    date = f"Thu, 01 Jan {year} 00:00:00 GMT"
    parsed = error_document.read(s3_response(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Date=date), 5)
    assert parsed.date is None and "clock" not in log_message(parsed)
