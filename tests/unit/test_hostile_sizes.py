"""Hostile text at the largest size that it can come in: what looks through it takes time in proportion to its length.

Each holds the interpreter's lock while it does, so that every other request of the process waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.unit.test_client_response import SETTINGS, Wire, from_s3
from usp_s3_wsgi.config import bucket_url, proxy_set
from usp_s3_wsgi.configtest import apache_syntax
from usp_s3_wsgi.gateway import client_request, client_response, error_document, operator_settings
from usp_s3_wsgi.observability import error_log
from usp_s3_wsgi.proxy.proxied_request import ProxiedRequest, split_url
from usp_s3_wsgi.s3 import byte_range, error_response, object_request
from usp_s3_wsgi.transport.http_response import S3Response, read_response

#: What error_document.py reads of a document, and http_response.py of a header.
LARGEST = 65_536
#: LimitRequestLine and LimitRequestFieldSize.
LINE = 8190
#: Seconds, on a machine that others use too; quadratic time is far beyond.
BOUND = 1.0


def filled(unit: str, size: int = LARGEST, before: str = "", after: str = "") -> str:
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


UNITS = [
    " ", "\n", "\t \n", "\u2003", "<", ">", "</", "<Code>", "<Code> ", "<Code>x", "<Code>\n\n", "</Code>", "<Code></",
    "<Code>x<", "<Code><Code/>", "<C", "<Code", "<RequestId> ", "<Region>a", "a", "a ", '<Code a="', "&lt;", "<!--",
    "<![CDATA[", "\0", "\ufffd",
]  # fmt: skip
DOCUMENTS = [
    filled(unit, before=start, after=end) for unit in UNITS for start in ("", "<Code>") for end in ("", "x</Code>")
]
#: Runs of what patterns repeat, and what may break them off at the end.
RUNS = [
    " ", "\t", ",", "-", ":", "+", "(", ")", "((", "()", "\\", "\\(", '"', "9", "0", "a", "GMT", ", ", " ,", "- ", "1:",
    "Mon, ", "a-", "=", "/", "bytes=0-", "0-0,", "W/",
]  # fmt: skip
VALUES = [
    filled(run, before=start, after=end)
    for run in RUNS
    for start in ("", "Mon, 1 Jan 2026 00:00:00 ")
    for end in ("", "x")
]
PATHS = [
    filled(unit, LINE, "/", end)
    for unit in ("/", "//", "a", "a/", "/a", "%2f", "%2F", "%", "%2", "./", "/.", "%2e", "/%2e", "a//", "//a", "?",
        "&", "a=&", "versionId=", "+")
    for end in ("", "%", "/..", "\0")
]  # fmt: skip
HOSTS = [
    filled(unit, LINE, "http://", end)
    for unit in ("s3.", "s3-", "s3.a.", "a.", "a", "-a", "s3.aa-b", "amazonaws.com.", "s3.amazonaws.com.",
        "s3.aa-bb-1.", ":", "[", "@", ".")
    for end in ("", "!", "/", ".amazonaws.com", ".s3", "_")
]  # fmt: skip


def quietly(function: Callable[..., object], *arguments: Any) -> None:
    with suppress(Exception):  # what it says is for other tests
        function(*arguments)


def header(text: bytes, piece: int = 1 << 20) -> S3Response:
    return read_response(Wire(text, piece), "GET", lambda connection: None)


def body(text: bytes) -> None:
    answer = header(b"HTTP/1.1 403 X\r\nTransfer-Encoding: chunked\r\n\r\n" + text)
    error_document.read(answer, 30)


def proxied(path: str) -> None:
    host = "https://b.s3.amazonaws.com"
    ProxiedRequest(None, (), "GET", f"{host}{path}?{path}", path, False, "/media").for_bucket(SETTINGS)
    ProxiedRequest(None, (), "GET", f"{host}/a", path, False, "").for_bucket(SETTINGS)


def split_proxied(url: str) -> None:
    quietly(split_url, url)


def environ(path: str) -> dict[str, str]:
    asked, _, query = path.partition("?")
    return {
        "REQUEST_METHOD": "GET", "REQUEST_URI": f"/media{path}", "SCRIPT_NAME": "/media", "PATH_INFO": asked,
        "QUERY_STRING": query or path,
    }  # fmt: skip


def of_client(path: str) -> None:
    quietly(lambda: client_request.from_environ(environ(path)).for_bucket(SETTINGS))
    quietly(client_request.from_environ, environ(path), f"/media{path}")
    quietly(client_request.is_direct, environ(path))
    quietly(object_request.allowed_parameters, path, frozenset({"versionId"}))


def of_values(value: str) -> None:
    """One value as each header that this package reads: of S3's answer, and of the client's request."""
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
    answer = dict.fromkeys(names, value)
    error_response.parse(403, answer, "")
    quietly(byte_range.must_refetch_whole, 206, answer, value, value)
    for status in (200, 206):
        wire = from_s3(status)
        wire.headers.update({"content-range": value})
        quietly(byte_range.validate, status, wire.headers, None, value[:LINE], False)
        wire.headers.update(answer)
        quietly(getattr, wire, "content_length")
        quietly(byte_range.validate, status, wire.headers, None, value[:LINE], False)
        quietly(client_response.object_headers, wire, SETTINGS)
    quietly(header, f"HTTP/1.1 200 X\r\na: {value}\r\n{value}\r\n\r\n".encode("latin-1"))
    quietly(header, f"HTTP/1.1 200{value}\r\n\r\n".encode("latin-1"))
    quietly(error_log.escape_controls, value)


def of_wire(text: bytes) -> None:
    quietly(header, text)
    quietly(header, b"HTTP/1.1 200 OK\r\n" + text)
    quietly(body, text)
    quietly(body, b"1\r\nx\r\n0\r\n" + text)


WIRES = [
    filled(unit, 2 * LARGEST).encode("latin-1")
    for unit in (
        "\r", "\n", "\r\r\n", "\n\r", "a:\n", "a:b\r\n", ":\n", " \n", "HTTP/1.1 100 \r\n\r\n", "HTTP/1.1 ",
            "HTTP/1.1 200", "0", "f", "0 ", "1;", "0;a\r\n",
        "1\r\nx\r\n", "1;a=b\n", "1 \t", "1\r\nx\n", ";", " ", "x: y", "x",
    )
]  # fmt: skip
CASES: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
    "error documents": (lambda text: error_response.parse(403, {}, text), DOCUMENTS),
    "dates and other values": (of_values, VALUES),
    "the wire": (of_wire, WIRES),
    "a header in small pieces": (lambda text: quietly(header, text, 64), WIRES),
    "paths and queries of clients": (of_client, PATHS),
    "paths that mod_proxy sends": (lambda path: quietly(proxied, path), PATHS),
    "URLs that mod_proxy sends": (
        lambda url: quietly(split_url, url),
        [*HOSTS, *PATHS],
    ),
    "buckets' URLs": (lambda url: quietly(bucket_url.parse, url), HOSTS),
    "regions of hosts": (
        lambda url: quietly(
            lambda: bucket_url.parse(url).host_includes_bucket and bucket_url.parse(url).in_region("r")
        ),
        HOSTS,
    ),
    "what usp_s3_module hands over": (lambda text: quietly(operator_settings._netstring, text, 0), VALUES),
    "S3ProxySet": (lambda text: quietly(proxy_set.parse, text), [value[:LINE] for value in VALUES]),
    "lines of a configuration": (
        lambda text: quietly(apache_syntax.parse, f"SetEnv {text}\n"),
        [value[:LINE] for value in [*VALUES, *DOCUMENTS, filled('"\\'), filled("\\", before='"'), filled("\\\n")]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_time_is_in_proportion_to_the_length(case: str) -> None:
    function, texts = CASES[case]
    for text in texts:
        begun = time.process_time()
        function(text)
        spent = time.process_time() - begun
        assert spent < BOUND, (text[:80], spent)
