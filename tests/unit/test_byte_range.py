"""Byte ranges: which responses match the requested range."""

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


def test_a_weak_validator_never_matches() -> None:
    assert byte_range.must_refetch_whole(206, {"etag": 'W/"a"'}, "bytes=1-2", 'W/"a"')


@pytest.mark.parametrize(
    ("status", "stated", "requested", "must_refetch"),
    [
        (206, "bytes */0", "bytes=0-", True),
        (206, "bytes 0--1/0", "bytes=0-", True),
        (206, "bytes 0-0/1", "bytes=0-", False),
        (206, "bytes */0", None, False),
        (416, "bytes */0", "bytes=0-", False),
    ],
)
def test_an_empty_part_of_an_empty_object(status: int, stated: str, requested: str | None, must_refetch: bool) -> None:
    assert byte_range.must_refetch_whole(status, {"content-range": stated}, requested, None) == must_refetch


@pytest.mark.parametrize(
    ("status", "headers", "requested", "is_for_part_number", "expected"),
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
def test_a_part_that_is_sent_with_status_200(
    status: int, headers: dict[str, str], requested: str | None, is_for_part_number: bool, expected: int
) -> None:
    assert byte_range.effective_status(status, headers, requested, is_for_part_number) == expected


@given(
    first=st.integers(0, 50), last=st.integers(0, 50), total=st.integers(1, 60), length=st.none() | st.integers(0, 60),
    requested=st.tuples(st.none() | st.integers(0, 50), st.none() | st.integers(0, 50)),
)  # fmt: skip
def test_only_bytes_of_the_requested_range_are_accepted(
    first: int, last: int, total: int, length: int | None, requested: tuple[int | None, int | None]
) -> None:
    """For any Content-Range and Content-Length of a server."""
    begin, end = requested
    assume(begin is not None or end is not None)
    assume(begin is None or end is None or begin <= end)
    range_header = f"bytes={'' if begin is None else begin}-{'' if end is None else end}"
    stated = {"content-range": f"bytes {first}-{last}/{total}"}
    stop = None if begin is None or end is None else end + 1
    requested_bytes = range(total)[max(0, total - (end or 0)) if begin is None else begin : stop]
    try:
        content_range = byte_range.validate(206, stated, length, range_header, False)
    except (BadUpstreamResponse, RangeNotSatisfiable):
        return
    assert content_range is not None and content_range.last is not None and last < total
    assert length in {None, last - first + 1}
    assert requested_bytes[0] == first and set(range(first, last + 1)) <= set(requested_bytes)


@pytest.mark.parametrize(("if_range", "must_refetch"), [('"a"', False), ('"b"', True), (None, False)])
def test_if_range_and_the_last_0_bytes_of_an_empty_object(if_range: str | None, must_refetch: bool) -> None:
    headers = {"content-range": "bytes */0", "etag": '"a"'}
    assert byte_range.must_refetch_whole(206, headers, "bytes=-0", if_range) == must_refetch


@pytest.mark.parametrize(
    ("requested", "stated", "is_accepted"),
    [
        ("bytes=0-0,150-", "bytes 0-199/200", True),
        ("bytes=0-0,150-", "bytes 150-199/200", True),
        ("bytes=0-0,900-", "bytes 0-0/200", True),
        ("bytes=0-0,900-", "bytes 190-199/200", False),
        ("bytes=900-,0-0", "bytes 190-199/200", False),
        ("bytes=900-,901-", "bytes 190-199/200", False),
        ("bytes=0-0,900-", "bytes 190-199/*", False),
        ("bytes=0-0,-10,900-", "bytes 190-199/200", True),
        ("bytes=0-0,-0", "bytes 0-0/200", True),
        ("bytes=0-0,-0", "bytes 0-1/200", False),
        ("bytes=0-0,-10", "bytes 0-9/200", True),
        ("bytes=0-0,-10", "bytes 1-1/200", True),
        ("bytes=5-5,-10", "bytes 0-9/200", False),
        ("bytes=0-1,3-4", "bytes 0-2/5", True),
        ("bytes=0-0,9-5", "bytes 0-5/200", False),
    ],
)
def test_one_part_of_several_ranges(requested: str, stated: str, is_accepted: bool) -> None:
    """It may have bytes between them: RFC 9110, section 15.3.7.2. Ranges that are not satisfiable do not count."""
    if is_accepted:
        assert byte_range.validate(206, {"content-range": stated}, None, requested, False)
    else:
        with pytest.raises(BadUpstreamResponse):
            byte_range.validate(206, {"content-range": stated}, None, requested, False)


@pytest.mark.parametrize("requested", ["bytes=-0", "bytes= -0", "BYTES=-00", "bytes=-0,-0", "bytes=-0,"])
def test_the_last_0_bytes_are_not_satisfiable(requested: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        byte_range.validate(206, {"content-range": "bytes 0-99/100"}, 100, requested, False)
    assert caught.value.headers == (("Content-Range", "bytes */100"),)
    with pytest.raises(RangeNotSatisfiable) as caught:
        byte_range.validate(206, {"content-range": "bytes 0-99/*"}, 100, requested, False)
    assert caught.value.headers == ()


@pytest.mark.parametrize(("status", "requested"), [(501, "bytes=0-0,5-5"), (501, "bytes=-5")])
def test_a_range_that_s3_does_not_implement(status: int, requested: str) -> None:
    assert byte_range.must_refetch_whole(status, {}, requested, None)
    assert not byte_range.must_refetch_whole(status, {}, None, None)
