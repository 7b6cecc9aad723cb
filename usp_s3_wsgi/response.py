"""From S3's response to the client's: what is passed on, what is replaced, and a body that never lies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import urllib3
from urllib3.exceptions import HTTPError

from usp_s3_wsgi import upstream
from usp_s3_wsgi.errors import (
    BodyTruncated,
    UpstreamRefused,
    describe,
)
from usp_s3_wsgi.request import S3Request
from usp_s3_wsgi.settings import Settings

Headers = list[tuple[str, str]]

#: Bytes of one read: large reads beat the 8 KB of a proxy's buffers.
READ_SIZE = 1 << 20

_VALIDATORS = ("ETag", "Last-Modified", "Cache-Control", "Expires")
_CONTENT = ("Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Content-Range")
#: What each of S3's answers passes on. A 304 has no Content-Length: caches take Swift's 0 for a contradiction.
PASSED_ON = {
    200: (*(name for name in _CONTENT if name != "Content-Range"), *_VALIDATORS, "Accept-Ranges"),
    206: (*_CONTENT, *_VALIDATORS, "Accept-Ranges"),
    304: _VALIDATORS,
    412: _VALIDATORS,
    416: ("Content-Range", "Accept-Ranges", *_VALIDATORS),
}
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SEVERAL_PARTS = "multipart/byteranges"
_BODYLESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets: a status, headers, and a body that has ``close`` if it holds a connection."""

    status: int
    headers: Headers
    body: Iterable[bytes]

    @property
    def status_line(self) -> str:
        """Status and phrase, as WSGI wants them."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"

    def close(self) -> None:
        """Give back what the body holds, where no server is going to do it."""
        if isinstance(self.body, Body):
            self.body.close()


class Body:
    """The bytes of S3's body, in large reads; ``truncated`` is told of an early end before it is raised.

    ``length`` in bytes is that of the part that S3 says it sends, where it is no part None.
    """

    def __init__(
        self, response: urllib3.BaseHTTPResponse, truncated: Callable[[BodyTruncated], None], length: int | None
    ) -> None:
        self._response = response
        self._truncated = truncated
        self._left = length

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            data = self._response.read1(READ_SIZE)
        except HTTPError as error:
            raise self._failure(self._response.length_remaining, describe(error)) from None
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._left and not data):
                raise self._failure(self._left, "not the length of the part")
        if not data:
            raise StopIteration
        return data

    def _failure(self, left: int | None, reason: str) -> BodyTruncated:
        """To be raised: without an exception mod_wsgi would tell httpd's filters (a cache) that the body is whole."""
        missing = "some" if left is None else left
        failure = BodyTruncated(f"S3 ended the body early, {missing} bytes are missing: {reason}")
        self._truncated(failure)
        return failure

    def close(self) -> None:
        """Give the connection back; one with unread bytes is closed, so that they reach no other request."""
        if not self._response.closed:
            self._response.close()
        self._response.release_conn()


def passed_on(response: urllib3.BaseHTTPResponse, settings: Settings) -> Headers:
    """Return the headers that S3's response passes on to the client. Raises: UpstreamRefused."""
    names = PASSED_ON[response.status]
    headers = [(name, response.headers[name]) for name in names if name in response.headers]
    if settings.pass_headers:
        passed = [item for item in response.headers.items() if item[0].lower().startswith(settings.pass_headers)]
        headers += [item for item in passed if re.fullmatch(_TOKEN, item[0])]
    for name, value in headers:
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", name + value):
            raise UpstreamRefused(f"S3 sent a header with control characters: {name}")
    return headers


def success(
    response: urllib3.BaseHTTPResponse,
    request: S3Request,
    settings: Settings,
    truncated: Callable[[BodyTruncated], None],
) -> Answer:
    """Return the answer for S3's 200 or 206, its body still to be read. Raises: UpstreamRefused."""
    check_framing(response)
    part = check_part(response, request) if response.status == 206 else None
    headers = passed_on(response, settings)
    if "Content-Type" not in response.headers:
        headers.append(("Content-Type", "binary/octet-stream"))  # S3's own default; httpd would guess
    length = response.headers.get("Content-Length")
    if request.method == "HEAD":
        upstream.discard(response)
        if length is not None:
            headers.append(("Content-Length", length))
        return Answer(response.status, headers, [])
    if response.length_remaining is not None:
        headers.append(("Content-Length", str(response.length_remaining)))
    return Answer(response.status, headers, Body(response, truncated, part))


def check_framing(response: urllib3.BaseHTTPResponse) -> None:
    """Refuse a body whose end is not certain: urllib3 and http.client must read its framing alike.

    Raises: UpstreamRefused.
    https://www.rfc-editor.org/rfc/rfc9112#section-6
    """
    coding, length = response.headers.get("Transfer-Encoding"), response.headers.get("Content-Length")
    if coding is not None and (coding.lower() != "chunked" or length is not None or response.version < 11):
        raise UpstreamRefused("S3 sent a Transfer-Encoding other than chunked alone")
    if length is not None and not re.fullmatch(r"[0-9]{1,18}", length):
        raise UpstreamRefused("S3 sent a Content-Length that is no number")


def check_part(response: urllib3.BaseHTTPResponse, request: S3Request) -> int | None:
    """Return the length of the part that S3 says it sends, None for several parts; refuse what was not asked for.

    Raises: UpstreamRefused.
    https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7
    """
    asked = request.header("Range")
    if asked is None and not any(name == "partNumber" for name, _ in request.query):
        raise UpstreamRefused("S3 sent a part that was not asked for")
    stated = response.headers.get("Content-Range", "")
    if not stated and "," in (asked or "") and response.headers.get("Content-Type", "").startswith(_SEVERAL_PARTS):
        return None
    part = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", stated)
    if not part:
        raise UpstreamRefused("S3 sent a part without saying which")
    first, last = int(part[1]), int(part[2])
    total = None if part[3] == "*" else int(part[3])
    if last < first or (total is not None and last >= total) or not _is_asked(asked, first, last, total):
        raise UpstreamRefused("S3 sent another part than was asked for")
    length = response.headers.get("Content-Length")
    if length is not None and int(length) != last - first + 1:
        raise UpstreamRefused("S3 sent a part of another length than it says")
    return last - first + 1


def _is_asked(asked: str | None, first: int, last: int, total: int | None) -> bool:
    """Whether a part lies where a single range wants it; of other ranges nothing is known here."""
    single = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", asked or "")
    if not single or not (single[1] or single[2]):
        return True
    if single[1]:
        return first == int(single[1]) and (not single[2] or last <= int(single[2]))
    return total is None or first == max(0, total - int(single[2]))


def plain(status: int, headers: Iterable[tuple[str, str]], method: str) -> Answer:
    """Return an answer with a short text of our own, or none where there must be none."""
    if status in _BODYLESS:
        return Answer(status, list(headers), [])
    text = f"{status} {HTTPStatus(status).phrase}\n".encode()
    own = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    return Answer(status, [*headers, *own], [] if method == "HEAD" else [text])


def must_ask_for_all(status: int, headers: Mapping[str, str], asked: str | None, if_range: str | None) -> bool:
    """Whether S3's answer to a range is none for the client, so that the whole object must be asked for.

    ``asked`` and ``if_range`` are the request's Range and If-Range. Swift and Ceph ignore ``If-Range``, Ceph and MinIO
    answer a range of an empty object with a part of no bytes.
    https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
    """
    if status == 206 and asked is not None and headers.get("Content-Range", "") in {"bytes */0", "bytes 0--1/0"}:
        return True
    if if_range is None or status not in {206, 416}:
        return False
    current = headers.get("ETag" if if_range.startswith(('"', "W/")) else "Last-Modified")
    return if_range.startswith("W/") or if_range != current
