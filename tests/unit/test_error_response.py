"""What S3 says of a refusal, read from its answer, and what the client gets for it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.unit.test_response import SETTINGS, Wire, from_s3
from usp_s3_wsgi import errors
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.gateway import error_document
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.s3.error_response import S3Error
from usp_s3_wsgi.transport.connection import S3Response


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
    told = error_document.read(from_s3(301, document, x_amz_request_id="in-header", x_amz_bucket_region="header-1"), 5)
    assert (told.request_id, told.region) == ("in-header", "header-1")
    told = error_document.read(from_s3(301, document), 5)
    assert (told.request_id, told.region) == ("in-body", "body-1")


def test_an_endless_error_document_is_not_read_to_its_end() -> None:
    wire = Wire(b"HTTP/1.1 403 X\r\n\r\n" + b"x" * (1 << 22))
    error_document.read(S3Response(wire, "GET", lambda connection: None), 5)
    assert wire.stream.tell() < 1 << 20


def test_the_line_for_the_error_log() -> None:
    assert str(S3Error(403, "ExpiredToken", "4442")) == "S3 answered 403 ExpiredToken, request id 4442"
    assert str(S3Error(403, "")) == "S3 answered 403 (no code), request id (none)"
    assert str(S3Error(301, "PermanentRedirect", "4", "eu-west-3")).endswith(
        ", the bucket is in region eu-west-3: set S3Region to it"
    )


@pytest.mark.parametrize(
    ("seconds", "hint"),
    [
        (3600, r", this server's clock is (3598|3599|3600) s behind S3's: set it right"),
        (-900, r" is 90\d s ahead of S3's"),
        (1, ""),
    ],
)
def test_the_line_says_how_wrong_the_clock_is(seconds: int, hint: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    told = error_document.read(from_s3(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Date=date), 5)
    assert re.search(hint, str(told)) and ("clock" in str(told)) == bool(hint)
    other = error_document.read(from_s3(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", Date=date), 5)
    assert "clock" not in str(other)


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Jan 2026 00:00:00 GMT", "0"])
def test_a_date_that_is_none(date: str) -> None:
    told = error_document.read(from_s3(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Date=date), 5)
    assert told.date is None and "clock" not in str(told)


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
        (404, "NoSuchBucket", errors.UpstreamRefused, 502),
        (403, "AccessDenied", errors.AccessDenied, 404),
        (403, "InvalidObjectState", errors.AccessDenied, 404),  # archived
        (403, "", errors.AccessDenied, 404),
        (403, "SignatureDoesNotMatch", errors.UpstreamRefused, 502),
        (403, "AccountProblem", errors.UpstreamRefused, 502),
        (400, "KeyTooLongError", errors.BadPath, 400),
        (400, "ExpiredToken", errors.UpstreamRefused, 502),
        (400, "", errors.UpstreamRefused, 502),
        (301, "PermanentRedirect", errors.UpstreamRefused, 502),
        (401, "", errors.UpstreamRefused, 502),
        (500, "InternalError", errors.UpstreamBusy, 503),
        (503, "SlowDown", errors.UpstreamBusy, 503),
        (599, "", errors.UpstreamBusy, 503),
        (429, "", errors.UpstreamBusy, 503),
        (403, "RequestThrottled", errors.UpstreamBusy, 503),
        (501, "NotImplemented", errors.UpstreamRefused, 502),
        (505, "", errors.UpstreamRefused, 502),
        (405, "MethodNotAllowed", errors.UpstreamRefused, 502),
        (410, "", errors.ObjectNotFound, 404),
    ],
)
def test_what_a_refusal_means(status: int, code: str, kind: type[errors.GatewayError], client: int) -> None:
    settings = Settings(SETTINGS.bucket_url, denied_status=404)
    error = error_response.refusal(told := S3Error(status, code, "4442"), settings)
    assert type(error) is kind and error.told is told
    assert error.status == client
    assert error.logged == (kind in {errors.UpstreamRefused, errors.UpstreamBusy})


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (403, ""), (400, "InvalidRequest")])
def test_a_denial_that_the_clock_explains_is_this_servers_fault(status: int, code: str) -> None:
    told = S3Error(status, code, ahead=3600.0, out_of_time=True)
    error = error_response.refusal(told, Settings(SETTINGS.bucket_url, denied_status=404), may_be_clients=True)
    assert type(error) is errors.UpstreamRefused and error.status == 502
    assert str(error).endswith(", this server's clock is 3600 s behind S3's: set it right")


@pytest.mark.parametrize("year", [1970, 1999, 2100, 9999])
def test_a_year_that_no_clock_shows(year: int) -> None:
    date = f"Thu, 01 Jan {year} 00:00:00 GMT"
    told = error_document.read(from_s3(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Date=date), 5)
    assert told.date is None and "clock" not in str(told)
