"""Sign a request with the version and in the place that the bucket's signing context says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from usp_s3_wsgi.signing import sigv2, sigv4
from usp_s3_wsgi.signing.sigv4 import SigningTemplate
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext

#: How far S3's clock may differ from the time that was signed.
_MAX_CLOCK_SKEW = timedelta(minutes=15)


def sign(
    request: S3Request,
    context: SigningContext,
    credentials: Credentials,
    now: datetime,
    payload_hash: str | None = None,
) -> S3Request:
    """Return the signed request.

    ``now`` is an aware datetime whose ``tzinfo`` is ``timezone.utc``. ``payload_hash`` is used by v4 in headers only:
    the body's SHA-256 in lowercase hex or ``UNSIGNED-PAYLOAD``, None for a request without body.
    The host is signed as ``request.host``. A signature that the request already has in its headers is replaced.

    Raises:
        ValueError: ``now`` is naive or not in UTC; S3 would take the signature for one of another hour.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html
    """
    if now.tzinfo != UTC:
        raise ValueError("now must be an aware datetime in timezone.utc")
    region, use_headers, expires, virtual_host_bucket = context
    if region is not None:
        if use_headers:
            return sigv4.sign_headers(request, credentials, region, now, payload_hash or sigv4.EMPTY_PAYLOAD_HASH)
        return sigv4.sign_query(request, credentials, region, now, expires)
    if use_headers:
        return sigv2.sign_headers(request, credentials, virtual_host_bucket, now)
    return sigv2.sign_query(request, credentials, virtual_host_bucket, now, expires)


def signed_text(
    request: S3Request, context: SigningContext, credentials: Credentials, now: datetime
) -> tuple[str, str]:
    """Return the canonical request and the string to sign of :func:`sign` (same arguments), to explain a signature.

    Signature v2 has no canonical request: it is empty. Both texts hold the security token, if there is one.
    """
    template, bucket = signing_template(request, context, credentials, now), context.virtual_host_bucket
    if template is not None:
        canonical = sigv4.canonical_request_of(request, template)
        return canonical, sigv4.string_to_sign(template.time, template.scope, canonical)
    if context.use_headers:
        return "", sigv2.header_string_to_sign(request, credentials, bucket, now)
    return "", sigv2.query_string_to_sign(request, credentials, bucket, now, context.expires)


def signing_template(
    request: S3Request, context: SigningContext, credentials: Credentials, now: datetime
) -> SigningTemplate | None:
    """Return what :func:`sign` uses for any method and path in this second; None for Signature v2."""
    if context.region is None:
        return None
    if context.use_headers:
        return sigv4.header_template(request, credentials, context.region, now)[1]
    return sigv4.query_template(request, credentials, context.region, now, context.expires)[1]


def validity_interval(context: SigningContext, signed_at: datetime) -> tuple[datetime, datetime]:
    """Return the interval in which S3's clock must be to accept a signature: start inclusive, end exclusive.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#RESTAuthenticationTimeStamp
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    signed_at = signed_at.replace(microsecond=0)  # signatures have whole seconds
    if context.use_headers:
        return signed_at - _MAX_CLOCK_SKEW, signed_at + _MAX_CLOCK_SKEW
    # A v2 query holds its expiry only: it is valid at any time before.
    begin = datetime.min.replace(tzinfo=UTC) if context.region is None else signed_at - _MAX_CLOCK_SKEW
    return begin, signed_at + timedelta(seconds=context.expires)
