"""Error documents of S3: any bytes give an S3ErrorResponse of short, safe words that are in the document."""

from __future__ import annotations

import math
import re
from datetime import datetime
from xml.etree import ElementTree

from tests.fuzz.target import Target, fields, join
from usp_s3_wsgi.errors import GatewayError, S3ErrorResponse
from usp_s3_wsgi.s3 import error_codes, error_response

_HEADERS = ("date", "age", "retry-after", "x-amz-request-id", "x-amz-id-2", "cf-ray", "x-amz-bucket-region")
_WORD = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
#: A request id with that of the host, or with the name of the header that holds it.
_REQUEST_ID = re.compile(rf"{_WORD.pattern}(?:, x-amz-id-2 {_WORD.pattern}| \([a-z-]+\))?")
_MAX_LINE_LENGTH = 1_000


def check(data: bytes) -> None:
    status_text, *values, document = fields(data, len(_HEADERS) + 2)
    status = 400 + sum(status_text) % 200
    headers = {name: value.decode("latin-1") for name, value in zip(_HEADERS, values, strict=True) if value}
    text = document.decode("utf-8", "replace")
    error = error_response.parse(status, headers, text)
    _check_fields(error, text, headers)
    for may_be_client_error in (False, True):
        _check_exception(error_codes.to_exception(error, 403, may_be_client_error))
    if (code := _code_by_xml_parser(document)) is not None and error.code != "RequestExpired":
        assert error.code == code, (error.code, code)


def _check_fields(error: S3ErrorResponse, document: str, headers: dict[str, str]) -> None:
    for name in ("code", "region"):
        value = getattr(error, name)
        assert value == "" or _WORD.fullmatch(value), (name, value)
        assert value in document or value in headers.values() or value == "RequestExpired", (name, value)
    assert error.request_id == "" or _REQUEST_ID.fullmatch(error.request_id), error.request_id
    if error.retry_after is not None:
        assert error.retry_after >= 0 and math.isfinite(error.retry_after)
    assert error.date is None or (isinstance(error.date, datetime) and error.date.tzinfo is not None)
    assert math.isfinite(error.clock_skew)
    assert not (error.is_not_s3_document and error.code)


def _check_exception(error: GatewayError) -> None:
    assert error.status in {400, 403, 404, 416, 502, 503, 504}, error.status
    assert len(str(error)) < _MAX_LINE_LENGTH and str(error).isprintable(), str(error)
    for name, value in error.headers:
        assert re.fullmatch(r"[A-Za-z-]+", name) and re.fullmatch(r"[!-~ ]+", value), (name, value)


def _code_by_xml_parser(document: bytes) -> str | None:
    """Return the code of a document without XML's other ways of writing it, "" if it is no safe word.

    None: the document is not that simple.
    """
    if document.count(b"<Code>") != 1 or re.search(rb"[&!?]|\A\xef", document):
        return None
    try:
        found = ElementTree.fromstring(document).findall(".//{*}Code")
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    if len(found) != 1 or len(found[0]):
        return None
    code = (found[0].text or "").strip()
    return code if _WORD.fullmatch(code) else ""


def _seed(document: bytes, status: bytes = b"\x03", **headers: bytes) -> bytes:
    return join(status, *(headers.get(name.replace("-", "_"), b"") for name in _HEADERS), document)


_DOCUMENT = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code>NoSuchKey'
    b"</Code><Message>no</Message><RequestId>4442587FB7D0A2F9</RequestId><HostId>a/b+c=</HostId><Region>eu-west-3"
    b"</Region></Error>"
)
TARGET = Target(
    check,
    (
        b"",
        _seed(_DOCUMENT),
        _seed(_DOCUMENT[39:]),
        _seed(_DOCUMENT, date=b"Wed, 21 Oct 2015 07:28:00 GMT", age=b"10", x_amz_request_id=b"4442", x_amz_id_2=b"a/="),
        _seed(b"", b"\x67", retry_after=b"120", date=b"Sunday, 06-Nov-94 08:49:37 GMT", cf_ray=b"7-FRA"),
        _seed(b"", b"\x67", retry_after=b"Sun Nov  6 08:49:37 1994", x_amz_bucket_region=b"eu-west-3"),
        _seed(b"", retry_after=b"99999", date=b"Fri, 31 Dec 9999 23:59:59 -2359", age=b"999999999"),
        _seed(b"", retry_after=b"Mon, 01 Jan 0001 00:00:00 +2359"),
        _seed(b"<Error><Code>AccessDenied</Code><ServerTime>2015-08-30T12:36:00Z</ServerTime></Error>"),
        _seed(b"<Error><Code>\n \t NoSuchKey \xe2\x80\x83</Code></Error>"),
        _seed(b"<Code>" + b" " * 60_000 + b"x</Code>"),
        _seed(b"<Code>" + b"\n\t " * 20_000),
        _seed(b"<Code>" * 10_000),
        _seed("<Code> </Code>".replace(" ", " " * 20_000).encode()),
        _seed(b"<Code>\0</Code>\xff\xfe"),
        _seed(b"<html>400 The plain HTTP request was sent to HTTPS port</html>", b"\0"),
        _seed(b"", x_amz_request_id=b" " * 60_000),
        _seed(b"", date=b" " * 8_000),
        _seed(b"", date=b"(" * 8_000),
    ),
)
