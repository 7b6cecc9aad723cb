"""Checks the TLS handshake with the bucket's host: chain, name, and how long the certificate is still valid."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, NamedTuple

from usp_s3_wsgi.cli.check.result import Result, fine, look, wrong
from usp_s3_wsgi.cli.server.unverified_tls import unverified_context
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.transport import tls
from usp_s3_wsgi.transport.network_errors import NO_TLS_REASONS, UNKNOWN_ISSUER_CODES

#: Days before the end of a certificate from which on it should have been renewed: Let's Encrypt renews 30 days before.
_RENEWAL_DAYS = 14
#: X509_V_FLAG_NO_CHECK_TIME, which Python's ssl does not name.
#: https://docs.openssl.org/master/man3/X509_VERIFY_PARAM_set_flags/
_NO_CHECK_TIME = 0x200000
#: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
_NOT_YET_VALID, _EXPIRED, _NAME_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64


class Trust(NamedTuple):
    """Which certificates are trusted.

    ``ca_file``: the file of authorities or its content, None for the system's list. ``setting``: what names it.
    """

    ca_file: str | None
    setting: str


def check(url: BucketURL, trust: Trust, timeout: float) -> Result:
    """Return the result of "TLS". ``timeout``: seconds for connection and handshake."""
    try:
        context = tls.context(trust.ca_file)
        with connect(url, context, timeout) as connection:
            certificate = connection.getpeercert() or {}
            protocol = connection.version()
    except SettingError as error:
        return wrong("TLS", str(error), f"correct the file that {trust.setting} names")
    except ssl.SSLCertVerificationError as error:
        return _rejected(url, error, trust, timeout)
    except TimeoutError:
        return wrong("TLS", f"no handshake within {timeout:g} s", "the port may not speak TLS")
    except ssl.SSLError as error:
        if error.reason in NO_TLS_REASONS:
            return wrong("TLS", f"port {url.port} does not speak TLS", "write http:// in the URL, or another port")
        return wrong("TLS", f"the handshake failed: {error.reason or error.strerror}", _SEE)
    except OSError as error:
        return wrong("TLS", f"the connection broke in the handshake: {error.strerror or error}", _SEE)
    days = _days_left(certificate)
    text = f"{protocol}, certificate by {_issuer(certificate)}, valid for {days} days"
    if days < _RENEWAL_DAYS:
        return look("TLS", text, "renew the certificate on the bucket's server: requests fail when it has expired")
    return fine("TLS", text)


_SEE = "see what the server sends: openssl s_client -connect HOST:PORT"


def connect(url: BucketURL, context: ssl.SSLContext, timeout: float) -> ssl.SSLSocket:
    """Connect, and shake hands. ``timeout``: seconds for each of them, and for each later read. Raises: OSError."""
    plain = socket.create_connection((url.host, url.port), timeout)
    try:
        return context.wrap_socket(plain, server_hostname=url.host)
    except BaseException:
        plain.close()
        raise


def speaks_tls(url: BucketURL, timeout: float) -> bool:
    """Whether the port speaks TLS, whatever its certificate is."""
    try:
        with connect(url, unverified_context(), timeout):
            return True
    except OSError:
        return False


def _rejected(url: BucketURL, error: ssl.SSLCertVerificationError, trust: Trust, timeout: float) -> Result:
    """Say why a certificate is rejected, with what it says of itself."""
    certificate = _unverified_certificate(url, timeout)
    if error.verify_code == _EXPIRED:
        return wrong(
            "TLS",
            f"the certificate expired on {certificate.get('notAfter', 'an unknown date')}",
            "renew it on the bucket's server; if that day is still to come, this server's clock is wrong",
        )
    if error.verify_code == _NOT_YET_VALID:
        return wrong(
            "TLS",
            f"the certificate is valid from {certificate.get('notBefore', 'a later date')} on",
            "correct this server's clock",
        )
    if error.verify_code in {_NAME_MISMATCH, _ADDRESS_MISMATCH}:
        names = ", ".join(str(value) for _, value in certificate.get("subjectAltName", ())) or "no name"
        return wrong(
            "TLS",
            f"the certificate is not for {url.host}: it is for {names}",
            "write a name of the certificate in the bucket's URL"
            + ("; with path style no bucket's name is in the host" if "." in url.bucket else ""),
        )
    if error.verify_code in UNKNOWN_ISSUER_CODES:
        text = (
            f"the certificate is of an authority that is not trusted: {_issuer(certificate)} ({error.verify_message})"
        )
        action = (
            f"set {trust.setting} to the PEM file of that authority; if it is a public one, the bucket's server does"
            " not send its intermediate certificates"
        )
        return wrong("TLS", text, action)
    return wrong("TLS", f"the certificate is rejected: {error.verify_message}", _SEE)


def _unverified_certificate(url: BucketURL, timeout: float) -> dict[str, Any]:
    """Return what the server's certificate says, whoever issued it; nothing if it cannot be had.

    Python parses only a certificate that it has verified: in a second handshake the certificate is its own authority.
    Nothing is sent over these connections.
    """
    try:
        with connect(url, unverified_context(), timeout) as connection:
            encoded = connection.getpeercert(binary_form=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=encoded)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
        with connect(url, context, timeout) as connection:
            return dict(connection.getpeercert() or {})
    except (OSError, ValueError):
        return {}


def _days_left(certificate: dict[str, Any]) -> int:
    return int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) // 86_400)


def _issuer(certificate: dict[str, Any]) -> str:
    fields = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    return str(fields.get("organizationName") or fields.get("commonName") or "an unknown authority")
