"""Unusual responses of real servers and intermediaries, and unusual requests of clients.

Each case is what S3 sends, byte by byte, and what the client must get. One table for the gateway in httpd's processes,
the gateway in daemon mode, and ``<Proxy>``: all three must respond in the same way.
"""

from __future__ import annotations

import gzip
import random
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, close, error, first, head_of, stall
from tests.httpd.conftest import ONE_CHILD
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.httpd.test_truncation import TRACEBACK
from tests.leaks import SECRET_KEY

PORT = free_port()
#: Log lines are limited by host: the cases are distributed among these.
HOSTS = [f"127.0.0.{number}" for number in range(1, 17)]
KEYS = f"""
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region r
  SetEnv S3UseHeaders on
  SetEnv S3PassHeaders x-amz-meta-
  SetEnv S3PassQuery "versionId partNumber"
"""
GZIP = "  SetEnv S3PassAcceptEncoding on\n"
DENIED = "  SetEnv S3DeniedStatus 404\n"
WAYS = ("gateway", "daemon", "proxy")
#: Those that forward chunked bodies: in daemon mode a truncated one would look complete.
CHUNKED_WAYS = ("gateway", "proxy")


def mount(way: str, bucket: str, host: str, lines: str = "") -> str:
    """The configuration of /WAY-BUCKET-HOST."""
    url, path = f"http://{host}:{PORT}/{bucket}", f"/{way}-{bucket}-{host}"
    if way == "proxy":
        lines += "  ProxySet responsefieldsize=65536\n" if bucket == "large" else ""
        return f'ProxyPass {path} {url}\n<Proxy "{url}/">{KEYS}{lines}  ProxySet retry=0\n</Proxy>\n'
    daemon = "process-group=s3 application-group=%{GLOBAL}" if way == "daemon" else ""
    settings = f"{KEYS}{lines}  SetEnv S3BucketURL {url}/\n  SetEnv S3Retries 0\n"
    return f"WSGIScriptAlias {path} ${{USP_S3_WSGI}} {daemon}\n<Location {path}>{settings}</Location>\n"


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    daemon = "WSGIDaemonProcess s3 python-home=${USP_S3_PYTHON_HOME} threads=4\n"
    buckets = {"bucket": "", "gzip": GZIP, "denied": DENIED, "large": ""}
    mounts = [mount(way, bucket, host, lines) for way in WAYS for bucket, lines in buckets.items() for host in HOSTS]
    config = daemon + "".join(mounts)
    with Httpd(config + ONE_CHILD) as server:
        server.expect_error(f"AH01110|AH01102|AH00898|AH10124|AH01106|{TRACEBACK}")
        yield server
    assert "\n".join(server.unexpected) == ""


@dataclass(frozen=True)
class Case:
    """``s3``: the bucket's responses, in order. ``status`` and ``body``: the client's; None: httpd's own page, or none.

    ``log``: a pattern of the only log line; empty: there is no line. ``send``: headers of the client's request.
    ``headers``: those that the client must get, or must not get (None). ``forwarded``: the same for S3 and its last
    request. ``error_of_get``: S3's response to the GET with which the gateway gets the error code after a HEAD.
    """

    s3: tuple[Step, ...]
    status: int
    body: bytes | None = None
    log: str = ""
    method: str = "GET"
    send: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    forwarded: Mapping[str, str | None] = field(default_factory=dict)
    bucket: str = "bucket"
    error_of_get: Step | None = None
    ways: tuple[str, ...] = WAYS


HELLO = answer(200, b"hello")
WHOLE = bytes(range(100))
PART = (("Content-Range", "bytes 5-9/100"),)
PART_FIELD = "Content-Range: bytes 5-9/100"
TRUNCATED = b"the body must end abnormally"
# What the log says of a response that is rejected.
NOT_THE_RANGE = "Content-Range is not the requested range"
INVALID_RANGE = "partial response without a valid Content-Range"
# The gateway, <Proxy>.
SEVERAL_RANGES = f"{INVALID_RANGE}|response has more than one Content-Range"
CONTRADICTING_LENGTH = "Content-Length does not match Content-Range"
UNEXPECTED_PART = "unexpected partial response: no range was requested"
# The gateway (with llhttp's words, or its own), <Proxy>.
INVALID_LENGTH = "response (header is not valid HTTP: .*|has an invalid )Content-Length"
SEVERAL_LENGTHS = "response (header is not valid HTTP: Duplicate|has more than one) Content-Length"
NOT_CHUNKED_ALONE = "response has a Transfer-Encoding other than chunked alone"
NOT_HTTP = (
    "response (header is not valid HTTP: .*|header is larger than 64 KiB|is not valid HTTP)"  # the gateway, <Proxy>
)


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    """A response header with these lines."""
    return "\r\n".join([status, "Content-Type: video/mp4", *lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """A body of one chunk."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


def ranged(value: str, **more: str) -> dict[str, str]:
    return {"Range": value, **{name.replace("_", "-"): text for name, text in more.items()}}


def partial_responses_with_200() -> Iterator[tuple[str, Case]]:
    part = answer(200, WHOLE[5:10], *PART)
    part_headers = {"Content-Range": "bytes 5-9/100", "Content-Length": "5"}
    yield "the requested part", Case((part,), 206, WHOLE[5:10], send=ranged("bytes=5-9"), headers=part_headers)
    yield "to the end", Case(
        (answer(200, WHOLE[90:], ("Content-Range", "bytes 90-99/100")),), 206, WHOLE[90:], send=ranged("bytes=90-"),
    )  # fmt: skip
    yield "suffix", Case(
        (answer(200, WHOLE[90:], ("Content-Range", "bytes 90-99/100")),), 206, WHOLE[90:], send=ranged("bytes=-10"),
    )  # fmt: skip
    yield "all of it", Case(
        (answer(200, WHOLE, ("Content-Range", "bytes 0-99/100")),), 206, WHOLE, send=ranged("bytes=0-"),
        headers={"Content-Range": "bytes 0-99/100"},
    )  # fmt: skip
    yield "another part", Case((part,), 502, log=NOT_THE_RANGE, send=ranged("bytes=0-4"))
    yield (
        "another length",
        Case((answer(200, WHOLE[5:9], *PART),), 502, log=CONTRADICTING_LENGTH, send=ranged("bytes=5-9")),
    )
    yield "beyond the object", Case(
        (answer(200, b"abcde", ("Content-Range", "bytes 5-9/8")),), 502, log=NOT_THE_RANGE, send=ranged("bytes=5-9"),
    )  # fmt: skip
    yield "no range requested", Case((part,), 502, log=UNEXPECTED_PART)
    yield "an invalid Content-Range", Case(
        (answer(200, WHOLE[5:10], ("Content-Range", "bytes 5-nine/100")),), 502, log=INVALID_RANGE,
        send=ranged("bytes=5-9"),
    )  # fmt: skip
    yield "two Content-Ranges", Case(
        (answer(200, WHOLE[5:10], *PART, ("Content-Range", "bytes 0-4/100")),), 502, log=SEVERAL_RANGES,
        send=ranged("bytes=5-9"),
    )  # fmt: skip
    yield "two Content-Ranges of the whole object", Case(
        (answer(200, WHOLE, ("Content-Range", "bytes 0-99/100"), ("Content-Range", "bytes 0-99/100")),), 502,
        log=f"{UNEXPECTED_PART}|{SEVERAL_RANGES}",
    )  # fmt: skip
    yield "two Content-Ranges of a missing object", Case(
        (answer(404, b"", ("Content-Range", "bytes */1"), ("Content-Range", "bytes */2")),), 404,
        headers={"Content-Range": None},
    )  # fmt: skip
    yield "a stale If-Range", Case(
        (answer(200, WHOLE[5:10], *PART, ("ETag", '"new"')), answer(200, WHOLE, ("ETag", '"new"'))), 200, WHOLE,
        send=ranged("bytes=5-9", If_Range='"old"'), headers={"Content-Range": None},
    )  # fmt: skip
    yield "a current If-Range", Case(
        (answer(200, WHOLE[5:10], *PART, ("ETag", '"new"')),), 206, WHOLE[5:10],
        send=ranged("bytes=5-9", If_Range='"new"'),
    )  # fmt: skip
    yield "a range of an empty object", Case(
        (answer(200, b"", ("Content-Range", "bytes */0")), answer(200, b"")), 200, b"", send=ranged("bytes=0-"),
    )  # fmt: skip
    yield "a range that is ignored", Case((answer(200, WHOLE * 1000),), 200, WHOLE * 1000, send=ranged("bytes=5-9"))
    chunks = (
        head("Transfer-Encoding: chunked", "Content-Range: bytes 5-9/100") + b"5\r\n" + WHOLE[5:10] + b"\r\n0\r\n\r\n"
    )
    yield "in chunks", Case((chunks,), 206, WHOLE[5:10], send=ranged("bytes=5-9"), ways=CHUNKED_WAYS)
    several = b"--x\r\nContent-Range: bytes 0-0/100\r\n\r\n\x00\r\n--x--\r\n"
    yield "several", Case(
        (answer(200, several, ("Content-Type", "multipart/byteranges; boundary=x")),), 206, several,
        send=ranged("bytes=0-0,5-5"),
    )  # fmt: skip
    yield "a part by number", Case((answer(200, WHOLE[5:10], *PART),), 206, WHOLE[5:10], query="?partNumber=2")


def endless(connection: Connection, request: Request) -> None:
    """A part that continues after its end until the connection is closed."""
    connection.socket.sendall(head("Transfer-Encoding: chunked", PART_FIELD, status="HTTP/1.1 206 X"))
    deadline = time.monotonic() + 8
    with suppress(OSError):
        while time.monotonic() < deadline:
            connection.socket.sendall(b"5\r\n" + WHOLE[5:10] + b"\r\n")
            time.sleep(0.01)
    assert time.monotonic() < deadline, "it was read beyond its end"
    connection.close()


def parts() -> Iterator[tuple[str, Case]]:
    """Responses with status 206."""
    range_5_9 = ranged("bytes=5-9")
    yield "good", Case((answer(206, WHOLE[5:10], *PART),), 206, WHOLE[5:10], send=range_5_9)
    for name, content_range, data, line in [
        ("another", "bytes 0-4/100", WHOLE[:5], NOT_THE_RANGE),
        ("larger", "bytes 5-10/100", WHOLE[5:11], NOT_THE_RANGE),
        ("of another length", "bytes 5-9/100", WHOLE[5:9], CONTRADICTING_LENGTH),
        ("beyond the object", "bytes 5-9/9", WHOLE[5:10], NOT_THE_RANGE),
        ("without its range", "", WHOLE[5:10], INVALID_RANGE),
        ("of other units", "octets 5-9/100", WHOLE[5:10], INVALID_RANGE),
    ]:
        fields = [("Content-Range", content_range)] if content_range else []
        yield name, Case((answer(206, data, *fields),), 502, log=line, send=range_5_9)
    for name, other in [
        ("the same twice", "5-9"),
        ("two, the first one right", "0-4"),
        ("two, the last one right", ""),
    ]:
        pair = [PART[0], ("Content-Range", f"bytes {other or '0-4'}/100")]
        yield name, Case(
            (answer(206, WHOLE[5:10], *(pair if other else reversed(pair))),), 502, log=SEVERAL_RANGES, send=range_5_9,
        )  # fmt: skip
    yield (
        "not requested",
        Case((answer(206, WHOLE[5:10], *PART),), 502, log=UNEXPECTED_PART),
    )
    yield "shorter, at the end", Case(
        (answer(206, WHOLE[95:], ("Content-Range", "bytes 95-99/100")),), 206, WHOLE[95:], send=ranged("bytes=95-200"),
    )  # fmt: skip
    yield "an unknown total", Case(
        (answer(206, WHOLE[5:10], ("Content-Range", "bytes 5-9/*")),), 206, WHOLE[5:10], send=range_5_9,
    )  # fmt: skip
    yield "another suffix", Case(
        (answer(206, WHOLE[5:10], *PART),), 502, log=NOT_THE_RANGE, send=ranged("bytes=-5"),
    )  # fmt: skip
    yield "units in capitals", Case(
        (answer(206, WHOLE[5:10], ("Content-Range", "Bytes 5-9/100")),), 206, WHOLE[5:10], send=ranged("BYTES=5-9"),
    )  # fmt: skip
    yield "another one, in capitals", Case(
        (answer(206, WHOLE[:5], ("Content-Range", "BYTES 0-4/100")),), 502, log=NOT_THE_RANGE, send=ranged("Bytes=5-9"),
    )  # fmt: skip
    yield "another one, with spaces", Case(
        (answer(206, WHOLE[:5], ("Content-Range", "bytes 0-4/100")),), 502, log=NOT_THE_RANGE,
        send=ranged("bytes= 5-9"),
    )  # fmt: skip
    for name, data, line in (
        ("shorter", WHOLE[5:8], "USPS3050[12]: .*response body truncated"),
        ("longer", WHOLE[5:12], "USPS30502: .*S3 sent more bytes than the Content-Range states"),
    ):
        chunks = head("Transfer-Encoding: chunked", PART_FIELD, status="HTTP/1.1 206 X") + chunk(data)
        yield (
            f"in chunks, {name}",
            Case((chunks,), 206, TRUNCATED, log=line, send=range_5_9, ways=CHUNKED_WAYS),
        )
    yield (
        "in chunks without end",
        Case((endless,), 206, TRUNCATED, log="response body truncated|more bytes", send=range_5_9, ways=CHUNKED_WAYS),
    )
    empty_suffix = ranged("bytes=-0")
    yield "the last 0 bytes, all sent", Case(
        (answer(206, WHOLE, ("Content-Range", "bytes 0-99/100")),), 416, send=empty_suffix,
        headers={"Content-Range": "bytes */100"},
    )  # fmt: skip
    yield "the last 0 bytes, an empty part", Case(
        (answer(206, b"", ("Content-Range", "bytes 100-99/100")),), 416, send=empty_suffix,
        headers={"Content-Range": "bytes */100"},
    )  # fmt: skip
    for other in ("lines=5-9", "bytes5-9", "octets=-0", "bytes", "=5-9"):
        yield f"another unit: {other}", Case((HELLO,), 200, b"hello", send=ranged(other), forwarded={"range": None})
    yield "unit in capitals, forwarded in lowercase", Case(
        (answer(206, WHOLE[5:10], *PART),), 206, WHOLE[5:10], send=ranged("BYTES=5-9"),
        forwarded={"range": "bytes=5-9"},
    )  # fmt: skip


def message_lengths() -> Iterator[tuple[str, Case]]:
    lengths = [
        "-1",
        "+5",
        "5, 5",
        "5x",
        "0x5",
        "",
        "1_0",
        "5;",
        "5 5",
        "1" * 20,
        "9" * 40,
        "\u0665".encode().decode("latin-1"),
    ]
    for value in lengths:
        yield (
            f"length {value[:8]!r}",
            Case((first(head(f"Content-Length: {value}") + b"hello", close),), 502, log=INVALID_LENGTH),
        )
        yield (
            f"length {value[:8]!r} of HEAD",
            Case((head(f"Content-Length: {value}"),), 502, log=INVALID_LENGTH, method="HEAD"),
        )
    for fields in (
        ["Content-Length: 5", "Content-Length: 5"], ["Content-Length: 5", "Content-Length: 4"],
        ["Transfer-Encoding: gzip, chunked"], ["Transfer-Encoding: identity"], ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"], ["Content-Length: 15", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 0"],
    ):  # fmt: skip
        line = NOT_CHUNKED_ALONE if "Transfer-Encoding" in str(fields) else SEVERAL_LENGTHS
        yield " & ".join(fields), Case((first(head(*fields) + b"5\r\nhello\r\n0\r\n\r\n", close),), 502, log=line)
    http_1_0 = first(head("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK") + b"5\r\nhello\r\n0\r\n\r\n", close)
    yield "chunks of HTTP/1.0", Case((http_1_0,), 502, log=NOT_CHUNKED_ALONE)
    for line in (
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 200OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1",
    ):
        invalid = first(head("Content-Length: 5", status=line) + b"hello", close)
        yield (
            line,
            Case(
                (invalid,),
                502,
                log=NOT_HTTP if "/2" not in line else f"{NOT_HTTP}|no response from S3; mod_proxy returned",
            ),
        )
    yield "no phrase", Case((head("Content-Length: 5", status="HTTP/1.1 200") + b"hello",), 200, b"hello")
    yield "leading zeros", Case((head("Content-Length: 005") + b"hello",), 200, b"hello")
    yield (
        "after an early hint",
        Case((b"HTTP/1.1 103 Early\r\nContent-Length: 7\r\nLink: </a>\r\n\r\n" + HELLO,), 200, b"hello"),
    )
    capitals = head("Transfer-Encoding: CHUNKED") + b"5\r\nhello\r\n0\r\n\r\n"
    yield "chunked in capitals", Case((capitals,), 200, b"hello", ways=CHUNKED_WAYS)


def white_space_and_many_fields() -> Iterator[tuple[str, Case]]:
    for end in (" ", "\t", " \t "):
        fields = f"Content-Length: 5{end}", f'ETag: "x"{end}'
        yield f"after a value {end!r}", Case((head(*fields) + b"hello",), 200, b"hello", headers={"ETag": '"x"'})
        yield f"after a range {end!r}", Case(
            (head(f"Content-Range: bytes 5-9/100{end}", "Content-Length: 5", status="HTTP/1.1 206 X") + WHOLE[5:10],),
            206, WHOLE[5:10], send=ranged("bytes=5-9"),
        )  # fmt: skip
    many = [(f"x-amz-meta-{number}", "y" * 20) for number in range(400)]
    yield "400 fields", Case((answer(200, b"hello", *many),), 200, b"hello", headers={"x-amz-meta-399": "y" * 20})
    long = answer(200, b"hello", ("x-amz-meta-a", "y" * 9000))
    yield "a field of 9 KB", Case((long,), 200, b"hello", headers={"x-amz-meta-a": "y" * 9000}, bucket="large")
    yield "a field of 9 KB, by default", Case((long,), 502, log="increase responsefieldsize", ways=("proxy",))
    invalid_name = answer(200, b"hello", ("x-amz-meta-a(b)", "1"), ("x-amz-meta-b", "2"))
    wanted = {"x-amz-meta-a(b)": None, "x-amz-meta-b": "2"}
    yield "an invalid name", Case((invalid_name,), 200, b"hello", headers=wanted)
    empty = answer(200, b"", ("x-amz-meta-a(b)", "1"))
    yield "an invalid name, HEAD", Case((empty,), 200, b"", method="HEAD", headers={"x-amz-meta-a(b)": None})
    control = answer(200, b"hello", ("ETag", '"a\x01b"'))
    yield (
        "a control character",
        Case(
            (control,),
            502,
            log="response header (is not valid HTTP: Invalid header value char|with control characters: ETag)",
        ),
    )
    same = [("x-amz-meta-a", "y")] * 2000
    yield "2000 fields of a name", Case((answer(200, b"hello", *same),), 200, b"hello")


def throttling() -> Iterator[tuple[str, Case]]:
    later = ("Retry-After", "7")
    for status in (408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 529, 599):
        code = "SlowDown" if status != 429 else "TooManyRequests"
        response = error(503, code, later).replace(b"503 Service Unavailable", b"%d Odd" % status)
        yield f"{status}", Case((response,), 503, log=f"S3 answered {status} {code}", headers={"Retry-After": "7"})
    for status, code in [
        (400, "RequestTimeout"), (409, "OperationAborted"), (409, "ConditionalRequestConflict"), (400, "SlowDown"),
        (400, "ThrottlingException"), (400, "RequestLimitExceeded"), (403, "RequestThrottled"),
        (403, "rateLimitExceeded"), (400, "InternalError"), (403, "TooManyRequestsException"),
        (400, "ServiceUnavailable"),
    ]:  # fmt: skip
        yield (
            f"{status} {code}",
            Case((error(status, code, later),), 503, log=f"S3 answered {status} {code}", headers={"Retry-After": "7"}),
        )
    for status in (501, 505):
        permanent = error(status, "NotImplemented", later)
        yield f"{status}", Case((permanent,), 502, log=f"S3 answered {status}", headers={"Retry-After": None})


def conditions() -> Iterator[tuple[str, Case]]:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    for name in ("If-Modified-Since", "If-Unmodified-Since"):
        key = name.lower()
        for value in (
            "0", "-1", "yesterday", "1994-11-06T08:49:37Z", "Sun, 06 Nov 1994", "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 +0100", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:00:00 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT", "784111777", f"{date}, {date}", f"{date} x", '"etag"',
        ):  # fmt: skip
            yield f"{name}: {value}", Case((HELLO,), 200, b"hello", send={name: value}, forwarded={key: None})
        for value in (date, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun Nov 16 08:49:37 1994"):
            canonical = date.replace("06", "16").replace("Sun", "Wed") if "16" in value else date
            yield f"{name}: {value}", Case((HELLO,), 200, b"hello", send={name: value}, forwarded={key: canonical})
    yield (
        "an empty If-None-Match",
        Case((HELLO,), 200, b"hello", send={"If-None-Match": ""}, forwarded={"if-none-match": None}),
    )


def errors_for_the_clients_parameters() -> Iterator[tuple[str, Case]]:
    several, version = ranged("bytes=0-0,5-5"), "?versionId=zzz"
    unimplemented = error(501, "NotImplemented")
    yield "several ranges", Case((unimplemented, answer(200, b"hello" * 9000)), 200, b"hello" * 9000, send=several)
    yield "several ranges, stale", Case(
        (unimplemented, answer(200, b"hello" * 9000)), 200, b"hello" * 9000, send={**several, "If-Range": '"x"'},
        forwarded={"range": None, "if-range": None},
    )  # fmt: skip
    yield "a version", Case((unimplemented,), 400, query=version)
    yield "a parameter that is not forwarded", Case((unimplemented,), 502, log="S3 answered 501", query="?list-type=2")
    marker = error(405, "MethodNotAllowed", ("x-amz-delete-marker", "true"))
    yield "a delete marker", Case((marker,), 404, query=version)
    yield "a delete marker, HEAD", Case((head_of(marker),), 404, query=version, method="HEAD", error_of_get=marker)
    yield "405 without parameters", Case((error(405, "MethodNotAllowed"),), 502, log="S3 answered 405")
    gone = error(410, "Gone")
    yield "410", Case((gone,), 404)
    bad = answer(400)
    yield "a HEAD of a bad version", Case((bad,), 400, method="HEAD", query=version, error_of_get=bad)
    yield "a HEAD without parameters", Case((bad,), 502, method="HEAD", error_of_get=bad, log="S3 answered 400")
    parameter = "?response-content-type=a"
    marked = error(405, "MethodNotAllowed")
    yield (
        "405 of an intermediary",
        Case((answer(405, b"<html>no</html>"),), 502, query=version, log="S3 answered 405 .*not S3's"),
    )
    yield "501 of an intermediary", Case((answer(501, b"<html>no</html>"),), 502, query=version, log="S3 answered 501")
    yield "405 for a version without x-amz-delete-marker", Case((marked,), 404, query=version)
    yield "405, a parameter that is not forwarded", Case((marked,), 502, query=parameter, log="S3 answered 405")
    yield "410, HEAD", Case((head_of(gone),), 404, method="HEAD", error_of_get=gone)


def content_codings() -> Iterator[tuple[str, Case]]:
    stored = gzip.compress(b"hello", mtime=0)
    for value, forwarded_value in [
        ("", None), (" ", None), ("aws-chunked", None), ("AWS-Chunked", None), ("aws-chunked,gzip", "gzip"),
        ("gzip, aws-chunked", "gzip"), (",", None), ("gzip", "gzip"), ("br", "br"), ("aws-chunked,,aws-chunked", None),
    ]:  # fmt: skip
        body = stored if forwarded_value else b"hello"
        yield f"Content-Encoding: {value}", Case(
            (answer(200, body, ("Content-Encoding", value)),), 200, body, headers={"Content-Encoding": forwarded_value},
            forwarded={"accept-encoding": "identity"}, send={"Accept-Encoding": "gzip"},
        )  # fmt: skip
    yield "Content-Encoding twice", Case(
        (answer(200, stored, ("Content-Encoding", "aws-chunked"), ("Content-Encoding", "gzip")),), 200, stored,
        headers={"Content-Encoding": "gzip"},
    )  # fmt: skip
    tagged = answer(200, stored, ("Content-Encoding", "gzip"), ("ETag", '"x"'))
    for value, coding in [
        ("gzip", "gzip"), ("gzip, deflate, br", "gzip"), ("br;q=1, gzip;q=0.5", "gzip"), ("x-gzip", "gzip"),
        ("*", "gzip"), ("GZIP", "gzip"), ("gzip;q=0", "identity"), ("identity", "identity"), ("deflate", "identity"),
        ("*;q=0, identity", "identity"), ("gzip;q=0.000", "identity"), ("gzipped", "identity"), ("", "identity"),
    ]:  # fmt: skip
        yield f"Accept-Encoding: {value}", Case(
            (tagged,), 200, stored, bucket="gzip", send={"Accept-Encoding": value},
            forwarded={"accept-encoding": coding}, headers={"Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
        )  # fmt: skip
    yield "without Accept-Encoding", Case(
        (HELLO,), 200, b"hello", bucket="gzip", forwarded={"accept-encoding": "identity"},
        headers={"Vary": "Accept-Encoding"},
    )  # fmt: skip
    accepts = {"Accept-Encoding": "gzip"}
    yield "HEAD", Case(
        (head_of(tagged),), 200, b"", method="HEAD", bucket="gzip", send=accepts, headers={"Vary": "Accept-Encoding"},
    )  # fmt: skip
    yield "304", Case(
        (answer(304, b"", ("ETag", '"x"'), length=None),), 304, b"", bucket="gzip", headers={"Vary": "Accept-Encoding"},
        send={**accepts, "If-None-Match": '"x"'},
    )  # fmt: skip
    yield "a part", Case(
        (answer(206, WHOLE[5:10], *PART, ("Content-Encoding", "gzip")),), 206, WHOLE[5:10], bucket="gzip",
        send={**accepts, "Range": "bytes=5-9"}, headers={"Vary": "Accept-Encoding"},
        forwarded={"accept-encoding": "gzip"},
    )  # fmt: skip
    yield "without S3PassAcceptEncoding", Case((tagged,), 200, stored, headers={"Vary": None}, send=accepts)


def denials() -> Iterator[tuple[str, Case]]:
    intermediary = answer(403, b"<html>Blocked by policy</html>", ("Content-Type", "text/html"))
    yield "of an intermediary", Case((intermediary,), 403, log="S3 answered 403 .*not S3's")
    yield "of an intermediary, S3DeniedStatus 404", Case((intermediary,), 403, log="not S3's", bucket="denied")
    yield "of S3", Case((error(403, "AccessDenied"),), 403)
    yield "of S3, S3DeniedStatus 404", Case((error(403, "AccessDenied"),), 404, bucket="denied")
    yield "without a body", Case((answer(403),), 403)
    yield (
        "of HEAD",
        Case((head_of(intermediary),), 403, log="not S3's", method="HEAD", error_of_get=intermediary, ways=WAYS[:2]),
    )


def ages() -> Iterator[tuple[str, Case]]:
    for age in ("600", "0", "600, 0", "abc", "2147483648"):
        aged = answer(200, b"hello", ("Age", age), ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("ETag", '"x"'))
        yield f"{age}", Case((aged,), 200, b"hello", headers={"Age": age})
    yield "of HEAD", Case((head_of(answer(200, b"x", ("Age", "9"))),), 200, b"", method="HEAD", headers={"Age": "9"})
    yield "of a part", Case(
        (answer(206, WHOLE[5:10], *PART, ("Age", "9")),), 206, WHOLE[5:10], send=ranged("bytes=5-9"),
        headers={"Age": "9"},
    )  # fmt: skip
    unchanged = answer(304, b"", ("ETag", '"x"'), ("Age", "9"), length=None)
    yield "of 304", Case((unchanged,), 304, b"", send={"If-None-Match": '"x"'}, headers={"Age": "9"})
    yield "no Age", Case((HELLO,), 200, b"hello", headers={"Age": None})


TABLES = {
    "parts with 200": partial_responses_with_200,
    "parts": parts,
    "message length": message_lengths,
    "white space and many fields": white_space_and_many_fields,
    "throttling": throttling,
    "conditions": conditions,
    "the client's parameters": errors_for_the_clients_parameters,
    "content codings": content_codings,
    "denials": denials,
    "ages": ages,
}
NAMED_CASES = [(f"{table}: {name}", case) for table, cases in TABLES.items() for name, case in cases()]
CASES = [
    pytest.param(f"/{way}-{case.bucket}-{HOSTS[number % len(HOSTS)]}", case, id=f"{way}, {name}")
    for number, (name, case) in enumerate(NAMED_CASES)
    for way in case.ways
]


@pytest.mark.parametrize(("path", "case"), CASES)
def test_response(httpd: Httpd, path: str, case: Case) -> None:
    before = len(log_lines(httpd))
    with ScriptedS3(*case.s3, then=case.error_of_get, port=PORT, host="0.0.0.0") as s3:
        status, headers, body = send_request(httpd, path, case)
        s3_headers = s3.requests[-1].headers
    lines = log_lines(httpd)[before:]
    httpd.expect_error("usp_s3_wsgi: ")
    assert status == case.status or (case.body is TRUNCATED and status == 0), (body, lines)
    if case.method == "HEAD" or status == 304:
        assert body == b""
    elif case.body is TRUNCATED:
        assert body is None
    elif case.body is not None:
        assert body == case.body
    for name, value in case.headers.items():
        assert headers.get(name.lower()) == value, headers
    for name, value in case.forwarded.items():
        assert s3_headers.get(name, "identity" if name == "accept-encoding" else None) == value, s3_headers
    assert len(lines) == bool(case.log) and all(re.search(case.log, line) for line in lines), lines


def send_request(httpd: Httpd, path: str, case: Case) -> tuple[int, dict[str, str], bytes | None]:
    """Send the request byte for byte, which no library's client does. Return status, headers and body.

    The body is None if it ends abnormally. The status is 0 if the connection ends before the header.
    """
    fields = {"Host": "x", "Connection": "close", **case.send}
    lines = [f"{case.method} {path}/film.mp4{case.query} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        received = b""
        with suppress(ConnectionResetError):
            while data := client.recv(1 << 20):
                received += data
    if not received:
        return 0, {}, None
    header, _, rest = received.partition(b"\r\n\r\n")
    body: bytes | None = rest
    status_line, *header_lines = header.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in header_lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = decode_chunked(rest)
    elif case.method != "HEAD" and len(rest) != int(headers.get("content-length", len(rest))):
        body = None
    return int(status_line.split(" ")[1]), headers, body


def decode_chunked(data: bytes) -> bytes | None:
    """Decode a chunked body; None if the last chunk is missing."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not size:
            return None
        length = int(size, 16)
        if length == 0:
            return body
        body, data = body + data[:length], data[length + 2 :]


def log_lines(httpd: Httpd) -> list[str]:
    return [line for line in httpd.errors() if "usp_s3_wsgi: " in line]


CONTENT_LENGTHS = [
    "5",
    "05",
    "5 ",
    "\t5",
    "4",
    "6",
    "-5",
    "+5",
    "5,5",
    "5, 5",
    "five",
    "",
    "5.0",
    "5;x",
    "0",
    "999999999999999999",
]
TRANSFER_ENCODINGS = [
    "chunked",
    "Chunked",
    "chunked ",
    "chunked;x",
    "gzip, chunked",
    "identity",
    "chunked, chunked",
    "",
]
CONTENT_RANGES = [
    "bytes 5-9/100", "Bytes 5-9/100", "bytes 5-9/*", "bytes 4-8/100", "bytes 5-8/100", "bytes 0-4/5", "bytes 0-99/100",
    "bytes */100", "bytes */0", "bytes 9-5/100", "bytes 5-9/9", "bytes  5-9/100", "bytes=5-9/100", "5-9/100",
    "bytes 5-9", "bytes -5/100", "octets 5-9/100", "bytes 95-99/100", "bytes 5-9/1000000000000000000000",
]  # fmt: skip
RANGES = [
    None, "bytes=5-9", "BYTES=5-9", "bytes=5-", "bytes=-5", "bytes=0-4", "bytes= 5-9", "bytes=5-9,", "bytes=5-9,20-24",
    "bytes=-0", "bytes=5-9999", "bytes=0-", "bytes=95-",
]  # fmt: skip
STATUS_LINES = ["HTTP/1.1 {} X", "HTTP/1.1 {}", "HTTP/1.0 {} X", "HTTP/1.1 {}0 X", "HTTP/1.12 {} X", "HTTP/1.1 {}X"]


#: Headers that mod_proxy parses in another way than the gateway does: <Proxy> rejects them.
READ_DIFFERENTLY = [
    "Content-Length : 5", "Transfer-Encoding : chunked", "X : y", "Connection: Content-Length",
    "Content-Range : bytes 5-9/9",
    "Connection: keep-alive, content-range", "Content-Encoding : gzip",
]  # fmt: skip
OTHER_HEADERS = [
    "no colon",
    " folded",
    ": y",
    "X:",
    "X: " + "y" * 600,
    "Content-Length: 5" + " " * 600 + "x",
    "X: a\tb",
    "X: a\rb",
]


def random_response(generator: random.Random) -> tuple[bytes, dict[str, str], str]:
    """Return a response to a request for five bytes, mostly a valid one, and the request's Range and query."""
    fields = []
    if generator.random() < 0.9:
        fields.append(f"Content-Length: {'5' if generator.random() < 0.5 else generator.choice(CONTENT_LENGTHS)}")
    if generator.random() < 0.1:
        fields.append(f"Content-Length: {generator.choice(CONTENT_LENGTHS)}")
    if not fields or generator.random() < 0.1:
        fields.append(
            f"Transfer-Encoding: {'chunked' if generator.random() < 0.5 else generator.choice(TRANSFER_ENCODINGS)}"
        )
    if generator.random() < 0.7:
        fields.append(
            f"Content-Range: {'bytes 5-9/100' if generator.random() < 0.5 else generator.choice(CONTENT_RANGES)}"
        )
    if generator.random() < 0.3:
        fields.append(generator.choice(READ_DIFFERENTLY + OTHER_HEADERS))
    generator.shuffle(fields)
    line = "HTTP/1.1 {} X" if generator.random() < 0.8 else generator.choice(STATUS_LINES)
    status = generator.choice([200, 206, 206])
    header = head(*fields, status=line.format(status))
    body = chunk(WHOLE[5:10]) if "Transfer-Encoding" in str(fields) else WHOLE[5:10]
    if generator.random() < 0.1:
        return header + body, {}, "?partNumber=2"
    if status == 200 and "Content-Range" not in str(fields):
        return header + body, {}, ""  # httpd itself may cut the range out of a whole object
    requested = "bytes=5-9" if generator.random() < 0.5 else generator.choice(RANGES)
    return header + body, {"Range": requested} if requested else {}, ""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("seed", range(8))
def test_the_gateway_and_proxy_respond_in_the_same_way(httpd: Httpd, seed: int, method: str) -> None:
    httpd.expect_error("usp_s3_wsgi: |AH00898|AH01097|AH02430|AH10260")
    generator = random.Random(seed)
    served = 0
    for number in range(60):
        response, requested_range, query = random_response(generator)
        step = first(response if method == "GET" else head_of(response), close)
        case = Case((step,), 0, send=requested_range, query=query, method=method)
        responses = [response_of(httpd, f"/{way}-bucket-{HOSTS[number % len(HOSTS)]}", case) for way in CHUNKED_WAYS]
        is_read_differently = any(line.encode() in response for line in READ_DIFFERENTLY)
        assert responses[0] == responses[1] or (is_read_differently and responses[1] == "rejected"), (
            response,
            requested_range,
            responses,
        )
        served += responses[0] not in {"rejected", "truncated"}
    assert served > 1 or method == "HEAD"  # a HEAD has no Range


def response_of(httpd: Httpd, path: str, case: Case) -> object:
    """Return status, Content-Range and the object's bytes; "truncated" or "rejected" for a failure."""
    with ScriptedS3(then=case.s3[0], port=PORT, host="0.0.0.0"):
        status, headers, body = send_request(httpd, path, case)
    if body is None:
        return "truncated"
    if status >= 500:
        assert status == 502
        return "rejected"
    return status, headers.get("content-range"), body if status < 400 else b""


# --- connections on which it is not certain where the next response begins

WITHOUT_CERTAIN_END = [
    head("Content-Length: 5", "Content-Length: 15") + b"hello",
    head("Transfer-Encoding: gzip, chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    head("Transfer-Encoding: chunked", "Content-Length: 5") + b"5\r\nhello\r\n0\r\n\r\n",
    head("Content-Length: 5", status="HTTP/1.1 2000 OK") + b"hello",
    head("Content-Length: 5x") + b"hello",
    head("Content-Length: 5", "Content-Length: 15", status="HTTP/1.1 404 Not Found") + b"hello",
    head("Transfer-Encoding: gzip, chunked", status="HTTP/1.1 416 X") + b"5\r\nhello\r\n0\r\n\r\n",
    head("no colon", "Content-Length: 5") + b"hello",
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("response", WITHOUT_CERTAIN_END)
def test_a_connection_without_a_certain_end_is_not_reused(httpd: Httpd, way: str, response: bytes) -> None:
    httpd.expect_error("usp_s3_wsgi: |AH01106|AH00898|AH10124|AH01097")
    path = f"/{way}-bucket-{HOSTS[WITHOUT_CERTAIN_END.index(response)]}"
    with ScriptedS3(response, HELLO, port=PORT, host="0.0.0.0") as s3:
        begin = time.monotonic()
        status, _, body = send_request(httpd, path, Case((), 0))
        assert status in {404, 416, 502} and b"hello" not in (body or b"")
        assert way != "proxy" or time.monotonic() - begin < 5  # the rest is not awaited
        assert send_request(httpd, path, Case((), 0))[2] == b"hello"
    assert [request.connection for request in s3.requests] == [1, 2]


def test_the_body_of_a_rejected_part_is_not_awaited(httpd: Httpd) -> None:
    httpd.expect_error("usp_s3_wsgi: ")
    rejected = answer(206, WHOLE[:5], ("Content-Range", "bytes 0-4999/10000"), length=5000)
    for way in WAYS:
        with ScriptedS3(first(rejected, stall), port=PORT, host="0.0.0.0"):
            begin = time.monotonic()
            assert send_request(httpd, f"/{way}-bucket-{HOSTS[9]}", Case((), 0, send=ranged("bytes=5-9")))[0] == 502
            assert time.monotonic() - begin < 5


# --- headers of the request to S3

DATES = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
LETTERS = "SunMoTuedaFrbJ0123456789 :,-GMT+"


def mutate(text: str, generator: random.Random) -> str:
    """Replace, remove or add up to two letters."""
    for _ in range(generator.choice([0, 1, 1, 1, 2])):
        position = generator.randrange(len(text))
        text = text[:position] + generator.choice([*LETTERS, ""]) + text[position + generator.choice([0, 1, 1]) :]
    return text.strip()


def test_the_gateway_and_proxy_send_the_same_headers(httpd: Httpd) -> None:
    """Dates with mistakes, and lists of codings."""
    generator, forwarded = random.Random(15), 0
    edges = [
        "Thu, 01 Jan 1970 00:00:00 GMT", "Wed, 31 Dec 1969 23:59:59 GMT", "Thu Jan  1 00:00:00 1970",
        "Thursday, 01-Jan-70 00:00:00 GMT", "Sun, 06 Nov 1994 08:49:60 GMT", "Sun Nov  6 08:49:60 1994",
        "Sun, 06 Nov 1994 08:49:61 GMT", "Xyz, 06 Nov 1994 08:49:37 GMT", "Mon, 06 Nov 1994 08:49:37 GMT",
        "Fri, 29 Feb 2024 08:49:37 GMT", "Fri, 29 Feb 1900 08:49:37 GMT", "Fri, 01 Jan 0000 00:00:00 GMT",
        "Fri, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Sunday, 06-Nov-69 08:49:37 GMT",
    ]  # fmt: skip
    dates = edges + [mutate(generator.choice(DATES), generator) for _ in range(150)]
    codings = [
        "gzip;q=0;a",
        "gzip;q=0x",
        "gzip ; q=0.5",
        "gzip;q=",
        "br, *;q=0.1",
        "x-gzip;q=0, gzip",
        ",gzip,",
        "gzip;x",
    ]
    with ScriptedS3(then=HELLO, port=PORT, host="0.0.0.0") as s3:
        for number, date in enumerate(dates):
            coding = codings[number % len(codings)]
            case = Case((), 0, send={"If-Unmodified-Since": date, "Accept-Encoding": coding})
            for way in ("gateway", "proxy"):
                send_request(httpd, f"/{way}-gzip-{HOSTS[0]}", case)
            of_gateway, of_proxy = [
                (request.headers.get("if-unmodified-since"), request.headers.get("accept-encoding"))
                for request in s3.requests[-2:]
            ]
            assert of_gateway == of_proxy, (date, coding)
            forwarded += of_gateway[0] is not None
    assert 20 < forwarded < len(dates) - 20
