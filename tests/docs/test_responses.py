"""docs/responses.md: each row of its tables of S3's responses, through the gateway."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from tests.docs.tables import table
from tests.faults.server import ScriptedS3, Step, answer, error
from tests.wsgi import call, environ, s3_settings

EMPTY_PART = answer(206, b"", ("Content-Range", "bytes 0--1/0"))
QUERY = {"S3PassQuery": "partNumber"}
Names = dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Case:
    """S3's responses to one request of a client. ``status``: the client's, if it is not the first one of the row."""

    script: tuple[Step, ...]
    headers: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    protocol: str = "HTTP/1.1"
    query: str = ""


def case(*script: Step, status: int | None = None, headers: Names = None, settings: Names = None, **more: str) -> Case:
    """A case without retries."""
    return Case(script, headers or {}, {"S3Retries": "0", **(settings or {})}, status, **more)


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


RANGE = {"Range": "bytes=1-3"}
#: For each row, by the first words of its first column.
CASES = {
    "200, 206, 304, 412, 416": [
        case(answer(200, b"hello"), status=200),
        case(answer(206, b"ell", ("Content-Range", "bytes 1-3/5")), status=206, headers=RANGE),
        case(answer(304, b""), status=304),
        case(error(412, "PreconditionFailed"), status=412),
        case(error(416, "InvalidRange"), status=416),
    ],
    "200 with `Content-Range`": [
        case(answer(200, b"ell", ("Content-Range", "bytes 1-3/5")), headers=RANGE),
        case(answer(200, b"hel", ("Content-Range", "bytes 0-2/5")), status=502, headers=RANGE),
    ],
    "501 to a range": [
        case(error(501, "NotImplemented"), answer(200, b"hello"), status=200, headers={"Range": "bytes=0-1,3-4"}),
    ],
    "206 to any range of an empty object": [
        case(EMPTY_PART, answer(200, b""), status=200, headers={"Range": "bytes=0-"}),
    ],
    "206 to the last 0 bytes": [
        case(answer(206, b"", ("Content-Range", "bytes 5-4/5")), headers={"Range": "bytes=-0"}),
    ],
    "no such object": [
        case(error(404, "NoSuchKey")),
        case(error(410, "Gone")),
        case(error(405, "MethodNotAllowed", ("x-amz-delete-marker", "true"))),
    ],
    "access to the object denied": [
        case(error(403, "AccessDenied")),
        case(error(403, "AccessDenied"), status=404, settings={"S3DeniedStatus": "404"}),
    ],
    "wrong key, signature": [
        case(error(status, code))
        for status, code in [
            (403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (400, "ExpiredToken"), (404, "NoSuchBucket"),
            (403, "RequestTimeTooSkewed"), (400, "AuthorizationHeaderMalformed"),
        ]
    ],
    "500, 503 SlowDown": [
        case(error(status, code))
        for status, code in [
            (500, "X"), (502, "X"), (503, "SlowDown"), (504, "X"), (408, "X"), (425, "X"), (429, "X"),
            (400, "RequestTimeout"),
        ]
    ],
    "501, 505": [
        case(error(501, "NotImplemented")),
        case(error(505, "X")),
        case(error(501, "NotImplemented"), status=400, query="?partNumber=1", settings=QUERY),
    ],
    "403 with a page that is not S3's": [case(answer(403, b"<html>blocked</html>", ("Content-Type", "text/html")))],
    "S3 rejects a parameter": [
        case(error(400, "InvalidArgument"), query="?partNumber=0", settings=QUERY),
        case(error(400, "KeyTooLongError")),
    ],
    "any other status": [case(answer(status, b"")) for status in (201, 303, 409, 418)],
    "a body with neither length nor chunks": [
        case(b"HTTP/1.1 200 OK\r\n\r\nhello"),
        case(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        case(b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello"),
        case(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        case(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ],
    "a chunked body, if": [case(chunked(b"5\r\nhello\r\n0\r\n\r\n"), protocol="HTTP/1.0")],
    "malformed chunked encoding": [case(answer(206, b"hel", ("Content-Range", "bytes 0-2/5")), headers=RANGE)],
    "a header of more than 64 KB": [case(answer(200, b"hello", ("x-amz-meta-a", "a" * 70_000)))],
}  # fmt: skip
ROWS = [row for number in (0, 1) for row in table("responses.md", "S3's response", number)]


def test_each_row_has_a_case() -> None:
    assert [sum(row[0].startswith(words) for words in CASES) for row in ROWS] == [1] * len(ROWS)
    assert len(ROWS) == len(CASES)


@pytest.mark.parametrize(
    ("words", "one"),
    [(words, one) for words, cases in CASES.items() for one in cases],
    ids=lambda value: str(value)[:40],
)
def test_the_client_gets_the_status_of_the_row(words: str, one: Case) -> None:
    (row,) = (row for row in ROWS if row[0].startswith(words))
    statuses = [int(number) for number in re.findall(r"\b[1-5]\d\d\b", row[1])]
    with ScriptedS3(*one.script) as s3:
        settings = s3_settings(s3.url, **one.settings)
        request = environ(f"/media/film.mp4{one.query}", settings, headers=one.headers)
        reply = call({**request, "SERVER_PROTOCOL": one.protocol})
    assert reply.status == (one.status or statuses[0]), reply.log
    assert not statuses or reply.status in statuses or words.startswith("200, 206")
