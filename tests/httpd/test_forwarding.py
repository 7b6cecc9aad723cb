"""Large bodies, many requests, clients that disconnect: with a real httpd, and connections counted at the S3 server."""

from __future__ import annotations

import hashlib
import http.client
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.httpd.conftest import BUCKET, ONE_CHILD, section
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

MIB = 1 << 20
LARGE, HUGE = 256 * MIB, 1024 * MIB
BLOCK = random.Random(1).randbytes(MIB)


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3, s3_tls: EmbeddedS3, certificate: Certificate) -> Iterator[Httpd]:
    s3.put(BUCKET, "small.ts", BLOCK[:1000])
    trust = f"SetEnv S3CAFile {certificate.root}"
    config = section("/media", s3, mode="v4-query") + section("/tls", s3_tls, trust) + ONE_CHILD
    with Httpd(config) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


def blocks(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield number.to_bytes(8, "big") + BLOCK[8:]


def peak_memory(pid: int) -> int:
    """The peak resident memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.unsanitized
@pytest.mark.parametrize("mount", ["/media", "/tls"])
def test_256_mb_are_forwarded_unchanged_in_constant_memory(
    httpd: Httpd, s3: EmbeddedS3, s3_tls: EmbeddedS3, mount: str
) -> None:
    server = s3_tls if mount == "/tls" else s3
    expected = hashlib.sha256()
    for block in blocks(LARGE // MIB):
        expected.update(block)
    server.put(BUCKET, "large.mp4", blocks(LARGE // MIB), length=LARGE)
    (child,) = httpd.children()
    before = peak_memory(child)
    received = hashlib.sha256()
    connection = http.client.HTTPConnection("127.0.0.1", httpd.port, timeout=60)
    connection.request("GET", f"{mount}/large.mp4")
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Length"]) == (200, str(LARGE))
    while data := response.read(MIB):
        received.update(data)
    connection.close()
    assert received.hexdigest() == expected.hexdigest()
    # Far less than the object: a few reads of 1 MiB. (The first requests also import Python modules.)
    assert peak_memory(child) - before < 40 * MIB
    server.delete(BUCKET, "large.mp4")


def test_random_ranges_of_a_large_object(httpd: Httpd, s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "ranges.mp4", blocks(16), length=16 * MIB)
    whole = b"".join(blocks(16))
    random_source = random.Random(2)
    for _ in range(40):
        start = random_source.randrange(len(whole))
        end = min(len(whole) - 1, start + random_source.randrange(1, 2 * MIB))
        reply = httpd.fetch("/media/ranges.mp4", range=f"bytes={start}-{end}")
        assert reply.status == 206
        assert reply.headers["Content-Range"] == f"bytes {start}-{end}/{len(whole)}"
        assert hashlib.sha256(reply.body).digest() == hashlib.sha256(whole[start : end + 1]).digest()


def test_1000_requests_use_no_more_connections_than_the_concurrency(httpd: Httpd, s3: EmbeddedS3) -> None:
    s3.clear()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: httpd.fetch("/media/small.ts").status, range(1000)))
    assert statuses == [200] * 1000
    s3_requests = s3.requests()
    assert len(s3_requests) == 1000
    assert len({entry["port"] for entry in s3_requests}) <= 8


def test_head_and_errors_reuse_the_connection(httpd: Httpd, s3: EmbeddedS3) -> None:
    s3.clear()
    for target, method in (("small.ts", "HEAD"), ("missing", "GET"), ("missing", "HEAD"), ("small.ts", "GET")):
        httpd.fetch(f"/media/{target}", method=method)
    httpd.fetch("/media/small.ts", range="bytes=5000-")
    httpd.fetch("/media/small.ts", if_modified_since="Fri, 01 Jan 2038 00:00:00 GMT")
    assert len({entry["port"] for entry in s3.requests()}) == 1


def test_after_a_client_disconnects_the_rest_is_not_read(httpd: Httpd, s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "huge.mp4", blocks(HUGE // MIB), length=HUGE)
    before = connections_to(s3.port)
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=30) as client:
        client.sendall(b"GET /media/huge.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
        received = 0
        while received < 5 * MIB:
            received += len(client.recv(MIB))
    # The connection with unread bytes must be closed: else all of them would have to be read.
    deadline = time.monotonic() + 20
    while connections_to(s3.port) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert connections_to(s3.port) <= before
    reply = httpd.fetch("/media/small.ts")
    assert (reply.status, reply.body) == (200, BLOCK[:1000])
    s3.delete(BUCKET, "huge.mp4")


def connections_to(port: int) -> set[str]:
    """The local ends of the established connections to a port of 127.0.0.1, from the kernel's table."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {line[1] for line in lines if line[2].endswith(f":{port:04X}") and line[3] == "01"}
