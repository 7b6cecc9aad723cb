"""Request an object from a bucket: each attempt is signed and sent; failures are retried where that can help."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.errors import (
    GatewayError,
    ObjectNotFound,
    S3Error,
    UpstreamError,
    UpstreamUnavailable,
    forget_traceback,
)
from usp_s3_wsgi.gateway import error_document
from usp_s3_wsgi.gateway.request_log import RequestLog
from usp_s3_wsgi.observability.error_log import Attempt
from usp_s3_wsgi.s3 import byte_range, error_codes
from usp_s3_wsgi.s3.endpoint_state import Clock, endpoint_state
from usp_s3_wsgi.s3.object_request import is_client_choice
from usp_s3_wsgi.s3.retry_policy import RetryAction, rule_for
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request
from usp_s3_wsgi.transport.http_response import S3Response
from usp_s3_wsgi.transport.pool import pool_manager

#: S3's statuses that answer the client's request; every other one is an error.
_FORWARDED_STATUSES = frozenset({200, 206, 304, 412, 416})
_SUCCESS = frozenset({200, 206})
#: Seconds.
_BASE_DELAY, _MAX_DELAY = 0.05, 2.0
_FIRST_BYTE = ("Range", "bytes=0-0")
#: Corrections of what is wrong on this server.
_MISCONFIGURED = frozenset({RetryAction.CORRECT_CLOCK_SKEW, RetryAction.FOLLOW_REGION})


class _Signature(NamedTuple):
    """With what an attempt was signed: the settings with the recorded region, the credentials, and the time."""

    settings: Settings
    credentials: Credentials
    signed_at: datetime


class _ClockTrial(NamedTuple):
    """A clock that is tried for a host. ``denial``: the failure that may have another reason, and its attempt.

    Without a denial S3 named the clock as the reason.
    """

    url: BucketURL
    clock: Clock
    denial: tuple[GatewayError, Attempt | None] | None = None


class Fetcher:
    """Requests to one bucket for one client request: ``S3Retries`` counts its retries and the resumes of its body."""

    def __init__(self, settings: Settings, log: RequestLog) -> None:
        self._settings, self._log = settings, log
        self._retries_left = settings.retries
        self._deadline: float | None = None
        self._request: S3Request | None = None
        self._host = ""
        self._attempt, self._attempt_begin, self._is_sent = 0, 0.0, False
        self._corrections_left = {
            RetryAction.CORRECT_CLOCK_SKEW,
            RetryAction.FOLLOW_REGION,
            RetryAction.REFRESH_CREDENTIALS,
        }
        self._signature: _Signature | None = None
        self._trial: _ClockTrial | None = None

    def fetch(self, request: S3Request, resume_after: UpstreamError | None = None) -> S3Response:
        """Return S3's response, its body unread: one of ``_FORWARDED_STATUSES``, or 501 to a range.

        Each attempt is signed anew. ``resume_after``: the failure of an earlier response's body, whose rest this
        requests. No attempt begins later than ``timeout`` seconds after the first one, or after that failure.

        Raises:
            GatewayError: the failure of the last attempt.
        """
        if self._deadline is None or resume_after is not None:
            self._deadline = time.monotonic() + self._settings.proxy_set.timeout
        failure: GatewayError | None = resume_after
        while True:
            if failure is not None:
                self._prepare_retry(failure, self._deadline)
            self._attempt += 1
            self._request, self._host = request, request.host
            self._attempt_begin, self._is_sent = time.monotonic(), False
            try:
                return self._send_attempt(request)
            except GatewayError as error:
                failure = error
                forget_traceback(failure)

    def last_attempt(self) -> Attempt | None:
        """Return the last attempt, for the log; None before the first one."""
        request = self._request
        if request is None:
            return None
        target = Attempt(request.method, request.scheme, self._host, request.path)
        if not self._is_sent:
            return target
        return target._replace(number=self._attempt, seconds=time.monotonic() - self._attempt_begin)

    # --- one attempt

    def _send_attempt(self, request: S3Request) -> S3Response:
        response, requested_range = self._sign_and_send(request), request.header("Range")
        response.status = byte_range.effective_status(
            response.status, response.headers, requested_range, request.is_for_part_number
        )
        if byte_range.is_range_not_implemented(response.status, requested_range):
            return response
        if response.status in _FORWARDED_STATUSES:
            self._conclude_trial(None)
            if self._log.is_debug and response.status not in _SUCCESS:
                # With its body, which has S3's code and is not forwarded.
                s3_error = error_document.read(response, self._settings.proxy_set.timeout)
                self._log.s3_response(s3_error, self.last_attempt())
            return response
        is_clients = is_client_choice(request.path, bool(request.query), self._settings)
        s3_error = self._read_error(request, response)
        failure = error_codes.to_exception(s3_error, self._settings.denied_status, is_clients)
        self._conclude_trial(failure)
        raise failure

    def _sign_and_send(self, request: S3Request) -> S3Response:
        settings = endpoint_state.effective_settings(self._settings)
        url = settings.bucket_url
        if settings is not self._settings:
            request = request._replace(host=url.authority)
            self._host = url.authority
        now = self._trial.clock.now() if self._trial else endpoint_state.now(url)
        credentials = resolver.resolve(self._settings)
        self._signature = _Signature(settings, credentials, now)
        pool, signed_request = pool_manager.pool_for(settings), sign(request, settings.signing, credentials, now)
        self._is_sent = True
        return pool.send(signed_request)

    def _read_error(self, request: S3Request, response: S3Response) -> S3Error:
        """Return S3's error response. That to a HEAD has no body with the code: a GET of the first byte gets it."""
        timeout = self._settings.proxy_set.timeout
        error = error_document.read(response, timeout)
        has_reason = error.code or error.status == 404 or error.status >= 500
        if request.method == "GET" or has_reason or error.status in error_codes.TRANSIENT_STATUSES:
            return error
        # partNumber and Range exclude each other.
        query = tuple(pair for pair in request.query if pair[0] != "partNumber")
        get = request._replace(method="GET", query=query, headers=(*request.headers, _FIRST_BYTE))
        error_of_get = error_document.read(self._sign_and_send(get), timeout)
        if error_of_get.status == error.status:
            return error_of_get
        if self._log.is_debug and error_of_get.status not in _SUCCESS:
            attempt = self.last_attempt()
            self._log.s3_response(error_of_get, attempt._replace(method="GET") if attempt else None)
        return error

    # --- between two attempts

    def _prepare_retry(self, failure: GatewayError, deadline: float) -> None:
        """Correct the reason of a failure, or wait, and log it. Raises: the failure, where it is not retried."""
        attempt = self.last_attempt()
        is_in_time = time.monotonic() <= deadline
        if is_in_time and self._try_clock_for_denial(failure, attempt):
            return  # logged when the trial shows what the reason was
        action = rule_for(failure).action
        delay: float | None = None
        if is_in_time and action is RetryAction.BACKOFF:
            delay = self._backoff_delay(failure, deadline)
            if delay is not None:
                self._retries_left -= 1
        elif is_in_time and action in self._corrections_left and self._correct(action, failure.s3_error, deadline):
            self._corrections_left.remove(action)
            delay = 0.0 if time.monotonic() <= deadline else None
        if delay is None:
            if self._trial and self._trial.denial:
                self._log.retry(*self._trial.denial)
            raise failure
        self._log.retry(failure, attempt, action in _MISCONFIGURED)
        time.sleep(delay)

    def _backoff_delay(self, failure: GatewayError, deadline: float) -> float | None:
        """Return the seconds before the next retry, None where there is none left, or no time for it."""
        if not self._retries_left or self._is_host_in_error_state():
            return None  # in error state the next failure would hide the reason
        delay = backoff_delay(self._settings.retries - self._retries_left)
        if isinstance(failure, UpstreamUnavailable) and failure.retry_after is not None:
            delay = max(delay, failure.retry_after)
        return delay if time.monotonic() + delay <= deadline else None

    def _is_host_in_error_state(self) -> bool:
        return self._signature is not None and pool_manager.pool_for(self._signature.settings).is_in_error_state

    def _correct(self, action: RetryAction, s3_error: S3Error | None, deadline: float) -> bool:
        """Correct the clock, the region or the credentials; return False where there is nothing else to use."""
        if s3_error is None or self._signature is None:
            return False
        settings, credentials, _ = self._signature
        if action is RetryAction.CORRECT_CLOCK_SKEW:
            return self._begin_trial(s3_error, None)
        if action is RetryAction.FOLLOW_REGION:
            return endpoint_state.record_region(self._settings, settings, s3_error.region)
        timeout = deadline - time.monotonic()
        return resolver.replace_rejected(self._settings, credentials, timeout, s3_error.code)

    # --- a trial of S3's clock: its Date may be another server's, and a denied object says nothing about the clock

    def _try_clock_for_denial(self, failure: GatewayError, attempt: Attempt | None) -> bool:
        """Begin a trial after a denial without a reason, of a signature that was not valid by S3's clock."""
        s3_error, signature = failure.s3_error, self._signature
        if s3_error is None or signature is None or RetryAction.CORRECT_CLOCK_SKEW not in self._corrections_left:
            return False
        if not error_codes.is_possible_clock_skew(s3_error, signature.settings.signing, signature.signed_at):
            return False
        if not self._begin_trial(s3_error, (failure, attempt)):
            return False
        self._corrections_left.remove(RetryAction.CORRECT_CLOCK_SKEW)
        return True

    def _begin_trial(self, s3_error: S3Error, denial: tuple[GatewayError, Attempt | None] | None) -> bool:
        """Sign what follows with S3's clock; return False where there is no other clock than before."""
        assert self._signature is not None
        url = self._signature.settings.bucket_url
        clock = endpoint_state.alternative_clock(url, s3_error.date, self._signature.signed_at)
        self._trial = _ClockTrial(url, clock, denial) if clock else None
        return clock is not None

    def _conclude_trial(self, failure: GatewayError | None) -> None:
        """Record the clock that was tried if S3 accepts it; ``failure``: of the attempt, None for a success.

        Raises:
            GatewayError: S3 rejects that time, so the denial with the other clock was a denial.
        """
        trial = self._trial
        if trial is None or isinstance(failure, UpstreamUnavailable):
            return
        self._trial = None
        is_skew = failure is not None and _is_clock_skew(failure)
        if trial.denial is None:
            is_accepted = not is_skew
        elif is_skew:
            raise trial.denial[0]
        else:
            is_accepted = failure is None or isinstance(failure, ObjectNotFound)
            denial, attempt = trial.denial
            if is_accepted:
                self._log.retry(self._as_clock_skew(denial), attempt, is_misconfigured=True)
            else:
                self._log.retry(denial, attempt)
        if is_accepted:
            endpoint_state.record_clock(trial.url, trial.clock)

    def _as_clock_skew(self, denial: GatewayError) -> GatewayError:
        """Return the failure that a denial really was: the signature was not valid by S3's clock."""
        assert denial.s3_error is not None
        return error_codes.to_exception(
            replace(denial.s3_error, is_outside_validity=True), self._settings.denied_status
        )


def backoff_delay(retry: int) -> float:
    """Return the seconds before a retry, 0 for the first: exponential with full jitter, so that clients spread out.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(_MAX_DELAY, _BASE_DELAY * 2**retry))


def _is_clock_skew(failure: GatewayError) -> bool:
    return failure.s3_error is not None and failure.s3_error.code in error_codes.CLOCK_SKEW_CODES
