"""The client's TCP connection, seen from a WSGI application inside httpd."""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from usp_s3_wsgi.errors import RequestBroken

#: Bytes of a request's body that are read at once, to be dropped.
_READ = 65_536
#: Two threads that look through the open files at once would see each other's duplicates.
_lock = threading.Lock()


def is_daemon(environ: Mapping[str, Any]) -> bool:
    """Whether this is mod_wsgi's daemon mode, where another process holds the client's connection."""
    return bool(environ.get("mod_wsgi.process_group"))


def is_embedded(environ: Mapping[str, Any]) -> bool:
    """Whether this is a process of httpd itself, which holds the client's connection."""
    return environ.get("mod_wsgi.process_group") == ""


def drop_body(environ: Mapping[str, Any]) -> None:
    """Read the request's body and drop it, so that the next request begins after it; usp_s3_module has done so already.

    The client may hold it back until "100 Continue" comes (https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1).
    mod_wsgi forgets that when it sends an answer, and takes the next request for the body.

    Raises:
        RequestBroken: it broke off, or it is none.
    """
    if environ.get("CONTENT_LENGTH", "0") in {"", "0"} and "HTTP_TRANSFER_ENCODING" not in environ:
        return
    try:
        while environ["wsgi.input"].read(_READ):
            pass
    except OSError:
        raise RequestBroken("the request's body cannot be read") from None


def abort(environ: Mapping[str, Any]) -> bool:
    """End the client's connection at once, so that a body cut short cannot look complete or mix with the next answer.

    WSGI has no means for that: after an exception mod_wsgi leaves the connection open, and httpd goes on to the next
    request on it while the client still waits for the rest of the body. In embedded mode (``is_embedded``) the socket
    is one of this process. Returns whether it was found and ended.
    """
    if not is_embedded(environ):
        return False
    with _lock:
        matching = {fd: address for fd in _socket_fds() if (address := _client_address(fd, environ))}
        if len(matching) > 1:  # clients behind different addresses may have the same port
            matching = {fd: address for fd, address in matching.items() if address == environ.get("REMOTE_ADDR")}
        if len(matching) != 1:
            return False
        with _duplicate(*matching) as connection:
            # A client takes an orderly end for the body's where nothing else frames it: one of HTTP/1.0, or one that is
            # treated so (downgrade-1.0, force-response-1.0), behind a filter of httpd that took the length away.
            if not _reset(connection):
                with suppress(OSError):  # it has ended already
                    connection.shutdown(socket.SHUT_RDWR)
    return True


def _reset(connection: socket.socket) -> bool:
    """Reset a TCP connection that another part of this process will close; returns whether that was possible.

    Linux does so at connect(2) to no address at all (AF_UNSPEC), which Python's own connect() cannot say.
    """
    try:
        import ctypes  # not everywhere, and not for every start of a process

        connect = ctypes.CDLL(None).connect
    except (ImportError, OSError, AttributeError):
        return False
    nowhere = struct.pack("H14x", socket.AF_UNSPEC)
    return sys.platform == "linux" and bool(connect(connection.fileno(), nowhere, len(nowhere)) == 0)


def _socket_fds() -> list[int]:
    directory = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return [int(name) for name in os.listdir(directory)]


def _duplicate(fd: int) -> socket.socket:
    # Nothing but sockets: to close the copy of a file would release the locks that this process has on it (fcntl).
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        raise OSError("not a socket")
    return socket.socket(fileno=os.dup(fd))


def _client_address(fd: int, environ: Mapping[str, Any]) -> str | None:
    """Return the peer's address if the open file can be the client's connection: by the two ports and this end."""
    try:
        with _duplicate(fd) as candidate:
            peer, local = candidate.getpeername(), candidate.getsockname()
    except OSError:  # not a socket, not connected, or closed meanwhile by another thread
        return None
    # Not by REMOTE_ADDR: mod_remoteip replaces it by what a proxy in front says.
    if (
        len(peer) >= 2
        and str(peer[1]) == environ.get("REMOTE_PORT")
        and _plain(local[0]) == _plain(environ.get("SERVER_ADDR", ""))
        and str(local[1]) == environ.get("mod_wsgi.listener_port", environ.get("SERVER_PORT"))
    ):
        return _plain(peer[0])
    return None


def _plain(address: str) -> str:
    """An IPv4 address as such, also where a socket of IPv6 has accepted it."""
    return address.removeprefix("::ffff:")
