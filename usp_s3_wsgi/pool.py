"""The connections to S3: a worker with its pool for each bucket's host and parameters, once per process."""

from __future__ import annotations

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
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from usp_s3_wsgi.errors import (
    GatewayError,
    SettingError,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
    describe,
)
from usp_s3_wsgi.proxy_set import ProxySet
from usp_s3_wsgi.request import S3Request
from usp_s3_wsgi.settings import Settings

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
        # urllib3 calls both the same: a slow TLS handshake and a slow answer.
        handshake = f" (TLS handshake: {parameters.connectiontimeout:g} s)" if scheme == "https" else ""
        self._patience = f"{parameters.timeout:g} s{handshake}"
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
            # http.client takes an informational answer for the final one. The final one is still to come on this
            # connection, where it would be taken for that of the next request.
            response.close()
            response.release_conn()
            raise UpstreamUnreachable(f"S3 answered {response.status}, which is not understood here")
        return response

    def _failure(self, error: HTTPError) -> GatewayError:
        if isinstance(error, EmptyPoolError):
            return UpstreamBusy(f"no connection came free within {self._acquire:g} s (max, acquire)")
        if isinstance(error, ReadTimeoutError):
            return UpstreamTimeout(f"no answer within {self._patience}")
        if isinstance(error, (NewConnectionError, ConnectTimeoutError, SSLError)) and self._parameters.retry:
            self._rests_until = time.monotonic() + self._parameters.retry
        if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            return UpstreamUnreachable(f"no connection within {self._parameters.connectiontimeout:g} s")
        return UpstreamUnreachable(describe(error))


class _HTTPPool(urllib3.HTTPConnectionPool):
    QueueCls = _IdleConnections


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    QueueCls = _IdleConnections


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
workers = Workers()
