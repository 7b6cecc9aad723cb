"""AWS Signature Version 2 of Amazon S3: one pure function for each step of the specification.

``sign_headers`` and ``sign_query`` put the result into a request.
https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from urllib.parse import unquote

from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import Credentials, S3Request

#: Query parameters that are part of the resource: those of Amazon, and Google's defaultObjectAcl and storageClass.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#ConstructingTheCanonicalizedResourceElement
SUBRESOURCES = frozenset(
    "accelerate acl analytics cors defaultObjectAcl delete inventory lifecycle location logging metrics notification "
    "object-lock partNumber policy replication requestPayment restore select select-type storageClass tagging torrent "
    "uploadId uploads versionId versioning versions website "
    "response-cache-control response-content-disposition response-content-encoding response-content-language "
    "response-content-type response-expires".split()
)

#: Headers that the signer sets, and x-amz-date, which S3 would use instead of Date.
_SIGNER_HEADERS = frozenset({"authorization", "date", "x-amz-date", "x-amz-security-token"})


def canonicalized_amz_headers(headers: Iterable[tuple[str, str]]) -> str:
    r"""Return a line ``name:value\n`` for each x-amz- header, names lowercase and sorted.

    Folded lines are unfolded; values of one name are joined with ``,`` in the order given.
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#RESTAuthenticationConstructingCanonicalizedAmzHeaders
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if (name := name.lower()).startswith("x-amz-"):
            values.setdefault(name, []).append(" ".join([line.strip() for line in value.split("\n")]))
    return "".join([f"{name}:{','.join(values[name])}\n" for name in sorted(values)])


def canonicalized_resource(path: str, query: Iterable[tuple[str, str]] = (), bucket: str | None = None) -> str:
    """Return the resource: bucket, path and subresources.

    ``path`` is percent-encoded once, as it is sent. ``bucket`` is the bucket's name where the host holds it; None
    where the path begins with it. ``query`` holds names and values, each percent-encoded once; those that are
    subresources are added, sorted by name, with their values *decoded* and without ``=`` if they have none.
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#ConstructingTheCanonicalizedResourceElement
    """
    resource = path if bucket is None else f"/{bucket}{path}"
    subresources = sorted([pair for pair in query if pair[0] in SUBRESOURCES], key=lambda pair: pair[0])
    if not subresources:
        return resource
    # "surrogateescape" here and in signature() keeps bytes that are not UTF-8.
    decoded = [f"{name}={unquote(value, errors='surrogateescape')}" if value else name for name, value in subresources]
    return f"{resource}?{'&'.join(decoded)}"


def string_to_sign(method: str, headers: Iterable[tuple[str, str]], date: str, resource: str) -> str:
    """Return the string to sign.

    ``date`` is the Date header's value, or the expiry in unix seconds for a signature in the query (or empty, if
    there is an x-amz-date header). ``resource`` is that of :func:`canonicalized_resource`.
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#ConstructingTheAuthenticationHeader
    """
    headers = tuple(headers)
    named = {name.lower(): value.strip() for name, value in headers}
    positional = f"{method}\n{named.get('content-md5', '')}\n{named.get('content-type', '')}\n{date}\n"
    return positional + canonicalized_amz_headers(headers) + resource


def signature(secret_key: str, text: str) -> str:
    """Return the signature of a string to sign (``text``): HMAC-SHA1 with the secret key, in Base64 (28 characters).

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#ConstructingTheAuthenticationHeader
    """
    # "surrogateescape", because the exception of a plain encode would hold the secret.
    key = secret_key.encode("utf-8", "surrogateescape")
    return base64.b64encode(hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha1")).decode()


def header_string_to_sign(request: S3Request, credentials: Credentials, bucket: str | None, now: datetime) -> str:
    """Return what :func:`sign_headers` signs (same arguments)."""
    headers = [*_without_signer_headers(request.headers), *_token_header(credentials)]
    resource = canonicalized_resource(request.path, request.query, bucket)
    return string_to_sign(request.method, headers, _http_date(now.replace(microsecond=0)), resource)


def query_string_to_sign(
    request: S3Request, credentials: Credentials, bucket: str | None, now: datetime, expires: int
) -> str:
    """Return what :func:`sign_query` signs (same arguments)."""
    # The token is signed as a header would be: S3 and Ceph read it from the query in this way.
    headers = [*_without_signer_headers(request.headers), *_token_header(credentials)]
    resource = canonicalized_resource(request.path, request.query, bucket)
    return string_to_sign(request.method, headers, str(int(now.timestamp()) + expires), resource)


def sign_headers(request: S3Request, credentials: Credentials, bucket: str | None, now: datetime) -> S3Request:
    """Return the request with the headers Date and Authorization, and x-amz-security-token if there is a token.

    ``bucket`` is the bucket's name where the host holds it, None if the path does; ``now`` is in UTC.
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#ConstructingTheAuthenticationHeader
    """
    date = _http_date(now.replace(microsecond=0))
    headers = [*_without_signer_headers(request.headers), ("Date", date), *_token_header(credentials)]
    signature_base64 = signature(credentials.secret_key, header_string_to_sign(request, credentials, bucket, now))
    headers.append(("Authorization", f"AWS {credentials.access_key}:{signature_base64}"))
    return request._replace(headers=tuple(headers))


def sign_query(
    request: S3Request, credentials: Credentials, bucket: str | None, now: datetime, expires: int
) -> S3Request:
    """Return the request with AWSAccessKeyId, Expires, Signature and the token, if there is one, in its query.

    ``bucket`` is the bucket's name where the host holds it, None if the path does; ``now`` is in UTC and
    ``expires`` in seconds from then (the query holds their sum, in unix seconds).
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#RESTAuthenticationQueryStringAuth
    """
    deadline = str(int(now.timestamp()) + expires)
    headers, token = _without_signer_headers(request.headers), _token_header(credentials)
    text = query_string_to_sign(request, credentials, bucket, now, expires)
    parameters = [
        ("AWSAccessKeyId", credentials.access_key),
        ("Expires", deadline),
        ("Signature", signature(credentials.secret_key, text)),
        *token,
    ]
    encoded = [(name, percent_encode(value.encode(), safe="")) for name, value in parameters]
    return request._replace(headers=tuple(headers), query=(*request.query, *encoded))


@lru_cache(maxsize=16)  # a busy server signs many requests in a second
def _http_date(now: datetime) -> str:
    from email.utils import format_datetime  # version 4 does not need it, and so most children start without it

    return format_datetime(now, usegmt=True)


def _without_signer_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [header for header in headers if header[0].lower() not in _SIGNER_HEADERS]


def _token_header(credentials: Credentials) -> list[tuple[str, str]]:
    return [("x-amz-security-token", credentials.security_token)] if credentials.security_token else []
