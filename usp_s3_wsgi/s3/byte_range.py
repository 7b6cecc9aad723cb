"""Which bytes of the object S3 says that it sends, and whether that can be believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from usp_s3_wsgi.errors import RangeNotSatisfiable, UpstreamRefused
from usp_s3_wsgi.signing.types import S3Request

if TYPE_CHECKING:
    from usp_s3_wsgi.transport.connection import S3Response

Headers = Mapping[str, str]

_NUMBER = re.compile(r"[0-9]{1,18}")
_SEVERAL_PARTS = "multipart/byteranges"
#: Range units are the same in any case: https://www.rfc-editor.org/rfc/rfc9110#section-14.1.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
_RANGES = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
#: As long as Python makes numbers of digits.
_RANGE = re.compile(r"([0-9]{0,4000})-([0-9]{0,4000})")
#: How servers state a part of an empty object.
_OF_NOTHING = frozenset({"bytes */0", "bytes 0--1/0"})


class Part(NamedTuple):
    """The bytes of an object from ``first`` to ``last``, both included; ``total`` is its length. None: not known."""

    first: int
    last: int | None
    total: int | None


def status_of(status: int, headers: Headers, asked: str | None, by_number: bool) -> int:
    """Return the status that an answer means: rclone and old versions of MinIO send a part as 200.

    ``headers``: by names in lowercase. ``asked``: the request's Range. ``by_number``: it asked for a partNumber.
    """
    if status != 200 or not (asked or by_number):
        return status
    return 206 if "content-range" in headers or _is_of_several(headers, asked) else 200


def part_sent(response: S3Response, request: S3Request) -> Part | None:
    """Return which bytes S3's 200 or 206 brings, None for several parts in one body.

    Raises:
        UpstreamRefused: the body's end is not certain, or it is not what was asked for.
        RangeNotSatisfiable: what was asked for is the last nothing of the object.
    """
    length = _length(response)
    return validate_part(response.status, response.headers, length, request.header("Range"), request.is_for_part_number)


def validate_part(status: int, headers: Headers, length: int | None, asked: str | None, by_number: bool) -> Part | None:
    """The same, ``length`` being the Content-Length, None where there is none; arguments as :func:`status_of`."""
    if status == 206:
        return _validate_206(headers, length, asked, by_number)
    if "content-range" in headers and not _is_whole(headers["content-range"], length):
        raise UpstreamRefused("S3 sent a part that was not asked for")
    return Part(0, None, None) if length is None else Part(0, length - 1, length)


def _length(response: S3Response) -> int | None:
    """What a reader needs in order to find the body's end: https://www.rfc-editor.org/rfc/rfc9112#section-6."""
    coding, length = response.headers.get("transfer-encoding"), response.headers.get("content-length")
    if coding is not None and (coding.lower() != "chunked" or length is not None or response.version < 11):
        raise UpstreamRefused("S3 sent a Transfer-Encoding other than chunked alone")
    if length is not None and not _NUMBER.fullmatch(length):
        raise UpstreamRefused("S3 sent a Content-Length that is no number")
    return None if length is None else int(length)


def _is_whole(stated: str, length: int | None) -> bool:
    """Whether the range that a 200 states is the whole object, which is right whatever was asked for."""
    match = _CONTENT_RANGE.fullmatch(stated)
    if match is None:
        return stated in _OF_NOTHING and length == 0
    return int(match[1]) == 0 and match[3] != "*" and int(match[2]) + 1 == int(match[3]) == length


def _validate_206(headers: Headers, length: int | None, asked: str | None, by_number: bool) -> Part | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7."""
    if asked is None and not by_number:
        raise UpstreamRefused("S3 sent a part that was not asked for")
    stated = headers.get("content-range", "")
    if _asks_for_nothing(asked):
        raise RangeNotSatisfiable(stated.rpartition("/")[2])
    if not stated and _is_of_several(headers, asked):
        return None
    match = _CONTENT_RANGE.fullmatch(stated)
    if not match:
        raise UpstreamRefused("S3 sent a part without saying which")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total) or not _is_asked(asked, first, last, total):
        raise UpstreamRefused("S3 sent another part than was asked for")
    if length is not None and length != last - first + 1:
        raise UpstreamRefused("S3 sent a part of another length than it says")
    return Part(first, last, total)


def _is_of_several(headers: Headers, asked: str | None) -> bool:
    return "," in (asked or "") and headers.get("content-type", "").lower().startswith(_SEVERAL_PARTS)


def _ranges(asked: str | None) -> list[tuple[str, str]] | None:
    """Return first and last byte of each range, as written; None where that is not to be read.

    https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
    """
    spec = _RANGES.fullmatch(asked or "")
    matches = [_RANGE.fullmatch(text) for each in spec[1].split(",") if (text := each.strip(" \t"))] if spec else []
    ranges = [(match[1], match[2]) for match in matches if match and (match[1] or match[2])]
    return ranges if ranges and len(ranges) == len(matches) else None


def _asks_for_nothing(asked: str | None) -> bool:
    """Whether it asks for the last 0 bytes, which no object has: https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2."""
    ranges = _ranges(asked)
    return ranges is not None and all(not first and int(last) == 0 for first, last in ranges)


def _is_asked(asked: str | None, first: int, last: int, total: int | None) -> bool:
    """Whether a part is the range that was asked for, or of several within what they span."""
    ranges = _ranges(asked)
    if ranges is None:
        return True
    begins, ends = [], []
    for begin, end in ranges:
        if begin:
            begins.append(int(begin))
            ends.append(int(end) if end else last)
        elif total is None:
            return True
        else:
            begins.append(max(0, total - int(end)))
            ends.append(total - 1)
    is_suffix = len(ranges) == 1 and not ranges[0][0]
    if is_suffix and last != ends[0]:
        return False
    return min(begins) <= first and last <= max(ends) and (len(ranges) > 1 or first == begins[0])


def must_ask_for_all(status: int, headers: Headers, asked: str | None, if_range: str | None) -> bool:
    """Whether S3's answer to a range is none for the client, so that the whole object must be asked for.

    ``headers``: by names in lowercase. ``asked`` and ``if_range`` are the request's Range and If-Range. Swift and Ceph
    ignore ``If-Range``, Ceph and MinIO answer a range of an empty object with a part of no bytes, and rclone does not
    implement several ranges.
    https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
    """
    if is_without_ranges(status, asked):
        return True
    if status == 206 and asked is not None and headers.get("content-range", "") in _OF_NOTHING:
        return not _asks_for_nothing(asked)
    if if_range is None or status not in {206, 416}:
        return False
    current = headers.get("etag" if if_range.startswith(('"', "W/")) else "last-modified")
    return if_range.startswith("W/") or if_range != current


def is_without_ranges(status: int, asked: str | None) -> bool:
    """Whether S3 does not implement what was asked for, and that may be the range, which it may as well ignore."""
    return status == 501 and asked is not None
