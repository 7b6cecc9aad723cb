"""One bucket, asked for one client: each try signed and sent, and asked again where that can help."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from usp_s3_wsgi import errors
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.errors import GatewayError, ObjectNotFound, UpstreamBusy, UpstreamError
from usp_s3_wsgi.gateway import error_document
from usp_s3_wsgi.s3 import byte_range, error_response
from usp_s3_wsgi.s3.endpoint_state import Clock, learned
from usp_s3_wsgi.s3.error_response import CLOCK_CODES, S3Error
from usp_s3_wsgi.s3.object_request import is_unusual
from usp_s3_wsgi.s3.retry_policy import Remedy, rule_for
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request
from usp_s3_wsgi.transport import pool

if TYPE_CHECKING:
    from usp_s3_wsgi.transport.connection import S3Response

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


class _Trial(NamedTuple):
    """A clock that is tried for a host. ``denied``: what may have had another reason, None where S3 named the clock."""

    url: BucketURL
    clock: Clock
    denied: GatewayError | None = None


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
        self._attempt, self._begun, self._place, self._is_signed = 0, 0.0, "", False
        self._remedies_left = {Remedy.CLOCK, Remedy.REGION, Remedy.KEYS}
        self._signed: _Signed | None = None
        self._trial: _Trial | None = None

    def fetch(self, request: S3Request, after: UpstreamError | None = None) -> S3Response:
        """Return S3's answer (``ANSWERS``, or that it knows no ranges), its body unread; each try is signed anew.

        ``after`` is the failure of an earlier answer's body, where this is to be the rest of it. No try begins later
        than ``timeout`` seconds after the first one, or after that failure.

        Raises:
            GatewayError: the last failure.
        """
        if self._deadline is None or after is not None:
            self._deadline = time.monotonic() + self._section.proxy_set.timeout
        failure: GatewayError | None = after
        while True:
            if failure is not None:
                self._prepare_next(failure, self._deadline)
            self._attempt += 1
            self._begun, self._place, self._is_signed = time.monotonic(), request.place, False
            try:
                return self._try(request)
            except GatewayError as error:
                failure = error
                errors.forget_traceback(failure)

    def note(self, failure: GatewayError) -> None:
        """Write into a failure, for the log, what was asked last, and which attempt that was."""
        if not failure.place:
            failure.place, failure.tried = self._place, self._tried

    @property
    def _tried(self) -> str:
        return f"attempt {self._attempt}, {time.monotonic() - self._begun:.3f} s" if self._is_signed else ""

    def _prepare_next(self, failure: GatewayError, deadline: float) -> None:
        """Make the next try a better one, or raise the failure, where there is to be none."""
        self.note(failure)
        if self._may_be_clock(failure, deadline):
            return  # what that was is told when it is known
        pause = self._pause_after(failure, deadline)
        if pause is None:
            if self._trial and self._trial.denied:
                self._log(self._trial.denied)
            raise failure
        self._log(failure)
        time.sleep(pause)

    def _try(self, request: S3Request) -> S3Response:
        response, asked = self._send(request), request.header("Range")
        response.status = byte_range.status_of(response.status, response.headers, asked, request.is_for_part_number)
        if byte_range.is_without_ranges(response.status, asked):
            return response
        if response.status in ANSWERS:
            self._end_trial(None)
            if self._log_answer and response.status not in _SUCCESS:
                # With its body, which has the code, and which nobody else wants.
                self._log_answer(
                    error_document.read(response, self._section.proxy_set.timeout), self._place, self._tried
                )
            return response
        may_be_clients = is_unusual(request.path, bool(request.query), self._section)
        failure = error_response.refusal(self._why(request, response), self._section, may_be_clients)
        self._end_trial(failure)
        raise failure

    def _send(self, request: S3Request) -> S3Response:
        section = learned.whereabouts(self._section)
        url = section.bucket_url
        if section is not self._section:
            request = request._replace(host=url.authority)
            self._place = request.place
        now = self._trial.clock.now() if self._trial else learned.now(url)
        signed = self._signed = _Signed(section, resolver.resolve(self._section), now)
        worker, signed_request = pool.workers.get(section), sign(request, section.signing, signed.keys, signed.at)
        self._is_signed = True
        return worker.send(signed_request)

    def _why(self, request: S3Request, response: S3Response) -> S3Error:
        """Return S3's reason. A refused HEAD has no body to tell it, so the same is asked again with GET."""
        patience = self._section.proxy_set.timeout
        told = error_document.read(response, patience)
        is_told = told.code or told.status == 404 or told.status >= 500 or told.status in error_response.BUSY_STATUSES
        if request.method == "GET" or is_told:
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
        section, keys, _ = self._signed
        if remedy is Remedy.CLOCK:
            return self._try_clock(told, None)
        if remedy is Remedy.REGION:
            return learned.take_region(self._section, section, told.region)
        return resolver.replace_rejected(self._section, keys, deadline - time.monotonic(), told.code)

    # --- a clock that is tried: what S3 said of its own may be another server's, and one denied object is no clock

    def _may_be_clock(self, failure: GatewayError, deadline: float) -> bool:
        """Whether S3's clock is tried next after a refusal without a reason, of what was not valid by it."""
        told, signed = failure.told, self._signed
        if told is None or signed is None or Remedy.CLOCK not in self._remedies_left or time.monotonic() > deadline:
            return False
        if not error_response.is_maybe_clock(told, signed.section, signed.at) or not self._try_clock(told, failure):
            return False
        self._remedies_left.remove(Remedy.CLOCK)
        return True

    def _try_clock(self, told: S3Error, denied: GatewayError | None) -> bool:
        """Sign what follows by S3's clock; False where there is no other one than before."""
        assert self._signed is not None
        url = self._signed.section.bucket_url
        clock = learned.other_clock(url, told.date, self._signed.at)
        self._trial = _Trial(url, clock, denied) if clock else None
        return clock is not None

    def _end_trial(self, failure: GatewayError | None) -> None:
        """Keep the clock that was tried if S3 takes it; ``failure``: its refusal, None for an answer.

        Raises:
            GatewayError: S3 refuses that time: what it denied by the other one is denied.
        """
        trial = self._trial
        if trial is None or isinstance(failure, UpstreamBusy):
            return
        self._trial = None
        is_refused = failure is not None and failure.told is not None and failure.told.code in CLOCK_CODES
        if trial.denied is None:
            is_taken = not is_refused
        elif is_refused:
            raise trial.denied
        else:
            is_taken = failure is None or isinstance(failure, ObjectNotFound)
            self._log(self._of_clock(trial.denied) if is_taken else trial.denied)
        if is_taken:
            learned.take_clock(trial.url, trial.clock)

    def _of_clock(self, denied: GatewayError) -> GatewayError:
        """Return what a denial is that was none of the object."""
        assert denied.told is not None
        failure = error_response.refusal(replace(denied.told, out_of_time=True), self._section)
        failure.place, failure.tried = denied.place, denied.tried
        return failure


def _backoff(retry: int) -> float:
    """Seconds before a retry: exponential with full jitter, so that many clients do not come back at once."""
    return random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**retry))
