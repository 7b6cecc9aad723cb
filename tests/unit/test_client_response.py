"""From S3's response to the client's, function by function; tests/faults tests complete responses."""

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


class FakeConnection(S3Connection):
    """A connection on which a response is received, in pieces of at most ``piece`` bytes."""

    def __init__(self, received: bytes, piece: int = 1 << 20) -> None:
        super().__init__("s3.example", read_timeout=30)
        self.stream, self._piece = io.BytesIO(received), piece

    def receive(self, size: int) -> bytes:
        return self.stream.read(min(size, self._piece))

    def receive_within(self, seconds: float) -> bytes:
        return self.stream.read(self._piece)


def s3_response(status: int, body: bytes = b"", **headers: str) -> S3Response:
    """Return a response of S3."""
    response = read_response(FakeConnection(b"HTTP/1.1 %d X\r\n\r\n" % status + body), "GET")
    response.headers.update({name.replace("_", "-").lower(): value for name, value in headers.items()})
    return response


@pytest.mark.parametrize("status", [200, 206, 304, 412, 416])
def test_headers_that_are_never_forwarded(status: int) -> None:
    headers = {
        "Set-Cookie": "a=b", "Vary": "Origin", "Connection": "close", "Keep-Alive": "timeout=5", "Server": "x",
        "Transfer-Encoding": "chunked", "Date": "now", "WWW-Authenticate": "x", "X-Trans-Id": "x", "Location": "/",
        "Content-Security-Policy": "x", "Alt-Svc": "h3", "X-Amz-Request-Id": "x", "Trailer": "x", "Content-MD5": "x",
    }  # fmt: skip
    assert client_response.forwarded_headers(s3_response(status, b"", **headers), SETTINGS) == []


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\nb", "a\0b", "a\x7fb", "a\x0bb"])
def test_a_control_character_in_a_header_is_rejected(value: str) -> None:
    with pytest.raises(errors.BadUpstreamResponse, match="control characters: ETag"):
        client_response.forwarded_headers(s3_response(200, ETag=value), SETTINGS)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_error_bodies_are_not_those_of_s3(status: int, method: str) -> None:
    response = client_response.plain_text_response(status, (("Retry-After", "1"),), method)
    headers = dict(response.headers)
    text = b"".join(response.body)
    assert response.status_line.startswith(f"{status} ")
    assert headers["Content-Type"] == "text/plain; charset=utf-8" and headers["Retry-After"] == "1"
    assert text == (b"" if method == "HEAD" else f"{response.status_line}\n".encode())
    assert int(headers["Content-Length"]) == len(f"{response.status_line}\n")


@pytest.mark.parametrize(
    "line",
    ["413 Content Too Large", "414 URI Too Long", "416 Range Not Satisfiable", "422 Unprocessable Content"],
)
def test_phrases_are_those_of_rfc_9110_with_every_python(line: str) -> None:
    response = client_response.plain_text_response(int(line[:3]), (), "GET")
    assert response.status_line == line
    assert b"".join(response.body) == f"{line}\n".encode()


@pytest.mark.parametrize("status", range(400, 600))
def test_every_error_status_has_a_status_line(status: int) -> None:
    assert re.fullmatch(rf"{status} [A-Z].+", client_response.plain_text_response(status, (), "GET").status_line)
    is_registered = any(status == registered for registered in HTTPStatus)
    is_unknown = client_response.status_line(status) in {f"{status} Client Error", f"{status} Server Error"}
    assert is_unknown is not is_registered
