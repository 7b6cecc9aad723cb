"""Range requests: RFC 9110, section 14. Range is ignored for HEAD (14.2)."""

from __future__ import annotations

from tests.servers.battery.case import Case, Object
from tests.servers.response import Expected

DATA = bytes(range(256)) * 1200
LENGTH = len(DATA)
KEY, EMPTY = b"ranges/data.bin", b"ranges/empty.bin"
PAST = "Sun, 06 Nov 1994 08:49:37 GMT"
OBJECTS = [Object(KEY, DATA), Object(EMPTY, b"")]
WHOLE = Expected((200,), DATA)
NOTHING = Expected((200,), b"")


def range_response(first: int, last: int) -> Expected:
    """The bytes from ``first`` to ``last``, both included."""
    return Expected((206,), DATA[first : last + 1], {"content-range": f"bytes {first}-{last}/{LENGTH}"})


def unsatisfiable(length: int) -> Expected:
    """A 416 that states the length."""
    return Expected((416,), None, {"content-range": f"bytes */{length}"})


def range_case(name: str, text: str, *expected: Expected, if_range: str = "", is_strict: bool = False) -> Case:
    """A range, which a server may ignore (14.2); ``is_strict``: one of these is expected in any case."""
    headers = {"Range": text, **({"If-Range": if_range} if if_range else {})}
    minimum = without_length(expected) if is_strict else None
    return Case("ranges", name, KEY, expected, headers=headers, head=(WHOLE,), minimum=minimum)


def several_ranges(*bodies: bytes) -> tuple[Expected, ...]:
    """All ranges, the whole object, or a single range with Content-Range (15.3.7.1): Ceph sends the first."""
    return Expected((206,), None, parts=bodies), WHOLE, range_response(0, len(bodies[0]) - 1)


def without_length(expected: tuple[Expected, ...]) -> tuple[Expected, ...]:
    """Some servers send 416 without the length (15.5.17: SHOULD)."""
    return tuple(Expected((416,)) if one.statuses == (416,) else one for one in expected)


def empty_case(name: str, text: str) -> Case:
    """A range of an empty object: 416, or the whole object (14.1.2, 14.2)."""
    expected = (unsatisfiable(0), NOTHING)
    return Case(
        "ranges", name, EMPTY, expected, headers={"Range": text}, head=(NOTHING,), minimum=without_length(expected)
    )


CASES = [
    Case("ranges", "no range", KEY, (WHOLE,)),
    Case("ranges", "empty object: no range", EMPTY, (NOTHING,)),
    range_case("the first byte", "bytes=0-0", range_response(0, 0)),
    range_case("in the middle", "bytes=1000-1999", range_response(1000, 1999)),
    range_case("the last byte", f"bytes={LENGTH - 1}-{LENGTH - 1}", range_response(LENGTH - 1, LENGTH - 1)),
    range_case("an open range", "bytes=1000-", range_response(1000, LENGTH - 1)),
    range_case("an open range from 0", "bytes=0-", range_response(0, LENGTH - 1)),
    range_case("a suffix", "bytes=-500", range_response(LENGTH - 500, LENGTH - 1)),
    range_case("a suffix longer than the object", f"bytes=-{LENGTH + 1}", range_response(0, LENGTH - 1)),
    range_case("to beyond the end", f"bytes={LENGTH - 10}-{LENGTH + 10}", range_response(LENGTH - 10, LENGTH - 1)),
    range_case("a suffix of length 0", "bytes=-0", unsatisfiable(LENGTH), is_strict=True),
    range_case("after the end", f"bytes={LENGTH}-", unsatisfiable(LENGTH)),
    range_case("several ranges", "bytes=0-9,100-119", *several_ranges(DATA[:10], DATA[100:120]), is_strict=True),
    range_case(
        "several ranges, the last a suffix", "bytes=0-9, -20", *several_ranges(DATA[:10], DATA[-20:]), is_strict=True
    ),
    range_case("the unit as Bytes", "Bytes=5-9", range_response(5, 9), WHOLE, is_strict=True),
    range_case("another unit", "lines=5-9", WHOLE, is_strict=True),
    range_case("the last byte before the first", "bytes=9-5", WHOLE, Expected((400, 416))),
    # 13.1.5: the range if the validator matches, otherwise the whole object.
    range_case("If-Range: the same ETag", "bytes=10-19", range_response(10, 19), if_range="{etag}"),
    range_case("If-Range: the same date", "bytes=10-19", range_response(10, 19), if_range="{modified}"),
    range_case(
        "If-Range: another ETag", "bytes=10-19", WHOLE, if_range='"0123456789abcdef0123456789abcdef"', is_strict=True
    ),
    range_case("If-Range: another date", "bytes=10-19", WHOLE, if_range=PAST, is_strict=True),
    empty_case("empty object: the first byte", "bytes=0-0"),
    empty_case("empty object: an open range", "bytes=0-"),
    empty_case("empty object: a suffix", "bytes=-5"),
    empty_case("empty object: several ranges", "bytes=0-0,-1"),
]
