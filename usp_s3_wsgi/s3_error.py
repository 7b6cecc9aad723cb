"""What S3 says of a refusal, and what that means to the client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from usp_s3_wsgi.errors import (
    AccessDenied,
    BadPath,
    GatewayError,
    ObjectNotFound,
    UpstreamBusy,
    UpstreamRefused,
)
from usp_s3_wsgi.settings import Settings

#: 403 that is about the object; every other one is about this server's keys.
_DENIED = frozenset({"AccessDenied", "InvalidObjectState", ""})
#: This server's clock is wrong, or S3's.
CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
#: Keys that were exchanged between two readings of them are refused like wrong ones.
KEY_CODES = frozenset(
    {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)
#: 400 that is about the client's URL; every other one is about this server's signature.
_BAD_KEY = frozenset({"KeyTooLongError", "InvalidURI", "XMinioInvalidObjectName", "InvalidObjectName"})
#: 400 that is about the client's query parameters, where there are any (versionId, partNumber).
_BAD_QUERY = frozenset({"InvalidArgument", "InvalidRequest", "InvalidPartNumber"})
#: Of so many seconds a difference is worth telling: S3 itself allows 900, and a signature in the query S3Expires.
_SLOW_CLOCK = 5.0


@dataclass(frozen=True, slots=True)
class S3Error:
    """What S3 says of a refusal.

    ``code``, ``request_id`` and ``region`` (the bucket's) are empty where it says none. ``retry_after``: seconds, None
    where it says nothing of it. ``date``: S3's clock, None where it tells no time; ``ahead``: seconds that S3's clock
    is ahead of this server's.
    """

    status: int
    code: str
    request_id: str = ""
    region: str = ""
    retry_after: float | None = None
    date: datetime | None = None
    ahead: float = 0.0

    @property
    def words(self) -> str:
        """What S3 answered, without what is to be done about it."""
        return f"S3 answered {self.status} {self.code or '(no code)'}, request id {self.request_id or '(none)'}"

    def __str__(self) -> str:
        text = self.words
        if self.region:
            text += f", the bucket is in region {self.region}: set S3Region to it"
        if self.code in CLOCK_CODES and abs(self.ahead) >= _SLOW_CLOCK:
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
    now, date = datetime.now(UTC), _http_date(headers.get("date", ""))
    return S3Error(
        status,
        code,
        request_id(headers) or _element(text, "RequestId"),
        _word(headers.get("x-amz-bucket-region", "")) or _element(text, "Region"),
        _seconds(headers.get("retry-after", ""), now),
        date,
        (date - now).total_seconds() if date else 0.0,
    )


def request_id(headers: Mapping[str, str]) -> str:
    """Return S3's id of a request, empty where it tells none."""
    return _word(headers.get("x-amz-request-id", ""))


def _http_date(text: str) -> datetime | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7; None for what is no date."""
    from email.utils import parsedate_to_datetime  # not at the start of each child: most never need it

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _seconds(retry_after: str, now: datetime) -> float | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3: seconds, or a date; None for anything else."""
    if re.fullmatch(r"[0-9]{1,5}", retry_after):
        return float(retry_after)
    date = _http_date(retry_after)
    return max(0.0, (date - now).total_seconds()) if date else None


def _element(text: str, name: str) -> str:
    match = re.search(rf"<{name}>\s*([^<]{{1,128}}?)\s*</{name}>", text)
    return _word(match[1]) if match else ""


def _word(text: str) -> str:
    """What is safe to log and to compare: S3's codes, ids and regions are such words; anything else is nobody's."""
    return text if re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", text) else ""


def refusal(error: S3Error, settings: Settings, has_query: bool = False) -> GatewayError:
    """Return what S3's refusal means to the client, to be raised; ``has_query``: some parameters were the client's."""
    failure = _meaning(error, settings, has_query)
    failure.told = error
    return failure


def _meaning(error: S3Error, settings: Settings, has_query: bool) -> GatewayError:
    if error.status >= 500:
        return UpstreamBusy(str(error), error.retry_after)
    if error.status == 404 and error.code != "NoSuchBucket":
        return ObjectNotFound(str(error))
    if error.status == 403 and error.code in _DENIED:
        return AccessDenied(str(error), settings.denied_status)
    if error.status == 400 and (error.code in _BAD_KEY or (has_query and error.code in _BAD_QUERY)):
        return BadPath(str(error))
    return UpstreamRefused(str(error))
