"""Parts of a multipart upload: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, partNumber."""

from __future__ import annotations

from tests.servers.answer import Want, status
from tests.servers.battery.case import Case, Object

KEY, SINGLE = b"upload.bin", b"single.bin"
#: All but the last one of an upload have 5 MiB and more.
SIZES = (5 * 1024 * 1024, 70_000)
DATA = bytes(range(251)) * (sum(SIZES) // 251 + 1)
DATA = DATA[: sum(SIZES)]
OBJECTS = [Object(KEY, DATA, kind="parts", parts=SIZES), Object(SINGLE, b"not in parts", kind="parts")]


def part(first: int, last: int) -> Want:
    """A part of the whole object."""
    return Want((206,), DATA[first : last + 1], {"content-range": f"bytes {first}-{last}/{len(DATA)}"})


def case(name: str, key: bytes, query: str, *wants: Want, head: tuple[Want, ...] | None = None, **headers: str) -> Case:
    """A request whose ``partNumber`` S3PassQuery lets through."""
    return Case("parts of uploads", name, key, wants, kind="parts", query=query, headers=headers, head=head)


CASES = [
    case("the whole", KEY, "", Want((200,), DATA)),
    case("the first", KEY, "partNumber=1", part(0, SIZES[0] - 1)),
    case("the last", KEY, "partNumber=2", part(SIZES[0], len(DATA) - 1)),
    case("one too many", KEY, "partNumber=3", *status(416, 400)),
    case("number 0", KEY, "partNumber=0", *status(400, 416)),
    case("no number", KEY, "partNumber=x", *status(400)),
    case("a part and a range", KEY, "partNumber=1", *status(400), head=status(400, 200, 206), Range="bytes=0-9"),
    case(
        "a range that is in both", KEY, "", part(SIZES[0] - 10, SIZES[0] + 9), head=(Want((200,), DATA),),
        Range=f"bytes={SIZES[0] - 10}-{SIZES[0] + 9}",
    ),
    case("the only one", SINGLE, "partNumber=1", Want((200, 206), b"not in parts")),
]  # fmt: skip
