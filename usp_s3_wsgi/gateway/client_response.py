"""The response to the client: which headers of S3's response it gets, and the responses of our own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BadUpstreamResponse
from usp_s3_wsgi.s3.forwarded_headers import DEFAULT_CONTENT_TYPE, RESPONSE_HEADERS, UPLOAD_CODING
from usp_s3_wsgi.transport.http_response import S3Response

Headers = list[tuple[str, str]]

#: Each name with its key in S3Response.headers.
_NAMES_AND_KEYS = {
    status: tuple([(name, name.lower()) for name in names]) for status, names in RESPONSE_HEADERS.items()
}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
#: Their phrases are those of RFC 9110 from Python 3.13 on; before that http.HTTPStatus has older ones.
_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
_STATUS_LINES = {int(status): f"{status:d} {_PHRASES.get(status, status.phrase)}" for status in HTTPStatus}
_STATUSES_WITHOUT_BODY = frozenset({204, 304})


class Response(NamedTuple):
    """What the client gets: status, headers, and a body that has ``close`` if it holds a connection."""

    status: int
    headers: Headers
    body: Iterable[bytes]

    @property
    def status_line(self) -> str:
        """Status and phrase, as WSGI demands them."""
        return status_line(self.status)

    def close(self) -> None:
        """Release what the body holds, where no server is going to do it."""
        if (close := getattr(self.body, "close", None)) is not None:
            close()


def status_line(status: int) -> str:
    """Return status and phrase. An unregistered error gets the phrase of its class: RFC 9110, 15.5 and 15.6.

    (Such a status comes with the request for an ErrorDocument: httpd passes on whatever status the handler set.)
    """
    return _STATUS_LINES.get(status) or f"{status} {'Client' if status < 500 else 'Server'} Error"


def forwarded_headers(response: S3Response, settings: Settings) -> Headers:
    """Return the headers of S3's response that the client gets. Raises: BadUpstreamResponse."""
    from_s3 = response.headers
    headers = [(name, from_s3[key]) for name, key in _NAMES_AND_KEYS[response.status] if key in from_s3]
    if settings.pass_headers:
        allowed = [item for item in from_s3.items() if item[0].startswith(settings.pass_headers)]
        headers += [item for item in allowed if re.fullmatch(_TOKEN, item[0])]
    if "content-encoding" in from_s3:
        headers = [item for header in headers if (item := _without_upload_coding(header))[1]]
    if settings.pass_accept_encoding:
        headers.append(("Vary", "Accept-Encoding"))
    # The last check: the parser of S3's responses rejects or drops them.
    if _CONTROL.search("".join([value for _, value in headers])):
        names = [name for name, value in headers if _CONTROL.search(value)]
        raise BadUpstreamResponse(f"response header with control characters: {', '.join(names)}")
    return headers


def _without_upload_coding(header: tuple[str, str]) -> tuple[str, str]:
    """Return a header without :data:`UPLOAD_CODING`."""
    name, value = header
    if name != "Content-Encoding":
        return header
    codings = [coding for each in value.split(",") if (coding := each.strip(" \t"))]
    return name, ", ".join([coding for coding in codings if coding.lower() != UPLOAD_CODING])


def object_headers(response: S3Response, settings: Settings) -> Headers:
    """Return the client's headers for S3's 200 or 206. Raises: BadUpstreamResponse."""
    headers = forwarded_headers(response, settings)
    if "content-type" not in response.headers:
        headers.append(("Content-Type", DEFAULT_CONTENT_TYPE))
    if "content-length" in response.headers:
        headers.append(("Content-Length", response.headers["content-length"]))
    return headers


def plain_text_response(status: int, headers: Iterable[tuple[str, str]], method: str) -> Response:
    """Return a response whose body is its status line, or has no body where there must be none."""
    if status in _STATUSES_WITHOUT_BODY:
        return Response(status, list(headers), [])
    text = f"{status_line(status)}\n".encode()
    own = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    return Response(status, [*headers, *own], [] if method == "HEAD" else [text])


def error_response(status: int, headers: Iterable[tuple[str, str]], method: str, is_subrequest: bool) -> Response:
    """Return the response of a failure."""
    response = plain_text_response(status, headers, method)
    if is_subrequest:
        # Nobody sees this body. With WSGIErrorOverride httpd drops it and keeps the length: it would look truncated.
        return response._replace(headers=[header for header in response.headers if header[0] != "Content-Length"])
    return response
