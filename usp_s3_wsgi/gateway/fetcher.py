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
    S3ErrorResponse,
    UpstreamError,
    UpstreamUnavailable,
    clear_traceback,
)
from usp_s3_wsgi.gateway import error_document
from usp_s3_wsgi.gateway.exchange_record import ExchangeRecord
from usp_s3_wsgi.gateway.request_log import RequestLog
from usp_s3_wsgi.observability.error_log import Attempt
from usp_s3_wsgi.s3 import byte_range, error_codes
from usp_s3_wsgi.s3.endpoint_state import Clock, endpoint_state
from usp_s3_wsgi.s3.object_request import may_be_client_error
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
_CORRECTIONS = frozenset({RetryAction.CORRECT_CLOCK_SKEW, RetryAction.FOLLOW_REGION, RetryAction.REFRESH_CREDENTIALS})
#: Corrections of what is wrong on this server.
_MISCONFIGURED = frozenset({RetryAction.CORRECT_CLOCK_SKEW, RetryAction.FOLLOW_REGION})


class _Signature(NamedTuple):
    """With what an attempt was signed: the settings (with the region that S3 has named), credentials, and the time."""

    settings: Settings
    credentials: Credentials
    signed_at: datetime


class _Denial(NamedTuple):
    """A denial without a reason, which may be a clock problem."""

    failure: GatewayError
    attempt: Attempt | None


class _ClockProbe(NamedTuple):
    """A clock that is tried for a host.

    ``denial``: after which it is tried, None if S3's error code said that the time is wrong.
    """

    url: BucketURL
    clock: Clock
    denial: _Denial | None


class Fetcher:
    """Requests to one bucket for one client request: ``S3Retries`` counts its retries and the resumes of its body."""

    def __init__(self, settings: Settings, log: RequestLog, record: ExchangeRecord | None = None) -> None:
        """``record``: of the exchange, None if exchanges are not recorded."""
        self._settings, self._log, self._record = settings, log, record
        self._retries_left = settings.retries
        self._deadline = 0.0
        self._request: S3Request | None = None
        self._host = ""
        self._attempt, self._attempt_started_at, self._is_signed = 0, 0.0, False
        self._corrections_left = _CORRECTIONS
        self._signature: _Signature | None = None
        self._probe: _ClockProbe | None = None
        self._denied_attempt: Attempt | None = None

    def fetch(self, request: S3Request) -> S3Response:
        """Return S3's response, the body of a 200 or 206 unread: one of ``_FORWARDED_STATUSES``, or 501 to a range.

        Each attempt is signed anew. No attempt begins later than ``timeout`` seconds after the first one.

        Raises:
            GatewayError: the failure of the last attempt.
        """
        if not self._deadline:
            self._deadline = time.monotonic() + self._settings.proxy_set.timeout
        if self._record is not None:
            self._record.begin(request)
        return self._send_with_retries(request)

    def resume(self, request: S3Request, failure: UpstreamError) -> S3Response:
        """Return S3's response to the request for the rest of a body that ended with ``failure``: as :meth:`fetch`.

        No attempt begins later than ``timeout`` seconds after that failure.
        """
        self._deadline = time.monotonic() + self._settings.proxy_set.timeout
        self._retry_or_raise(failure)
        if self._record is not None:
            self._record.resumes += 1
        return self._send_with_retries(request)

    def _send_with_retries(self, request: S3Request) -> S3Response:
        while True:
            self._attempt, self._denied_attempt = self._attempt + 1, None
            self._request, self._host = request, request.host
            self._attempt_started_at, self._is_signed = time.monotonic(), False
            try:
                return self._send_attempt(request)
            except GatewayError as error:
                failure = error
                clear_traceback(failure)
            if self._record is not None:
                self._record.add_failure(failure)
            self._retry_or_raise(failure)

    def last_attempt(self) -> Attempt | None:
        """Return the attempt to which the last failure belongs, for the log; None before the first one."""
        if self._denied_attempt is not None:
            return self._denied_attempt  # a probe has shown that this denial was a genuine one
        request = self._request
        if request is None:
            return None
        target = Attempt(request.method, request.scheme, self._host, request.path)
        if not self._is_signed:
            return target
        return target._replace(number=self._attempt, seconds=time.monotonic() - self._attempt_started_at)

    # --- one attempt

    def _send_attempt(self, request: S3Request) -> S3Response:
        response, requested_range = self._sign_and_send(request), request.header("Range")
        response.status = byte_range.effective_status(
            response.status, response.headers, requested_range, request.is_for_part_number
        )
        if byte_range.is_range_not_implemented(response.status, requested_range):
            return response
        if response.status in _FORWARDED_STATUSES:
            self._conclude_probe(None)
            if self._log.is_debug and response.status not in _SUCCESS:
                # With its body, which has S3's code and is not forwarded.
                s3_error = error_document.read(response, self._settings.proxy_set.timeout)
                self._log.s3_response(s3_error, self.last_attempt())
            return response
        may_be_client_fault = may_be_client_error(request.path, bool(request.query), self._settings)
        s3_error = self._fetch_error_details(request, response)
        failure = error_codes.to_exception(s3_error, self._settings.denied_status, may_be_client_fault)
        self._conclude_probe(failure)
        raise failure

    def _sign_and_send(self, request: S3Request) -> S3Response:
        settings = endpoint_state.effective_settings(self._settings)
        url = settings.bucket_url
        if settings is not self._settings:
            request = request._replace(host=url.authority)
            self._host = url.authority
        now = self._probe.clock.now() if self._probe else endpoint_state.now(url)
        credentials = resolver.resolve(self._settings)
        self._signature = _Signature(settings, credentials, now)
        pool, signed_request = pool_manager.pool_for(settings), sign(request, settings.signing, credentials, now)
        self._is_signed = True
        if self._record is None:
            return pool.send(signed_request)
        self._record.begin_attempt(request, settings.signing, credentials, now)
        response = pool.send(signed_request)
        self._record.add_response(response)
        return response

    def _fetch_error_details(self, request: S3Request, response: S3Response) -> S3ErrorResponse:
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

    def _retry_or_raise(self, failure: GatewayError) -> None:
        """Correct the reason of a failure, or wait, and log it. Raises: the failure, where it is not retried."""
        attempt = self.last_attempt()
        is_in_time = time.monotonic() <= self._deadline
        if is_in_time and self._probe_clock_after_denial(failure, attempt):
            return  # logged when the probe shows what the reason was
        action = rule_for(failure).action
        delay: float | None = None
        if is_in_time and action is RetryAction.BACKOFF:
            delay = self._backoff_delay(failure)
            if delay is not None:
                self._retries_left -= 1
        elif is_in_time and action in self._corrections_left and self._correct(action, failure.s3_error):
            self._corrections_left -= {action}
            if self._record is not None:
                self._record.add_correction(action, failure)
            delay = 0.0 if time.monotonic() <= self._deadline else None
        if delay is None:
            if self._probe and self._probe.denial:
                self._log_denial(self._probe.denial, is_clock_skew=False)
            raise failure
        self._log.retry(failure, attempt, action in _MISCONFIGURED)
        time.sleep(delay)

    def _backoff_delay(self, failure: GatewayError) -> float | None:
        """Return the seconds before the next retry, None if there is none left, or no time for it."""
        if not self._retries_left or self._is_host_in_error_state():
            return None  # a retry would fail with HostInErrorState and hide the reason
        delay = backoff_delay(self._settings.retries - self._retries_left)
        if isinstance(failure, UpstreamUnavailable) and failure.retry_after is not None:
            delay = max(delay, failure.retry_after)
        return delay if time.monotonic() + delay <= self._deadline else None

    def _is_host_in_error_state(self) -> bool:
        return self._signature is not None and pool_manager.pool_for(self._signature.settings).is_in_error_state

    def _correct(self, action: RetryAction, s3_error: S3ErrorResponse | None) -> bool:
        """Correct the clock, the region or the credentials; return False if there is nothing else to use."""
        if s3_error is None or self._signature is None:
            return False
        settings, credentials, _ = self._signature
        if action is RetryAction.CORRECT_CLOCK_SKEW:
            return self._begin_probe(s3_error, None)
        if action is RetryAction.FOLLOW_REGION:
            return endpoint_state.record_region(self._settings, settings, s3_error.region)
        timeout = self._deadline - time.monotonic()
        return resolver.replace_rejected(self._settings, credentials, timeout, s3_error.code)

    # --- a probe of S3's clock: its Date may be another server's, and a denied object says nothing about the clock

    def _probe_clock_after_denial(self, failure: GatewayError, attempt: Attempt | None) -> bool:
        """Begin a probe after a denial without a reason, of a signature that was not valid by S3's clock."""
        s3_error, signature = failure.s3_error, self._signature
        if s3_error is None or signature is None or RetryAction.CORRECT_CLOCK_SKEW not in self._corrections_left:
            return False
        if not error_codes.is_possible_clock_skew(s3_error, signature.settings.signing, signature.signed_at):
            return False
        if not self._begin_probe(s3_error, _Denial(failure, attempt)):
            return False
        self._corrections_left -= {RetryAction.CORRECT_CLOCK_SKEW}
        if self._record is not None:
            self._record.add_correction(RetryAction.CORRECT_CLOCK_SKEW, failure)
        return True

    def _begin_probe(self, s3_error: S3ErrorResponse, denial: _Denial | None) -> bool:
        """Sign what follows with another clock, S3's or this server's own; return False if there is none."""
        assert self._signature is not None
        url = self._signature.settings.bucket_url
        clock = endpoint_state.alternative_clock(url, s3_error.date, self._signature.signed_at)
        self._probe = _ClockProbe(url, clock, denial) if clock else None
        return clock is not None

    def _conclude_probe(self, failure: GatewayError | None) -> None:
        """Record the clock that was tried if S3 accepts it; ``failure``: of the attempt, None for a success.

        Raises:
            GatewayError: S3 rejects that clock's time as well: the denial before was a genuine one.
        """
        probe = self._probe
        if probe is None or isinstance(failure, UpstreamUnavailable):
            return
        self._probe = None
        is_skew = failure is not None and _is_clock_skew(failure)
        if probe.denial is None:
            is_accepted = not is_skew
        elif is_skew:
            self._denied_attempt = probe.denial.attempt
            raise probe.denial.failure
        else:
            is_accepted = failure is None or isinstance(failure, ObjectNotFound)
            self._log_denial(probe.denial, is_clock_skew=is_accepted)
        if is_accepted:
            endpoint_state.record_clock(probe.url, probe.clock)

    def _log_denial(self, denial: _Denial, is_clock_skew: bool) -> None:
        """Log the denial before a probe: as clock skew, or as the denial that it is."""
        if not is_clock_skew:
            self._log.retry(denial.failure, denial.attempt)
            return
        assert denial.failure.s3_error is not None
        s3_error = replace(denial.failure.s3_error, is_signature_time_invalid=True)
        failure = error_codes.to_exception(s3_error, self._settings.denied_status)
        self._log.retry(failure, denial.attempt, is_misconfigured=True)


def backoff_delay(retry: int) -> float:
    """Return the seconds to wait before a retry: exponential with full jitter, so that clients spread out.

    ``retry``: 0 for the first one.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(_MAX_DELAY, _BASE_DELAY * 2**retry))


def _is_clock_skew(failure: GatewayError) -> bool:
    return failure.s3_error is not None and failure.s3_error.code in error_codes.CLOCK_SKEW_CODES
