"""``<Proxy>``: faults of S3: truncated bodies, and responses that must not be forwarded."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, RemoteDisconnected

import pytest

from tests.faults.server import (
    S3_WORDS,
    WAIT,
    Connection,
    Request,
    ScriptedS3,
    Step,
    answer,
    close,
    error,
    first,
    reset,
)
from tests.httpd import http2
from tests.httpd.conftest import NEEDS_SSL, PAGES
from tests.httpd.machine import free_port, has_module
from tests.httpd.server import Httpd
from tests.leaks import SECRET_KEY

PART = b"p" * 300_000
NEXT = b"the next response"
CLOSED = "USPS30408: usp_s3_wsgi: no response from S3; mod_proxy closed the client's connection"
NO_LENGTH = "response has no Content-Length: truncation could not be detected"


#: The port of each test's own S3.
PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"
DOWN = f"http://127.0.0.1:{free_port()}"
CONFIG = f"""
ProxyPass /down {DOWN}/bucket
<Proxy "{DOWN}/bucket/">
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region r
  ProxySet retry=0
</Proxy>
ProxyPass /m {URL}/bucket
<Proxy "{URL}/bucket/">
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region r
  SetEnv S3UseHeaders on
  SetEnv S3PassHeaders x-amz-meta-t
  ProxySet enablereuse=on retry=0
</Proxy>
ProxyPass /filtered {URL}/bucket
<Location /filtered>
  SetOutputFilter SUBSTITUTE
  Substitute s/never/there/n
</Location>
ProxyPass /overridden {URL}/bucket
<Location /overridden>
  ProxyErrorOverride On
</Location>
# A page of another application, as the error document.
ProxyPass /other {URL}/other
<Location /m/with-page>
  ErrorDocument 502 /other/page
</Location>
# Longer than any wait below: a client that waits for httpd's timeout fails the test.
KeepAliveTimeout 300
"""


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    with Httpd(CONFIG + PAGES) as server:
        server.expect_error("usp_s3_wsgi: response body truncated")
        yield server
    assert "\n".join(server.unexpected) == ""


def scripted(*script: Step, then: Step | None = None) -> ScriptedS3:
    return ScriptedS3(*script, then=then, port=PORT)


def get(version: str = "1.1", target: str = "/m/film.mp4") -> bytes:
    return f"GET {target} HTTP/{version}\r\nHost: x\r\n\r\n".encode()


def converse(httpd: Httpd, request: bytes) -> bytes:
    """Send bytes to httpd and return all that it sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1 << 20), b""))


def closing(target: str = "/m/film.mp4") -> bytes:
    return get(target=target).replace(b"Host", b"Connection: close\r\nHost")


def looks_complete(httpd: Httpd, request: bytes) -> bool:
    """Whether a client takes the body for complete: by its length, its last chunk, or an orderly end."""
    try:
        head, _, body = converse(httpd, request).partition(b"\r\n\r\n")
    except ConnectionResetError:
        return False
    if not head.startswith(b"HTTP/1.1 200 "):
        return False
    if (length := re.search(rb"\r\nContent-Length: (\d+)", head)) is not None:
        return len(body) == int(length[1])
    return b"Transfer-Encoding: chunked" not in head or body.endswith(b"\r\n0\r\n\r\n")


def chunked(data: bytes, end: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n" % (len(data), data) + end


@pytest.mark.parametrize("end", [close, reset])
def test_a_truncated_body_ends_the_connection(httpd: Httpd, end: Step) -> None:
    """Two pipelined requests: the second response must not be taken for the rest of the first body."""
    assert callable(end)
    with scripted(first(answer(200, PART, length=1_000_000), end), then=answer(200, NEXT)):
        httpd.expect_error("AH01110|AH01102")
        received = converse(httpd, get() * 2)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"Content-Length: 1000000" in head
    assert len(body) < 1_000_000
    assert NEXT not in received


def test_a_truncated_chunked_body_has_no_last_chunk(httpd: Httpd) -> None:
    with scripted(first(chunked(PART), close)):
        httpd.expect_error("AH01110|AH01102")
        received = converse(httpd, get() * 2)
    assert b"Transfer-Encoding: chunked" in received
    assert not received.endswith(b"0\r\n\r\n")


def close_later(connection: Connection, request: Request) -> None:
    time.sleep(0.1)  # mod_proxy reads the end alone, after it has forwarded all before it
    connection.close()


@pytest.mark.parametrize("data", [b"p" * 100, PART])
@pytest.mark.parametrize("end", [close, reset, close_later])
def test_a_body_without_length_and_chunks_is_rejected(httpd: Httpd, data: bytes, end: Callable[..., None]) -> None:
    """Only the end of the connection ends it: a truncated one looks complete."""
    with scripted(first(answer(200, data, length=None), end), then=answer(200, NEXT)):
        httpd.expect_error("AH01110|AH01102")
        received = converse(httpd, get() + closing())
        httpd.wait_for_error(rf"{NO_LENGTH} \(GET {URL}/bucket/film.mp4, attempt 1, ")
    assert received.startswith(b"HTTP/1.1 502 ") and received.count(b"HTTP/1.1 200 OK") == 1
    assert b"ppp" not in received and received.endswith(NEXT)


def test_two_lengths_are_rejected(httpd: Httpd) -> None:
    with scripted(first(answer(200, b"0123456789", ("Content-Length", "5")), close)):
        received = converse(httpd, closing())
        httpd.wait_for_error("response has more than one Content-Length")
    assert received.startswith(b"HTTP/1.1 502 ") and b"01234" not in received


def own_lines(httpd: Httpd, before: int) -> list[str]:
    """Return this package's lines of the error log since it had ``before`` lines."""
    return [line for line in httpd.errors()[before:] if "USPS3" in line]


@pytest.mark.parametrize("is_reused", [True, False])
def test_a_connection_that_s3_closes_at_a_later_request_of_a_client(httpd: Httpd, is_reused: bool) -> None:
    """mod_proxy closes the client's connection without a response: the client retries by itself."""
    before = len(httpd.errors())
    with scripted(*([answer(200, NEXT), close] if is_reused else [close])):
        httpd.expect_error(f"AH01102|{CLOSED}")
        received = converse(httpd, get(target="/m/film.mp4" if is_reused else "/none") + get())
        (line,) = own_lines(httpd, before)
    assert received.startswith(b"HTTP/1.1 200 " if is_reused else b"HTTP/1.1 404 ") and received.count(b"HTTP/1.1") == 1
    assert re.search(rf"{CLOSED} \(GET {URL}/bucket/film.mp4, attempt 1, ", line)


def test_a_connection_that_s3_closes_at_a_subrequest_of_a_later_request(httpd: Httpd) -> None:
    """The page is cut off, and it is logged once."""
    before = len(httpd.errors())
    (httpd.root / "htdocs" / "page").write_text('before <!--#include virtual="/m/a" --> after')
    with scripted(close):
        httpd.expect_error(f"AH01102|unable to include|{CLOSED}")
        received = converse(httpd, get(target="/none") + get(target="/page"))
        (line,) = own_lines(httpd, before)
    assert received.endswith(b"\r\n\r\n7\r\nbefore \r\n")
    assert re.search(rf"{CLOSED} \(GET {URL}/bucket/a, attempt 1, ", line)


def test_expect_100_continue_does_not_hide_a_truncated_body(httpd: Httpd) -> None:
    """httpd sends no chunks to such a client, and then the end of the connection is the end of the body."""
    request = closing().replace(b"Host", b"Expect: 100-continue\r\nHost")
    with scripted(chunked(PART, b"0\r\n\r\n"), first(chunked(PART), close)):
        httpd.expect_error("AH01110|AH01102")
        assert converse(httpd, request).endswith(b"\r\n0\r\n\r\n")
        assert not looks_complete(httpd, request)


def test_a_chunked_body_is_forwarded_completely(httpd: Httpd) -> None:
    with scripted(chunked(PART, b"0\r\n\r\n")):
        reply = httpd.fetch("/m/film.mp4")
    assert reply.body == PART


ERRORS = {
    "redirect": (error(301, "PermanentRedirect", ("Location", "https://evil.example/")), 502, "301 PermanentRedirect"),
    "other region": (
        error(307, "TemporaryRedirect", ("x-amz-bucket-region", "eu-west-1")),
        502,
        "eu-west-1: set S3Reg",
    ),
    "expired token": (error(400, "ExpiredToken"), 502, "400 ExpiredToken, request id 4442587FB7D0A2F9"),
    "clock": (error(403, "RequestTimeTooSkewed"), 502, "403 RequestTimeTooSkewed"),
    "no content": (answer(204, length=None), 502, "204"),
    "slow down": (error(503, "SlowDown", ("Retry-After", "7")), 503, "503 SlowDown"),
    "internal": (error(500, "InternalError"), 503, "500 InternalError"),
    "huge error": (answer(403, b"<Code>SignatureDoesNotMatch</Code>" + b"x" * 500_000), 502, "SignatureDoesNotMatch"),
    "endless error": (first(answer(404, b"x" * 100_000, length=10**9), close), 404, ""),
    "truncated error": (first(answer(404, b"x" * 100, length=1_000), close), 404, "AH01110"),
    "denied": (error(403, "AccessDenied"), 403, ""),
    "bad key": (error(400, "KeyTooLongError"), 400, ""),
    "unauthorized": (answer(401, b"login", ("WWW-Authenticate", "Basic")), 502, "401"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_responses_are_replaced(httpd: Httpd, name: str) -> None:
    step, status, reason = ERRORS[name]
    with scripted(step, then=answer(200, NEXT)):
        if name in {"endless error", "truncated error"}:
            httpd.expect_error("AH01110")
        reply = httpd.fetch("/m/film.mp4")
        if status >= 500:
            httpd.wait_for_error(rf"usp_s3_wsgi: S3 answered .*{reason}.* \(GET {URL}/bucket/film.mp4, attempt 1, ")
        # The next request succeeds.
        assert httpd.fetch("/m/film.mp4").body == NEXT
    assert reply.status == status
    assert not {"Location", "WWW-Authenticate", "x-amz-bucket-region"} & set(reply.headers)
    assert S3_WORDS.encode() not in reply.body and b"xxx" not in reply.body
    assert reply.headers["Retry-After"] == ({"slow down": "7", "internal": "1"}.get(name))


def test_an_error_document_sees_the_clients_request(httpd: Httpd) -> None:
    """It sees nothing of the request to S3."""
    with scripted(error(403, "SignatureDoesNotMatch"), answer(200, b"sorry")) as s3:
        httpd.expect_error("usp_s3_wsgi: S3 answered 403 SignatureDoesNotMatch")
        reply = httpd.fetch("/m/with-page", authorization="Basic eDp5", cookie="a=b")
    assert reply.body == b"sorry"
    to_bucket, to_other = s3.requests
    assert to_bucket.headers["authorization"].startswith("AWS4-HMAC-SHA256")
    assert (to_other.target, to_other.headers["authorization"]) == ("/other/page", "Basic eDp5")
    assert to_other.headers["cookie"] == "a=b"
    assert not [name for name in to_other.headers if name.startswith("x-amz-")]


def test_only_some_headers_of_s3_are_forwarded(httpd: Httpd) -> None:
    headers = [
        ("ETag", '"e"'), ("Cache-Control", "max-age=1"), ("x-amz-meta-title", "t"), ("x-amz-meta-other", "o"),
        ("x-amz-request-id", "r"), ("Set-Cookie", "a=b"), ("Server", "AmazonS3"), ("Via", "1.1 s3"), ("Vary", "x"),
        ("Content-Encoding", "br"), ("Content-Disposition", "attachment"), ("X-Powered-By", "S3"), ("Age", "7"),
    ]  # fmt: skip
    with scripted(answer(200, NEXT, *headers)):
        reply = httpd.fetch("/m/film.mp4")
    assert reply.body == NEXT
    assert reply.headers["Server"].startswith("Apache")
    assert set(reply.headers) == {
        "Date", "Server", "ETag", "Cache-Control", "x-amz-meta-title", "Content-Encoding", "Content-Disposition",
        "Content-Length", "Content-Type", "Age",
    }  # fmt: skip


@pytest.mark.parametrize("step", [
    first(chunked(PART), close), chunked(PART, b"0\r\n\r\n"), first(answer(200, PART, length=None), close),
])  # fmt: skip
def test_an_http_1_0_client_gets_no_body_without_content_length(httpd: Httpd, step: Step) -> None:
    with scripted(step):
        received = converse(httpd, get("1.0"))
        httpd.wait_for_error(rf"{NO_LENGTH} \(GET {URL}/bucket/film.mp4, attempt 1, ")
    assert received.startswith(b"HTTP/1.1 502 ") and b"ppp" not in received


@pytest.mark.parametrize("mount", ["m", "filtered"])
def test_a_truncated_body_looks_incomplete_to_an_http_1_0_client(httpd: Httpd, mount: str) -> None:
    truncated = first(answer(200, PART, length=1_000_000), close)
    with scripted(truncated, answer(200, PART)):
        httpd.expect_error("AH01110|AH01102")
        assert not looks_complete(httpd, get("1.0", f"/{mount}/film.mp4"))
        assert converse(httpd, get("1.0", f"/{mount}/film.mp4")).endswith(b"\r\n\r\n" + PART)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_response_that_is_not_http_is_rejected(httpd: Httpd, method: str) -> None:
    """mod_proxy parses it as HTTP/0.9, and would forward it with status 200."""
    with scripted(first(b"SSH-2.0-OpenSSH_9.2\r\nmore of it\r\n", close)):
        httpd.expect_error("AH01110|AH01102")
        reply = httpd.fetch("/m/film.mp4", method=method)
        httpd.wait_for_error(rf"response is not valid HTTP \({method} {URL}/bucket/film.mp4, attempt 1, ")
    assert reply.status == 502 and b"SSH" not in reply.body


@NEEDS_SSL
def test_https_to_a_port_without_tls(checked: list[Httpd]) -> None:
    def not_tls(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        connection.close()

    with ScriptedS3(accepted=not_tls) as s3:
        down = CONFIG.partition("ProxyPass /m")[0].replace(DOWN, f"https://127.0.0.1:{s3.port}")
        server = Httpd(f"SSLProxyEngine on\n{down}")
        checked.append(server)
        server.start()
        server.expect_error("AH02003|AH01084|AH00898|AH01097|SSL Library Error|usp_s3_wsgi: ")
        assert server.fetch("/down/film.mp4").status in {500, 502}
        server.wait_for_error(
            r"no response from S3; mod_proxy returned 50[02], the TLS handshake failed: the certificate is not"
            r" trusted, or"
        )


def test_log_lines_about_a_host_that_is_down_are_limited(httpd: Httpd) -> None:
    """This package's lines; those of mod_proxy are not."""
    httpd.expect_error("AH00957|AH01114|AH00940|usp_s3_wsgi: no response from S3; mod_proxy returned 503")
    for number in range(100):
        assert httpd.fetch(f"/down/{number}.ts").status == 503
    httpd.wait_for_error(
        rf"usp_s3_wsgi: no response from S3; mod_proxy returned 503 \(GET {DOWN}/bucket/0.ts, attempt 1, "
    )
    lines = [line for line in httpd.errors() if "no response from S3; mod_proxy returned" in line]
    assert len(lines) <= 10 * len(httpd.children()) < 100


def test_informational_responses_are_not_forwarded(httpd: Httpd) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nx-amz-request-id: R1\r\nSet-Cookie: a=b\r\n\r\n"
    with scripted(early + answer(200, NEXT)):
        received = converse(httpd, get().replace(b"Host", b"Connection: close\r\nHost"))
    assert received.startswith(b"HTTP/1.1 200 ") and received.endswith(NEXT)
    assert b"103" not in received and b"Set-Cookie" not in received


def test_a_401_with_proxyerroroverride_is_a_502(httpd: Httpd) -> None:
    with scripted(answer(401, b"login", ("WWW-Authenticate", "Basic"))):
        reply = httpd.fetch("/overridden/film.mp4")
        httpd.wait_for_error("S3 answered 401")
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (502, None)


def test_a_stale_if_range_with_proxyerroroverride(httpd: Httpd) -> None:
    """A server that ignores If-Range returns 416 for an object that has become shorter."""
    with scripted(error(416, "InvalidRange", ("ETag", '"new"')), answer(200, NEXT, ("ETag", '"new"'))):
        reply = httpd.fetch("/overridden/film.mp4", range="bytes=5000-", if_range='"old"')
    assert (reply.status, reply.body) == (200, NEXT)


def test_errors_of_subrequests_are_replaced(httpd: Httpd) -> None:
    with scripted(error(404, "NoSuchKey"), answer(200, NEXT), error(403, "SlowDown")):
        httpd.expect_error("unable to include|usp_s3_wsgi: S3 answered 403 SlowDown")
        (httpd.root / "htdocs" / "page").write_text('<!--#include virtual="/m/a" -->' * 3)
        body = httpd.fetch("/page").body
    assert re.sub(rb"\[[^]]*\]", b"!", body) == b"!" + NEXT + b"!"


@pytest.mark.parametrize("content_range", ["bytes */0", "bytes 0--1/0"])
def test_a_range_of_an_empty_object(httpd: Httpd, content_range: str) -> None:
    """Ceph and MinIO return an empty part."""
    empty_part = answer(206, b"", ("Content-Range", content_range))
    with scripted(empty_part, answer(200, b"", ("ETag", '"e"'))):
        reply = httpd.fetch("/m/film.mp4", range="bytes=0-")
    assert (reply.status, reply.body, reply.headers["ETag"]) == (200, b"", '"e"')


def test_an_unusable_part_is_not_read_to_its_end(httpd: Httpd) -> None:
    """Swift and Ceph ignore If-Range: the whole object is requested, and the connection of the part is closed."""
    part = answer(206, PART, ("ETag", '"new"'), ("Content-Range", "bytes 5-999999999/1000000000"), length=999_999_995)
    whole = answer(200, NEXT, ("ETag", '"new"'))

    def wait_for_close(connection: Connection, request: Request) -> None:
        assert connection.ended()
        connection.close()

    with scripted(first(part, wait_for_close), whole) as s3:
        reply = httpd.fetch("/m/film.mp4?x", range="bytes=5-", if_range='"old"')
        assert s3.connections[0].finished.wait(WAIT)  # before the end of the server, which closes it too
    assert (reply.status, reply.body) == (200, NEXT)
    assert ["range" in request.headers for request in s3.requests] == [True, False]


@pytest.mark.parametrize("is_first", [True, False])
def test_s3_closes_the_connection_without_a_response(is_first: bool) -> None:
    """mod_proxy answers 502 to the first request of a client's connection, and closes it for a later one.

    Both are logged.
    """
    script = [close] if is_first else [answer(200, b"an object"), close]
    with ScriptedS3(*script) as s3:
        url = f"{s3.url}/films"
        keys = "SetEnv S3AccessKey A\nSetEnv S3SecretKey S\nSetEnv S3Region r\n"
        with Httpd(f'ProxyPass /media {url}\n<Proxy "{url}/">\n{keys}</Proxy>\n') as httpd:
            httpd.expect_error("AH01102|AH00898|USPS30408")
            client = HTTPConnection("127.0.0.1", httpd.port, timeout=20)
            try:
                if not is_first:
                    client.request("GET", "/media/a.ts")
                    assert client.getresponse().read() == b"an object"
                client.request("GET", "/media/a.ts")
                if is_first:
                    assert client.getresponse().read()
                    httpd.wait_for_error("USPS30408: .*: no response from S3; mod_proxy returned 502 ")
                else:
                    with pytest.raises(RemoteDisconnected):
                        client.getresponse()
                    httpd.wait_for_error(CLOSED)
            finally:
                client.close()


@pytest.mark.skipif(not has_module("http2"), reason="this httpd has no mod_http2")
def test_s3_closes_the_connection_without_a_response_over_http_2() -> None:
    """To mod_proxy each stream is a later request of the client; mod_http2 answers 500."""
    with ScriptedS3(close) as s3:
        url = f"{s3.url}/films"
        keys = "SetEnv S3AccessKey A\nSetEnv S3SecretKey S\nSetEnv S3Region r\n"
        h2c = "Protocols h2c http/1.1\nLogLevel http2:crit\n"
        with Httpd(f'{h2c}ProxyPass /media {url}\n<Proxy "{url}/">\n{keys}</Proxy>\n') as httpd:
            httpd.expect_error("AH01102|USPS30408")
            [stream] = http2.ask(httpd.port, {"path": "/media/a.ts"})
            httpd.wait_for_error("USPS30408: .*: no response from S3; mod_proxy closed the client's HTTP/2 stream ")
    assert (stream.status, stream.ended) == (500, True)
