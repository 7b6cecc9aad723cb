"""What went wrong on a connection to S3, in words for the log, and as the exception that it means."""

from __future__ import annotations

import ssl
from http.client import HTTPException, LineTooLong, RemoteDisconnected

from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProtocolError, ReadTimeoutError
from urllib3.exceptions import SSLError as Urllib3SSLError

from usp_s3_wsgi.config.proxy_set import ProxySet
from usp_s3_wsgi.errors import (
    BadUpstreamResponse,
    RequestRejected,
    UpstreamConnectionError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTLSError,
)
from usp_s3_wsgi.transport.http_parser import InvalidHTTP, TLSExpected

#: What connecting, sending and reading raise.
NETWORK_ERRORS = (HTTPError, OSError, HTTPException)
NetworkError = HTTPError | OSError | HTTPException
#: OpenSSL's reasons for a handshake with a server that does not speak TLS; they differ between versions.
NO_TLS_REASONS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
#: OpenSSL's codes for a chain that does not lead to a trusted authority.
#: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
UNKNOWN_ISSUER_CODES = frozenset({2, 18, 19, 20, 21})
_UNKNOWN_ISSUER_HINT = (
    " (S3CAFile, or the system's list, must hold the authority that issued it, and S3 must send the intermediate ones)"
)


class HandshakeError(ssl.SSLError):
    """The TLS handshake failed, before a request was sent; the cause says why."""


def without_urllib3(error: NetworkError) -> NetworkError:
    """Return the exception in which urllib3's pool has packed what connecting, sending or reading raised."""
    if isinstance(error, ReadTimeoutError):
        return TimeoutError("timed out")
    if isinstance(error, (ProtocolError, Urllib3SSLError)) and isinstance(error.args[-1], NETWORK_ERRORS):
        return error.args[-1]
    return error


def is_connect_error(error: BaseException) -> bool:
    """Whether there was no connection at all: nothing was sent on it."""
    return isinstance(error, (HandshakeError, NewConnectionError, ConnectTimeoutError))


def is_broken_connection(error: BaseException) -> bool:
    """Whether an established connection broke: others to the same host may be broken too."""
    is_invalid_response = isinstance(error, HTTPException) and not isinstance(error, RemoteDisconnected)
    return not (is_connect_error(error) or is_invalid_response or isinstance(error, TimeoutError))


def to_exception(error: NetworkError, parameters: ProxySet) -> UpstreamError:
    """Return the exception that a failure before the end of the response's header means."""
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"no response within {parameters.timeout:g} s")
    if isinstance(error, TLSExpected):
        return RequestRejected("S3 speaks TLS on this port: write https:// in the URL")
    if isinstance(error, LineTooLong):
        return BadUpstreamResponse("response header is larger than 64 KiB")
    if isinstance(error, HTTPException) and not isinstance(error, RemoteDisconnected):
        return BadUpstreamResponse(f"response header is not valid HTTP: {error}")
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return UpstreamConnectionError(f"no connection within {parameters.connectiontimeout:g} s")
    if isinstance(error, HandshakeError) and not _is_transient(error.__cause__):
        if getattr(error.__cause__, "reason", None) in NO_TLS_REASONS:
            return UpstreamTLSError(
                "TLS: the server does not speak TLS on this port: write http:// in the URL, or another port"
            )
        return UpstreamTLSError(describe(error))
    return UpstreamConnectionError(describe(error))


def describe(error: BaseException) -> str:
    """Say what went wrong, in one line without URL: urllib3's messages hold the request target with the signature."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RemoteDisconnected):
            return "S3 closed the connection without a response"
        if isinstance(cause, ssl.SSLCertVerificationError):
            hint = _UNKNOWN_ISSUER_HINT if getattr(cause, "verify_code", 0) in UNKNOWN_ISSUER_CODES else ""
            return f"TLS: certificate verification failed: {cause.verify_message}{hint}"
        if isinstance(cause, InvalidHTTP):
            return f"invalid HTTP: {cause}"
        if isinstance(cause, OSError) and cause.strerror:
            return f"{type(error).__name__}: {cause.strerror}"
        nested = next((part for part in cause.args if isinstance(part, BaseException)), None)
        cause = nested or cause.__cause__ or cause.__context__
    return type(error).__name__


def _is_transient(handshake_error: BaseException | None) -> bool:
    """Whether a handshake may have failed for a moment only: the server broke it off."""
    broken = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ConnectionError)
    return isinstance(handshake_error, broken) or (
        getattr(handshake_error, "reason", None) == "TLSV1_ALERT_INTERNAL_ERROR"
    )
