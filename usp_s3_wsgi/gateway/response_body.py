"""The body of an object on its way to the client: complete, resumed where S3 broke off, or ended abnormally."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPException
from typing import NoReturn

from usp_s3_wsgi.errors import (
    BodyNotResumable,
    BodyTruncated,
    GatewayError,
    clear_traceback,
)
from usp_s3_wsgi.gateway.client_connection import ClientConnection
from usp_s3_wsgi.gateway.exchange_record import ExchangeRecord
from usp_s3_wsgi.gateway.fetcher import Fetcher
from usp_s3_wsgi.gateway.request_log import RequestLog
from usp_s3_wsgi.s3 import byte_range, error_response
from usp_s3_wsgi.s3.byte_range import ContentRange
from usp_s3_wsgi.signing.types import S3Request
from usp_s3_wsgi.transport.http_response import S3Response
from usp_s3_wsgi.transport.network_errors import describe

#: Bytes of one read. Large reads cost less; a response that waits for its client holds about one of them in memory.
READ_SIZE = 768 * 1024
#: Headers of the first request only: the rest is requested by its own range, of the same object.
_FIRST_REQUEST_ONLY = ("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")


class Body:
    """An iterator over the body of S3's response; where S3 breaks off, the rest is requested (``S3Retries``).

    ``content_range``: which bytes of the object ``response`` holds; None if they can be neither counted nor resumed
    (several ranges in one body). A truncated body ends with an exception, BodyTruncated, or without one where httpd
    itself ends the client's response abnormally.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        request: S3Request,
        response: S3Response,
        content_range: ContentRange | None,
        client: ClientConnection,
        log: RequestLog,
        record: ExchangeRecord | None = None,
    ) -> None:
        """``record``: of the exchange, None if exchanges are not recorded."""
        self._record, self._sent = record, 0
        self._fetcher, self._request, self._response = fetcher, request, response
        self._content_range, self._client, self._log = content_range, client, log
        self._position = content_range.first if content_range else 0
        self._etag, self._content_encoding = response.headers.get("etag", ""), response.headers.get("content-encoding")
        self._has_length = "content-length" in response.headers

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            data = self._read()
        except BodyTruncated as failure:
            self._log.failure(failure, self._fetcher.last_attempt())
            self._finish_record(failure)
            self._abort(failure)
        except Exception as error:
            self._log.internal_error(error)
            self._finish_record(error)
            self._abort(BodyTruncated("internal error"))
        if not data:
            raise StopIteration
        self._sent += len(data)
        return data

    def _read(self) -> bytes:
        """Return the next bytes, nothing at the end. Raises: BodyTruncated."""
        while True:
            try:
                data = self._response.read1(READ_SIZE)
            except (OSError, HTTPException) as error:
                # After malformed HTTP it is not certain that the bytes before it were right.
                data, reason, is_resumable = b"", describe(error), isinstance(error, OSError)
            else:
                reason, is_resumable = "the body ended before the end of the range", True
                if not data and self._missing is None:
                    return b""
            # If only the last (zero-size) chunk is missing, the body is complete by its Content-Range.
            if not data and self._missing != 0:
                self._resume(reason, is_resumable)
                continue
            self._position += len(data)
            if self._missing is not None and self._missing < 0:
                raise BodyNotResumable("S3 sent more bytes than the Content-Range states")
            return data

    @property
    def _missing(self) -> int | None:
        """How many bytes are still to come, None if S3 did not state it."""
        last = self._content_range.last if self._content_range else None
        return None if last is None else last + 1 - self._position

    def _resume(self, reason: str, is_resumable: bool) -> None:
        """Request the rest. Raises: BodyTruncated."""
        missing = "some" if self._missing is None else self._missing
        exception_type = BodyTruncated if is_resumable and self._can_resume else BodyNotResumable
        request_id = error_response.request_id(self._response.headers) or "(none)"
        failure = exception_type(
            f"response body truncated: {missing} bytes are missing: {reason}, request id {request_id}"
        )
        self._response.close()
        try:
            self._response = self._fetch_rest(failure)
        except BodyTruncated:
            raise
        except GatewayError as error:
            raise BodyNotResumable(f"{failure}; then {error}") from None

    @property
    def _can_resume(self) -> bool:
        """Whether a strong ETag makes sure that the rest is of the same object."""
        return self._content_range is not None and self._etag.startswith('"')

    def _fetch_rest(self, failure: BodyTruncated) -> S3Response:
        request = self._request_for_rest()
        response = self._fetcher.resume(request, failure)
        try:
            self._content_range = self._validate_rest(response, request)
        except BaseException:
            response.drain_or_close()
            raise
        return response

    def _request_for_rest(self) -> S3Request:
        last = "" if self._content_range is None or self._content_range.last is None else self._content_range.last
        request = self._request.without(*_FIRST_REQUEST_ONLY)
        headers = (*request.headers, ("Range", f"bytes={self._position}-{last}"), ("If-Match", self._etag))
        # A part of a multipart upload (partNumber) is an ordinary range, once S3 has stated where it is.
        query = tuple(pair for pair in self._request.query if pair[0] != "partNumber")
        return request._replace(headers=headers, query=query)

    def _validate_rest(self, response: S3Response, request: S3Request) -> ContentRange:
        """Return which bytes the response holds, if it is the rest of the same object.

        Raises:
            BodyNotResumable: it is not. BadUpstreamResponse: its header is not valid.
        """
        request_id = error_response.request_id(response.headers) or "(none)"
        if response.status == 412 or (response.status == 206 and response.headers.get("etag") != self._etag):
            raise BodyNotResumable(f"the object was changed meanwhile, request id {request_id}")
        if response.status != 206:
            raise BodyNotResumable(
                f"S3 answered {response.status} to the request for the rest, request id {request_id}"
            )
        first = self._content_range
        rest = byte_range.validate(206, response.headers, response.content_length, request.header("Range"), False)
        if response.headers.get("content-encoding") != self._content_encoding:  # Google decompresses: same ETag
            raise BodyNotResumable("the rest has another Content-Encoding")
        if first is None or rest is None or rest.total is None or first.total not in {None, rest.total}:
            raise BodyNotResumable("the rest belongs to an object of another length")
        last = rest.total - 1 if first.last is None else first.last
        if (rest.first, rest.last) != (self._position, last):
            raise BodyNotResumable("Content-Range is not the rest that was requested")
        return rest

    def _abort(self, failure: BodyTruncated) -> NoReturn:
        """End the body abnormally: else mod_wsgi would tell httpd's filters, such as a cache, that it is complete."""
        is_aborted_by_httpd = self._client.abort_response(self._has_length)
        clear_traceback(failure)  # mod_wsgi would log it
        if is_aborted_by_httpd:
            raise StopIteration
        try:
            raise failure from None
        finally:
            del failure

    def close(self) -> None:
        """Release the connection to S3; with unread bytes it is closed, so that they reach no other request."""
        self._response.close()
        self._finish_record(None)

    def _finish_record(self, failure: Exception | None) -> None:
        if self._record is not None:
            self._record.body_bytes = self._sent
            self._record.finish(failure)
