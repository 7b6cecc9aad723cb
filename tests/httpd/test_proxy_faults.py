"""``<Proxy>``: an S3 that misbehaves. What mod_proxy makes of a broken body, and what becomes of odd answers."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator

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
from tests.httpd.conftest import NEEDS_SSL, PAGES
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.leaks import SECRET_KEY

PART = b"p" * 300_000
NEXT = b"the next answer"


#: Where each test puts its own S3.
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
# A page of another application, for what the bucket refuses.
ProxyPass /other {URL}/other
<Location /m/with-page>
  ErrorDocument 502 /other/page
</Location>
# Longer than any wait below: a client that only httpd's timeout frees would fail the test.
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
    """Send bytes to httpd and return all it answers until it ends the connection."""
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1 << 20), b""))


def closing(target: str = "/m/film.mp4") -> bytes:
    return get(target=target).replace(b"Host", b"Connection: close\r\nHost")


def takes_for_whole(httpd: Httpd, request: bytes) -> bool:
    """Whether a client takes the answer for a whole object: by its length, its last chunk, or an orderly end."""
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
def test_a_body_cut_short_ends_the_connection(httpd: Httpd, end: Step) -> None:
    """Two requests sent at once: the second answer must not be taken for the rest of the first body."""
    assert callable(end)
    with scripted(first(answer(200, PART, length=1_000_000), end), then=answer(200, NEXT)):
        httpd.expect_error("AH01110|AH01102")
        answers = converse(httpd, get() * 2)
    head, _, body = answers.partition(b"\r\n\r\n")
    assert b"Content-Length: 1000000" in head
    assert len(body) < 1_000_000
    assert NEXT not in answers


def test_a_chunked_body_cut_short_has_no_last_chunk(httpd: Httpd) -> None:
    with scripted(first(chunked(PART), close)):
        httpd.expect_error("AH01110|AH01102")
        answers = converse(httpd, get() * 2)
    assert b"Transfer-Encoding: chunked" in answers
    assert not answers.endswith(b"0\r\n\r\n")


def close_later(connection: Connection, request: Request) -> None:
    time.sleep(0.1)  # the end comes by itself, when all before it has been passed on
    connection.close()


@pytest.mark.parametrize("data", [b"p" * 100, PART])
@pytest.mark.parametrize("end", [close, reset, close_later])
def test_a_body_without_any_end_is_refused(httpd: Httpd, data: bytes, end: Callable[..., None]) -> None:
    """Only the connection's end ends it, and that comes early too."""
    with scripted(first(answer(200, data, length=None), end), then=answer(200, NEXT)):
        httpd.expect_error("AH01110|AH01102")
        answers = converse(httpd, get() + closing())
        httpd.wait_for_error(rf"response has no Content-Length: truncation could not be detected \(GET {URL}/bucket/film.mp4, attempt 1, ")
    assert answers.startswith(b"HTTP/1.1 502 ") and answers.count(b"HTTP/1.1 200 OK") == 1
    assert b"ppp" not in answers and answers.endswith(NEXT)


def test_two_lengths_are_refused(httpd: Httpd) -> None:
    with scripted(first(answer(200, b"0123456789", ("Content-Length", "5")), close)):
        answers = converse(httpd, closing())
        httpd.wait_for_error("response has more than one Content-Length")
    assert answers.startswith(b"HTTP/1.1 502 ") and b"01234" not in answers


def test_a_kept_connection_that_s3_has_just_closed(httpd: Httpd) -> None:
    """As mod_proxy does it: the client's ends too, without any answer, so that a client asks again by itself."""
    before = len(httpd.errors())
    with scripted(answer(200, NEXT), close):
        httpd.expect_error("AH01102")
        answers = converse(httpd, get() * 2)
    assert answers.endswith(NEXT) and answers.count(b"HTTP/1.1") == 1
    assert not [line for line in httpd.errors()[before:] if "usp_s3" in line]


def test_an_expectation_does_not_hide_the_end(httpd: Httpd) -> None:
    """httpd sends no chunks to who waits for "100 Continue", and then the connection's end is the body's."""
    request = closing().replace(b"Host", b"Expect: 100-continue\r\nHost")
    with scripted(chunked(PART, b"0\r\n\r\n"), first(chunked(PART), close)):
        httpd.expect_error("AH01110|AH01102")
        assert converse(httpd, request).endswith(b"\r\n0\r\n\r\n")
        assert not takes_for_whole(httpd, request)


def test_a_chunked_body_arrives_whole(httpd: Httpd) -> None:
    with scripted(chunked(PART, b"0\r\n\r\n")):
        reply = httpd.fetch("/m/film.mp4")
    assert reply.body == PART


ODD = {
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
    "cut error": (first(answer(404, b"x" * 100, length=1_000), close), 404, "AH01110"),
    "denied": (error(403, "AccessDenied"), 403, ""),
    "bad key": (error(400, "KeyTooLongError"), 400, ""),
    "login": (answer(401, b"who?", ("WWW-Authenticate", "Basic")), 502, "401"),
}


@pytest.mark.parametrize("name", ODD)
def test_answers_that_are_none_for_the_client(httpd: Httpd, name: str) -> None:
    step, status, reason = ODD[name]
    with scripted(step, then=answer(200, NEXT)):
        if name in {"endless error", "cut error"}:
            httpd.expect_error("AH01110")
        reply = httpd.fetch("/m/film.mp4")
        if status >= 500:
            httpd.wait_for_error(rf"usp_s3_wsgi: S3 answered .*{reason}.* \(GET {URL}/bucket/film.mp4, attempt 1, ")
        # The server, and the connection where it is one, go on with the next.
        assert httpd.fetch("/m/film.mp4").body == NEXT
    assert reply.status == status
    assert not {"Location", "WWW-Authenticate", "x-amz-bucket-region"} & set(reply.headers)
    assert S3_WORDS.encode() not in reply.body and b"xxx" not in reply.body
    assert reply.headers["Retry-After"] == ({"slow down": "7", "internal": "1"}.get(name))


def test_an_error_document_gets_the_clients_request(httpd: Httpd) -> None:
    """And nothing of what was sent to S3."""
    with scripted(error(403, "SignatureDoesNotMatch"), answer(200, b"sorry")) as s3:
        httpd.expect_error("usp_s3_wsgi: S3 answered 403 SignatureDoesNotMatch")
        reply = httpd.fetch("/m/with-page", authorization="Basic eDp5", cookie="a=b")
    assert reply.body == b"sorry"
    to_bucket, to_other = s3.requests
    assert to_bucket.headers["authorization"].startswith("AWS4-HMAC-SHA256")
    assert (to_other.target, to_other.headers["authorization"]) == ("/other/page", "Basic eDp5")
    assert to_other.headers["cookie"] == "a=b"
    assert not [name for name in to_other.headers if name.startswith("x-amz-")]


def test_headers_of_s3_that_pass(httpd: Httpd) -> None:
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
def test_an_http_1_0_client_gets_no_body_whose_early_end_it_could_not_tell(httpd: Httpd, step: Step) -> None:
    with scripted(step):
        answers = converse(httpd, get("1.0"))
        httpd.wait_for_error(rf"response has no Content-Length: truncation could not be detected \(GET {URL}/bucket/film.mp4, attempt 1, ")
    assert answers.startswith(b"HTTP/1.1 502 ") and b"ppp" not in answers


@pytest.mark.parametrize("mount", ["m", "filtered"])
def test_an_http_1_0_client_takes_no_body_that_was_cut_for_whole(httpd: Httpd, mount: str) -> None:
    cut = first(answer(200, PART, length=1_000_000), close)
    with scripted(cut, answer(200, PART)):
        httpd.expect_error("AH01110|AH01102")
        assert not takes_for_whole(httpd, get("1.0", f"/{mount}/film.mp4"))
        assert converse(httpd, get("1.0", f"/{mount}/film.mp4")).endswith(b"\r\n\r\n" + PART)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_not_http_is_refused(httpd: Httpd, method: str) -> None:
    """mod_proxy takes it for HTTP/0.9, and would pass it on as a 200."""
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
            r"mod_proxy got no response: 50[02], the TLS handshake failed: the certificate is not trusted, or"
        )


def test_a_host_that_is_down_fills_no_log(httpd: Httpd) -> None:
    """Each line of ours names the object; mod_proxy's own lines are mod_proxy's."""
    httpd.expect_error("AH00957|AH01114|AH00940|usp_s3_wsgi: mod_proxy got no response: 503")
    for number in range(100):
        assert httpd.fetch(f"/down/{number}.ts").status == 503
    httpd.wait_for_error(rf"usp_s3_wsgi: mod_proxy got no response: 503 \(GET {DOWN}/bucket/0.ts, attempt 1, ")
    lines = [line for line in httpd.errors() if "mod_proxy got no response" in line]
    assert len(lines) <= 10 * len(httpd.children()) < 100


def test_informational_answers_stay_here(httpd: Httpd) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nx-amz-request-id: R1\r\nSet-Cookie: a=b\r\n\r\n"
    with scripted(early + answer(200, NEXT)):
        answers = converse(httpd, get().replace(b"Host", b"Connection: close\r\nHost"))
    assert answers.startswith(b"HTTP/1.1 200 ") and answers.endswith(NEXT)
    assert b"103" not in answers and b"Set-Cookie" not in answers


def test_a_login_that_mod_proxy_overrides(httpd: Httpd) -> None:
    with scripted(answer(401, b"who?", ("WWW-Authenticate", "Basic"))):
        reply = httpd.fetch("/overridden/film.mp4")
        httpd.wait_for_error("S3 answered 401")
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (502, None)


def test_if_range_where_mod_proxy_overrides_errors(httpd: Httpd) -> None:
    """A server that ignores If-Range says 416 of an object that has become shorter."""
    with scripted(error(416, "InvalidRange", ("ETag", '"new"')), answer(200, NEXT, ("ETag", '"new"'))):
        reply = httpd.fetch("/overridden/film.mp4", range="bytes=5000-", if_range='"old"')
    assert (reply.status, reply.body) == (200, NEXT)


def test_parts_of_a_page_that_are_refused(httpd: Httpd) -> None:
    with scripted(error(404, "NoSuchKey"), answer(200, NEXT), error(403, "SlowDown")):
        httpd.expect_error("unable to include|usp_s3_wsgi: S3 answered 403 SlowDown")
        (httpd.root / "htdocs" / "page").write_text('<!--#include virtual="/m/a" -->' * 3)
        body = httpd.fetch("/page").body
    assert re.sub(rb"\[[^]]*\]", b"!", body) == b"!" + NEXT + b"!"


@pytest.mark.parametrize("stated", ["bytes */0", "bytes 0--1/0"])
def test_a_range_of_an_empty_object(httpd: Httpd, stated: str) -> None:
    """Ceph and MinIO answer with a part of no bytes."""
    nothing = answer(206, b"", ("Content-Range", stated))
    with scripted(nothing, answer(200, b"", ("ETag", '"e"'))):
        reply = httpd.fetch("/m/film.mp4", range="bytes=0-")
    assert (reply.status, reply.body, reply.headers["ETag"]) == (200, b"", '"e"')


def test_a_part_of_another_object_is_not_read_to_its_end(httpd: Httpd) -> None:
    """Swift and Ceph ignore If-Range: the whole is asked for, and gigabytes of the part are left where they are."""
    part = answer(206, PART, ("ETag", '"new"'), ("Content-Range", "bytes 5-999999999/1000000000"), length=999_999_995)
    whole = answer(200, NEXT, ("ETag", '"new"'))

    def until_it_hangs_up(connection: Connection, request: Request) -> None:
        assert connection.ended()
        connection.close()

    with scripted(first(part, until_it_hangs_up), whole) as s3:
        reply = httpd.fetch("/m/film.mp4?x", range="bytes=5-", if_range='"old"')
        assert s3.connections[0].finished.wait(WAIT)  # before the server's own end, which would end it too
    assert (reply.status, reply.body) == (200, NEXT)
    assert ["range" in request.headers for request in s3.requests] == [True, False]
