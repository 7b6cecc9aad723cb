"""Which connection ends when a body is cut short: the client's own and no other."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from typing import Any

import pytest

from usp_s3_wsgi import client

Pair = tuple[socket.socket, dict[str, Any]]


def connect(stack: ExitStack, address: str, source: tuple[str, int] | None = None) -> Pair:
    """A client's end of a connection to this process, and what mod_wsgi says of the other end."""
    listener = stack.enter_context(socket.create_server((address, 0), family=_family(address)))
    near = stack.enter_context(socket.create_connection(listener.getsockname()[:2], 5, source_address=source))
    far, peer = listener.accept()
    stack.enter_context(far)
    environ = {
        "mod_wsgi.process_group": "",
        "mod_wsgi.listener_port": str(listener.getsockname()[1]),
        "SERVER_PORT": "443",
        "SERVER_ADDR": address,
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": str(peer[1]),
    }
    return near, environ


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def is_open(near: socket.socket) -> bool:
    near.settimeout(0.05)
    try:
        return near.recv(1) != b""
    except TimeoutError:
        return True


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_only_the_clients_connection_ends(stack: ExitStack, address: str) -> None:
    pairs = [connect(stack, address) for _ in range(4)]
    assert client.abort(pairs[2][1])
    assert [is_open(near) for near, _ in pairs] == [True, True, False, True]


@pytest.mark.parametrize(("protocol", "is_reset"), [("HTTP/1.1", False), ("HTTP/1.0", True), ("INCLUDED", True)])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_orderly_end_is_not_for_http_1_0(stack: ExitStack, address: str, protocol: str, is_reset: bool) -> None:
    """It may have been the body's end, where a filter took the length away."""
    near, environ = connect(stack, address)
    assert client.abort({**environ, "SERVER_PROTOCOL": protocol})
    near.settimeout(5)
    with pytest.raises(ConnectionResetError) if is_reset else nullcontext():
        assert near.recv(1) == b""


def test_behind_a_proxy_whose_address_was_replaced(stack: ExitStack) -> None:
    near, environ = connect(stack, "127.0.0.1")
    assert client.abort({**environ, "REMOTE_ADDR": "203.0.113.9"})
    assert not is_open(near)


def listen(stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_server(("127.0.0.1", 0)))


def test_two_clients_with_the_same_port(stack: ExitStack) -> None:
    """Behind different addresses; mod_remoteip may have replaced them, but where it has not they tell."""
    listener = listen(stack)
    port = listener.getsockname()[1]
    one = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
    near_port = one.getsockname()[1]
    other = stack.enter_context(
        socket.create_connection(("127.0.0.1", port), 5, source_address=("127.0.0.2", near_port))
    )
    for _ in range(2):
        stack.enter_context(listener.accept()[0])
    environ = {
        "mod_wsgi.process_group": "",
        "SERVER_PORT": str(port),
        "SERVER_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(near_port),
    }
    assert not client.abort({**environ, "REMOTE_ADDR": "203.0.113.9"})
    assert client.abort({**environ, "REMOTE_ADDR": "127.0.0.2"})
    assert (is_open(one), is_open(other)) == (True, False)


@pytest.mark.parametrize("group", ["daemons", None])
def test_elsewhere_nothing_is_touched(stack: ExitStack, group: str | None) -> None:
    near, environ = connect(stack, "127.0.0.1")
    environ.pop("mod_wsgi.process_group")
    if group is not None:
        environ["mod_wsgi.process_group"] = group
    assert not client.abort(environ)
    assert is_open(near)


def test_no_file_stays_open(stack: ExitStack) -> None:
    _, environ = connect(stack, "127.0.0.1")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        client.abort({**environ, "REMOTE_PORT": "1"})
        client.abort(environ)
    assert len(os.listdir("/proc/self/fd")) == before
