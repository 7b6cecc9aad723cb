"""From S3's response to the client's: what is passed on, what is replaced, and a body that never lies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

import urllib3
from urllib3.exceptions import HTTPError

from usp_s3_wsgi import upstream
from usp_s3_wsgi.errors import (
    AccessDenied,
    BadPath,
    BodyTruncated,
    GatewayError,
    ObjectNotFound,
    UpstreamBusy,
    UpstreamRefused,
    describe,
)
from usp_s3_wsgi.request import S3Request
from usp_s3_wsgi.settings import Settings

Headers = list[tuple[str, str]]

#: Bytes of one read: large reads beat the 8 KB of a proxy's buffers.
READ_SIZE = 1 << 20
#: S3's error documents are far shorter.
_ERROR_SIZE = 65_536

_VALIDATORS = ("ETag", "Last-Modified", "Cache-Control", "Expires")
_CONTENT = ("Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Content-Range")
#: What each of S3's answers passes on. A 304 has no Content-Length: caches take Swift's 0 for a contradiction.
PASSED_ON = {
    200: (*_CONTENT, *_VALIDATORS, "Accept-Ranges"),
    206: (*_CONTENT, *_VALIDATORS, "Accept-Ranges"),
    304: _VALIDATORS,
    412: _VALIDATORS,
    416: ("Content-Range", "Accept-Ranges", *_VALIDATORS),
}
_BODYLESS = frozenset({204, 304})

#: 403 that is about the object; every other one is about this server's keys.
_DENIED = frozenset({"AccessDenied", "InvalidObjectState", ""})
#: 400 that is about the client's URL; every other one is about this server's signature.
_BAD_KEY = frozenset(
    {"KeyTooLongError", "InvalidURI", "InvalidArgument", "XMinioInvalidObjectName", "InvalidObjectName"}
)


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


class Body:
    """The bytes of S3's body, in large reads.

    ``truncated`` is told of an early end and returns whether it ended the client's connection.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, truncated: Callable[[BodyTruncated], bool]) -> None:
        self._response = response
        self._truncated = truncated
        self._has_length = response.length_remaining is not None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            data = self._response.read1(READ_SIZE)
        except HTTPError as error:
            missing = self._response.length_remaining if self._has_length else "some"
            failure = BodyTruncated(f"S3 ended the body early, {missing} bytes are missing: {describe(error)}")
            if self._truncated(failure) and self._has_length:
                raise StopIteration from None  # caches and clients compare the length; no traceback is needed
            raise failure from None
        if not data:
            raise StopIteration
        return data

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
        headers += [item for item in response.headers.items() if item[0].lower().startswith(settings.pass_headers)]
    for name, value in headers:
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", name + value):
            raise UpstreamRefused(f"S3 sent a header with control characters: {name}")
    return headers


def success(
    response: urllib3.BaseHTTPResponse,
    request: S3Request,
    settings: Settings,
    truncated: Callable[[BodyTruncated], bool],
) -> Answer:
    """Return the answer for S3's 200 or 206, its body still to be read. Raises: UpstreamRefused."""
    headers = passed_on(response, settings)
    if "Content-Type" not in response.headers:
        headers.append(("Content-Type", "binary/octet-stream"))  # S3's own default; httpd would guess
    length = response.headers.get("Content-Length")
    if request.method == "HEAD":
        upstream.discard(response)
        if length is not None and length.isdigit():
            headers.append(("Content-Length", length))
        return Answer(response.status, headers, [])
    if response.length_remaining is not None:
        headers.append(("Content-Length", str(response.length_remaining)))
    return Answer(response.status, headers, Body(response, truncated))


def plain(status: int, headers: Iterable[tuple[str, str]], method: str) -> Answer:
    """Return an answer with a short text of our own, or none where there must be none."""
    if status in _BODYLESS:
        return Answer(status, list(headers), [])
    text = f"{status} {HTTPStatus(status).phrase}\n".encode()
    own = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    return Answer(status, [*headers, *own], [] if method == "HEAD" else [text])


@dataclass(frozen=True, slots=True)
class S3Error:
    """What S3 says of a refusal: status, code (empty where it says none), request id, and the bucket's region."""

    status: int
    code: str
    request_id: str
    region: str

    def __str__(self) -> str:
        region = f", the bucket is in region {self.region}: set S3Region" if self.region else ""
        return f"S3 answered {self.status} {self.code or '(no code)'}, request id {self.request_id or '(none)'}{region}"


def read_error(response: urllib3.BaseHTTPResponse) -> S3Error:
    """Read S3's error document, at most 64 KiB of it, and give the connection back.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    try:
        text = response.read(_ERROR_SIZE).decode("utf-8", "replace")
    except HTTPError:
        text = ""
    upstream.discard(response)
    headers = response.headers
    return S3Error(
        response.status,
        _element(text, "Code"),
        _word(headers.get("x-amz-request-id", "")) or _element(text, "RequestId"),
        _word(headers.get("x-amz-bucket-region", "")) or _element(text, "Region"),
    )


def _element(text: str, name: str) -> str:
    match = re.search(rf"<{name}>\s*([^<]{{1,128}}?)\s*</{name}>", text)
    return _word(match[1]) if match else ""


def _word(text: str) -> str:
    """What is safe to log and to compare: S3's codes, ids and regions are such words; anything else is nobody's."""
    return text if re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", text) else ""


def refusal(error: S3Error, settings: Settings, retry_after: str | None) -> GatewayError:
    """Return what S3's refusal means to the client (the table of the design), to be raised."""
    if error.status >= 500:
        seconds = retry_after if retry_after and re.fullmatch(r"[0-9]{1,5}", retry_after) else "1"
        return UpstreamBusy(str(error), seconds)
    if error.status == 404 and error.code != "NoSuchBucket":
        return ObjectNotFound(str(error))
    if error.status == 403 and error.code in _DENIED:
        return AccessDenied(str(error), settings.denied_status)
    if error.status == 400 and error.code in _BAD_KEY:
        return BadPath(str(error))
    return UpstreamRefused(str(error))


def contradicts_if_range(response: urllib3.BaseHTTPResponse, request: S3Request) -> bool:
    """Whether S3 answered with a part although the client's validator is not that of the object.

    Swift and Ceph ignore ``If-Range``: https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
    """
    validator = request.header("If-Range")
    if validator is None or response.status not in {206, 416}:
        return False
    current = response.headers.get("ETag" if validator.startswith(('"', "W/")) else "Last-Modified")
    return validator.startswith("W/") or validator != current
