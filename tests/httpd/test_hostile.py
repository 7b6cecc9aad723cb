"""Clients that mean harm: each sends raw bytes through a real httpd, to the gateway and to mod_proxy alike."""

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
from tests.httpd.hostile import KEYS, OTHER, PREFIX, PREFIXED, WHOLE, Scene, body_of
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

MOUNTS = [*PREFIXED, *WHOLE]
#: One of each kind, where the way to mod_proxy makes no difference.
BOTH = ["gateway", "pass", *WHOLE]
FILM = random.Random(1).randbytes(2 << 20)
#: What httpd says of such clients; mod_wsgi of a path beyond the file system's limit, and of chunks.
EXPECTED = "AH10244|AH10508|AH01136|AH01092|AH00898|AH10159|AH00484|WSGI0135|WSGI0138|WSGI0139"


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with EmbeddedS3(buckets=(BUCKET, OTHER)) as s3:
        for bucket in (BUCKET, OTHER):
            for key in KEYS:
                s3.put(bucket, key, body_of(bucket, key))
        s3.put(BUCKET, "public/film.mp4", FILM)
        with Httpd(hostile.config(s3)) as server:
            server.expect_error(EXPECTED)
            yield Scene(server, s3)
        assert "\n".join(server.unexpected) == ""


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_harmless_twin(scene: Scene, mount: str) -> None:
    """What all the attacks are variations of."""
    scene.served(mount)
    for key in (key for key in KEYS if key.startswith(PREFIX[mount])):
        tail = key.removeprefix(PREFIX[mount])
        outcome = scene.attack(f"/{mount}/{tail}".encode())
        assert (outcome.status, outcome.body) == (200, body_of(BUCKET, key))


# --- paths


@pytest.mark.parametrize("kind", hostile.PATHS)
@pytest.mark.parametrize("mount", PREFIXED)
def test_paths(scene: Scene, mount: str, kind: str) -> None:
    for tail in hostile.PATHS[kind]:
        outcome = scene.attack(f"/{mount}/".encode() + tail)
        assert outcome.status in {400, 403, 404, 414}, (tail, outcome.answer)
        assert outcome.objects == set()
    scene.served(mount)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_line_break_in_the_path(scene: Scene, mount: str) -> None:
    """It ends the request: one of HTTP/0.9, whose answer is the object without a header. The rest is nobody's."""
    target = f"/{mount}/a.ts".encode()
    for rest in (b"X: y", b"\r\nGET /%s/b/c.ts" % mount.encode()):
        outcome = scene.raw(b"GET " + target + b"\r\n" + rest + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        scene.judge(outcome, target)
        assert outcome.answer == body_of(BUCKET, PREFIX[mount] + "a.ts")


def test_a_rule_that_forgets_the_slash(scene: Scene) -> None:
    """The client may not go on from the last letter of the prefix."""
    assert scene.raw(b"GET /near/a.ts HTTP/1.0\r\n\r\n").body == body_of(BUCKET, "public/a.ts")
    for tail in (b"ity.ts", b"ity.ts?x", b"%69ty.ts", b"", b"%2e%2e/secret.ts", b"/../secret.ts", b"@evil/a.ts"):
        outcome = scene.attack(b"/near" + tail)
        assert outcome.status in {400, 404, 500} and outcome.seen == []
    scene.httpd.wait_for_error("usp_s3_wsgi: the URL of the proxied request is not below that of the section's bucket")


SEGMENTS = st.tuples(st.sampled_from(hostile.PIECES), st.sampled_from(hostile.SLASHES)).map(b"".join)
TAILS = st.tuples(st.sampled_from(hostile.FIRST_SLASHES), st.lists(SEGMENTS, max_size=6).map(b"".join)).map(b"".join)


@pytest.mark.parametrize("mount", [*PREFIXED, "whole-gateway"])
@hypothesis_settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(TAILS)
def test_paths_of_all_pieces(scene: Scene, mount: str, tail: bytes) -> None:
    outcome = scene.attack(f"/{mount}".encode() + tail)
    assert outcome.status in {200, 400, 403, 404}, (tail, outcome.answer)


# --- targets and hosts


@pytest.mark.parametrize("mount", MOUNTS)
def test_targets_in_absolute_form(scene: Scene, mount: str) -> None:
    """They choose no other server, and no other bucket."""
    s3, path = scene.s3.host.encode(), f"/{mount}/a.ts".encode()
    for origin in (*b"http://evil.example https://evil.example HTTP://X http://x:1 http://".split(), b"http://" + s3):
        outcome = scene.attack(origin + path)
        assert (outcome.status, outcome.body) == (200, body_of(BUCKET, PREFIX[mount] + "a.ts"))
    for target in (
        b"http://%s/private/secret.ts" % s3, b"http://%s/other/secret.ts" % s3, b"http://u:p@" + s3 + path, b"*",
        b"a.ts", b"//" + s3 + path, b"ftp://x" + path, b"file://" + path, b"http://x" + path + b"/../../secret.ts",
        b"http://x/%2e" + path,
    ):  # fmt: skip
        outcome = scene.attack(target)
        assert outcome.status in {400, 403, 404} and outcome.seen == [], target


@pytest.mark.parametrize("mount", MOUNTS)
def test_hosts(scene: Scene, mount: str) -> None:
    """With ProxyPreserveHost, too, S3 hears the bucket's own: the judge sees to that."""
    target, wanted = f"/{mount}/a.ts".encode(), body_of(BUCKET, PREFIX[mount] + "a.ts")
    s3 = scene.s3.host.encode()
    for host in (s3, b"other.s3.localhost", b"x:8080", b"[::1]", b"169.254.169.254", b"x" * 300):
        outcome = scene.attack(target, host=b"Host: " + host)
        assert (outcome.status, outcome.body) == (200, wanted)
    for line in (b"Host: evil@x", b"Host: a\r\nHost: " + s3, b"Host: x/y", b"Host:", b"X: y", b"Host: a b", b"Host : x",
                 b"Host: x\r\n Host: y", b"Host: x:99999", b"Host: \xff", b"Host: x?", b"Host: x\0"):  # fmt: skip
        outcome = scene.attack(target, host=line)
        assert outcome.status == 400 and outcome.seen == [], line
    for head in (b"HTTP/1.0\r\n", b"HTTP/1.0\r\nHost: \r\n", b"HTTP/1.0\r\nHost: %s\r\n" % s3):
        outcome = scene.raw(b"GET " + target + b" " + head + b"\r\n")
        scene.judge(outcome, target)
        assert outcome.body == wanted


# --- headers and methods


@pytest.mark.parametrize("mount", BOTH)
def test_headers(scene: Scene, mount: str) -> None:
    for header in hostile.HEADERS:
        assert not {"range", "te", "via", "cookie"} & set(scene.served(mount, header).seen[0]["headers"])
    for header in hostile.BROKEN_HEADERS:
        outcome = scene.attack(f"/{mount}/a.ts".encode(), header)
        assert outcome.status in {400, 417} and outcome.seen == [], header
    # mod_proxy is one that forwards, the gateway the end of the way.
    assert scene.attack(f"/{mount}/a.ts".encode(), b"Max-Forwards: 0").status == (200 if "gateway" in mount else 400)
    scene.served(mount)


@pytest.mark.parametrize("mount", BOTH)
def test_methods(scene: Scene, mount: str) -> None:
    target = f"/{mount}/a.ts".encode()
    for method in hostile.METHODS:
        for line in (b"X: y", b"Content-Length: 0", b"X-HTTP-Method-Override: GET", b"x-amz-copy-source: /other/a.ts"):
            outcome = scene.attack(target, line, method=method)
            assert outcome.status == 405 and outcome.seen == [] and outcome.objects == set()
    # Where TRACE is on, httpd itself answers with the client's own words. CONNECT wants another target.
    for method in (b"TRACE", b"CONNECT", b"G\xc9T"):
        for line in (b"X: y", b"Max-Forwards: 0"):
            outcome = scene.attack(target, line, method=method)
            assert outcome.status in {200, 400, 405} and outcome.seen == [] and outcome.objects == set()
    connect = scene.raw(b"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n" % scene.s3.host.encode())
    assert connect.status == 405 and connect.seen == []
    head = scene.attack(target, b"Range: bytes=0-3", method=b"HEAD")
    assert (head.status, head.body, [entry["method"] for entry in head.seen]) == (200, b"", ["HEAD"])
    assert "range" not in head.seen[0]["headers"]
    scene.served(mount)


@pytest.mark.parametrize("mount", BOTH)
def test_a_request_in_a_body(scene: Scene, mount: str) -> None:
    """Neither httpd nor S3 takes it for one of its own."""
    target = f"/{mount}/a.ts".encode()
    inner = b"GET /%s/b/c.ts HTTP/1.1\r\nHost: x\r\n\r\n" % mount.encode()
    for_s3 = b"GET /%s/secret.ts HTTP/1.1\r\nHost: %s\r\n\r\n" % (BUCKET.encode(), scene.s3.host.encode())
    chunked = b"%x\r\n%s\r\n0\r\n\r\n"
    for smuggled in (inner, for_s3):
        for framing in hostile.FRAMINGS:
            body = chunked % (len(smuggled), smuggled) if b"chunked" in framing else smuggled
            head = b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % (target, framing.replace(b"%d", b"%d" % len(body)))
            outcome = scene.raw(head + body)
            scene.judge(outcome, target)
            assert set(outcome.statuses) <= {100, 200, 400, 411, 413, 417, 501}, (framing, outcome.answer)
    # Without a body it is a request of its own, and no harm.
    honest = scene.raw(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target + inner.replace(b"b/c.ts", b"a.ts"))
    assert (honest.statuses, len(honest.seen)) == ([200, 200], 2)


# --- ranges


def check_part(answer: bytes, body: bytes, whole: bytes) -> None:
    """A part must be the very bytes that it says it is; so must each of several."""
    parts = [(answer.partition(b"\r\n\r\n")[0], body)]
    if boundary := re.search(rb"boundary=(\S+)", parts[0][0]):
        pieces = body.split(b"--" + boundary[1].strip(b'"'))[1:-1]
        split = [piece.removesuffix(b"\r\n").partition(b"\r\n\r\n") for piece in pieces]
        parts = [(head, data) for head, _, data in split]
    assert parts
    for head, data in parts:
        stated = re.search(rb"Content-Range: bytes (\d+)-(\d+)/(\d+)", head, re.IGNORECASE)
        assert stated and int(stated[3]) == len(whole)
        assert data == whole[int(stated[1]) : int(stated[2]) + 1]


@pytest.mark.parametrize("mount", BOTH)
def test_ranges(scene: Scene, mount: str) -> None:
    whole = body_of(BUCKET, PREFIX[mount] + "a.ts")
    target = f"/{mount}/a.ts".encode()
    for value in hostile.RANGES:
        outcome = scene.attack(target, b"Range: " + value)
        assert outcome.status in {200, 206, 412, 416}, (value, outcome.answer)
        if outcome.status == 200:
            assert outcome.body == whole
        if outcome.status == 206:
            check_part(outcome.answer, outcome.body, whole)
    assert scene.attack(target, b"Range: bytes=1-4").body == whole[1:5]
    scene.served(mount)


# --- queries


@pytest.mark.parametrize("mount", MOUNTS)
def test_queries(scene: Scene, mount: str) -> None:
    """A key's own answer, whatever is asked about it; nothing at all about the bucket."""
    path, wanted = f"/{mount}/".encode(), body_of(BUCKET, PREFIX[mount] + "a.ts")
    for query in hostile.SUBRESOURCES:
        outcome = scene.attack(path + b"a.ts?" + query)
        assert outcome.body == wanted or (b"#" in query and outcome.status == 400), (query, outcome.answer)
        for none in (path[:-1], path, path + b"b/"):
            outcome = scene.attack(none + b"?" + query)
            assert outcome.status in {400, 404} and outcome.objects == set(), (none, query, outcome.answer)
    scene.served(mount)


@pytest.mark.parametrize("mount", WHOLE)
def test_a_parameter_that_is_passed_on(scene: Scene, mount: str) -> None:
    """It is one value for S3, and one header for the client, whatever is in it."""
    path, name = f"/{mount}/a.ts?".encode(), hostile.PASSED.encode()
    outcome = scene.attack(path + name + b"=text/plain")
    assert b"\r\nContent-Type: text/plain\r\n" in outcome.answer
    for value in (*hostile.PASSED_VALUES, b"x" * 7000):
        outcome = scene.attack(path + name + b"=" + value)
        assert outcome.status in {200, 400}, (value, outcome.answer)
        assert not re.search(rb"^X:", outcome.answer, re.MULTILINE)
        assert outcome.status == 400 or outcome.body == body_of(BUCKET, "a.ts")
    scene.served(mount)


# --- slow and sudden clients


def hang_up(client: socket.socket, *, rudely: bool) -> None:
    if rudely:  # a reset instead of an end
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def slow_client(scene: Scene, mount: str) -> socket.socket:
    """A client whose own buffer holds next to nothing has asked for a film."""
    client = socket.socket()
    client.settimeout(60)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", scene.httpd.port))
    client.sendall(f"GET /{mount}/film.mp4 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def two_hundred_slow_clients(scene: Scene) -> None:
    chance = random.Random(3)
    clients = [slow_client(scene, PREFIXED[number % len(PREFIXED)]) for number in range(200)]
    for _ in range(4):
        for client in clients:
            assert client.recv(chance.randrange(1, 3000))
        assert held(scene)[0] > len(clients)
        for mount in PREFIXED:  # others are served meanwhile
            reply = scene.httpd.fetch(f"/{mount}/a.ts")
            assert (reply.status, reply.body) == (200, body_of(BUCKET, "public/a.ts"))
        chance.shuffle(clients)
        for client in clients[:50]:
            hang_up(client, rudely=chance.random() < 0.5)
        del clients[:50]


def held(scene: Scene, child: int | None = None) -> tuple[int, int]:
    """The open files of a child of httpd, the only one if none is named, and the bytes of memory that it holds."""
    if child is None:
        (child,) = scene.httpd.children()
    status = Path(f"/proc/{child}/status").read_text()
    return len(os.listdir(f"/proc/{child}/fd")), int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_slow_readers(scene: Scene) -> None:
    """Each costs a thread while it is there; afterwards no more is left than a connection to S3 for the next one."""
    files, memory = held(scene)[0] + 200, 0
    for round_ in range(5):  # a thousand in all
        two_hundred_slow_clients(scene)
        deadline = time.monotonic() + 20
        while held(scene)[0] > files + 40 and time.monotonic() < deadline:
            time.sleep(0.05)
        now = held(scene)
        assert now[0] <= files + 40
        assert round_ == 0 or now[1] < memory + (64 << 20)
        files, memory = now
    for mount in MOUNTS:
        scene.served(mount)


#: What the clients' sockets, httpd's and S3's need of open files in the tests' own process.
_ENOUGH_FILES = 4096


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < _ENOUGH_FILES:
        pytest.skip(f"no process may open {_ENOUGH_FILES} files here (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _ENOUGH_FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_slow_readers_at_once(many_files: None) -> None:
    """Each has a thread; the next client is served all the same, and when they have gone nothing is left."""
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
            s3.put(BUCKET, key, body_of(BUCKET, key))
        s3.put(BUCKET, "public/film.mp4", FILM)
        with Httpd(hostile.config(s3) + threads) as server, ExitStack() as stack:
            server.expect_error(EXPECTED)
            scene = Scene(server, s3)
            before = sum(held(scene, child)[0] for child in server.children())
            clients: list[socket.socket] = []
            for _ in range(20):  # the embedded S3 answers 503 to a herd that comes at the same moment
                mounts = [PREFIXED[number % len(PREFIXED)] for number in range(50)]
                come = [stack.enter_context(slow_client(scene, mount)) for mount in mounts]
                for client in come:
                    assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
                clients += come
            for mount in PREFIXED:
                assert server.fetch(f"/{mount}/a.ts").body == body_of(BUCKET, "public/a.ts")
            assert sum(held(scene, child)[1] for child in server.children()) < 1 << 30
            for client in clients:
                hang_up(client, rudely=True)
            deadline = time.monotonic() + 20
            while (left := sum(held(scene, child)[0] for child in server.children())) > before + 100:
                assert time.monotonic() < deadline, left
                time.sleep(0.1)
        assert "\n".join(server.unexpected) == ""


@pytest.mark.parametrize("mount", PREFIXED)
def test_clients_that_leave(scene: Scene, mount: str) -> None:
    """In the middle of the request nothing has happened yet; in the middle of the answer nothing else is in it."""
    chance = random.Random(mount)
    request = f"GET /{mount}/film.mp4 HTTP/1.1\r\nHost: x\r\nRange: bytes=5-\r\nX: y\r\n\r\n".encode()
    for _ in range(20):
        part = request[: chance.randrange(1, len(request) - 4)]
        outcome = scene.raw(part)
        assert outcome.seen == [] and outcome.objects == set(), (part, outcome.answer)
        client = socket.create_connection(("127.0.0.1", scene.httpd.port), timeout=20)
        client.sendall(part)
        hang_up(client, rudely=True)
    for _ in range(20):
        client = socket.create_connection(("127.0.0.1", scene.httpd.port), timeout=20)
        client.sendall(request)
        answer = client.recv(4096)
        for _ in range(chance.randrange(30)):
            answer += client.recv(4096)
        hang_up(client, rudely=chance.random() < 0.5)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 206 ") and FILM[5:].startswith(body)
    scene.served(mount)
