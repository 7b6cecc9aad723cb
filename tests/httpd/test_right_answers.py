"""Odd answers that servers and devices on the way really give, and odd requests of clients: one table for both ways in.

Each case is what S3 sends, byte by byte, and what the client must get: the right bytes, and a status that says whose
fault it is. The gateway embedded and in daemon mode and the ``<Proxy>`` signer must all say the same.
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
#: The log limits lines of a kind by host; the cases take turns.
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
#: In daemon mode nobody could end such a body abnormally.
IN_CHUNKS = ("gateway", "proxy")


def mount(way: str, bucket: str, host: str, lines: str = "") -> str:
    """What leads from /WAY-BUCKET-HOST to that bucket of the host."""
    url, path = f"http://{host}:{PORT}/{bucket}", f"/{way}-{bucket}-{host}"
    if way == "proxy":
        lines += "  ProxySet responsefieldsize=65536\n" if bucket == "large" else ""
        return f'ProxyPass {path} {url}\n<Proxy "{url}/">{KEYS}{lines}  ProxySet retry=0\n</Proxy>\n'
    daemon = "process-group=s3 application-group=%{GLOBAL}" if way == "daemon" else ""
    given = f"{KEYS}{lines}  SetEnv S3BucketURL {url}/\n  SetEnv S3Retries 0\n"
    return f"WSGIScriptAlias {path} ${{USP_S3_WSGI}} {daemon}\n<Location {path}>{given}</Location>\n"


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
    """``s3``: what the bucket answers, one after the other. ``body`` None: a page of httpd's own, or none.

    ``log``: a pattern of the one line that the operator gets, empty for no line at all. ``headers``: those that the
    client must get; None: must not. ``asks``: those that S3 must have been asked with in the last request.
    """

    s3: tuple[Step, ...]
    status: int
    body: bytes | None = None
    log: str = ""
    method: str = "GET"
    ask: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    asks: Mapping[str, str | None] = field(default_factory=dict)
    bucket: str = "bucket"
    reason: Step | None = None  #: what S3 answers to the GET by which the gateway asks for the reason of a refused HEAD
    ways: tuple[str, ...] = WAYS


HELLO = answer(200, b"hello")
WHOLE = bytes(range(100))
PART = (("Content-Range", "bytes 5-9/100"),)
PART_FIELD = "Content-Range: bytes 5-9/100"
CUT = b"the body must end abnormally"
# What the log says of a response that is rejected.
NOT_THE_RANGE = "Content-Range is not the requested range"
INVALID_RANGE = "partial response without a valid Content-Range"
CONTRADICTING_LENGTH = "Content-Length does not match Content-Range"
UNEXPECTED_PART = "unexpected partial response: no range was requested"
INVALID_LENGTH = "response has an invalid Content-Length"
SEVERAL_LENGTHS = "response has (an invalid|more than one) Content-Length"  # the gateway, <Proxy>
NOT_CHUNKED_ALONE = "response has a Transfer-Encoding other than chunked alone"
NOT_HTTP = "response (header is not valid HTTP, or too large|is not valid HTTP)"  # the gateway, <Proxy>


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    """A header, exactly as it is given."""
    return "\r\n".join([status, "Content-Type: video/mp4", *lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """A body of one chunk."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


def ranged(value: str, **more: str) -> dict[str, str]:
    return {"Range": value, **{name.replace("_", "-"): text for name, text in more.items()}}


def parts_as_200() -> Iterator[tuple[str, Case]]:
    part = answer(200, WHOLE[5:10], *PART)
    given = {"Content-Range": "bytes 5-9/100", "Content-Length": "5"}
    yield "the part asked for", Case((part,), 206, WHOLE[5:10], ask=ranged("bytes=5-9"), headers=given)
    yield "to the end", Case(
        (answer(200, WHOLE[90:], ("Content-Range", "bytes 90-99/100")),), 206, WHOLE[90:], ask=ranged("bytes=90-"),
    )  # fmt: skip
    yield "suffix", Case(
        (answer(200, WHOLE[90:], ("Content-Range", "bytes 90-99/100")),), 206, WHOLE[90:], ask=ranged("bytes=-10"),
    )  # fmt: skip
    yield "all of it", Case(
        (answer(200, WHOLE, ("Content-Range", "bytes 0-99/100")),), 206, WHOLE, ask=ranged("bytes=0-"),
        headers={"Content-Range": "bytes 0-99/100"},
    )  # fmt: skip
    yield "another part", Case((part,), 502, log=NOT_THE_RANGE, ask=ranged("bytes=0-4"))
    yield (
        "another length",
        Case((answer(200, WHOLE[5:9], *PART),), 502, log=CONTRADICTING_LENGTH, ask=ranged("bytes=5-9")),
    )
    yield "beyond the object", Case(
        (answer(200, b"abcde", ("Content-Range", "bytes 5-9/8")),), 502, log=NOT_THE_RANGE, ask=ranged("bytes=5-9"),
    )  # fmt: skip
    yield "no range asked for", Case((part,), 502, log=UNEXPECTED_PART)
    yield "not readable", Case(
        (answer(200, WHOLE[5:10], ("Content-Range", "bytes 5-nine/100")),), 502, log=INVALID_RANGE, ask=ranged("bytes=5-9"),
    )  # fmt: skip
    yield "of a stale If-Range", Case(
        (answer(200, WHOLE[5:10], *PART, ("ETag", '"new"')), answer(200, WHOLE, ("ETag", '"new"'))), 200, WHOLE,
        ask=ranged("bytes=5-9", If_Range='"old"'), headers={"Content-Range": None},
    )  # fmt: skip
    yield "of a good If-Range", Case(
        (answer(200, WHOLE[5:10], *PART, ("ETag", '"new"')),), 206, WHOLE[5:10],
        ask=ranged("bytes=5-9", If_Range='"new"'),
    )  # fmt: skip
    yield "a range of an empty object", Case(
        (answer(200, b"", ("Content-Range", "bytes */0")), answer(200, b"")), 200, b"", ask=ranged("bytes=0-"),
    )  # fmt: skip
    yield "a range that is ignored", Case((answer(200, WHOLE * 1000),), 200, WHOLE * 1000, ask=ranged("bytes=5-9"))
    chunks = (
        head("Transfer-Encoding: chunked", "Content-Range: bytes 5-9/100") + b"5\r\n" + WHOLE[5:10] + b"\r\n0\r\n\r\n"
    )
    yield "in chunks", Case((chunks,), 206, WHOLE[5:10], ask=ranged("bytes=5-9"), ways=IN_CHUNKS)
    several = b"--x\r\nContent-Range: bytes 0-0/100\r\n\r\n\x00\r\n--x--\r\n"
    yield "several", Case(
        (answer(200, several, ("Content-Type", "multipart/byteranges; boundary=x")),), 206, several,
        ask=ranged("bytes=0-0,5-5"),
    )  # fmt: skip
    yield "a part by number", Case((answer(200, WHOLE[5:10], *PART),), 206, WHOLE[5:10], query="?partNumber=2")


def endless(connection: Connection, request: Request) -> None:
    """A part that goes on after its end until nobody reads it any more."""
    connection.socket.sendall(head("Transfer-Encoding: chunked", PART_FIELD, status="HTTP/1.1 206 X"))
    deadline = time.monotonic() + 8
    with suppress(OSError):
        while time.monotonic() < deadline:
            connection.socket.sendall(b"5\r\n" + WHOLE[5:10] + b"\r\n")
            time.sleep(0.01)
    assert time.monotonic() < deadline, "it was read on and on"
    connection.close()


def parts() -> Iterator[tuple[str, Case]]:
    """Those of a 206: what the gateway refuses, ``<Proxy>`` refuses too."""
    asked = ranged("bytes=5-9")
    yield "good", Case((answer(206, WHOLE[5:10], *PART),), 206, WHOLE[5:10], ask=asked)
    for name, stated, data, line in [
        ("another", "bytes 0-4/100", WHOLE[:5], NOT_THE_RANGE),
        ("larger", "bytes 5-10/100", WHOLE[5:11], NOT_THE_RANGE),
        ("of another length", "bytes 5-9/100", WHOLE[5:9], CONTRADICTING_LENGTH),
        ("beyond the object", "bytes 5-9/9", WHOLE[5:10], NOT_THE_RANGE),
        ("without its range", "", WHOLE[5:10], INVALID_RANGE),
        ("of other units", "octets 5-9/100", WHOLE[5:10], INVALID_RANGE),
    ]:
        fields = [("Content-Range", stated)] if stated else []
        yield name, Case((answer(206, data, *fields),), 502, log=line, ask=asked)
    yield (
        "not asked for",
        Case((answer(206, WHOLE[5:10], *PART),), 502, log=UNEXPECTED_PART),
    )
    yield "shorter, at the end", Case(
        (answer(206, WHOLE[95:], ("Content-Range", "bytes 95-99/100")),), 206, WHOLE[95:], ask=ranged("bytes=95-200"),
    )  # fmt: skip
    yield "of unknown total", Case(
        (answer(206, WHOLE[5:10], ("Content-Range", "bytes 5-9/*")),), 206, WHOLE[5:10], ask=asked,
    )  # fmt: skip
    yield "another suffix", Case(
        (answer(206, WHOLE[5:10], *PART),), 502, log=NOT_THE_RANGE, ask=ranged("bytes=-5"),
    )  # fmt: skip
    yield "units in capitals", Case(
        (answer(206, WHOLE[5:10], ("Content-Range", "Bytes 5-9/100")),), 206, WHOLE[5:10], ask=ranged("BYTES=5-9"),
    )  # fmt: skip
    yield "another one, in capitals", Case(
        (answer(206, WHOLE[:5], ("Content-Range", "BYTES 0-4/100")),), 502, log=NOT_THE_RANGE, ask=ranged("Bytes=5-9"),
    )  # fmt: skip
    yield "another one, with spaces", Case(
        (answer(206, WHOLE[:5], ("Content-Range", "bytes 0-4/100")),), 502, log=NOT_THE_RANGE, ask=ranged("bytes= 5-9"),
    )  # fmt: skip
    for name, data in {"shorter": WHOLE[5:8], "longer": WHOLE[5:12]}.items():
        chunks = head("Transfer-Encoding: chunked", PART_FIELD, status="HTTP/1.1 206 X") + chunk(data)
        yield (
            f"in chunks, {name}",
            Case((chunks,), 206, CUT, log="response body truncated|more bytes", ask=asked, ways=IN_CHUNKS),
        )
    yield (
        "in chunks without end",
        Case((endless,), 206, CUT, log="response body truncated|more bytes", ask=asked, ways=IN_CHUNKS),
    )
    nothing = ranged("bytes=-0")
    yield "the last nothing, as all", Case(
        (answer(206, WHOLE, ("Content-Range", "bytes 0-99/100")),), 416, ask=nothing,
        headers={"Content-Range": "bytes */100"},
    )  # fmt: skip
    yield "the last nothing, as a part", Case(
        (answer(206, b"", ("Content-Range", "bytes 100-99/100")),), 416, ask=nothing,
        headers={"Content-Range": "bytes */100"},
    )  # fmt: skip
    for other in ("lines=5-9", "bytes5-9", "octets=-0", "bytes", "=5-9"):
        yield f"of other units: {other}", Case((HELLO,), 200, b"hello", ask=ranged(other), asks={"range": None})
    yield "of a unit in capitals", Case(
        (answer(206, WHOLE[5:10], *PART),), 206, WHOLE[5:10], ask=ranged("BYTES=5-9"), asks={"range": "bytes=5-9"},
    )  # fmt: skip


def framings() -> Iterator[tuple[str, Case]]:
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
    old = first(head("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK") + b"5\r\nhello\r\n0\r\n\r\n", close)
    yield "chunks of HTTP/1.0", Case((old,), 502, log=NOT_CHUNKED_ALONE)
    for line in (
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 200OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1",
    ):
        odd = first(head("Content-Length: 5", status=line) + b"hello", close)
        yield line, Case((odd,), 502, log=NOT_HTTP if "/2" not in line else f"{NOT_HTTP}|mod_proxy got no response")
    yield "no phrase", Case((head("Content-Length: 5", status="HTTP/1.1 200") + b"hello",), 200, b"hello")
    yield "leading zeros", Case((head("Content-Length: 005") + b"hello",), 200, b"hello")
    yield "after an early hint", Case((b"HTTP/1.1 103 Early\r\nContent-Length: x\r\n\r\n" + HELLO,), 200, b"hello")
    capitals = head("Transfer-Encoding: CHUNKED") + b"5\r\nhello\r\n0\r\n\r\n"
    yield "chunked in capitals", Case((capitals,), 200, b"hello", ways=IN_CHUNKS)


def white_space_and_many_fields() -> Iterator[tuple[str, Case]]:
    for end in (" ", "\t", " \t "):
        fields = f"Content-Length: 5{end}", f'ETag: "x"{end}'
        yield f"after a value {end!r}", Case((head(*fields) + b"hello",), 200, b"hello", headers={"ETag": '"x"'})
        yield f"after a range {end!r}", Case(
            (head(f"Content-Range: bytes 5-9/100{end}", "Content-Length: 5", status="HTTP/1.1 206 X") + WHOLE[5:10],),
            206, WHOLE[5:10], ask=ranged("bytes=5-9"),
        )  # fmt: skip
    many = [(f"x-amz-meta-{number}", "y" * 20) for number in range(400)]
    yield "400 fields", Case((answer(200, b"hello", *many),), 200, b"hello", headers={"x-amz-meta-399": "y" * 20})
    long = answer(200, b"hello", ("x-amz-meta-a", "y" * 9000))
    yield "a field of 9 KB", Case((long,), 200, b"hello", headers={"x-amz-meta-a": "y" * 9000}, bucket="large")
    yield "a field of 9 KB, by default", Case((long,), 502, log="increase responsefieldsize", ways=("proxy",))
    odd = answer(200, b"hello", ("x-amz-meta-a(b)", "1"), ("x-amz-meta-b", "2"))
    wanted = {"x-amz-meta-a(b)": None, "x-amz-meta-b": "2"}
    yield "a name that is none", Case((odd,), 200, b"hello", headers=wanted)
    empty = answer(200, b"", ("x-amz-meta-a(b)", "1"))
    yield "a name that is none, of HEAD", Case((empty,), 200, b"", method="HEAD", headers={"x-amz-meta-a(b)": None})
    control = answer(200, b"hello", ("ETag", '"a\x01b"'))
    yield "a control character", Case((control,), 502, log="response header with control characters: ETag")
    same = [("x-amz-meta-a", "y")] * 2000
    yield "2000 fields of a name", Case((answer(200, b"hello", *same),), 200, b"hello")


def throttling() -> Iterator[tuple[str, Case]]:
    later = ("Retry-After", "7")
    for status in (408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 529, 599):
        code = "SlowDown" if status != 429 else "TooManyRequests"
        refusal = error(503, code, later).replace(b"503 Service Unavailable", b"%d Odd" % status)
        yield f"{status}", Case((refusal,), 503, log=f"S3 answered {status} {code}", headers={"Retry-After": "7"})
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
            yield f"{name}: {value}", Case((HELLO,), 200, b"hello", ask={name: value}, asks={key: None})
        for value in (date, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun Nov 16 08:49:37 1994"):
            asked = date.replace("06", "16").replace("Sun", "Wed") if "16" in value else date
            yield f"{name}: {value}", Case((HELLO,), 200, b"hello", ask={name: value}, asks={key: asked})
    yield "an empty one", Case((HELLO,), 200, b"hello", ask={"If-None-Match": ""}, asks={"if-none-match": None})


def about_the_clients_request() -> Iterator[tuple[str, Case]]:
    several, version = ranged("bytes=0-0,5-5"), "?versionId=zzz"
    unimplemented = error(501, "NotImplemented")
    yield "several ranges", Case((unimplemented, answer(200, b"hello" * 9000)), 200, b"hello" * 9000, ask=several)
    yield "several ranges, stale", Case(
        (unimplemented, answer(200, b"hello" * 9000)), 200, b"hello" * 9000, ask={**several, "If-Range": '"x"'},
        asks={"range": None, "if-range": None},
    )  # fmt: skip
    yield "a version", Case((unimplemented,), 400, query=version)
    yield "a parameter that is not passed", Case((unimplemented,), 502, log="S3 answered 501", query="?list-type=2")
    marker = error(405, "MethodNotAllowed", ("x-amz-delete-marker", "true"))
    yield "a delete marker", Case((marker,), 404, query=version)
    yield "a delete marker of HEAD", Case((head_of(marker),), 404, query=version, method="HEAD", reason=marker)
    yield "405 of another kind", Case((error(405, "MethodNotAllowed"),), 502, log="S3 answered 405")
    gone = error(410, "Gone")
    yield "410", Case((gone,), 404)
    bad = answer(400)
    yield "a HEAD of a bad version", Case((bad,), 400, method="HEAD", query=version, reason=bad)
    yield "a HEAD without parameters", Case((bad,), 502, method="HEAD", reason=bad, log="S3 answered 400")
    parameter = "?response-content-type=a"
    marked = error(405, "MethodNotAllowed")
    yield (
        "405 of a device",
        Case((answer(405, b"<html>no</html>"),), 502, query=version, log="S3 answered 405 .*not S3's"),
    )
    yield "501 of a device", Case((answer(501, b"<html>no</html>"),), 502, query=version, log="S3 answered 501")
    yield "405 of a version, without the mark", Case((marked,), 404, query=version)
    yield "405 of a parameter that is not passed", Case((marked,), 502, query=parameter, log="S3 answered 405")
    yield "410 of HEAD", Case((head_of(gone),), 404, method="HEAD", reason=gone)


def codings() -> Iterator[tuple[str, Case]]:
    stored = gzip.compress(b"hello", mtime=0)
    for value, passed in [
        ("", None), (" ", None), ("aws-chunked", None), ("AWS-Chunked", None), ("aws-chunked,gzip", "gzip"),
        ("gzip, aws-chunked", "gzip"), (",", None), ("gzip", "gzip"), ("br", "br"), ("aws-chunked,,aws-chunked", None),
    ]:  # fmt: skip
        body = stored if passed else b"hello"
        yield f"Content-Encoding: {value}", Case(
            (answer(200, body, ("Content-Encoding", value)),), 200, body, headers={"Content-Encoding": passed},
            asks={"accept-encoding": "identity"}, ask={"Accept-Encoding": "gzip"},
        )  # fmt: skip
    yield "Content-Encoding twice", Case(
        (answer(200, stored, ("Content-Encoding", "aws-chunked"), ("Content-Encoding", "gzip")),), 200, stored,
        headers={"Content-Encoding": "gzip"},
    )  # fmt: skip
    tagged = answer(200, stored, ("Content-Encoding", "gzip"), ("ETag", '"x"'))
    for value, asked in [
        ("gzip", "gzip"), ("gzip, deflate, br", "gzip"), ("br;q=1, gzip;q=0.5", "gzip"), ("x-gzip", "gzip"),
        ("*", "gzip"), ("GZIP", "gzip"), ("gzip;q=0", "identity"), ("identity", "identity"), ("deflate", "identity"),
        ("*;q=0, identity", "identity"), ("gzip;q=0.000", "identity"), ("gzipped", "identity"), ("", "identity"),
    ]:  # fmt: skip
        yield f"Accept-Encoding: {value}", Case(
            (tagged,), 200, stored, bucket="gzip", ask={"Accept-Encoding": value}, asks={"accept-encoding": asked},
            headers={"Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
        )  # fmt: skip
    yield "without Accept-Encoding", Case(
        (HELLO,), 200, b"hello", bucket="gzip", asks={"accept-encoding": "identity"},
        headers={"Vary": "Accept-Encoding"},
    )  # fmt: skip
    accepts = {"Accept-Encoding": "gzip"}
    yield "HEAD", Case(
        (head_of(tagged),), 200, b"", method="HEAD", bucket="gzip", ask=accepts, headers={"Vary": "Accept-Encoding"},
    )  # fmt: skip
    yield "304", Case(
        (answer(304, b"", ("ETag", '"x"'), length=None),), 304, b"", bucket="gzip", headers={"Vary": "Accept-Encoding"},
        ask={**accepts, "If-None-Match": '"x"'},
    )  # fmt: skip
    yield "a part", Case(
        (answer(206, WHOLE[5:10], *PART, ("Content-Encoding", "gzip")),), 206, WHOLE[5:10], bucket="gzip",
        ask={**accepts, "Range": "bytes=5-9"}, headers={"Vary": "Accept-Encoding"}, asks={"accept-encoding": "gzip"},
    )  # fmt: skip
    yield "not asked to vary", Case((tagged,), 200, stored, headers={"Vary": None}, ask=accepts)


def denials() -> Iterator[tuple[str, Case]]:
    device = answer(403, b"<html>Blocked by policy</html>", ("Content-Type", "text/html"))
    yield "of a device", Case((device,), 403, log="S3 answered 403 .*not S3's")
    yield "of a device, where it is 404", Case((device,), 403, log="not S3's", bucket="denied")
    yield "of S3", Case((error(403, "AccessDenied"),), 403)
    yield "of S3, where it is 404", Case((error(403, "AccessDenied"),), 404, bucket="denied")
    yield "without a word", Case((answer(403),), 403)
    yield "of HEAD", Case((head_of(device),), 403, log="not S3's", method="HEAD", reason=device, ways=WAYS[:2])


def ages() -> Iterator[tuple[str, Case]]:
    for age in ("600", "0", "600, 0", "abc", "2147483648"):
        aged = answer(200, b"hello", ("Age", age), ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("ETag", '"x"'))
        yield f"{age}", Case((aged,), 200, b"hello", headers={"Age": age})
    yield "of HEAD", Case((head_of(answer(200, b"x", ("Age", "9"))),), 200, b"", method="HEAD", headers={"Age": "9"})
    yield "of a part", Case(
        (answer(206, WHOLE[5:10], *PART, ("Age", "9")),), 206, WHOLE[5:10], ask=ranged("bytes=5-9"),
        headers={"Age": "9"},
    )  # fmt: skip
    unchanged = answer(304, b"", ("ETag", '"x"'), ("Age", "9"), length=None)
    yield "of 304", Case((unchanged,), 304, b"", ask={"If-None-Match": '"x"'}, headers={"Age": "9"})
    yield "none", Case((HELLO,), 200, b"hello", headers={"Age": None})


TABLES = {
    "parts as 200": parts_as_200,
    "parts": parts,
    "framing": framings,
    "white space and many fields": white_space_and_many_fields,
    "throttling": throttling,
    "conditions": conditions,
    "about the client's request": about_the_clients_request,
    "codings": codings,
    "denials": denials,
    "ages": ages,
}
NAMED = [(f"{table}: {name}", case) for table, cases in TABLES.items() for name, case in cases()]
CASES = [
    pytest.param(f"/{way}-{case.bucket}-{HOSTS[number % len(HOSTS)]}", case, id=f"{way}, {name}")
    for number, (name, case) in enumerate(NAMED)
    for way in case.ways
]


@pytest.mark.parametrize(("path", "case"), CASES)
def test_right_answer(httpd: Httpd, path: str, case: Case) -> None:
    before = len(our_lines(httpd))
    with ScriptedS3(*case.s3, then=case.reason, port=PORT, host="0.0.0.0") as s3:
        status, headers, body = ask(httpd, path, case)
        asked = s3.requests[-1].headers
    lines = our_lines(httpd)[before:]
    httpd.expect_error("usp_s3_wsgi: ")
    assert status == case.status or (case.body is CUT and status == 0), (body, lines)
    if case.method == "HEAD" or status == 304:
        assert body == b""
    elif case.body is CUT:
        assert body is None
    elif case.body is not None:
        assert body == case.body
    for name, value in case.headers.items():
        assert headers.get(name.lower()) == value, headers
    for name, value in case.asks.items():
        assert asked.get(name, "identity" if name == "accept-encoding" else None) == value, asked
    assert len(lines) == bool(case.log) and all(re.search(case.log, line) for line in lines), lines


def ask(httpd: Httpd, path: str, case: Case) -> tuple[int, dict[str, str], bytes | None]:
    """Ask byte by byte, for clients of libraries drop or change what is odd; return status, headers, body.

    The body is None where it ends abnormally; the status 0 where that comes before the header.
    """
    fields = {"Host": "x", "Connection": "close", **case.ask}
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
    top, _, rest_of_it = received.partition(b"\r\n\r\n")
    body: bytes | None = rest_of_it
    first_line, *rest = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    if headers.get("transfer-encoding") == "chunked":
        body = unchunked(rest_of_it)
    elif case.method != "HEAD" and len(rest_of_it) != int(headers.get("content-length", len(rest_of_it))):
        body = None
    return int(first_line.split(" ")[1]), headers, body


def unchunked(data: bytes) -> bytes | None:
    """The body that chunks make; None where the last one is missing."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not size:
            return None
        length = int(size, 16)
        if length == 0:
            return body
        body, data = body + data[:length], data[length + 2 :]


def our_lines(httpd: Httpd) -> list[str]:
    return [line for line in httpd.errors() if "usp_s3_wsgi: " in line]


LENGTHS = [
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
CODINGS = ["chunked", "Chunked", "chunked ", "chunked;x", "gzip, chunked", "identity", "chunked, chunked", ""]
STATED = [
    "bytes 5-9/100", "Bytes 5-9/100", "bytes 5-9/*", "bytes 4-8/100", "bytes 5-8/100", "bytes 0-4/5", "bytes 0-99/100",
    "bytes */100", "bytes */0", "bytes 9-5/100", "bytes 5-9/9", "bytes  5-9/100", "bytes=5-9/100", "5-9/100",
    "bytes 5-9", "bytes -5/100", "octets 5-9/100", "bytes 95-99/100", "bytes 5-9/1000000000000000000000",
]  # fmt: skip
ASKED = [
    None, "bytes=5-9", "BYTES=5-9", "bytes=5-", "bytes=-5", "bytes=0-4", "bytes= 5-9", "bytes=5-9,", "bytes=5-9,20-24",
    "bytes=-0", "bytes=5-9999", "bytes=0-", "bytes=95-",
]  # fmt: skip
STATUS_LINES = ["HTTP/1.1 {} X", "HTTP/1.1 {}", "HTTP/1.0 {} X", "HTTP/1.1 {}0 X", "HTTP/1.12 {} X", "HTTP/1.1 {}X"]


#: What mod_proxy would read in another way than the gateway does: <Proxy> refuses it.
DIFFERENTLY = [
    "Content-Length : 5", "Transfer-Encoding : chunked", "X : y", "Connection: Content-Length",
    "Content-Range : bytes 5-9/9",
    "Connection: keep-alive, content-range", "Content-Encoding : gzip",
]  # fmt: skip
EXTRA = [
    "no colon",
    " folded",
    ": y",
    "X:",
    "X: " + "y" * 600,
    "Content-Length: 5" + " " * 600 + "x",
    "X: a\tb",
    "X: a\rb",
]


def odd_answer(chance: random.Random) -> tuple[bytes, dict[str, str], str]:
    """What a server may make of a request for five bytes, mostly something that can be read; Range and query."""
    fields = []
    if chance.random() < 0.9:
        fields.append(f"Content-Length: {'5' if chance.random() < 0.5 else chance.choice(LENGTHS)}")
    if chance.random() < 0.1:
        fields.append(f"Content-Length: {chance.choice(LENGTHS)}")
    if not fields or chance.random() < 0.1:
        fields.append(f"Transfer-Encoding: {'chunked' if chance.random() < 0.5 else chance.choice(CODINGS)}")
    if chance.random() < 0.7:
        fields.append(f"Content-Range: {'bytes 5-9/100' if chance.random() < 0.5 else chance.choice(STATED)}")
    if chance.random() < 0.3:
        fields.append(chance.choice(DIFFERENTLY + EXTRA))
    chance.shuffle(fields)
    line = "HTTP/1.1 {} X" if chance.random() < 0.8 else chance.choice(STATUS_LINES)
    status = chance.choice([200, 206, 206])
    header = head(*fields, status=line.format(status))
    body = chunk(WHOLE[5:10]) if "Transfer-Encoding" in str(fields) else WHOLE[5:10]
    if chance.random() < 0.1:
        return header + body, {}, "?partNumber=2"
    if status == 200 and "Content-Range" not in str(fields):
        return header + body, {}, ""  # of a whole object httpd itself may cut out what is asked for
    asked = "bytes=5-9" if chance.random() < 0.5 else chance.choice(ASKED)
    return header + body, {"Range": asked} if asked else {}, ""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("seed", range(8))
def test_both_ways_in_say_the_same_of_any_answer(httpd: Httpd, seed: int, method: str) -> None:
    httpd.expect_error("usp_s3_wsgi: |AH00898|AH01097|AH02430|AH10260")
    chance = random.Random(seed)
    served = 0
    for number in range(60):
        whole, asked, query = odd_answer(chance)
        step = first(whole if method == "GET" else head_of(whole), close)
        case = Case((step,), 0, ask=asked, query=query, method=method)
        told = [told_to_client(httpd, f"/{way}-bucket-{HOSTS[number % len(HOSTS)]}", case) for way in IN_CHUNKS]
        is_read_differently = any(line.encode() in whole for line in DIFFERENTLY)
        assert told[0] == told[1] or (is_read_differently and told[1] == "refused"), (whole, asked, told)
        served += told[0] not in {"refused", "cut"}
    assert served > 1 or method == "HEAD"  # which asks for no range


def told_to_client(httpd: Httpd, path: str, case: Case) -> object:
    """Status, Content-Range and an object's bytes, or how the client sees a failure."""
    with ScriptedS3(then=case.s3[0], port=PORT, host="0.0.0.0"):
        status, headers, body = ask(httpd, path, case)
    if body is None:
        return "cut"
    if status >= 500:
        assert status == 502
        return "refused"
    return status, headers.get("content-range"), body if status < 400 else b""


# --- a connection on which the next answer may begin elsewhere

OUT_OF_STEP = [
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
@pytest.mark.parametrize("odd", OUT_OF_STEP)
def test_a_connection_out_of_step_is_not_used_again(httpd: Httpd, way: str, odd: bytes) -> None:
    httpd.expect_error("usp_s3_wsgi: |AH01106|AH00898|AH10124|AH01097")
    path = f"/{way}-bucket-{HOSTS[OUT_OF_STEP.index(odd)]}"
    with ScriptedS3(odd, HELLO, port=PORT, host="0.0.0.0") as s3:
        began = time.monotonic()
        status, _, body = ask(httpd, path, Case((), 0))
        assert status in {404, 416, 502} and b"hello" not in (body or b"")
        assert way != "proxy" or time.monotonic() - began < 5  # nobody waits for the rest of what is refused
        assert ask(httpd, path, Case((), 0))[2] == b"hello"
    assert [request.connection for request in s3.requests] == [1, 2]


def test_a_part_that_is_refused_is_not_waited_for(httpd: Httpd) -> None:
    """Its header has said enough."""
    httpd.expect_error("usp_s3_wsgi: ")
    begun = answer(206, WHOLE[:5], ("Content-Range", "bytes 0-4999/10000"), length=5000)
    for way in WAYS:
        with ScriptedS3(first(begun, stall), port=PORT, host="0.0.0.0"):
            began = time.monotonic()
            assert ask(httpd, f"/{way}-bucket-{HOSTS[9]}", Case((), 0, ask=ranged("bytes=5-9")))[0] == 502
            assert time.monotonic() - began < 5


# --- what S3 is asked with

DATES = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
LETTERS = "SunMoTuedaFrbJ0123456789 :,-GMT+"


def changed(text: str, chance: random.Random) -> str:
    """The same with a few letters that are others, missing or more."""
    for _ in range(chance.choice([0, 1, 1, 1, 2])):
        place = chance.randrange(len(text))
        text = text[:place] + chance.choice([*LETTERS, ""]) + text[place + chance.choice([0, 1, 1]) :]
    return text.strip()


def test_both_ways_in_ask_with_the_same(httpd: Httpd) -> None:
    """Dates that are nearly right, and lists of codings."""
    chance, forwarded = random.Random(15), 0
    edges = [
        "Thu, 01 Jan 1970 00:00:00 GMT", "Wed, 31 Dec 1969 23:59:59 GMT", "Thu Jan  1 00:00:00 1970",
        "Thursday, 01-Jan-70 00:00:00 GMT", "Sun, 06 Nov 1994 08:49:60 GMT", "Sun Nov  6 08:49:60 1994",
        "Sun, 06 Nov 1994 08:49:61 GMT", "Xyz, 06 Nov 1994 08:49:37 GMT", "Mon, 06 Nov 1994 08:49:37 GMT",
        "Fri, 29 Feb 2024 08:49:37 GMT", "Fri, 29 Feb 1900 08:49:37 GMT", "Fri, 01 Jan 0000 00:00:00 GMT",
        "Fri, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Sunday, 06-Nov-69 08:49:37 GMT",
    ]  # fmt: skip
    dates = edges + [changed(chance.choice(DATES), chance) for _ in range(150)]
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
            case = Case((), 0, ask={"If-Unmodified-Since": date, "Accept-Encoding": coding})
            for way in ("gateway", "proxy"):
                ask(httpd, f"/{way}-gzip-{HOSTS[0]}", case)
            one, other = [
                (request.headers.get("if-unmodified-since"), request.headers.get("accept-encoding"))
                for request in s3.requests[-2:]
            ]
            assert one == other, (date, coding)
            forwarded += one[0] is not None
    assert 20 < forwarded < len(dates) - 20
