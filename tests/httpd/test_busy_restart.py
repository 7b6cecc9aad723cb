"""A graceful restart while slow clients keep nearly all threads, with the limits of apache/include/mpm_event.conf."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from tests.faults.server import ScriptedS3, answer
from tests.httpd.processes import mpm_lines
from tests.httpd.server import Httpd

CHILDREN, THREADS = 4, 4
#: So many that each child process has one of them.
SLOW_CLIENTS = CHILDREN * THREADS - 2
#: More than the buffers of the sockets between S3 and a client hold, which are small here.
LARGE = 8 * 1024**2
SMALL_BUFFERS = "SendBufferSize 65536\nReceiveBufferSize 65536\n"


def slow_client(httpd: Httpd) -> socket.socket:
    """A client that reads the first byte of a response, and no more."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    connection.settimeout(30)
    connection.connect((httpd.address, httpd.port))
    connection.sendall(b"GET /media/film.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(1) == b"H"
    return connection


@pytest.mark.parametrize("way", ["gateway", "proxy"])
def test_new_clients_are_served_while_old_ones_still_download(way: str) -> None:
    with ScriptedS3(then=answer(200, bytes(LARGE))) as s3, ExitStack() as stack:
        settings = "SetEnv S3AccessKey AKIDEXAMPLE\nSetEnv S3SecretKey example\nSetEnv S3Region us-east-1\n"
        if way == "gateway":
            bucket = f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\n{settings}"
            bucket += f"SetEnv S3BucketURL {s3.url}/private/\n</Location>\n"
        else:
            bucket = f'ProxyPass /media {s3.url}/private\n<Proxy "{s3.url}/private/">\n{settings}</Proxy>\n'
        httpd = Httpd(mpm_lines(CHILDREN, THREADS, CHILDREN) + SMALL_BUFFERS + bucket)
        stack.enter_context(httpd)
        (httpd.root / "htdocs" / "page").write_text("a page")
        slow = [stack.enter_context(slow_client(httpd)) for _ in range(SLOW_CLIENTS)]
        httpd.begin_reload()
        assert httpd.fetch("/page", timeout=15).body == b"a page"
        # The old processes still serve the others, and cut nobody off.
        for connection in slow:
            received = 1
            while received < LARGE:
                received += len(piece := connection.recv(1_048_576))
                assert piece
    assert httpd.unexpected == []
