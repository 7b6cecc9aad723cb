"""Signing inside ``<Proxy>`` sections: mod_proxy carries the bytes, httpd calls this before it sends (``_httpd.c``).

The settings, credentials and signer are the gateway's. Bucket and key come from the URL that mod_proxy is about to
ask; what the client and the operator hear of a failure is what the gateway tells them.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from usp_s3_wsgi import errors
from usp_s3_wsgi.config import bucket_url, settings
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.errors import AccessDenied, GatewayError, ProxyFailed, RangeNotSatisfiable, SettingError
from usp_s3_wsgi.gateway import client_response
from usp_s3_wsgi.observability import error_log
from usp_s3_wsgi.proxy.clock_correction import ClockTrials, Signature
from usp_s3_wsgi.s3 import byte_range, error_response, object_request
from usp_s3_wsgi.s3.endpoint_state import OWN, learned
from usp_s3_wsgi.s3.error_response import S3Error
from usp_s3_wsgi.s3.retry_policy import Remedy, rule_for
from usp_s3_wsgi.signing.signer import sign, signing_template
from usp_s3_wsgi.signing.types import Credentials, S3Request

Pairs = tuple[tuple[str, str], ...]

#: Settings of the gateway's own connections, and what mod_proxy and mod_ssl have in their place.
GATEWAY_ONLY = {
    "S3ProxySet": "ProxySet",
    "S3CAFile": "SSLProxyCACertificateFile and SSLProxyVerify require",
    "S3Retries": "nothing, for mod_proxy does not retry",
}
#: S3 names the region that the signature is to be for, at the host that was asked; with another status, another host's.
_REGION_OF_SIGNATURE = 400
#: What S3 learns of the client's headers, by method.
FORWARDED: dict[str, tuple[str, ...]] = {
    "GET": tuple(object_request.FORWARDED_HEADERS.values()),
    "HEAD": tuple(object_request.FORWARDED_BY_HEAD.values()),
}
#: What the client learns of S3's headers, by status; an answer with any other status is a refusal.
PASSED_ON: dict[int, tuple[str, ...]] = {
    status: (*names, "Content-Length") if status in {200, 206} else names
    for status, names in client_response.PASSED_ON.items()
}


class Alike(NamedTuple):
    """How ``_httpd_alike.c`` signs other paths of the section in the same second, without asking again.

    ``second``: this one, by this server's clock, in unix time (what is signed holds S3's). ``passes_query``: only
    without a query. ``origin``: what the URL begins with, to the path, which begins with ``prefix``. ``canonical``: the
    canonical request from its query on; ``to_sign``: the string to sign up to the hash. ``authorization``: that header
    up to the signature; or None, and then ``query`` is the URL's up to it.
    """

    second: int
    passes_query: bool
    origin: str
    prefix: str
    canonical: str
    to_sign: str
    key: bytes
    authorization: str | None
    query: str | None

    def __repr__(self) -> str:
        return f"Alike({self.second}, {self.origin}{self.prefix})"  # the rest holds a key


class Signed(NamedTuple):
    """What mod_proxy sends: URL with the signature that is in the query, Host, the signature's headers.

    ``server_name``: the host's name alone, for TLS. ``pass_headers``: lowercase prefixes of further answer headers that
    the client may see. ``signed_at``: the time that was signed, in unix time. ``version``: of what was learned, by
    which it was signed. ``alike``: None where each request is to be signed by Python.
    """

    url: str
    host: str
    server_name: str
    headers: Pairs
    pass_headers: tuple[str, ...]
    pass_accept_encoding: bool
    is_by_number: bool
    signed_at: int
    version: int
    alike: Alike | None

    def __repr__(self) -> str:
        return f"Signed({self.url.partition('?')[0]})"  # the rest holds a signature


class Refused(NamedTuple):
    """What the client gets instead: status and headers; ``message`` is the error log's line, None for none.

    ``version``: of what was learned, perhaps from this very refusal.
    """

    status: int
    message: str | None
    headers: Pairs
    version: int = 0


def sign_proxied(
    section: str | None,
    pairs: Pairs,
    method: str,
    url: str,
    client_uri: str | None,
    undecoded_slash: bool,
    merged_after: str | None,
    refusal: str | None = None,
) -> Signed | Refused:
    """Sign what mod_proxy is about to send; nothing is raised.

    ``section``: the URL that names the bucket, of the ``<Proxy>`` section or the ProxyPass; None where a pattern
    matched. ``pairs``: the settings of the request's sections. ``refusal``: why it cannot be signed whatever they are,
    None for nothing.
    ``url``: what mod_proxy would ask, percent-encoded once, with the client's query. ``client_uri``: the client's
    request target, None in a subrequest. ``undecoded_slash``: httpd left a ``%2F`` in the path that it checked.
    ``merged_after``: where httpd makes ``/`` of ``//`` in the client's path (MergeSlashes), the path of the ProxyPass
    that made the URL, empty for another rule; else None.
    """
    try:
        if refusal is not None:
            raise SettingError(refusal)
        target, query = _split(url)
        section_settings = _settings(section, pairs, target)
        version, second = learned.version, int(time.time())
        chosen = learned.whereabouts(section_settings, same_host=True)
        unsigned = object_request.from_proxy(
            method, target.path, query, client_uri, undecoded_slash, merged_after, chosen
        )
        keys, now = resolver.resolve(section_settings), learned.now(chosen.bucket_url)
        signed = sign(unsigned, chosen.signing, keys, now)
        alike = _alike(unsigned, chosen, keys, now, second)
    except Exception as error:
        return _refused(error, method, url)
    return Signed(
        f"{signed.scheme}://{signed.host}{signed.target}",
        signed.host,
        chosen.bucket_url.host,
        signed.headers,
        chosen.pass_headers,
        chosen.pass_accept_encoding,
        unsigned.is_for_part_number,
        int(now.timestamp()),
        version,
        alike,
    )


def _alike(unsigned: S3Request, chosen: Settings, keys: Credentials, now: datetime, second: int) -> Alike | None:
    template = signing_template(unsigned, chosen.signing, keys, now)
    if template is None or unsigned.query:
        return None
    query = "&".join([f"{name}={value}" for name, value in template.added]) + "&X-Amz-Signature="
    return Alike(
        second,
        bool(chosen.pass_query),
        f"{unsigned.scheme}://{unsigned.host}",
        chosen.bucket_url.prefix,
        f"{template.canonical_query}\n{template.canonical_request_tail}",
        template.string_to_sign_prefix,
        template.signing_key,
        template.authorization_prefix or None,
        None if template.authorization_prefix else query,
    )


class Judgement(NamedTuple):
    """What S3's answer to a range means: the status; or that all must be asked for; or why it is refused (None: not).

    ``length``: how many bytes the body must have, -1 where that is not known. ``headers``: the client's, of an error.
    """

    status: int
    must_ask_for_all: bool = False
    refusal: str | None = None
    length: int = -1
    headers: Pairs = ()


def judge_part(
    status: int, headers: Mapping[str, str], asked: str | None, if_range: str | None, by_number: bool
) -> Judgement:
    """Judge S3's answer to a request for a part. Arguments as in :func:`framing.status_of`; nothing is raised."""
    status = byte_range.status_of(status, headers, asked, by_number)
    if byte_range.must_ask_for_all(status, headers, asked, if_range):
        return Judgement(status, must_ask_for_all=True)
    if status not in {200, 206}:
        return Judgement(status)
    stated = headers.get("content-length")
    try:
        part = byte_range.validate_part(status, headers, int(stated) if stated else None, asked, by_number)
    except RangeNotSatisfiable as error:
        return Judgement(error.status, headers=error.headers)
    except GatewayError as error:
        return Judgement(status, refusal=str(error))
    return Judgement(status, length=-1 if part is None or part.last is None else part.last - part.first + 1)


def explain_refusal(
    section: str | None,
    pairs: Pairs,
    method: str,
    url: str,
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    attempt: int,
    seconds: float,
    signed_at: int = 0,
    version: int = 0,
    granted: int = -1,
) -> Refused:
    """Say what S3's refusal means to the client and to the operator, and learn from it; nothing is raised.

    ``status``, ``body`` (its beginning) and ``headers`` are S3's. ``attempt``: how many members of a balancer have been
    asked, this one included. ``seconds``: since the client asked. ``signed_at``, ``version``: those of :class:`Signed`.
    ``granted``: the version by which the last request was signed that this host granted, -1 for none. The others as in
    :func:`sign_proxied`.
    """
    try:
        told = error_response.parse(status, headers, body.decode("utf-8", "replace"))
        target, query = _split(url)
        chosen = _settings(section, pairs, target)
        refused = Signature(datetime.fromtimestamp(signed_at, UTC), version, granted)
        if _is_clock(told, chosen, refused):
            told = replace(told, out_of_time=True)
        has_query = bool(object_request.passed_query(query, chosen.pass_query))
        failure = error_response.refusal(told, chosen, object_request.is_unusual(target.path, has_query, chosen))
        failure.tried = _tried(attempt, seconds)
        if told.code in error_response.KEY_CODES and not told.out_of_time:
            with suppress(GatewayError):  # the next request will tell
                resolver.invalidate(chosen, told.code)
        return _refused(failure, method, url, _learn(failure, told, chosen, refused))
    except Exception as error:
        return _refused(error, method, url)


def _is_clock(told: S3Error, chosen: Settings, refused: Signature) -> bool:
    """Whether a refusal without a reason is taken for the clock's."""
    if told.date is None or not error_response.is_maybe_clock(told, chosen, refused.at):
        return False
    return clock_trials.denied_out_of_time(chosen.bucket_url, told.date, refused)


def _learn(failure: GatewayError, told: S3Error, chosen: Settings, refused: Signature) -> str:
    """Learn what the next requests are signed by, and return the words for that; empty for nothing."""
    url, remedy = chosen.bucket_url, rule_for(failure).remedy
    if isinstance(failure, AccessDenied):
        clock_trials.denied(url, refused)
    if told.out_of_time or (remedy is Remedy.CLOCK and clock_trials.clock_refused(url, told.date, refused)):
        whose = "this server's" if learned.clock(url) == OWN else "S3's"
        return f"the next requests are signed with {whose} clock"
    if remedy is not Remedy.REGION or not told.region:
        return ""
    there = url.in_region(told.region)
    if there != url and told.status != _REGION_OF_SIGNATURE:
        return f"the URL of ProxyPass and <Proxy> must be {there.scheme}://{there.authority}{there.prefix}"
    asked = learned.whereabouts(chosen, same_host=True)
    is_new = learned.take_region(chosen, asked, told.region, same_host=True)
    return f"the next requests are signed for {told.region}" if is_new else ""


def report_failure(method: str, url: str, what: str, attempt: int, seconds: float) -> str | None:
    """Return the error log's line of a failure that S3 did not explain, None for none; else as explain_refusal."""
    failure = ProxyFailed(what)
    failure.place, failure.tried = _place(method, url), _tried(attempt, seconds)
    return error_log.line(failure)


def describe_answer(
    method: str, url: str, status: int, body: bytes, headers: Mapping[str, str], attempt: int, seconds: float
) -> str:
    """Return the error log's line of an answer of S3's that is no success, for LogLevel debug; as explain_refusal."""
    answer = error_response.parse(status, headers, body.decode("utf-8", "replace"))
    return error_log.printable(error_log.with_details(answer.words, _place(method, url), _tried(attempt, seconds)))


def allow_access(environ: Mapping[str, Any], host: str | None) -> bool | None:
    """Deny what would go out unsigned, for ``WSGIAccessScript``: True allows, None leaves it to others.

    A section needs this only where httpd could be started without usp_s3_module.
    """
    if _missing is None:
        return None
    environ["wsgi.errors"].write(f"usp_s3_wsgi: {_missing}\n")
    return False


def install() -> None:
    """Make this process's mod_proxy sign; if it cannot, say why in the error log, once."""
    global _missing
    try:
        from usp_s3_wsgi import _httpd

        functions = sign_proxied, explain_refusal, report_failure, describe_answer, judge_part
        _httpd.register(*functions, FORWARDED, PASSED_ON)
    except (ImportError, RuntimeError) as error:
        _missing = f"<Proxy> sections cannot be signed in this process: {error}"
        print(f"usp_s3_wsgi: {_missing}", file=sys.stderr)
    else:
        _missing = None


clock_trials = ClockTrials(learned)
_missing: str | None = "<Proxy> sections cannot be signed in this process: install() was not called"


def _refused(error: Exception, method: str, url: str, then: str = "") -> Refused:
    """Return what becomes of an error: the operator needs to know of which object; its path has no signature.

    ``then``: what is done about it.
    """
    place = _place(method, url)
    if isinstance(error, GatewayError):
        error.place = place
        return Refused(error.status, error_log.line(error, then), error.headers, learned.version)
    return Refused(500, f"{errors.internal(error)} ({place})", (), learned.version)


def _place(method: str, url: str) -> str:
    return f"{method} {url.partition('?')[0]}"


def _tried(attempt: int, seconds: float) -> str:
    return f"attempt {attempt}, {seconds:.3f} s"


_URL = re.compile(r"(https?://[^/?]*)([^?]*)(?:\?(.*))?", re.DOTALL)


class _Target(NamedTuple):
    """Where mod_proxy would connect to, with an empty prefix; ``path`` is percent-encoded, without query."""

    origin: BucketURL
    path: str


def _split(url: str) -> tuple[_Target, str]:
    match = _URL.fullmatch(url)
    if match is None:
        raise SettingError("only http:// and https:// URLs can be signed")
    origin, path, query = match.groups()
    return _Target(_origin(origin), path or "/"), query or ""


@lru_cache(maxsize=16_384)
def _origin(text: str) -> BucketURL:
    try:
        return bucket_url.parse(text)
    except ValueError as error:
        raise SettingError(f"the URL of the proxied request {error}") from None


def _settings(section: str | None, pairs: Pairs, target: _Target) -> Settings:
    """Return the settings of a section whose bucket is where mod_proxy would connect to. Raises: SettingError."""
    origin = target.origin
    chosen = parse_settings(pairs, section or f"{origin.scheme}://{origin.authority}/")
    bucket = chosen.bucket_url
    if section is None and not bucket.bucket and not any(name == "S3BucketURL" and value for name, value in pairs):
        # A pattern may match hosts that nobody thought of.
        raise SettingError("the section is a pattern and the URL shows no bucket: set S3BucketURL")
    if (bucket.scheme, bucket.host, bucket.port) != (origin.scheme, origin.host, origin.port):
        raise SettingError("the URL of the proxied request is not that of the section's bucket")
    return chosen


@lru_cache(maxsize=16_384)
def parse_settings(pairs: Pairs, url: str) -> Settings:
    """Return the settings of a request that mod_proxy sends; ``url`` names the bucket unless S3BucketURL does.

    Raises:
        SettingError: as in :func:`settings.parse`, and for a setting of the gateway alone.
    """
    given = {name for name, value in pairs if value}
    for name in sorted(given):
        instead = (
            "a balancer with a member for each bucket" if name.startswith("S3Fallback") else GATEWAY_ONLY.get(name)
        )
        if instead:
            raise SettingError(f"{name} is for the gateway: in a <Proxy> section there is {instead}")
    return settings.parse(pairs if "S3BucketURL" in given else (*pairs, ("S3BucketURL", url)))
