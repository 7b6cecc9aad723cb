"""Requests an object straight from S3, with the gateway's own code: what ``get`` does is what the gateway does.

The gateway's fetcher and body need no httpd. An empty environ stands for it: the body then ends with an exception
where S3 breaks off, and no connection of a client is reset.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from usp_s3_wsgi.cli.get.checksums import CHECKSUM_MODE
from usp_s3_wsgi.cli.get.download import (
    DownloadError,
    Exchange,
    Headers,
    SentAttempt,
    Times,
    Wanted,
    from_gateway_error,
    lookup_seconds,
    no_such_range,
)
from usp_s3_wsgi.cli.server.objects import ServedObject
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BodyTruncated, GatewayError, describe_internal_error
from usp_s3_wsgi.gateway.client_connection import ClientConnection
from usp_s3_wsgi.gateway.exchange_record import ExchangeRecord
from usp_s3_wsgi.gateway.fetcher import Fetcher
from usp_s3_wsgi.gateway.request_log import Level, RequestLog
from usp_s3_wsgi.gateway.response_body import Body
from usp_s3_wsgi.observability.error_log import Attempt
from usp_s3_wsgi.s3 import byte_range, retry_policy
from usp_s3_wsgi.s3.byte_range import ContentRange
from usp_s3_wsgi.s3.retry_policy import RetryAction
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext
from usp_s3_wsgi.transport.http_response import S3Response

#: With which an S3 that does not know the header for checksums may reject it.
_REJECTS_HEADER = frozenset({400, 501})
#: Bytes of an error document that are read.
_MAX_DOCUMENT = 16_384
_CORRECTIONS = {
    RetryAction.CORRECT_CLOCK_SKEW: "clock",
    RetryAction.FOLLOW_REGION: "region",
    RetryAction.REFRESH_CREDENTIALS: "credentials",
}


class S3Source:
    """S3 itself, or the fallback bucket where the gateway would use it."""

    name = "S3"

    def __init__(self, served: ServedObject, with_checksums: bool) -> None:
        """``with_checksums``: ask for those that S3 has."""
        self._served, self._with_checksums = served, with_checksums
        self._settings = served.used.settings
        self.exchange = Exchange()

    @property
    def url(self) -> str:
        """The URL without a signature."""
        request = self._served.request(self._settings)
        return f"{request.scheme}://{request.host}{request.path}"

    def open(self, wanted: Wanted) -> S3Body:
        """Request the object. Raises: DownloadError."""
        self.exchange, self._settings = Exchange(), self._served.used.settings
        try:
            return self._open_without_rejected_header(wanted)
        except _Failed as failed:
            failure, fallback = failed.failure, self._settings.fallback
            if fallback is None or not retry_policy.should_use_fallback(failure, self._settings.fallback_on_404):
                raise failed.error from None
            self.exchange.notes.append(f"S3FallbackURL was used: {failed.error}")
        self._settings = fallback
        try:
            return self._open_without_rejected_header(wanted)
        except _Failed as failed:
            raise failed.error from None

    def _open_without_rejected_header(self, wanted: Wanted) -> S3Body:
        # Of a part there is no checksum.
        if not self._with_checksums or wanted.range_header is not None:
            return self._open(wanted, ())
        try:
            return self._open(wanted, (CHECKSUM_MODE,))
        except _Failed as failed:
            s3_error = failed.failure.s3_error
            if s3_error is None or s3_error.status not in _REJECTS_HEADER:
                raise
        body = self._open(wanted, ())
        self.exchange.notes.append(f"S3 rejected the header {CHECKSUM_MODE[0]}; without it, it sent the object")
        return body

    def _open(self, wanted: Wanted, headers: tuple[tuple[str, str], ...]) -> S3Body:
        if wanted.range_header is not None:
            headers = (*headers, ("Range", wanted.range_header))
        if wanted.etag:
            headers = (*headers, ("If-Match", wanted.etag))
        log = _Log()
        fetcher = Fetcher(self._settings, log, record := _Record(self._settings, self.exchange))
        try:
            request = self._served.request(self._settings, headers)
            response = fetcher.fetch(request)
            if byte_range.must_refetch_whole(response.status, response.headers, wanted.range_header, None):
                response.drain_or_close()
                request = request.without("Range")
                response = fetcher.fetch(request)
            try:
                return self._body(fetcher, request, response, log, record)
            except BaseException:
                response.drain_or_close()
                raise
        except GatewayError as failure:
            raise _Failed(failure, from_gateway_error(failure, fetcher.last_attempt())) from None
        finally:
            record.note_times()

    def _body(self, fetcher: Fetcher, request: S3Request, response: S3Response, log: _Log, record: _Record) -> S3Body:
        if response.status == 412:
            raise DownloadError("the object was changed since the download began: --force starts again")
        if response.status == 416:
            raise no_such_range(response.headers, _document(response), "InvalidRange")
        if response.status not in {200, 206}:
            raise DownloadError(f"S3 answered {response.status} to a request without a condition")
        range_header = request.header("Range")
        content_range = byte_range.validate(
            response.status, response.headers, response.content_length, range_header, request.is_for_part_number
        )
        assert content_range is not None  # there is one range at most
        client = ClientConnection({}, log)
        client.check_truncation_is_detectable(response)
        body = Body(fetcher, request, response, content_range, client, log, record)
        return S3Body(body, response, content_range, log, fetcher, record)


def _document(response: S3Response) -> str:
    """Return the beginning of an error document."""
    data = bytearray()
    with suppress(GatewayError, OSError):
        while len(data) < _MAX_DOCUMENT and (part := response.read1(_MAX_DOCUMENT)):
            data += part
    return data.decode("latin-1")


class S3Body:
    """S3's response, whose body is resumed as the gateway does it."""

    def __init__(
        self,
        body: Body,
        response: S3Response,
        content_range: ContentRange,
        log: _Log,
        fetcher: Fetcher,
        record: _Record,
    ) -> None:
        self._body, self._log, self._fetcher, self._record = body, log, fetcher, record
        self.status, self.content_range = response.status, content_range
        self.headers: Headers = dict(response.headers)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body. Raises: DownloadError."""
        length = 0
        try:
            for data in self._body:
                length += len(data)
                yield data
        except BodyTruncated as failure:
            text = self._log.internal_error_text or str(failure)
            error = from_gateway_error(failure, self._fetcher.last_attempt())
            raise DownloadError(f"S3 broke off after {length:,} bytes: {text}", error.code) from None
        finally:
            self._record.note_resumes()

    def close(self) -> None:
        """Release the connection."""
        self._body.close()


class _Failed(Exception):
    """A failure, as the gateway has it and as it is shown."""

    def __init__(self, failure: GatewayError, error: DownloadError) -> None:
        super().__init__()
        self.failure, self.error = failure, error


class _Log(RequestLog):
    """Keeps what the gateway would log, for the summary: the failure itself is an exception."""

    def __init__(self) -> None:
        super().__init__({"wsgi.errors": io.StringIO()})
        self.internal_error_text = ""

    def failure(
        self, failure: GatewayError, attempt: Attempt | None = None, action: str = "", level: Level = Level.ERROR
    ) -> None:
        """Ignore it."""

    def retry(self, failure: GatewayError, attempt: Attempt | None, is_misconfigured: bool = False) -> None:
        """Ignore it: the record has it."""

    def internal_error(self, error: Exception) -> None:
        """Keep an unexpected exception."""
        self.internal_error_text = describe_internal_error(error)


class _Record(ExchangeRecord):
    """Notes the attempts with their times. Nothing is recorded for metrics."""

    def __init__(self, settings: Settings, exchange: Exchange) -> None:
        super().__init__(settings, "", False)
        self._exchange = exchange
        self._began_at = 0.0
        self._is_open = False
        self._last: tuple[float, float, S3Response] | None = None

    def begin(self, request: S3Request) -> None:
        """Ignore it."""

    def begin_attempt(
        self, request: S3Request, context: SigningContext, credentials: Credentials, signed_at: datetime
    ) -> None:
        """Note a request that is sent to S3."""
        self._exchange.attempts.append(SentAttempt(request.host))
        self._began_at, self._is_open = time.monotonic(), True

    def add_response(self, response: S3Response) -> None:
        """Note the response's header."""
        attempt, now = self._exchange.attempts[-1], time.monotonic()
        attempt.status, attempt.seconds = response.status, now - self._began_at
        attempt.is_new_connection = response.connected_at >= self._began_at
        self._last = self._began_at, now, response

    def add_failure(self, failure: GatewayError) -> None:
        """Note why an attempt failed."""
        if self._is_open:
            self._is_open = False
            attempt = self._exchange.attempts[-1]
            attempt.failure, attempt.seconds = str(failure), time.monotonic() - self._began_at

    def add_correction(self, action: RetryAction, failure: GatewayError) -> None:
        """Note what was corrected before the next attempt."""
        if action in _CORRECTIONS:
            self._exchange.corrections.append(_CORRECTIONS[action])

    def finish(self, failure: BaseException | None = None) -> None:
        """Ignore it: there are no metrics here."""

    def note_times(self) -> None:
        """Note what the last response took."""
        if self._last is None:
            return
        began_at, now, response = self._last
        times = self._exchange.times = Times(first_byte=now - began_at)
        if response.connected_at >= began_at:
            measured = response.connect_times
            times.lookup = lookup_seconds(self._settings.bucket_url.host, measured)
            times.connect = measured.connected_at - measured.resolved_at
            times.first_byte = now - response.connected_at
            if self._settings.bucket_url.scheme == "https":
                times.tls = response.connected_at - measured.connected_at

    def note_resumes(self) -> None:
        """Note how often the body was resumed."""
        self._exchange.resumes = self.resumes
