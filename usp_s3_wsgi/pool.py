"""The connections to S3: a worker with its pool for each bucket's host and parameters, once per process."""

from __future__ import annotations

import http.client
import logging
import queue
import socket
import ssl
import threading
import time
from typing import Any, NamedTuple

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    HTTPError,
    InvalidHeader,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

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
from usp_s3_wsgi.proxy_set import ProxySet
from usp_s3_wsgi.request import S3Request
from usp_s3_wsgi.settings import Settings
from usp_s3_wsgi.strict_http import HandshakeError, StrictHTTPConnection, StrictHTTPSConnection

#: What is worth reading to the end, so that the connection can serve again, and for how many seconds.
_SHORT_BODY = 65_536
_MOMENT = 0.25
#: Connections kept where ``max`` sets no limit: more than any httpd child has threads.
_UNLIMITED = 1_024


class _IdleConnections(queue.LifoQueue[Any]):
    """urllib3's queue of idle connections, which closes those that are idle for longer than ``ttl`` seconds."""

    ttl = float("inf")
    _last_sweep = 0.0

    def _put(self, item: Any) -> None:
        now = time.monotonic()
        if item is not None:
            item.idle_since = now
        super()._put(item)
        # The last one in is the first one out: connections that nobody needs any more rest at the bottom.
        if now >= self._last_sweep + self.ttl:
            self._last_sweep = now
            for connection in self.queue:
                self._close_if_stale(connection, now)

    def _get(self) -> Any:
        item = super()._get()
        self._close_if_stale(item, time.monotonic())
        return item

    def close_all(self) -> None:
        """Close those that are idle now; they connect again when they are used."""
        with self.mutex:
            for connection in self.queue:
                if connection is not None:
                    connection.close()

    def _close_if_stale(self, connection: Any, now: float) -> None:
        if connection is not None and now - connection.idle_since > self.ttl:
            connection.close()  # it connects again when it is used


class Worker:
    """A bucket's host and its pool, as mod_proxy's worker: after a failed connection it rests for ``retry`` seconds."""

    def __init__(self, scheme: str, host: str, port: int, parameters: ProxySet, ca_file: str | None) -> None:
        self._parameters = parameters
        self._rests_until = 0.0
        self._acquire = parameters.acquire or parameters.timeout
        self._timeout = urllib3.Timeout(connect=parameters.connectiontimeout, read=parameters.timeout)
        options: list[tuple[int, int, int]] = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        if parameters.keepalive:
            options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        pool_options: dict[str, Any] = {
            "maxsize": parameters.max or _UNLIMITED,
            "block": bool(parameters.max),
            "socket_options": options,
        }
        if scheme == "https":
            pool_options["ssl_context"] = _tls_context(ca_file)
            self._pool: urllib3.HTTPConnectionPool = _HTTPSPool(host, port, **pool_options)
        else:
            self._pool = _HTTPPool(host, port, **pool_options)
        assert isinstance(self._pool.pool, _IdleConnections)
        self._idle = self._pool.pool
        self._idle.ttl = parameters.ttl if parameters.enablereuse else 0.0

    @property
    def resting(self) -> bool:
        """Whether the host failed so recently that it is not asked."""
        return time.monotonic() < self._rests_until

    def send(self, request: S3Request) -> urllib3.BaseHTTPResponse:
        """Send a request once; redirects are answers. Raises: UpstreamError."""
        if self.resting:
            left = self._rests_until - time.monotonic()
            raise HostResting("S3 was not reachable a moment ago (retry of S3ProxySet)", left)
        headers = {"Host": request.host, "User-Agent": "usp_s3_wsgi", "Accept-Encoding": "identity"}
        headers.update(request.headers)
        if not self._parameters.enablereuse:
            headers["Connection"] = "close"
        try:
            response = self._pool.urlopen(
                request.method,
                request.target,
                headers=headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=self._timeout,
                pool_timeout=self._acquire,  # type: ignore[arg-type]  # queue takes fractions
                preload_content=False,
                decode_content=False,
            )
        except HTTPError as error:
            raise self._failure(error) from error
        if response.status < 200:
            # 101: another protocol is to follow on this connection, of which the next request must see nothing.
            response.close()
            response.release_conn()
            raise UpstreamRefused(f"S3 answered {response.status}, which was not asked for")
        return response

    def _failure(self, error: HTTPError) -> UpstreamError:
        if isinstance(error, EmptyPoolError):
            return NoFreeConnection(f"no connection came free within {self._acquire:g} s (max, acquire)")
        if isinstance(error, ReadTimeoutError):
            return UpstreamTimeout(f"no answer within {self._parameters.timeout:g} s")
        if _is_no_http(error):
            return UpstreamRefused("S3 sent a header that is not HTTP, or too large")
        handshake = _handshake_error(error)
        if handshake is None and not isinstance(error, (NewConnectionError, ConnectTimeoutError)):
            self._idle.close_all()  # what ended this one may have ended them too, and the next try needs one that lives
        elif self._parameters.retry:
            self._rests_until = time.monotonic() + self._parameters.retry
        if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            return UpstreamUnreachable(f"no connection within {self._parameters.connectiontimeout:g} s")
        if handshake is not None and not _is_transient(handshake):
            return UpstreamUntrusted(describe(error))
        return UpstreamUnreachable(describe(error))


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """Give a response's connection back: what is left of a short body is read, so that it serves again; else closed."""
    left = response.length_remaining
    if left is None or left > _SHORT_BODY or not _drain(response):
        response.close()
    response.release_conn()


def _drain(response: urllib3.BaseHTTPResponse) -> bool:
    """Read to the body's end; False where that is not here at once, for nobody waits for bytes that nobody needs."""
    sock = getattr(response.connection, "sock", None)
    if sock is not None:
        sock.settimeout(_MOMENT)  # until the next request, which sets its own
    deadline = time.monotonic() + _MOMENT
    try:
        while response.read1(_SHORT_BODY):
            if time.monotonic() > deadline:
                return False
    except HTTPError:
        return False
    return True


def _is_no_http(error: HTTPError) -> bool:
    cause = error.args[1] if len(error.args) > 1 else error
    is_header = isinstance(cause, (http.client.HTTPException, InvalidHeader))
    return is_header and not isinstance(cause, http.client.RemoteDisconnected)


def _handshake_error(error: HTTPError) -> BaseException | None:
    """What failed in TLS before anything was asked, None where it was something else."""
    cause = error.args[0] if isinstance(error, SSLError) else None
    return cause.__cause__ if isinstance(cause, HandshakeError) else None


def _is_transient(handshake: BaseException) -> bool:
    """Whether a server that is at fault for a moment ends a handshake so, and not one that will never do."""
    broken = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ConnectionError)
    return isinstance(handshake, broken) or getattr(handshake, "reason", None) == "TLSV1_ALERT_INTERNAL_ERROR"


class _HTTPPool(urllib3.HTTPConnectionPool):
    QueueCls = _IdleConnections
    ConnectionCls = StrictHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    QueueCls = _IdleConnections
    ConnectionCls = StrictHTTPSConnection


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
    return context


class _WithoutQuery(logging.Filter):
    """Cut the query from what urllib3 logs, as DEBUG and of a broken header as WARNING: it may be a signature."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
        return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_WithoutQuery())
workers = Workers()
