"""Connection pools, per process: one of urllib3 for each host and set of parameters.

https://urllib3.readthedocs.io/en/stable/advanced-usage.html#customizing-pool-behavior
"""

from __future__ import annotations

import math
import queue
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry, Timeout
from urllib3.exceptions import EmptyPoolError

from usp_s3_wsgi.config.proxy_set import ProxySet
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BadUpstreamResponse, HostInErrorState, PoolTimeout, clear_traceback
from usp_s3_wsgi.signing.types import S3Request
from usp_s3_wsgi.transport import network_errors, tls
from usp_s3_wsgi.transport.connection import S3Connection
from usp_s3_wsgi.transport.http_response import ReadableConnection, S3Response

#: Retries are the gateway's, which signs each attempt anew.
_NO_RETRIES = Retry(total=False, redirect=False)
#: urllib3 writes the URL to its debug lines and exceptions. The real one, which may hold a signature, is in the head.
_URL = "/"


class ConnectionQueue(queue.LifoQueue["S3Connection | None"]):
    """The idle connections of a pool of urllib3: last in, first out.

    As urllib3 fills it, it also holds a None for each further connection that ``maxsize`` allows, which is taken when
    there is no idle connection; with ``maxsize`` 0 there is no limit, and None is not kept.

    Those idle for more than ``ttl`` seconds are not used again. They are closed when a connection is released and the
    last sweep was at least ``ttl`` seconds ago.
    """

    def __init__(self, maxsize: int = 0, *, ttl: float, max_age: float = math.inf) -> None:
        """``max_age``: seconds after which a connection is closed, so that the host's name is resolved again."""
        self._ttl, self._max_age, self._last_sweep = ttl, max_age, 0.0
        super().__init__(maxsize)

    def close_idle(self) -> None:
        """Close the connections that are idle now."""
        with self.mutex:
            while self._idle:
                self._close(self._idle.pop())

    # --- what queue.Queue calls, with its lock held

    def _init(self, maxsize: int) -> None:
        self._idle: list[S3Connection] = []
        self._unused = 0  # how many of those that maxsize allows are neither idle nor in use

    def _qsize(self) -> int:
        return len(self._idle) + self._unused

    def _put(self, connection: S3Connection | None) -> None:
        if connection is None or connection.is_closed:
            self._unused += self.maxsize > 0
            return
        now = connection.idle_since = time.monotonic()
        self._idle.append(connection)
        # Last in, first out: connections that are no longer needed stay at the bottom until they are swept.
        if now >= self._last_sweep + self._ttl:
            self._last_sweep = now
            expired = [idle for idle in self._idle if now - idle.idle_since > self._ttl]
            for idle in expired:
                self._idle.remove(idle)
                self._close(idle)

    def _get(self) -> S3Connection | None:
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            is_expired = now - connection.idle_since > self._ttl or now - connection.connected_at > self._max_age
            if not is_expired and connection.is_connected:
                return connection
            self._close(connection)
        self._unused -= self.maxsize > 0
        return None

    def _close(self, connection: S3Connection) -> None:
        connection.close()
        self._unused += self.maxsize > 0


class _PoolWithQueue(HTTPConnectionPool):
    def __init__(self, *arguments: Any, queue_class: Callable[[int], ConnectionQueue], **options: Any) -> None:
        self.QueueCls = queue_class  # type: ignore[assignment]
        super().__init__(*arguments, **options)


class _HTTPPool(_PoolWithQueue):
    ConnectionCls = S3Connection  # type: ignore[assignment]


class _HTTPSPool(_PoolWithQueue, HTTPSConnectionPool):
    ConnectionCls = tls.S3TLSConnection  # type: ignore[assignment]


class HostPool:
    """The connections to a host, in a pool of urllib3.

    After a failed connect the host is in error state for ``retry`` seconds, as in mod_proxy:
    https://httpd.apache.org/docs/2.4/mod/mod_proxy.html#proxypass.
    """

    def __init__(self, scheme: str, host: str, port: int, parameters: ProxySet, ca_file: str | None) -> None:
        """Raises: SettingError: ``ca_file`` cannot be used."""
        self._parameters = parameters
        self._error_state_until = 0.0
        self._acquire_timeout = parameters.acquire or parameters.timeout
        self._connection_header_and_end = ("", "") if parameters.enablereuse else ("Connection: close", "", "")
        socket_options: list[tuple[int, int, int]] = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        if parameters.keepalive:
            socket_options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        options: dict[str, Any] = {"ssl_context": tls.context(ca_file)} if scheme == "https" else {}
        ttl = parameters.ttl if parameters.enablereuse else 0.0
        pool_class = _HTTPSPool if scheme == "https" else _HTTPPool
        self._pool = pool_class(
            host,
            port,
            timeout=Timeout(connect=parameters.connectiontimeout, read=parameters.timeout),
            maxsize=parameters.max,
            block=parameters.max > 0,
            queue_class=partial(ConnectionQueue, ttl=ttl, max_age=parameters.addressttl),
            socket_options=socket_options,
            read_timeout=parameters.timeout,
            **options,
        )

    @property
    def is_in_error_state(self) -> bool:
        """Whether connecting failed so recently that the host is not tried."""
        return time.monotonic() < self._error_state_until

    def send(self, request: S3Request) -> S3Response:
        """Send a request once and return the response, its body unread; redirects are not followed.

        Raises:
            UpstreamError: there is no response.
        """
        if self.is_in_error_state:
            left = self._error_state_until - time.monotonic()
            raise HostInErrorState("S3 could not be reached a moment ago (retry of S3ProxySet)", left)
        head = self._request_head(request)
        try:
            response = cast(
                "S3Response",
                self._pool.urlopen(
                    request.method,
                    _URL,
                    body=head,
                    retries=_NO_RETRIES,
                    redirect=False,
                    pool_timeout=self._acquire_timeout,  # type: ignore[arg-type]
                    preload_content=False,
                ),
            )
        except EmptyPoolError:
            raise PoolTimeout(
                f"the connection pool is exhausted: no connection within {self._acquire_timeout:g} s (max and acquire"
                " of S3ProxySet)"
            ) from None
        except network_errors.NETWORK_ERRORS as urllib3_error:
            clear_traceback(urllib3_error)  # urlopen's frame holds it
            error = network_errors.without_urllib3(urllib3_error)
        else:
            response.when_released(self._release)
            if response.status < 200:
                raise BadUpstreamResponse(f"unexpected status {response.status}")
            return response
        self._handle_network_error(error)
        raise network_errors.to_exception(error, self._parameters) from error

    def close_idle(self) -> None:
        """Close the connections that are idle now."""
        cast("ConnectionQueue", self._pool.pool).close_idle()

    def _release(self, connection: ReadableConnection) -> None:
        cast("ConnectionQueue", self._pool.pool).put(cast("S3Connection", connection), block=False)

    def _request_head(self, request: S3Request) -> bytes:
        """https://www.rfc-editor.org/rfc/rfc9112#section-3."""
        lines = [
            f"{request.method} {request.target} HTTP/1.1",
            f"Host: {request.host}",
            "User-Agent: usp_s3_wsgi",
            f"Accept-Encoding: {request.accept_encoding}",
            *[f"{name}: {value}" for name, value in request.headers],
            *self._connection_header_and_end,
        ]
        head = "\r\n".join(lines)
        if head.count("\n") >= len(lines) or head.count("\r") >= len(lines):
            raise ValueError("line break in a header")
        return head.encode("latin-1")

    def _handle_network_error(self, error: BaseException) -> None:
        if network_errors.is_connect_error(error) and self._parameters.retry:
            self._error_state_until = time.monotonic() + self._parameters.retry
        if network_errors.is_broken_connection(error):
            self.close_idle()  # a retry needs a connection that is alive


class _PoolKey(NamedTuple):
    scheme: str
    host: str
    port: int
    parameters: ProxySet
    ca_file: str | None


class PoolManager:
    """The pools of this process, by scheme, host, port, parameters and CA file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[_PoolKey, HostPool] = {}

    def pool_for(self, settings: Settings) -> HostPool:
        """Return the pool of a bucket's host. Raises: SettingError."""
        url = settings.bucket_url
        key = _PoolKey(url.scheme, url.host, url.port, settings.proxy_set, settings.ca_file)
        pool = self._pools.get(key)
        if pool is None:
            with self._lock:
                pool = self._pools.get(key) or HostPool(*key)
                self._pools[key] = pool
        return pool

    def clear(self) -> None:
        """Close the idle connections and forget all pools."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close_idle()


pool_manager = PoolManager()
