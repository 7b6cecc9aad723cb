"""S3 truncates a body: no client of httpd may accept it as complete."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.faults.server import ScriptedS3, Step, answer, close, first
from tests.httpd.conftest import PAGES
from tests.httpd.server import Httpd
from tests.leaks import SECRET_KEY

PART = b"p" * 300_000
NEXT = b"the next answer"
LENGTH = 1_000_000


def config(url: str) -> str:
    daemon = "process-group=s3 application-group=%{GLOBAL}"
    sections = ["WSGIDaemonProcess s3 python-home=${USP_S3_PYTHON_HOME}"]
    for mount, options in (("/embedded", ""), ("/daemon", daemon)):
        sections.append(f"""
WSGIScriptAlias {mount} ${{USP_S3_WSGI}} {options}
<Location {mount}>
  SetEnv S3BucketURL {url}/bucket/
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region r
</Location>""")
    # Longer than any wait below: a client that only httpd's timeout frees would fail the test.
    return "\n".join([*sections, "KeepAliveTimeout 300"])


def chunked(data: bytes, end: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n" % (len(data), data) + end


#: mod_wsgi's log lines about the exception that ends a body. The gateway's own line precedes them.
TRACEBACK = r"Body(Truncated|NotResumable)|Exception occurred|Traceback|File |raise |data = |self\._abort|~~|\^\^"


@pytest.fixture
def server(checked: list[Httpd]) -> Httpd:
    httpd = Httpd("")
    httpd.expect_error("usp_s3_wsgi: ")
    httpd.expect_error(TRACEBACK)
    checked.append(httpd)
    return httpd


def converse(httpd: Httpd, s3_url: str, request: bytes, more: str = "") -> bytes:
    """Send bytes to httpd and return all that it sends until it closes the connection."""
    if not hasattr(httpd, "port"):
        httpd.config = config(s3_url) + "\n" + more
        httpd.start()
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
        client.sendall(request)
        answers = b""
        with suppress(ConnectionResetError):
            while data := client.recv(1 << 20):
                answers += data
    return answers


def get_request(mount: str, version: str = "1.1") -> bytes:
    return f"GET {mount}/film.mp4 HTTP/{version}\r\nHost: x\r\n\r\n".encode()


def truncated(*headers: tuple[str, str]) -> Step:
    return first(answer(200, PART, *headers, length=LENGTH), close)


@pytest.mark.parametrize("mount", ["/embedded", "/daemon"])
def test_with_content_length_the_connection_is_closed(server: Httpd, mount: str) -> None:
    """Two requests are sent at once: the second response must not look like the rest of the first body."""
    with ScriptedS3(truncated(), then=answer(200, NEXT)) as s3:
        answers = converse(server, s3.url, get_request(mount) * 2)
    head, _, body = answers.partition(b"\r\n\r\n")
    assert b"Content-Length: 1000000" in head
    assert 0 < len(body) < LENGTH
    assert PART.startswith(body)
    line = server.wait_for_error("response body truncated")
    assert "700000 bytes are missing" in line and "GET http://127.0.0.1" in line


def test_many_bodies_truncated_at_once(server: Httpd) -> None:
    """Each thread resets the connection of its own client, and no other one."""
    with ScriptedS3(then=truncated()) as s3:
        converse(
            server,
            s3.url,
            get_request("/embedded"),
            "StartServers 1\nServerLimit 1\nThreadsPerChild 16\nMaxRequestWorkers 16\n",
        )
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: converse(server, s3.url, get_request("/embedded")), range(120)))
    server.expect_error("AH10159|AH00484|AH03490")  # few threads on purpose
    for text in answers:
        assert text.startswith(b"HTTP/1.1 200 ") and len(text) < LENGTH


def test_chunked_has_no_last_chunk(server: Httpd) -> None:
    with ScriptedS3(first(chunked(PART), close)) as s3:
        answers = converse(server, s3.url, get_request("/embedded"))
    assert not answers.endswith(b"0\r\n\r\n")
    server.wait_for_error("response body truncated")


@pytest.mark.parametrize(("mount", "version"), [("/embedded", "1.0"), ("/daemon", "1.1")])
def test_a_response_whose_truncation_could_not_be_detected_is_rejected(server: Httpd, mount: str, version: str) -> None:
    with ScriptedS3(chunked(PART, b"0\r\n\r\n")) as s3:
        answers = converse(server, s3.url, get_request(mount, version).replace(b"Host", b"Connection: close\r\nHost"))
    assert answers.startswith(b"HTTP/1.1 502 ")
    server.wait_for_error("response has no Content-Length: truncation could not be detected")


def test_a_complete_chunked_body(server: Httpd) -> None:
    with ScriptedS3(chunked(PART, b"0\r\n\r\n")) as s3:
        server.config = config(s3.url)
        server.start()
        assert server.fetch("/embedded/film.mp4").body == PART


@pytest.mark.parametrize("quick", ["On", "Off"])
@pytest.mark.parametrize("target", ["/embedded/film.mp4", "/page/film"])
def test_a_cache_does_not_store_a_truncated_body_if_a_filter_removed_the_length(
    server: Httpd, target: str, quick: str
) -> None:
    """mod_cache compares the body's length with Content-Length, which a filter that changes the body removes."""
    server.expect_error("unable to include")
    step = truncated(("Cache-Control", "max-age=600"))
    more = f"""{PAGES}
CacheQuickHandler {quick}
CacheRoot ${{ROOT}}/run/cache
CacheEnable disk /embedded
CacheHeader on
<Location /embedded>
  SetOutputFilter SUBSTITUTE
  Substitute s/never/there/n
</Location>
"""
    with ScriptedS3(then=step) as s3:
        server.config = config(s3.url) + more
        server.start()
        (server.root / "run" / "cache").mkdir()
        (server.root / "run" / "cache").chmod(0o777)
        (server.root / "htdocs" / "page").mkdir()
        (server.root / "htdocs" / "page" / "film").write_text('<!--#include virtual="/embedded/film.mp4" -->')
        for _ in range(3):
            converse(server, s3.url, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert len(s3.requests) == 3
