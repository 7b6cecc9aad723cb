"""The gateway: a WSGI application, the order of its steps and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import urllib3

from usp_s3_wsgi import client, credentials, errors, request, response, s3_error, settings, upstream
from usp_s3_wsgi.errors import BodyTruncated, GatewayError, UpstreamRefused
from usp_s3_wsgi.request import S3Request
from usp_s3_wsgi.response import Answer
from usp_s3_wsgi.s3_error import S3Error
from usp_s3_wsgi.settings import Settings
from usp_s3_wsgi.signing import sign


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve one GET or HEAD of an object, as the WSGI environ's settings say (PEP 3333)."""
    try:
        answer = _answer(environ)
    except GatewayError as error:
        if error.logged:
            _log(environ, str(error))
        answer = response.plain(error.status, error.headers, environ["REQUEST_METHOD"])
    except Exception as error:
        _log(environ, errors.internal(error))
        answer = response.plain(500, (), environ["REQUEST_METHOD"])
    try:
        start_response(answer.status_line, answer.headers)
    except BaseException:
        answer.close()
        raise
    return answer.body


def _answer(environ: dict[str, Any]) -> Answer:
    section = settings.from_environ(environ)
    unsigned = request.from_environ(environ, section)
    try:
        return _ask(environ, section, unsigned)
    except GatewayError as error:
        # The operator needs to know which object of which bucket; the path has no signature in it.
        error.args = (f"{error} ({unsigned.method} {unsigned.scheme}://{unsigned.host}{unsigned.path})",)
        raise


def _ask(environ: dict[str, Any], section: Settings, unsigned: S3Request) -> Answer:
    from_s3 = _send(section, unsigned)
    asked, if_range = unsigned.header("Range"), unsigned.header("If-Range")
    if response.must_ask_for_all(from_s3.status, from_s3.headers, asked, if_range):
        upstream.discard(from_s3)
        unsigned = _without(unsigned, "Range", "If-Range")
        from_s3 = _send(section, unsigned)
    try:
        if from_s3.status in {200, 206}:
            _require_certain_end(environ, from_s3, unsigned)
            answer = response.success(from_s3, unsigned, section, lambda error: _truncated(environ, unsigned, error))
            if client.is_daemon(environ) and unsigned.method == "GET":
                # Nobody here can end the connection later, when the body is cut short: it must not serve another one.
                answer.headers.append(("Connection", "close"))
            return answer
        if from_s3.status in response.PASSED_ON:
            headers = response.passed_on(from_s3, section)
            upstream.discard(from_s3)
            return response.plain(from_s3.status, headers, unsigned.method)
        raise s3_error.refusal(_why(section, unsigned, from_s3), section, from_s3.headers.get("Retry-After"))
    except BaseException:
        upstream.discard(from_s3)
        raise


def _send(section: Settings, unsigned: S3Request) -> urllib3.BaseHTTPResponse:
    keys = credentials.resolve(section)
    return upstream.fetch(section, lambda: sign(unsigned, section, keys, datetime.now(timezone.utc)))


def _why(section: Settings, unsigned: S3Request, from_s3: urllib3.BaseHTTPResponse) -> S3Error:
    """Return S3's reason. A refused HEAD has no body to tell it, so the same is asked again with GET."""
    error = s3_error.read(from_s3)
    if unsigned.method == "GET" or error.code or error.status == 404 or error.status >= 500:
        return error
    first_byte = replace(unsigned, method="GET", headers=(*unsigned.headers, _FIRST_BYTE))
    told = s3_error.read(_send(section, first_byte))
    return told if told.status == error.status else error


def _without(unsigned: S3Request, *names: str) -> S3Request:
    return replace(unsigned, headers=tuple(item for item in unsigned.headers if item[0] not in names))


def _require_certain_end(environ: dict[str, Any], from_s3: urllib3.BaseHTTPResponse, unsigned: S3Request) -> None:
    """Refuse a body whose early end could not be told from its end. Raises: UpstreamRefused."""
    if unsigned.method == "HEAD":
        return
    if client.is_daemon(environ) and request.is_subrequest(environ):
        raise UpstreamRefused("in daemon mode the early end of a subrequest could not be told: use embedded mode")
    if from_s3.length_remaining is not None:
        return
    chunked = getattr(from_s3, "chunked", False)
    if not chunked or client.is_daemon(environ) or environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        raise UpstreamRefused("S3 sent a body without Content-Length, whose early end could not be told")


def _truncated(environ: dict[str, Any], unsigned: S3Request, error: BodyTruncated) -> None:
    _log(environ, f"{error} ({unsigned.method} {unsigned.scheme}://{unsigned.host}{unsigned.path})")
    client.abort(environ)


def _log(environ: dict[str, Any], message: str) -> None:
    """Write one line to the server's error log; control characters cannot begin a second one."""
    place = environ.get("SCRIPT_NAME") or "/"
    line = f"usp_s3_wsgi: {place}: {message}"
    environ["wsgi.errors"].write(line.encode("ascii", "backslashreplace").decode().translate(_CONTROL) + "\n")


_FIRST_BYTE = ("Range", "bytes=0-0")
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
