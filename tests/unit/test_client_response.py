"""From S3's answer to the client's, function by function; whole answers are in tests/faults/test_answers.py."""

from __future__ import annotations

import io
import re
from http import HTTPStatus

import pytest

from usp_s3_wsgi import errors
from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.gateway import client_response
from usp_s3_wsgi.transport.connection import S3Connection
from usp_s3_wsgi.transport.http_response import S3Response, read_response

SETTINGS = Settings(bucket_url("https://b.s3.amazonaws.com/"))


class Wire(S3Connection):
    """A connection on which an answer comes in, in pieces of some size."""

    def __init__(self, received: bytes, piece: int = 1 << 20) -> None:
        super().__init__("s3.example")
        self.stream, self._piece = io.BytesIO(received), piece

    def receive(self, size: int) -> bytes:
        return self.stream.read(min(size, self._piece))

    def receive_within(self, seconds: float) -> bytes:
        return self.stream.read(self._piece)


def from_s3(status: int, body: bytes = b"", **headers: str) -> S3Response:
    """An answer of S3."""
    response = read_response(Wire(b"HTTP/1.1 %d X\r\n\r\n" % status + body), "GET", lambda connection: None)
    response.headers.update({name.replace("_", "-").lower(): value for name, value in headers.items()})
    return response


@pytest.mark.parametrize("status", [200, 206, 304, 412, 416])
def test_what_is_never_passed_on(status: int) -> None:
    never = {
        "Set-Cookie": "a=b", "Vary": "Origin", "Connection": "close", "Keep-Alive": "timeout=5", "Server": "x",
        "Transfer-Encoding": "chunked", "Date": "now", "WWW-Authenticate": "x", "X-Trans-Id": "x", "Location": "/",
        "Content-Security-Policy": "x", "Alt-Svc": "h3", "X-Amz-Request-Id": "x", "Trailer": "x", "Content-MD5": "x",
    }  # fmt: skip
    assert client_response.forwarded_headers(from_s3(status, b"", **never), SETTINGS) == []


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\nb", "a\0b", "a\x7fb", "a\x0bb"])
def test_a_header_that_would_split_the_answer_is_refused(value: str) -> None:
    with pytest.raises(errors.BadUpstreamResponse, match="control characters: ETag"):
        client_response.forwarded_headers(from_s3(200, ETag=value), SETTINGS)


def test_such_a_header_that_is_not_passed_on_does_no_harm() -> None:
    assert client_response.forwarded_headers(from_s3(200, Server="a\nb"), SETTINGS) == []


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_error_bodies_are_our_own(status: int, method: str) -> None:
    answer = client_response.short_response(status, (("Retry-After", "1"),), method)
    headers = dict(answer.headers)
    text = b"".join(answer.body)
    assert answer.status_line.startswith(f"{status} ")
    assert headers["Content-Type"] == "text/plain; charset=utf-8" and headers["Retry-After"] == "1"
    assert text == (b"" if method == "HEAD" else f"{answer.status_line}\n".encode())
    assert int(headers["Content-Length"]) == len(f"{answer.status_line}\n")


@pytest.mark.parametrize(
    "line",
    ["413 Content Too Large", "414 URI Too Long", "416 Range Not Satisfiable", "422 Unprocessable Content"],
)
def test_phrases_are_those_of_rfc_9110_under_every_python(line: str) -> None:
    answer = client_response.short_response(int(line[:3]), (), "GET")
    assert answer.status_line == line
    assert b"".join(answer.body) == f"{line}\n".encode()


@pytest.mark.parametrize("status", range(400, 600))
def test_every_error_that_an_error_document_can_be_of_has_a_status_line(status: int) -> None:
    assert re.fullmatch(rf"{status} [A-Z].+", client_response.short_response(status, (), "GET").status_line)
    if not any(status == known for known in HTTPStatus):
        assert client_response.status_line(status) in {f"{status} Client Error", f"{status} Server Error"}
    elif status != HTTPStatus.IM_A_TEAPOT:  # registered as unused
        assert client_response.status_line(status) not in {f"{status} Client Error", f"{status} Server Error"}
