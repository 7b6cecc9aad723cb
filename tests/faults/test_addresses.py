"""A host with several addresses, of which some swallow what is sent to them or refuse: RFC 8305."""

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
#: Seconds that a dead address costs without a second try; nothing here may last so long.
TIMEOUT = 8


class Host:
    """A name whose addresses a test chooses; they share one port."""

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

    def swallows(self, address: str) -> str:
        """Let nobody who connects to this address hear anything: the queue of a listener there is full."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = self._stack.enter_context(socket.socket(family))
        listener.bind((address, self.port))
        listener.listen(0)
        for _ in range(4):
            waiting = self._stack.enter_context(socket.socket(family))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        return address

    def ask(self, *, scheme: str = "http", **changes: str) -> tuple[Reply, float]:
        """Ask for a film, and tell how long it took."""
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
def no_socket_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the connection that is kept


@pytest.mark.parametrize("dead", [["127.0.0.2"], ["127.0.0.2", "127.0.0.3", "127.0.0.4"], ["::1", "127.0.0.2"]])
def test_the_next_address_is_tried_soon(host: Host, dead: list[str]) -> None:
    host.addresses = [*map(host.swallows, dead), "127.0.0.1"]
    with ScriptedS3(HELLO, port=host.port):
        reply, seconds = host.ask()
    assert (reply.status, reply.body) == (200, b"hello")
    assert seconds < TIMEOUT / 2


def test_a_dead_address_is_remembered(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request needs a connection of its own here, and only the first one waits for the dead address."""
    tried: list[str] = []
    connect = socket.socket.connect

    def noted(self: socket.socket, address: Any) -> None:
        tried.append(address[0])
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    host.addresses = [host.swallows("127.0.0.2"), "127.0.0.1"]
    proxy_set = f"connectiontimeout={TIMEOUT} timeout=30 enablereuse=off"
    with ScriptedS3(*[HELLO] * 4, port=host.port):
        for _ in range(3):
            assert host.ask(S3ProxySet=proxy_set)[0].status == 200
        assert tried == ["127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.1"]
        monkeypatch.setattr(happy_eyeballs, "_REMEMBERED", -1.0)
        happy_eyeballs._unresponsive.add("127.0.0.2")
        assert host.ask(S3ProxySet=proxy_set)[0].status == 200
        assert tried[4:] == ["127.0.0.2", "127.0.0.1"]


@pytest.mark.parametrize("first_one", ["swallows", "refuses"])
def test_over_tls(host: Host, first_one: str, tmp_path: Path) -> None:
    """The certificate is that of the name, whichever address answers."""
    host.addresses = [host.swallows("127.0.0.2") if first_one == "swallows" else "127.0.0.2", "127.0.0.1"]
    certificate = make_certificate(tmp_path, f"DNS:{NAME}")
    with ScriptedS3(HELLO, port=host.port, tls=certificate):
        reply, seconds = host.ask(scheme="https", S3CAFile=str(certificate.root))
    assert (reply.status, reply.body) == (200, b"hello")
    assert seconds < TIMEOUT / 2


def test_one_that_refuses_costs_nothing(host: Host) -> None:
    host.addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
    with ScriptedS3(HELLO, port=host.port):
        reply, seconds = host.ask(S3ProxySet="connectiontimeout=300 timeout=30")
    assert reply.status == 200 and seconds < TIMEOUT / 2


def test_the_limit_is_that_of_all_addresses_together(host: Host) -> None:
    host.addresses = [host.swallows(f"127.0.0.{number}") for number in range(2, 8)]
    reply, seconds = host.ask(S3ProxySet="connectiontimeout=600ms timeout=30")
    assert reply.status == 502 and "no connection within 0.6 s" in reply.log
    assert seconds < 3


def test_each_address_has_its_turn_within_the_limit(host: Host) -> None:
    """However short it is: the last one is the one that answers."""
    host.addresses = [*[host.swallows(f"127.0.0.{number}") for number in range(2, 8)], "127.0.0.1"]
    with ScriptedS3(HELLO, port=host.port):
        assert host.ask(S3ProxySet="connectiontimeout=700ms timeout=30")[0].status == 200


def test_the_reason_where_all_refuse(host: Host) -> None:
    host.addresses = ["127.0.0.2", "127.0.0.3"]
    reply, _ = host.ask(S3Retries="0")
    assert reply.status == 502 and "NewConnectionError: Connection refused" in reply.log


def test_a_name_that_nobody_knows(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **named: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    reply, _ = host.ask()
    assert reply.status == 502 and "Name or service not known" in reply.log


@pytest.mark.parametrize("label", ["a" * 64, "a..b"])
def test_a_name_that_can_be_none(label: str) -> None:
    reply = call(environ("/media/film.mp4", s3_settings(f"http://{label}.example", S3Retries="0")))
    assert reply.status == 502 and reply.log


def test_families_take_turns() -> None:
    """https://www.rfc-editor.org/rfc/rfc8305#section-4"""
    four = [(socket.AF_INET, (f"192.0.2.{number}", 80)) for number in range(3)]
    six = [(socket.AF_INET6, (f"2001:db8::{number}", 80, 0, 0)) for number in range(2)]
    assert happy_eyeballs._alternate_families([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]
    assert happy_eyeballs._alternate_families([*four, *six]) == [four[0], six[0], four[1], six[1], four[2]]


def test_what_is_remembered_is_forgotten() -> None:
    silent = happy_eyeballs._UnresponsiveAddresses()
    silent.add("192.0.2.1")
    assert "192.0.2.1" in silent and "192.0.2.2" not in silent
    silent.discard("192.0.2.1")
    assert "192.0.2.1" not in silent
