"""From S3's response to the client's: what is passed on, and what is replaced."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from usp_s3_wsgi.errors import UpstreamRefused
from usp_s3_wsgi.settings import Settings

if TYPE_CHECKING:
    from usp_s3_wsgi.strict_http import S3Response

Headers = list[tuple[str, str]]

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
#: The same with the key of S3Response.headers.
_KEYS = {status: tuple([(name, name.lower()) for name in names]) for status, names in PASSED_ON.items()}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_STATUS_LINES = {int(status): f"{int(status)} {status.phrase}" for status in HTTPStatus}
_BODYLESS = frozenset({204, 304})


class Answer(NamedTuple):
    """What the client gets: a status, headers, and a body that has ``close`` if it holds a connection."""

    status: int
    headers: Headers
    body: Iterable[bytes]

    @property
    def status_line(self) -> str:
        """Status and phrase, as WSGI wants them."""
        return _STATUS_LINES[self.status]

    def close(self) -> None:
        """Give back what the body holds, where no server is going to do it."""
        if (close := getattr(self.body, "close", None)) is not None:
            close()


def passed_on(response: S3Response, settings: Settings) -> Headers:
    """Return the headers that S3's response passes on to the client. Raises: UpstreamRefused."""
    from_s3 = response.headers
    headers = [(name, from_s3[key]) for name, key in _KEYS[response.status] if key in from_s3]
    if settings.pass_headers:
        passed = [item for item in from_s3.items() if item[0].startswith(settings.pass_headers)]
        headers += [item for item in passed if re.fullmatch(_TOKEN, item[0])]
    if _CONTROL.search("".join([value for _, value in headers])):
        names = [name for name, value in headers if _CONTROL.search(value)]
        raise UpstreamRefused(f"S3 sent a header with control characters: {', '.join(names)}")
    return headers


def object_headers(response: S3Response, settings: Settings) -> Headers:
    """Return the client's headers for S3's 200 or 206. Raises: UpstreamRefused."""
    headers = passed_on(response, settings)
    if "content-type" not in response.headers:
        headers.append(("Content-Type", "binary/octet-stream"))  # S3's own default; httpd would guess
    if "content-length" in response.headers:
        headers.append(("Content-Length", response.headers["content-length"]))
    return headers


def plain(status: int, headers: Iterable[tuple[str, str]], method: str) -> Answer:
    """Return an answer with a short text of our own, or none where there must be none."""
    if status in _BODYLESS:
        return Answer(status, list(headers), [])
    text = f"{_STATUS_LINES[status]}\n".encode()
    own = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    return Answer(status, [*headers, *own], [] if method == "HEAD" else [text])
