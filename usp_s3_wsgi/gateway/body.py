"""The bytes of an object on their way to the client: whole, resumed where S3 broke off, or ended abnormally."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import TYPE_CHECKING, NoReturn

from usp_s3_wsgi import errors
from usp_s3_wsgi.errors import BodyTruncated, BodyUnusable, GatewayError, describe
from usp_s3_wsgi.gateway.fetcher import Upstream
from usp_s3_wsgi.s3 import byte_range, error_response
from usp_s3_wsgi.s3.byte_range import Part
from usp_s3_wsgi.signing.types import S3Request
from usp_s3_wsgi.transport import pool

if TYPE_CHECKING:
    from usp_s3_wsgi.transport.connection import S3Response

#: Bytes of one read: large ones cost less; a stream that waits for its client holds about one.
READ_SIZE = 3 << 18
#: What is about the first request alone: the rest is asked for by its own range, of the very object that was begun.
_OF_THE_FIRST = ("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")


class Body:
    """The bytes of S3's body, in large reads; where S3 breaks off, the rest is asked for (``S3Retries``).

    Raises, instead of its end, BodyTruncated; ``truncated`` is told of it before, and returns True where that is not
    needed, because the server itself sees that the body is too short. ``part`` says which bytes of the object
    ``response`` brings, None where they cannot be resumed nor counted (several ranges in one body).
    """

    def __init__(
        self,
        upstream: Upstream,
        request: S3Request,
        response: S3Response,
        part: Part | None,
        truncated: Callable[[BodyTruncated], bool],
    ) -> None:
        self._upstream, self._request, self._response = upstream, request, response
        self._part, self._truncated = part, truncated
        self._next = part.first if part else 0
        self._etag, self._coding = response.headers.get("etag", ""), response.headers.get("content-encoding")

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            data = self._data()
        except BodyTruncated as failure:
            self._end(failure)
        except Exception as error:
            self._end(BodyUnusable(errors.internal(error)))
        if not data:
            raise StopIteration
        return data

    def _data(self) -> bytes:
        """Return the next bytes, none at the end. Raises: BodyTruncated."""
        while True:
            try:
                data = self._response.read1(READ_SIZE)
            except (OSError, HTTPException) as error:
                # What is no HTTP is no break: who knows what came before it.
                data, reason, resumable = b"", describe(error), isinstance(error, OSError)
            else:
                reason, resumable = "not the length of the part", True
                if not data and self._missing is None:
                    return b""
            # Where only the mark of the end is missing, the part is whole by what S3 said of it.
            if not data and self._missing != 0:
                self._go_on(reason, resumable)
                continue
            self._next += len(data)
            if self._missing is not None and self._missing < 0:
                raise BodyUnusable("S3 sent more bytes than it said")
            return data

    @property
    def _missing(self) -> int | None:
        """How many bytes are still to come, None where S3 did not say."""
        last = self._part.last if self._part else None
        return None if last is None else last + 1 - self._next

    def _go_on(self, reason: str, resumable: bool) -> None:
        """Ask for the rest. Raises: BodyTruncated."""
        missing = "some" if self._missing is None else self._missing
        kind = BodyTruncated if resumable and self._can_resume else BodyUnusable
        said = error_response.request_id(self._response.headers)
        failure = kind(f"S3 ended the body early, {missing} bytes are missing: {reason}, request id {said or '(none)'}")
        self.close()
        try:
            self._response = self._rest(failure)
        except BodyTruncated:
            raise
        except GatewayError as error:
            raise BodyUnusable(f"{failure}; then {error}") from None

    @property
    def _can_resume(self) -> bool:
        """Whether the rest can be asked for so that it must be of the same object: a strong validator tells."""
        return self._part is not None and self._etag.startswith('"')

    def _rest(self, failure: BodyTruncated) -> S3Response:
        request = self._request_for_rest()
        response = self._upstream.fetch(request, after=failure)
        try:
            self._part = self._checked(response, request)
        except BaseException:
            pool.discard(response)
            raise
        return response

    def _request_for_rest(self) -> S3Request:
        last = "" if self._part is None or self._part.last is None else self._part.last
        request = self._request.without(*_OF_THE_FIRST)
        headers = (*request.headers, ("Range", f"bytes={self._next}-{last}"), ("If-Match", self._etag))
        # The part of an upload (partNumber) is a range like any other, once S3 has said where it lies.
        query = tuple(pair for pair in self._request.query if pair[0] != "partNumber")
        return request._replace(headers=headers, query=query)

    def _checked(self, response: S3Response, request: S3Request) -> Part:
        """Return which bytes the response brings, if it is the rest of the very same object.

        Raises:
            UpstreamError: it is not.
        """
        said = error_response.request_id(response.headers) or "(none)"
        if response.status == 412 or (response.status == 206 and response.headers.get("etag") != self._etag):
            raise BodyUnusable(f"the object changed meanwhile, request id {said}")
        if response.status != 206:
            raise BodyUnusable(f"S3 answered {response.status} to the request for the rest, request id {said}")
        begun, rest = self._part, byte_range.part_sent(response, request)
        if response.headers.get("content-encoding") != self._coding:  # Google unpacks under the same ETag
            raise BodyUnusable("S3 sent the rest in another coding")
        if begun is None or rest is None or rest.total is None or begun.total not in {None, rest.total}:
            raise BodyUnusable("S3 sent a part of another object")
        last = rest.total - 1 if begun.last is None else begun.last
        if (rest.first, rest.last) != (self._next, last):
            raise BodyUnusable("S3 sent another part than the rest")
        return rest

    def _end(self, failure: BodyTruncated) -> NoReturn:
        """End the body: without an exception mod_wsgi would tell httpd's filters (a cache) that it is whole."""
        is_told = self._truncated(failure)
        errors.forget_traceback(failure)  # mod_wsgi logs it, and it is of no use to anybody
        if is_told:
            raise StopIteration
        try:
            raise failure from None
        finally:
            del failure

    def close(self) -> None:
        """Give the connection back; one with unread bytes is closed, so that they reach no other request."""
        self._response.close()
