"""AWS Signature Version 4 for Amazon S3: one pure function for each step of the specification.

The steps: canonical request, string to sign, signing key, signature. ``sign_headers`` and ``sign_query`` put the
result into a request. S3 differs from other services in two ways that matter here: its paths are percent-encoded
once, not twice, and they are never normalised.
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import Credentials, Pairs, S3Request

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "s3"
#: SHA-256 of no bytes at all, lowercase hex: the payload hash of GET and HEAD.
EMPTY_PAYLOAD_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

#: Headers that the signer sets: S3 rejects a request that has one of them twice, or two signatures.
_SIGNER_HEADERS = frozenset({"authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})


def canonical_query_string(query: Iterable[tuple[str, str]]) -> str:
    """Return the canonical query string: sorted by name, then value, joined with ``=`` and ``&``.

    ``query``: names and values, each percent-encoded once (slash too). A parameter without value gets ``name=``.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    return "&".join([f"{name}={value}" for name, value in sorted(query)])


def canonical_headers(headers: Iterable[tuple[str, str]]) -> str:
    r"""Return the canonical headers: a line ``name:value\n`` each, names lowercase and sorted.

    Values are trimmed and their inner whitespace folded to one space; values of one name are joined with ``,`` in
    the order given.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    values: dict[str, str] = {}
    for name, value in headers:
        name, value = name.lower(), " ".join(value.split())
        values[name] = f"{values[name]},{value}" if name in values else value
    return "".join([f"{name}:{values[name]}\n" for name in sorted(values)])


def signed_headers(headers: Iterable[tuple[str, str]]) -> str:
    """Return the names of the headers, lowercase, sorted, each once, joined with ``;``.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    return ";".join(sorted({name.lower() for name, _ in headers}))


def canonical_request(method: str, path: str, query: str, headers: str, signed_names: str, payload_hash: str) -> str:
    """Return the canonical request.

    ``path`` is percent-encoded once, as it is sent. ``query``, ``headers`` and ``signed_names`` are the results of
    :func:`canonical_query_string`, :func:`canonical_headers` and :func:`signed_headers`. ``payload_hash`` is the
    body's SHA-256 in lowercase hex, or ``UNSIGNED-PAYLOAD``.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    return f"{method}\n{path}\n{query}\n{headers}\n{signed_names}\n{payload_hash}"


@lru_cache(maxsize=16)  # a busy server signs many requests in a second
def timestamp(second: int) -> str:
    """Return a unix time in ISO 8601's basic format, ``20130524T000000Z``; its first eight characters are the date."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%SZ")


def credential_scope(date: str, region: str, service: str = SERVICE) -> str:
    """Return the credential scope, ``date/region/service/aws4_request``; ``date`` is ``YYYYMMDD`` in UTC.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    return f"{date}/{region}/{service}/aws4_request"


def string_to_sign(time: str, scope: str, canonical: str) -> str:
    """Return the string to sign of a canonical request; ``time`` is that of :func:`timestamp`.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    # "surrogateescape", because the exception of a plain encode would hold the token.
    digest = sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{time}\n{scope}\n{digest}"


# A key is valid for a whole day, and deriving it costs as much as the rest of a signature. Bounded: a server that signs
# for more buckets or more short-lived credentials than this derives some keys again.
@lru_cache(maxsize=16_384)
def signing_key(secret_key: str, date: str, region: str, service: str = SERVICE) -> bytes:
    """Derive the signing key (32 bytes) of a secret key for one date (``YYYYMMDD`` in UTC), region and service.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    # "surrogateescape", because the exception of a plain encode would hold the secret.
    key = b"AWS4" + secret_key.encode("utf-8", "surrogateescape")
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature(key: bytes, text: str) -> str:
    """Return the signature of a string to sign (``text``): HMAC-SHA256 with the signing key, 64 lowercase hex digits.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    mac = _keyed_hmac(key).copy()
    mac.update(text.encode())
    return mac.hexdigest()


# A copy takes half the time of a new one.
@lru_cache(maxsize=16_384)
def _keyed_hmac(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod="sha256")


def authorization(access_key: str, scope: str, signed_names: str, signature_hex: str) -> str:
    """Return the value of the Authorization header.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
    """
    return f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={signed_names}, Signature={signature_hex}"


def query_parameters(
    access_key: str, token: str | None, scope: str, time: str, expires: int, signed_names: str
) -> list[tuple[str, str]]:
    """Return the query parameters of a signature, percent-encoded once, except ``X-Amz-Signature`` itself.

    ``expires`` is in seconds from ``time``, 1 to 604800; ``signed_names`` is the result of :func:`signed_headers`.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    parameters = [
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", _encode_component(f"{access_key}/{scope}")),
        ("X-Amz-Date", time),
        ("X-Amz-Expires", str(expires)),
        ("X-Amz-SignedHeaders", _encode_component(signed_names)),
    ]
    if token:
        parameters.append(("X-Amz-Security-Token", _encode_component(token)))
    return parameters


def signature_headers(token: str | None, time: str, payload_hash: str) -> list[tuple[str, str]]:
    """Return the headers of a signature, except ``Authorization`` itself; all of them are signed.

    ``payload_hash`` is that of :func:`canonical_request`.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    headers = [("x-amz-content-sha256", payload_hash), ("x-amz-date", time)]
    if token:
        headers.append(("x-amz-security-token", token))
    return headers


class SigningTemplate(NamedTuple):
    """What is the same in all signatures of one second with the same host, credentials and signed headers.

    Only method, path and query differ between them, so most of a signature's work is done once. A template of a day has
    :data:`_TIME_PLACEHOLDER` in the place of the time.

    The first six fields are arguments of the steps. ``added``: the headers, or the query parameters, that the signer
    adds, without the signature. ``canonical_query``: the canonical query string of those parameters, empty for a
    signature in headers.
    """

    time: str
    scope: str
    signing_key: bytes
    canonical_headers: str
    signed_names: str
    payload_hash: str
    added: Pairs
    canonical_query: str

    def __repr__(self) -> str:
        return "SigningTemplate()"  # it holds the signing key


#: The signed headers for which templates are cached. Others, and the hash of a body, belong to a single request.
_CACHED_SIGNED_HEADERS: frozenset[Pairs] = frozenset({(), (("x-amz-request-payer", "requester"),)})
#: Stands for the time in a template of a day: no header's value holds it.
_TIME_PLACEHOLDER = "\0"


# Cached by day as well as by second: a server of thousands of buckets signs for most of them at most once a second, and
# seldom uses a template of a second again.
@lru_cache(maxsize=16_384)
def _daily_header_template(
    host: str,
    signed: Pairs,
    access_key: str,
    secret_key: str,
    token: str | None,
    region: str,
    payload_hash: str,
    day: str,
) -> SigningTemplate:
    added = signature_headers(token, _TIME_PLACEHOLDER, payload_hash)
    headers = [("host", host), *signed, *added]
    return SigningTemplate(
        _TIME_PLACEHOLDER,
        credential_scope(day, region),
        signing_key(secret_key, day, region),
        canonical_headers(headers),
        signed_headers(headers),
        payload_hash,
        tuple(added),
        "",
    )


@lru_cache(maxsize=16_384)
def _daily_query_template(
    host: str, signed: Pairs, access_key: str, secret_key: str, token: str | None, region: str, expires: int, day: str
) -> SigningTemplate:
    headers = [("host", host), *signed]
    signed_names, scope = signed_headers(headers), credential_scope(day, region)
    added = query_parameters(access_key, token, scope, _TIME_PLACEHOLDER, expires, signed_names)
    return SigningTemplate(
        _TIME_PLACEHOLDER,
        scope,
        signing_key(secret_key, day, region),
        canonical_headers(headers),
        signed_names,
        UNSIGNED_PAYLOAD,
        tuple(added),
        canonical_query_string(added),
    )


# Small: the templates of past seconds stay in it until new ones take their place.
@lru_cache(maxsize=256)
def _template_at(second: int, daily_template: Callable[..., SigningTemplate], *arguments: Any) -> SigningTemplate:
    time = timestamp(second)
    _, scope, key, headers, signed_names, payload_hash, added, canonical_query = daily_template(*arguments, time[:8])
    return SigningTemplate(
        time,
        scope,
        key,
        headers.replace(_TIME_PLACEHOLDER, time),
        signed_names,
        payload_hash,
        tuple([(name, value.replace(_TIME_PLACEHOLDER, time)) for name, value in added]),
        canonical_query.replace(_TIME_PLACEHOLDER, time),
    )


def header_template(
    request: S3Request, credentials: Credentials, region: str, now: datetime, payload_hash: str = EMPTY_PAYLOAD_HASH
) -> tuple[Pairs, SigningTemplate]:
    """Return the headers, except an earlier signature's, and the template of :func:`sign_headers` (same arguments)."""
    own, signed = _headers_to_send_and_sign(request.headers) if request.headers else ((), ())
    is_cached = payload_hash == EMPTY_PAYLOAD_HASH and signed in _CACHED_SIGNED_HEADERS
    daily, at = (
        (_daily_header_template, _template_at)
        if is_cached
        else (_daily_header_template.__wrapped__, _template_at.__wrapped__)
    )
    access_key, secret_key, token = credentials.access_key, credentials.secret_key, credentials.security_token
    return own, at(
        int(now.timestamp()), daily, request.host, signed, access_key, secret_key, token, region, payload_hash
    )


def query_template(
    request: S3Request, credentials: Credentials, region: str, now: datetime, expires: int
) -> tuple[Pairs, SigningTemplate]:
    """Return the headers, except an earlier signature's, and the template of :func:`sign_query` (same arguments)."""
    own, signed = _headers_to_send_and_sign(request.headers) if request.headers else ((), ())
    daily, at = (
        (_daily_query_template, _template_at)
        if signed in _CACHED_SIGNED_HEADERS
        else (_daily_query_template.__wrapped__, _template_at.__wrapped__)
    )
    access_key, secret_key, token = credentials.access_key, credentials.secret_key, credentials.security_token
    return own, at(int(now.timestamp()), daily, request.host, signed, access_key, secret_key, token, region, expires)


def canonical_request_of(request: S3Request, template: SigningTemplate) -> str:
    """Return the canonical request of a request that is signed with this template, in headers or in the query."""
    if not request.query:
        query = template.canonical_query
    elif template.canonical_query:
        query = canonical_query_string((*request.query, *template.added))
    else:
        query = canonical_query_string(request.query)
    headers, names = template.canonical_headers, template.signed_names
    return canonical_request(request.method, request.path, query, headers, names, template.payload_hash)


def sign_headers(
    request: S3Request,
    credentials: Credentials,
    region: str,
    now: datetime,
    payload_hash: str = EMPTY_PAYLOAD_HASH,
) -> S3Request:
    """Return the request with the headers x-amz-content-sha256, x-amz-date, the token's if any, and last Authorization.

    ``now`` is in UTC. ``payload_hash`` is the body's SHA-256 in lowercase hex, or ``UNSIGNED-PAYLOAD``.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
    """
    method, scheme, host, path, query, _, accept_encoding = request
    own, template = header_template(request, credentials, region, now, payload_hash)
    time, scope, key, _, signed_names, _, added, _ = template
    signature_hex = signature(key, string_to_sign(time, scope, canonical_request_of(request, template)))
    value = authorization(credentials.access_key, scope, signed_names, signature_hex)
    # Not _replace, which takes twice as long.
    return S3Request(method, scheme, host, path, query, (*own, *added, ("Authorization", value)), accept_encoding)


def sign_query(request: S3Request, credentials: Credentials, region: str, now: datetime, expires: int) -> S3Request:
    """Return the request with the signature in its query; the body is not signed.

    ``now`` is in UTC; ``expires`` is in seconds from then, 1 to 604800.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    method, scheme, host, path, query, _, accept_encoding = request
    own, template = query_template(request, credentials, region, now, expires)
    time, scope, key, _, _, _, added, _ = template
    signature_hex = signature(key, string_to_sign(time, scope, canonical_request_of(request, template)))
    signed_query = (*query, *added, ("X-Amz-Signature", signature_hex))
    return S3Request(method, scheme, host, path, signed_query, own, accept_encoding)


def _headers_to_send_and_sign(headers: Pairs) -> tuple[Pairs, Pairs]:
    """Return the headers without those of another signature, and those of them that are signed (names in lowercase)."""
    own = tuple([header for header in headers if header[0].lower() not in _SIGNER_HEADERS])
    # Only those that S3 demands: headers that a proxy on the way may drop or change (Range, If-*) are not signed.
    lowercase = [(name.lower(), value) for name, value in own]
    return own, tuple([pair for pair in lowercase if pair[0].startswith("x-amz-") or pair[0] == "content-type"])


def _encode_component(text: str) -> str:
    return percent_encode(text.encode("utf-8", "surrogateescape"), safe="")
