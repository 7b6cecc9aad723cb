"""The client's TCP connection, seen from a WSGI application inside httpd."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any


def is_daemon(environ: Mapping[str, Any]) -> bool:
    """Whether this is mod_wsgi's daemon mode, where another process holds the client's connection."""
    return bool(environ.get("mod_wsgi.process_group"))


def abort(environ: Mapping[str, Any]) -> bool:
    """End the client's connection at once, so that a body cut short cannot look complete or mix with the next answer.

    WSGI has no means for that: after an exception mod_wsgi leaves the connection open, and httpd goes on to the next
    request on it while the client still waits for the rest of the body. In embedded mode the socket is one of this
    process. Returns whether it was found and shut down.
    """
    if environ.get("mod_wsgi.process_group") != "":
        return False
    matching = [fd for fd in _socket_fds() if _is_client(fd, environ)]
    if len(matching) != 1:
        return False
    with _duplicate(matching[0]) as connection:
        if _is_client(connection.fileno(), environ):  # the number may serve another connection by now
            connection.shutdown(socket.SHUT_RDWR)
            return True
    return False


def _socket_fds() -> list[int]:
    directory = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return [int(name) for name in os.listdir(directory)]


def _duplicate(fd: int) -> socket.socket:
    copy = os.dup(fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:  # not a socket
        os.close(copy)
        raise


def _is_client(fd: int, environ: Mapping[str, Any]) -> bool:
    try:
        with _duplicate(fd) as candidate:
            peer, local = candidate.getpeername(), candidate.getsockname()
    except OSError:  # not a socket, not connected, or closed meanwhile by another thread
        return False
    # Not REMOTE_ADDR: mod_remoteip replaces it by what a proxy in front says.
    return (
        len(peer) >= 2
        and str(peer[1]) == environ.get("REMOTE_PORT")
        and local[0].removeprefix("::ffff:") == environ.get("SERVER_ADDR", "").removeprefix("::ffff:")
        and str(local[1]) == environ.get("mod_wsgi.listener_port", environ.get("SERVER_PORT"))
    )
