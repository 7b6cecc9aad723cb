"""Which bytes S3 says that it sends: what is no answer to the client's range."""

from __future__ import annotations

import pytest

from usp_s3_wsgi import framing


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
    assert framing.must_ask_for_all(status, headers, "bytes=1-2", validator) == contradicts


def test_a_weak_validator_never_confirms_a_part() -> None:
    assert framing.must_ask_for_all(206, {"etag": 'W/"a"'}, "bytes=1-2", 'W/"a"')


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
    assert framing.must_ask_for_all(status, {"content-range": stated}, asked, None) == nothing
