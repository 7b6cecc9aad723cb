"""Which connection ends when a body is cut short: the client's own and no other."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from usp_s3_wsgi.errors import BadRequestBody
from usp_s3_wsgi.gateway import client_connection

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
    except ConnectionResetError:
        return False


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_only_the_clients_connection_ends(stack: ExitStack, address: str) -> None:
    pairs = [connect(stack, address) for _ in range(4)]
    assert client_connection.reset(pairs[2][1])
    assert [is_open(near) for near, _ in pairs] == [True, True, False, True]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_no_end_is_orderly(stack: ExitStack, address: str) -> None:
    """It would be the body's end for a client of HTTP/1.0, where a filter took the length away."""
    near, environ = connect(stack, address)
    assert client_connection.reset(environ)
    near.settimeout(5)
    with pytest.raises(ConnectionResetError):
        near.recv(1)


def test_locks_on_files_are_kept(stack: ExitStack, tmp_path: Path) -> None:
    """Whoever closes any descriptor of a file releases all that its process has locked of it."""
    lock = stack.enter_context((tmp_path / "lock").open("w"))
    fcntl.lockf(lock, fcntl.LOCK_EX)
    _, environ = connect(stack, "127.0.0.1")
    assert client_connection.reset(environ)
    ask = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    assert b"BlockingIOError" in subprocess.run([sys.executable, "-c", ask, lock.name], capture_output=True).stderr


def test_behind_a_proxy_whose_address_was_replaced(stack: ExitStack) -> None:
    near, environ = connect(stack, "127.0.0.1")
    assert client_connection.reset({**environ, "REMOTE_ADDR": "203.0.113.9"})
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
    assert not client_connection.reset({**environ, "REMOTE_ADDR": "203.0.113.9"})
    assert client_connection.reset({**environ, "REMOTE_ADDR": "127.0.0.2"})
    assert (is_open(one), is_open(other)) == (True, False)


def reach(stack: ExitStack, address: tuple[str, int], source: tuple[str, int]) -> socket.socket:
    """A client's end of a connection from that very port, which may have other ones elsewhere."""
    near = stack.enter_context(socket.socket())
    near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    near.bind(source)
    near.settimeout(5)
    near.connect(address)
    return near


@pytest.mark.parametrize("other", ["port", "address"])
def test_one_client_port_and_two_ends_of_this_server(stack: ExitStack, other: str) -> None:
    """A proxy in front may use the same port for a connection to another virtual host: only one of them is meant."""
    here = listen(stack)
    port = here.getsockname()[1]
    there = stack.enter_context(socket.create_server(("127.0.0.1", 0) if other == "port" else ("127.0.0.2", port)))
    one = reach(stack, here.getsockname(), ("127.0.0.1", 0))
    two = reach(stack, there.getsockname(), one.getsockname())
    for listener in (here, there):
        stack.enter_context(listener.accept()[0])
    environ = {
        "mod_wsgi.process_group": "",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(one.getsockname()[1]),
    }
    assert client_connection.reset(environ)
    assert (is_open(one), is_open(two)) == (False, True)


@pytest.mark.parametrize("place", [{"SERVER_ADDR": "127.0.0.2"}, {"mod_wsgi.listener_port": "1"}, {"REMOTE_PORT": "1"}])
def test_a_connection_to_another_end_is_not_the_clients(stack: ExitStack, place: dict[str, str]) -> None:
    """The client's own has ended; one that looks like it belongs to somebody else."""
    near, environ = connect(stack, "127.0.0.1")
    assert not client_connection.reset({**environ, **place})
    assert is_open(near)


@pytest.mark.parametrize("group", ["daemons", None])
def test_elsewhere_nothing_is_touched(stack: ExitStack, group: str | None) -> None:
    near, environ = connect(stack, "127.0.0.1")
    environ.pop("mod_wsgi.process_group")
    if group is not None:
        environ["mod_wsgi.process_group"] = group
    assert not client_connection.reset(environ)
    assert is_open(near)


def test_no_file_stays_open(stack: ExitStack) -> None:
    _, environ = connect(stack, "127.0.0.1")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        client_connection.reset({**environ, "REMOTE_PORT": "1"})
        client_connection.reset(environ)
    assert len(os.listdir("/proc/self/fd")) == before


class Input:
    """A request's body as mod_wsgi reads it, which may break off."""

    def __init__(self, *pieces: bytes, broken: bool = False) -> None:
        self.pieces, self.broken = [*pieces], broken

    def read(self, size: int) -> bytes:
        if self.broken and not self.pieces:
            raise OSError("mod_wsgi request data read error: Connection was terminated")
        return self.pieces.pop(0) if self.pieces else b""


@pytest.mark.parametrize("announced", [{"CONTENT_LENGTH": "4"}, {"HTTP_TRANSFER_ENCODING": "chunked"}])
def test_a_requests_body_is_read_to_its_end(announced: dict[str, str]) -> None:
    body = Input(b"ab", b"cd")
    client_connection.discard_request_body({"wsgi.input": body, **announced})
    assert body.pieces == []
    with pytest.raises(BadRequestBody):
        client_connection.discard_request_body({"wsgi.input": Input(b"ab", broken=True), **announced})


@pytest.mark.parametrize("announced", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "0"}])
def test_without_a_body_nothing_is_read(announced: dict[str, str]) -> None:
    client_connection.discard_request_body({"wsgi.input": Input(broken=True), **announced})
