"""A network of its own for each node: a namespace that a virtual cable (veth) connects to a bridge.

The bridge is in the network namespace of this process. ``make test-fleet`` makes one for the whole run, so nothing of
the machine's own network is changed or used.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType

#: The address of this process: HAProxy, S3 and the clients.
HUB = "10.77.0.1"
#: A second address of this process, for a client that is not at HAProxy's address.
CLIENT = "10.77.0.2"
_BRIDGE = "nodes"
#: Least, usual and most bytes of a socket's buffers. The usual limits would hold a whole object of 6 MB, and a node
#: would not notice that its client is slow.
_BUFFERS = "4096 65536 262144"
_BUFFER_FILES = "/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/ipv4/tcp_wmem"


def missing() -> str:
    """Why this process cannot make networks; empty if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no ip on this machine: tests/fleet/install.sh"
    if [name for _, name in socket.if_nameindex() if name != "lo"]:
        return "needs a network namespace of its own: make test-fleet"
    return ""


def node_address(number: int) -> str:
    """The address of a node; the first number is 1."""
    return f"10.77.0.{10 + number}"


class Network:
    """The bridge and the namespaces of the nodes, as a context manager."""

    def __init__(self, nodes: int) -> None:
        self._numbers = range(1, nodes + 1)

    def namespace(self, number: int) -> str:
        """The name of a node's network namespace, for ``ip netns``."""
        return f"usp-s3-fleet-{os.getpid()}-{number}"

    def __enter__(self) -> Network:
        try:
            _ip("link", "set", "lo", "up")
            for file in _BUFFER_FILES:  # these limits belong to the network namespace
                Path(file).write_text(_BUFFERS)
            _ip("link", "add", _BRIDGE, "type", "bridge")
            for address in (HUB, CLIENT):
                _ip("address", "add", f"{address}/24", "dev", _BRIDGE)
            _ip("link", "set", _BRIDGE, "up")
            for number in self._numbers:
                self._connect(number)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def set_cable(self, number: int, state: str) -> None:
        """Set a node's cable "down", as if the machine or its switch had no power, or "up" again."""
        _ip("link", "set", f"node{number}", state)

    def _connect(self, number: int) -> None:
        namespace = self.namespace(number)
        _ip("netns", "add", namespace)
        _ip("link", "add", f"node{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", f"node{number}", "master", _BRIDGE, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "address", "add", f"{node_address(number)}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        for file in _BUFFER_FILES:
            _ip("netns", "exec", namespace, "sh", "-c", f"echo {_BUFFERS} >{file}")

    def _remove(self) -> None:
        for number in self._numbers:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", self.namespace(number))
        with suppress(subprocess.CalledProcessError):
            _ip("link", "delete", _BRIDGE)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=30)
