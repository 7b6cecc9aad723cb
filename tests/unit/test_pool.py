"""Connection pools, without a server: which are shared, when connections are closed, and the text of network errors."""

from __future__ import annotations

import queue
import ssl
import threading
import time
from dataclasses import replace
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import ConnectionPool, HTTPConnectionPool
from urllib3.exceptions import NewConnectionError, ProtocolError
from urllib3.exceptions import SSLError as Urllib3SSLError

from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.proxy_set import ProxySet
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.transport import network_errors, pool, tls

SETTINGS = Settings(bucket_url("http://b.ceph.example/"))


# --- pools


def test_one_pool_for_all_buckets_of_a_host() -> None:
    manager = pool.PoolManager()
    first = manager.pool_for(replace(SETTINGS, bucket_url=bucket_url("http://ceph.example/one")))
    assert manager.pool_for(replace(SETTINGS, bucket_url=bucket_url("http://ceph.example/two"))) is first


@pytest.mark.parametrize(
    "other",
    [
        replace(SETTINGS, bucket_url=bucket_url("https://b.ceph.example/")),
        replace(SETTINGS, bucket_url=bucket_url("http://c.ceph.example/")),
        replace(SETTINGS, bucket_url=bucket_url("http://b.ceph.example:81/")),
        replace(SETTINGS, proxy_set=ProxySet(timeout=31)),
    ],
)
def test_another_host_or_parameter_has_another_pool(other: Settings) -> None:
    manager = pool.PoolManager()
    assert manager.pool_for(SETTINGS) is not manager.pool_for(other)


def test_concurrent_threads_share_one_pool() -> None:
    manager, barrier, pools = pool.PoolManager(), threading.Barrier(8, timeout=10), []

    def get_pool() -> None:
        barrier.wait()
        pools.append(manager.pool_for(SETTINGS))

    threads = [threading.Thread(target=get_pool) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(pools) == 8 and len(set(map(id, pools))) == 1


# --- idle connections


class FakeConnection:
    """A connection that counts how often it was closed."""

    close_count = 0
    idle_since = 0.0
    is_closed, is_connected = False, True

    def __init__(self, connected_at: float = 0.0) -> None:
        self.connected_at = connected_at

    def close(self) -> None:
        self.close_count += 1


def acquire(idle: pool.ConnectionQueue) -> Any:
    """Return an idle connection, None if a new one is to be made."""
    try:
        return idle.get(block=False)
    except queue.Empty:
        return None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds", "close_count"), [(0, 0), (60, 0), (61, 1)])
def test_a_connection_that_was_idle_for_longer_than_ttl_is_closed(
    clock: list[float], seconds: float, close_count: int
) -> None:
    idle, connection = pool.ConnectionQueue(ttl=60), cast(Any, FakeConnection())
    idle.put(connection)
    clock[0] += seconds
    assert (acquire(idle) is connection, connection.close_count) == (not close_count, close_count)
    assert acquire(idle) is None


@pytest.mark.parametrize(("seconds", "close_count"), [(59, 0), (61, 1)])
def test_a_busy_connection_is_closed_after_addressttl(clock: list[float], seconds: float, close_count: int) -> None:
    """The host's name is then resolved again."""
    idle, busy = pool.ConnectionQueue(ttl=300, max_age=60), cast(Any, FakeConnection())
    busy.connected_at = clock[0]
    for _ in range(int(seconds)):
        idle.put(busy)
        clock[0] += 1
        acquired = acquire(idle)
    assert (acquired is busy, busy.close_count) == (not close_count, close_count)


def test_a_connection_that_s3_has_closed_is_not_reused(clock: list[float]) -> None:
    idle, connection = pool.ConnectionQueue(ttl=60), cast(Any, FakeConnection())
    idle.put(connection)
    connection.is_connected = False
    assert (acquire(idle), connection.close_count) == (None, 1)


def test_the_next_idle_connection_is_acquired_if_s3_has_closed_the_last(clock: list[float]) -> None:
    idle, alive, dead = pool.ConnectionQueue(ttl=60), cast(Any, FakeConnection()), cast(Any, FakeConnection())
    for connection in (alive, dead):
        idle.put(connection)
    dead.is_connected = False
    assert (acquire(idle) is alive, alive.close_count, dead.close_count) == (True, 0, 1)


def test_idle_connections_at_the_bottom_are_closed(clock: list[float]) -> None:
    idle, bottom, top = pool.ConnectionQueue(ttl=60), cast(Any, FakeConnection()), cast(Any, FakeConnection())
    for connection in (bottom, top):
        idle.put(connection)
    for _ in range(5):  # twice ttl at most
        clock[0] += 30
        idle.put(acquired := acquire(idle))
        assert acquired is top
    assert (bottom.close_count, top.close_count) == (1, 0)
    assert (acquire(idle), acquire(idle)) == (top, None)


def test_close_idle_closes_only_idle_connections(clock: list[float]) -> None:
    idle, idle_connection, busy_connection = (
        pool.ConnectionQueue(ttl=60),
        cast(Any, FakeConnection()),
        cast(Any, FakeConnection()),
    )
    for connection in (idle_connection, busy_connection):
        idle.put(connection)
    acquire(idle)
    idle.close_idle()
    assert (idle_connection.close_count, busy_connection.close_count, acquire(idle)) == (1, 0, None)


@given(
    st.lists(
        st.sampled_from(["acquire", "release", "release closed", "fail", "expire", "close idle", "drop"]), max_size=60
    )
)
def test_no_more_connections_than_max_and_none_is_lost(steps: list[str]) -> None:
    """As urllib3 uses the queue: filled with None, and a None is put back for a connection that failed."""
    maximum = 3
    idle, in_use = pool.ConnectionQueue(maximum, ttl=60), list[Any]()
    for _ in range(maximum):
        idle.put(None)
    now = 1_000.0
    with patch.object(time, "monotonic", lambda: now):
        for step in steps:
            if step == "acquire":
                if len(in_use) == maximum:
                    with pytest.raises(queue.Empty):
                        idle.get(block=False)
                    continue
                connection = idle.get(block=False)
                if connection is not None:
                    fake = cast(Any, connection)
                    assert not fake.close_count and not fake.is_closed and fake.is_connected and fake not in in_use
                in_use.append(connection or cast(Any, FakeConnection(now)))
            elif step.startswith("release") and in_use:
                in_use[-1].is_closed = step == "release closed"
                idle.put(in_use.pop(), block=False)
            elif step == "fail" and in_use:
                in_use.pop()
                idle.put(None, block=False)
            elif step == "expire":
                now += 61
            elif step == "close idle":
                idle.close_idle()
            elif step == "drop" and idle._idle:  # S3 closes the connection that would be used next
                cast(Any, idle._idle[-1]).is_connected = False
            assert idle.qsize() + len(in_use) == maximum


def test_without_max_only_idle_connections_are_kept() -> None:
    idle = pool.ConnectionQueue(ttl=60)
    for _ in range(5):
        idle.put(None, block=False)  # of requests that failed
    assert idle.qsize() == 0 and acquire(idle) is None


def test_what_the_package_overrides_in_urllib3_exists() -> None:
    """Other versions may call it by another name: this test runs with the lowest and the newest ones."""
    assert {"_new_conn", "connect", "request", "getresponse", "is_connected"} <= vars(HTTPConnection).keys()
    assert {"QueueCls", "ConnectionCls"} <= {*vars(HTTPConnectionPool), *vars(ConnectionPool)}


def test_many_threads_never_share_a_connection() -> None:
    """Each connection is acquired by one thread at a time, while others are closed."""
    idle, shared, reused = pool.ConnectionQueue(ttl=60), [], []
    for _ in range(4):
        idle.put(cast(Any, FakeConnection()))

    def use() -> None:
        for _ in range(2_000):
            connection: Any = acquire(idle)
            if connection is None:
                connection = FakeConnection(time.monotonic())
            else:
                reused.append(connection)
            if getattr(connection, "in_use", False):
                shared.append(connection)
            connection.in_use = True
            time.sleep(0)
            connection.in_use = False
            idle.put(connection)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert reused and not shared


# --- network errors and TLS


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "ConnectionRefusedError: Connection refused"),
        (
            ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer")),
            "ProtocolError: Connection reset by peer",
        ),
        (ProtocolError("https://b.example/a?Signature=5ec4e7"), "ProtocolError"),
        (Urllib3SSLError("https://b.example/a?Signature=5ec4e7"), "SSLError"),
        (ValueError("X-Amz-Signature=5ec4e7"), "ValueError"),
    ],
)
def test_a_description_has_no_url(error: BaseException, description: str) -> None:
    assert network_errors.describe(error) == description


def test_description_of_a_certificate_error() -> None:
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_message = "certificate has expired"
    description = network_errors.describe(Urllib3SSLError(cause))
    assert description == "TLS: certificate verification failed: certificate has expired"


def test_description_of_a_failed_name_resolution() -> None:
    error = NewConnectionError.__new__(NewConnectionError)
    error.__cause__ = OSError(-2, "Name or service not known")
    assert network_errors.describe(error).endswith("Name or service not known")


def test_certificates_and_host_names_are_verified() -> None:
    context = tls.context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname


def test_tls_before_1_2_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the system's configuration of OpenSSL allows it."""
    lax = ssl.create_default_context()
    lax.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    monkeypatch.setattr(ssl, "create_default_context", lambda cafile: lax)
    assert tls.context(None).minimum_version is ssl.TLSVersion.TLSv1_2
