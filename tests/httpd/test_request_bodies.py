"""Bodies of requests: nobody needs them here, and no request is ever read from the middle of another one."""

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
#: It looks like a request, so that it answers where it is taken for one.
SMUGGLED = b"GET /embedded/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
LIMIT = 200_000
_EXPECT = "Expect: 100-continue\r\n"


class Body(NamedTuple):
    """A request's body; ``held``: the client waits for "100 Continue" before it sends it."""

    data: bytes = b""
    chunked: bool = False
    expect: bool = False
    held: bool = False

    @property
    def header(self) -> str:
        framing = "Transfer-Encoding: chunked\r\n" if self.chunked else f"Content-Length: {len(self.data)}\r\n"
        return framing + (_EXPECT if self.expect else "")

    @property
    def wire(self) -> bytes:
        if not self.chunked:
            return self.data
        return (b"%x\r\n%s\r\n" % (len(self.data), self.data) if self.data else b"") + b"0\r\n\r\n"


class Answer(NamedTuple):
    status: int
    head: bytes
    body: bytes

    @property
    def closes(self) -> bool:
        return re.search(rb"(?im)^connection: *close\r?$", self.head) is not None


class Client:
    """A connection, on which answers are read for the requests that were sent, in their order."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._reader = self.socket.makefile("rb")

    def close(self) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, path: str, method: str = "GET", body: Body | None = None, more: str = "") -> None:
        header = body.header if body else ""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{header}{more}\r\n".encode())
        if body and not body.held:
            self.socket.sendall(body.wire)

    def answer(self, method: str = "GET") -> Answer | None:
        """Read the next answer, "100 Continue" too; None at the end of the connection."""
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
            return Answer(status, head, b"")
        length = re.search(rb"(?im)^content-length: *(\d+)\r$", head)
        if length:
            return Answer(status, head, self._reader.read(int(length[1])))
        if b"chunked" not in head:
            return Answer(status, head, self._reader.read())
        body = b""
        while size := int(self._reader.readline(), 16):
            body += self._reader.read(size)
            self._reader.readline()
        self._reader.readline()
        return Answer(status, head, body)

    def final(self, method: str, body: Body | None) -> Answer | None:
        """Read the final answer, and send the body when it is asked for."""
        answer = self.answer(method)
        if answer and answer.status == 100:
            assert body and body.expect
            if body.held:
                self.socket.sendall(body.wire)
            answer = self.answer(method)
        return answer


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
    """The port of each way in: those without usp_s3_module are another server's."""
    with (
        Httpd(config(bucket_server, with_proxy=True)) as server,
        WithoutModule(config(bucket_server, with_proxy=False)) as plain,
    ):
        for httpd in (server, plain):
            httpd.expect_error("AH01630")
            (httpd.root / "htdocs" / "page").mkdir()
            for way in ("embedded", "daemon", "proxy"):
                (httpd.root / "htdocs" / "page" / way).write_text(f'<!--#include virtual="/{way}/part" -->')
        plain.expect_error("WSGI0126")  # mod_wsgi's own words of a body that breaks off on the way to its daemon
        plain.expect_error(r"usp_s3_wsgi: /(embedded|daemon)\S*: a subrequest, a redirect|unable to include|AH00524")
        yield {way: plain.port if "plain" in way else server.port for way in WAYS}
    assert ("\n".join(server.unexpected), "\n".join(plain.unexpected)) == ("", "")


def mount(way: str) -> str:
    return f"/{way.removeprefix('plain-')}"


def expected(method: str) -> int:
    return 200 if method in {"GET", "HEAD"} else 405


def check_in_step(client: Client, way: str, answer: Answer | None) -> None:
    """The next request on the connection gets its own answer, unless the last one said that there will be none."""
    assert answer is not None
    if answer.closes:
        assert client.answer() is None
        return
    for number in range(2):
        client.send(f"{mount(way)}/next-{number}")
        following = client.answer()
        assert following and (following.status, following.body) == (200, f"/bucket/next-{number}".encode())
        if following.closes:
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
    """A body that waits for "100 Continue", one that does not wait, and one that nobody announced so."""
    for expect, held in ((True, True), (True, False), (False, False)):
        body = BODIES[form]._replace(expect=expect, held=held)
        with connected(ports[way]) as client:
            client.send(f"{mount(way)}/first", method, body)
            answer = client.final(method, body)
            assert answer and answer.status == expected(method)
            if method == "GET":
                assert answer.body == b"/bucket/first"
            if not expect and way != "plain-daemon":  # it ends its connection after each object
                assert not answer.closes
            check_in_step(client, way, answer)


@pytest.mark.parametrize("way", [way for way in WAYS if "plain" not in way])
@pytest.mark.parametrize("held", [True, False])
def test_a_page_and_an_error_document(ports: dict[str, int], way: str, held: bool) -> None:
    """Requests within httpd have no body of their own, but the connection is the client's."""
    for path, status, text in (
        (f"/page/{way}", 200, b"/bucket/part"), (f"/closed-{way}/x", 403, b"/bucket/sorry"),
    ):  # fmt: skip
        for body in (Body(SMUGGLED, False, True, held), Body(SMUGGLED, True, True, held)):
            with connected(ports[way]) as client:
                client.send(path, "GET", body)
                answer = client.final("GET", body)
                assert answer and (answer.status, answer.body) == (status, text)
                check_in_step(client, way, answer)


@pytest.mark.parametrize("way", ["plain-embedded", "plain-daemon"])
@pytest.mark.parametrize("held", [True, False])
def test_what_needs_the_module(ports: dict[str, int], way: str, held: bool) -> None:
    """It is refused (500), and the connection is in step all the same."""
    for path in (f"/page{mount(way)}", f"/closed-{mount(way)[1:]}/x"):
        for body in (Body(SMUGGLED, False, True, held), Body(SMUGGLED, True, True, held)):
            with connected(ports[way]) as client:
                client.send(path, "GET", body)
                answer = client.final("GET", body)
                assert answer and b"/bucket/" not in answer.body
                check_in_step(client, way, answer)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("held", [True, False])
def test_a_body_that_is_too_large(ports: dict[str, int], way: str, chunked: bool, held: bool) -> None:
    """LimitRequestBody holds, and the connection ends."""
    with connected(ports[way]) as client:
        body = Body(b"x" * (LIMIT + 100), chunked, held, held)
        client.send(f"{mount(way)}/first", "PUT", body)
        answer = client.final("PUT", body)
        assert answer and answer.status == 413 and answer.closes
        client.socket.sendall(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("sent", [b"", b"5\r\nhe", b"zz\r\n"])
def test_a_body_that_never_ends(ports: dict[str, int], way: str, framing: str, sent: bytes) -> None:
    """The client hangs up in the middle, or sends what is no body: nothing of it is an object's, and httpd goes on."""
    with connected(ports[way]) as client:
        client.socket.sendall(f"GET {mount(way)}/first HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode() + sent)
        client.socket.shutdown(socket.SHUT_WR)
        answer = client.answer()
        assert answer is None or (answer.status in {400, 500 if way == "plain-daemon" else 400} and answer.closes)
    with connected(ports[way]) as client:
        client.send(f"{mount(way)}/first")
        check_in_step(client, way, client.answer())


def test_a_client_that_asks_and_sends_nothing_is_not_waited_for(bucket_server: Recorder) -> None:
    """Longer than httpd's own Timeout; its thread is free then."""
    with Httpd(config(bucket_server, with_proxy=True) + "\nTimeout 1") as server:
        for way in WAYS[:3]:
            for body in (Body(b"x", expect=True, held=True), Body(b"x", chunked=True, held=True)):
                with connected(server.port) as client:
                    client.send(f"{mount(way)}/first", "PUT", body)
                    answer = client.answer()
                    if answer and answer.status == 100:
                        answer = client.answer()
                    assert answer and answer.status == 408 and answer.closes
    assert "\n".join(server.unexpected) == ""


_BODIES = st.builds(
    Body,
    st.sampled_from([b"", b"x", b"x" * 40, SMUGGLED, b"\r\n\r\n", b"y" * 70_000]),
    st.booleans(),
    expect=st.booleans(),
    held=st.just(False),
)
_REQUESTS = st.lists(
    st.tuples(st.sampled_from(WAYS[:3]), st.sampled_from(METHODS), st.none() | _BODIES, st.booleans()),
    min_size=2,
    max_size=6,
)


def check_sequence(port: int, requests: list[tuple[str, str, Body | None, bool]]) -> None:
    """Each answer belongs to its own request; ``ahead``: the next one is sent before the answer is read."""
    waiting: list[tuple[str, str, Body | None]] = []

    def read_all() -> bool:
        for path, method, body in waiting:
            answer = client.final(method, body)
            if answer is None:
                return False  # the one before has said so
            assert answer.status == expected(method)
            if method == "GET":
                assert answer.body == f"/bucket{path}".encode()
            elif method != "HEAD":
                assert b"405" in answer.body
            if answer.closes:
                assert client.answer() is None
                return False
        waiting.clear()
        return True

    with connected(port) as client:
        for number, (way, method, body, ahead) in enumerate(requests):
            if body and body.expect and not ahead:
                body = body._replace(held=True)
            try:
                client.send(f"/{way}/{number}", method, body)
            except ConnectionError:
                assert not read_all()
                return
            waiting.append((f"/{number}", method, body))
            if not ahead and not read_all():
                return
        read_all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=_REQUESTS)
def test_any_sequence(ports: dict[str, int], requests: list[tuple[str, str, Body | None, bool]]) -> None:
    check_sequence(ports["embedded"], requests)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=_REQUESTS)
def test_any_sequence_without_the_module(
    ports: dict[str, int], requests: list[tuple[str, str, Body | None, bool]]
) -> None:
    ways = {"proxy": "embedded"}
    check_sequence(ports["plain-embedded"], [(ways.get(way, way), *rest) for way, *rest in requests])  # type: ignore[misc]
