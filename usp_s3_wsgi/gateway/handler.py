"""The gateway's WSGI application: the steps of a request, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import AccessDenied, GatewayError, ObjectNotFound, clear_traceback
from usp_s3_wsgi.gateway import client_request, client_response, exchange_record, httpd_module, operator_settings
from usp_s3_wsgi.gateway.client_connection import ClientConnection, discard_request_body
from usp_s3_wsgi.gateway.client_request import ClientRequest
from usp_s3_wsgi.gateway.client_response import Response
from usp_s3_wsgi.gateway.fetcher import Fetcher
from usp_s3_wsgi.gateway.httpd_module import HttpdRequest
from usp_s3_wsgi.gateway.operator_settings import RequestContext
from usp_s3_wsgi.gateway.request_log import Level, RequestLog
from usp_s3_wsgi.gateway.response_body import Body
from usp_s3_wsgi.observability.error_log import Attempt
from usp_s3_wsgi.s3 import byte_range, retry_policy
from usp_s3_wsgi.signing.types import S3Request
from usp_s3_wsgi.transport.http_response import S3Response


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve one GET or HEAD of an object, as the settings in the WSGI environ say: PEP 3333."""
    httpd_request = httpd_module.current_request()
    log = RequestLog(environ, httpd_request)
    try:
        response = _respond(environ, httpd_request, log)
    except GatewayError as failure:
        response = _error_response(environ, failure)
        clear_traceback(failure)
    except Exception as error:
        log.internal_error(error)
        response = _error_response(environ, GatewayError())
        clear_traceback(error)
    try:
        start_response(response.status_line, response.headers)
    except BaseException:
        response.close()
        raise
    return response.body


def _error_response(environ: dict[str, Any], failure: GatewayError) -> Response:
    is_subrequest = client_request.is_subrequest(environ)
    return client_response.error_response(failure.status, failure.headers, environ["REQUEST_METHOD"], is_subrequest)


def _respond(environ: dict[str, Any], httpd_request: HttpdRequest | None, log: RequestLog) -> Response:
    """Return the response. Raises: GatewayError, after it is logged."""
    try:
        discard_request_body(environ)
        context = operator_settings.from_environ(environ)
        log.is_debug = context.is_debug
        context.check_refresh_threads_allowed(context.settings)
        request = client_request.from_environ(environ, context.served_path, context.errordocument_status)
    except GatewayError as failure:
        log.failure(failure)
        token, path = operator_settings.metrics_token(environ), client_request.encoded_path(environ)
        exchange_record.record_invalid_request(failure, token, environ["REQUEST_METHOD"], path)
        raise
    client = ClientConnection(environ, log, context.module_enforces_content_length, httpd_request)
    bucket_request = _BucketRequest(request, context.settings, context, client, log, is_fallback=False)
    try:
        return bucket_request.respond()
    except GatewayError as failure:
        fallback, on_404 = context.settings.fallback, context.settings.fallback_on_404
        if fallback is None or not retry_policy.should_use_fallback(failure, on_404):
            log.failure(failure, bucket_request.last_attempt())
            raise
        clear_traceback(failure)
        first_failure = _FirstFailure(failure, bucket_request.last_attempt())
    fallback_request = _BucketRequest(request, fallback, context, client, log, is_fallback=True)
    return _respond_from_fallback(fallback_request, first_failure, log)


class _FirstFailure(NamedTuple):
    """The failure of the primary bucket, for which the fallback bucket is used."""

    failure: GatewayError
    attempt: Attempt | None

    def log(self, log: RequestLog, level: Level) -> None:
        log.failure(self.failure, self.attempt, "using S3FallbackURL", level)


def _respond_from_fallback(bucket_request: _BucketRequest, first: _FirstFailure, log: RequestLog) -> Response:
    """Return the fallback bucket's response. Raises: GatewayError, after both failures are logged."""
    try:
        response = bucket_request.respond()
    except GatewayError as failure:
        first.log(log, Level.ERROR)
        log.failure(failure, bucket_request.last_attempt())
        if first.failure.status >= 500 and isinstance(failure, (ObjectNotFound, AccessDenied)):
            raise first.failure from None  # the primary bucket may have what its copy lacks
        raise
    except Exception:
        first.log(log, Level.ERROR)
        raise
    first.log(log, Level.WARNING)
    return response


class _BucketRequest:
    """A client's request, sent to one bucket."""

    def __init__(
        self,
        request: ClientRequest,
        settings: Settings,
        context: RequestContext,
        client: ClientConnection,
        log: RequestLog,
        is_fallback: bool,
    ) -> None:
        self._request, self.settings, self._context = request, settings, context
        self._client, self._log = client, log
        self._record = exchange_record.begin(settings, context.metrics_token, is_fallback)
        self._fetcher = Fetcher(settings, log, self._record)

    def last_attempt(self) -> Attempt | None:
        """Return the last attempt, for the log."""
        return self._fetcher.last_attempt()

    def respond(self) -> Response:
        """Return what the client gets. Raises: GatewayError."""
        if self._record is None:
            return self._respond()
        try:
            response = self._respond()
        except BaseException as failure:
            self._record.finish(failure)
            raise
        if not isinstance(response.body, Body):
            self._record.finish()
        return response

    def _respond(self) -> Response:
        self._context.check_refresh_threads_allowed(self.settings)
        request = self._request.for_bucket(self.settings)
        response = self._fetcher.fetch(request)
        requested_range, if_range = request.header("Range"), request.header("If-Range")
        if byte_range.must_refetch_whole(response.status, response.headers, requested_range, if_range):
            response.drain_or_close()
            request = request.without("Range", "If-Range")
            response = self._fetcher.fetch(request)
        try:
            return self._client_response(request, response)
        except BaseException:
            response.drain_or_close()
            raise

    def _client_response(self, request: S3Request, response: S3Response) -> Response:
        if response.status not in {200, 206}:
            headers = client_response.forwarded_headers(response, self.settings)
            response.drain_or_close()
            return client_response.plain_text_response(response.status, headers, request.method)
        content_range = byte_range.validate(
            response.status,
            response.headers,
            response.content_length,
            request.header("Range"),
            request.is_for_part_number,
        )
        status = self._context.errordocument_status or response.status
        headers = client_response.object_headers(response, self.settings)
        if request.method == "HEAD":
            response.drain_or_close()
            return Response(status, headers, [])
        self._client.check_truncation_is_detectable(response)
        if self._client.must_send_connection_close("content-length" in response.headers):
            headers.append(("Connection", "close"))
        body = Body(self._fetcher, request, response, content_range, self._client, self._log, self._record)
        return Response(status, headers, body)
