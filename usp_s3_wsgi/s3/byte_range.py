"""Parse Content-Range, and check that it is what the Range header requested.

https://www.rfc-editor.org/rfc/rfc9110#section-14
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from usp_s3_wsgi.errors import BadUpstreamResponse, RangeNotSatisfiable

Headers = Mapping[str, str]

_MULTIPART = "multipart/byteranges"
#: Range units are not case-sensitive: https://www.rfc-editor.org/rfc/rfc9110#section-14.1.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
_RANGE_HEADER = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
#: No longer than the digits that Python converts to an integer.
_RANGE_SPEC = re.compile(r"([0-9]{0,4000})-([0-9]{0,4000})")
#: How servers state a range of an empty object.
_EMPTY_CONTENT_RANGES = frozenset({"bytes */0", "bytes 0--1/0"})


class ContentRange(NamedTuple):
    """The bytes of an object from ``first`` to ``last``, both included; ``total`` is its length. None: not known."""

    first: int
    last: int | None
    total: int | None


def effective_status(status: int, headers: Headers, range_header: str | None, is_for_part_number: bool) -> int:
    """Return the status that a response should have: rclone and old versions of MinIO send a range with status 200.

    ``headers``: names in lowercase. ``range_header``: the request's Range. ``is_for_part_number``: it has a partNumber.
    """
    if status != 200 or not (range_header or is_for_part_number):
        return status
    return 206 if "content-range" in headers or _is_multipart(headers, range_header) else 200


def validate(
    status: int, headers: Headers, length: int | None, range_header: str | None, is_for_part_number: bool
) -> ContentRange | None:
    """Return which bytes a 200 or 206 holds, None for several ranges in one body.

    ``length``: the Content-Length, None if there is none; the other arguments as in :func:`effective_status`.

    Raises:
        BadUpstreamResponse: these are not the requested bytes, or the header contradicts itself.
        RangeNotSatisfiable: the last 0 bytes of the object were requested.
    """
    if status == 206:
        return _validate_206(headers, length, range_header, is_for_part_number)
    if "content-range" in headers and not _is_whole_object(headers["content-range"], length):
        raise BadUpstreamResponse("unexpected partial response: no range was requested")
    return ContentRange(0, None, None) if length is None else ContentRange(0, length - 1, length)


def _is_whole_object(content_range: str, length: int | None) -> bool:
    """Whether the range that a 200 states is the whole object, which is a valid response to any request."""
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None:
        return content_range in _EMPTY_CONTENT_RANGES and length == 0
    return int(match[1]) == 0 and match[3] != "*" and int(match[2]) + 1 == int(match[3]) == length


def _validate_206(
    headers: Headers, length: int | None, range_header: str | None, is_for_part_number: bool
) -> ContentRange | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7."""
    if range_header is None and not is_for_part_number:
        raise BadUpstreamResponse("unexpected partial response: no range was requested")
    content_range = headers.get("content-range", "")
    if _is_empty_suffix(range_header):
        raise RangeNotSatisfiable(content_range.rpartition("/")[2])
    if not content_range and _is_multipart(headers, range_header):
        return None
    match = _CONTENT_RANGE.fullmatch(content_range)
    if not match:
        raise BadUpstreamResponse("partial response without a valid Content-Range")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total) or not _is_requested(range_header, first, last, total):
        raise BadUpstreamResponse("Content-Range is not the requested range")
    if length is not None and length != last - first + 1:
        raise BadUpstreamResponse("Content-Length does not match Content-Range")
    return ContentRange(first, last, total)


def _is_multipart(headers: Headers, range_header: str | None) -> bool:
    return "," in (range_header or "") and headers.get("content-type", "").lower().startswith(_MULTIPART)


def _parse_ranges(range_header: str | None) -> list[tuple[str, str]] | None:
    """Return first and last byte of each range, as written; None if the header is not valid.

    https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
    """
    header = _RANGE_HEADER.fullmatch(range_header or "")
    specs = [text for each in header[1].split(",") if (text := each.strip(" \t"))] if header else []
    matches = [_RANGE_SPEC.fullmatch(spec) for spec in specs]
    ranges = [(match[1], match[2]) for match in matches if match and (match[1] or match[2])]
    return ranges if ranges and len(ranges) == len(matches) else None


def _is_empty_suffix(range_header: str | None) -> bool:
    """Whether the last 0 bytes are requested: not satisfiable, https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2."""
    ranges = _parse_ranges(range_header)
    return ranges is not None and all(not first and int(last) == 0 for first, last in ranges)


def _is_requested(range_header: str | None, first: int, last: int, total: int | None) -> bool:
    """Whether these bytes are the requested range, or lie within the span of several."""
    ranges = _parse_ranges(range_header)
    if ranges is None:
        return True
    begins, ends = [], []
    for begin, end in ranges:
        if begin:
            low, high = int(begin), int(end) if end else last
        elif total is None:
            return True
        else:
            low, high = max(0, total - int(end)), total - 1
        if low <= high and (total is None or low < total):  # else it is not satisfiable
            begins.append(low)
            ends.append(high)
    is_suffix = len(ranges) == 1 and not ranges[0][0]
    if not begins or (is_suffix and last != ends[0]):
        return False
    return min(begins) <= first and last <= max(ends) and (len(ranges) > 1 or first == begins[0])


def must_refetch_whole(status: int, headers: Headers, range_header: str | None, if_range: str | None) -> bool:
    """Whether the response to a range cannot be used, and the whole object must be requested instead.

    ``headers``: names in lowercase. ``range_header`` and ``if_range`` are the request's Range and If-Range. Swift and
    Ceph ignore ``If-Range``, Ceph and MinIO send an empty part for a range of an empty object, and rclone does not
    implement several ranges.
    https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
    """
    if is_range_not_implemented(status, range_header):
        return True
    is_empty_part = status == 206 and headers.get("content-range", "") in _EMPTY_CONTENT_RANGES
    if is_empty_part and range_header is not None and not _is_empty_suffix(range_header):
        return True
    if if_range is None or status not in {206, 416}:
        return False
    current = headers.get("etag" if if_range.startswith(('"', "W/")) else "last-modified")
    return if_range.startswith("W/") or if_range != current


def is_range_not_implemented(status: int, range_header: str | None) -> bool:
    """Whether S3 may not implement this range (501). Range is optional, so the whole object is requested then."""
    return status == 501 and range_header is not None
