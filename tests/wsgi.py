"""Calls the gateway as mod_wsgi does, through the standard library's WSGI validator.

reply = call(environ("/media/film.mp4", s3_settings(s3.url)))
assert (reply.status, reply.body) == (200, b"...")
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

from tests.leaks import ACCESS_KEY, SECRET_KEY, TOKEN, leaks
from usp_s3_wsgi.application import application
from usp_s3_wsgi.errors import BodyTruncated

__all__ = ["ACCESS_KEY", "SECRET_KEY", "TOKEN"]

#: The settings of each signing mode.
MODES: dict[str, dict[str, str]] = {
    "v4-header": {"S3Region": "eu-central-1", "S3UseHeaders": "on"},
    "v4-query": {"S3Region": "eu-central-1"},
    "v2-header": {"S3UseHeaders": "on"},
    "v2-query": {},
}


def s3_settings(url: str, mode: str = "v4-header", **changes: str) -> dict[str, str]:
    """Return the settings of the bucket ``bucket`` at a server: path style, no retries. ``changes`` override them."""
    keys = {"S3AccessKey": ACCESS_KEY, "S3SecretKey": SECRET_KEY}
    return {"S3BucketURL": f"{url}/bucket/", **keys, **MODES[mode], "S3Retries": "0", **changes}


def environ(
    url: str = "/media/film.mp4",
    settings: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    mount: str = "/media",
    headers: Mapping[str, str] | None = None,
    **variables: Any,
) -> dict[str, Any]:
    """Return the environ of mod_wsgi (embedded mode) for a request target: path decoded once, slashes merged."""
    path, _, query = url.partition("?")
    decoded = re.sub(r"/+", "/", unquote_to_bytes(path.encode("latin-1")).decode("latin-1"))
    assert decoded.startswith(mount)
    names = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in (headers or {}).items()}
    return {
        "REQUEST_METHOD": method,
        "REQUEST_URI": url,
        "SCRIPT_NAME": mount,
        "PATH_INFO": decoded.removeprefix(mount),
        "QUERY_STRING": query,
        "SERVER_NAME": "gateway.example",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **names,
        **(settings or {}),
        **variables,
    }


#: The proof with which usp_s3_module's variable begins: a test sets ``httpd_module.PROOF`` to it.
PROOF = "0123456789abcdef0123456789abcdef"
#: The token that names the request for metrics, after the proof.
METRICS_TOKEN = "0000002a0123456789abcdef"


def netstring(text: str) -> str:
    """Encode a text: https://cr.yp.to/proto/netstrings.txt"""
    return f"{len(text)}:{text},"


def netstring_pairs(values: Mapping[str, str]) -> str:
    """Encode names and values, each as a netstring."""
    return "".join(netstring(name) + netstring(value) for name, value in values.items())


def handed_over(settings: Mapping[str, str], **facts: str) -> str:
    """Return the variable USP_S3_SETTINGS as usp_s3_module sets it (``settings_handover.c``); ``facts``: its control
    values.
    """
    control = {name.replace("_", " "): value for name, value in facts.items()}
    return PROOF + METRICS_TOKEN + netstring(netstring_pairs(settings)) + netstring(netstring_pairs(control))


@dataclass
class Begun:
    """A response whose body is not read yet: iterate over ``pieces``, then call ``close``, as a WSGI server does."""

    status: int
    fields: list[tuple[str, str]]
    pieces: Iterator[bytes]
    close: Callable[[], None]
    errors: io.StringIO

    @property
    def log(self) -> str:
        """The gateway's lines in the error log."""
        return self.errors.getvalue()


@dataclass
class Reply:
    """A complete response. ``truncated``: the exception that the body raised instead of its end, if any."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    log: str
    truncated: BodyTruncated | None = None
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = dict(self.fields)
        assert len(self.headers) == len(self.fields), "duplicate header"


def begin(request: dict[str, Any]) -> Begun:
    """Call the application and return its response, the body unread."""
    started: list[tuple[int, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        assert exc_info is None
        started.append((int(status.split(" ")[0]), headers))
        return lambda data: None

    errors: io.StringIO = request["wsgi.errors"]
    body: Iterable[bytes] = validator(application)(request, start_response)
    [(status, fields)] = started
    return Begun(status, fields, iter(body), getattr(body, "close"), errors)  # noqa: B009  # Iterable has no close


def call(request: dict[str, Any]) -> Reply:
    """Call the application and read the complete response."""
    begun = begin(request)
    body, truncated = b"", None
    try:
        for piece in begun.pieces:
            body += piece
    except BodyTruncated as error:
        truncated = error
    finally:
        begun.close()
    assert not leaks(f"{begun.fields} {begun.log} {truncated!r}") and not leaks(body)
    return Reply(begun.status, begun.fields, body, begun.log, truncated)
