"""The URLs below the mount of the status page."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import quote

#: What may stand in a path beside letters and digits (RFC 3986); "%" because the mount is percent-encoded.
_PATH_CHARACTERS = "/%:@!$&'()*+,;=~-._"


class Route(NamedTuple):
    """A page: ``bucket`` and ``failure`` are the ids of a failure, else empty."""

    page: Literal["status", "errors", "failure"]
    bucket: str = ""
    failure: str = ""


def find(path: str) -> Route | None:
    """Return the page at a path below the mount, None if there is none.

    ``path``: decoded, as ``PATH_INFO`` of WSGI: "", "/", "/errors" or "/failures/BUCKET/FAILURE".
    """
    match path.split("/"):
        case [""] | ["", ""]:
            return Route("status")
        case ["", "errors"]:
            return Route("errors")
        case ["", "failures", bucket, failure] if bucket and failure:
            return Route("failure", bucket, failure)
    return None


def status(base: str) -> str:
    """Return the URL path of the page. ``base``: the URL path of the mount, such as "/usp-s3/status"."""
    return _mount(base) or "/"


def errors(base: str, code: str = "") -> str:
    """Return the URL path of the list of error codes, at one of them if ``code`` is not empty."""
    return f"{_mount(base)}/errors" + (f"#{quote(code, safe='')}" if code else "")


def failure(base: str, bucket: str, failure: str) -> str:
    """Return the URL path of the details of a failure. ``bucket``, ``failure``: their ids."""
    return f"{_mount(base)}/failures/{quote(bucket, safe='')}/{quote(failure, safe='')}"


def _mount(base: str) -> str:
    """The mount without a slash at its end. It has one at its begin: "//name" would be another server."""
    path = quote(base.strip("/"), safe=_PATH_CHARACTERS)
    return f"/{path}" if path else ""
