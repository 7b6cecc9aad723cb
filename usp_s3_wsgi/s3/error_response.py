"""Parse an error response of S3: its error document and its headers.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from usp_s3_wsgi.errors import S3ErrorResponse

#: The headers in which servers send the id of a request: S3, Google, Oracle, Cloudflare, CloudFront.
REQUEST_ID_HEADERS = ("x-amz-request-id", "x-guploader-uploadid", "opc-request-id", "cf-ray", "x-amz-cf-id")
#: What nginx, Go's servers and httpd answer to plain HTTP on a port that speaks TLS.
_PLAIN_HTTP_TO_TLS = (
    "request was sent to HTTPS port",
    "HTTP request to an HTTPS server",
    "plain HTTP to an SSL-enabled",
)
_SAFE_WORD = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
#: A Date of another year is not S3's clock.
_PLAUSIBLE_YEARS = range(2000, 2100)


def parse(status: int, headers: Mapping[str, str], document: str) -> S3ErrorResponse:
    """Return what an error document and its headers say; ``headers``: names in lowercase."""
    code = _element(document, "Code")
    if code == "AccessDenied" and "<ServerTime>" in document:
        code = "RequestExpired"  # AWS says so of a signature in the query that is too old, or from a wrong clock
    now, date = datetime.now(UTC), server_time(headers)
    return S3ErrorResponse(
        status=status,
        code=code,
        request_id=request_id(headers) or _with_host_id(_element(document, "RequestId"), _element(document, "HostId")),
        region=_safe_word(headers.get("x-amz-bucket-region", "")) or _element(document, "Region"),
        retry_after=_retry_after(headers.get("retry-after", ""), now),
        date=date,
        clock_skew=(date - now).total_seconds() if date else 0.0,
        is_not_s3_document=bool(document.strip()) and not code,
        is_delete_marker=headers.get("x-amz-delete-marker", "") == "true",
        is_http_on_tls_port=status == 400 and not code and any(words in document for words in _PLAIN_HTTP_TO_TLS),
        document=document,
    )


class ComputedByS3(NamedTuple):
    """What an error document says besides its code: S3's words, and what it has computed of a signature.

    ``canonical_request``, ``string_to_sign``: where S3 does not accept a signature. They may repeat a token.
    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """

    message: str = ""
    canonical_request: str = ""
    string_to_sign: str = ""


def computed_by_s3(document: str) -> ComputedByS3:
    """Return S3's words in an error document; empty where it has none."""
    return ComputedByS3(*(_text_of_element(document, name) for name in ("Message", "CanonicalRequest", "StringToSign")))


def _text_of_element(document: str, name: str) -> str:
    match = re.search(rf"<{name}>([^<]*)</{name}>", document)
    if match is None:
        return ""
    import html  # its tables are large, and most children of httpd never need them

    try:
        return html.unescape(match[1]).strip()
    except ValueError:  # a character reference with more digits than int() reads
        return match[1].strip()


def request_id(headers: Mapping[str, str]) -> str:
    """Return the server's id of a request, in words for its support; empty if the response has none."""
    for name in REQUEST_ID_HEADERS:
        if (found := headers.get(name)) and (value := _safe_word(found)):
            if name == REQUEST_ID_HEADERS[0]:
                return _with_host_id(value, _safe_word(headers.get("x-amz-id-2", "")))
            return f"{value} ({name})"
    return ""


def _with_host_id(request_id: str, host_id: str) -> str:
    """AWS's support needs both: https://docs.aws.amazon.com/AmazonS3/latest/userguide/get-request-ids.html."""
    return f"{request_id}, x-amz-id-2 {host_id}" if request_id and host_id not in {"", request_id} else request_id


def _http_date(text: str) -> datetime | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7; None for anything else."""
    from email.utils import parsedate_to_datetime  # not imported when a child of httpd starts: most never need it

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """Return S3's clock: the Date of a cached response is older by its Age.

    https://www.rfc-editor.org/rfc/rfc9111#section-5.1
    """
    date, age = _http_date(headers.get("date", "")), headers.get("age", "")
    if date is None or date.year not in _PLAUSIBLE_YEARS:
        return None
    return date + timedelta(seconds=int(age)) if re.fullmatch(r"[0-9]{1,9}", age) else date


def _retry_after(text: str, now: datetime) -> float | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3: seconds, or a date; None for anything else."""
    if re.fullmatch(r"[0-9]{1,5}", text):
        return float(text)
    date = _http_date(text)
    return max(0.0, (date - now).total_seconds()) if date else None


def _element(document: str, name: str) -> str:
    # White space is stripped afterwards: a pattern that can match it in two ways takes quadratic time.
    match = re.search(rf"<{name}>([^<]*)</{name}>", document)
    return _safe_word(match[1].strip()) if match else ""


def _safe_word(text: str) -> str:
    """Return the text if it is safe to log and to compare, as S3's codes, ids and regions are; else nothing."""
    return text if _SAFE_WORD(text) else ""
