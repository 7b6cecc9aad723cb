"""Parts of a multipart upload: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, partNumber."""

from __future__ import annotations

from tests.servers.battery.case import Case, Object
from tests.servers.response import Expected, status

KEY, SINGLE = b"upload.bin", b"single.bin"
#: All parts but the last must have at least 5 MiB.
SIZES = (5 * 1024 * 1024, 70_000)
DATA = bytes(range(251)) * (sum(SIZES) // 251 + 1)
DATA = DATA[: sum(SIZES)]
OBJECTS = [Object(KEY, DATA, kind="parts", parts=SIZES), Object(SINGLE, b"not in parts", kind="parts")]


def part(first: int, last: int) -> Expected:
    """A 206 with these bytes, both included."""
    return Expected((206,), DATA[first : last + 1], {"content-range": f"bytes {first}-{last}/{len(DATA)}"})


def case(
    name: str, key: bytes, query: str, *expected: Expected, head: tuple[Expected, ...] | None = None, **headers: str
) -> Case:
    """A request to a bucket with ``S3PassQuery partNumber``."""
    return Case("multipart uploads", name, key, expected, kind="parts", query=query, headers=headers, head=head)


CASES = [
    case("the whole object", KEY, "", Expected((200,), DATA)),
    case("the first part", KEY, "partNumber=1", part(0, SIZES[0] - 1)),
    case("the last part", KEY, "partNumber=2", part(SIZES[0], len(DATA) - 1)),
    case("a part number beyond the last", KEY, "partNumber=3", *status(416, 400)),
    case("part number 0", KEY, "partNumber=0", *status(400, 416)),
    case("a part number that is not a number", KEY, "partNumber=x", *status(400)),
    case("a part number and a range", KEY, "partNumber=1", *status(400), head=status(400, 200, 206), Range="bytes=0-9"),
    case(
        "a range across two parts", KEY, "", part(SIZES[0] - 10, SIZES[0] + 9), head=(Expected((200,), DATA),),
        Range=f"bytes={SIZES[0] - 10}-{SIZES[0] + 9}",
    ),
    case("part 1 of an object without parts", SINGLE, "partNumber=1", Expected((200, 206), b"not in parts")),
]  # fmt: skip
