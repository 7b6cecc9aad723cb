"""The connections to S3: one pool for each bucket's host and parameters, per process, and the tries of a request."""

from __future__ import annotations

import logging
import queue
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from usp_s3_wsgi.errors import GatewayError, SettingError, UpstreamBusy, UpstreamTimeout, UpstreamUnreachable
from usp_s3_wsgi.request import S3Request
from usp_s3_wsgi.settings import Settings
from usp_s3_wsgi.values import ProxySet

#: S3's way to say "not now"; the same request may be sent again.
BUSY_STATUSES = frozenset({500, 502, 503, 504})
#: Connections kept where ``max`` sets no limit: more than any httpd child has threads.
_UNLIMITED = 1_024
_SHORT_BODY = 65_536
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


def fetch(settings: Settings, signed: Callable[[], S3Request]) -> urllib3.BaseHTTPResponse:
    """Send a request until S3 answers it, at most ``S3Retries`` times more; the body is not read.

    ``signed`` gives the request, signed anew for each try. All tries together start within ``timeout`` seconds.

    Raises:
        UpstreamUnreachable, UpstreamTimeout, UpstreamBusy: after the last try.
        SettingError: the CA file cannot be used.
    """
    worker = _workers.get(settings)
    deadline = time.monotonic() + settings.proxy_set.timeout
    for tries_left in range(settings.retries, -1, -1):
        pause = _pause(settings.retries - tries_left)
        last = not tries_left or time.monotonic() + pause > deadline
        try:
            response = worker.send(signed())
        except UpstreamUnreachable as error:
            if last or worker.resting or not _is_transient(error):
                raise  # where the worker rests, its own words would hide the reason
        else:
            if last or response.status not in BUSY_STATUSES:
                return response
            discard(response)
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")  # pragma: no cover


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """Give a response's connection back: what is left of a short body is read, so that it serves again; else closed."""
    left = response.length_remaining
    if left is not None and left <= _SHORT_BODY:
        response.drain_conn()
    else:
        response.close()
    response.release_conn()


def _pause(attempt: int) -> float:
    """Seconds before the next try: exponential with full jitter, so that many clients do not come back at once."""
    return random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt))


def _is_transient(error: UpstreamUnreachable) -> bool:
    return not isinstance(error.__cause__, SSLError)


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

    def _close_if_stale(self, connection: Any, now: float) -> None:
        if connection is not None and now - connection.idle_since > self.ttl:
            connection.close()  # it connects again when it is used


class _Worker:
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
        if isinstance(self._pool.pool, _IdleConnections):
            self._pool.pool.ttl = parameters.ttl if parameters.enablereuse else 0.0

    @property
    def resting(self) -> bool:
        """Whether the host failed so recently that it is not asked."""
        return time.monotonic() < self._rests_until

    def send(self, request: S3Request) -> urllib3.BaseHTTPResponse:
        """Send a request once; redirects are answers. Raises: UpstreamUnreachable, UpstreamTimeout, UpstreamBusy."""
        if self.resting:
            raise UpstreamBusy("S3 was not reachable a moment ago (retry of S3ProxySet)", _seconds(self._rests_until))
        headers = {"Host": request.host, "User-Agent": "usp_s3_wsgi", "Accept-Encoding": "identity"}
        headers.update(request.headers)
        if not self._parameters.enablereuse:
            headers["Connection"] = "close"
        try:
            return self._pool.urlopen(
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

    def _failure(self, error: HTTPError) -> GatewayError:
        if isinstance(error, EmptyPoolError):
            return UpstreamBusy(f"no connection came free within {self._acquire:g} s (max, acquire)")
        if isinstance(error, ReadTimeoutError):
            return UpstreamTimeout(f"no answer within {self._parameters.timeout:g} s")
        if isinstance(error, (NewConnectionError, ConnectTimeoutError, SSLError)) and self._parameters.retry:
            self._rests_until = time.monotonic() + self._parameters.retry
        if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            return UpstreamUnreachable(f"no connection within {self._parameters.connectiontimeout:g} s")
        return UpstreamUnreachable(describe(error))


class _HTTPPool(urllib3.HTTPConnectionPool):
    QueueCls = _IdleConnections


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    QueueCls = _IdleConnections

    def _validate_conn(self, conn: Any) -> None:
        try:
            super()._validate_conn(conn)
        except TimeoutError as error:  # urllib3 takes a slow handshake for a slow answer
            raise ConnectTimeoutError(conn, "the TLS handshake timed out") from error


class _WorkerKey(NamedTuple):
    scheme: str
    host: str
    port: int
    parameters: ProxySet
    ca_file: str | None


class _Workers:
    """All workers of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[_WorkerKey, _Worker] = {}

    def get(self, settings: Settings) -> _Worker:
        """Return the worker of a section. Raises: SettingError."""
        url = settings.bucket_url
        key = _WorkerKey(url.scheme, url.host, url.port, settings.proxy_set, settings.ca_file)
        worker = self._known.get(key)
        if worker is None:
            with self._lock:
                worker = self._known.get(key) or _Worker(*key)
                self._known[key] = worker
        return worker


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"S3CAFile: {ca_file} cannot be used: {error.strerror or 'no certificate in it'}") from None


def describe(error: BaseException) -> str:
    """Say what went wrong, in one line without URL: urllib3's own words hold the target, signature included."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: the certificate is refused: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            return f"{type(error).__name__}: {cause.strerror}"
        nested = next((part for part in cause.args if isinstance(part, BaseException)), None)
        cause = nested or cause.__cause__ or cause.__context__
    return type(error).__name__


def _seconds(until: float) -> str:
    return str(max(1, round(until - time.monotonic())))


class _WithoutQuery(logging.Filter):
    """Cut the query from what urllib3 logs, as DEBUG and of a broken header as WARNING: it may be a signature."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
        return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_WithoutQuery())
_workers = _Workers()
