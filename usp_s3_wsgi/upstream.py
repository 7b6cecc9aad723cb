"""The tries of a request: sent until S3 answers it, as often as is safe and allowed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import urllib3
from urllib3.exceptions import SSLError

from usp_s3_wsgi.errors import UpstreamUnreachable
from usp_s3_wsgi.pool import workers
from usp_s3_wsgi.request import S3Request
from usp_s3_wsgi.settings import Settings

#: S3's way to say "not now"; the same request may be sent again.
BUSY_STATUSES = frozenset({500, 502, 503, 504})
_SHORT_BODY = 65_536
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


def fetch(settings: Settings, signed: Callable[[], S3Request]) -> urllib3.BaseHTTPResponse:
    """Send a request until S3 answers it, at most ``S3Retries`` times more; the body is not read.

    ``signed`` gives the request, signed anew for each try. All tries together start within ``timeout`` seconds.

    Raises:
        UpstreamUnreachable, UpstreamTimeout, UpstreamBusy: after the last try.
        SettingError: the CA file cannot be used.
    """
    worker = workers.get(settings)
    deadline = time.monotonic() + settings.proxy_set.timeout
    for tries_left in range(settings.retries, -1, -1):
        pause = _pause(settings.retries - tries_left)
        last = not tries_left or time.monotonic() + pause > deadline
        try:
            response = worker.send(signed())
        except UpstreamUnreachable as error:
            if last or worker.resting or not _is_transient(error):
                raise  # where the worker rests, its own words would hide the reason
        else:
            if last or response.status not in BUSY_STATUSES:
                return response
            discard(response)
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")  # pragma: no cover


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """Give a response's connection back: what is left of a short body is read, so that it serves again; else closed."""
    left = response.length_remaining
    if left is not None and left <= _SHORT_BODY:
        response.drain_conn()
    else:
        response.close()
    response.release_conn()


def _pause(attempt: int) -> float:
    """Seconds before the next try: exponential with full jitter, so that many clients do not come back at once."""
    return random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt))


def _is_transient(error: UpstreamUnreachable) -> bool:
    return not isinstance(error.__cause__, SSLError)
