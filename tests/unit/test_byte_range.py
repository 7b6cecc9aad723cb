"""Which bytes S3 says that it sends: what is no answer to the client's range."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from usp_s3_wsgi.errors import BadUpstreamResponse, RangeNotSatisfiable
from usp_s3_wsgi.s3 import byte_range


@pytest.mark.parametrize(
    ("status", "validator", "contradicts"),
    [
        (206, None, False),
        (206, '"a"', False),
        (206, '"b"', True),
        (206, 'W/"a"', True),
        (206, "Wed, 21 Oct 2015 07:28:00 GMT", False),
        (206, "Wed, 21 Oct 2015 07:28:01 GMT", True),
        (416, '"b"', True),
        (416, '"a"', False),
        (200, '"b"', False),
        (304, '"b"', False),
        (404, '"b"', False),
    ],
)
def test_if_range(status: int, validator: str | None, contradicts: bool) -> None:
    headers = {"etag": '"a"', "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert byte_range.must_refetch_whole(status, headers, "bytes=1-2", validator) == contradicts


def test_a_weak_validator_never_confirms_a_part() -> None:
    assert byte_range.must_refetch_whole(206, {"etag": 'W/"a"'}, "bytes=1-2", 'W/"a"')


@pytest.mark.parametrize(
    ("status", "stated", "asked", "nothing"),
    [
        (206, "bytes */0", "bytes=0-", True),
        (206, "bytes 0--1/0", "bytes=0-", True),
        (206, "bytes 0-0/1", "bytes=0-", False),
        (206, "bytes */0", None, False),
        (416, "bytes */0", "bytes=0-", False),
    ],
)
def test_a_part_of_an_empty_object(status: int, stated: str, asked: str | None, nothing: bool) -> None:
    assert byte_range.must_refetch_whole(status, {"content-range": stated}, asked, None) == nothing


@pytest.mark.parametrize(
    ("status", "headers", "asked", "by_number", "means"),
    [
        (200, {"content-range": "bytes 5-9/100"}, "bytes=5-9", False, 206),
        (200, {"content-range": "bytes 5-9/100"}, None, True, 206),
        (200, {"content-range": "bytes 5-9/100"}, None, False, 200),
        (200, {"content-type": "Multipart/ByteRanges; boundary=x"}, "bytes=0-0,5-5", False, 206),
        (200, {"content-type": "multipart/byteranges; boundary=x"}, "bytes=0-0", False, 200),
        (200, {}, "bytes=5-9", False, 200),
        (304, {"content-range": "bytes 5-9/100"}, "bytes=5-9", False, 304),
    ],
)
def test_a_part_that_is_sent_as_200(
    status: int, headers: dict[str, str], asked: str | None, by_number: bool, means: int
) -> None:
    assert byte_range.effective_status(status, headers, asked, by_number) == means


@given(
    first=st.integers(0, 50), last=st.integers(0, 50), total=st.integers(1, 60), length=st.none() | st.integers(0, 60),
    asked=st.tuples(st.none() | st.integers(0, 50), st.none() | st.integers(0, 50)),
)  # fmt: skip
def test_a_part_is_what_was_asked_for_or_none(
    first: int, last: int, total: int, length: int | None, asked: tuple[int | None, int | None]
) -> None:
    """Of an object whose bytes are known, whatever a server may state."""
    begin, end = asked
    assume(begin is not None or end is not None)
    assume(begin is None or end is None or begin <= end)
    written = f"bytes={'' if begin is None else begin}-{'' if end is None else end}"
    stated = {"content-range": f"bytes {first}-{last}/{total}"}
    last_wanted = None if begin is None or end is None else end + 1
    wanted = range(total)[max(0, total - (end or 0)) if begin is None else begin : last_wanted]
    try:
        part = byte_range.validate(206, stated, length, written, False)
    except (BadUpstreamResponse, RangeNotSatisfiable):
        return
    assert part is not None and part.last is not None and last < total
    assert length in {None, last - first + 1}
    assert wanted[0] == first and set(range(first, last + 1)) <= set(wanted)


@pytest.mark.parametrize("asked", ["bytes=-0", "bytes= -0", "BYTES=-00", "bytes=-0,-0", "bytes=-0,"])
def test_the_last_nothing(asked: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        byte_range.validate(206, {"content-range": "bytes 0-99/100"}, 100, asked, False)
    assert caught.value.headers == (("Content-Range", "bytes */100"),)
    with pytest.raises(RangeNotSatisfiable) as caught:
        byte_range.validate(206, {"content-range": "bytes 0-99/*"}, 100, asked, False)
    assert caught.value.headers == ()


@pytest.mark.parametrize(("status", "asked"), [(501, "bytes=0-0,5-5"), (501, "bytes=-5")])
def test_a_range_that_is_not_implemented(status: int, asked: str) -> None:
    assert byte_range.must_refetch_whole(status, {}, asked, None)
    assert not byte_range.must_refetch_whole(status, {}, None, None)
