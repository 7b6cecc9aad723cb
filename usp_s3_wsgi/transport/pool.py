"""Connection pools, per process: one for each host and set of parameters.

https://urllib3.readthedocs.io/en/stable/advanced-usage.html#customizing-pool-behavior
"""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from usp_s3_wsgi.config.proxy_set import ProxySet
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BadUpstreamResponse, HostInErrorState, PoolTimeout
from usp_s3_wsgi.signing.types import S3Request
from usp_s3_wsgi.transport import tls
from usp_s3_wsgi.transport.connection import S3Connection
from usp_s3_wsgi.transport.http_response import S3Response, read_response
from usp_s3_wsgi.transport.network_errors import NETWORK_ERRORS, is_broken_connection, is_connect_error, to_exception


class _IdleConnections:
    """Open connections that wait for a request: last in, first out.

    Those idle for more than ``ttl`` seconds are not used again. They are closed when a connection is released and the
    last sweep was at least ``ttl`` seconds ago.
    """

    def __init__(self, ttl: float, max_age: float = math.inf) -> None:
        """``max_age``: seconds after which a connection is closed, so that the host's name is resolved again."""
        self._ttl, self._max_age, self._last_sweep = ttl, max_age, 0.0
        # append, pop and remove are atomic.
        self._connections: list[S3Connection] = []

    def release(self, connection: S3Connection) -> None:
        """Add an open connection."""
        now = connection.idle_since = time.monotonic()
        self._connections.append(connection)
        # Last in, first out: connections that are no longer needed stay at the bottom until they are swept.
        if now >= self._last_sweep + self._ttl:
            self._last_sweep = now
            for idle in list(self._connections):
                if now - idle.idle_since > self._ttl:
                    self._close(idle)

    def acquire(self) -> S3Connection | None:
        """Remove and return a connection that can be reused, None if there is none; others are closed."""
        while True:
            try:
                connection = self._connections.pop()
            except IndexError:
                return None
            now = time.monotonic()
            is_expired = now - connection.idle_since > self._ttl or now - connection.connected_at > self._max_age
            if not is_expired and connection.is_reusable:
                return connection
            connection.close()

    def close_all(self) -> None:
        """Close the connections that are idle now."""
        for idle in list(self._connections):
            self._close(idle)

    def _close(self, idle: S3Connection) -> None:
        with suppress(ValueError):  # another thread has just acquired it
            self._connections.remove(idle)
            idle.close()


class HostPool:
    """The connections to a host. After a failed connect the host is in error state for ``retry`` seconds, as in
    mod_proxy: https://httpd.apache.org/docs/2.4/mod/mod_proxy.html#proxypass.
    """

    def __init__(self, scheme: str, host: str, port: int, parameters: ProxySet, ca_file: str | None) -> None:
        """Raises: SettingError: ``ca_file`` cannot be used."""
        self._parameters = parameters
        self._error_state_until = 0.0
        self._acquire_timeout = parameters.acquire or parameters.timeout
        self._semaphore = threading.BoundedSemaphore(parameters.max) if parameters.max else None
        self._idle = _IdleConnections(parameters.ttl if parameters.enablereuse else 0.0, parameters.addressttl)
        self._connection_header_and_end = ("", "") if parameters.enablereuse else ("Connection: close", "", "")
        socket_options: list[tuple[int, int, int]] = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        if parameters.keepalive:
            socket_options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        options: dict[str, Any] = {"timeout": parameters.connectiontimeout, "socket_options": socket_options}
        if scheme == "https":
            options["ssl_context"] = tls.context(ca_file)
        connection_class = tls.S3TLSConnection if scheme == "https" else S3Connection
        self._new_connection = partial(connection_class, host, port, **options)

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
        if self._semaphore is not None and not self._semaphore.acquire(timeout=self._acquire_timeout):
            raise PoolTimeout(
                f"the connection pool is exhausted: no connection within {self._acquire_timeout:g} s (max and acquire"
                " of S3ProxySet)"
            )
        try:
            response = self._exchange(request.method, head)
        except BaseException as error:
            self._release_semaphore()
            if isinstance(error, NETWORK_ERRORS):
                self._handle_network_error(error)
                raise to_exception(error, self._parameters) from error
            raise
        if response.status < 200:
            raise BadUpstreamResponse(f"unexpected status {response.status}")
        return response

    def close_idle(self) -> None:
        """Close the connections that are idle now."""
        self._idle.close_all()

    def _exchange(self, method: str, head: bytes) -> S3Response:
        connection = self._idle.acquire() or self._new_connection()
        try:
            connection.send_request(head, self._parameters.timeout)
            return read_response(connection, method, self._release)
        except BaseException:
            connection.close()
            raise

    def _release(self, connection: S3Connection) -> None:
        if connection.sock is not None:
            self._idle.release(connection)
        self._release_semaphore()

    def _release_semaphore(self) -> None:
        if self._semaphore is not None:
            self._semaphore.release()

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
        if is_connect_error(error) and self._parameters.retry:
            self._error_state_until = time.monotonic() + self._parameters.retry
        if is_broken_connection(error):
            self._idle.close_all()  # a retry needs a connection that is alive


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
