"""Why a request fails: one exception for each reason, with the status for the client and the code of its log line.

``str(error)`` is one line for the server's error log. It never holds a secret, a signature or a presigned query. The
client sees the status and its phrase, nothing else. docs/errors.md explains every code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class LogCode(StrEnum):
    """The code at the start of each line of the error log, for searching: it stays when the words change.

    USPS30701 to 30707 but for 30705 are written in C (``proxy/mod_usp_s3/log_codes.h``), USPS308nn by ``configtest/``.
    """

    INTERNAL_ERROR = "USPS30001"
    INVALID_SETTING = "USPS30101"
    BAD_REQUEST_TARGET = "USPS30201"
    BAD_REQUEST_BODY = "USPS30202"
    METHOD_NOT_ALLOWED = "USPS30203"
    RANGE_NOT_SATISFIABLE = "USPS30204"
    S3_RESPONSE = "USPS30301"
    OBJECT_NOT_FOUND = "USPS30302"
    ACCESS_DENIED = "USPS30303"
    BLOCKED_BY_INTERMEDIARY = "USPS30304"
    REQUEST_REJECTED = "USPS30305"
    BAD_UPSTREAM_RESPONSE = "USPS30401"
    UPSTREAM_CONNECTION_ERROR = "USPS30402"
    UPSTREAM_TLS_ERROR = "USPS30403"
    UPSTREAM_TIMEOUT = "USPS30404"
    UPSTREAM_UNAVAILABLE = "USPS30405"
    HOST_IN_ERROR_STATE = "USPS30406"
    POOL_TIMEOUT = "USPS30407"
    PROXIED_REQUEST_FAILED = "USPS30408"
    FREQUENT_RETRIES = "USPS30409"
    BODY_TRUNCATED = "USPS30501"
    BODY_NOT_RESUMABLE = "USPS30502"
    CLIENT_NOT_RESET = "USPS30503"
    CREDENTIALS_UNAVAILABLE = "USPS30601"
    CREDENTIALS_REFRESHED = "USPS30602"
    REFRESH_FAILED = "USPS30603"
    KEY_FILE_UNREADABLE = "USPS30604"
    SIGNER_NOT_INSTALLED = "USPS30705"


@dataclass(frozen=True, slots=True)
class S3ErrorResponse:
    """An error response of S3, as :mod:`usp_s3_wsgi.s3.error_response` parses it.

    ``code``, ``request_id`` (in words, for a log) and ``region`` (the bucket's) are empty if the response has none.
    ``retry_after``: seconds, None if the response has none. ``date``: S3's clock, None if the response has none;
    ``clock_skew``: seconds that S3's clock is ahead of this server's. ``is_not_s3_document``: the body is not S3's
    error document; ``is_http_on_tls_port``: it says that the port speaks TLS. ``is_delete_marker``: the version is a
    delete marker. ``is_signature_time_invalid`` is set later: the signature was not valid by S3's clock, and S3 gave no
    other reason. ``document``: the begin of the body as it came, which may repeat a token or a signature.
    """

    status: int
    code: str
    request_id: str = ""
    region: str = ""
    retry_after: float | None = None
    date: datetime | None = None
    clock_skew: float = 0.0
    is_not_s3_document: bool = False
    is_delete_marker: bool = False
    is_http_on_tls_port: bool = False
    is_signature_time_invalid: bool = False
    document: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        return f"S3 answered {self.status} {self.code or '(no code)'}, request id {self.request_id or '(none)'}"


class GatewayError(Exception):
    """The base of all. ``s3_error``: S3's error response, where that is the reason; ``hint``: what to check."""

    status = 500
    code = LogCode.INTERNAL_ERROR
    #: False: a client can cause it at will. It is not logged, but for S3's error response at LogLevel debug.
    should_log = True

    def __init__(self, message: str = "", *, s3_error: S3ErrorResponse | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.s3_error, self.hint = s3_error, hint

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Headers that the response needs besides those of every error."""
        return ()

    @property
    def rate_limit_key(self) -> str:
        """What failures of the same cause have in common."""
        name = type(self).__name__
        return f"{name} {self.s3_error.status} {self.s3_error.code}" if self.s3_error else name


class SettingError(GatewayError):
    """A setting is missing, unknown or not one of the allowed values. Holds the setting's name, never its value."""

    code = LogCode.INVALID_SETTING


class BadRequestTarget(GatewayError):
    """The URL cannot be an object's: dot segments, NUL, broken percent-encoding, or rejected by S3 as a key."""

    status = 400
    code = LogCode.BAD_REQUEST_TARGET
    should_log = False


class BadRequestBody(GatewayError):
    """The body of the client's request is malformed or incomplete."""

    status = 400
    code = LogCode.BAD_REQUEST_BODY
    should_log = False


class MethodNotAllowed(GatewayError):
    """Only GET and HEAD are served."""

    status = 405
    code = LogCode.METHOD_NOT_ALLOWED
    should_log = False

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Allow", "GET, HEAD"),)


class ObjectNotFound(GatewayError):
    """There is no such object. The empty key, which is the bucket itself, is not found either: nothing is listed."""

    status = 404
    code = LogCode.OBJECT_NOT_FOUND
    should_log = False


class AccessDenied(GatewayError):
    """S3 denies these credentials access to the object.

    ``status``: 403 or 404, as the operator chose (S3DeniedStatus).
    """

    code = LogCode.ACCESS_DENIED
    should_log = False

    def __init__(self, message: str, status: int, *, s3_error: S3ErrorResponse | None = None) -> None:
        super().__init__(message, s3_error=s3_error)
        self.status = status


class BlockedByIntermediary(AccessDenied):
    """A 403 that is not S3's own: a device between this server and S3 blocks the request."""

    code = LogCode.BLOCKED_BY_INTERMEDIARY
    should_log = True

    def __init__(self, message: str, *, s3_error: S3ErrorResponse | None = None) -> None:
        super().__init__(message, 403, s3_error=s3_error)


class RangeNotSatisfiable(GatewayError):
    """The client requests the last 0 bytes, which is not satisfiable (RFC 9110, 14.1.2), and S3 has sent a 206."""

    status = 416
    code = LogCode.RANGE_NOT_SATISFIABLE
    should_log = False

    def __init__(self, total: str) -> None:
        """``total``: the object's length in decimal digits; anything else where it is not known."""
        super().__init__("no object has this range")
        self._total = total

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        is_known = self._total.isascii() and self._total.isdigit()
        return (("Content-Range", f"bytes */{self._total}"),) if is_known else ()


class UpstreamError(GatewayError):
    """A failure of S3 or of the connection to it, or a request that S3 rejects for a reason on this server.

    :mod:`usp_s3_wsgi.s3.retry_policy` says which of these are retried.
    """


class BadUpstreamResponse(UpstreamError):
    """S3's response is not valid HTTP, or not a valid response to the request, and cannot be forwarded."""

    status = 502
    code = LogCode.BAD_UPSTREAM_RESPONSE


class RequestRejected(UpstreamError):
    """S3 rejects the request for a reason on this server: credentials, clock, region, bucket."""

    status = 502
    code = LogCode.REQUEST_REJECTED


class UpstreamConnectionError(UpstreamError):
    """No connection to S3, or one that broke before the header, or the error document, was complete."""

    status = 502
    code = LogCode.UPSTREAM_CONNECTION_ERROR


class UpstreamTLSError(UpstreamError):
    """TLS failed in a way that a retry cannot help: the certificate, the protocol."""

    status = 502
    code = LogCode.UPSTREAM_TLS_ERROR


class UpstreamTimeout(UpstreamError):
    """S3 accepted the request and sent no response in time."""

    status = 504
    code = LogCode.UPSTREAM_TIMEOUT


class UpstreamUnavailable(UpstreamError):
    """S3 asks to try again later (5xx, 429 and the like), or the connection to it is not available now."""

    status = 503
    code = LogCode.UPSTREAM_UNAVAILABLE

    def __init__(
        self, message: str, retry_after: float | None = None, *, s3_error: S3ErrorResponse | None = None
    ) -> None:
        """``retry_after``: seconds, None if they are not known."""
        super().__init__(message, s3_error=s3_error)
        self.retry_after = retry_after

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Retry-After", str(max(1, round(self.retry_after or 0)))),)


class HostInErrorState(UpstreamUnavailable):
    """The bucket's host could not be reached a moment ago and is not tried for ``retry`` seconds (S3ProxySet)."""

    code = LogCode.HOST_IN_ERROR_STATE


class PoolTimeout(UpstreamUnavailable):
    """The connection pool was exhausted for as long as ``acquire`` allows (``max`` and ``acquire`` of S3ProxySet)."""

    code = LogCode.POOL_TIMEOUT


class CredentialsUnavailable(UpstreamUnavailable):
    """There are no valid credentials now: a role, a profile or AWS's default provider chain did not give any."""

    code = LogCode.CREDENTIALS_UNAVAILABLE


class ProxiedRequestFailed(UpstreamError):
    """mod_proxy reported a failure without S3's response; the message is one of a few fixed ones."""

    status = 502
    code = LogCode.PROXIED_REQUEST_FAILED

    @property
    def rate_limit_key(self) -> str:
        return str(self)


class BodyTruncated(UpstreamError):
    """S3 ended the body early, after the response had begun. Unless it is resumed, the response is aborted."""

    code = LogCode.BODY_TRUNCATED


class BodyNotResumable(BodyTruncated):
    """The body cannot be resumed: no strong ETag, malformed HTTP, or S3 sends something else than the rest of it."""

    code = LogCode.BODY_NOT_RESUMABLE


def describe_internal_error(error: BaseException) -> str:
    """Say where an unexpected exception was raised; without its message and traceback, which may hold a secret."""
    import traceback  # seldom needed: not imported when a child of httpd starts

    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"internal error: {type(error).__name__} in {frame.name}, {frame.filename}:{frame.lineno}"


def clear_traceback(error: BaseException) -> None:
    """Remove the tracebacks of an exception that was handled, and of its causes.

    A traceback refers to the frames that hold the exception: this reference cycle would keep the request, its
    connection and its buffers in memory until the garbage collector runs.
    """
    current: BaseException | None = error
    while current is not None:
        current.__traceback__ = None
        current = current.__cause__ or current.__context__
