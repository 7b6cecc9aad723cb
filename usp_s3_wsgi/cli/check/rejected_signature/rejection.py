"""What an answer to a signed request says about its signature."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import Enum

from usp_s3_wsgi.config import parsers
from usp_s3_wsgi.errors import S3ErrorResponse
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.s3.error_codes import (
    CLOCK_SKEW_CODES,
    TRANSIENT_CODES,
    TRANSIENT_STATUSES,
    is_possible_clock_skew,
)
from usp_s3_wsgi.signing.types import SigningContext


class Meaning(Enum):
    """What S3 says of a signature."""

    ACCEPTED = "accepted"
    CLOCK = "its time is not S3's"
    REGION = "it is for another region"
    VERSION = "its version is not supported"
    ACCESS_KEY = "the access key is not known"
    TOKEN = "the session token is not valid"
    TOKEN_EXPIRED = "the session token has expired"
    SIGNATURE = "it is not the one that S3 computes"
    #: No permission; by some servers also a signature that is not valid.
    DENIED = "access is denied"
    BUCKET = "there is no such bucket"
    NOT_S3 = "the answer is not S3's"
    UNAVAILABLE = "no answer now"
    OTHER = "something else"


#: Statuses of an answer about the object, after the signature was accepted: conditions (304, 412), ranges (416).
_ABOUT_OBJECT = frozenset({304, 412, 416})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: InvalidSecurity is Google's: https://cloud.google.com/storage/docs/xml-api/reference-status
_ACCESS_KEY_CODES = frozenset({"InvalidAccessKeyId", "InvalidSecurity", "InvalidAccessKey", "NoSuchAccessKey"})
_TOKEN_CODES = frozenset({"InvalidToken", "TokenRefreshRequired"})
_REGION_CODES = frozenset({
    "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "PermanentRedirect", "TemporaryRedirect",
    "Redirect", "InvalidRegionName", "InvalidRegion", "IllegalLocationConstraintException",
})  # fmt: skip
_VERSION_CODES = frozenset({"UnsupportedAlgorithm", "UnsupportedSignature", "SignatureVersionNotSupported"})
#: What servers write about a version that they do not accept, with codes such as InvalidRequest and InvalidArgument.
#: AWS: "Please use AWS4-HMAC-SHA256", "require AWS Signature Version 4", "Unsupported Authorization Type"; Cloudflare:
#: "SigV2 authorization is not supported".
_VERSION_WORDS = re.compile(
    r"use AWS4-HMAC-SHA256|requires? AWS Signature Version 4|Unsupported Authorization Type"
    r"|SigV[24] .{0,40}not supported"
)
_DENIED_CODES = frozenset({"AccessDenied", "Unauthorized", "AuthenticationRequired", "Forbidden", ""})
_BUCKET_CODES = frozenset({"NoSuchBucket", "InvalidBucketName", "NoSuchWebsiteConfiguration"})
#: "expecting 'eu-west-3'" (AWS, Swift, MinIO), "expected: 20260519/garage/s3" (Garage).
_EXPECTED_REGION = re.compile(r"expect(?:ing|ed):?\s*[\"'`]?(?:[0-9]{8}/)?([A-Za-z0-9_-]{1,64})(?:[\"'`/]|\s|$)")
_MALFORMED_CREDENTIAL = re.compile(r"credential is mal-?formed|expecting \"?(?:<|&lt;)YOUR-AKID", re.IGNORECASE)
_SERVER_TIME = re.compile(
    r"<ServerTime>([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?Z</ServerTime>"
)


def meaning(error: S3ErrorResponse, context: SigningContext, signed_at: datetime, has_token: bool) -> Meaning:
    """Return what an answer says of a signature. ``error``: any answer, as error_response.parse reads it."""
    status, code = error.status, error.code
    if 200 <= status < 300 or status in _ABOUT_OBJECT:
        return Meaning.ACCEPTED
    is_presigned_expired = code == "ExpiredToken" and not has_token  # Google says so of a signature in the query
    if code in CLOCK_SKEW_CODES or is_presigned_expired or is_possible_clock_skew(error, context, signed_at):
        return Meaning.CLOCK
    if (status >= 500 and status != 501) or status in TRANSIENT_STATUSES or code in TRANSIENT_CODES:
        return Meaning.UNAVAILABLE
    if error.is_not_s3_document or error.is_http_on_tls_port or status == 407:
        return Meaning.NOT_S3
    return _by_code(error)


def _by_code(error: S3ErrorResponse) -> Meaning:
    status, code = error.status, error.code
    for codes, found in (
        (_ACCESS_KEY_CODES, Meaning.ACCESS_KEY),
        (_TOKEN_CODES, Meaning.TOKEN),
        (frozenset({"ExpiredToken"}), Meaning.TOKEN_EXPIRED),
        (frozenset({"SignatureDoesNotMatch"}), Meaning.SIGNATURE),
        (_BUCKET_CODES, Meaning.BUCKET),
        (_VERSION_CODES, Meaning.VERSION),
    ):
        if code in codes:
            return found
    if code not in {"AccessDenied", "NoSuchKey"} and _VERSION_WORDS.search(error.document):
        return Meaning.VERSION
    if code in _REGION_CODES and not _MALFORMED_CREDENTIAL.search(error.document):
        return Meaning.REGION
    if status in _REDIRECTS or (status == 400 and not code and error.region):
        return Meaning.REGION
    if status in {404, 410} or code == "InvalidObjectState":
        return Meaning.ACCEPTED
    return Meaning.DENIED if status in {401, 403} and code in _DENIED_CODES else Meaning.OTHER


def named_region(error: S3ErrorResponse) -> str:
    """Return the region that S3 names for the bucket, in a header, an element or its message; empty if in none."""
    match = _EXPECTED_REGION.search(error_response.computed_by_s3(error.document).message)
    for name in (error.region, match[1] if match else ""):
        try:
            return parsers.region(name)
        except ValueError:
            continue
    return ""


def server_time(error: S3ErrorResponse) -> datetime | None:
    """Return S3's clock: the one in its error document, because a proxy may have written the Date header."""
    match = _SERVER_TIME.search(error.document)
    if match is None:
        return error.date
    try:
        return datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        return error.date
