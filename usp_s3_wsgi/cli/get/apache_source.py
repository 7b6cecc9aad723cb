"""Requests an object through Apache, as any client does: with urllib3, from the address at which httpd listens.

Not with the connections to S3 of this package: a second implementation of HTTP judges what this server sends. Proxies
of the environment are not used, redirects are not followed, and no name is resolved but that of ``--url``.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Any, cast
from urllib.parse import urlsplit

import click
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InsecureRequestWarning, InvalidChunkLength
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError
from urllib3.response import BaseHTTPResponse, HTTPResponse

from usp_s3_wsgi.cli.get.download import (
    DownloadError,
    Exchange,
    Headers,
    SentAttempt,
    Times,
    Wanted,
    lookup_seconds,
    no_such_range,
)
from usp_s3_wsgi.cli.server.own_url import OwnURL
from usp_s3_wsgi.config.bucket_url import DEFAULT_PORTS
from usp_s3_wsgi.errors import BadUpstreamResponse, RangeNotSatisfiable, SettingError
from usp_s3_wsgi.s3 import byte_range
from usp_s3_wsgi.s3.byte_range import ContentRange
from usp_s3_wsgi.transport import happy_eyeballs, tls
from usp_s3_wsgi.transport.happy_eyeballs import ConnectTimes

#: Bytes of one read.
_READ_SIZE = 262_144
_CONNECT_TIMEOUT = 5.0
_NETWORK_ERRORS = (HTTPError, OSError, HTTPException)
_HINTS = {
    401: "it asks for a password, and this command sends none",
    403: "S3 denied access to the object, or an access rule of this server denied it to this client",
    404: "S3 has no such object, or no mount of this server has this path",
    421: "the name in the certificate belongs to another virtual host",
}
_SERVER_ERROR = "the error log says why, with a code of docs/errors.md"
_NOT_CONNECTED = f"no connection within {_CONNECT_TIMEOUT:g} s"
_ENDED = "the connection was closed before the end of the body"
_Measure = Callable[[ConnectTimes, float], None]


def parse_url(text: str) -> tuple[OwnURL, str]:
    """Return the server of ``--url``, and the request target in it; empty without a path.

    Raises: click.UsageError.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise click.UsageError("--url is not a URL") from None
    if url.scheme not in DEFAULT_PORTS or not url.hostname or port == 0:
        raise click.UsageError("--url must begin with http:// or https:// and a host name")
    if "@" in url.netloc:
        raise click.UsageError("--url must have no user and password: other users of this machine see them")
    target = url.path if url.path != "/" or url.query else ""
    own = OwnURL(url.scheme, url.hostname, port or DEFAULT_PORTS[url.scheme], url.hostname)
    return own, target + (f"?{url.query}" if url.query else "")


class ApacheSource:
    """This server's own URL of the object."""

    name = "Apache"

    def __init__(
        self, own: OwnURL, target: str, *, timeout: float = 60.0, ca_file: str | None = None, is_insecure: bool = False
    ) -> None:
        """``ca_file``: of the authority that issued the certificate; ``is_insecure``: the certificate is not verified.

        Raises: click.UsageError: the file cannot be used.
        """
        self._own, self._target, self._timeout = own, target, timeout
        self.exchange = Exchange()
        self._connected: tuple[ConnectTimes, float] | None = None
        self._has_connected = False
        options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=timeout),
            "maxsize": 1,
            "measure": self._note_connection,
        }
        if own.scheme == "https":
            context = _tls_context(ca_file)
            options |= {"server_hostname": own.name, "ssl_context": context}
            if is_insecure:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                options |= {"cert_reqs": "CERT_NONE", "assert_hostname": False}
                urllib3.disable_warnings(InsecureRequestWarning)
        pool = _HTTPSPool if own.scheme == "https" else _HTTPPool
        self._pool = pool(own.address, own.port, **options)

    @property
    def url(self) -> str:
        """The URL without its query."""
        return self._own.url + self._target.partition("?")[0]

    def open(self, wanted: Wanted) -> ApacheBody:
        """Request the object. Raises: DownloadError."""
        self.exchange, self._connected = Exchange(attempts=[attempt := SentAttempt(self._own.host)]), None
        headers = {"Host": self._own.host, "User-Agent": "usp-s3", "Accept-Encoding": "identity"}
        if wanted.range_header is not None:
            headers["Range"] = wanted.range_header
        if wanted.etag:
            headers["If-Match"] = wanted.etag
        began_at = time.monotonic()
        try:
            response = self._pool.urlopen(
                "GET", self._target, headers=headers, retries=False, redirect=False, assert_same_host=False,
                preload_content=False,
            )  # fmt: skip
        except _NETWORK_ERRORS as error:
            attempt.seconds, attempt.failure = time.monotonic() - began_at, self._reason(error)
            raise DownloadError(f"{self._own.address} port {self._own.port}: {attempt.failure}") from None
        now = time.monotonic()
        attempt.status, attempt.seconds, attempt.is_new_connection = response.status, now - began_at, False
        self.exchange.times = self._times(began_at, now)
        attempt.is_new_connection = self._connected is not None
        try:
            return self._body(response, wanted)
        except DownloadError as error:
            attempt.failure = str(error)
            response.close()
            raise

    def _body(self, response: BaseHTTPResponse, wanted: Wanted) -> ApacheBody:
        headers = {name.lower(): value for name, value in response.headers.items()}
        status = byte_range.effective_status(response.status, headers, wanted.range_header, False)
        if status == 412:
            raise DownloadError("the object was changed since the download began: --force starts again")
        if status == 416:
            raise no_such_range(headers)
        if status not in {200, 206}:
            raise DownloadError(
                f"Apache answered {status} {response.reason or ''}".rstrip() + self._hint(status, headers)
            )
        length = headers.get("content-length", "")
        try:
            content_range = byte_range.validate(
                status, headers, int(length) if length.isdecimal() else None, wanted.range_header, False
            )
        except (BadUpstreamResponse, RangeNotSatisfiable) as error:
            raise DownloadError(str(error)) from None
        assert content_range is not None  # there is one range at most
        return ApacheBody(cast("HTTPResponse", response), status, headers, content_range, self._reason)

    def _hint(self, status: int, headers: Headers) -> str:
        if 300 <= status < 400:
            location = headers.get("location", "").partition("?")[0]
            return f": it redirects to {location}, which --url can name"
        hint = _HINTS.get(status, _SERVER_ERROR if status >= 500 else "")
        return f": {hint}" if hint else ""

    def _note_connection(self, times: ConnectTimes, ready_at: float) -> None:
        self._connected, self._has_connected = (times, ready_at), True

    def _times(self, began_at: float, now: float) -> Times:
        if self._connected is None:
            return Times(first_byte=now - began_at)
        measured, ready_at = self._connected
        return Times(
            lookup=lookup_seconds(self._own.address, measured),
            connect=measured.connected_at - measured.resolved_at,
            tls=ready_at - measured.connected_at if self._own.scheme == "https" else None,
            first_byte=now - ready_at,
        )

    def _reason(self, error: BaseException) -> str:
        """Say what went wrong, in one line without the URL."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return (
                    f"the certificate for {self._own.name} cannot be verified: {cause.verify_message}: --ca-file names"
                    " its authority, --insecure does not verify it"
                )
            if isinstance(cause, RemoteDisconnected):
                return "the connection was closed without a response"
            if isinstance(cause, (TimeoutError, Urllib3TimeoutError)):
                is_connected = self._has_connected
                return f"nothing was received within {self._timeout:g} s" if is_connected else _NOT_CONNECTED
            if isinstance(cause, ssl.SSLError):
                return f"TLS: {cause.reason or cause.strerror or 'handshake failed'}"
            if isinstance(cause, socket.gaierror):
                return f"the name {self._own.address} cannot be resolved"
            if isinstance(cause, OSError) and cause.strerror:
                return cause.strerror
            if isinstance(cause, (IncompleteRead, InvalidChunkLength)):
                return _ENDED
            if isinstance(cause, HTTPException):
                return "the response is not valid HTTP"
            nested = next((part for part in cause.args if isinstance(part, BaseException)), None)
            cause = nested or cause.__cause__ or cause.__context__
        return type(error).__name__


class ApacheBody:
    """A response of this server."""

    def __init__(
        self,
        response: HTTPResponse,
        status: int,
        headers: Headers,
        content_range: ContentRange,
        reason: Callable[[BaseException], str],
    ) -> None:
        self._response, self._reason = response, reason
        self.status, self.headers, self.content_range = status, headers, content_range

    def pieces(self) -> Iterator[bytes]:
        """Yield the body. Raises: DownloadError."""
        length, reason = 0, ""
        try:
            while data := self._response.read1(_READ_SIZE, decode_content=False):
                length += len(data)
                yield data
        except _NETWORK_ERRORS as error:
            reason = self._reason(error)
        last = self.content_range.last
        expected = None if last is None else last + 1 - self.content_range.first
        if reason or (expected is not None and length < expected):
            of = f" of {expected:,}" if expected is not None else ""
            raise DownloadError(f"Apache broke off after {length:,}{of} bytes: {reason or _ENDED}")
        if expected is None and self.headers.get("transfer-encoding", "").lower() != "chunked":
            raise DownloadError("the response has neither a Content-Length nor chunks: nobody knows if it is complete")

    def close(self) -> None:
        """Release the connection; with unread bytes it is closed."""
        self._response.close()


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return tls.context(ca_file)
    except SettingError:
        raise click.UsageError("--ca-file cannot be used: it must hold certificates in PEM format") from None


class _MeasuredConnection(HTTPConnection):
    """A connection that says what it took to connect."""

    def __init__(self, *arguments: Any, measure: _Measure, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._measure, self._times = measure, ConnectTimes()

    def _new_conn(self) -> socket.socket:
        connection = happy_eyeballs.connect(
            self.host, self.port, _CONNECT_TIMEOUT, self.socket_options or (), self._times
        )
        connection.settimeout(cast("float", self.timeout))
        return connection

    def connect(self) -> None:
        """Connect, and shake hands for https."""
        super().connect()
        self._measure(self._times, time.monotonic())


class _MeasuredTLSConnection(_MeasuredConnection, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _MeasuredConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _MeasuredTLSConnection
