"""One bucket, asked for one client: each try signed and sent, and asked again where that can help."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from usp_s3_wsgi import credentials, error_document, errors, pool, s3_error
from usp_s3_wsgi.credentials import Credentials
from usp_s3_wsgi.errors import GatewayError, UpstreamBusy, UpstreamError
from usp_s3_wsgi.learned import learned
from usp_s3_wsgi.remedies import Remedy, rule_for
from usp_s3_wsgi.request import S3Request
from usp_s3_wsgi.s3_error import S3Error
from usp_s3_wsgi.settings import Settings
from usp_s3_wsgi.signing import sign

if TYPE_CHECKING:
    from usp_s3_wsgi.strict_http import S3Response

#: S3's answers to what the client asked; every other one is a refusal.
ANSWERS = frozenset({200, 206, 304, 412, 416})
_SUCCESS = frozenset({200, 206})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_FIRST_BYTE = ("Range", "bytes=0-0")


class _Signed(NamedTuple):
    """What a try was signed with."""

    section: Settings
    keys: Credentials
    at: datetime


class Upstream:
    """The bucket of a section. ``S3Retries`` counts for the whole of a client's request: its tries and its resumes."""

    def __init__(
        self,
        section: Settings,
        log: Callable[[GatewayError], None],
        log_answer: Callable[[S3Error, str, str], None] | None = None,
    ) -> None:
        """``log`` is told of each failure after which the same is asked again; the last one is raised.

        ``log_answer`` is told of each answer of S3's that is neither a success nor in a failure, with what was asked
        and which attempt that was; None: nobody wants to know.
        """
        self._section, self._log, self._log_answer = section, log, log_answer
        self._retries_left = section.retries
        self._deadline: float | None = None
        self._attempt, self._begun, self._place = 0, 0.0, ""
        self._remedies_left = {Remedy.CLOCK, Remedy.REGION, Remedy.KEYS}
        self._signed: _Signed | None = None

    def fetch(self, request: S3Request, after: UpstreamError | None = None) -> S3Response:
        """Return S3's answer (``ANSWERS``), its body unread. ``request`` is unsigned: each try is signed anew.

        ``after`` is the failure of an earlier answer's body, where this is to be the rest of it. No try begins later
        than ``timeout`` seconds after the first one, or after that failure.

        Raises:
            GatewayError: the last failure.
        """
        if self._deadline is None or after is not None:
            self._deadline = time.monotonic() + self._section.proxy_set.timeout
        failure = after
        while True:
            if failure is not None:
                self._prepare_next(failure, self._deadline)
            self._attempt += 1
            self._begun, self._place = time.monotonic(), request.place
            try:
                return self._try(request)
            except UpstreamError as error:
                failure = error
                errors.forget_traceback(failure)

    def note(self, failure: GatewayError) -> None:
        """Write into a failure, for the log, what was asked last, and which attempt that was."""
        if not failure.place:
            failure.place, failure.tried = self._place, self._tried

    @property
    def _tried(self) -> str:
        return f"attempt {self._attempt}, {time.monotonic() - self._begun:.3f} s" if self._attempt else ""

    def _prepare_next(self, failure: UpstreamError, deadline: float) -> None:
        """Make the next try a better one, or raise the failure, where there is to be none."""
        self.note(failure)
        pause = self._pause_after(failure, deadline)
        if pause is None:
            raise failure
        self._log(failure)
        time.sleep(pause)

    def _try(self, request: S3Request) -> S3Response:
        response = self._send(request)
        if response.status in ANSWERS:
            if self._log_answer and response.status not in _SUCCESS:
                # With its body, which has the code, and which nobody else wants.
                self._log_answer(
                    error_document.read(response, self._section.proxy_set.timeout), self._place, self._tried
                )
            return response
        raise s3_error.refusal(self._why(request, response), self._section, bool(request.query))

    def _send(self, request: S3Request) -> S3Response:
        section = learned.whereabouts(self._section)
        url = section.bucket_url
        if section is not self._section:
            request = request._replace(host=url.authority)
            self._place = request.place
        signed = self._signed = _Signed(section, credentials.resolve(self._section), learned.now(url))
        return pool.workers.get(section).send(sign(request, section, signed.keys, signed.at))

    def _why(self, request: S3Request, response: S3Response) -> S3Error:
        """Return S3's reason. A refused HEAD has no body to tell it, so the same is asked again with GET."""
        patience = self._section.proxy_set.timeout
        told = error_document.read(response, patience)
        if request.method == "GET" or told.code or told.status == 404 or told.status >= 500:
            return told
        query = tuple(pair for pair in request.query if pair[0] != "partNumber")  # not together with a range
        first_byte = request._replace(method="GET", query=query, headers=(*request.headers, _FIRST_BYTE))
        reason = error_document.read(self._send(first_byte), patience)
        if reason.status == told.status:
            return reason
        if self._log_answer and reason.status not in _SUCCESS:
            self._log_answer(reason, first_byte.place, self._tried)
        return told

    def _pause_after(self, failure: GatewayError, deadline: float) -> float | None:
        """Return how many seconds to wait before the next try, None where there is to be none."""
        remedy = rule_for(failure).remedy
        if time.monotonic() > deadline:
            return None
        if remedy is Remedy.LATER:
            return self._pause_before_retry(failure, deadline)
        if remedy in self._remedies_left and self._is_remedied(remedy, failure.told, deadline):
            self._remedies_left.remove(remedy)
            return 0.0 if time.monotonic() <= deadline else None
        return None

    def _pause_before_retry(self, failure: GatewayError, deadline: float) -> float | None:
        if not self._retries_left or self._is_resting():
            return None  # where the host rests, its own words would hide the reason
        pause = _backoff(self._section.retries - self._retries_left)
        if isinstance(failure, UpstreamBusy) and failure.retry_after is not None:
            pause = max(pause, failure.retry_after)
        if time.monotonic() + pause > deadline:
            return None
        self._retries_left -= 1
        return pause

    def _is_resting(self) -> bool:
        return self._signed is not None and pool.workers.get(self._signed.section).resting

    def _is_remedied(self, remedy: Remedy, told: S3Error | None, deadline: float) -> bool:
        """Change what S3 refused; False where there is nothing to change it to."""
        if told is None or self._signed is None:
            return False
        section, keys, at = self._signed
        if remedy is Remedy.CLOCK:
            return learned.take_clock(section.bucket_url, told.date, at)
        if remedy is Remedy.REGION:
            return learned.take_region(self._section, section, told.region)
        return credentials.renew(self._section, keys, deadline - time.monotonic())


def _backoff(retry: int) -> float:
    """Seconds before a retry: exponential with full jitter, so that many clients do not come back at once."""
    return random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**retry))
