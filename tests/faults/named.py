"""The ways in which S3 fails, by name: what it does, and what the client and the error log are to have of it.

The object is OBJECT, unless a fault is about another one. Each fault is played to the gateway in this process
(test_named.py) and in a real httpd (tests/httpd/test_faults.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import MappingProxyType

from tests.faults.server import Connection, Request, Step, answer, close, error, first, reset, stall

OBJECT = bytes(number * 7 % 251 for number in range(5_000))
ETAG = ("ETag", '"9b2cf535f27731c974343645a3985328"')
OTHER_ETAG = ("ETag", '"0cc175b9c0f1b6a831c399e269772661"')
WHOLE = answer(200, OBJECT, ETAG)
TIMEOUT = "timeout=250ms"


@dataclass(frozen=True)
class Fault:
    """What S3 does, request by request (``script``), and what is to come of it.

    ``status`` and ``body`` are the client's; ``whole``: else its body ends abnormally. ``log``: a pattern for each line
    of the error log. ``ranges``: the Range of each request to S3, None for none. ``asks``: the client's headers.
    """

    script: tuple[Step, ...]
    status: int = 200
    body: bytes = OBJECT
    whole: bool = True
    log: tuple[str, ...] = ()
    ranges: tuple[str | None, ...] | None = None
    asks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


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


def chunked_part(data: bytes, start: int) -> bytes:
    """A part in one chunk, without the last one."""
    place = ("Content-Range", f"bytes {start}-{start + len(data) - 1}/{len(OBJECT)}")
    head = (ETAG, place, ("Transfer-Encoding", "chunked"))
    return answer(206, b"%x\r\n%s\r\n" % (len(data), data), *head, length=None)


def drip(data: bytes, step: int) -> Step:
    """Send bytes, some at a time with pauses that are far shorter than the time limit."""

    def slowly(connection: Connection, request: Request) -> None:
        for start in range(0, len(data), step):
            connection.send(data[start : start + step])
            time.sleep(0.02)

    return slowly


def in_an_hour() -> tuple[str, str]:
    """S3's clock, an hour ahead of this server's."""
    return ("Date", format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True))


def skewed(connection: Connection, request: Request) -> None:
    """Refuse a signature that is not of S3's hour."""
    signed_at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
    ahead = abs((signed_at - datetime.now(timezone.utc) - timedelta(hours=1)).total_seconds())
    connection.send(WHOLE if ahead < 60 else error(403, "RequestTimeTooSkewed", in_an_hour()))


def only_in(region: str, refusal: bytes) -> Step:
    """Refuse a signature for another region."""

    def judge(connection: Connection, request: Request) -> None:
        connection.send(WHOLE if f"/{region}/s3/" in request.headers["authorization"] else refusal)

    return judge


AGAIN = r"GET http://.*/bucket/film\.mp4, attempt 1, [0-9.]+ s\); asking again"
EARLY = r"S3 ended the body early, {} bytes are missing: .*\(GET http://.*/bucket/film\.mp4, attempt {}, [0-9.]+ s\)"
ONE_BREAK = (EARLY.format(3000, 1) + "; asking again",)
SPECIFIC = ("bytes=2000-4999",)
BUSY = "503 Service Unavailable"
BAD_HEADER = "S3 sent a header that is not HTTP, or too large"


def refused(script: Step | tuple[Step, ...], *log: str, phrase: str = "502 Bad Gateway") -> Fault:
    """The client gets an error of our own."""
    steps = script if isinstance(script, tuple) else (script,)
    return Fault(steps, int(phrase[:3]), f"{phrase}\n".encode(), log=log)


def late(step: Step) -> Fault:
    return refused(step, "no answer within 0.25 s", phrase="504 Gateway Timeout")


def resumed(begin: Step, *more: Step) -> Fault:
    return Fault((begin, *more, rest(2000)), log=ONE_BREAK, ranges=(None, *SPECIFIC))


def broken_off(begin: Step, *more: Step, log: str, missing: int = 3000, body: bytes = OBJECT[:2000]) -> Fault:
    """The rest is asked for and is none: the client has what came before, and no more."""
    first_line = EARLY.format(missing, 1) + "; asking again"
    return Fault((begin, *more), body=body, whole=False, log=(first_line, log))


FAULTS: dict[str, Fault] = {
    # --- before the answer
    "reset before the header": Fault((reset, WHOLE), log=(AGAIN,)),
    "closed before the header": Fault((close, WHOLE), log=(AGAIN,)),
    "reset in the status line": Fault((first(b"HTTP/1.1 2", reset), WHOLE), log=(AGAIN,)),
    "closed in the header": Fault((first(WHOLE[:60], close), WHOLE), log=(AGAIN,)),
    "closed before the header's end": Fault((first(cut(0)[:-2], close), WHOLE), log=(AGAIN,)),
    "closed each time": refused((close,) * 3, "attempt 1, ", "attempt 2, ", "attempt 3, [^;]*$"),
    "stall before the header": late(stall),
    "stall in the header": late(first(WHOLE[:60], stall)),
    "header in a slow drip": late(drip(WHOLE[:60] + b"x" * 99, 1)),
    "informational answers without end": late(drip(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50, 28)),
    # --- the header
    "100 Continue": Fault((b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,)),
    "early hints": Fault((b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + WHOLE,)),
    "another protocol": refused(answer(101, length=None), "S3 answered 101"),
    "not HTTP": refused(first(b"SSH-2.0-OpenSSH_9.2\r\n", close), BAD_HEADER),
    "garbage in the header": refused(WHOLE.replace(b"ETag: ", b"ETag "), BAD_HEADER),
    "a header line of 100 KB": refused(answer(200, OBJECT, ("X", "x" * 100_000)), BAD_HEADER),
    "101 header fields": refused(answer(200, OBJECT, *[("X", "x")] * 101), BAD_HEADER),
    "control characters in a header": refused(answer(200, OBJECT, ("ETag", '"a\x0bb"')), "control characters: ETag"),
    "a header that would split the answer": refused(
        answer(200, OBJECT, ETAG, ("Content-Language", "en\rSet-Cookie: a=b")), BAD_HEADER
    ),
    "two contradicting lengths": refused(answer(200, OBJECT, ("Content-Length", "7")), BAD_HEADER),
    "the same length twice": refused(answer(200, OBJECT, ("Content-Length", "5000")), "no number"),
    "a length and chunks": refused(
        answer(200, b"5\r\nhello\r\n0\r\n\r\n", ("Transfer-Encoding", "chunked")), "chunked alone"
    ),
    "204": refused(answer(204, length=None), "S3 answered 204"),
    "gzip that nobody asked for": Fault((answer(200, OBJECT, ETAG, ("Content-Encoding", "gzip")),)),
    # --- the body
    "reset after the header": Fault(
        (first(cut(0), reset), rest(0)), log=(EARLY.format(5000, 1),), ranges=(None, "bytes=0-4999")
    ),
    "closed in the body": resumed(first(cut(2000), close)),
    "stall in the body": resumed(first(cut(2000), stall)),
    "stall after the header": Fault((first(cut(0), stall), rest(0)), log=(EARLY.format(5000, 1),)),
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
    ),
    "cut in a range": Fault(
        (first(cut(100, rest(1000, 3000)), close), rest(1100, 3000)),
        status=206,
        body=OBJECT[1000:3000],
        log=(EARLY.format(1900, 1),),
        ranges=("bytes=1000-2999", "bytes=1100-2999"),
        asks={"Range": "bytes=1000-2999"},
    ),
    "cut in the last bytes": Fault(
        (first(cut(10, rest(4900)), close), rest(4910)),
        status=206,
        body=OBJECT[4900:],
        log=(EARLY.format(90, 1),),
        ranges=("bytes=-100", "bytes=4910-4999"),
        asks={"Range": "bytes=-100", "If-None-Match": '"other"', "If-Range": ETAG[1]},
    ),
    "a longer body than its length": Fault((first(WHOLE + b"surplus", close),)),
    "a length that is too large": broken_off(
        first(answer(200, OBJECT, ETAG, length=6000), close),
        error(416, "InvalidRange", ("Content-Range", "bytes */5000")),
        log="S3 answered 416 to the request for the rest",
        missing=1000,
        body=OBJECT,
    ),
    "cut, without ETag": Fault((first(cut(2000, answer(200, OBJECT)), close),), body=OBJECT[:2000], whole=False,
                               log=(EARLY.format(3000, 1),)),
    "cut, with a weak ETag": Fault((first(cut(2000, answer(200, OBJECT, ("ETag", 'W/"a"'))), close),),
                                   body=OBJECT[:2000], whole=False, log=("3000 bytes are missing",)),
    "chunked": Fault((chunked(OBJECT[:2000], OBJECT[2000:]),)),
    "chunked and cut": Fault(
        (first(chunked(OBJECT[:2000], end=b""), close), rest(2000)),
        log=(EARLY.format("some", 1),),
        ranges=(None, "bytes=2000-"),
    ),
    "cut before the first chunk": Fault(
        (first(chunked(end=b""), close), rest(0)), log=(EARLY.format("some", 1),), ranges=(None, "bytes=0-")
    ),
    "cut in a chunk": Fault(
        (first(chunked(OBJECT[:2000], OBJECT[2000:], end=b"")[:-1000], close), rest(4002)),
        log=(EARLY.format("some", 1),),
    ),
    "a part in chunks without the last one": Fault(
        (first(chunked_part(OBJECT[1000:3000], 1000), close),),
        status=206,
        body=OBJECT[1000:3000],  # by what S3 said of the part it is whole
        asks={"Range": "bytes=1000-2999"},
    ),
    "cut in a chunk's size": Fault(
        (first(chunked(OBJECT[:2000], end=b"0"), close), rest(2000)), log=(EARLY.format("some", 1),)
    ),
    "cut before the last chunk's end": Fault(
        (first(chunked(OBJECT, end=b"0\r\n"), close), error(416, "InvalidRange")),
        whole=False, log=(EARLY.format("some", 1), "416"),
    ),
    "a chunk of nonsense": Fault(
        (first(chunked(OBJECT[:2000], end=b"no hex\r\n"), close),), body=OBJECT[:2000], whole=False,
        log=(EARLY.format("some", 1),),
    ),
    # --- the rest is none
    "412: changed meanwhile": broken_off(
        first(cut(2000), close), error(412, "PreconditionFailed"), log="the object changed meanwhile"
    ),
    "another ETag": broken_off(
        first(cut(2000), close), rest(2000, 5000, OTHER_ETAG), log="the object changed meanwhile"
    ),
    "another length": broken_off(
        first(cut(2000), close), rest(2000, 5000, ETAG, total=9000), log="a part of another object"
    ),
    "another part": broken_off(first(cut(2000), close), rest(1000, 5000), log="another part than was asked for"),
    "only a piece of the rest": broken_off(first(cut(2000), close), rest(2000, 2500), log="another part than the rest"),
    "the range is ignored": broken_off(
        first(cut(2000), close), WHOLE, log="S3 answered 200 to the request for the rest"
    ),
    "deleted meanwhile": broken_off(first(cut(2000), close), error(404, "NoSuchKey"), log="S3 answered 404 NoSuchKey"),
    # --- refusals
    "SlowDown, then fine": Fault(
        (error(503, "SlowDown"), WHOLE), log=("S3 answered 503 SlowDown, request id 4442587FB7D0A2F9.*attempt 1, ",)
    ),
    "InternalError without end": refused((error(500, "InternalError"),) * 3, "500", "500", "500", phrase=BUSY),
    "another kind of 5xx": refused(error(501, "NotImplemented"), "501", phrase=BUSY),
    "the clock is wrong": Fault(
        (skewed, skewed), log=("this server's clock is .* s behind S3's: set it right.*; asking again",)
    ),
    "the token has expired": refused(error(400, "ExpiredToken"), "400 ExpiredToken, request id 4442"),
    "wrong keys": refused(error(403, "SignatureDoesNotMatch"), "403 SignatureDoesNotMatch"),
    **{
        f"{status} {code}": Fault(
            (only_in("eu-west-3", refusal := error(status, code, region="eu-west-3")),) * 2,
            log=("the bucket is in region eu-west-3: set S3Region to it.*; asking again",),
        )
        for status, code in (
            (301, "PermanentRedirect"), (307, "TemporaryRedirect"), (400, "AuthorizationHeaderMalformed")
        )
    },
    "a region that does not help": refused(
        (error(301, "PermanentRedirect", region="eu-west-3"),) * 2, "eu-west-3.*; asking again", "eu-west-3.*s\\)$"
    ),
    "a redirect to nowhere": refused(answer(302, b"", ("Location", "https://evil.example/")), "302"),
}  # fmt: skip
