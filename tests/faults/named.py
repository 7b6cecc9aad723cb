"""S3's failures by name: what S3 sends, and what the client and the error log must get.

The object is OBJECT, unless a fault is about another one. Each fault is tested with the gateway in this process
(test_named.py) and in a real httpd (tests/httpd/test_faults.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import MappingProxyType

from tests.faults.server import Connection, Request, Step, answer, close, error, first, reset, stall

OBJECT = bytes(number * 7 % 251 for number in range(5_000))
ETAG = ("ETag", '"9b2cf535f27731c974343645a3985328"')
OTHER_ETAG = ("ETag", '"0cc175b9c0f1b6a831c399e269772661"')
#: The gateway's default where S3 sends no Content-Type.
UNTYPED = ("Content-Type", "binary/octet-stream")
WHOLE = answer(200, OBJECT, ETAG)
TIMEOUT = "timeout=250ms"


@dataclass(frozen=True)
class Fault:
    """What S3 does, request by request (``script``), and the expected result.

    ``status`` and ``body`` are what the client gets; ``whole``: whether its body is complete (otherwise it ends
    abnormally). ``log``: a pattern for each line of the error log. ``ranges``: the Range header of each request to S3
    (None: no Range header); if it is not set, each request has the client's Range. ``asks``: the client's headers.
    ``header_changes``: headers that the response has in addition to the usual ones, or lacks (None).
    """

    script: tuple[Step, ...]
    status: int = 200
    body: bytes = OBJECT
    whole: bool = True
    log: tuple[str, ...] = ()
    ranges: tuple[str | None, ...] | None = None
    asks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    header_changes: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def headers(self) -> dict[str, str]:
        """All headers that the client gets: those of OBJECT, or of the gateway's error response."""
        base = {"Content-Type": "text/plain; charset=utf-8"} if self.status >= 400 else dict([ETAG, UNTYPED])
        length = len(self.body) if self.whole else len(OBJECT)
        retry_after = {"Retry-After": "1"} if self.status == 503 else {}
        expected = {**base, "Content-Length": str(length), **retry_after, **self.header_changes}
        return {name: value for name, value in expected.items() if value is not None}


def rest(start: int, stop: int = len(OBJECT), *headers: tuple[str, str], total: int = len(OBJECT)) -> bytes:
    """S3's response to the request for the rest."""
    content_range = ("Content-Range", f"bytes {start}-{stop - 1}/{total}")
    return answer(206, OBJECT[start:stop], *(headers or (ETAG,)), content_range)


def truncated(at: int, whole: bytes = WHOLE) -> bytes:
    """A response that is truncated after ``at`` bytes of its body."""
    return whole[: whole.index(b"\r\n\r\n") + 4 + at]


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n", head: tuple[tuple[str, str], ...] = (ETAG,)) -> bytes:
    """A response with chunked encoding and without Content-Length."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return answer(200, body + end, *head, ("Transfer-Encoding", "chunked"), length=None)


def chunked_range(start: int, stop: int, *pieces: bytes) -> bytes:
    """A 206 response with chunked encoding, without the last chunk."""
    content_range = ("Content-Range", f"bytes {start}-{stop - 1}/{len(OBJECT)}")
    encoded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces or (OBJECT[start:stop],))
    return answer(206, encoded, ETAG, content_range, ("Transfer-Encoding", "chunked"), length=None)


def range_of_unknown_total(start: int, stop: int, body: bytes) -> bytes:
    """A 206 response that does not state the length of the object."""
    return answer(206, body, ETAG, ("Content-Range", f"bytes {start}-{stop - 1}/*"))


def drip(data: bytes, step: int) -> Step:
    """Send ``step`` bytes at a time, with pauses that are far shorter than the read timeout."""

    def slowly(connection: Connection, request: Request) -> None:
        for start in range(0, len(data), step):
            connection.send(data[start : start + step])
            time.sleep(0.02)

    return slowly


def date_in_an_hour() -> tuple[str, str]:
    """The Date header of an S3 whose clock is an hour ahead of this server's."""
    return ("Date", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))


def check_clock(connection: Connection, request: Request) -> None:
    """Reject a signature whose time is not an hour ahead of this server's clock."""
    signed_at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
    ahead = abs((signed_at - datetime.now(UTC) - timedelta(hours=1)).total_seconds())
    connection.send(WHOLE if ahead < 60 else error(403, "RequestTimeTooSkewed", date_in_an_hour()))


def only_in_region(region: str, response: bytes) -> Step:
    """Reject signatures for other regions."""

    def check_region(connection: Connection, request: Request) -> None:
        connection.send(WHOLE if f"/{region}/s3/" in request.headers["authorization"] else response)

    return check_region


RETRIED = r"GET http://.*/bucket/film\.mp4, attempt 1, [0-9.]+ s\); retrying"
TRUNCATED = (
    r"response body truncated: {} bytes are missing: .*\(GET http://.*/bucket/film\.mp4, attempt {}, [0-9.]+ s\)"
)
TRUNCATED_ONCE = (TRUNCATED.format(3000, 1) + "; retrying",)
RANGE_OF_REST = ("bytes=2000-4999",)
#: The client gets no Content-Length if S3 sends none.
NO_LENGTH = {"Content-Length": None}
RANGE = {"Range": "bytes=1000-2999"}
CONTENT_RANGE = {"Content-Range": "bytes 1000-2999/5000"}
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
UNAVAILABLE = "503 Service Unavailable"
WRONG_TOTAL = "the rest belongs to an object of another length"
WRONG_RANGE = "Content-Range is not the rest that was requested"
LENGTH_MISMATCH = "Content-Length does not match Content-Range"
INVALID_HEADER = "response header is not valid HTTP: "
DUPLICATE_LENGTH = INVALID_HEADER + "Duplicate Content-Length"


def error_response(script: Step | tuple[Step, ...], *log: str, phrase: str = "502 Bad Gateway") -> Fault:
    """The client gets the gateway's error response."""
    steps = script if isinstance(script, tuple) else (script,)
    return Fault(steps, int(phrase[:3]), f"{phrase}\n".encode(), log=log)


def read_timeout(step: Step) -> Fault:
    return error_response(step, "no response within 0.25 s", phrase="504 Gateway Timeout")


def resumed(begin: Step, *more: Step) -> Fault:
    return Fault((begin, *more, rest(2000)), log=TRUNCATED_ONCE, ranges=(None, *RANGE_OF_REST))


def failed_resume(
    begin: Step,
    *more: Step,
    log: str,
    missing: int | str = 3000,
    body: bytes = OBJECT[:2000],
    rest: str = RANGE_OF_REST[0],
) -> Fault:
    """The response to the request for the rest is not the rest: the client gets the bytes before it, and no more."""
    first_line = TRUNCATED.format(missing, 1) + "; retrying"
    return Fault((begin, *more), body=body, whole=False, log=(first_line, log), ranges=(None, rest))


def resumed_chunks(at: int, begin: Step) -> Fault:
    log = (TRUNCATED.format("some", 1) + "; retrying",)
    return Fault((begin, rest(at)), log=log, ranges=(None, f"bytes={at}-"), header_changes=NO_LENGTH)


def without_last_chunk(begin: Step) -> Fault:
    """All bytes arrive without the last chunk: the gateway cannot know that the body is complete."""
    not_satisfiable = error(416, "InvalidRange", ("Content-Range", "bytes */5000"))
    log = (TRUNCATED.format("some", 1), "S3 answered 416 to the request for the rest")
    return Fault((begin, not_satisfiable), whole=False, log=log, ranges=(None, "bytes=5000-"), header_changes=NO_LENGTH)


def malformed_chunks(data: bytes) -> Fault:
    """Malformed chunked encoding after the first chunk: the body is not resumed."""
    begin = first(chunked(OBJECT[:2000], end=data), close)
    return Fault(
        (begin,), body=OBJECT[:2000], whole=False, log=(TRUNCATED.format("some", 1) + "$",), header_changes=NO_LENGTH
    )


TRUNCATED_IN_CHUNK = chunked(OBJECT[:2000], OBJECT[2000:], end=b"")[:-1000]
#: All bytes of the Content-Range arrived: the body is complete without the last chunk.
COMPLETE_RANGE = Fault(
    (first(chunked_range(1000, 3000), close),),
    status=206, body=OBJECT[1000:3000], asks=RANGE, header_changes={**NO_LENGTH, **CONTENT_RANGE},
)  # fmt: skip

FAULTS: dict[str, Fault] = {
    # --- before the response
    "reset before the header": Fault((reset, WHOLE), log=(RETRIED,)),
    "closed before the header": Fault((close, WHOLE), log=(RETRIED,)),
    "reset in the status line": Fault((first(b"HTTP/1.1 2", reset), WHOLE), log=(RETRIED,)),
    "closed in the header": Fault((first(WHOLE[:60], close), WHOLE), log=(RETRIED,)),
    "closed before the header's end": Fault((first(truncated(0)[:-2], close), WHOLE), log=(RETRIED,)),
    "closed after early hints": Fault((first(HINTS, close), WHOLE), log=(RETRIED,)),
    "closed in the header after early hints": Fault((first(HINTS + WHOLE[:60], close), WHOLE), log=(RETRIED,)),
    "stall after early hints": read_timeout(first(HINTS, stall)),
    "closed each time": error_response((close,) * 3, "attempt 1, ", "attempt 2, ", "attempt 3, [^;]*$"),
    "stall before the header": read_timeout(stall),
    "stall in the header": read_timeout(first(WHOLE[:60], stall)),
    "header in a slow drip": read_timeout(drip(WHOLE[:60] + b"x" * 99, 1)),
    "endless informational responses": read_timeout(drip(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50, 28)),
    # --- the header
    "100 Continue": Fault((b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,)),
    "early hints": Fault((HINTS + b"HTTP/1.1 102 Processing\r\n\r\n" + WHOLE,)),
    "101 Switching Protocols": error_response(answer(101, length=None), "unexpected status 101"),
    "not HTTP": error_response(first(b"SSH-2.0-OpenSSH_9.2\r\n", close), INVALID_HEADER),
    "garbage in the header": error_response(WHOLE.replace(b"ETag: ", b"ETag "), INVALID_HEADER),
    "a header line of 100 KB": error_response(
        answer(200, OBJECT, ("X", "x" * 100_000)), "response header is larger than 64 KiB"
    ),
    "400 header fields": Fault((answer(200, OBJECT, ETAG, *[("X", "x")] * 400),)),
    "control characters in a header": error_response(
        answer(200, OBJECT, ("ETag", '"a\x0bb"')), INVALID_HEADER + "Invalid header value char"
    ),
    "a header that would split the response": error_response(
        answer(200, OBJECT, ETAG, ("Content-Language", "en\rSet-Cookie: a=b")), INVALID_HEADER
    ),
    "two contradicting lengths": error_response(answer(200, OBJECT, ("Content-Length", "7")), DUPLICATE_LENGTH),
    "the same length twice": error_response(answer(200, OBJECT, ("Content-Length", "5000")), DUPLICATE_LENGTH),
    "a length and chunks": error_response(
        answer(200, b"5\r\nhello\r\n0\r\n\r\n", ("Transfer-Encoding", "chunked")), "chunked alone"
    ),
    "204": error_response(answer(204, length=None), "S3 answered 204"),
    "gzip without Accept-Encoding": Fault(
        (answer(200, OBJECT, ETAG, ("Content-Encoding", "gzip")),), header_changes={"Content-Encoding": "gzip"}
    ),
    "Content-Length does not match Content-Range": Fault(
        (answer(206, OBJECT[1000:2000], ETAG, *CONTENT_RANGE.items()),), 502, b"502 Bad Gateway\n",
        log=(LENGTH_MISMATCH,), asks=RANGE,
    ),
    # --- the body
    "reset after the header": Fault(
        (first(truncated(0), reset), rest(0)), log=(TRUNCATED.format(5000, 1),), ranges=(None, "bytes=0-4999")
    ),
    "closed in the body": resumed(first(truncated(2000), close)),
    "stall in the body": resumed(first(truncated(2000), stall)),
    "stall after the header": Fault(
        (first(truncated(0), stall), rest(0)), log=(TRUNCATED.format(5000, 1),), ranges=(None, "bytes=0-4999")
    ),
    "body in a slow drip": Fault((drip(WHOLE, 500),)),
    "503 to the request for the rest": Fault(
        (first(truncated(2000), close), error(503, "SlowDown"), rest(2000)),
        log=(TRUNCATED.format(3000, 1), "503 SlowDown, request id 4442587FB7D0A2F9 .*attempt 2, "),
        ranges=(None, *RANGE_OF_REST, *RANGE_OF_REST),
    ),
    "truncated twice": Fault(
        (first(truncated(2000), close), first(truncated(1000, rest(2000)), close), rest(3000)),
        log=(TRUNCATED.format(3000, 1), TRUNCATED.format(2000, 2)),
        ranges=(None, "bytes=2000-4999", "bytes=3000-4999"),
    ),
    "truncated more often than S3Retries": Fault(
        (
            first(truncated(2000), close),
            first(truncated(1000, rest(2000)), close),
            first(truncated(500, rest(3000)), close),
        ),
        body=OBJECT[:3500],
        whole=False,
        log=(TRUNCATED.format(3000, 1), TRUNCATED.format(2000, 2), TRUNCATED.format(1500, 3)),
        ranges=(None, "bytes=2000-4999", "bytes=3000-4999"),
    ),
    "truncated in a range": Fault(
        (first(truncated(100, rest(1000, 3000)), close), rest(1100, 3000)),
        status=206,
        body=OBJECT[1000:3000],
        log=(TRUNCATED.format(1900, 1),),
        ranges=("bytes=1000-2999", "bytes=1100-2999"),
        asks=RANGE,
        header_changes=CONTENT_RANGE,
    ),
    "truncated in a range of an object of unknown length": Fault(
        (first(truncated(100, range_of_unknown_total(1000, 3000, OBJECT[1000:3000])), close), rest(1100, 3000)),
        status=206,
        body=OBJECT[1000:3000],
        log=(TRUNCATED.format(1900, 1),),
        ranges=("bytes=1000-2999", "bytes=1100-2999"),
        asks=RANGE,
        header_changes={"Content-Range": "bytes 1000-2999/*"},
    ),
    "truncated in a suffix range": Fault(
        (first(truncated(10, rest(4900)), close), rest(4910)),
        status=206,
        body=OBJECT[4900:],
        log=(TRUNCATED.format(90, 1),),
        ranges=("bytes=-100", "bytes=4910-4999"),
        asks={"Range": "bytes=-100", "If-Range": ETAG[1]},
        header_changes={"Content-Range": "bytes 4900-4999/5000"},
    ),
    "a body longer than its Content-Length": Fault((first(WHOLE + b"surplus", close),)),
    "a Content-Length that is too large": replace(
        failed_resume(
            first(answer(200, OBJECT, ETAG, length=6000), close),
            error(416, "InvalidRange", ("Content-Range", "bytes */5000")),
            log="S3 answered 416 to the request for the rest",
            missing=1000,
            body=OBJECT,
            rest="bytes=5000-5999",
        ),
        header_changes={"Content-Length": "6000"},
    ),
    "truncated, without ETag": Fault(
        (first(truncated(2000, answer(200, OBJECT)), close),), body=OBJECT[:2000], whole=False,
        log=(TRUNCATED.format(3000, 1),), header_changes={"ETag": None},
    ),
    "truncated, with a weak ETag": Fault(
        (first(truncated(2000, answer(200, OBJECT, ("ETag", 'W/"a"'))), close),), body=OBJECT[:2000], whole=False,
        log=("3000 bytes are missing",), header_changes={"ETag": 'W/"a"'},
    ),
    # --- chunked encoding
    "chunked": Fault((chunked(OBJECT[:2000], OBJECT[2000:]),), header_changes=NO_LENGTH),
    "chunked and truncated": resumed_chunks(2000, first(chunked(OBJECT[:2000], end=b""), close)),
    "truncated before the first chunk": resumed_chunks(0, first(chunked(end=b""), close)),
    "truncated in a chunk": resumed_chunks(4002, first(TRUNCATED_IN_CHUNK, close)),
    "truncated in a chunk size": resumed_chunks(2000, first(chunked(OBJECT[:2000], end=b"0"), close)),
    "stall before the first chunk": resumed_chunks(0, first(chunked(end=b""), stall)),
    "stall in a chunk": resumed_chunks(4002, first(TRUNCATED_IN_CHUNK, stall)),
    "stall before a chunk": resumed_chunks(2000, first(chunked(OBJECT[:2000], end=b""), stall)),
    "stall in a chunk size": resumed_chunks(2000, first(chunked(OBJECT[:2000], end=b"b"), stall)),
    "chunks in a slow drip": Fault((drip(chunked(OBJECT[:2000], OBJECT[2000:]), 500),), header_changes=NO_LENGTH),
    "a chunked range without the last chunk": COMPLETE_RANGE,
    "a chunked range without the last chunk, then a stall": replace(
        COMPLETE_RANGE, script=(first(chunked_range(1000, 3000), stall),)
    ),
    "a chunked range whose last chunk is too long": Fault(
        (first(chunked_range(1000, 3000, OBJECT[1000:2500], OBJECT[2500:3001]), close),),
        status=206, body=OBJECT[1000:2500], whole=False, log=("more bytes than the Content-Range states",),
        asks=RANGE, header_changes={**NO_LENGTH, **CONTENT_RANGE},
    ),
    "a chunked range with a surplus chunk": Fault(
        (first(chunked_range(1000, 3000, OBJECT[1000:3000], b"surplus"), close),),
        status=206, body=OBJECT[1000:3000], whole=False, log=("more bytes than the Content-Range states",),
        asks=RANGE, header_changes={**NO_LENGTH, **CONTENT_RANGE},
    ),
    "truncated in the last chunk": without_last_chunk(first(chunked(OBJECT, end=b"0\r\n"), close)),
    "stall before the last chunk": without_last_chunk(first(chunked(OBJECT, end=b""), stall)),
    "stall in the last chunk": without_last_chunk(first(chunked(OBJECT, end=b"0\r\n"), stall)),
    "malformed chunk size": malformed_chunks(b"no hex\r\n"),
    "chunk size line of 100 KB": malformed_chunks(b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"),
    "ambiguous chunk size line": malformed_chunks(b"5;\r0\r\nhello\r\n0\r\n\r\n"),
    # --- the response to the request for the rest is not the rest
    "412: changed meanwhile": failed_resume(
        first(truncated(2000), close), error(412, "PreconditionFailed"), log="the object was changed meanwhile"
    ),
    "the rest has another ETag": failed_resume(
        first(truncated(2000), close), rest(2000, 5000, OTHER_ETAG), log="the object was changed meanwhile"
    ),
    "the rest belongs to an object of another length": failed_resume(
        first(truncated(2000), close), rest(2000, 5000, ETAG, total=9000), log=WRONG_TOTAL
    ),
    "the rest is another range": failed_resume(
        first(truncated(2000), close), rest(1000, 5000), log="is not the requested range"
    ),
    "the rest has another length than its Content-Range": failed_resume(
        first(truncated(2000), close), truncated(2000, rest(2000)).replace(b": 3000", b": 2000"), log=LENGTH_MISMATCH
    ),
    "the rest of an object of unknown length": failed_resume(
        first(truncated(2000), close), range_of_unknown_total(2000, 5000, OBJECT[2000:]), log=WRONG_TOTAL
    ),
    "the rest of a chunked body, of an object of unknown length": replace(
        failed_resume(
            first(chunked(OBJECT[:2000], end=b""), close),
            range_of_unknown_total(2000, 5000, OBJECT[2000:]),
            log=WRONG_TOTAL,
            missing="some",
            rest="bytes=2000-",
        ),
        header_changes=NO_LENGTH,
    ),
    "the rest of a range, of an object of unknown length": Fault(
        (
            first(truncated(100, range_of_unknown_total(1000, 3000, OBJECT[1000:3000])), close),
            range_of_unknown_total(1100, 3000, OBJECT[1100:3000]),
        ),
        status=206,
        body=OBJECT[1000:1100],
        whole=False,
        log=(TRUNCATED.format(1900, 1), WRONG_TOTAL),
        ranges=("bytes=1000-2999", "bytes=1100-2999"),
        asks=RANGE,
        header_changes={"Content-Length": "2000", "Content-Range": "bytes 1000-2999/*"},
    ),
    "only a part of the rest": failed_resume(first(truncated(2000), close), rest(2000, 2500), log=WRONG_RANGE),
    "the range of the rest is ignored": failed_resume(
        first(truncated(2000), close), WHOLE, log="S3 answered 200 to the request for the rest"
    ),
    "deleted meanwhile": failed_resume(
        first(truncated(2000), close), error(404, "NoSuchKey"), log="S3 answered 404 NoSuchKey"
    ),
    # --- error responses of S3
    "SlowDown, then success": Fault(
        (error(503, "SlowDown"), WHOLE), log=("S3 answered 503 SlowDown, request id 4442587FB7D0A2F9.*attempt 1, ",)
    ),
    "InternalError without end": error_response(
        (error(500, "InternalError"),) * 3, "500", "500", "500", phrase=UNAVAILABLE
    ),
    "another 5xx status": error_response(error(507, "InsufficientStorage"), "507", phrase=UNAVAILABLE),
    "a method that is not implemented": error_response(error(501, "NotImplemented"), "501"),
    "too many requests": error_response((error(429, "TooManyRequests"),) * 3, "429", "429", "429", phrase=UNAVAILABLE),
    "the clock is wrong": Fault(
        (check_clock, check_clock), log=("this server's clock is .* s behind S3's: correct it.*; retrying",)
    ),
    "the token has expired": error_response(error(400, "ExpiredToken"), "400 ExpiredToken, request id 4442"),
    "wrong keys": error_response(error(403, "SignatureDoesNotMatch"), "403 SignatureDoesNotMatch"),
    **{
        f"{status} {code}": Fault(
            (only_in_region("eu-west-3", response := error(status, code, region="eu-west-3")),) * 2,
            log=("the bucket is in region eu-west-3: set S3Region to it.*; retrying",),
        )
        for status, code in (
            (301, "PermanentRedirect"), (307, "TemporaryRedirect"), (308, "PermanentRedirect"),
            (400, "AuthorizationHeaderMalformed"),
        )
    },
    "a region that does not help": error_response(
        (error(301, "PermanentRedirect", region="eu-west-3"),) * 2, "eu-west-3.*; retrying", "eu-west-3.*s\\)$"
    ),
    "two regions in turn": error_response(
        tuple(error(301, "PermanentRedirect", region=region) for region in ("eu-west-3", "eu-central-1")),
        "eu-west-3.*; retrying", "eu-central-1: set S3Region to it.*s\\)$",
    ),
    "a redirect to nowhere": error_response(answer(302, b"", ("Location", "https://evil.example/")), "302"),
}  # fmt: skip
