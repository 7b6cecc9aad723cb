"""The error log of one client request: httpd's, at a level, where usp_s3_module offers it; else mod_wsgi's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from usp_s3_wsgi.errors import GatewayError, LogCode, S3ErrorResponse, describe_internal_error
from usp_s3_wsgi.gateway.httpd_module import HttpdRequest
from usp_s3_wsgi.observability import error_log
from usp_s3_wsgi.observability.error_log import Attempt


class Level(IntEnum):
    """The levels of httpd's log: https://httpd.apache.org/docs/2.4/mod/core.html#loglevel."""

    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


class RequestLog:
    """Writes lines about a request. ``is_debug``: also each response of S3 that is not a success."""

    def __init__(self, environ: Mapping[str, Any], httpd_request: HttpdRequest | None = None) -> None:
        """``httpd_request``: usp_s3_module's way to httpd's log; None: mod_wsgi writes all lines, at level error."""
        self._stream, self._mount = environ["wsgi.errors"], environ.get("SCRIPT_NAME") or "/"
        self._httpd_request = httpd_request
        self.is_debug = False

    def failure(
        self, failure: GatewayError, attempt: Attempt | None = None, action: str = "", level: Level = Level.ERROR
    ) -> None:
        """Log a failure; ``action``: what is done about it."""
        # mod_wsgi writes all lines at one level: they are limited together.
        limited_level = level if self._httpd_request is not None else None
        line = error_log.format_failure(failure, attempt, action, limited_level)
        if line is not None:
            self._write(failure.code, line, level)
        elif failure.s3_error is not None:
            self.s3_response(failure.s3_error, attempt, action)

    def retry(self, failure: GatewayError, attempt: Attempt | None, is_misconfigured: bool = False) -> None:
        """Log a failure after which the request is retried: at level info, and a warning where that is frequent.

        ``is_misconfigured``: a warning, because the clock or the region of this server is wrong.
        """
        self.failure(failure, attempt, "retrying", Level.WARNING if is_misconfigured else Level.INFO)
        if self._httpd_request is not None and failure.should_log and attempt is not None:
            frequent = error_log.format_frequent_retries(failure, attempt)
            if frequent is not None:
                self._write(LogCode.FREQUENT_RETRIES, frequent, Level.WARNING)

    def s3_response(self, s3_error: S3ErrorResponse, attempt: Attempt | None, action: str = "") -> None:
        """Log a response of S3 that is not a success, and that no other line tells of, at LogLevel debug."""
        if self.is_debug:
            text = error_log.with_details(str(s3_error), attempt, action)
            self._write(LogCode.S3_RESPONSE, text if self._httpd_request else f"debug: {text}", Level.DEBUG)

    def internal_error(self, error: Exception) -> None:
        """Log an unexpected exception."""
        self._write(LogCode.INTERNAL_ERROR, describe_internal_error(error), Level.ERROR)

    def client_not_reset(self) -> None:
        """Log that the client may take a truncated body for a complete one."""
        text = "the client's connection could not be reset after a truncated body"
        self._write(LogCode.CLIENT_NOT_RESET, text, Level.ERROR)

    def _write(self, code: LogCode, text: str, level: Level) -> None:
        line = error_log.format_line(code, f"{self._mount}: {text}")
        if self._httpd_request is not None:
            self._httpd_request.log(level, line)
        else:
            self._stream.write(line + "\n")
