"""A host with several addresses, some of which do not answer or refuse connections: RFC 8305."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make_certificate
from tests.faults.server import ScriptedS3, answer
from tests.wsgi import Reply, call, environ, s3_settings
from usp_s3_wsgi.transport import happy_eyeballs

NAME = "films.s3.example"
HELLO = answer(200, b"hello")
#: The connection timeout in seconds: what an address that does not answer would cost without RFC 8305.
TIMEOUT = 8


class Host:
    """A host name whose addresses the test chooses; all have the same port."""

    def __init__(self, stack: ExitStack, patch: pytest.MonkeyPatch) -> None:
        self._stack = stack
        self.addresses: list[str] = []
        self._resolve = socket.getaddrinfo
        patch.setattr(socket, "getaddrinfo", self._getaddrinfo)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])

    def _getaddrinfo(self, host: str, port: Any, *more: Any, **named: Any) -> list[Any]:
        names = self.addresses if host == NAME else [host]
        return [found for name in names for found in self._resolve(name, port, *more, **named)]

    def add_silent(self, address: str) -> str:
        """Make an address that does not answer: the queue of its listener is full."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = self._stack.enter_context(socket.socket(family))
        listener.bind((address, self.port))
        listener.listen(0)
        for _ in range(4):
            waiting = self._stack.enter_context(socket.socket(family))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        return address

    def fetch(self, *, scheme: str = "http", **changes: str) -> tuple[Reply, float]:
        """Request a film; return the reply and its time in seconds."""
        proxy_set = changes.pop("S3ProxySet", f"connectiontimeout={TIMEOUT} timeout=30")
        begun = time.monotonic()
        url = f"{scheme}://{NAME}:{self.port}"
        reply = call(environ("/media/film.mp4", s3_settings(url, S3ProxySet=proxy_set, S3Bucket="films", **changes)))
        return reply, time.monotonic() - begun


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(happy_eyeballs, "_unresponsive", happy_eyeballs._UnresponsiveAddresses())
    with ExitStack() as stack:
        yield Host(stack, monkeypatch)


@pytest.fixture(autouse=True)
def no_leaked_sockets() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the connection in the pool


@pytest.mark.parametrize(
    "silent_addresses", [["127.0.0.2"], ["127.0.0.2", "127.0.0.3", "127.0.0.4"], ["::1", "127.0.0.2"]]
)
def test_the_next_address_is_tried_before_the_timeout(host: Host, silent_addresses: list[str]) -> None:
    host.addresses = [*map(host.add_silent, silent_addresses), "127.0.0.1"]
    with ScriptedS3(HELLO, port=host.port):
        reply, seconds = host.fetch()
    assert (reply.status, reply.body) == (200, b"hello")
    assert seconds < TIMEOUT / 2


def test_an_address_that_does_not_answer_is_remembered(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request makes a connection, and only the first one waits for the address that does not answer."""
    connected_to: list[str] = []
    connect = socket.socket.connect

    def recording_connect(self: socket.socket, address: Any) -> None:
        connected_to.append(address[0])
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", recording_connect)
    host.addresses = [host.add_silent("127.0.0.2"), "127.0.0.1"]
    proxy_set = f"connectiontimeout={TIMEOUT} timeout=30 enablereuse=off"
    with ScriptedS3(*[HELLO] * 4, port=host.port):
        for _ in range(3):
            assert host.fetch(S3ProxySet=proxy_set)[0].status == 200
        assert connected_to == ["127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.1"]
        monkeypatch.setattr(happy_eyeballs, "_REMEMBERED", -1.0)
        happy_eyeballs._unresponsive.add("127.0.0.2")
        assert host.fetch(S3ProxySet=proxy_set)[0].status == 200
        assert connected_to[4:] == ["127.0.0.2", "127.0.0.1"]


@pytest.mark.parametrize("first_address", ["silent", "refused"])
def test_the_next_address_is_tried_over_tls(host: Host, first_address: str, tmp_path: Path) -> None:
    """The certificate is checked against the host name, whichever address answers."""
    host.addresses = [host.add_silent("127.0.0.2") if first_address == "silent" else "127.0.0.2", "127.0.0.1"]
    certificate = make_certificate(tmp_path, f"DNS:{NAME}")
    with ScriptedS3(HELLO, port=host.port, tls=certificate):
        reply, seconds = host.fetch(scheme="https", S3CAFile=str(certificate.root))
    assert (reply.status, reply.body) == (200, b"hello")
    assert seconds < TIMEOUT / 2


def test_a_refused_connection_causes_no_wait(host: Host) -> None:
    host.addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
    with ScriptedS3(HELLO, port=host.port):
        reply, seconds = host.fetch(S3ProxySet="connectiontimeout=300 timeout=30")
    assert reply.status == 200 and seconds < TIMEOUT / 2


def test_the_connection_timeout_covers_all_addresses(host: Host) -> None:
    host.addresses = [host.add_silent(f"127.0.0.{number}") for number in range(2, 8)]
    reply, seconds = host.fetch(S3ProxySet="connectiontimeout=600ms timeout=30")
    assert reply.status == 502 and "no connection within 0.6 s" in reply.log
    assert seconds < 3


def test_each_address_is_tried_within_the_connection_timeout(host: Host) -> None:
    """However short it is: the last address is the one that answers."""
    host.addresses = [*[host.add_silent(f"127.0.0.{number}") for number in range(2, 8)], "127.0.0.1"]
    with ScriptedS3(HELLO, port=host.port):
        assert host.fetch(S3ProxySet="connectiontimeout=700ms timeout=30")[0].status == 200


def test_all_addresses_refuse(host: Host) -> None:
    host.addresses = ["127.0.0.2", "127.0.0.3"]
    reply, _ = host.fetch(S3Retries="0")
    assert reply.status == 502 and "NewConnectionError: Connection refused" in reply.log


def test_an_unknown_host_name(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **named: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    reply, _ = host.fetch()
    assert reply.status == 502 and "Name or service not known" in reply.log


@pytest.mark.parametrize("label", ["a" * 64, "a..b"])
def test_an_invalid_host_name(label: str) -> None:
    reply = call(environ("/media/film.mp4", s3_settings(f"http://{label}.example", S3Retries="0")))
    assert reply.status == 502 and reply.log


def test_address_families_alternate() -> None:
    """https://www.rfc-editor.org/rfc/rfc8305#section-4"""
    four = [(socket.AF_INET, (f"192.0.2.{number}", 80)) for number in range(3)]
    six = [(socket.AF_INET6, (f"2001:db8::{number}", 80, 0, 0)) for number in range(2)]
    assert happy_eyeballs._alternate_families([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]
    assert happy_eyeballs._alternate_families([*four, *six]) == [four[0], six[0], four[1], six[1], four[2]]


def test_a_remembered_address_can_be_forgotten() -> None:
    silent = happy_eyeballs._UnresponsiveAddresses()
    silent.add("192.0.2.1")
    assert "192.0.2.1" in silent and "192.0.2.2" not in silent
    silent.discard("192.0.2.1")
    assert "192.0.2.1" not in silent
