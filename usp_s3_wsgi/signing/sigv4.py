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
from typing import TYPE_CHECKING, Any, NamedTuple

from usp_s3_wsgi.signing.encoding import percent_encode

if TYPE_CHECKING:
    import hashlib

    from usp_s3_wsgi.credentials import Credentials
    from usp_s3_wsgi.request import S3Request

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "s3"
#: SHA-256 of no bytes at all, lowercase hex: the payload hash of GET and HEAD.
EMPTY_PAYLOAD_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

#: Headers that a signature sets itself; two of one of them, or two signatures, and S3 refuses the request.
_OWN_HEADERS = frozenset({"authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})
_Pairs = tuple[tuple[str, str], ...]


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


def canonical_request(method: str, path: str, query: str, headers: str, names: str, payload_hash: str) -> str:
    """Return the canonical request.

    ``path`` is percent-encoded once, as it is sent. ``query``, ``headers`` and ``names`` are the results of
    :func:`canonical_query_string`, :func:`canonical_headers` and :func:`signed_headers`. ``payload_hash`` is the
    body's SHA-256 in lowercase hex, or ``UNSIGNED-PAYLOAD``.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    return f"{method}\n{path}\n{query}\n{_end_of_canonical_request(headers, names, payload_hash)}"


def _end_of_canonical_request(headers: str, names: str, payload_hash: str) -> str:
    return f"{headers}\n{names}\n{payload_hash}"


def timestamp(now: datetime) -> str:
    """Return ``now`` (UTC) as ISO 8601 basic format, ``20130524T000000Z``; the first eight characters are its date."""
    return _timestamp(int(now.timestamp()))


@lru_cache(maxsize=16)
def _timestamp(second: int) -> str:
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
    return _before_hash(time, scope) + sha256(canonical.encode()).hexdigest()


def _before_hash(time: str, scope: str) -> str:
    return f"{ALGORITHM}\n{time}\n{scope}\n"


# A key serves a whole day, and deriving it costs as much as all the rest of a signature. Bounded, for a server that
# signs for more buckets or more short-lived credentials than this only derives some keys again.
@lru_cache(maxsize=16_384)
def signing_key(secret_key: str, date: str, region: str, service: str = SERVICE) -> bytes:
    """Derive the signing key (32 bytes) of a secret key for one date (``YYYYMMDD`` in UTC), region and service.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    # "surrogateescape", for the error of a plain encode would carry the secret.
    key = b"AWS4" + secret_key.encode("utf-8", "surrogateescape")
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature(key: bytes, to_sign: str) -> str:
    """Return the signature of a string to sign: HMAC-SHA256 with the signing key, 64 characters of lowercase hex.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    return _mac(_keyed(key), to_sign)


def authorization(access_key: str, scope: str, names: str, signed: str) -> str:
    """Return the value of the Authorization header.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
    """
    return f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signed}"


def query_parameters(
    access_key: str, token: str | None, scope: str, time: str, expires: int, names: str
) -> list[tuple[str, str]]:
    """Return the query parameters that are signed, percent-encoded once; only ``X-Amz-Signature`` is still to come.

    ``expires`` is in seconds from ``time``, 1 to 604800; ``names`` that of :func:`signed_headers`.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    parameters = [
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", _component(f"{access_key}/{scope}")),
        ("X-Amz-Date", time),
        ("X-Amz-Expires", str(expires)),
        ("X-Amz-SignedHeaders", _component(names)),
    ]
    if token:
        parameters.append(("X-Amz-Security-Token", _component(token)))
    return parameters


_Keyed = tuple["hashlib._Hash", "hashlib._Hash"]
_INNER, _OUTER = (bytes([byte ^ pad for byte in range(256)]) for pad in (0x36, 0x5C))


class Common(NamedTuple):
    """What signatures of the same second have in common, if bucket, keys and signed headers are the same.

    A busy server makes many of them, so this is most of the work. ``sent``: headers or query parameters; ``query``:
    those parameters, as canonical query string. ``canonical``: the canonical request's end, from its headers on.
    ``to_sign``: the string to sign up to the hash. ``key``: the signing key, also ``keyed`` for HMAC.
    ``authorization``: the header's value up to the signature, empty for one in the query.
    """

    sent: tuple[tuple[str, str], ...]
    query: str
    canonical: str
    to_sign: str
    key: bytes
    keyed: _Keyed
    authorization: str

    def __repr__(self) -> str:
        return "Common()"  # all of it is next to a secret


#: Signed headers that all of a bucket's requests may have; others, and the hash of a body, are of one request alone.
_USUAL: frozenset[_Pairs] = frozenset({(), (("x-amz-request-payer", "requester"),)})
#: Stands where the time will: no header's value holds it.
_TIME = "\0"


# Both by day and by second, for a server of thousands of buckets signs for most of them once in a second.
@lru_cache(maxsize=16_384)
def _daily_headers(
    host: str, signed: _Pairs, access_key: str, secret_key: str, token: str | None, region: str, payload: str, day: str
) -> Common:
    sent = [("x-amz-content-sha256", payload), ("x-amz-date", _TIME)]
    if token:
        sent.append(("x-amz-security-token", token))
    to_sign = [("host", host), *signed, *sent]
    key = signing_key(secret_key, day, region)
    names, scope = signed_headers(to_sign), credential_scope(day, region)
    return Common(
        tuple(sent),
        "",
        _end_of_canonical_request(canonical_headers(to_sign), names, payload),
        _before_hash(_TIME, scope),
        key,
        _keyed(key),
        authorization(access_key, scope, names, ""),
    )


@lru_cache(maxsize=16_384)
def _daily_query(
    host: str, signed: _Pairs, access_key: str, secret_key: str, token: str | None, region: str, expires: int, day: str
) -> Common:
    to_sign = [("host", host), *signed]
    key = signing_key(secret_key, day, region)
    names, scope = signed_headers(to_sign), credential_scope(day, region)
    sent = query_parameters(access_key, token, scope, _TIME, expires, names)
    return Common(
        tuple(sent),
        canonical_query_string(sent),
        _end_of_canonical_request(canonical_headers(to_sign), names, UNSIGNED_PAYLOAD),
        _before_hash(_TIME, scope),
        key,
        _keyed(key),
        "",
    )


# Few, for past seconds stay in it.
@lru_cache(maxsize=256)
def _at(time: str, daily: Callable[..., Common], *given: Any) -> Common:
    common = daily(*given, time[:8])
    return common._replace(
        sent=tuple([(name, value.replace(_TIME, time)) for name, value in common.sent]),
        query=common.query.replace(_TIME, time),
        canonical=common.canonical.replace(_TIME, time),
        to_sign=common.to_sign.replace(_TIME, time),
    )


def common_headers(
    request: S3Request, credentials: Credentials, region: str, now: datetime, payload_hash: str = EMPTY_PAYLOAD_HASH
) -> tuple[_Pairs, Common]:
    """Return the headers that :func:`sign_headers` keeps, and what it has in common with others; arguments as there."""
    kept, to_sign = _sorted_out(request.headers) if request.headers else ((), ())
    usual = payload_hash == EMPTY_PAYLOAD_HASH and to_sign in _USUAL
    at, daily = (_at, _daily_headers) if usual else (_at.__wrapped__, _daily_headers.__wrapped__)
    common = at(
        timestamp(now), daily, request.host, to_sign, credentials.access_key, credentials.secret_key,
        credentials.security_token, region, payload_hash,
    )  # fmt: skip
    return kept, common


def common_query(
    request: S3Request, credentials: Credentials, region: str, now: datetime, expires: int
) -> tuple[_Pairs, Common]:
    """Return the headers that :func:`sign_query` keeps, and what it has in common with others; arguments as there."""
    kept, to_sign = _sorted_out(request.headers) if request.headers else ((), ())
    at, daily = (_at, _daily_query) if to_sign in _USUAL else (_at.__wrapped__, _daily_query.__wrapped__)
    common = at(
        timestamp(now), daily, request.host, to_sign, credentials.access_key, credentials.secret_key,
        credentials.security_token, region, expires,
    )  # fmt: skip
    return kept, common


def sign_headers(
    request: S3Request,
    credentials: Credentials,
    region: str,
    now: datetime,
    payload_hash: str = EMPTY_PAYLOAD_HASH,
) -> S3Request:
    """Return the request with the headers x-amz-content-sha256, x-amz-date, Authorization, and the token's if any.

    ``now`` is in UTC. ``payload_hash`` is the body's SHA-256 in lowercase hex, or ``UNSIGNED-PAYLOAD``.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
    """
    kept, common = common_headers(request, credentials, region, now, payload_hash)
    query = canonical_query_string(request.query) if request.query else ""
    signed = _signature(common, request.method, request.path, query)
    sent = (*kept, *common.sent, ("Authorization", common.authorization + signed))
    # Half the time of _replace, which is a tenth of it all.
    return type(request)(
        request.method, request.scheme, request.host, request.path, request.query, sent, request.accept_encoding
    )


def sign_query(request: S3Request, credentials: Credentials, region: str, now: datetime, expires: int) -> S3Request:
    """Return the request with the signature in its query; the body is not signed.

    ``now`` is in UTC; ``expires`` is in seconds from then, 1 to 604800.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    kept, common = common_query(request, credentials, region, now, expires)
    query = (*request.query, *common.sent)
    canonical = canonical_query_string(query) if request.query else common.query
    signed = _signature(common, request.method, request.path, canonical)
    return request._replace(headers=kept, query=(*query, ("X-Amz-Signature", signed)))


def _signature(common: Common, method: str, path: str, query: str) -> str:
    digest = sha256(f"{method}\n{path}\n{query}\n{common.canonical}".encode()).hexdigest()
    return _mac(common.keyed, common.to_sign + digest)


def _mac(keyed: _Keyed, text: str) -> str:
    inner, outer = keyed[0].copy(), keyed[1].copy()
    inner.update(text.encode())
    outer.update(inner.digest())
    return outer.hexdigest()


def _keyed(key: bytes) -> _Keyed:
    """Hash what HMAC puts before each text, once for all: https://www.rfc-editor.org/rfc/rfc2104#section-4."""
    return sha256(key.ljust(64, b"\0").translate(_INNER)), sha256(key.ljust(64, b"\0").translate(_OUTER))


def _sorted_out(headers: _Pairs) -> tuple[_Pairs, _Pairs]:
    """Return the headers without those of another signature, and which of them are signed, names in lowercase."""
    kept = tuple([header for header in headers if header[0].lower() not in _OWN_HEADERS])
    # Those that S3 demands and no others: what a proxy on the way may drop or change (Range, If-*) is not signed.
    named = [(name.lower(), value) for name, value in kept]
    return kept, tuple([pair for pair in named if pair[0].startswith("x-amz-") or pair[0] == "content-type"])


def _component(text: str) -> str:
    return percent_encode(text.encode(), safe="")
