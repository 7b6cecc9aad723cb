"""Responses with a part of an object: an accepted one has exactly the requested bytes, as slices of the object have.

The object is known, and S3's response states any range of it, any length and any validators.
"""

from __future__ import annotations

import re

from tests.fuzz.target import Target, fields, join
from tests.unit.test_client_response import SETTINGS, s3_response
from usp_s3_wsgi.errors import BadUpstreamResponse, RangeNotSatisfiable
from usp_s3_wsgi.gateway import client_response
from usp_s3_wsgi.s3 import byte_range, forwarded_headers

_MAX_LENGTH = 16_384
_OBJECT = bytes(range(200))
_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)", re.ASCII | re.IGNORECASE)
_SINGLE_RANGE = re.compile(r"bytes=[ \t,]*([0-9]*)-([0-9]*)[ \t,]*", re.ASCII | re.IGNORECASE)
_RANGES = re.compile(r"bytes=[ \t,]*[0-9]*-[0-9]*(?:[ \t]*,[ \t]*[0-9]*-[0-9]*)+[ \t,]*", re.ASCII | re.IGNORECASE)


def check(data: bytes) -> None:
    options, *values = fields(data, 8)
    requested, stated, length_text, etag, last_modified, content_type, if_range = (
        value.decode("latin-1") for value in values
    )
    status = 206 if b"p" in options else 200
    is_for_part_number = b"n" in options
    names = ("content-range", "content-length", "etag", "last-modified", "content-type")
    texts = (stated, length_text, etag, last_modified, content_type)
    headers = {name: text for name, text in zip(names, texts, strict=True) if text}
    # As the gateway takes it from the client: only ranges of bytes, in one spelling of the unit.
    range_header = forwarded_headers.request_header_value("Range", requested) or None
    _check_range(status, headers, range_header, is_for_part_number, if_range or None)
    _check_forwarded(status, headers)


def _check_range(
    status: int, headers: dict[str, str], range_header: str | None, is_for_part_number: bool, if_range: str | None
) -> None:
    length = int(headers["content-length"]) if re.fullmatch(r"[0-9]{1,18}", headers.get("content-length", "")) else None
    effective = byte_range.effective_status(status, headers, range_header, is_for_part_number)
    assert effective == status or (status, effective) == (200, 206)
    if byte_range.must_refetch_whole(effective, headers, range_header, if_range):
        return
    if effective == 206 and range_header is not None and if_range is not None:
        assert if_range in {headers.get("etag"), headers.get("last-modified")} and not if_range.startswith("W/")
    try:
        accepted = byte_range.validate(effective, headers, length, range_header, is_for_part_number)
    except (BadUpstreamResponse, RangeNotSatisfiable):
        return
    if effective == 200:
        assert accepted is not None and (accepted.first, accepted.total) == (0, length)
        return
    assert range_header is not None or is_for_part_number, "a part that nobody requested"
    if accepted is None:
        assert "," in (range_header or "") and "content-range" not in headers
        return
    stated = _CONTENT_RANGE.fullmatch(headers["content-range"])
    assert stated is not None and accepted.last is not None
    assert (accepted.first, accepted.last) == (int(stated[1]), int(stated[2])) and accepted.first <= accepted.last
    assert length is None or length == accepted.last - accepted.first + 1
    total = len(_OBJECT) if accepted.total is None else accepted.total
    assert accepted.total is None or accepted.last < accepted.total
    if total == len(_OBJECT) and accepted.last < total and range_header is not None:
        _check_bytes(range_header, _OBJECT[accepted.first : accepted.last + 1], accepted.total is not None)


def _check_bytes(range_header: str, part: bytes, is_total_known: bool) -> None:
    """A shorter part is valid where it begins as requested: RFC 9110, section 15.3.7."""
    if re.search(r"[0-9]{4001}", range_header):
        return  # too long for a number: the package takes it for no valid range, and any part for a response to it
    single, several = _SINGLE_RANGE.fullmatch(range_header), _RANGES.fullmatch(range_header)
    if single is not None and (single[1] or single[2]):
        begin, end = single[1], single[2]
        if begin:
            requested = _OBJECT[int(begin) : int(end) + 1 if end else None]
            assert requested.startswith(part), (range_header, part)
        elif is_total_known:
            assert part == _OBJECT[max(0, len(_OBJECT) - int(end)) :] and int(end) > 0, (range_header, part)
    elif several is not None and is_total_known:
        slices = []
        for begin, end in re.findall(r"([0-9]*)-([0-9]*)", range_header):
            if begin:
                slices.append(range(len(_OBJECT))[int(begin) : int(end) + 1 if end else None])
            elif end:
                slices.append(range(len(_OBJECT))[max(0, len(_OBJECT) - int(end)) :])
            else:
                return  # not valid: a server may do anything
        positions = [position for each in slices for position in each]
        span = _OBJECT[min(positions) : max(positions) + 1] if positions else b""
        assert part in span, (range_header, part)


def _check_forwarded(status: int, headers: dict[str, str]) -> None:
    response = s3_response(status)
    response.headers.update(headers)
    try:
        sent = client_response.object_headers(response, SETTINGS)
    except BadUpstreamResponse:
        return
    assert len({name.lower() for name, _ in sent}) == len(sent), sent
    for name, value in sent:
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value) or name == "Content-Length", (name, value)


def _seed(requested: bytes, stated: bytes = b"", length: bytes = b"", *more: bytes, options: bytes = b"p") -> bytes:
    return join(options, requested, stated, length, *more)


TARGET = Target(
    check,
    (
        b"",
        _seed(b"bytes=0-9", b"bytes 0-9/200", b"10", b'"e"', b"Wed, 21 Oct 2015 07:28:00 GMT", b"video/mp4", b'"e"'),
        _seed(b"bytes=100-", b"bytes 100-199/200", b"100"),
        _seed(b"bytes=-50", b"bytes 150-199/200", b"50"),
        _seed(b"bytes=-500", b"bytes 0-199/200", b"200"),
        _seed(b"bytes=-0", b"bytes 199-199/200"),
        _seed(b"bytes=-50", b"bytes 150-199/*", b"50"),
        _seed(b"bytes=5-2", b"bytes 5-5/200"),
        _seed(b"BYTES= 1-2 ,", b"Bytes 1-2/200"),
        _seed(b"bytes=0-0,5-5", b"bytes 0-5/200"),
        _seed(b"bytes=0-0, -5,,190-", b"bytes 190-199/200"),
        _seed(b"bytes=0-0,5-5", b"", b"", b"", b"", b"multipart/byteranges; boundary=x"),
        _seed(b"bytes=0-9", b"bytes 0-9/200", b"10", options=b""),
        _seed(b"", b"bytes 0-199/200", b"200", options=b""),
        _seed(b"", b"bytes 5-9/200", b"5", options=b"pn"),
        _seed(b"bytes=0-", b"bytes */0"),
        _seed(b"bytes=0-", b"bytes 0--1/0", b"0", options=b""),
        _seed(b"bytes=0-1", b"bytes 0-1/200", b"2", b'"a"', b"", b"", b'W/"a"'),
        _seed(b"items=0-1", b"items 0-1/200"),
        _seed(b"bytes=" + b"9" * 4_000 + b"-", b"bytes 0-1/200"),
        _seed(b"bytes=" + b"0" * 4_001 + b"-1", b"bytes 0-1/200"),
        _seed(b"bytes=" + b"0-0," * 2_000, b"bytes 0-0/200"),
        _seed(b"bytes=" + b" " * 8_000 + b"0-0", b"bytes 0-0/200" + b" " * 1_000),
        _seed(b"bytes=0-0", b"bytes 0-0/" + b"9" * 8_000, b"1" * 1_000, b"\t" * 1_000, b"\0", b" " * 1_000),
    ),
    _MAX_LENGTH,
)
