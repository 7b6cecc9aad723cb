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


def least_of(wants: tuple[Want, ...]) -> tuple[Want, ...]:
    """Not each server tells the length (15.5.17: SHOULD)."""
    return tuple(Want((416,)) if want.statuses == (416,) else want for want in wants)


def of(name: str, text: str, *wants: Want, whole: bool = True, if_range: str = "") -> Case:
    """A range; ``whole``: the whole object is right, too, where the server sends it (14.2: MAY ignore)."""
    least = (*least_of(wants), WHOLE) if whole else least_of(wants)
    headers = {"Range": text, **({"If-Range": if_range} if if_range else {})}
    return Case("ranges", name, KEY, wants, headers=headers, head=(WHOLE,), least=least)


def of_empty(name: str, text: str) -> Case:
    """A range of an object without a byte: none can be had, or the whole (14.1.2, 14.2)."""
    wants = (unsatisfiable(0), NOTHING)
    return Case("ranges", name, EMPTY, wants, headers={"Range": text}, head=(NOTHING,), least=least_of(wants))


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
    of("a suffix of no byte", "bytes=-0", unsatisfiable(LENGTH), whole=False),
    of("after the end", f"bytes={LENGTH}-", unsatisfiable(LENGTH)),
    of("several", "bytes=0-9,100-119", Want((206,), None, parts=(DATA[:10], DATA[100:120])), WHOLE),
    of("several, the last a suffix", "bytes=0-9, -20", Want((206,), None, parts=(DATA[:10], DATA[-20:])), WHOLE),
    of("the unit in capitals", "Bytes=5-9", part(5, 9)),
    of("another unit", "lines=5-9", WHOLE),
    of("the wrong way round", "bytes=9-5", WHOLE, Want((400, 416))),
    # 13.1.5: the part of the same object, the whole of another one.
    of("If-Range: the same ETag", "bytes=10-19", part(10, 19), if_range="{etag}"),
    of("If-Range: the same date", "bytes=10-19", part(10, 19), if_range="{modified}"),
    of("If-Range: another ETag", "bytes=10-19", WHOLE, if_range='"0123456789abcdef0123456789abcdef"'),
    of("If-Range: another date", "bytes=10-19", WHOLE, if_range=PAST),
    of_empty("of an empty object, the first byte", "bytes=0-0"),
    of_empty("of an empty object, to the end", "bytes=0-"),
    of_empty("of an empty object, a suffix", "bytes=-5"),
    of_empty("of an empty object, several", "bytes=0-0,-1"),
]
