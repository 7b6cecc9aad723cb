"""Which headers are forwarded: from the client's request to S3, and from S3's response to the client."""

from __future__ import annotations

from collections.abc import Mapping

from usp_s3_wsgi.s3 import http_date

_GET_REQUEST_HEADERS = {
    "HTTP_RANGE": "Range",
    "HTTP_IF_MATCH": "If-Match",
    "HTTP_IF_NONE_MATCH": "If-None-Match",
    "HTTP_IF_MODIFIED_SINCE": "If-Modified-Since",
    "HTTP_IF_UNMODIFIED_SINCE": "If-Unmodified-Since",
    "HTTP_IF_RANGE": "If-Range",
}
#: From the client to S3, by method, and by their names in a WSGI environ: RFC 9110, sections 13 and 14. Never
#: Authorization, Cookie, x-amz-*. Requests with other methods are rejected.
REQUEST_HEADERS = {
    "GET": _GET_REQUEST_HEADERS,
    # Ranges are defined for GET only, and servers differ in how they treat them in a HEAD.
    "HEAD": {key: name for key, name in _GET_REQUEST_HEADERS.items() if name not in {"Range", "If-Range"}},
}
#: Of a subrequest. Conditions are about the page that the client requests. So is a Range of the page, but the Origin
#: sets a Range of its own.
SUBREQUEST_HEADERS = {"HTTP_RANGE": "Range"}
#: Conditions whose value is a date, and which are ignored otherwise. Each is also ignored beside the condition that it
#: names here, which compares ETags; Swift compares both. RFC 9110, sections 13.1.3 and 13.1.4.
DATED_CONDITIONS = {"If-Modified-Since": "If-None-Match", "If-Unmodified-Since": "If-Match"}

_VALIDATORS = ("ETag", "Last-Modified", "Cache-Control", "Expires")
#: Set by a cache between S3 and this server: https://www.rfc-editor.org/rfc/rfc9111#section-4.2.3. Date is not
#: forwarded: httpd sets its own, and S3's clock may be wrong.
_AGE = "Age"
_REPRESENTATION = ("Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition")
#: From S3 to the client, by status; a response with another status is an error. A 304 has no Content-Length: caches
#: take Swift's 0 for a contradiction.
RESPONSE_HEADERS = {
    200: (*_REPRESENTATION, *_VALIDATORS, "Accept-Ranges", _AGE),
    206: (*_REPRESENTATION, "Content-Range", *_VALIDATORS, "Accept-Ranges", _AGE),
    304: (*_VALIDATORS, _AGE),
    412: _VALIDATORS,
    416: ("Content-Range", "Accept-Ranges", *_VALIDATORS),
}
#: The coding of an upload, which some servers store as one of the object:
#: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
UPLOAD_CODING = "aws-chunked"
#: S3's own default; httpd would guess another.
DEFAULT_CONTENT_TYPE = "binary/octet-stream"


def forwarded_request_headers(names: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the client's headers as S3 is to see them, by name.

    ``names``: as `REQUEST_HEADERS` has them for a method. ``environ``: of WSGI.
    """
    values = {name: request_header_value(name, environ.get(variable)) for variable, name in names.items()}
    return {name: value for name, value in values.items() if value and not values.get(DATED_CONDITIONS.get(name, ""))}


def request_header_value(name: str, value: str | None) -> str | None:
    """Return the value of a request header as S3 is to see it; nothing if the header is to be ignored.

    ``name``: one of the forwarded request headers.
    """
    if value and name in DATED_CONDITIONS:
        return http_date.canonical(value)
    if value and name == "Range":  # other units are ignored: https://www.rfc-editor.org/rfc/rfc9110#section-14.2
        unit, equals, ranges = value.partition("=")
        return f"bytes={ranges}" if equals and unit.lower() == "bytes" else None
    return value
