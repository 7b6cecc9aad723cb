"""The connections to S3: a worker with its own ones for each bucket's host and parameters, once per process."""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
from contextlib import suppress
from functools import partial
from http.client import HTTPException, RemoteDisconnected
from typing import Any, NamedTuple

from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from usp_s3_wsgi.config.proxy_set import ProxySet
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import (
    HostResting,
    NoFreeConnection,
    SettingError,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
    UpstreamUntrusted,
    describe,
)
from usp_s3_wsgi.signing.types import S3Request
from usp_s3_wsgi.transport.connection import (
    HandshakeError,
    S3Response,
    SpeaksTLS,
    StrictHTTPConnection,
    StrictHTTPSConnection,
)

#: What is worth reading to the end, so that the connection can serve again, and for how many seconds.
_SHORT_BODY = 65_536
_MOMENT = 0.25
#: OpenSSL's words for a handshake with what is no TLS; they differ from version to version.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_WITHOUT_TLS = "TLS: the server does not speak it on this port: http:// in the URL, or another port"


class _Idle:
    """Connections that wait for a request, the last one in first; ``ttl`` seconds later they are closed."""

    def __init__(self, ttl: float, address_ttl: float = math.inf) -> None:
        """``address_ttl``: seconds after which a connection is made anew, and the host's name looked up again."""
        self._ttl, self._address_ttl, self._last_sweep = ttl, address_ttl, 0.0
        # To append, pop and remove are one step each, whatever other threads do.
        self._waiting: list[StrictHTTPConnection] = []

    def put(self, connection: StrictHTTPConnection) -> None:
        """Let a connection wait; one that is closed connects again when it is used."""
        now = connection.idle_since = time.monotonic()
        self._waiting.append(connection)
        # The last one in is the first one out: connections that nobody needs any more rest at the bottom.
        if now >= self._last_sweep + self._ttl:
            self._last_sweep = now
            for waiting in list(self._waiting):
                if now - waiting.idle_since > self._ttl:
                    self._close(waiting)

    def take(self) -> StrictHTTPConnection | None:
        """Return one, closed where S3 has closed it or its time is over; None where none waits."""
        try:
            connection = self._waiting.pop()
        except IndexError:
            return None
        now = time.monotonic()
        is_over = now - connection.idle_since > self._ttl or now - connection.connected_since > self._address_ttl
        if is_over or not connection.is_connected:
            connection.close()
        return connection

    def close_all(self) -> None:
        """Close those that wait now."""
        for waiting in list(self._waiting):
            self._close(waiting)

    def _close(self, waiting: StrictHTTPConnection) -> None:
        with suppress(ValueError):  # a thread has just taken it
            self._waiting.remove(waiting)
            waiting.close()


class Worker:
    """A bucket's host and its connections, as mod_proxy's worker: when one failed, it rests for ``retry`` seconds."""

    def __init__(self, scheme: str, host: str, port: int, parameters: ProxySet, ca_file: str | None) -> None:
        self._parameters = parameters
        self._rests_until = 0.0
        self._acquire = parameters.acquire or parameters.timeout
        self._places = threading.BoundedSemaphore(parameters.max) if parameters.max else None
        self._idle = _Idle(parameters.ttl if parameters.enablereuse else 0.0, parameters.addressttl)
        self._last_lines = ("", "") if parameters.enablereuse else ("Connection: close", "", "")
        options: list[tuple[int, int, int]] = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        if parameters.keepalive:
            options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        how: dict[str, Any] = {"timeout": parameters.connectiontimeout, "socket_options": options}
        if scheme == "https":
            how["ssl_context"] = _tls_context(ca_file)
        connection = StrictHTTPSConnection if scheme == "https" else StrictHTTPConnection
        self._new_connection = partial(connection, host, port, **how)

    @property
    def resting(self) -> bool:
        """Whether the host failed so recently that it is not asked."""
        return time.monotonic() < self._rests_until

    def send(self, request: S3Request) -> S3Response:
        """Send a request once; redirects are answers. Raises: UpstreamError."""
        if self.resting:
            left = self._rests_until - time.monotonic()
            raise HostResting("S3 was not reachable a moment ago (retry of S3ProxySet)", left)
        head = self._head(request)
        if self._places is not None and not self._places.acquire(timeout=self._acquire):
            raise NoFreeConnection(f"no connection came free within {self._acquire:g} s (max, acquire)")
        try:
            connection = self._idle.take() or self._new_connection()
            try:
                response = connection.exchange(request.method, head, self._parameters.timeout, self._take_back)
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            self._set_free()
            if isinstance(error, (HTTPError, OSError, HTTPException)):
                raise self._failure(error) from error
            raise
        if response.status < 200:
            raise UpstreamRefused(f"S3 answered {response.status}, which was not asked for")
        return response

    def _take_back(self, connection: StrictHTTPConnection) -> None:
        self._idle.put(connection)
        self._set_free()

    def _set_free(self) -> None:
        if self._places is not None:
            self._places.release()

    def _head(self, request: S3Request) -> bytes:
        """https://www.rfc-editor.org/rfc/rfc9112#section-3."""
        lines = [
            f"{request.method} {request.target} HTTP/1.1",
            f"Host: {request.host}",
            "User-Agent: usp_s3_wsgi",
            f"Accept-Encoding: {request.accept_encoding}",
            *[f"{name}: {value}" for name, value in request.headers],
            *self._last_lines,
        ]
        head = "\r\n".join(lines)
        if head.count("\n") >= len(lines) or head.count("\r") >= len(lines):
            raise ValueError("a line break in a header")
        return head.encode("latin-1")

    def _failure(self, error: HTTPError | OSError | HTTPException) -> UpstreamError:
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(f"no answer within {self._parameters.timeout:g} s")
        if isinstance(error, SpeaksTLS):
            return UpstreamRefused("S3 speaks TLS on this port: https:// in the URL")
        if isinstance(error, HTTPException) and not isinstance(error, RemoteDisconnected):
            return UpstreamRefused("S3 sent a header that is not HTTP, or too large")
        if not isinstance(error, (HandshakeError, NewConnectionError, ConnectTimeoutError)):
            self._idle.close_all()  # what ended this one may have ended them too, and the next try needs one that lives
        elif self._parameters.retry:
            self._rests_until = time.monotonic() + self._parameters.retry
        if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            return UpstreamUnreachable(f"no connection within {self._parameters.connectiontimeout:g} s")
        if isinstance(error, HandshakeError) and not _is_transient(error.__cause__):
            is_tls = getattr(error.__cause__, "reason", None) not in _NO_TLS
            return UpstreamUntrusted(describe(error) if is_tls else _WITHOUT_TLS)
        return UpstreamUnreachable(describe(error))


def discard(response: S3Response) -> None:
    """Give a response's connection back: what is left of a short body is read, so that it serves again; else closed."""
    left = response.length_remaining
    if left is not None and left <= _SHORT_BODY:
        with suppress(OSError, HTTPException):
            response.drain(_MOMENT)  # nobody waits for bytes that nobody needs
    response.close()


def _is_transient(handshake: BaseException | None) -> bool:
    """Whether a server that is at fault for a moment ends a handshake so, and not one that will never do."""
    broken = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ConnectionError)
    return isinstance(handshake, broken) or getattr(handshake, "reason", None) == "TLSV1_ALERT_INTERNAL_ERROR"


class _Key(NamedTuple):
    scheme: str
    host: str
    port: int
    parameters: ProxySet
    ca_file: str | None


class Workers:
    """All workers of this process, by everything that makes them differ."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[_Key, Worker] = {}

    def get(self, settings: Settings) -> Worker:
        """Return the worker of a section. Raises: SettingError."""
        url = settings.bucket_url
        key = _Key(url.scheme, url.host, url.port, settings.proxy_set, settings.ca_file)
        worker = self._known.get(key)
        if worker is None:
            with self._lock:
                worker = self._known.get(key) or Worker(*key)
                self._known[key] = worker
        return worker


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"S3CAFile: the file cannot be used: {error.strerror or 'no certificate in it'}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The same with every Python, and with curl: 3.13 refuses authorities without the extensions that RFC 5280 wants,
    # which private ones seldom have; earlier ones trust an authority that is no root only together with its root.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


workers = Workers()
