"""What S3 says of a refusal, and what that means to the client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import (
    AccessDenied,
    BadPath,
    DeniedOnTheWay,
    GatewayError,
    ObjectNotFound,
    UpstreamBusy,
    UpstreamRefused,
)
from usp_s3_wsgi.signing.signer import validity

#: 403 that is about the object; every other one is about this server's keys.
_DENIED = frozenset({"AccessDenied", "InvalidObjectState", ""})
#: What S3 asks to try again later, besides 5xx: RFC 9110 (408), 8470 (425), 6585 (429), and Google's list of them.
#: https://cloud.google.com/storage/docs/retry-strategy
BUSY_STATUSES = frozenset({408, 425, 429})
#: The same by code, whatever the status: botocore's lists (botocore/retries/standard.py), and what S3 says of itself.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
BUSY_CODES = frozenset({
    "RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete", "Throttling", "ThrottlingException",
    "ThrottledException", "RequestThrottledException", "TooManyRequestsException", "TooManyRequests",
    "ProvisionedThroughputExceededException", "TransactionInProgressException", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "LimitExceededException", "RequestThrottled", "SlowDown", "EC2ThrottledException",
    "OperationAborted", "ConditionalRequestConflict", "InternalError", "ServiceUnavailable", "rateLimitExceeded",
    "userRateLimitExceeded",
})  # fmt: skip
#: Not Implemented, HTTP Version Not Supported: to ask again, or elsewhere, cannot help.
_PERMANENT = frozenset({501, 505})
#: This server's clock is wrong, or S3's.
CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired", "ExpiredRequest"})
#: All that is said of a time that is not S3's: of a query that has expired by most servers (AccessDenied), Google
#: (ExpiredToken), Garage (InvalidRequest), Ozone (MalformedHeader); of any by rclone (AccessDenied); of a HEAD by all.
_MAYBE_CLOCK = frozenset({"AccessDenied", "ExpiredToken", "InvalidRequest", "MalformedHeader", ""})
#: A year that no clock of S3 shows is no clock to go by.
_YEARS = range(2000, 2100)
#: Keys that were exchanged between two readings of them are refused like wrong ones.
KEY_CODES = frozenset(
    {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)
#: 400 that is about the client's URL; every other one is about this server's signature.
_BAD_KEY = frozenset({"KeyTooLongError", "InvalidURI", "XMinioInvalidObjectName", "InvalidObjectName"})
#: 400 that is about the client's query parameters, where there are any (versionId, partNumber). A HEAD has no code.
_BAD_QUERY = frozenset({"InvalidArgument", "InvalidRequest", "InvalidPartNumber", ""})
#: What an operator is to look at.
_ADVICE = {"SignatureDoesNotMatch": "check S3SecretKey or S3SecretKeyFile"}
#: Where servers tell the id of a request: S3, Google, Oracle, Cloudflare, CloudFront.
_REQUEST_IDS = ("x-amz-request-id", "x-guploader-uploadid", "opc-request-id", "cf-ray", "x-amz-cf-id")
#: What nginx, Go's servers and httpd say where TLS is wanted.
_WANTS_TLS = ("request was sent to HTTPS port", "HTTP request to an HTTPS server", "plain HTTP to an SSL-enabled")
#: Of so many seconds a difference is worth telling: S3 itself allows 900, and a signature in the query S3Expires.
_SLOW_CLOCK = 5.0


@dataclass(frozen=True, slots=True)
class S3Error:
    """What S3 says of a refusal.

    ``code``, ``request_id`` (in words, for a log) and ``region`` (the bucket's) are empty where it says none.
    ``retry_after``: seconds, None where it says nothing of it. ``date``: S3's clock, None where it tells no time;
    ``ahead``: seconds that S3's clock is ahead of this server's. ``is_foreign``: there is a page, but not S3's;
    ``wants_tls``: which says so. ``is_deleted``: it is a version that stands for a deletion.
    ``out_of_time``: what it denies is a signature that was not valid by its clock.
    """

    status: int
    code: str
    request_id: str = ""
    region: str = ""
    retry_after: float | None = None
    date: datetime | None = None
    ahead: float = 0.0
    is_foreign: bool = False
    is_deleted: bool = False
    wants_tls: bool = False
    out_of_time: bool = False

    @property
    def words(self) -> str:
        """What S3 answered, without what is to be done about it."""
        return f"S3 answered {self.status} {self.code or '(no code)'}, request id {self.request_id or '(none)'}"

    def __str__(self) -> str:
        text = self.words
        if self.is_foreign:
            text += ", with a page that is not S3's: a device on the way may have sent it"
        if self.wants_tls:
            text += "; the server speaks TLS on this port: https:// in the URL"
        if self.region:
            text += f", the bucket is in region {self.region}: set S3Region to it"
        if (self.out_of_time or self.code in CLOCK_CODES) and abs(self.ahead) >= _SLOW_CLOCK:
            side = "behind" if self.ahead > 0 else "ahead of"
            text += f", this server's clock is {abs(self.ahead):.0f} s {side} S3's: set it right"
        return text


def parse(status: int, headers: Mapping[str, str], text: str) -> S3Error:
    """Return what an error document and the headers around it say; ``headers``: by names in lowercase.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    code = _element(text, "Code")
    if code == "AccessDenied" and "<ServerTime>" in text:
        code = "RequestExpired"  # AWS's words for a signature in the query string that is too old, or a wrong clock
    now, date = datetime.now(UTC), _clock(headers)
    return S3Error(
        status,
        code,
        request_id(headers) or _with_host_id(_element(text, "RequestId"), _element(text, "HostId")),
        _word(headers.get("x-amz-bucket-region", "")) or _element(text, "Region"),
        _seconds(headers.get("retry-after", ""), now),
        date,
        (date - now).total_seconds() if date else 0.0,
        bool(text.strip()) and not code,
        headers.get("x-amz-delete-marker", "") == "true",
        status == 400 and not code and any(words in text for words in _WANTS_TLS),
    )


def request_id(headers: Mapping[str, str]) -> str:
    """Return the server's id of a request, in words for its support; empty where it tells none."""
    name, said = next(((name, said) for name in _REQUEST_IDS if (said := _word(headers.get(name, "")))), ("", ""))
    if name == _REQUEST_IDS[0]:
        return _with_host_id(said, _word(headers.get("x-amz-id-2", "")))
    return f"{said} ({name})" if said else ""


def _with_host_id(said: str, host_id: str) -> str:
    """AWS's support asks for both: https://docs.aws.amazon.com/AmazonS3/latest/userguide/get-request-ids.html."""
    return f"{said}, x-amz-id-2 {host_id}" if said and host_id else said


def _http_date(text: str) -> datetime | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7; None for what is no date."""
    from email.utils import parsedate_to_datetime  # not at the start of each child: most never need it

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _clock(headers: Mapping[str, str]) -> datetime | None:
    """Return how late it is by S3's clock: a cache's answer is older than that, and says how much.

    https://www.rfc-editor.org/rfc/rfc9111#section-5.1
    """
    date, age = _http_date(headers.get("date", "")), headers.get("age", "")
    if date is None or date.year not in _YEARS:
        return None
    return date + timedelta(seconds=int(age)) if re.fullmatch(r"[0-9]{1,9}", age) else date


def _seconds(retry_after: str, now: datetime) -> float | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3: seconds, or a date; None for anything else."""
    if re.fullmatch(r"[0-9]{1,5}", retry_after):
        return float(retry_after)
    date = _http_date(retry_after)
    return max(0.0, (date - now).total_seconds()) if date else None


def _element(text: str, name: str) -> str:
    # White space is not for the pattern: what can match it twice takes time in proportion to the square of its length.
    match = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return _word(match[1].strip()) if match else ""


def _word(text: str) -> str:
    """What is safe to log and to compare: S3's codes, ids and regions are such words; anything else is nobody's."""
    return text if re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", text) else ""


def is_maybe_clock(error: S3Error, settings: Settings, signed_at: datetime) -> bool:
    """Whether S3 refuses without a reason what was not valid by its clock; ``signed_at``: the time that was signed."""
    if error.date is None or error.is_foreign or error.status not in {400, 403} or error.code not in _MAYBE_CLOCK:
        return False
    begin, end = validity(settings.signing, signed_at)
    return not begin <= error.date < end


def refusal(error: S3Error, settings: Settings, may_be_clients: bool = False) -> GatewayError:
    """Return what S3's refusal means to the client, to be raised.

    ``may_be_clients``: the client chose parameters, or a key that S3 may not allow.
    """
    failure = _meaning(error, settings, may_be_clients)
    failure.told, failure.advice = error, _ADVICE.get(error.code, "")
    return failure


def _meaning(error: S3Error, settings: Settings, may_be_clients: bool) -> GatewayError:
    if error.out_of_time:
        return UpstreamRefused(str(error))
    if error.status in _PERMANENT:
        is_clients = may_be_clients and error.code == "NotImplemented"
        return BadPath(str(error)) if is_clients else UpstreamRefused(str(error))
    if error.status >= 500 or error.status in BUSY_STATUSES or error.code in BUSY_CODES:
        return UpstreamBusy(str(error), error.retry_after)
    if _is_absent(error, may_be_clients):
        return ObjectNotFound(str(error))
    if error.status == 403 and error.code in _DENIED:
        return DeniedOnTheWay(str(error)) if error.is_foreign else AccessDenied(str(error), settings.denied_status)
    if error.status == 400 and (error.code in _BAD_KEY or (may_be_clients and error.code in _BAD_QUERY)):
        return BadPath(str(error))
    return UpstreamRefused(str(error))


def _is_absent(error: S3Error, may_be_clients: bool) -> bool:
    """Whether there is no such object, or what was asked for by its version is the mark of a deletion.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
    """
    if error.status == 405:
        return error.is_deleted or (may_be_clients and error.code == "MethodNotAllowed")
    return error.status in {404, 410} and error.code != "NoSuchBucket"
