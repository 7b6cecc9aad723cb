"""The responses of the status page and the health checks: nothing of them may be cached, framed or guessed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

StartResponse = Callable[..., Any]
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)


def respond(
    environ: dict[str, Any],
    start_response: StartResponse,
    status: int,
    content_type: str,
    text: str,
    headers: Iterable[tuple[str, str]] = (),
) -> list[bytes]:
    """Start a response, and return its body: none for HEAD. ``content_type``: without its charset, which is UTF-8."""
    body = text.encode("utf-8", "backslashreplace")
    own = [("Content-Type", f"{content_type}; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(f"{status} {HTTPStatus(status).phrase}", [*own, *_HEADERS, *headers])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def reject_other_methods(
    environ: dict[str, Any], start_response: StartResponse, methods: tuple[str, ...] = ("GET", "HEAD")
) -> list[bytes] | None:
    """Return the response to a method that is not one of these, None for these."""
    if environ["REQUEST_METHOD"] in methods:
        return None
    allow = ", ".join(methods)
    return respond(environ, start_response, 405, "text/plain", f"Possible: {allow}.\n", [("Allow", allow)])


def may_be_rebound(environ: dict[str, Any]) -> bool:
    """Whether a client on this machine asks for another host than this machine.

    Its browser may have been led here by the name of a site that it visits (DNS rebinding), whose scripts could read
    the response.
    """
    host = re.sub(r":[0-9]*$", "", environ.get("HTTP_HOST", "localhost"))
    return _is_loopback(environ.get("REMOTE_ADDR", "")) and host.lower() != "localhost" and not _is_address(host)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    return _is_address(address) and ipaddress.ip_address(address).is_loopback


def wants_json(environ: dict[str, Any]) -> bool:
    """Whether the client asks for JSON: ``?format=json``, or an Accept header that names it."""
    return "application/json" in environ.get("HTTP_ACCEPT", "") or has_parameter(environ, "format=json")


def has_parameter(environ: dict[str, Any], parameter: str) -> bool:
    """Whether the query has a parameter, exactly as it is written."""
    return parameter in environ.get("QUERY_STRING", "").split("&")
