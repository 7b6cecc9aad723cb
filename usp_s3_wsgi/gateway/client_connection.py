"""The client's connection inside httpd: how the client learns that a response is not complete.

WSGI has no means for that: after an exception mod_wsgi leaves the connection open, and httpd goes on to the next
request on it while the client still waits for the rest of the body.
"""

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

from usp_s3_wsgi.errors import BadRequestBody, BadUpstreamResponse
from usp_s3_wsgi.gateway.httpd_module import HttpdRequest
from usp_s3_wsgi.gateway.request_log import RequestLog
from usp_s3_wsgi.transport.http_response import S3Response

#: Bytes of a request's body that are read at once, to be discarded.
_READ_SIZE = 65_536
_PROTOCOLS_WITHOUT_CHUNKS = frozenset({"HTTP/0.9", "HTTP/1.0"})
#: Two threads that search the open files at once would find each other's duplicates.
_search_lock = threading.Lock()


class ClientConnection:
    """The client's connection of one request.

    ``module_enforces_content_length``: usp_s3_module counts the body's bytes, and ends a response abnormally whose
    body is shorter than its Content-Length. ``httpd_request``: its means to end any truncated body; None if another
    process holds the connection, or without the module.
    """

    def __init__(
        self,
        environ: Mapping[str, Any],
        log: RequestLog,
        module_enforces_content_length: bool = False,
        httpd_request: HttpdRequest | None = None,
    ) -> None:
        self._environ, self._log = environ, log
        self._counts_length, self._httpd_request = module_enforces_content_length, httpd_request

    def check_truncation_is_detectable(self, response: S3Response) -> None:
        """Raises: BadUpstreamResponse: the client could take a truncated body of this response for a complete one."""
        has_length = "content-length" in response.headers
        if self._counts_length and has_length:
            return
        is_in_daemon, protocol = is_daemon(self._environ), self._environ.get("SERVER_PROTOCOL")
        if is_in_daemon and protocol == "HTTP/0.9":  # its responses have no header, and so no length
            raise BadUpstreamResponse("HTTP/0.9 in daemon mode: truncation could not be detected: load usp_s3_module")
        if not has_length and (not response.chunked or is_in_daemon or protocol in _PROTOCOLS_WITHOUT_CHUNKS):
            raise BadUpstreamResponse("response has no Content-Length: truncation could not be detected")

    def must_send_connection_close(self, has_length: bool) -> bool:
        """Whether the connection must not be reused: in daemon mode it cannot be reset after a truncated body."""
        return is_daemon(self._environ) and not (self._counts_length and has_length)

    def abort_response(self, has_length: bool) -> bool:
        """Make sure that the client does not take a truncated body for a complete one.

        Return whether httpd itself ends the response abnormally; else the caller raises an exception.
        """
        if self._httpd_request is not None:
            self._httpd_request.mark_truncated()
            return True
        if self._counts_length and has_length:
            return True
        if is_embedded(self._environ) and not reset(self._environ):
            self._log.client_not_reset()
        return False


def is_daemon(environ: Mapping[str, Any]) -> bool:
    """Whether this is mod_wsgi's daemon mode: another process holds the client's connection."""
    return bool(environ.get("mod_wsgi.process_group"))


def is_embedded(environ: Mapping[str, Any]) -> bool:
    """Whether this is a process of httpd itself, which holds the client's connection."""
    return environ.get("mod_wsgi.process_group") == ""


def discard_request_body(environ: Mapping[str, Any]) -> None:
    """Read the request's body and discard it, so that the next request begins after it.

    The client may wait for "100 Continue" before it sends the body
    (https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1). mod_wsgi does not wait for that body when it sends a
    response, and would take the next request for it. Where usp_s3_module is loaded, it has read the body already.

    Raises:
        BadRequestBody: it is malformed or incomplete.
    """
    if environ.get("CONTENT_LENGTH", "0") in {"", "0"} and "HTTP_TRANSFER_ENCODING" not in environ:
        return
    try:
        while environ["wsgi.input"].read(_READ_SIZE):
            pass
    except OSError:
        raise BadRequestBody("the request's body cannot be read") from None


def reset(environ: Mapping[str, Any]) -> bool:
    """Reset the client's connection, whose socket this process holds in embedded mode; return whether it was found."""
    if not is_embedded(environ):
        return False
    with _search_lock:
        matching = {fd: address for fd in _open_fds() if (address := _client_address(fd, environ))}
        if len(matching) > 1:  # clients with different addresses may have the same port
            matching = {fd: address for fd, address in matching.items() if address == environ.get("REMOTE_ADDR")}
        if len(matching) != 1:
            return False
        with _duplicate(*matching) as connection:
            # RST and not FIN: without Content-Length and chunks (HTTP/1.0, downgrade-1.0, a filter of httpd that
            # removed the length) a client takes FIN for the end of the body.
            if not _reset_socket(connection):
                with suppress(OSError):  # it has ended already
                    connection.shutdown(socket.SHUT_RDWR)
    return True


def _reset_socket(connection: socket.socket) -> bool:
    """Reset a TCP connection that another part of this process will close; return whether that was possible.

    On Linux connect(2) with AF_UNSPEC does it, which Python's own connect() cannot express.
    """
    try:
        import ctypes  # not available everywhere, and not imported when a process starts

        connect = ctypes.CDLL(None).connect
    except (ImportError, OSError, AttributeError):
        return False
    unspecified = struct.pack("H14x", socket.AF_UNSPEC)
    return sys.platform == "linux" and bool(connect(connection.fileno(), unspecified, len(unspecified)) == 0)


def _open_fds() -> list[int]:
    directory = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return [int(name) for name in os.listdir(directory)]


def _duplicate(fd: int) -> socket.socket:
    # Only sockets: closing a duplicate of a file would release the locks (fcntl) that this process has on it.
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        raise OSError("not a socket")
    return socket.socket(fileno=os.dup(fd))


def _client_address(fd: int, environ: Mapping[str, Any]) -> str | None:
    """Return the peer's address if the file can be the client's connection: both ports and the local address match."""
    try:
        with _duplicate(fd) as candidate:
            peer, local = candidate.getpeername(), candidate.getsockname()
    except OSError:  # not a socket, not connected, or closed meanwhile by another thread
        return None
    # Not by REMOTE_ADDR: mod_remoteip replaces it with what a proxy in front says.
    if (
        len(peer) >= 2
        and str(peer[1]) == environ.get("REMOTE_PORT")
        and _unmap_ipv4(local[0]) == _unmap_ipv4(environ.get("SERVER_ADDR", ""))
        and str(local[1]) == environ.get("mod_wsgi.listener_port", environ.get("SERVER_PORT"))
    ):
        return _unmap_ipv4(peer[0])
    return None


def _unmap_ipv4(address: str) -> str:
    """Return an IPv4 address as such, also where an IPv6 socket has accepted it."""
    return address.removeprefix("::ffff:")
