"""From S3's response to the client's: what is passed on, and what is replaced."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import urllib3

from usp_s3_wsgi.errors import UpstreamRefused
from usp_s3_wsgi.settings import Settings

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
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
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
        if (close := getattr(self.body, "close", None)) is not None:
            close()


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


def object_headers(response: urllib3.BaseHTTPResponse, settings: Settings) -> Headers:
    """Return the client's headers for S3's 200 or 206. Raises: UpstreamRefused."""
    headers = passed_on(response, settings)
    if "Content-Type" not in response.headers:
        headers.append(("Content-Type", "binary/octet-stream"))  # S3's own default; httpd would guess
    if "Content-Length" in response.headers:
        headers.append(("Content-Length", response.headers["Content-Length"]))
    return headers


def plain(status: int, headers: Iterable[tuple[str, str]], method: str) -> Answer:
    """Return an answer with a short text of our own, or none where there must be none."""
    if status in _BODYLESS:
        return Answer(status, list(headers), [])
    text = f"{status} {HTTPStatus(status).phrase}\n".encode()
    own = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    return Answer(status, [*headers, *own], [] if method == "HEAD" else [text])
