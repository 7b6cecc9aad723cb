"""Checks what S3 answers to signed requests: whether it accepts the signature, the clock, and the keys' permission."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from usp_s3_wsgi.cli.check import certificate, rejections
from usp_s3_wsgi.cli.check.rejected_signature.setting_names import SettingNames
from usp_s3_wsgi.cli.check.result import Result, Verdict, fine, look, not_tested, wrong
from usp_s3_wsgi.cli.check.s3_requests import FIRST_BYTE, Answer, BucketRequests
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import GatewayError, S3ErrorResponse
from usp_s3_wsgi.s3 import error_codes, error_response
from usp_s3_wsgi.signing.signer import validity_interval
from usp_s3_wsgi.status.explanations import Explanations

#: Seconds that clocks may differ before it is said: a Date has whole seconds, and the answer took a while.
_NOTABLE_SKEW = 30.0
#: The longest pause, in seconds, before a request that S3 throttled is sent again.
_MAX_PAUSE = 2.0
#: The object is denied, or S3 does not say more: the signature itself was accepted.
_DENIED_CODES = frozenset({"AccessDenied", "AllAccessDisabled", "InvalidObjectState", "AccountProblem", "Forbidden"})


#: Codes with which servers reject keys, whatever is wrong with them.
_ABOUT_KEYS = error_codes.CREDENTIAL_CODES | {"AccessDenied", ""}


class Key(NamedTuple):
    """The key that is requested.

    ``path``: of S3's URL, percent-encoded. ``is_random``: no object has it, because the operator has named none.
    ``own_target``: of this server's URL, None if it is not known. ``may_be_missing``: it is another bucket's, or the
    fallback bucket may have it.
    """

    path: str
    is_random: bool
    own_target: str | None
    may_be_missing: bool = False


class Outcome:
    """What later checks need to know. ``answer``: to the first request, None if there is none."""

    answer: Answer | None = None
    is_accepted = False


def check(
    requests: BucketRequests, names: SettingNames, key: Key, explanations: Explanations, outcome: Outcome
) -> Iterator[Result]:
    """Yield the results of "signed request", "clock", "HEAD" and "kept connection"; sets ``outcome``.

    The first request is a GET of one byte: the answer to a HEAD has no error code.
    """
    try:
        answer = _send_unless_throttled(requests, key)
    except GatewayError as error:
        url, timeout = requests.settings.bucket_url, requests.settings.proxy_set.connectiontimeout
        if url.scheme == "http" and certificate.speaks_tls(url, timeout):
            yield _tls_expected(url)
            return
        explained = explanations.of(str(error.code), "")
        yield wrong("signed request", f"{error}{f'; {error.hint}' if error.hint else ''}", explained.what_to_do)
        return
    outcome.answer = answer
    result, outcome.is_accepted = _judge(requests.settings, answer, key, explanations)
    if answer.error is not None and rejections.is_rejection(answer.error):
        result, outcome.is_accepted = _diagnosed(requests, names, answer.error, key, result)
    if outcome.is_accepted and result.verdict is Verdict.FINE:
        result = _with_control(requests, key, answer, result)
    if result.verdict is not Verdict.FINE and answer.error and answer.error.request_id:
        result = replace(result, details=(f"request id {answer.error.request_id}", *result.details))
    yield result
    yield _clock(requests.settings, answer)
    if outcome.is_accepted:
        yield from _check_head(requests, key, answer)


def _send_unless_throttled(requests: BucketRequests, key: Key) -> Answer:
    request = requests.object_request("GET", key.path, FIRST_BYTE)
    answer = requests.send(request)
    if answer.error is not None and error_codes.is_transient(answer.error):
        time.sleep(min(_MAX_PAUSE, answer.error.retry_after or 0.5))
        answer = requests.send(request)
    return answer


def _with_control(requests: BucketRequests, key: Key, answer: Answer, accepted: Result) -> Result:
    """Return the result of an accepted request, unless a wrong signature gets the same answer."""
    request = requests.object_request("GET", key.path, FIRST_BYTE)
    if not rejections.accepts_wrong_signature(requests, request, answer):
        return accepted
    text = "accepted, but a wrong signature gets the same answer: this server checks none, or the object is public"
    return look(accepted.check, text, "nothing is proven of the keys; a private bucket should reject wrong signatures")


def _diagnosed(
    requests: BucketRequests, names: SettingNames, error: S3ErrorResponse, key: Key, judged: Result
) -> tuple[Result, bool]:
    """Return the result of a request that S3 rejects, and whether S3 has accepted the signature.

    ``judged``: the result without further requests.
    """
    request = requests.object_request("GET", key.path, FIRST_BYTE)
    found = rejections.explain(requests, request, names)
    if found.is_signature_accepted:
        return judged, True
    differs = any(line.is_first_difference for line in found.comparison)
    comparison = found.comparison if differs or not found.is_found else ()
    tried = () if found.is_found else tuple(f"tried {words}" for words in found.tried)
    if not found.is_found and error.code not in _ABOUT_KEYS:
        return replace(judged, details=tried), False
    text = f"{_said(error)}: {found.cause}"
    return replace(wrong(judged.check, text, found.what_to_change, tried), comparison=comparison), False


def _judge(settings: Settings, answer: Answer, key: Key, explanations: Explanations) -> tuple[Result, bool]:
    """Return the result of the first request, and whether S3 has accepted the signature."""
    name, url = "signed request", settings.bucket_url
    error = answer.error
    if error is None:
        if answer.status == 200:
            text = "accepted, but the server ignores Range: each part of an object is the whole object"
            return look(name, text, "parts of large objects are slow, and need a server that supports Range"), True
        return fine(name, "accepted"), True
    said = _said(error)
    if error.is_http_on_tls_port:
        return _tls_expected(url), False
    if error.is_not_s3_document and error.status not in {404} and not error_codes.is_transient(error):
        text = f"{said}, with a page that is not S3's"
        return wrong(name, text, "a proxy or firewall between may have sent it, or this is no S3 server"), False
    if error.code == "NoSuchBucket":
        text = f"there is no bucket {url.bucket} at {url.authority}"
        return wrong(
            name, text, "correct the bucket's name in the URL, or the host: other regions have other hosts"
        ), False
    if error.status in {404, 410}:
        return _judge_missing(settings, error, key)
    if error.status in {301, 307} or (error.region and error.region != settings.region):
        region = f"the bucket is in region {error.region}" if error.region else "the bucket is at another endpoint"
        action = f"set S3Region {error.region}, and that region's host in the URL" if error.region else "see its region"
        return wrong(name, f"{said}: {region}", action), False
    if error_codes.is_transient(error) and error.is_not_s3_document:
        text = f"{said}, twice, with a page that is not S3's"
        return wrong(name, text, "a proxy between has sent it: does S3 run behind it?"), False
    if error_codes.is_transient(error):
        explained = explanations.of("USPS30405", error.code)
        reason = "S3 throttles these requests" if error.status in {429, 503} else "S3 fails"
        return wrong(name, f"{said}, twice: {reason}", explained.what_to_do), False
    if error.status == 403 and error.code in _DENIED_CODES and not _is_skewed(settings, answer):
        return _judge_denied(name, error, key, explanations)
    explained = explanations.of("USPS30305", error.code)
    return wrong(name, f"{said}: {explained.title or 'not accepted'}", explained.what_to_do), False


def _said(error: S3ErrorResponse) -> str:
    return f"S3 answered {error.status} {error.code or '(no code)'}"


def _tls_expected(url: BucketURL) -> Result:
    return wrong("signed request", f"port {url.port} speaks TLS", "write https:// in the bucket's URL")


def _judge_missing(settings: Settings, error: S3ErrorResponse, key: Key) -> tuple[Result, bool]:
    name, url = "signed request", f"{settings.bucket_url.scheme}://{settings.bucket_url.authority}{key.path}"
    if error.is_not_s3_document:
        text = f"S3 answered {error.status}, with a page that is not S3's"
        return wrong(name, text, "is this an S3 server, and is the URL that of the bucket?"), False
    if not error.code and not error.request_id:
        text = f"S3 answered {error.status} without a code or a request id: that proves nothing"
        return look(name, text, "is this an S3 server? Name an existing object with --key"), True
    if key.is_random:
        return fine(name, "accepted (404 for a key that no object has; --key names one)"), True
    text = f"the signature is accepted, but there is no object {url}"
    if key.may_be_missing:
        return look(
            name, text, "if this bucket should have it, correct the key, or the prefix in the bucket's URL"
        ), True
    return wrong(name, text, "correct the key, which is case-sensitive, or the prefix in the bucket's URL"), True


def _judge_denied(name: str, error: S3ErrorResponse, key: Key, explanations: Explanations) -> tuple[Result, bool]:
    if key.is_random:
        text = f"accepted, but S3 denies a key that no object has ({error.code})"
        action = (
            "name an existing object with --key: without s3:ListBucket S3 denies all others; if it is denied, too, "
            "grant s3:GetObject"
        )
        return look(name, text, action), True
    explained = explanations.of("USPS30303", error.code)
    text = f"accepted, but these keys may not read the object, or it does not exist ({error.code})"
    return wrong(name, text, explained.what_to_do), True


def how_signed(settings: Settings) -> str:
    """Return the version, place and region of the signature, in words."""
    place = "in headers" if settings.use_headers else "in the query"
    return f"Signature v4 {place}, region {settings.region}" if settings.region else f"Signature v2 {place}"


# --- the clock


def _skew(answer: Answer) -> float | None:
    """Return the seconds that S3's clock is ahead of this server's; None if S3 does not say its time."""
    date = error_response.server_time(answer.headers)
    return None if date is None else (date - datetime.now(UTC)).total_seconds()


def _is_skewed(settings: Settings, answer: Answer) -> bool:
    """Whether the signature was not valid by S3's clock."""
    date = error_response.server_time(answer.headers)
    if date is None:
        return False
    begin, end = validity_interval(settings.signing, answer.signed_at)
    return not begin <= date < end


def _clock(settings: Settings, answer: Answer) -> Result:
    skew = _skew(answer)
    if skew is None:
        return not_tested("clock", "S3's answer has no date")
    if abs(skew) < _NOTABLE_SKEW:
        return fine("clock", "the same as S3's")
    text = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} S3's"
    action = "correct this server's clock: timedatectl, chrony"
    if _is_skewed(settings, answer) or (answer.error and answer.error.code in error_codes.CLOCK_SKEW_CODES):
        return wrong("clock", f"{text}: signatures are not valid", action)
    return look("clock", f"{text}: signatures are still valid", action)


# --- what else a client may request


def _check_head(requests: BucketRequests, key: Key, first: Answer) -> Iterator[Result]:
    try:
        answer = requests.send(requests.object_request("HEAD", key.path))
    except GatewayError as error:
        yield wrong("HEAD", str(error), "a proxy between, or the server, does not support HEAD")
        return
    has_object = first.is_success
    if has_object != answer.is_success and not (first.status == 416 or answer.status == first.status):
        text = f"S3 answered {answer.status} to HEAD, and {first.status} to GET"
        yield wrong("HEAD", text, "the signature contains the method: a proxy between may change it")
    else:
        yield fine("HEAD", f"S3 answered {answer.status}")
    if not requests.settings.proxy_set.enablereuse:
        yield not_tested("kept connection", "enablereuse=off in S3ProxySet: each request makes a new connection")
    elif answer.connected_at == first.connected_at:
        yield fine("kept connection", "both requests used one connection")
    else:
        yield look(
            "kept connection", "S3 closes the connection after a response: each request needs a new one",
            "enable keep-alive on the server, or the proxy before it",
        )  # fmt: skip
