"""Request bodies: they are discarded, and never read as the next request of the connection."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.httpd.conftest import PAGES
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd, WithoutModule
from tests.leaks import SECRET_KEY

WAYS = ("embedded", "daemon", "proxy", "plain-embedded", "plain-daemon")
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PROPFIND", "ODD")
#: A body that looks like a request: there is a response to it if it is read as one.
SMUGGLED = b"GET /embedded/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
LIMIT = 200_000
_EXPECT = "Expect: 100-continue\r\n"


class Body(NamedTuple):
    """A request's body; ``waits``: the client waits for "100 Continue" before it sends the body."""

    data: bytes = b""
    chunked: bool = False
    expect: bool = False
    waits: bool = False

    @property
    def header(self) -> str:
        framing = "Transfer-Encoding: chunked\r\n" if self.chunked else f"Content-Length: {len(self.data)}\r\n"
        return framing + (_EXPECT if self.expect else "")

    @property
    def wire(self) -> bytes:
        if not self.chunked:
            return self.data
        return (b"%x\r\n%s\r\n" % (len(self.data), self.data) if self.data else b"") + b"0\r\n\r\n"


class Response(NamedTuple):
    status: int
    head: bytes
    body: bytes

    @property
    def closes(self) -> bool:
        return re.search(rb"(?im)^connection: *close\r?$", self.head) is not None


class Client:
    """A connection. The responses are read in the order of the requests."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._reader = self.socket.makefile("rb")

    def close(self) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, path: str, method: str = "GET", body: Body | None = None, headers: str = "") -> None:
        header = body.header if body else ""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{header}{headers}\r\n".encode())
        if body and not body.waits:
            self.socket.sendall(body.wire)

    def read_response(self, method: str = "GET") -> Response | None:
        """Read the next response, which may be "100 Continue"; None if the connection was closed."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._reader.readline()
            if not line:
                assert head == b""
                return None
            head += line
        match = re.match(rb"HTTP/1\.1 ([1-5][0-9]{2}) ", head)
        assert match, head
        status = int(match[1])
        if method == "HEAD" or status in {100, 204, 304}:
            return Response(status, head, b"")
        length = re.search(rb"(?im)^content-length: *(\d+)\r$", head)
        if length:
            return Response(status, head, self._reader.read(int(length[1])))
        if b"chunked" not in head:
            return Response(status, head, self._reader.read())
        body = b""
        while size := int(self._reader.readline(), 16):
            body += self._reader.read(size)
            self._reader.readline()
        self._reader.readline()
        return Response(status, head, body)

    def read_final_response(self, method: str, body: Body | None) -> Response | None:
        """Read the final response; after "100 Continue" send the body first."""
        response = self.read_response(method)
        if response and response.status == 100:
            assert body and body.expect
            if body.waits:
                self.socket.sendall(body.wire)
            response = self.read_response(method)
        return response


@contextmanager
def connected(port: int) -> Iterator[Client]:
    client = Client(port)
    try:
        yield client
    finally:
        client.close()


def config(bucket: Recorder, *, with_proxy: bool) -> str:
    url = f"http://127.0.0.1:{bucket.port}/bucket"
    keys = f"SetEnv S3AccessKey A\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r\nSetEnv S3UseHeaders on\n"
    daemon = "process-group=s3 application-group=%{GLOBAL}"
    parts = [PAGES, "WSGIDaemonProcess s3 python-home=${USP_S3_PYTHON_HOME}", f"LimitRequestBody {LIMIT}"]
    for mount, options in (("/embedded", ""), ("/daemon", daemon)):
        parts.append(f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}} {options}")
        parts.append(f"<Location {mount}>\nSetEnv S3BucketURL {url}/\n{keys}</Location>")
    if with_proxy:
        parts.append(f'ProxyPass /proxy {url}\n<Proxy "{url}/">\n{keys}</Proxy>')
    for way in ("embedded", "daemon", "proxy"):
        parts.append(f"<Location /closed-{way}>\nRequire all denied\nErrorDocument 403 /{way}/sorry\n</Location>")
    return "\n".join(parts)


@pytest.fixture(scope="module")
def ports(bucket_server: Recorder) -> Iterator[dict[str, int]]:
    """The port for each way. A second server runs without usp_s3_module."""
    with (
        Httpd(config(bucket_server, with_proxy=True)) as server,
        WithoutModule(config(bucket_server, with_proxy=False)) as without_module,
    ):
        for httpd in (server, without_module):
            httpd.expect_error("AH01630")
            (httpd.root / "htdocs" / "page").mkdir()
            for way in ("embedded", "daemon", "proxy"):
                (httpd.root / "htdocs" / "page" / way).write_text(f'<!--#include virtual="/{way}/part" -->')
        without_module.expect_error("WSGI0126")  # mod_wsgi's line about an incomplete body on the way to its daemon
        without_module.expect_error(
            r"usp_s3_wsgi: /(embedded|daemon)\S*: a subrequest, a redirect|unable to include|AH00524"
        )
        yield {way: without_module.port if "plain" in way else server.port for way in WAYS}
    assert ("\n".join(server.unexpected), "\n".join(without_module.unexpected)) == ("", "")


def mount(way: str) -> str:
    return f"/{way.removeprefix('plain-')}"


def expected_status(method: str) -> int:
    return 200 if method in {"GET", "HEAD"} else 405


def assert_in_step(client: Client, way: str, response: Response | None) -> None:
    """Assert that the next request gets its own response, unless the last response closes the connection."""
    assert response is not None
    if response.closes:
        assert client.read_response() is None
        return
    for number in range(2):
        client.send(f"{mount(way)}/next-{number}")
        next_response = client.read_response()
        assert next_response and (next_response.status, next_response.body) == (200, f"/bucket/next-{number}".encode())
        if next_response.closes:
            break


BODIES = {
    "one-byte": Body(b"x"),
    "forty-bytes": Body(b"x" * 40),
    "a-request": Body(SMUGGLED),
    "large": Body(b"x" * 150_000),
    "chunked": Body(SMUGGLED, chunked=True),
    "no-chunk": Body(b"", chunked=True),
    "empty": Body(b""),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", BODIES)
def test_the_connection_stays_in_step(ports: dict[str, int], way: str, method: str, form: str) -> None:
    """With "Expect: 100-continue" and a wait, with it and without a wait, and without it."""
    for expect, waits in ((True, True), (True, False), (False, False)):
        body = BODIES[form]._replace(expect=expect, waits=waits)
        with connected(ports[way]) as client:
            client.send(f"{mount(way)}/first", method, body)
            response = client.read_final_response(method, body)
            assert response and response.status == expected_status(method)
            if method == "GET":
                assert response.body == b"/bucket/first"
            if not expect and way != "plain-daemon":  # it closes its connection after each object
                assert not response.closes
            assert_in_step(client, way, response)


@pytest.mark.parametrize("way", [way for way in WAYS if "plain" not in way])
@pytest.mark.parametrize("waits", [True, False])
def test_subrequests_and_error_documents(ports: dict[str, int], way: str, waits: bool) -> None:
    """Subrequests have no body, but they share the client's connection."""
    for path, status, text in (
        (f"/page/{way}", 200, b"/bucket/part"), (f"/closed-{way}/x", 403, b"/bucket/sorry"),
    ):  # fmt: skip
        for body in (Body(SMUGGLED, False, True, waits), Body(SMUGGLED, True, True, waits)):
            with connected(ports[way]) as client:
                client.send(path, "GET", body)
                response = client.read_final_response("GET", body)
                assert response and (response.status, response.body) == (status, text)
                assert_in_step(client, way, response)


@pytest.mark.parametrize("way", ["plain-embedded", "plain-daemon"])
@pytest.mark.parametrize("waits", [True, False])
def test_subrequests_are_rejected_without_the_module(ports: dict[str, int], way: str, waits: bool) -> None:
    """They get 500, and the connection stays in step."""
    for path in (f"/page{mount(way)}", f"/closed-{mount(way)[1:]}/x"):
        for body in (Body(SMUGGLED, False, True, waits), Body(SMUGGLED, True, True, waits)):
            with connected(ports[way]) as client:
                client.send(path, "GET", body)
                response = client.read_final_response("GET", body)
                assert response and b"/bucket/" not in response.body
                assert_in_step(client, way, response)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("waits", [True, False])
def test_a_body_larger_than_limitrequestbody(ports: dict[str, int], way: str, chunked: bool, waits: bool) -> None:
    """LimitRequestBody applies, and the connection is closed."""
    with connected(ports[way]) as client:
        body = Body(b"x" * (LIMIT + 100), chunked, waits, waits)
        client.send(f"{mount(way)}/first", "PUT", body)
        response = client.read_final_response("PUT", body)
        assert response and response.status == 413 and response.closes
        client.socket.sendall(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("sent", [b"", b"5\r\nhe", b"zz\r\n"])
def test_an_incomplete_or_malformed_body(ports: dict[str, int], way: str, framing: str, sent: bytes) -> None:
    """The client disconnects in the middle, or sends malformed chunks: httpd closes the connection, and goes on."""
    with connected(ports[way]) as client:
        client.socket.sendall(f"GET {mount(way)}/first HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode() + sent)
        client.socket.shutdown(socket.SHUT_WR)
        response = client.read_response()
        assert response is None or (response.status in {400, 500 if way == "plain-daemon" else 400} and response.closes)
    with connected(ports[way]) as client:
        client.send(f"{mount(way)}/first")
        assert_in_step(client, way, client.read_response())


def test_a_client_that_does_not_send_its_body_gets_408(bucket_server: Recorder) -> None:
    """httpd waits for its Timeout; then the thread is free."""
    with Httpd(config(bucket_server, with_proxy=True) + "\nTimeout 1") as server:
        for way in WAYS[:3]:
            for body in (Body(b"x", expect=True, waits=True), Body(b"x", chunked=True, waits=True)):
                with connected(server.port) as client:
                    client.send(f"{mount(way)}/first", "PUT", body)
                    response = client.read_response()
                    if response and response.status == 100:
                        response = client.read_response()
                    assert response and response.status == 408 and response.closes
    assert "\n".join(server.unexpected) == ""


_BODIES = st.builds(
    Body,
    st.sampled_from([b"", b"x", b"x" * 40, SMUGGLED, b"\r\n\r\n", b"y" * 70_000]),
    st.booleans(),
    expect=st.booleans(),
    waits=st.just(False),
)
_REQUESTS = st.lists(
    st.tuples(st.sampled_from(WAYS[:3]), st.sampled_from(METHODS), st.none() | _BODIES, st.booleans()),
    min_size=2,
    max_size=6,
)


def assert_in_step_for_sequence(port: int, requests: list[tuple[str, str, Body | None, bool]]) -> None:
    """Assert that each response belongs to its request; ``is_pipelined``: the next one is sent before it is read."""
    waiting: list[tuple[str, str, Body | None]] = []

    def read_all() -> bool:
        for path, method, body in waiting:
            response = client.read_final_response(method, body)
            if response is None:
                return False  # the previous response closed the connection
            assert response.status == expected_status(method)
            if method == "GET":
                assert response.body == f"/bucket{path}".encode()
            elif method != "HEAD":
                assert b"405" in response.body
            if response.closes:
                assert client.read_response() is None
                return False
        waiting.clear()
        return True

    with connected(port) as client:
        for number, (way, method, body, is_pipelined) in enumerate(requests):
            if body and body.expect and not is_pipelined:
                body = body._replace(waits=True)
            try:
                client.send(f"/{way}/{number}", method, body)
            except ConnectionError:
                assert not read_all()
                return
            waiting.append((f"/{number}", method, body))
            if not is_pipelined and not read_all():
                return
        read_all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=_REQUESTS)
def test_any_sequence(ports: dict[str, int], requests: list[tuple[str, str, Body | None, bool]]) -> None:
    assert_in_step_for_sequence(ports["embedded"], requests)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=_REQUESTS)
def test_any_sequence_without_the_module(
    ports: dict[str, int], requests: list[tuple[str, str, Body | None, bool]]
) -> None:
    ways = {"proxy": "embedded"}
    assert_in_step_for_sequence(ports["plain-embedded"], [(ways.get(way, way), *rest) for way, *rest in requests])  # type: ignore[misc]
