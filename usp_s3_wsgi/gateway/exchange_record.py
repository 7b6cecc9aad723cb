"""What is recorded of the gateway's exchange with one bucket, for metrics, the access log and the flight recorder.

Nothing is, without "UspS3Metrics On". An exchange that succeeds costs little: texts are made of failures only.
"""

from __future__ import annotations

from datetime import datetime
from time import monotonic

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import GatewayError, LogCode, describe_internal_error
from usp_s3_wsgi.observability import error_log, flight_recorder, recorder
from usp_s3_wsgi.observability.flight_recorder import FailedRequest, SentAttempt, SignedWith
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.s3.retry_policy import RetryAction
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext
from usp_s3_wsgi.transport.http_response import S3Response

#: attempts, resumes, three corrections, fallbacks, bytes, new and reused connections.
_NO_COUNTERS = (0, 0, 0, 0, 0, 0, 0, 0, 0)


class ExchangeRecord:
    """Collects what is known of an exchange. :meth:`finish` records it, once.

    ``resumes``, ``body_bytes``: counted by the caller.
    """

    __slots__ = (
        "_attempt_started_at",
        "_attempts",
        "_client_request",
        "_clock",
        "_credentials",
        "_first_byte_at",
        "_is_attempt_open",
        "_is_fallback",
        "_is_finished",
        "_new",
        "_region",
        "_response",
        "_response_of_attempt",
        "_reused",
        "_sent",
        "_settings",
        "_signed",
        "_started_at",
        "_token",
        "_wrong_region",
        "body_bytes",
        "resumes",
    )

    def __init__(self, settings: Settings, token: str, is_fallback: bool) -> None:
        """``token``: usp_s3_module's, of the request."""
        self._settings, self._token, self._is_fallback = settings, token, is_fallback
        self._started_at = self._attempt_started_at = monotonic()
        self._first_byte_at = 0.0
        self._client_request: S3Request | None = None
        self._signed: tuple[S3Request, SigningContext, Credentials, datetime] | None = None
        self._response: S3Response | None = None
        self._response_of_attempt: S3Response | None = None
        self._sent: list[SentAttempt] | None = None
        self._wrong_region: GatewayError | None = None
        self._is_attempt_open = self._is_finished = False
        self._attempts = self._new = self._reused = self._clock = self._region = self._credentials = 0
        self.resumes = self.body_bytes = 0

    def begin(self, request: S3Request) -> None:
        """Note what is requested, before it is signed."""
        self._client_request = request

    def begin_attempt(
        self, request: S3Request, context: SigningContext, credentials: Credentials, signed_at: datetime
    ) -> None:
        """Count a request that is sent to S3. Arguments: what was signed, and with what."""
        if self._is_attempt_open:
            self._end_attempt(None)
        self._attempts += 1
        self._is_attempt_open, self._response_of_attempt = True, None
        self._signed = (request, context, credentials, signed_at)
        self._attempt_started_at = monotonic()

    def add_response(self, response: S3Response) -> None:
        """Note the response of S3 to the attempt."""
        self._response = self._response_of_attempt = response
        if not self._first_byte_at:
            self._first_byte_at = monotonic()
        if response.connected_at >= self._attempt_started_at:
            self._new += 1
        else:
            self._reused += 1

    def add_failure(self, failure: GatewayError) -> None:
        """Note why the attempt failed. A failure before the request was sent belongs to none."""
        if self._is_attempt_open:
            self._end_attempt(failure)

    def _end_attempt(self, failure: GatewayError | None) -> None:
        """Add the attempt to those that are kept if the exchange fails."""
        assert self._signed is not None
        self._is_attempt_open = False
        attempt = SentAttempt(self._signed[0].host, self._attempt_started_at - self._started_at)
        attempt.seconds = monotonic() - self._attempt_started_at
        if (response := self._response_of_attempt) is not None:
            is_new = response.connected_at >= self._attempt_started_at
            attempt.status, attempt.connection = response.status, "new" if is_new else "reused"
        if failure is not None:
            attempt.failure = str(failure)
            if (s3_error := failure.s3_error) is not None:
                attempt.status, attempt.s3_code = s3_error.status, s3_error.code
                attempt.request_id = s3_error.request_id
        self._sent = [*(self._sent or ()), attempt]

    def add_correction(self, action: RetryAction, failure: GatewayError) -> None:
        """Count the correction of the clock, the region or the credentials; no other action is one.

        ``failure``: the reason. That of a wrong region is kept, though the request succeeds: it names the right one.
        """
        if action is RetryAction.FOLLOW_REGION:
            self._wrong_region = failure
        self._clock += action is RetryAction.CORRECT_CLOCK_SKEW
        self._region += action is RetryAction.FOLLOW_REGION
        self._credentials += action is RetryAction.REFRESH_CREDENTIALS

    def finish(self, failure: BaseException | None = None) -> None:
        """Record the exchange; nothing after the first call. ``failure``: why it failed, None for a success."""
        if not self._is_finished:
            self._is_finished = True
            try:
                self._record(failure)
            except Exception as error:  # a fault in what is recorded must not fail the request
                error_log.write_to_stderr(LogCode.INTERNAL_ERROR, describe_internal_error(error))

    def _record(self, failure: BaseException | None) -> None:
        assert recorder.record_exchange is not None
        url, response, now = self._settings.bucket_url, self._response, monotonic()
        status, code, request_id, error = 0, "", "", ""
        if response is not None:
            status, request_id = response.status, error_response.request_id(response.headers)
        if failure is not None:
            error = failure.code if isinstance(failure, GatewayError) else LogCode.INTERNAL_ERROR
            if isinstance(failure, GatewayError) and (s3_error := failure.s3_error) is not None:
                status, code, request_id = s3_error.status, s3_error.code, s3_error.request_id
        started_at, first_byte_at = self._started_at, self._first_byte_at
        recorder.record_exchange(
            self._token,
            url.authority,
            url.bucket,
            status,
            code,
            request_id,
            error,
            int((first_byte_at - started_at) * 1e6) if first_byte_at else -1,
            int((now - started_at) * 1e6),
            self._attempts,
            self.resumes,
            self._clock,
            self._region,
            self._credentials,
            self._is_fallback,
            self.body_bytes,
            self._new,
            self._reused,
        )
        if failure is not None:
            self._keep(failure, SignedWith(*self._signed) if self._signed else None)
        elif self._wrong_region is not None:
            self._keep(self._wrong_region, None, status)

    def _keep(self, failure: BaseException, signed: SignedWith | None, client_status: int | None = None) -> None:
        if self._is_attempt_open:
            self._end_attempt(None)
        url, request = self._settings.bucket_url, self._client_request
        method, path = (request.method, request.path) if request else ("", "")
        requested_range = (request.header("Range") or "") if request else ""
        failed = FailedRequest(flight_recorder.GATEWAY, url.authority, url.bucket, method, path, requested_range)
        flight_recorder.record(failure, failed, self._sent or (), signed, client_status=client_status)


def begin(settings: Settings, token: str, is_fallback: bool = False) -> ExchangeRecord | None:
    """Return the record of an exchange that begins now, None if exchanges are not recorded."""
    return None if recorder.record_exchange is None else ExchangeRecord(settings, token, is_fallback)


def record_invalid_request(failure: GatewayError, token: str, method: str, path: str) -> None:
    """Record a request that reaches no bucket: a setting or the request itself is not valid.

    ``path``: percent-encoded.
    """
    if recorder.record_exchange is not None:
        recorder.record_exchange(token, "", "", 0, "", "", failure.code, -1, 0, *_NO_COUNTERS)
        flight_recorder.record(failure, FailedRequest(flight_recorder.GATEWAY, "", "", method, path))
