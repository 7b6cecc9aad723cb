"""``<Proxy>``: subrequests of another module that sets URL, handler, direction and Range itself (``origin.c``)."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults.server import ScriptedS3, Step, answer, close, error, first, reset
from tests.httpd.conftest import BUCKET, ONE_CHILD, PAGES, proxy_section
from tests.httpd.machine import compile_module, free_port
from tests.httpd.server import Httpd
from tests.leaks import SECRET_KEY
from tests.s3 import EmbeddedS3

SOURCE = Path(__file__).with_name("origin.c")
DATA = bytes(range(48, 123)) * 1_000
#: The port of each test's own S3.
PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"
DOWN = f"http://127.0.0.1:{free_port()}"
KEYS = f"SetEnv S3AccessKey A\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r\nSetEnv S3UseHeaders on\n"
CONFIG = f"""
<Location /origin>
  SetHandler origin
</Location>
<Proxy "{URL}/bucket/">
  {KEYS}
  ProxySet enablereuse=on keepalive=on retry=0
</Proxy>
<Proxy "{URL}/misspelt/">
  {KEYS}
  SetEnv S3UseHeader on
</Proxy>
<Proxy "{DOWN}/bucket/">
  {KEYS}
  ProxySet retry=0
</Proxy>
<Proxy "balancer://down">
  BalancerMember {DOWN}/bucket retry=60
</Proxy>
ProxyPass /balanced balancer://down
ProxyPass /misspelt {URL}/misspelt
# A rule of a <Location> makes an internal redirect.
<Location /moved>
  RewriteEngine On
  RewriteRule "^.*/moved/(.*)$" /misspelt/$1 [PT]
</Location>
"""


class Part(NamedTuple):
    """What the module gets: the bytes, the return value of the handler, and the status."""

    body: bytes
    returned: int
    status: int


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Httpd]:
    module = compile_module(SOURCE, tmp_path_factory.mktemp("origin"))
    s3.put(BUCKET, "film.mp4", DATA)
    url = f"{s3.url}/{BUCKET}/"
    signed = proxy_section(url, s3, "ProxySet enablereuse=on keepalive=on retry=0 timeout=30 ttl=300")
    rejected = proxy_section(f"{s3.url}/rejected/", s3, "SetEnv S3SecretKey wrong", "ProxySet enablereuse=on")
    with Httpd(f'LoadModule origin_module "{module}"\n{ONE_CHILD}{CONFIG}{PAGES}{signed}{rejected}') as server:
        yield server
    assert "\n".join(server.unexpected) == ""


def scripted(*script: Step, then: Step | None = None) -> ScriptedS3:
    return ScriptedS3(*script, then=then, port=PORT)


def fetch_part(httpd: Httpd, url: str, direction: str, own_range: str = "") -> Part:
    """Request a page for which the module makes one subrequest; the status of the page is always 200."""
    headers: dict[str, Any] = {"x_range": own_range} if own_range else {}
    reply = httpd.fetch("/origin/page?of=it", x_url=url, x_direction=direction, **headers)
    assert reply.status == 200
    match = re.fullmatch(rb"(.*)\|(-?\d+) (\d+)", reply.body, re.DOTALL)
    assert match is not None, reply.body
    return Part(match[1], int(match[2]), int(match[3]))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_ranges_are_signed_and_use_one_connection(httpd: Httpd, s3: EmbeddedS3, direction: str) -> None:
    url = f"{s3.url}/{BUCKET}/film.mp4"
    s3.clear()
    assert fetch_part(httpd, url, direction) == Part(DATA, 0, 200)
    for begin in (0, 700, 74_000):
        part = fetch_part(httpd, url, direction, f"bytes={begin}-{begin + 99}")
        assert part == Part(DATA[begin : begin + 100], 0, 206)
    requests = s3.requests()
    assert [entry["status"] for entry in requests] == [200, 206, 206, 206]
    assert all(entry["headers"]["authorization"] == "AWS4-HMAC-SHA256" for entry in requests)
    assert len({entry["port"] for entry in requests}) == 1


FAILURES: dict[str, tuple[Step, int, str]] = {
    "missing": (error(404, "NoSuchKey"), 404, ""),
    "denied": (error(403, "AccessDenied"), 403, ""),
    "rejected key": (error(403, "SignatureDoesNotMatch"), 502, "S3 answered 403 SignatureDoesNotMatch"),
    "no bucket": (error(404, "NoSuchBucket"), 502, "S3 answered 404 NoSuchBucket"),
    "slow down": (error(503, "SlowDown"), 503, "S3 answered 503 SlowDown"),
    "internal": (error(500, "InternalError"), 503, "S3 answered 500 InternalError"),
    "redirect": (error(301, "PermanentRedirect"), 502, "S3 answered 301 PermanentRedirect"),
    "range": (error(416, "InvalidRange"), 416, ""),
    "not http": (first(b"SSH-2.0-OpenSSH_9.2\r\n", close), 502, "response is not valid HTTP"),
    "empty chunked part": (
        answer(206, b"0\r\n\r\n", ("Transfer-Encoding", "chunked"), ("Content-Range", "bytes */0"), length=None),
        502,
        "Content-Range is not the requested range",
    ),
    "no length": (
        first(answer(200, b"part", length=None), close),
        502,
        "response has no Content-Length: truncation could not be detected",
    ),
}


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_the_status_of_the_subrequest(httpd: Httpd, name: str, direction: str) -> None:
    step, status, line = FAILURES[name]
    httpd.expect_error("AH01110|AH01102")
    with scripted(step):
        part = fetch_part(httpd, f"{URL}/bucket/film.mp4", direction, "bytes=5-9")
        if line:
            httpd.wait_for_error(line)
    assert part == Part(b"", status, status)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_requests_that_are_rejected_before_they_are_sent(httpd: Httpd, direction: str) -> None:
    with scripted():
        assert fetch_part(httpd, f"{URL}/misspelt/film.mp4", direction) == Part(b"", 500, 500)
        httpd.wait_for_error(r"S3UseHeader is not a setting: did you mean S3UseHeaders\?")
        assert fetch_part(httpd, f"{URL}/bucket/a/../film.mp4", direction) == Part(b"", 400, 400)
        assert fetch_part(httpd, f"{URL}/bucket/", direction) == Part(b"", 404, 404)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("end", [close, reset])
def test_a_bucket_without_a_response(httpd: Httpd, direction: str, end: Step) -> None:
    httpd.expect_error("AH00957|AH01114|AH00940|AH01102|usp_s3_wsgi: no response from S3; mod_proxy returned 50[023]")
    assert fetch_part(httpd, f"{DOWN}/bucket/film.mp4", direction) == Part(b"", 503, 503)
    with scripted(end):
        part = fetch_part(httpd, f"{URL}/bucket/film.mp4", direction)
    assert part == Part(b"", 502, 502)


@pytest.mark.parametrize("is_reused", [True, False])
def test_a_bucket_without_a_response_to_a_later_request_of_a_client(httpd: Httpd, is_reused: bool) -> None:
    """mod_proxy closes the client's connection. The module gets an error, not an empty response."""
    httpd.expect_error("AH01102|origin: 502|no response from S3; mod_proxy closed the client's connection")
    before = len(httpd.errors())
    page = f"GET /origin/page HTTP/1.1\r\nHost: x\r\nx-url: {URL}/bucket/film.mp4\r\nx-direction: reverse\r\n"
    earlier = page if is_reused else "GET /none HTTP/1.1\r\nHost: x\r\n"
    with scripted(*([answer(200, b"part"), close] if is_reused else [close])):
        with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
            client.sendall(f"{earlier}\r\n{page}x-note: on\r\n\r\n".encode())
            b"".join(iter(lambda: client.recv(1 << 16), b""))
    lines = httpd.errors()[before:]
    assert [line for line in lines if "origin: " in line and line.endswith("origin: 502 502")]
    assert len([line for line in lines if "USPS3" in line]) == 1


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_balancer_whose_only_member_is_down(httpd: Httpd, direction: str) -> None:
    httpd.expect_error(
        "AH00957|AH00959|AH01114|AH00940|AH01170|usp_s3_wsgi: no response from S3; mod_proxy returned 503"
    )
    for _ in range(2):  # the second request is not tried
        assert fetch_part(httpd, "balancer://down/film.mp4", direction) == Part(b"", 503, 503)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_truncated_body_of_a_subrequest(httpd: Httpd, direction: str) -> None:
    """The page looks incomplete, and the module gets the error."""
    httpd.expect_error("AH01110|AH01102|AH10412|usp_s3_wsgi: response body truncated")
    with scripted(first(answer(200, DATA, length=1_000_000), close)), pytest.raises(http.client.IncompleteRead):
        httpd.fetch("/origin/page", x_url=f"{URL}/bucket/film.mp4", x_direction=direction, x_note="on")
    httpd.wait_for_error(r"origin: 502 502$")


def test_an_internal_redirect_of_a_subrequest(httpd: Httpd) -> None:
    """httpd sends its own error page there."""
    httpd.expect_error("S3UseHeader is not a setting")
    reply = httpd.fetch("/origin/page", x_url="/moved/film.mp4", x_direction="lookup", x_note="on")
    assert b"<title>500 Internal Server Error</title>" in reply.body
    httpd.wait_for_error(r"origin: 0 500$")


def test_a_page_keeps_its_own_status(httpd: Httpd) -> None:
    httpd.expect_error(r"unable to include|S3UseHeader is not a setting|usp_s3_wsgi: |AH\d+: ")
    includes = "".join(f'<!--#include virtual="/{path}/a" -->' for path in ("misspelt", "balanced"))
    (httpd.root / "htdocs" / "page").write_text(f"<p>{includes}</p>")
    reply = httpd.fetch("/page")
    error_text = b"[an error occurred while processing this directive]"
    assert (reply.status, reply.body) == (200, b"<p>" + error_text * 2 + b"</p>")
