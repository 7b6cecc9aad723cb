"""Parts of objects: RFC 9110, section 14. A HEAD has no ranges (14.2)."""

from __future__ import annotations

from tests.servers.answer import Want
from tests.servers.battery.case import Case, Object

DATA = bytes(range(256)) * 1200
LENGTH = len(DATA)
KEY, EMPTY = b"ranges/data.bin", b"ranges/empty.bin"
PAST = "Sun, 06 Nov 1994 08:49:37 GMT"
OBJECTS = [Object(KEY, DATA), Object(EMPTY, b"")]
WHOLE = Want((200,), DATA)
NOTHING = Want((200,), b"")


def part(first: int, last: int) -> Want:
    """The bytes from ``first`` to ``last``, both included."""
    return Want((206,), DATA[first : last + 1], {"content-range": f"bytes {first}-{last}/{LENGTH}"})


def unsatisfiable(length: int) -> Want:
    """No such bytes; the length is told."""
    return Want((416,), None, {"content-range": f"bytes */{length}"})


def of(name: str, text: str, *wants: Want, if_range: str = "", is_strict: bool = False) -> Case:
    """A range, which a server may ignore (14.2); ``is_strict``: whatever the server makes of it, one of these comes."""
    headers = {"Range": text, **({"If-Range": if_range} if if_range else {})}
    least = without_length(wants) if is_strict else None
    return Case("ranges", name, KEY, wants, headers=headers, head=(WHOLE,), least=least)


def several(*bodies: bytes) -> tuple[Want, ...]:
    """All of the ranges, the whole object, or one part that says which it is (15.3.7.1): Ceph sends the first."""
    return Want((206,), None, parts=bodies), WHOLE, part(0, len(bodies[0]) - 1)


def without_length(wants: tuple[Want, ...]) -> tuple[Want, ...]:
    """Not each server tells the length where there is no such byte (15.5.17: SHOULD)."""
    return tuple(Want((416,)) if want.statuses == (416,) else want for want in wants)


def of_empty(name: str, text: str) -> Case:
    """A range of an object without a byte: none can be had, or the whole (14.1.2, 14.2)."""
    wants = (unsatisfiable(0), NOTHING)
    return Case("ranges", name, EMPTY, wants, headers={"Range": text}, head=(NOTHING,), least=without_length(wants))


CASES = [
    Case("ranges", "none", KEY, (WHOLE,)),
    Case("ranges", "none, of an empty object", EMPTY, (NOTHING,)),
    of("the first byte", "bytes=0-0", part(0, 0)),
    of("in the middle", "bytes=1000-1999", part(1000, 1999)),
    of("the last byte", f"bytes={LENGTH - 1}-{LENGTH - 1}", part(LENGTH - 1, LENGTH - 1)),
    of("to the end", "bytes=1000-", part(1000, LENGTH - 1)),
    of("all of it", "bytes=0-", part(0, LENGTH - 1)),
    of("a suffix", "bytes=-500", part(LENGTH - 500, LENGTH - 1)),
    of("a suffix longer than the object", f"bytes=-{LENGTH + 1}", part(0, LENGTH - 1)),
    of("beyond the end", f"bytes={LENGTH - 10}-{LENGTH + 10}", part(LENGTH - 10, LENGTH - 1)),
    of("a suffix of no byte", "bytes=-0", unsatisfiable(LENGTH), is_strict=True),
    of("after the end", f"bytes={LENGTH}-", unsatisfiable(LENGTH)),
    of("several", "bytes=0-9,100-119", *several(DATA[:10], DATA[100:120]), is_strict=True),
    of("several, the last a suffix", "bytes=0-9, -20", *several(DATA[:10], DATA[-20:]), is_strict=True),
    of("the unit in capitals", "Bytes=5-9", part(5, 9), WHOLE, is_strict=True),
    of("another unit", "lines=5-9", WHOLE, is_strict=True),
    of("the wrong way round", "bytes=9-5", WHOLE, Want((400, 416))),
    # 13.1.5: the part of the same object, the whole of another one.
    of("If-Range: the same ETag", "bytes=10-19", part(10, 19), if_range="{etag}"),
    of("If-Range: the same date", "bytes=10-19", part(10, 19), if_range="{modified}"),
    of("If-Range: another ETag", "bytes=10-19", WHOLE, if_range='"0123456789abcdef0123456789abcdef"', is_strict=True),
    of("If-Range: another date", "bytes=10-19", WHOLE, if_range=PAST, is_strict=True),
    of_empty("of an empty object, the first byte", "bytes=0-0"),
    of_empty("of an empty object, to the end", "bytes=0-"),
    of_empty("of an empty object, a suffix", "bytes=-5"),
    of_empty("of an empty object, several", "bytes=0-0,-1"),
]
