"""Which connection is reset when a body is truncated: the client's own and no other."""

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

#: The client's socket, and the environ of its request.
Client = tuple[socket.socket, dict[str, Any]]


def connect(stack: ExitStack, address: str, source: tuple[str, int] | None = None) -> Client:
    """Connect a client to this process; return its socket, and mod_wsgi's environ of the connection."""
    listener = stack.enter_context(socket.create_server((address, 0), family=_family(address)))
    client = stack.enter_context(socket.create_connection(listener.getsockname()[:2], 5, source_address=source))
    server, peer = listener.accept()
    stack.enter_context(server)
    environ = {
        "mod_wsgi.process_group": "",
        "mod_wsgi.listener_port": str(listener.getsockname()[1]),
        "SERVER_PORT": "443",
        "SERVER_ADDR": address,
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": str(peer[1]),
    }
    return client, environ


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def is_open(client: socket.socket) -> bool:
    client.settimeout(0.05)
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_only_the_clients_connection_is_reset(stack: ExitStack, address: str) -> None:
    clients = [connect(stack, address) for _ in range(4)]
    assert client_connection.reset(clients[2][1])
    assert [is_open(client) for client, _ in clients] == [True, True, False, True]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_connection_is_reset_instead_of_closed(stack: ExitStack, address: str) -> None:
    """A closed connection is the body's end for a client of HTTP/1.0, if a filter has removed the Content-Length."""
    client, environ = connect(stack, address)
    assert client_connection.reset(environ)
    client.settimeout(5)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_file_locks_are_kept(stack: ExitStack, tmp_path: Path) -> None:
    """Closing any descriptor of a file releases all locks (fcntl) that the process has on the file."""
    lock = stack.enter_context((tmp_path / "lock").open("w"))
    fcntl.lockf(lock, fcntl.LOCK_EX)
    _, environ = connect(stack, "127.0.0.1")
    assert client_connection.reset(environ)
    lock_again = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    done = subprocess.run([sys.executable, "-c", lock_again, lock.name], capture_output=True)
    assert b"BlockingIOError" in done.stderr


def test_remote_addr_that_mod_remoteip_has_replaced(stack: ExitStack) -> None:
    client, environ = connect(stack, "127.0.0.1")
    assert client_connection.reset({**environ, "REMOTE_ADDR": "203.0.113.9"})
    assert not is_open(client)


def listen(stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_server(("127.0.0.1", 0)))


def test_two_clients_with_the_same_port(stack: ExitStack) -> None:
    """Their addresses differ: REMOTE_ADDR decides, unless mod_remoteip has replaced it."""
    listener = listen(stack)
    port = listener.getsockname()[1]
    one = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
    client_port = one.getsockname()[1]
    other = stack.enter_context(
        socket.create_connection(("127.0.0.1", port), 5, source_address=("127.0.0.2", client_port))
    )
    for _ in range(2):
        stack.enter_context(listener.accept()[0])
    environ = {
        "mod_wsgi.process_group": "",
        "SERVER_PORT": str(port),
        "SERVER_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(client_port),
    }
    assert not client_connection.reset({**environ, "REMOTE_ADDR": "203.0.113.9"})
    assert client_connection.reset({**environ, "REMOTE_ADDR": "127.0.0.2"})
    assert (is_open(one), is_open(other)) == (True, False)


def connect_from(stack: ExitStack, address: tuple[str, int], source: tuple[str, int]) -> socket.socket:
    """Connect from a port that may have connections to other servers; return the client's socket."""
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(source)
    client.settimeout(5)
    client.connect(address)
    return client


@pytest.mark.parametrize("other", ["port", "address"])
def test_one_client_port_connected_to_two_listeners(stack: ExitStack, other: str) -> None:
    """A proxy in front may use the same port for a connection to another virtual host, which must stay open."""
    first = listen(stack)
    port = first.getsockname()[1]
    second = stack.enter_context(socket.create_server(("127.0.0.1", 0) if other == "port" else ("127.0.0.2", port)))
    one = connect_from(stack, first.getsockname(), ("127.0.0.1", 0))
    two = connect_from(stack, second.getsockname(), one.getsockname())
    for listener in (first, second):
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


@pytest.mark.parametrize(
    "changes", [{"SERVER_ADDR": "127.0.0.2"}, {"mod_wsgi.listener_port": "1"}, {"REMOTE_PORT": "1"}]
)
def test_a_connection_with_another_address_or_port_is_not_reset(stack: ExitStack, changes: dict[str, str]) -> None:
    """The client's own connection has ended; a similar one is another client's."""
    client, environ = connect(stack, "127.0.0.1")
    assert not client_connection.reset({**environ, **changes})
    assert is_open(client)


@pytest.mark.parametrize("group", ["daemons", None])
def test_outside_of_embedded_mode_no_connection_is_reset(stack: ExitStack, group: str | None) -> None:
    client, environ = connect(stack, "127.0.0.1")
    environ.pop("mod_wsgi.process_group")
    if group is not None:
        environ["mod_wsgi.process_group"] = group
    assert not client_connection.reset(environ)
    assert is_open(client)


def test_no_descriptor_is_leaked(stack: ExitStack) -> None:
    _, environ = connect(stack, "127.0.0.1")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        client_connection.reset({**environ, "REMOTE_PORT": "1"})
        client_connection.reset(environ)
    assert len(os.listdir("/proc/self/fd")) == before


class Input:
    """A request body (wsgi.input). ``broken``: after its pieces, read() raises as in mod_wsgi."""

    def __init__(self, *pieces: bytes, broken: bool = False) -> None:
        self.pieces, self.broken = [*pieces], broken

    def read(self, size: int) -> bytes:
        if self.broken and not self.pieces:
            raise OSError("mod_wsgi request data read error: Connection was terminated")
        return self.pieces.pop(0) if self.pieces else b""


@pytest.mark.parametrize("announced", [{"CONTENT_LENGTH": "4"}, {"HTTP_TRANSFER_ENCODING": "chunked"}])
def test_a_request_body_is_read_to_its_end(announced: dict[str, str]) -> None:
    body = Input(b"ab", b"cd")
    client_connection.discard_request_body({"wsgi.input": body, **announced})
    assert body.pieces == []
    with pytest.raises(BadRequestBody):
        client_connection.discard_request_body({"wsgi.input": Input(b"ab", broken=True), **announced})


@pytest.mark.parametrize("announced", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "0"}])
def test_a_request_without_a_body_is_not_read(announced: dict[str, str]) -> None:
    client_connection.discard_request_body({"wsgi.input": Input(broken=True), **announced})
