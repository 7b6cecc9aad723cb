"""Every way a request can fail, each with the HTTP status that the client gets.

``str(error)`` is one line for the server's error log. It never holds a secret, a signature or a presigned query;
the client sees the status and its phrase, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usp_s3_wsgi.s3.error_response import S3Error


class GatewayError(Exception):
    """The base of all: ``status`` is the answer, ``logged`` says whether the operator must hear of it.

    ``reported``: it is in the error log, or would be, and is not to be there twice.
    ``told`` is what S3 said, where it is S3 that refused. The rest is for the log: ``place`` and ``tried``, what was
    asked, and which attempt it was that took how long; ``advice``: what the operator is to look at.
    """

    status = 500
    logged = True
    reported = False
    told: S3Error | None = None
    place = ""
    tried = ""
    advice = ""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Headers that the answer needs besides those of every error."""
        return ()

    @property
    def kind(self) -> str:
        """What failures that have the same cause have in common."""
        return f"{type(self).__name__} {self.told.status} {self.told.code}" if self.told else type(self).__name__


class SettingError(GatewayError):
    """A setting is missing, unknown or not one of the allowed values. Holds the setting's name, never its value."""


class BadPath(GatewayError):
    """The URL's path cannot be a key: dot segments, NUL, broken percent-encoding, or refused by S3 as a key."""

    status = 400
    logged = False


class RequestBroken(GatewayError):
    """The client's request has a body that broke off, or is none."""

    status = 400
    logged = False


class MethodNotAllowed(GatewayError):
    """Only GET and HEAD are served."""

    status = 405
    logged = False

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Allow", "GET, HEAD"),)


class ObjectNotFound(GatewayError):
    """There is no such object; the bucket itself (an empty key) is none either, so that nothing is listed."""

    status = 404
    logged = False


class AccessDenied(GatewayError):
    """S3 refuses this object to these keys; the operator chooses between 403 and 404 (``S3DeniedStatus``)."""

    logged = False

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class DeniedOnTheWay(AccessDenied):
    """A 403 that is not S3's own: a device between this server and S3 refuses the request."""

    logged = True

    def __init__(self, message: str) -> None:
        super().__init__(message, 403)


class RangeNotSatisfiable(GatewayError):
    """The client asks for a range that no object has, and S3 does not say so."""

    status = 416
    logged = False

    def __init__(self, total: str) -> None:
        """``total``: the object's length in decimal digits; anything else where it is not known."""
        super().__init__("a range that no object has")
        self._total = total

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        known = self._total.isascii() and self._total.isdigit()
        return (("Content-Range", f"bytes */{self._total}"),) if known else ()


class UpstreamError(GatewayError):
    """S3 failed, or the way to it: what :mod:`usp_s3_wsgi.s3.retry_policy` has rules for."""


class UpstreamRefused(UpstreamError):
    """S3 refused what is this server's own fault: keys, clock, region, bucket; or its answer cannot be passed on."""

    status = 502


class UpstreamUnreachable(UpstreamError):
    """No connection to S3, or one that broke before the answer's header was whole."""

    status = 502


class ProxyFailed(UpstreamError):
    """mod_proxy failed, or S3 in what mod_proxy made of it; the message is one of few that are always the same."""

    status = 502

    @property
    def kind(self) -> str:
        return str(self)


class UpstreamUntrusted(UpstreamError):
    """TLS failed in a way that time does not heal: the certificate, the protocol."""

    status = 502


class UpstreamTimeout(UpstreamError):
    """S3 accepted the request and gave no answer in time."""

    status = 504


class UpstreamBusy(UpstreamError):
    """Try again later: S3 says so (5xx)."""

    status = 503

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """``retry_after``: seconds, where they are known."""
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Retry-After", str(max(1, round(self.retry_after or 0)))),)


class HostResting(UpstreamBusy):
    """The bucket's host failed just now and is left alone for a while (``retry`` of ``S3ProxySet``)."""


class NoFreeConnection(UpstreamBusy):
    """No connection came free in time (``max`` and ``acquire`` of ``S3ProxySet``)."""


class CredentialsUnavailable(UpstreamBusy):
    """There are no valid credentials now: a role or another identity of AWS could not be had."""


class BodyTruncated(UpstreamError):
    """S3 ended the body early, after the header went out: if it cannot be resumed, the client's connection ends too."""


class BodyUnusable(BodyTruncated):
    """What S3 sends is not the rest of the body that the client has the beginning of; to ask again cannot help."""


def internal(error: BaseException) -> str:
    """Say where an error of our own was raised. Not its words, nor a traceback: they may hold a key or a signature."""
    import traceback  # seldom needed, and not at the start of each child

    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"internal error: {type(error).__name__} in {frame.name}, {frame.filename}:{frame.lineno}"


def forget_traceback(error: BaseException) -> None:
    """Take the tracebacks off an error that is dealt with, and off its causes.

    A traceback leads to the functions that had the error at hand: with such a circle the request, its connection and
    its buffers would stay until Python's collector comes to them.
    """
    passed: BaseException | None = error
    while passed is not None:
        passed.__traceback__ = None
        passed = passed.__cause__ or passed.__context__


#: OpenSSL's codes of a chain that does not lead to an authority which is trusted.
#: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
_UNTRUSTED = (
    " (S3CAFile, or the system's list, must hold the authority that issued it, and S3 must send the intermediate ones)"
)


def describe(error: BaseException) -> str:
    """Say what went wrong, in one line without URL: urllib3's own words hold the target, signature included."""
    import ssl  # which a child that signs for mod_proxy does without, as it does without http.client
    from http.client import HTTPException, RemoteDisconnected

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RemoteDisconnected):
            return "S3 closed the connection without an answer"
        if isinstance(cause, ssl.SSLCertVerificationError):
            hint = _UNTRUSTED if getattr(cause, "verify_code", 0) in _UNKNOWN_ISSUER else ""
            return f"TLS: the certificate is refused: {cause.verify_message}{hint}"
        if type(cause) is HTTPException and cause.args:
            return f"that is not HTTP: {cause}"  # of this very class are only those of strict_http
        if isinstance(cause, OSError) and cause.strerror:
            return f"{type(error).__name__}: {cause.strerror}"
        nested = next((part for part in cause.args if isinstance(part, BaseException)), None)
        cause = nested or cause.__cause__ or cause.__context__
    return type(error).__name__
