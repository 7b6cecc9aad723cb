"""Hostile clients: each sends raw bytes to a real httpd, for the gateway and for mod_proxy."""

from __future__ import annotations

import os
import random
import re
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.httpd import hostile
from tests.httpd.conftest import BUCKET
from tests.httpd.hostile import KEYS, OTHER, PREFIX, PREFIXED, WHOLE, HostileClient, object_body
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

MOUNTS = [*PREFIXED, *WHOLE]
#: One mount of each kind, for tests in which the directive that forwards to mod_proxy makes no difference.
ONE_MOUNT_OF_EACH_KIND = ["gateway", "pass", *WHOLE]
FILM = random.Random(1).randbytes(2 << 20)
#: Log lines of httpd about such clients, and of mod_wsgi about paths beyond the file system's limit and about chunks.
EXPECTED = "AH10244|AH10508|AH01136|AH01092|AH00898|AH10159|AH00484|WSGI0135|WSGI0138|WSGI0139"


@pytest.fixture(scope="module")
def attacker() -> Iterator[HostileClient]:
    with EmbeddedS3(buckets=(BUCKET, OTHER)) as s3:
        for bucket in (BUCKET, OTHER):
            for key in KEYS:
                s3.put(bucket, key, object_body(bucket, key))
        s3.put(BUCKET, "public/film.mp4", FILM)
        with Httpd(hostile.config(s3)) as server:
            server.expect_error(EXPECTED)
            yield HostileClient(server, s3)
        assert "\n".join(server.unexpected) == ""


@pytest.mark.parametrize("mount", MOUNTS)
def test_harmless_requests_are_served(attacker: HostileClient, mount: str) -> None:
    """The requests of which all attacks are variations."""
    attacker.assert_served(mount)
    for key in (key for key in KEYS if key.startswith(PREFIX[mount])):
        tail = key.removeprefix(PREFIX[mount])
        outcome = attacker.attack(f"/{mount}/{tail}".encode())
        assert (outcome.status, outcome.body) == (200, object_body(BUCKET, key))


# --- paths


@pytest.mark.parametrize("kind", hostile.PATHS)
@pytest.mark.parametrize("mount", PREFIXED)
def test_paths(attacker: HostileClient, mount: str, kind: str) -> None:
    for tail in hostile.PATHS[kind]:
        outcome = attacker.attack(f"/{mount}/".encode() + tail)
        assert outcome.status in {400, 403, 404, 414}, (tail, outcome.response)
        assert outcome.objects == set()
    attacker.assert_served(mount)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_line_break_in_the_path(attacker: HostileClient, mount: str) -> None:
    """It ends the request, one of HTTP/0.9, whose response is the object without a header. The rest is discarded."""
    target = f"/{mount}/a.ts".encode()
    for rest in (b"X: y", b"\r\nGET /%s/b/c.ts" % mount.encode()):
        outcome = attacker.send(b"GET " + target + b"\r\n" + rest + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        attacker.assert_only_target_reached(outcome, target)
        assert outcome.response == object_body(BUCKET, PREFIX[mount] + "a.ts")


def test_a_rule_without_a_slash_after_the_prefix(attacker: HostileClient) -> None:
    """The client cannot append to the last segment of the prefix."""
    assert attacker.send(b"GET /near/a.ts HTTP/1.0\r\n\r\n").body == object_body(BUCKET, "public/a.ts")
    for tail in (b"ity.ts", b"ity.ts?x", b"%69ty.ts", b"", b"%2e%2e/secret.ts", b"/../secret.ts", b"@evil/a.ts"):
        outcome = attacker.attack(b"/near" + tail)
        assert outcome.status in {400, 404, 500} and outcome.s3_requests == []
    attacker.httpd.wait_for_error(
        "usp_s3_wsgi: the URL of the proxied request is not below that of the section's bucket"
    )


SEGMENTS = st.tuples(st.sampled_from(hostile.PIECES), st.sampled_from(hostile.SLASHES)).map(b"".join)
TAILS = st.tuples(st.sampled_from(hostile.FIRST_SLASHES), st.lists(SEGMENTS, max_size=6).map(b"".join)).map(b"".join)


@pytest.mark.parametrize("mount", [*PREFIXED, "whole-gateway"])
@hypothesis_settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(TAILS)
def test_random_paths(attacker: HostileClient, mount: str, tail: bytes) -> None:
    outcome = attacker.attack(f"/{mount}".encode() + tail)
    assert outcome.status in {200, 400, 403, 404}, (tail, outcome.response)


# --- targets and hosts


@pytest.mark.parametrize("mount", MOUNTS)
def test_targets_in_absolute_form(attacker: HostileClient, mount: str) -> None:
    """They do not choose another server or another bucket."""
    s3, path = attacker.s3.host.encode(), f"/{mount}/a.ts".encode()
    for origin in (*b"http://evil.example https://evil.example HTTP://X http://x:1 http://".split(), b"http://" + s3):
        outcome = attacker.attack(origin + path)
        assert (outcome.status, outcome.body) == (200, object_body(BUCKET, PREFIX[mount] + "a.ts"))
    for target in (
        b"http://%s/private/secret.ts" % s3, b"http://%s/other/secret.ts" % s3, b"http://u:p@" + s3 + path, b"*",
        b"a.ts", b"//" + s3 + path, b"ftp://x" + path, b"file://" + path, b"http://x" + path + b"/../../secret.ts",
        b"http://x/%2e" + path,
    ):  # fmt: skip
        outcome = attacker.attack(target)
        assert outcome.status in {400, 403, 404} and outcome.s3_requests == [], target


@pytest.mark.parametrize("mount", MOUNTS)
def test_hosts(attacker: HostileClient, mount: str) -> None:
    """S3 gets the bucket's host, also with ProxyPreserveHost: assert_own_request checks it."""
    target, expected = f"/{mount}/a.ts".encode(), object_body(BUCKET, PREFIX[mount] + "a.ts")
    s3 = attacker.s3.host.encode()
    for host in (s3, b"other.s3.localhost", b"x:8080", b"[::1]", b"169.254.169.254", b"x" * 300):
        outcome = attacker.attack(target, host=b"Host: " + host)
        assert (outcome.status, outcome.body) == (200, expected)
    for line in (b"Host: evil@x", b"Host: a\r\nHost: " + s3, b"Host: x/y", b"Host:", b"X: y", b"Host: a b", b"Host : x",
                 b"Host: x\r\n Host: y", b"Host: x:99999", b"Host: \xff", b"Host: x?", b"Host: x\0"):  # fmt: skip
        outcome = attacker.attack(target, host=line)
        assert outcome.status == 400 and outcome.s3_requests == [], line
    for head in (b"HTTP/1.0\r\n", b"HTTP/1.0\r\nHost: \r\n", b"HTTP/1.0\r\nHost: %s\r\n" % s3):
        outcome = attacker.send(b"GET " + target + b" " + head + b"\r\n")
        attacker.assert_only_target_reached(outcome, target)
        assert outcome.body == expected


# --- headers and methods


@pytest.mark.parametrize("mount", ONE_MOUNT_OF_EACH_KIND)
def test_headers(attacker: HostileClient, mount: str) -> None:
    for header in hostile.HEADERS:
        assert not {"range", "te", "via", "cookie"} & set(
            attacker.assert_served(mount, header).s3_requests[0]["headers"]
        )
    for header in hostile.BROKEN_HEADERS:
        outcome = attacker.attack(f"/{mount}/a.ts".encode(), header)
        assert outcome.status in {400, 417} and outcome.s3_requests == [], header
    # Max-Forwards is for proxies: mod_proxy heeds it, the gateway is the origin server for the client.
    assert attacker.attack(f"/{mount}/a.ts".encode(), b"Max-Forwards: 0").status == (200 if "gateway" in mount else 400)
    attacker.assert_served(mount)


@pytest.mark.parametrize("mount", ONE_MOUNT_OF_EACH_KIND)
def test_methods(attacker: HostileClient, mount: str) -> None:
    target = f"/{mount}/a.ts".encode()
    for method in hostile.METHODS:
        for line in (b"X: y", b"Content-Length: 0", b"X-HTTP-Method-Override: GET", b"x-amz-copy-source: /other/a.ts"):
            outcome = attacker.attack(target, line, method=method)
            assert outcome.status == 405 and outcome.s3_requests == [] and outcome.objects == set()
    # httpd answers TRACE itself, if it is enabled, with the client's own request. CONNECT needs another target.
    for method in (b"TRACE", b"CONNECT", b"G\xc9T"):
        for line in (b"X: y", b"Max-Forwards: 0"):
            outcome = attacker.attack(target, line, method=method)
            assert outcome.status in {200, 400, 405} and outcome.s3_requests == [] and outcome.objects == set()
    connect = attacker.send(b"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n" % attacker.s3.host.encode())
    assert connect.status == 405 and connect.s3_requests == []
    head = attacker.attack(target, b"Range: bytes=0-3", method=b"HEAD")
    assert (head.status, head.body, [entry["method"] for entry in head.s3_requests]) == (200, b"", ["HEAD"])
    assert "range" not in head.s3_requests[0]["headers"]
    attacker.assert_served(mount)


@pytest.mark.parametrize("mount", ONE_MOUNT_OF_EACH_KIND)
def test_a_request_in_a_body(attacker: HostileClient, mount: str) -> None:
    """Neither httpd nor S3 treats it as a request."""
    target = f"/{mount}/a.ts".encode()
    inner = b"GET /%s/b/c.ts HTTP/1.1\r\nHost: x\r\n\r\n" % mount.encode()
    for_s3 = b"GET /%s/secret.ts HTTP/1.1\r\nHost: %s\r\n\r\n" % (BUCKET.encode(), attacker.s3.host.encode())
    chunked = b"%x\r\n%s\r\n0\r\n\r\n"
    for smuggled in (inner, for_s3):
        for framing in hostile.FRAMINGS:
            body = chunked % (len(smuggled), smuggled) if b"chunked" in framing else smuggled
            head = b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % (target, framing.replace(b"%d", b"%d" % len(body)))
            outcome = attacker.send(head + body)
            attacker.assert_only_target_reached(outcome, target)
            assert set(outcome.statuses) <= {100, 200, 400, 411, 413, 417, 501}, (framing, outcome.response)
    # After a request without a body it is a request of its own, which is harmless.
    pipelined = attacker.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target + inner.replace(b"b/c.ts", b"a.ts"))
    assert (pipelined.statuses, len(pipelined.s3_requests)) == ([200, 200], 2)


# --- ranges


def check_part(response: bytes, body: bytes, whole: bytes) -> None:
    """Assert that each part has the bytes that its Content-Range states."""
    parts = [(response.partition(b"\r\n\r\n")[0], body)]
    if boundary := re.search(rb"boundary=(\S+)", parts[0][0]):
        pieces = body.split(b"--" + boundary[1].strip(b'"'))[1:-1]
        split = [piece.removesuffix(b"\r\n").partition(b"\r\n\r\n") for piece in pieces]
        parts = [(head, data) for head, _, data in split]
    assert parts
    for head, data in parts:
        content_range = re.search(rb"Content-Range: bytes (\d+)-(\d+)/(\d+)", head, re.IGNORECASE)
        assert content_range and int(content_range[3]) == len(whole)
        assert data == whole[int(content_range[1]) : int(content_range[2]) + 1]


@pytest.mark.parametrize("mount", ONE_MOUNT_OF_EACH_KIND)
def test_ranges(attacker: HostileClient, mount: str) -> None:
    whole = object_body(BUCKET, PREFIX[mount] + "a.ts")
    target = f"/{mount}/a.ts".encode()
    for value in hostile.RANGES:
        outcome = attacker.attack(target, b"Range: " + value)
        assert outcome.status in {200, 206, 412, 416}, (value, outcome.response)
        if outcome.status == 200:
            assert outcome.body == whole
        if outcome.status == 206:
            check_part(outcome.response, outcome.body, whole)
    assert attacker.attack(target, b"Range: bytes=1-4").body == whole[1:5]
    attacker.assert_served(mount)


# --- queries


@pytest.mark.parametrize("mount", MOUNTS)
def test_queries(attacker: HostileClient, mount: str) -> None:
    """The object is served, whatever the query is; nothing about the bucket is returned."""
    path, expected = f"/{mount}/".encode(), object_body(BUCKET, PREFIX[mount] + "a.ts")
    for query in hostile.SUBRESOURCES:
        outcome = attacker.attack(path + b"a.ts?" + query)
        assert outcome.body == expected or (b"#" in query and outcome.status == 400), (query, outcome.response)
        for bucket_path in (path[:-1], path, path + b"b/"):
            outcome = attacker.attack(bucket_path + b"?" + query)
            assert outcome.status in {400, 404} and outcome.objects == set(), (bucket_path, query, outcome.response)
    attacker.assert_served(mount)


@pytest.mark.parametrize("mount", WHOLE)
def test_a_forwarded_query_parameter(attacker: HostileClient, mount: str) -> None:
    """It is one value for S3 and one header for the client, whatever it contains."""
    path, name = f"/{mount}/a.ts?".encode(), hostile.PASSED_PARAMETER.encode()
    outcome = attacker.attack(path + name + b"=text/plain")
    assert b"\r\nContent-Type: text/plain\r\n" in outcome.response
    for value in (*hostile.PARAMETERS, b"x" * 7000):
        outcome = attacker.attack(path + name + b"=" + value)
        assert outcome.status in {200, 400}, (value, outcome.response)
        assert not re.search(rb"^X:", outcome.response, re.MULTILINE)
        assert outcome.status == 400 or outcome.body == object_body(BUCKET, "a.ts")
    attacker.assert_served(mount)


# --- slow clients, and clients that disconnect


def disconnect(client: socket.socket, *, reset: bool) -> None:
    if reset:  # a reset instead of an orderly close
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def slow_client(attacker: HostileClient, mount: str) -> socket.socket:
    """A client with a tiny receive buffer, which has requested a large object."""
    client = socket.socket()
    client.settimeout(60)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", attacker.httpd.port))
    client.sendall(f"GET /{mount}/film.mp4 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def two_hundred_slow_clients(attacker: HostileClient) -> None:
    chance = random.Random(3)
    clients = [slow_client(attacker, PREFIXED[number % len(PREFIXED)]) for number in range(200)]
    for _ in range(4):
        for client in clients:
            assert client.recv(chance.randrange(1, 3000))
        assert resources(attacker)[0] > len(clients)
        for mount in PREFIXED:  # other clients are served meanwhile
            reply = attacker.httpd.fetch(f"/{mount}/a.ts")
            assert (reply.status, reply.body) == (200, object_body(BUCKET, "public/a.ts"))
        chance.shuffle(clients)
        for client in clients[:50]:
            disconnect(client, reset=chance.random() < 0.5)
        del clients[:50]


def resources(attacker: HostileClient, child: int | None = None) -> tuple[int, int]:
    """The open files of a child of httpd, and its resident memory in bytes; by default of the only child."""
    if child is None:
        (child,) = attacker.httpd.children()
    status = Path(f"/proc/{child}/status").read_text()
    return len(os.listdir(f"/proc/{child}/fd")), int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.unsanitized
def test_slow_readers(attacker: HostileClient) -> None:
    """Each needs a thread while it is connected. Afterwards only idle connections to S3 are left."""
    files, memory = resources(attacker)[0] + 200, 0
    for round_ in range(5):  # a thousand in all
        two_hundred_slow_clients(attacker)
        deadline = time.monotonic() + 20
        while resources(attacker)[0] > files + 40 and time.monotonic() < deadline:
            time.sleep(0.05)
        now = resources(attacker)
        assert now[0] <= files + 40
        assert round_ == 0 or now[1] < memory + (64 << 20)
        files, memory = now
    for mount in MOUNTS:
        attacker.assert_served(mount)


#: Open files that the tests' own process needs for the sockets of clients and of S3.
_ENOUGH_FILES = 4096


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < _ENOUGH_FILES:
        pytest.skip(f"no process may open {_ENOUGH_FILES} files here (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _ENOUGH_FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.unsanitized
def test_a_thousand_slow_readers_at_once(many_files: None) -> None:
    """Each has a thread. The next client is served as well, and when they have disconnected nothing is left."""
    threads = """
StartServers 2
ServerLimit 2
ThreadLimit 520
ThreadsPerChild 520
MaxRequestWorkers 1040
MinSpareThreads 1
MaxSpareThreads 1040
KeepAliveTimeout 300
"""
    with EmbeddedS3(buckets=(BUCKET, OTHER)) as s3:
        for key in KEYS:
            s3.put(BUCKET, key, object_body(BUCKET, key))
        s3.put(BUCKET, "public/film.mp4", FILM)
        with Httpd(hostile.config(s3) + threads) as server, ExitStack() as stack:
            server.expect_error(EXPECTED)
            attacker = HostileClient(server, s3)
            before = sum(resources(attacker, child)[0] for child in server.children())
            clients: list[socket.socket] = []
            for _ in range(20):  # the embedded S3 answers 503 if all connect at the same moment
                mounts = [PREFIXED[number % len(PREFIXED)] for number in range(50)]
                connected = [stack.enter_context(slow_client(attacker, mount)) for mount in mounts]
                for client in connected:
                    assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
                clients += connected
            for mount in PREFIXED:
                assert server.fetch(f"/{mount}/a.ts").body == object_body(BUCKET, "public/a.ts")
            assert sum(resources(attacker, child)[1] for child in server.children()) < 1 << 30
            for client in clients:
                disconnect(client, reset=True)
            deadline = time.monotonic() + 20
            while (left := sum(resources(attacker, child)[0] for child in server.children())) > before + 100:
                assert time.monotonic() < deadline, left
                time.sleep(0.1)
        assert "\n".join(server.unexpected) == ""


@pytest.mark.parametrize("mount", PREFIXED)
def test_clients_that_disconnect(attacker: HostileClient, mount: str) -> None:
    """In the middle of the request nothing was sent to S3; the response has only bytes of the object."""
    chance = random.Random(mount)
    request = f"GET /{mount}/film.mp4 HTTP/1.1\r\nHost: x\r\nRange: bytes=5-\r\nX: y\r\n\r\n".encode()
    for _ in range(20):
        part = request[: chance.randrange(1, len(request) - 4)]
        outcome = attacker.send(part)
        assert outcome.s3_requests == [] and outcome.objects == set(), (part, outcome.response)
        client = socket.create_connection(("127.0.0.1", attacker.httpd.port), timeout=20)
        client.sendall(part)
        disconnect(client, reset=True)
    for _ in range(20):
        client = socket.create_connection(("127.0.0.1", attacker.httpd.port), timeout=20)
        client.sendall(request)
        response = client.recv(4096)
        for _ in range(chance.randrange(30)):
            response += client.recv(4096)
        disconnect(client, reset=chance.random() < 0.5)
        head, _, body = response.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 206 ") and FILM[5:].startswith(body)
    attacker.assert_served(mount)
