"""Which bytes of the object S3 says that it sends, and whether that can be believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from usp_s3_wsgi.errors import UpstreamRefused
from usp_s3_wsgi.request import S3Request

if TYPE_CHECKING:
    from usp_s3_wsgi.strict_http import S3Response

_NUMBER = re.compile(r"[0-9]{1,18}")
_SEVERAL_PARTS = "multipart/byteranges"


class Part(NamedTuple):
    """The bytes of an object from ``first`` to ``last``, both included; ``total`` is its length. None: not known."""

    first: int
    last: int | None
    total: int | None


def part_sent(response: S3Response, request: S3Request) -> Part | None:
    """Return which bytes S3's 200 or 206 brings, None for several parts in one body.

    Raises:
        UpstreamRefused: the body's end is not certain, or it is not what was asked for.
    """
    length = _length(response)
    if response.status == 206:
        return _part_of_206(response, request, length)
    return Part(0, None, None) if length is None else Part(0, length - 1, length)


def _length(response: S3Response) -> int | None:
    """What a reader needs in order to find the body's end: https://www.rfc-editor.org/rfc/rfc9112#section-6."""
    coding, length = response.headers.get("transfer-encoding"), response.headers.get("content-length")
    if coding is not None and (coding.lower() != "chunked" or length is not None or response.version < 11):
        raise UpstreamRefused("S3 sent a Transfer-Encoding other than chunked alone")
    if length is not None and not _NUMBER.fullmatch(length):
        raise UpstreamRefused("S3 sent a Content-Length that is no number")
    return None if length is None else int(length)


def _part_of_206(response: S3Response, request: S3Request, length: int | None) -> Part | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7."""
    asked = request.header("Range")
    if asked is None and not any(name == "partNumber" for name, _ in request.query):
        raise UpstreamRefused("S3 sent a part that was not asked for")
    stated = response.headers.get("content-range", "")
    if not stated and "," in (asked or "") and response.headers.get("content-type", "").startswith(_SEVERAL_PARTS):
        return None
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", stated)
    if not match:
        raise UpstreamRefused("S3 sent a part without saying which")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total) or not _is_asked(asked, first, last, total):
        raise UpstreamRefused("S3 sent another part than was asked for")
    if length is not None and length != last - first + 1:
        raise UpstreamRefused("S3 sent a part of another length than it says")
    return Part(first, last, total)


def _is_asked(asked: str | None, first: int, last: int, total: int | None) -> bool:
    """Whether a part lies where a single range wants it; of other ranges nothing is known here."""
    single = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", asked or "")
    if not single or not (single[1] or single[2]):
        return True
    if single[1]:
        return first == int(single[1]) and (not single[2] or last <= int(single[2]))
    return total is None or (first == max(0, total - int(single[2])) and last == total - 1)


def must_ask_for_all(status: int, headers: Mapping[str, str], asked: str | None, if_range: str | None) -> bool:
    """Whether S3's answer to a range is none for the client, so that the whole object must be asked for.

    ``headers``: by names in lowercase. ``asked`` and ``if_range`` are the request's Range and If-Range. Swift and Ceph
    ignore ``If-Range``, Ceph and MinIO answer a range of an empty object with a part of no bytes.
    https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
    """
    if status == 206 and asked is not None and headers.get("content-range", "") in {"bytes */0", "bytes 0--1/0"}:
        return True
    if if_range is None or status not in {206, 416}:
        return False
    current = headers.get("etag" if if_range.startswith(('"', "W/")) else "last-modified")
    return if_range.startswith("W/") or if_range != current
