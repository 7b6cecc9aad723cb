"""S3's faults with a real httpd: the bytes that the client gets, and the error log."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.named import FAULTS, TIMEOUT, WHOLE
from tests.faults.server import ScriptedS3, answer, close, error
from tests.httpd.conftest import ONE_CHILD
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.httpd.test_truncation import TRACEBACK
from tests.leaks import SECRET_KEY

#: The port on which each test starts its own S3.
PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"
KEYS = f"""
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region eu-central-1
  SetEnv S3UseHeaders on
"""
#: An address for each fault: endpoint state and rate limit of the log are kept for each host.
HOSTS = {name: f"127.0.1.{number}" for number, name in enumerate(FAULTS, 1)}


def section(mount: str, host: str) -> str:
    return f"""
WSGIScriptAlias {mount} ${{USP_S3_WSGI}}
<Location {mount}>
  SetEnv S3BucketURL http://{host}:{PORT}/bucket/{KEYS}
  SetEnv S3ProxySet "{TIMEOUT} retry=0"
</Location>
"""


SECTIONS = [section("/media", "127.0.0.1"), *(section(f"/of-{host}", host) for host in HOSTS.values())]
CONFIG = (
    "\n".join(SECTIONS)
    + f"""
WSGIScriptAlias /limited ${{USP_S3_WSGI}}
<Location /limited>
  SetEnv S3BucketURL {URL}/limited/{KEYS}
  SetEnv S3ProxySet "max=1 acquire=100"
</Location>
# Longer than any wait below: a client that only httpd's timeout frees would fail the test.
KeepAliveTimeout 300
# A retry is logged at level info.
LogLevel warn usp_s3:info
"""
)


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    with Httpd(CONFIG + ONE_CHILD) as server:
        server.expect_error(TRACEBACK)
        yield server
    assert "\n".join(server.unexpected) == ""


def converse(httpd: Httpd, request: bytes) -> bytes:
    """Send bytes to httpd and return all that it sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
        client.sendall(request)
        answers = b""
        try:
            while data := client.recv(1 << 20):
                answers += data
        except ConnectionResetError:
            pass
        return answers


def decode_chunked(body: bytes) -> tuple[bytes, bool]:
    """Decode a chunked body; return its bytes, and whether the last chunk was received."""
    data = b""
    while match := re.match(rb"([0-9a-fA-F]+)\r\n", body):
        size = int(match[1], 16)
        if not size:
            return data, True
        data += body[match.end() : match.end() + size]
        body = body[match.end() + size + 2 :]
    return data, False


@pytest.mark.parametrize("name", FAULTS)
def test_fault(httpd: Httpd, name: str) -> None:
    fault = FAULTS[name]
    extra = "".join(f"{header}: {value}\r\n" for header, value in fault.asks.items())
    before = len(httpd.errors())
    with ScriptedS3(*fault.script, host=HOSTS[name], port=PORT):
        request = f"GET /of-{HOSTS[name]}/film.mp4 HTTP/1.1\r\nHost: x\r\n{extra}Connection: close\r\n\r\n"
        answers = converse(httpd, request.encode())
    head, _, body = answers.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == fault.status
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if fields.get(b"Transfer-Encoding") == b"chunked":
        body, whole = decode_chunked(body)
    else:
        whole = len(body) == int(fields[b"Content-Length"])
    assert (body, whole) == (fault.body, fault.whole)
    lines = [line for line in httpd.errors()[before:] if "usp_s3_wsgi: " in line]
    httpd.expect_error("usp_s3_wsgi: /(media|of-[0-9.]+): ")
    assert len(lines) == len(fault.log), "\n".join(lines)
    for line, pattern in zip(lines, fault.log, strict=True):
        assert re.search(pattern, line), line


def test_nothing_follows_a_truncated_body(httpd: Httpd) -> None:
    """Two requests are sent at once: the second response must not look like the rest of the first body."""
    fault = FAULTS["412: changed meanwhile"]
    with ScriptedS3(*fault.script, port=PORT, then=answer(200, b"the next answer")):
        answers = converse(httpd, b"GET /media/film.mp4 HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    assert b"the next answer" not in answers


def test_a_host_that_is_down_does_not_flood_the_log(httpd: Httpd) -> None:
    """At most ten lines of a level are written for the same cause in ten seconds, whatever the number of clients."""
    before = len(httpd.errors())
    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(lambda _: httpd.fetch("/media/film.mp4").status, range(80)))
    assert statuses == {502}
    lines = [line for line in httpd.errors()[before:] if "Connection refused" in line]
    # The requests may fall into two of the limiter's windows. "warn": the line about frequent retries, once a minute.
    levels = Counter(re.findall(r"\[usp_s3:(\w+)\] USPS3", "\n".join(lines)))
    assert levels.total() == len(lines)
    assert 1 <= levels["error"] <= 20 and levels["info"] <= 20 and levels["warn"] <= 2


def test_an_exhausted_connection_pool(httpd: Httpd) -> None:
    httpd.expect_error("usp_s3_wsgi: /limited: the connection pool is exhausted: no connection within 0.1 s")
    with ScriptedS3(then=lambda connection, request: connection.wait(), port=PORT) as s3:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(httpd.fetch, "/limited/film.mp4")
            while not s3.requests:
                pass
            second = httpd.fetch("/limited/film.mp4")
            s3.connections[0].send(WHOLE)
            assert first.result().status == 200
        s3.release()
    assert (second.status, second.headers["Retry-After"]) == (503, "1")


def test_a_short_retry_after_is_waited_for(httpd: Httpd) -> None:
    """A Retry-After longer than ``timeout`` (250 ms here) is returned to the client, without a retry."""
    with ScriptedS3(error(503, "SlowDown", ("Retry-After", "5")), port=PORT) as s3:
        reply = httpd.fetch("/media/film.mp4")
        assert len(s3.requests) == 1
    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    with ScriptedS3(error(503, "SlowDown", ("Retry-After", "0")), WHOLE, port=PORT):
        assert httpd.fetch("/media/film.mp4").status == 200


def test_a_client_that_disconnects_during_a_retry(httpd: Httpd) -> None:
    with ScriptedS3(close, close, close, then=WHOLE, port=PORT):
        with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
            client.sendall(b"GET /media/film.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert httpd.fetch("/media/film.mp4").status in {200, 502}
        assert httpd.running
