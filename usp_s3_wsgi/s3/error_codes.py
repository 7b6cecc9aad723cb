"""What S3's statuses and error codes mean: the tables of codes, and the exception for an error response."""

from __future__ import annotations

from datetime import datetime

from usp_s3_wsgi.errors import (
    AccessDenied,
    BadRequestTarget,
    BlockedByIntermediary,
    GatewayError,
    ObjectNotFound,
    RequestRejected,
    S3ErrorResponse,
    UpstreamUnavailable,
)
from usp_s3_wsgi.signing.signer import validity_interval
from usp_s3_wsgi.signing.types import SigningContext

#: Statuses, besides 5xx, that ask to try again later: RFC 9110 (408), 8470 (425), 6585 (429), and Google's list.
#: https://cloud.google.com/storage/docs/retry-strategy
TRANSIENT_STATUSES = frozenset({408, 425, 429})
#: The same by code, with any status: botocore's lists (botocore/retries/standard.py), and S3's own documentation.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
TRANSIENT_CODES = frozenset({
    "RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete", "Throttling", "ThrottlingException",
    "ThrottledException", "RequestThrottledException", "TooManyRequestsException", "TooManyRequests",
    "ProvisionedThroughputExceededException", "TransactionInProgressException", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "LimitExceededException", "RequestThrottled", "SlowDown", "EC2ThrottledException",
    "OperationAborted", "ConditionalRequestConflict", "InternalError", "ServiceUnavailable", "rateLimitExceeded",
    "userRateLimitExceeded",
})  # fmt: skip
#: Never retried, and no reason to use the fallback bucket: Not Implemented, HTTP Version Not Supported.
_PERMANENT_STATUSES = frozenset({501, 505})
#: The clock of this server, or S3's, is wrong.
CLOCK_SKEW_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired", "ExpiredRequest"})
#: Codes with which servers reject a signature that is not valid by their clock, without saying so: an expired
#: presigned URL by most (AccessDenied), Google (ExpiredToken), Garage (InvalidRequest), Ozone (MalformedHeader); any
#: signature by rclone (AccessDenied); a HEAD by all of them (no code).
_POSSIBLE_CLOCK_SKEW_CODES = frozenset({"AccessDenied", "ExpiredToken", "InvalidRequest", "MalformedHeader", ""})
#: The credentials are rejected. They may have been rotated between two reads of their files.
CREDENTIAL_CODES = frozenset(
    {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)
#: 403 that is about the object; every other one is about this server's credentials.
_ACCESS_DENIED_CODES = frozenset({"AccessDenied", "InvalidObjectState", ""})
#: 400 that is about the client's URL; every other one is about this server's signature.
_BAD_KEY_CODES = frozenset({"KeyTooLongError", "InvalidURI", "XMinioInvalidObjectName", "InvalidObjectName"})
#: 400 that is about the client's query parameters, where there are any (versionId, partNumber). A HEAD has no code.
_BAD_QUERY_CODES = frozenset({"InvalidArgument", "InvalidRequest", "InvalidPartNumber", ""})
_HINTS = {"SignatureDoesNotMatch": "check S3SecretKey or S3SecretKeyFile"}
#: Clock skew below this many seconds is not mentioned: S3 allows 900 s, for a presigned URL S3Expires.
_NOTABLE_CLOCK_SKEW = 5.0


def is_possible_clock_skew(error: S3ErrorResponse, context: SigningContext, signed_at: datetime) -> bool:
    """Whether S3 may have rejected the signature for its time: it was not valid by S3's clock, and no reason is given.

    ``signed_at``: the time in the signature.
    """
    if error.date is None or error.is_not_s3_document or error.status not in {400, 403}:
        return False
    if error.code not in _POSSIBLE_CLOCK_SKEW_CODES:
        return False
    begin, end = validity_interval(context, signed_at)
    return not begin <= error.date < end


def is_transient(error: S3ErrorResponse) -> bool:
    """Whether S3 asks to try again later, or has failed itself."""
    return error.status >= 500 or error.status in TRANSIENT_STATUSES or error.code in TRANSIENT_CODES


def to_exception(error: S3ErrorResponse, denied_status: int, may_be_client_error: bool = False) -> GatewayError:
    """Return the exception that an error response means.

    ``denied_status``: the client's status where S3 denies access to an object, 403 or 404. ``may_be_client_error``: the
    client chose query parameters, or a key that S3 may not allow.
    """
    text = _explain(error)
    if error.is_signature_time_invalid:
        return RequestRejected(text, s3_error=error)
    if error.status in _PERMANENT_STATUSES:
        is_clients_fault = may_be_client_error and error.code == "NotImplemented"
        return (BadRequestTarget if is_clients_fault else RequestRejected)(text, s3_error=error)
    if is_transient(error):
        return UpstreamUnavailable(text, error.retry_after, s3_error=error)
    if _is_absent(error, may_be_client_error):
        return ObjectNotFound(text, s3_error=error)
    if error.status == 403 and error.code in _ACCESS_DENIED_CODES:
        if error.is_not_s3_document:
            return BlockedByIntermediary(text, s3_error=error)
        return AccessDenied(text, denied_status, s3_error=error)
    if error.status == 400 and (
        error.code in _BAD_KEY_CODES or (may_be_client_error and error.code in _BAD_QUERY_CODES)
    ):
        return BadRequestTarget(text, s3_error=error)
    return RequestRejected(text, s3_error=error, hint=_HINTS.get(error.code, ""))


def _is_absent(error: S3ErrorResponse, may_be_client_error: bool) -> bool:
    """Whether there is no such object, or the requested version is a delete marker.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
    """
    if error.status == 405:
        return error.is_delete_marker or (may_be_client_error and error.code == "MethodNotAllowed")
    return error.status in {404, 410} and error.code != "NoSuchBucket"


def _explain(error: S3ErrorResponse) -> str:
    """Return the text of the log line: what S3 answered, and what follows from it for the operator."""
    text = str(error)
    if error.is_not_s3_document:
        text += ", with a page that is not S3's: a device in between may have sent it"
    if error.is_http_on_tls_port:
        text += "; the server speaks TLS on this port: write https:// in the URL"
    if error.region:
        text += f", the bucket is in region {error.region}: set S3Region to it"
    if (error.is_signature_time_invalid or error.code in CLOCK_SKEW_CODES) and abs(
        error.clock_skew
    ) >= _NOTABLE_CLOCK_SKEW:
        side = "behind" if error.clock_skew > 0 else "ahead of"
        text += f", this server's clock is {abs(error.clock_skew):.0f} s {side} S3's: correct it"
    return text
