"""What usp_s3_module calls for requests that mod_proxy sends to buckets (``mod_usp_s3/python_callbacks.c``).

mod_proxy carries the bytes. Settings, credentials, signer and the meaning of S3's errors are the gateway's. The key
comes from the URL that mod_proxy is about to request, the bucket from S3BucketURL or the section's URL. The C module
logs the type of an exception that a callback raises, and answers 500 or 502.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.errors import (
    AccessDenied,
    BadUpstreamResponse,
    BodyNotResumable,
    BodyTruncated,
    GatewayError,
    LogCode,
    ProxiedRequestFailed,
    RangeNotSatisfiable,
    S3ErrorResponse,
    SettingError,
    UpstreamError,
    describe_internal_error,
)
from usp_s3_wsgi.observability import error_log, flight_recorder, recorder
from usp_s3_wsgi.observability.error_log import Attempt
from usp_s3_wsgi.observability.flight_recorder import FailedRequest, SentAttempt, SignedWith
from usp_s3_wsgi.proxy import section_settings
from usp_s3_wsgi.proxy.clock_correction import ClockCorrector, RejectedSignature
from usp_s3_wsgi.proxy.proxied_request import ProxiedRequest, split_url
from usp_s3_wsgi.s3 import byte_range, error_codes, error_response, object_request
from usp_s3_wsgi.s3.endpoint_state import SYSTEM_CLOCK, endpoint_state
from usp_s3_wsgi.s3.retry_policy import RetryAction, rule_for
from usp_s3_wsgi.signing import sigv4
from usp_s3_wsgi.signing.signer import sign, signing_template
from usp_s3_wsgi.signing.sigv4 import SigningTemplate
from usp_s3_wsgi.signing.types import Credentials, Pairs, S3Request

#: Hexadecimal digits of a SHA-256, with which a string to sign ends, and of a signature.
_HASH_LENGTH = len(sigv4.EMPTY_PAYLOAD_HASH)
#: With this status S3 names the region to sign for, at the same host. With 301, 307 and 308 the bucket is at another.
_WRONG_SIGNING_REGION = 400

clock_corrector = ClockCorrector(endpoint_state)


class NativeSigningTemplate(NamedTuple):
    """How ``mod_usp_s3/signing_template.c`` signs other paths of the section in the same second without Python.

    ``second``: in which it is valid, by this server's clock, in unix time (the signature's time is S3's).
    ``requires_empty_query``: only requests without a query. ``origin``: scheme and host of the URL, before its path,
    which begins with ``prefix``.
    ``canonical_request_after_path``: what follows the path in the canonical request. ``string_to_sign_prefix``: the
    string to sign up to the hash. ``authorization_prefix``: that header up to the signature; or None, and then
    ``query_prefix`` is the URL's query up to it.
    """

    second: int
    requires_empty_query: bool
    origin: str
    prefix: str
    canonical_request_after_path: str
    string_to_sign_prefix: str
    signing_key: bytes
    authorization_prefix: str | None
    query_prefix: str | None

    def __repr__(self) -> str:
        return f"NativeSigningTemplate({self.second}, {self.origin}{self.prefix})"  # the rest holds a key


class SignedRequest(NamedTuple):
    """What mod_proxy sends: the URL, Host, and further headers. The signature is in the URL's query or in headers.

    ``server_name``: the host's name alone, for TLS. ``bucket``: the bucket's name, for metrics. ``pass_headers``:
    lowercase prefixes of further response headers that are forwarded. ``signed_at``: the time in the signature, in unix
    time. ``state_version``: of the endpoint state (recorded clocks and regions) with which it was signed.
    ``template``: None if Python is to sign each request.
    """

    url: str
    host: str
    server_name: str
    bucket: str
    headers: Pairs
    pass_headers: tuple[str, ...]
    pass_accept_encoding: bool
    is_for_part_number: bool
    signed_at: int
    state_version: int
    template: NativeSigningTemplate | None

    def __repr__(self) -> str:
        return f"SignedRequest({self.url.partition('?')[0]})"  # the rest holds a signature


class ClientResponse(NamedTuple):
    """What the client gets instead: status and headers; ``log_line``: for the error log, None for none.

    ``state_version``: of the endpoint state, which this error may have changed. The others are for metrics and the
    access log, and empty if there is nothing of that kind.
    """

    status: int
    log_line: str | None
    headers: Pairs
    state_version: int = 0
    error_code: str = ""
    bucket: str = ""
    s3_code: str = ""
    request_id: str = ""


class Validation(NamedTuple):
    """Whether S3's response matches the requested range.

    ``status``: the one that the response should have. ``must_refetch_whole``: request the whole object instead.
    ``error``: why the response must be rejected, None where it is valid. ``length``: the bytes that the body must have,
    -1 if that is not known. ``headers``: the client's, of an error.
    """

    status: int
    must_refetch_whole: bool = False
    error: str | None = None
    length: int = -1
    headers: Pairs = ()


def sign_request(fields: tuple[Any, ...]) -> SignedRequest | ClientResponse:
    """Sign what mod_proxy is about to send; ``fields``: those of :class:`ProxiedRequest`."""
    request, bucket = ProxiedRequest(*fields), ""
    try:
        if request.rejection is not None:
            raise SettingError(request.rejection)
        origin, path, query = split_url(request.url)
        settings = section_settings.for_request(request.section_url, request.variables, origin)
        bucket = settings.bucket_url.bucket
        version, second = endpoint_state.version, int(time.time())
        effective = endpoint_state.effective_settings(settings, keep_host=True)
        unsigned = request.for_bucket(path, query, effective)
        credentials, now = resolver.resolve(settings), endpoint_state.now(effective.bucket_url)
        signed = sign(unsigned, effective.signing, credentials, now)
        template = _template(unsigned, signed, effective, credentials, now, second)
    except Exception as error:
        attempt = _attempt(request.method, request.url)
        if recorder.record_failure is not None:
            flight_recorder.record(error, _failed_request(attempt, bucket))
        return _error_response(error, attempt, bucket)
    return SignedRequest(
        f"{signed.scheme}://{signed.host}{signed.target}",
        signed.host,
        effective.bucket_url.host,
        settings.bucket_url.bucket,
        signed.headers,
        effective.pass_headers,
        effective.pass_accept_encoding,
        unsigned.is_for_part_number,
        int(now.timestamp()),
        version,
        template,
    )


def _template(
    unsigned: S3Request, signed: S3Request, settings: Settings, credentials: Credentials, now: datetime, second: int
) -> NativeSigningTemplate | None:
    template = signing_template(unsigned, settings.signing, credentials, now)
    if template is None or unsigned.query:
        return None
    canonical_request_after_path, string_to_sign_prefix = _common_parts(template)
    # The signature is at the end of the last header, or of the query.
    authorization = signed.headers[-1][1][:-_HASH_LENGTH] if settings.signing.use_headers else None
    return NativeSigningTemplate(
        second,
        bool(settings.pass_query),
        f"{unsigned.scheme}://{unsigned.host}",
        settings.bucket_url.prefix,
        canonical_request_after_path,
        string_to_sign_prefix,
        template.signing_key,
        authorization,
        None if authorization else signed.target.partition("?")[2][:-_HASH_LENGTH],
    )


@lru_cache(maxsize=256)  # as many as sigv4 has of the same second
def _common_parts(template: SigningTemplate) -> tuple[str, str]:
    """Return what follows the path in the canonical request, and the string to sign up to the hash."""
    time, scope, _, headers, signed_names, payload_hash, _, query = template
    canonical = sigv4.canonical_request("", "", query, headers, signed_names, payload_hash)
    # An empty method and path leave only the ends of their lines.
    return canonical.removeprefix("\n"), sigv4.string_to_sign(time, scope, canonical)[:-_HASH_LENGTH]


def validate_response(
    status: int, headers: Mapping[str, str], range_header: str | None, if_range: str | None, is_for_part_number: bool
) -> Validation:
    """Validate S3's response to a range; arguments as in :mod:`byte_range`."""
    status = byte_range.effective_status(status, headers, range_header, is_for_part_number)
    if byte_range.must_refetch_whole(status, headers, range_header, if_range):
        return Validation(status, must_refetch_whole=True)
    if status not in {200, 206}:
        return Validation(status)
    length = headers.get("content-length")
    try:
        content_range = byte_range.validate(
            status, headers, int(length) if length else None, range_header, is_for_part_number
        )
    except RangeNotSatisfiable as error:
        return Validation(error.status, headers=error.headers)
    except GatewayError as error:
        return Validation(status, error=str(error))
    if content_range is None or content_range.last is None:
        return Validation(status)
    return Validation(status, length=content_range.last - content_range.first + 1)


def explain_error(
    request: tuple[str | None, Pairs, str, str],
    response: tuple[int, bytes, Mapping[str, str]],
    attempt: tuple[int, float],
    signature: tuple[int, int, int] = (0, 0, -1),
    sent: tuple[str | None, str | None, str | None] = (None, None, None),
) -> ClientResponse:
    """Return the client's response and the log line for an error response of S3, and record S3's clock and region.

    ``request``: section_url, variables, method and URL, as in :class:`ProxiedRequest`. ``response``: S3's status, the
    begin of its body, and its headers by names in lowercase. ``attempt``: how many members of a balancer were tried,
    this one included, and the seconds since the client's request. ``signature``: ``signed_at`` and ``state_version`` of
    the signed request, and the ``accepted_version`` of :class:`RejectedSignature`. ``sent``: the signed URL, the
    Authorization header, and the Range header of the client; None for each that there is not.
    """
    section_url, variables, method, url = request
    signed_url, authorization, requested_range = sent
    logged_attempt, bucket = _attempt(method, url, *attempt), ""
    signed_with: Callable[[], SignedWith | None] | None = None
    try:
        status, body, headers = response
        s3_error = error_response.parse(status, headers, body.decode("utf-8", "replace"))
        origin, path, query = split_url(url)
        settings = section_settings.for_request(section_url, variables, origin)
        bucket = settings.bucket_url.bucket
        signed_at, version, accepted_version = signature
        rejected = RejectedSignature(datetime.fromtimestamp(signed_at, UTC), version, accepted_version)
        if recorder.record_failure is not None and signed_url is not None:
            effective = endpoint_state.effective_settings(settings, keep_host=True)
            signed_with = partial(
                _signed_with, settings, effective, method, query, signed_url, authorization, rejected.signed_at
            )
        if _record_possible_skew(s3_error, settings, rejected):
            s3_error = replace(s3_error, is_signature_time_invalid=True)
        has_query = bool(object_request.allowed_parameters(query, settings.pass_query))
        may_be_client_error = object_request.may_be_client_error(path, has_query, settings)
        failure = error_codes.to_exception(s3_error, settings.denied_status, may_be_client_error)
        if s3_error.code in error_codes.CREDENTIAL_CODES and not s3_error.is_signature_time_invalid:
            with suppress(GatewayError):  # the next request reports it
                resolver.invalidate(settings, s3_error.code)
        action = _record(failure, s3_error, settings, rejected)
    except Exception as error:
        if recorder.record_failure is not None:
            flight_recorder.record(error, _failed_request(logged_attempt, bucket, requested_range))
        return _error_response(error, logged_attempt, bucket)
    if recorder.record_failure is not None:
        failed = _failed_request(logged_attempt, bucket, requested_range)
        flight_recorder.record(failure, failed, [_sent_attempt(logged_attempt, failure)], signed_with)
    return _error_response(failure, logged_attempt, bucket, action)


def _signed_with(
    settings: Settings,
    effective: Settings,
    method: str,
    query: str,
    signed_url: str,
    authorization: str | None,
    signed_at: datetime,
) -> SignedWith | None:
    """Return what was signed, to show it; None if that cannot be said, such as after the credentials have changed.

    ``effective``: the settings with which it was signed. ``signed_url``, ``authorization``: what was sent.
    """
    credentials = resolver.current(settings)
    if credentials is None:
        return None
    origin, path, _ = split_url(signed_url)
    request = object_request.for_object(method, path, query, (), effective)
    signed_with = SignedWith(request, effective.signing, credentials, signed_at)
    signed = sign(*signed_with)
    is_same = (
        signed.header("Authorization") == authorization
        if effective.signing.use_headers
        else f"{origin}{signed.target}" == signed_url
    )
    return signed_with if is_same else None


def _failed_request(attempt: Attempt, bucket: str, requested_range: str | None = None) -> FailedRequest:
    host = attempt.host.lower().removesuffix(":443" if attempt.scheme == "https" else ":80")
    return FailedRequest(flight_recorder.PROXY, host, bucket, attempt.method, attempt.path, requested_range or "")


def _sent_attempt(attempt: Attempt, failure: GatewayError) -> SentAttempt:
    """Return an attempt for the flight recorder. Its time is that of the whole request, as in the log."""
    sent = SentAttempt(attempt.host, 0.0)
    sent.seconds, sent.failure = attempt.seconds, str(failure)
    if (s3_error := failure.s3_error) is not None:
        sent.status, sent.s3_code, sent.request_id = s3_error.status, s3_error.code, s3_error.request_id
    return sent


def _record_possible_skew(s3_error: S3ErrorResponse, settings: Settings, rejected: RejectedSignature) -> bool:
    """Record an error that may be a clock problem; return whether it is taken for one."""
    if s3_error.date is None:
        return False
    if not error_codes.is_possible_clock_skew(s3_error, settings.signing, rejected.signed_at):
        return False
    return clock_corrector.record_denial_outside_validity(settings.bucket_url, s3_error.date, rejected)


def _record(failure: GatewayError, s3_error: S3ErrorResponse, settings: Settings, rejected: RejectedSignature) -> str:
    """Record S3's clock or region for the next requests; return words for what is done, empty for nothing."""
    url, action = settings.bucket_url, rule_for(failure).action
    if isinstance(failure, AccessDenied):
        clock_corrector.record_denial(url, rejected)
    if s3_error.is_signature_time_invalid or (
        action is RetryAction.CORRECT_CLOCK_SKEW and clock_corrector.record_skew(url, s3_error.date, rejected)
    ):
        whose = "this server's" if endpoint_state.clock(url) == SYSTEM_CLOCK else "S3's"
        return f"the next requests are signed with {whose} clock"
    if action is not RetryAction.FOLLOW_REGION or not s3_error.region:
        return ""
    regional = url.in_region(s3_error.region)
    if regional != url and s3_error.status != _WRONG_SIGNING_REGION:
        return f"the URL of ProxyPass and <Proxy> must be {regional.scheme}://{regional.authority}{regional.prefix}"
    used = endpoint_state.effective_settings(settings, keep_host=True)
    is_new = endpoint_state.record_region(settings, used, s3_error.region, keep_host=True)
    return f"the next requests are signed for {s3_error.region}" if is_new else ""


#: The exceptions for failures that C reports, by their kind in ``mod_usp_s3.h``.
_FAILURES: dict[str, type[UpstreamError]] = {
    "invalid response": BadUpstreamResponse,
    "truncated body": BodyTruncated,
    "excess body": BodyNotResumable,
    "no response": ProxiedRequestFailed,
    "failed member": ProxiedRequestFailed,
}
#: Not logged: the next member of the balancer is used, and mod_proxy has logged why.
_NOT_LOGGED = "failed member"


def describe_failure(
    request: tuple[str, str],
    kind: str,
    reason: str,
    attempt: tuple[int, float],
    exchange: tuple[str, str | None, str, int] = ("", None, "", 0),
) -> tuple[str, str | None]:
    """Return the code and the line for a failure that S3 did not explain, None if no line is to be logged.

    ``request``: method and URL. ``kind``: a key of ``_FAILURES``. ``reason``: a message of C. ``exchange``: the bucket,
    the Range header, None without, what mod_proxy or mod_ssl wrote to the error log, and the status that mod_proxy
    returned, 0 if the client got none or another one, for the flight recorder.
    """
    failure, logged_attempt = _FAILURES[kind](reason), _attempt(*request, *attempt)
    if recorder.record_failure is not None:
        bucket, requested_range, cause, status = exchange
        failed = _failed_request(logged_attempt, bucket, requested_range)
        # Without the client's path.
        flight_recorder.record(
            failure,
            failed,
            [_sent_attempt(logged_attempt, failure)],
            cause=cause.partition(" returned by ")[0],
            client_status=status if isinstance(failure, ProxiedRequestFailed) else None,
        )
    line = None if kind == _NOT_LOGGED else error_log.format_failure(failure, logged_attempt)
    return failure.code, None if line is None else error_log.format_line(failure.code, line)


def describe_response(
    request: tuple[str, str], response: tuple[int, bytes, Mapping[str, str]], attempt: tuple[int, float]
) -> str:
    """Return the line for a response of S3 that is not a success, for LogLevel debug; arguments as above."""
    status, body, headers = response
    s3_error = error_response.parse(status, headers, body.decode("utf-8", "replace"))
    text = error_log.with_details(str(s3_error), _attempt(*request, *attempt))
    return error_log.format_line(LogCode.S3_RESPONSE, text)


def _error_response(error: Exception, attempt: Attempt, bucket: str, action: str = "") -> ClientResponse:
    """Return the response for an exception; ``action``: what is done about it."""
    if not isinstance(error, GatewayError):
        line = error_log.format_line(LogCode.INTERNAL_ERROR, f"{describe_internal_error(error)} ({attempt})")
        return ClientResponse(500, line, (), endpoint_state.version, LogCode.INTERNAL_ERROR, bucket)
    text = error_log.format_failure(error, attempt, action)
    log_line = None if text is None else error_log.format_line(error.code, text)
    s3_code, request_id = (error.s3_error.code, error.s3_error.request_id) if error.s3_error else ("", "")
    return ClientResponse(
        error.status, log_line, error.headers, endpoint_state.version, error.code, bucket, s3_code, request_id
    )


def _attempt(method: str, url: str, number: int = 0, seconds: float = 0.0) -> Attempt:
    """Return an attempt for the log: without the query, which may hold a signature."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return Attempt(method, scheme, host, slash + path, number, seconds)
