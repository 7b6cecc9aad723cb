"""The lines of the server's error log: their format, and a limit on repeated ones."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import NamedTuple

from usp_s3_wsgi.errors import GatewayError, LogCode
from usp_s3_wsgi.observability.rate_limiter import FrequencyAlarm, RateLimiter


class Attempt(NamedTuple):
    """A request to S3, as a log line shows it.

    ``host``: with the port. ``path``: percent-encoded, without the query, which may hold a signature. ``number``: 1 for
    the first attempt, 0 if it ended before the request was signed. ``seconds``: since the attempt began.
    """

    method: str
    scheme: str
    host: str
    path: str
    number: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        target = f"{self.method} {self.scheme}://{self.host}{self.path}"
        return f"{target}, attempt {self.number}, {self.seconds:.3f} s" if self.number else target


def format_failure(
    failure: GatewayError, attempt: Attempt | None = None, action: str = "", level: int | None = None
) -> str | None:
    """Return the line of a failure, None if it is not logged; ``action``: what is done about it.

    ``level``: lines of another level are limited apart, because httpd may drop those of one level.
    """
    if not failure.should_log:
        return None
    kind = (attempt.host, failure.rate_limit_key) if attempt and attempt.host else str(failure)
    suppressed = rate_limiter.allow((kind, level))
    if suppressed is None:
        return None
    hint_and_action = "; ".join([part for part in (failure.hint, action) if part])
    return with_details(str(failure), attempt, hint_and_action) + _suppressed(suppressed)


def format_frequent_retries(failure: GatewayError, attempt: Attempt) -> str | None:
    """Count a retry, and return the line about a host with frequent retries for the same reason, None for no line."""
    if not retry_alarm.record((attempt.host, failure.rate_limit_key)):
        return None
    return (
        f"{retry_alarm.threshold} attempts to {attempt.host} failed and were retried within {retry_alarm.seconds:g} s; "
        f"the last failure: {failure} (LogLevel usp_s3:info shows each)"
    )


def with_details(text: str, attempt: Attempt | None, action: str = "") -> str:
    """Return a line's text with the attempt, and with what is done about it."""
    if attempt is not None:
        text = f"{text} ({attempt})"
    return f"{text}; {action}" if action else text


def format_line(code: LogCode, text: str) -> str:
    """Return a complete line: code, name of this package, text; a single line of ASCII characters."""
    return escape_controls(f"{code}: usp_s3_wsgi: {text}")


def write_to_stderr(code: LogCode, message: str, kind: Hashable = None) -> None:
    """Write a line that belongs to no request, to stderr: httpd writes what its processes print to the error log.

    ``kind``: lines of the same kind are limited together; None: only equal lines are.
    """
    suppressed = rate_limiter.allow(kind or message)
    if suppressed is not None:
        print(format_line(code, message + _suppressed(suppressed)), file=sys.stderr, flush=True)


def escape_controls(line: str) -> str:
    """Return the line with control and non-ASCII characters escaped: none of them can begin a second line."""
    return line.encode("ascii", "backslashreplace").decode().translate(_CONTROLS)


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}


def _suppressed(count: int) -> str:
    return f" [{count} similar messages suppressed]" if count else ""


rate_limiter = RateLimiter(lines=10, seconds=10.0)
#: Retries are logged at level info; at LogLevel warn this is how an operator learns of a bucket that fails often.
retry_alarm = FrequencyAlarm(threshold=10, seconds=60.0)
