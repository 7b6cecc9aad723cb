"""From S3's answer to the client's, function by function; whole answers are in tests/faults/test_answers.py."""

from __future__ import annotations

import io

import pytest
import urllib3

from usp_s3_wsgi import errors, response
from usp_s3_wsgi.bucket_url import parse as bucket_url
from usp_s3_wsgi.settings import Settings

SETTINGS = Settings(bucket_url("https://b.s3.amazonaws.com/"))


def from_s3(status: int, body: bytes = b"", **headers: str) -> urllib3.HTTPResponse:
    """An answer of S3, as urllib3 gives it."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib3.HTTPResponse(
        io.BytesIO(body), names, status, preload_content=False, decode_content=False, request_method="GET"
    )


@pytest.mark.parametrize("status", [200, 206, 304, 412, 416])
def test_what_is_never_passed_on(status: int) -> None:
    never = {
        "Set-Cookie": "a=b", "Vary": "Origin", "Connection": "close", "Keep-Alive": "timeout=5", "Server": "x",
        "Transfer-Encoding": "chunked", "Date": "now", "WWW-Authenticate": "x", "X-Trans-Id": "x", "Location": "/",
        "Content-Security-Policy": "x", "Alt-Svc": "h3", "X-Amz-Request-Id": "x", "Trailer": "x", "Content-MD5": "x",
    }  # fmt: skip
    answer = urllib3.HTTPResponse(io.BytesIO(), never, status, preload_content=False)
    assert response.passed_on(answer, SETTINGS) == []


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\nb", "a\0b", "a\x7fb", "a\x0bb"])
def test_a_header_that_would_split_the_answer_is_refused(value: str) -> None:
    with pytest.raises(errors.UpstreamRefused, match="control characters: ETag"):
        response.passed_on(from_s3(200, ETag=value), SETTINGS)


def test_such_a_header_that_is_not_passed_on_does_no_harm() -> None:
    assert response.passed_on(from_s3(200, Server="a\nb"), SETTINGS) == []


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_error_bodies_are_our_own(status: int, method: str) -> None:
    answer = response.plain(status, (("Retry-After", "1"),), method)
    headers = dict(answer.headers)
    text = b"".join(answer.body)
    assert answer.status_line.startswith(f"{status} ")
    assert headers["Content-Type"] == "text/plain; charset=utf-8" and headers["Retry-After"] == "1"
    assert text == (b"" if method == "HEAD" else f"{answer.status_line}\n".encode())
    assert int(headers["Content-Length"]) == len(f"{answer.status_line}\n")
