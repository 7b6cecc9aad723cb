"""The ways in which S3 fails, by name: what it does, and what the client and the error log are to have of it.

The object is OBJECT, unless a fault is about another one. Each fault is played to the gateway in this process
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
#: What an object is of whose type S3 says nothing.
UNTYPED = ("Content-Type", "binary/octet-stream")
WHOLE = answer(200, OBJECT, ETAG)
TIMEOUT = "timeout=250ms"


@dataclass(frozen=True)
class Fault:
    """What S3 does, request by request (``script``), and what is to come of it.

    ``status`` and ``body`` are the client's; ``whole``: else its body ends abnormally. ``log``: a pattern for each line
    of the error log. ``ranges``: the Range of each request to S3, None for none; not set: all are the client's own.
    ``asks``: the client's headers. ``besides``: what ``headers`` has besides, or has not (None).
    """

    script: tuple[Step, ...]
    status: int = 200
    body: bytes = OBJECT
    whole: bool = True
    log: tuple[str, ...] = ()
    ranges: tuple[str | None, ...] | None = None
    asks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    besides: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def headers(self) -> dict[str, str]:
        """The client's headers: those of OBJECT, or of an error of our own, and no others."""
        own = {"Content-Type": "text/plain; charset=utf-8"} if self.status >= 400 else dict([ETAG, UNTYPED])
        length = len(self.body) if self.whole else len(OBJECT)
        busy = {"Retry-After": "1"} if self.status == 503 else {}
        expected = {**own, "Content-Length": str(length), **busy, **self.besides}
        return {name: value for name, value in expected.items() if value is not None}


def rest(start: int, stop: int = len(OBJECT), *headers: tuple[str, str], total: int = len(OBJECT)) -> bytes:
    """S3's answer to the request for the rest."""
    place = ("Content-Range", f"bytes {start}-{stop - 1}/{total}")
    return answer(206, OBJECT[start:stop], *(headers or (ETAG,)), place)


def cut(at: int, whole: bytes = WHOLE) -> bytes:
    """A whole answer without its last bytes, so that ``at`` bytes of its body are left."""
    return whole[: whole.index(b"\r\n\r\n") + 4 + at]


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n", head: tuple[tuple[str, str], ...] = (ETAG,)) -> bytes:
    """An answer without length, in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return answer(200, body + end, *head, ("Transfer-Encoding", "chunked"), length=None)


def chunked_part(start: int, stop: int, *pieces: bytes) -> bytes:
    """A part in chunks, without the last one."""
    place = ("Content-Range", f"bytes {start}-{stop - 1}/{len(OBJECT)}")
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces or (OBJECT[start:stop],))
    return answer(206, framed, ETAG, place, ("Transfer-Encoding", "chunked"), length=None)


def of_unknown_total(start: int, stop: int, body: bytes) -> bytes:
    """A part of an object of whose length S3 says nothing."""
    return answer(206, body, ETAG, ("Content-Range", f"bytes {start}-{stop - 1}/*"))


def drip(data: bytes, step: int) -> Step:
    """Send bytes, some at a time with pauses that are far shorter than the time limit."""

    def slowly(connection: Connection, request: Request) -> None:
        for start in range(0, len(data), step):
            connection.send(data[start : start + step])
            time.sleep(0.02)

    return slowly


def in_an_hour() -> tuple[str, str]:
    """S3's clock, an hour ahead of this server's."""
    return ("Date", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))


def skewed(connection: Connection, request: Request) -> None:
    """Refuse a signature that is not of S3's hour."""
    signed_at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
    ahead = abs((signed_at - datetime.now(UTC) - timedelta(hours=1)).total_seconds())
    connection.send(WHOLE if ahead < 60 else error(403, "RequestTimeTooSkewed", in_an_hour()))


def only_in(region: str, refusal: bytes) -> Step:
    """Refuse a signature for another region."""

    def judge(connection: Connection, request: Request) -> None:
        connection.send(WHOLE if f"/{region}/s3/" in request.headers["authorization"] else refusal)

    return judge


AGAIN = r"GET http://.*/bucket/film\.mp4, attempt 1, [0-9.]+ s\); retrying"
EARLY = r"response body truncated: {} bytes are missing: .*\(GET http://.*/bucket/film\.mp4, attempt {}, [0-9.]+ s\)"
ONE_BREAK = (EARLY.format(3000, 1) + "; retrying",)
SPECIFIC = ("bytes=2000-4999",)
#: What the client's headers are where S3 says no length.
UNCOUNTED = {"Content-Length": None}
A_PART = {"Range": "bytes=1000-2999"}
PLACE = {"Content-Range": "bytes 1000-2999/5000"}
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
BUSY = "503 Service Unavailable"
OTHER_OBJECT = "the rest belongs to an object of another length"
OTHER_REST = "Content-Range is not the rest that was requested"
CONTRADICTION = "Content-Length does not match Content-Range"
BAD_HEADER = "response header is not valid HTTP, or too large"


def refused(script: Step | tuple[Step, ...], *log: str, phrase: str = "502 Bad Gateway") -> Fault:
    """The client gets an error of our own."""
    steps = script if isinstance(script, tuple) else (script,)
    return Fault(steps, int(phrase[:3]), f"{phrase}\n".encode(), log=log)


def late(step: Step) -> Fault:
    return refused(step, "no response within 0.25 s", phrase="504 Gateway Timeout")


def resumed(begin: Step, *more: Step) -> Fault:
    return Fault((begin, *more, rest(2000)), log=ONE_BREAK, ranges=(None, *SPECIFIC))


def broken_off(
    begin: Step, *more: Step, log: str, missing: int | str = 3000, body: bytes = OBJECT[:2000], rest: str = SPECIFIC[0]
) -> Fault:
    """The rest is asked for and is none: the client has what came before, and no more."""
    first_line = EARLY.format(missing, 1) + "; retrying"
    return Fault((begin, *more), body=body, whole=False, log=(first_line, log), ranges=(None, rest))


def resumed_chunks(at: int, begin: Step) -> Fault:
    log = (EARLY.format("some", 1) + "; retrying",)
    return Fault((begin, rest(at)), log=log, ranges=(None, f"bytes={at}-"), besides=UNCOUNTED)


def unfinished(begin: Step) -> Fault:
    """All bytes came, and nothing says so: there may have been more."""
    of_nothing = error(416, "InvalidRange", ("Content-Range", "bytes */5000"))
    log = (EARLY.format("some", 1), "S3 answered 416 to the request for the rest")
    return Fault((begin, of_nothing), whole=False, log=log, ranges=(None, "bytes=5000-"), besides=UNCOUNTED)


def no_chunks(data: bytes) -> Fault:
    """What follows the first chunk is none: nothing that came is to be trusted any more."""
    begin = first(chunked(OBJECT[:2000], end=data), close)
    return Fault((begin,), body=OBJECT[:2000], whole=False, log=(EARLY.format("some", 1) + "$",), besides=UNCOUNTED)


IN_A_CHUNK = chunked(OBJECT[:2000], OBJECT[2000:], end=b"")[:-1000]
#: By what S3 said of the part it is whole.
WHOLE_PART = Fault(
    (first(chunked_part(1000, 3000), close),),
    status=206, body=OBJECT[1000:3000], asks=A_PART, besides={**UNCOUNTED, **PLACE},
)  # fmt: skip

FAULTS: dict[str, Fault] = {
    # --- before the answer
    "reset before the header": Fault((reset, WHOLE), log=(AGAIN,)),
    "closed before the header": Fault((close, WHOLE), log=(AGAIN,)),
    "reset in the status line": Fault((first(b"HTTP/1.1 2", reset), WHOLE), log=(AGAIN,)),
    "closed in the header": Fault((first(WHOLE[:60], close), WHOLE), log=(AGAIN,)),
    "closed before the header's end": Fault((first(cut(0)[:-2], close), WHOLE), log=(AGAIN,)),
    "closed after early hints": Fault((first(HINTS, close), WHOLE), log=(AGAIN,)),
    "closed in the header after early hints": Fault((first(HINTS + WHOLE[:60], close), WHOLE), log=(AGAIN,)),
    "stall after early hints": late(first(HINTS, stall)),
    "closed each time": refused((close,) * 3, "attempt 1, ", "attempt 2, ", "attempt 3, [^;]*$"),
    "stall before the header": late(stall),
    "stall in the header": late(first(WHOLE[:60], stall)),
    "header in a slow drip": late(drip(WHOLE[:60] + b"x" * 99, 1)),
    "informational answers without end": late(drip(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50, 28)),
    # --- the header
    "100 Continue": Fault((b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,)),
    "early hints": Fault((HINTS + b"HTTP/1.1 102 Processing\r\n\r\n" + WHOLE,)),
    "another protocol": refused(answer(101, length=None), "unexpected status 101"),
    "not HTTP": refused(first(b"SSH-2.0-OpenSSH_9.2\r\n", close), BAD_HEADER),
    "garbage in the header": refused(WHOLE.replace(b"ETag: ", b"ETag "), BAD_HEADER),
    "a header line of 100 KB": refused(answer(200, OBJECT, ("X", "x" * 100_000)), BAD_HEADER),
    "400 header fields": Fault((answer(200, OBJECT, ETAG, *[("X", "x")] * 400),)),
    "control characters in a header": refused(answer(200, OBJECT, ("ETag", '"a\x0bb"')), "control characters: ETag"),
    "a header that would split the answer": refused(
        answer(200, OBJECT, ETAG, ("Content-Language", "en\rSet-Cookie: a=b")), BAD_HEADER
    ),
    "two contradicting lengths": refused(answer(200, OBJECT, ("Content-Length", "7")), "invalid Content-Length"),
    "the same length twice": refused(answer(200, OBJECT, ("Content-Length", "5000")), "invalid Content-Length"),
    "a length and chunks": refused(
        answer(200, b"5\r\nhello\r\n0\r\n\r\n", ("Transfer-Encoding", "chunked")), "chunked alone"
    ),
    "204": refused(answer(204, length=None), "S3 answered 204"),
    "gzip that nobody asked for": Fault(
        (answer(200, OBJECT, ETAG, ("Content-Encoding", "gzip")),), besides={"Content-Encoding": "gzip"}
    ),
    "Content-Length does not match Content-Range": Fault(
        (answer(206, OBJECT[1000:2000], ETAG, *PLACE.items()),), 502, b"502 Bad Gateway\n",
        log=(CONTRADICTION,), asks=A_PART,
    ),
    # --- the body
    "reset after the header": Fault(
        (first(cut(0), reset), rest(0)), log=(EARLY.format(5000, 1),), ranges=(None, "bytes=0-4999")
    ),
    "closed in the body": resumed(first(cut(2000), close)),
    "stall in the body": resumed(first(cut(2000), stall)),
    "stall after the header": Fault(
        (first(cut(0), stall), rest(0)), log=(EARLY.format(5000, 1),), ranges=(None, "bytes=0-4999")
    ),
    "body in a slow drip": Fault((drip(WHOLE, 500),)),
    "busy when the rest is asked for": Fault(
        (first(cut(2000), close), error(503, "SlowDown"), rest(2000)),
        log=(EARLY.format(3000, 1), "503 SlowDown, request id 4442587FB7D0A2F9 .*attempt 2, "),
        ranges=(None, *SPECIFIC, *SPECIFIC),
    ),
    "cut twice": Fault(
        (first(cut(2000), close), first(cut(1000, rest(2000)), close), rest(3000)),
        log=(EARLY.format(3000, 1), EARLY.format(2000, 2)),
        ranges=(None, "bytes=2000-4999", "bytes=3000-4999"),
    ),
    "cut more often than S3Retries": Fault(
        (first(cut(2000), close), first(cut(1000, rest(2000)), close), first(cut(500, rest(3000)), close)),
        body=OBJECT[:3500],
        whole=False,
        log=(EARLY.format(3000, 1), EARLY.format(2000, 2), EARLY.format(1500, 3)),
        ranges=(None, "bytes=2000-4999", "bytes=3000-4999"),
    ),
    "cut in a range": Fault(
        (first(cut(100, rest(1000, 3000)), close), rest(1100, 3000)),
        status=206,
        body=OBJECT[1000:3000],
        log=(EARLY.format(1900, 1),),
        ranges=("bytes=1000-2999", "bytes=1100-2999"),
        asks=A_PART,
        besides=PLACE,
    ),
    "cut in a range of an object of unknown length": Fault(
        (first(cut(100, of_unknown_total(1000, 3000, OBJECT[1000:3000])), close), rest(1100, 3000)),
        status=206,
        body=OBJECT[1000:3000],
        log=(EARLY.format(1900, 1),),
        ranges=("bytes=1000-2999", "bytes=1100-2999"),
        asks=A_PART,
        besides={"Content-Range": "bytes 1000-2999/*"},
    ),
    "cut in the last bytes": Fault(
        (first(cut(10, rest(4900)), close), rest(4910)),
        status=206,
        body=OBJECT[4900:],
        log=(EARLY.format(90, 1),),
        ranges=("bytes=-100", "bytes=4910-4999"),
        asks={"Range": "bytes=-100", "If-None-Match": '"other"', "If-Range": ETAG[1]},
        besides={"Content-Range": "bytes 4900-4999/5000"},
    ),
    "a longer body than its length": Fault((first(WHOLE + b"surplus", close),)),
    "a length that is too large": replace(
        broken_off(
            first(answer(200, OBJECT, ETAG, length=6000), close),
            error(416, "InvalidRange", ("Content-Range", "bytes */5000")),
            log="S3 answered 416 to the request for the rest",
            missing=1000,
            body=OBJECT,
            rest="bytes=5000-5999",
        ),
        besides={"Content-Length": "6000"},
    ),
    "cut, without ETag": Fault(
        (first(cut(2000, answer(200, OBJECT)), close),), body=OBJECT[:2000], whole=False,
        log=(EARLY.format(3000, 1),), besides={"ETag": None},
    ),
    "cut, with a weak ETag": Fault(
        (first(cut(2000, answer(200, OBJECT, ("ETag", 'W/"a"'))), close),), body=OBJECT[:2000], whole=False,
        log=("3000 bytes are missing",), besides={"ETag": 'W/"a"'},
    ),
    # --- the body in chunks
    "chunked": Fault((chunked(OBJECT[:2000], OBJECT[2000:]),), besides=UNCOUNTED),
    "chunked and cut": resumed_chunks(2000, first(chunked(OBJECT[:2000], end=b""), close)),
    "cut before the first chunk": resumed_chunks(0, first(chunked(end=b""), close)),
    "cut in a chunk": resumed_chunks(4002, first(IN_A_CHUNK, close)),
    "cut in a chunk's size": resumed_chunks(2000, first(chunked(OBJECT[:2000], end=b"0"), close)),
    "stall before the first chunk": resumed_chunks(0, first(chunked(end=b""), stall)),
    "stall in a chunk": resumed_chunks(4002, first(IN_A_CHUNK, stall)),
    "stall before a chunk": resumed_chunks(2000, first(chunked(OBJECT[:2000], end=b""), stall)),
    "stall in a chunk's size": resumed_chunks(2000, first(chunked(OBJECT[:2000], end=b"b"), stall)),
    "chunks in a slow drip": Fault((drip(chunked(OBJECT[:2000], OBJECT[2000:]), 500),), besides=UNCOUNTED),
    "a part in chunks without the last one": WHOLE_PART,
    "a part in chunks, then a stall": replace(WHOLE_PART, script=(first(chunked_part(1000, 3000), stall),)),
    "a part in chunks, with its last byte in one too many": Fault(
        (first(chunked_part(1000, 3000, OBJECT[1000:2500], OBJECT[2500:3001]), close),),
        status=206, body=OBJECT[1000:2500], whole=False, log=("more bytes than the Content-Range states",),
        asks=A_PART, besides={**UNCOUNTED, **PLACE},
    ),
    "a part in chunks, and a chunk more": Fault(
        (first(chunked_part(1000, 3000, OBJECT[1000:3000], b"surplus"), close),),
        status=206, body=OBJECT[1000:3000], whole=False, log=("more bytes than the Content-Range states",),
        asks=A_PART, besides={**UNCOUNTED, **PLACE},
    ),
    "cut before the last chunk's end": unfinished(first(chunked(OBJECT, end=b"0\r\n"), close)),
    "stall before the last chunk": unfinished(first(chunked(OBJECT, end=b""), stall)),
    "stall before the last chunk's end": unfinished(first(chunked(OBJECT, end=b"0\r\n"), stall)),
    "a chunk of nonsense": no_chunks(b"no hex\r\n"),
    "a chunk's size of 100 KB": no_chunks(b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"),
    "a chunk's size that can be read in two ways": no_chunks(b"5;\r0\r\nhello\r\n0\r\n\r\n"),
    # --- the rest is none
    "412: changed meanwhile": broken_off(
        first(cut(2000), close), error(412, "PreconditionFailed"), log="the object was changed meanwhile"
    ),
    "another ETag": broken_off(
        first(cut(2000), close), rest(2000, 5000, OTHER_ETAG), log="the object was changed meanwhile"
    ),
    "another length": broken_off(
        first(cut(2000), close), rest(2000, 5000, ETAG, total=9000), log=OTHER_OBJECT
    ),
    "another part": broken_off(first(cut(2000), close), rest(1000, 5000), log="is not the requested range"),
    "the rest of another length than it says": broken_off(
        first(cut(2000), close), cut(2000, rest(2000)).replace(b": 3000", b": 2000"), log=CONTRADICTION
    ),
    "the rest of an object of unknown length": broken_off(
        first(cut(2000), close), of_unknown_total(2000, 5000, OBJECT[2000:]), log=OTHER_OBJECT
    ),
    "the rest of chunks, of an object of unknown length": replace(
        broken_off(
            first(chunked(OBJECT[:2000], end=b""), close),
            of_unknown_total(2000, 5000, OBJECT[2000:]),
            log=OTHER_OBJECT,
            missing="some",
            rest="bytes=2000-",
        ),
        besides=UNCOUNTED,
    ),
    "the rest of a range, of an object of unknown length": Fault(
        (
            first(cut(100, of_unknown_total(1000, 3000, OBJECT[1000:3000])), close),
            of_unknown_total(1100, 3000, OBJECT[1100:3000]),
        ),
        status=206,
        body=OBJECT[1000:1100],
        whole=False,
        log=(EARLY.format(1900, 1), OTHER_OBJECT),
        ranges=("bytes=1000-2999", "bytes=1100-2999"),
        asks=A_PART,
        besides={"Content-Length": "2000", "Content-Range": "bytes 1000-2999/*"},
    ),
    "only a piece of the rest": broken_off(first(cut(2000), close), rest(2000, 2500), log=OTHER_REST),
    "the range is ignored": broken_off(
        first(cut(2000), close), WHOLE, log="S3 answered 200 to the request for the rest"
    ),
    "deleted meanwhile": broken_off(first(cut(2000), close), error(404, "NoSuchKey"), log="S3 answered 404 NoSuchKey"),
    # --- refusals
    "SlowDown, then fine": Fault(
        (error(503, "SlowDown"), WHOLE), log=("S3 answered 503 SlowDown, request id 4442587FB7D0A2F9.*attempt 1, ",)
    ),
    "InternalError without end": refused((error(500, "InternalError"),) * 3, "500", "500", "500", phrase=BUSY),
    "another kind of 5xx": refused(error(507, "InsufficientStorage"), "507", phrase=BUSY),
    "a method that is not implemented": refused(error(501, "NotImplemented"), "501"),
    "too many requests": refused((error(429, "TooManyRequests"),) * 3, "429", "429", "429", phrase=BUSY),
    "the clock is wrong": Fault(
        (skewed, skewed), log=("this server's clock is .* s behind S3's: correct it.*; retrying",)
    ),
    "the token has expired": refused(error(400, "ExpiredToken"), "400 ExpiredToken, request id 4442"),
    "wrong keys": refused(error(403, "SignatureDoesNotMatch"), "403 SignatureDoesNotMatch"),
    **{
        f"{status} {code}": Fault(
            (only_in("eu-west-3", refusal := error(status, code, region="eu-west-3")),) * 2,
            log=("the bucket is in region eu-west-3: set S3Region to it.*; retrying",),
        )
        for status, code in (
            (301, "PermanentRedirect"), (307, "TemporaryRedirect"), (308, "PermanentRedirect"),
            (400, "AuthorizationHeaderMalformed"),
        )
    },
    "a region that does not help": refused(
        (error(301, "PermanentRedirect", region="eu-west-3"),) * 2, "eu-west-3.*; retrying", "eu-west-3.*s\\)$"
    ),
    "two regions in turn": refused(
        tuple(error(301, "PermanentRedirect", region=region) for region in ("eu-west-3", "eu-central-1")),
        "eu-west-3.*; retrying", "eu-central-1: set S3Region to it.*s\\)$",
    ),
    "a redirect to nowhere": refused(answer(302, b"", ("Location", "https://evil.example/")), "302"),
}  # fmt: skip
