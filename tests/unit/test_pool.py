"""The pools, without a server: which are shared, what a failure is called, what is closed when."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import replace
from typing import Any, cast

import pytest
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
    one = manager.pool_for(replace(SETTINGS, bucket_url=bucket_url("http://ceph.example/one")))
    assert manager.pool_for(replace(SETTINGS, bucket_url=bucket_url("http://ceph.example/two"))) is one


@pytest.mark.parametrize(
    "other",
    [
        replace(SETTINGS, bucket_url=bucket_url("https://b.ceph.example/")),
        replace(SETTINGS, bucket_url=bucket_url("http://c.ceph.example/")),
        replace(SETTINGS, bucket_url=bucket_url("http://b.ceph.example:81/")),
        replace(SETTINGS, proxy_set=ProxySet(timeout=31)),
    ],
)
def test_a_pool_of_its_own(other: Settings) -> None:
    manager = pool.PoolManager()
    assert manager.pool_for(SETTINGS) is not manager.pool_for(other)


def test_threads_that_come_at_once_share_one_pool() -> None:
    manager, together, got = pool.PoolManager(), threading.Barrier(8, timeout=10), []

    def get() -> None:
        together.wait()
        got.append(manager.pool_for(SETTINGS))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(got) == 8 and len(set(map(id, got))) == 1


# --- idle connections


class Fake:
    """A connection that counts how often it was closed."""

    closed = 0
    idle_since = connected_at = 0.0
    is_reusable = True

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds", "closed"), [(0, 0), (60, 0), (61, 1)])
def test_a_connection_is_closed_when_it_was_idle_for_longer_than_ttl(
    clock: list[float], seconds: float, closed: int
) -> None:
    idle, connection = pool._IdleConnections(60), cast(Any, Fake())
    idle.release(connection)
    clock[0] += seconds
    assert (idle.acquire() is connection, connection.closed) == (not closed, closed)
    assert idle.acquire() is None


@pytest.mark.parametrize(("seconds", "closed"), [(59, 0), (61, 1)])
def test_a_busy_connection_is_made_anew_after_addressttl(clock: list[float], seconds: float, closed: int) -> None:
    """So that the host's name is looked up again."""
    idle, busy = pool._IdleConnections(300, 60), cast(Any, Fake())
    busy.connected_at = clock[0]
    for _ in range(int(seconds)):
        idle.release(busy)
        clock[0] += 1
        taken = idle.acquire()
    assert (taken is busy, busy.closed) == (not closed, closed)


def test_one_that_s3_has_closed_is_closed_here_too(clock: list[float]) -> None:
    idle, connection = pool._IdleConnections(60), cast(Any, Fake())
    idle.release(connection)
    connection.is_reusable = False
    assert (idle.acquire(), connection.closed) == (None, 1)


def test_the_next_one_is_used_where_s3_has_closed_the_last(clock: list[float]) -> None:
    idle, alive, dead = pool._IdleConnections(60), cast(Any, Fake()), cast(Any, Fake())
    for connection in (alive, dead):
        idle.release(connection)
    dead.is_reusable = False
    assert (idle.acquire() is alive, alive.closed, dead.closed) == (True, 0, 1)


def test_connections_at_the_bottom_are_swept(clock: list[float]) -> None:
    idle, bottom, top = pool._IdleConnections(60), cast(Any, Fake()), cast(Any, Fake())
    for connection in (bottom, top):
        idle.release(connection)
    for _ in range(5):  # twice ttl at most
        clock[0] += 30
        idle.release(taken := cast(Any, idle.acquire()))
        assert taken is top
    assert (bottom.closed, top.closed) == (1, 0)
    assert (idle.acquire(), idle.acquire()) == (top, None)


def test_all_that_wait_are_closed_and_none_that_is_in_use(clock: list[float]) -> None:
    idle, waiting, used = pool._IdleConnections(60), cast(Any, Fake()), cast(Any, Fake())
    for connection in (waiting, used):
        idle.release(connection)
    idle.acquire()
    idle.close_all()
    assert (waiting.closed, used.closed, idle.acquire()) == (1, 0, None)


def test_many_threads_never_share_a_connection() -> None:
    """Each of them is taken by one at a time, while others are swept."""
    idle, shared = pool._IdleConnections(0.0), []
    for _ in range(4):
        idle.release(cast(Any, Fake()))

    def use() -> None:
        for _ in range(2_000):
            connection: Any = idle.acquire() or Fake()
            if getattr(connection, "in_use", False):
                shared.append(connection)
            connection.in_use = True
            connection.in_use = False
            idle.release(connection)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not shared


# --- words for failures


@pytest.mark.parametrize(
    ("error", "words"),
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
def test_a_failure_is_told_without_its_url(error: BaseException, words: str) -> None:
    assert network_errors.describe(error) == words


def test_a_refused_certificate_is_told() -> None:
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "certificate has expired"
    words = network_errors.describe(Urllib3SSLError(refused))
    assert words == "TLS: certificate verification failed: certificate has expired"


def test_a_name_that_does_not_resolve_is_told() -> None:
    error = NewConnectionError.__new__(NewConnectionError)
    error.__cause__ = OSError(-2, "Name or service not known")
    assert network_errors.describe(error).endswith("Name or service not known")


def test_tls_is_checked() -> None:
    context = tls.context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname


def test_tls_before_1_2_is_never_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the system's own settings allow."""
    lax = ssl.create_default_context()
    lax.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    monkeypatch.setattr(ssl, "create_default_context", lambda cafile: lax)
    assert tls.context(None).minimum_version is ssl.TLSVersion.TLSv1_2
