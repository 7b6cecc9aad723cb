"""The gateway: a WSGI application, the order of its steps and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from usp_s3_wsgi import errors
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials import identity
from usp_s3_wsgi.errors import AccessDenied, BodyTruncated, GatewayError, ObjectNotFound, SettingError, UpstreamRefused
from usp_s3_wsgi.gateway import client_connection, client_response, operator_settings
from usp_s3_wsgi.gateway.body import Body
from usp_s3_wsgi.gateway.client_response import Answer
from usp_s3_wsgi.gateway.fetcher import Upstream
from usp_s3_wsgi.gateway.operator_settings import Trusted
from usp_s3_wsgi.observability import error_log
from usp_s3_wsgi.s3 import byte_range, object_request, retry_policy
from usp_s3_wsgi.transport import pool

if TYPE_CHECKING:
    from usp_s3_wsgi.s3.error_response import S3Error
    from usp_s3_wsgi.transport.connection import S3Response

_WITHOUT_CHUNKS = frozenset({"HTTP/0.9", "HTTP/1.0"})


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve one GET or HEAD of an object, as the WSGI environ's settings say (PEP 3333)."""
    trusted = None
    try:
        client_connection.drop_body(environ)
        trusted = operator_settings.from_environ(environ)
        answer = _answer(environ, trusted)
    except GatewayError as error:
        _report(environ, trusted, error)
        answer = _error(environ, error.status, error.headers)
        errors.forget_traceback(error)
    except Exception as error:
        _log(environ, errors.internal(error))
        answer = _error(environ, 500, ())
        errors.forget_traceback(error)
    try:
        start_response(answer.status_line, answer.headers)
    except BaseException:
        answer.close()
        raise
    return answer.body


def _error(environ: dict[str, Any], status: int, headers: Iterable[tuple[str, str]]) -> Answer:
    answer = client_response.plain(status, headers, environ["REQUEST_METHOD"])
    if object_request.is_subrequest(environ):
        # Nobody sees it, and WSGIErrorOverride leaves it where it leaves out the body: that would look cut short.
        kept = [header for header in answer.headers if header[0] != "Content-Length"]
        return answer._replace(headers=kept)
    return answer


def _answer(environ: dict[str, Any], trusted: Trusted) -> Answer:
    section = trusted.settings
    try:
        return _Exchange(environ, trusted, section).answer()
    except GatewayError as error:
        if section.fallback is None or not retry_policy.may_ask_elsewhere(error, section.fallback_on_404):
            raise
        failure = error
        errors.forget_traceback(failure)
    _report(environ, trusted, failure, "asking S3FallbackURL")
    try:
        return _Exchange(environ, trusted, section.fallback).answer()
    except (ObjectNotFound, AccessDenied) as second:
        if failure.status < 500:
            raise
        _report(environ, trusted, second)
        raise failure from None  # what a copy lacks may well be in the bucket itself


class _Exchange:
    """A client's request, asked of one bucket."""

    def __init__(self, environ: dict[str, Any], trusted: Trusted, section: Settings) -> None:
        if environ.get("mod_wsgi.application_group") and identity.from_settings(section):
            # A thread that asks AWS may be at work when such an interpreter ends, and Python ends the process then.
            raise SettingError("roles and the identities of AWS need WSGIApplicationGroup %{GLOBAL}")
        self._environ, self._trusted, self._section = environ, trusted, section
        self._unsigned = object_request.from_environ(environ, section, trusted.served_path, trusted.error_status)
        # Not methods: what refers to itself stays, with all that it holds, until Python's collector comes to it.
        log = partial(_report, environ, trusted, then="asking again")
        self._bucket = Upstream(section, log, partial(_log_answer, environ) if trusted.is_debug else None)
        self._is_guarded = False

    def answer(self) -> Answer:
        """Return what the client gets. Raises: GatewayError."""
        try:
            from_s3 = self._asked()
            try:
                return self._passed_on(from_s3)
            except BaseException:
                pool.discard(from_s3)
                raise
        except GatewayError as failure:
            self._bucket.note(failure)
            raise

    def _asked(self) -> S3Response:
        from_s3 = self._bucket.fetch(self._unsigned)
        asked, if_range = self._unsigned.header("Range"), self._unsigned.header("If-Range")
        if not byte_range.must_ask_for_all(from_s3.status, from_s3.headers, asked, if_range):
            return from_s3
        pool.discard(from_s3)
        self._unsigned = self._unsigned.without("Range", "If-Range")
        return self._bucket.fetch(self._unsigned)

    def _passed_on(self, from_s3: S3Response) -> Answer:
        if from_s3.status not in {200, 206}:
            headers = client_response.passed_on(from_s3, self._section)
            pool.discard(from_s3)
            return client_response.plain(from_s3.status, headers, self._unsigned.method)
        part = byte_range.part_sent(from_s3, self._unsigned)
        status = self._trusted.error_status or from_s3.status
        headers = client_response.object_headers(from_s3, self._section)
        if self._unsigned.method == "HEAD":
            pool.discard(from_s3)
            return Answer(status, headers, [])
        is_counted = self._trusted.is_guarded and "content-length" in from_s3.headers
        self._is_guarded = is_counted or self._trusted.cut_body is not None
        if not is_counted:
            self._require_certain_end(from_s3)
        if client_connection.is_daemon(self._environ) and not is_counted:
            # Nobody here can end the connection later, when the body is cut short: it must not serve another one.
            headers.append(("Connection", "close"))
        return Answer(status, headers, Body(self._bucket, self._unsigned, from_s3, part, self._truncated))

    def _require_certain_end(self, from_s3: S3Response) -> None:
        """Refuse a body whose early end the client could not tell from its end. Raises: UpstreamRefused."""
        environ = self._environ
        protocol = environ.get("SERVER_PROTOCOL")
        if (
            client_connection.is_daemon(environ) and protocol == "HTTP/0.9"
        ):  # without a header the client knows no length
            raise UpstreamRefused("in daemon mode the early end (HTTP/0.9) could not be told: load usp_s3_module")
        if "content-length" in from_s3.headers:
            return
        if not from_s3.chunked or client_connection.is_daemon(environ) or protocol in _WITHOUT_CHUNKS:
            raise UpstreamRefused("S3 sent a body without Content-Length, whose early end could not be told")

    def _truncated(self, failure: BodyTruncated) -> bool:
        self._report(failure)
        if self._trusted.cut_body is not None:
            self._trusted.cut_body()
        elif (
            not self._is_guarded
            and client_connection.is_embedded(self._environ)
            and not client_connection.abort(self._environ)
        ):
            _log(self._environ, "the client's connection could not be ended")
        return self._is_guarded

    def _report(self, failure: GatewayError, then: str = "") -> None:
        self._bucket.note(failure)
        _report(self._environ, self._trusted, failure, then)


def _report(environ: dict[str, Any], trusted: Trusted | None, failure: GatewayError, then: str = "") -> None:
    if failure.reported:
        return
    failure.reported = True
    line = error_log.line(failure, then)
    if line is None and failure.told is not None and trusted is not None and trusted.is_debug:
        line = error_log.debug_line(failure.told, failure.place, failure.tried, then)
    if line is not None:
        _log(environ, line)


def _log_answer(environ: dict[str, Any], answer: S3Error, place: str, tried: str) -> None:
    _log(environ, error_log.debug_line(answer, place, tried))


def _log(environ: dict[str, Any], message: str) -> None:
    """Write one line to the server's error log."""
    place = environ.get("SCRIPT_NAME") or "/"
    environ["wsgi.errors"].write(error_log.printable(f"usp_s3_wsgi: {place}: {message}") + "\n")
