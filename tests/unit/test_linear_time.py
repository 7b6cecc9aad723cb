"""Parsers take linear time for hostile input of the largest possible size.

A parser holds the interpreter's lock while it runs, so all other requests of the process wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest

from tests import wsgi
from tests.unit.test_client_response import SETTINGS, FakeConnection, s3_response
from usp_s3_wsgi.config import bucket_url, proxy_set
from usp_s3_wsgi.configtest import apache_syntax
from usp_s3_wsgi.gateway import client_request, client_response, error_document, httpd_module, operator_settings
from usp_s3_wsgi.observability import error_log
from usp_s3_wsgi.proxy.proxied_request import ProxiedRequest, split_url
from usp_s3_wsgi.s3 import byte_range, error_response, object_request
from usp_s3_wsgi.transport.http_response import S3Response, read_response

#: The bytes that error_document.py reads of a document, and http_response.py of a header.
MAX_SIZE = 65_536
#: LimitRequestLine and LimitRequestFieldSize.
MAX_LINE_SIZE = 8190
#: Seconds, on a busy machine; quadratic time would take much longer.
MAX_SECONDS = 1.0


def repeat(unit: str, size: int = MAX_SIZE, before: str = "", after: str = "") -> str:
    """Repeat a text up to a size."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


UNITS = [
    " ", "\n", "\t \n", "\u2003", "<", ">", "</", "<Code>", "<Code> ", "<Code>x", "<Code>\n\n", "</Code>", "<Code></",
    "<Code>x<", "<Code><Code/>", "<C", "<Code", "<RequestId> ", "<Region>a", "a", "a ", '<Code a="', "&lt;", "<!--",
    "<![CDATA[", "\0", "\ufffd",
]  # fmt: skip
DOCUMENTS = [
    repeat(unit, before=start, after=end) for unit in UNITS for start in ("", "<Code>") for end in ("", "x</Code>")
]
#: What the package's regular expressions repeat. In VALUES, another character at the end makes the match fail.
REPEATED_TEXTS = [
    " ", "\t", ",", "-", ":", "+", "(", ")", "((", "()", "\\", "\\(", '"', "9", "0", "a", "GMT", ", ", " ,", "- ", "1:",
    "Mon, ", "a-", "=", "/", "bytes=0-", "0-0,", "W/",
]  # fmt: skip
VALUES = [
    repeat(text, before=start, after=end)
    for text in REPEATED_TEXTS
    for start in ("", "Mon, 1 Jan 2026 00:00:00 ")
    for end in ("", "x")
]
PATHS = [
    repeat(unit, MAX_LINE_SIZE, "/", end)
    for unit in ("/", "//", "a", "a/", "/a", "%2f", "%2F", "%", "%2", "./", "/.", "%2e", "/%2e", "a//", "//a", "?",
        "&", "a=&", "versionId=", "+")
    for end in ("", "%", "/..", "\0")
]  # fmt: skip
HOSTS = [
    repeat(unit, MAX_LINE_SIZE, "http://", end)
    for unit in ("s3.", "s3-", "s3.a.", "a.", "a", "-a", "s3.aa-b", "amazonaws.com.", "s3.amazonaws.com.",
        "s3.aa-bb-1.", ":", "[", "@", ".")
    for end in ("", "!", "/", ".amazonaws.com", ".s3", "_")
]  # fmt: skip


def ignore_errors(function: Callable[..., object], *arguments: Any) -> None:
    with suppress(Exception):  # other tests check the exceptions
        function(*arguments)


def read_header(text: bytes, piece: int = 1 << 20) -> S3Response:
    return read_response(FakeConnection(text, piece), "GET")


def parse_module_variable(text: str) -> None:
    with patch.object(httpd_module, "PROOF", wsgi.PROOF):
        ignore_errors(
            operator_settings.from_environ, wsgi.environ(USP_S3_SETTINGS=wsgi.PROOF + wsgi.METRICS_TOKEN + text)
        )


def read_chunked_body(text: bytes) -> None:
    response = read_header(b"HTTP/1.1 403 X\r\nTransfer-Encoding: chunked\r\n\r\n" + text)
    error_document.read(response, 30)


def sign_proxied_path(path: str) -> None:
    url = f"https://b.s3.amazonaws.com{path}?{path}"
    ProxiedRequest(None, (), "GET", url, path, False, "/media").for_bucket(*split_url(url)[1:], SETTINGS)
    ProxiedRequest(None, (), "GET", url, path, False, "").for_bucket("/a", "", SETTINGS)


def split_proxied_url(url: str) -> None:
    ignore_errors(split_url, url)


def environ(path: str) -> dict[str, str]:
    path_info, _, query = path.partition("?")
    return {
        "REQUEST_METHOD": "GET", "REQUEST_URI": f"/media{path}", "SCRIPT_NAME": "/media", "PATH_INFO": path_info,
        "QUERY_STRING": query or path,
    }  # fmt: skip


def parse_client_path(path: str) -> None:
    ignore_errors(lambda: client_request.from_environ(environ(path)).for_bucket(SETTINGS))
    ignore_errors(client_request.from_environ, environ(path), f"/media{path}")
    ignore_errors(client_request.is_direct, environ(path))
    ignore_errors(object_request.allowed_parameters, path, frozenset({"versionId"}))


def parse_header_values(value: str) -> None:
    """Parse a value as each header that the package reads, of S3's response and of the client's request."""
    names = (
        "date",
        "retry-after",
        "content-range",
        "x-amz-request-id",
        "x-amz-bucket-region",
        "content-length",
        "transfer-encoding",
        "connection",
        "etag",
        "last-modified",
        "content-type",
    )
    headers = dict.fromkeys(names, value)
    error_response.parse(403, headers, "")
    ignore_errors(byte_range.must_refetch_whole, 206, headers, value, value)
    for status in (200, 206):
        response = s3_response(status)
        response.headers.update({"content-range": value})
        ignore_errors(byte_range.validate, status, response.headers, None, value[:MAX_LINE_SIZE], False)
        response.headers.update(headers)
        ignore_errors(getattr, response, "content_length")
        ignore_errors(byte_range.validate, status, response.headers, None, value[:MAX_LINE_SIZE], False)
        ignore_errors(client_response.object_headers, response, SETTINGS)
    ignore_errors(read_header, f"HTTP/1.1 200 X\r\na: {value}\r\n{value}\r\n\r\n".encode("latin-1"))
    ignore_errors(read_header, f"HTTP/1.1 200{value}\r\n\r\n".encode("latin-1"))
    ignore_errors(error_log.escape_controls, value)


def parse_response(text: bytes) -> None:
    ignore_errors(read_header, text)
    ignore_errors(read_header, b"HTTP/1.1 200 OK\r\n" + text)
    ignore_errors(read_chunked_body, text)
    ignore_errors(read_chunked_body, b"1\r\nx\r\n0\r\n" + text)


RESPONSES = [
    repeat(unit, 2 * MAX_SIZE).encode("latin-1")
    for unit in (
        "\r", "\n", "\r\r\n", "\n\r", "a:\n", "a:b\r\n", ":\n", " \n", "HTTP/1.1 100 \r\n\r\n", "HTTP/1.1 ",
            "HTTP/1.1 200", "0", "f", "0 ", "1;", "0;a\r\n",
        "1\r\nx\r\n", "1;a=b\n", "1 \t", "1\r\nx\n", ";", " ", "x: y", "x",
    )
]  # fmt: skip
CASES: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
    "error documents": (lambda text: error_response.parse(403, {}, text), DOCUMENTS),
    "header values": (parse_header_values, VALUES),
    "responses": (parse_response, RESPONSES),
    "responses in small pieces": (lambda text: ignore_errors(read_header, text, 64), RESPONSES),
    "paths and queries of clients": (parse_client_path, PATHS),
    "paths that mod_proxy sends": (lambda path: ignore_errors(sign_proxied_path, path), PATHS),
    "URLs that mod_proxy sends": (split_proxied_url, [*HOSTS, *PATHS]),
    "buckets' URLs": (lambda url: ignore_errors(bucket_url.parse, url), HOSTS),
    "regions of hosts": (
        lambda url: ignore_errors(
            lambda: bucket_url.parse(url).host_includes_bucket and bucket_url.parse(url).in_region("r")
        ),
        HOSTS,
    ),
    "the variable of usp_s3_module": (parse_module_variable, VALUES),
    "S3ProxySet": (lambda text: ignore_errors(proxy_set.parse, text), [value[:MAX_LINE_SIZE] for value in VALUES]),
    "lines of a configuration": (
        lambda text: ignore_errors(apache_syntax.parse, f"SetEnv {text}\n"),
        [
            value[:MAX_LINE_SIZE]
            for value in [*VALUES, *DOCUMENTS, repeat('"\\'), repeat("\\", before='"'), repeat("\\\n")]
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_parsing_takes_linear_time(case: str) -> None:
    function, texts = CASES[case]
    for text in texts:
        start = time.process_time()
        function(text)
        seconds = time.process_time() - start
        assert seconds < MAX_SECONDS, (text[:80], seconds)
