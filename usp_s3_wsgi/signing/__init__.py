"""Sign requests to Amazon S3 and what speaks its language: Signature v4 and v2, in headers or in the query.

Everything here is pure: no input or output and no clock. What is kept are v4's signing keys, and what signatures of
one second have in common.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from usp_s3_wsgi.signing import sigv2, sigv4
from usp_s3_wsgi.signing.sigv4 import Common

# At run time nothing of the settings is needed; they, in turn, encode with this package.
if TYPE_CHECKING:
    from usp_s3_wsgi.config.settings import Settings
    from usp_s3_wsgi.credentials import Credentials
    from usp_s3_wsgi.request import S3Request

__all__ = ["Common", "common", "sign", "validity"]

#: So far S3's clock may be from the time that was signed.
_TOLERANCE = timedelta(minutes=15)


def sign(
    request: S3Request,
    settings: Settings,
    credentials: Credentials,
    now: datetime,
    payload_hash: str | None = None,
) -> S3Request:
    """Return the request, signed as its section's settings say.

    ``settings.region`` chooses Signature v4, none v2; ``settings.use_headers`` headers, else the query.
    ``now`` is an aware datetime whose ``tzinfo`` is ``timezone.utc``. ``payload_hash`` counts for v4 in headers
    only: the body's SHA-256 in lowercase hex or ``UNSIGNED-PAYLOAD``, None for a request without body.
    The host is signed as ``request.host``. A signature that the request already has in its headers is replaced.

    Raises:
        ValueError: ``now`` is naive or not in UTC; S3 would take the signature for one of another hour.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html
    """
    if now.tzinfo != UTC:
        raise ValueError("now must be an aware datetime in timezone.utc")
    if settings.region is not None:
        if settings.use_headers:
            payload_hash = payload_hash or sigv4.EMPTY_PAYLOAD_HASH
            return sigv4.sign_headers(request, credentials, settings.region, now, payload_hash)
        return sigv4.sign_query(request, credentials, settings.region, now, settings.expires)
    bucket = None if settings.path_style else settings.bucket
    if settings.use_headers:
        return sigv2.sign_headers(request, credentials, bucket, now)
    return sigv2.sign_query(request, credentials, bucket, now, settings.expires)


def common(request: S3Request, settings: Settings, credentials: Credentials, now: datetime) -> Common | None:
    """Return what :func:`sign` makes of such a request whatever its method and path are, None for Signature v2."""
    if settings.region is None:
        return None
    if settings.use_headers:
        return sigv4.common_headers(request, credentials, settings.region, now)[1]
    return sigv4.common_query(request, credentials, settings.region, now, settings.expires)[1]


def validity(settings: Settings, now: datetime) -> tuple[datetime, datetime]:
    """Return from when on, and from when on no more, S3 takes by its clock what :func:`sign` makes at that time.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#RESTAuthenticationTimeStamp
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    now = now.replace(microsecond=0)  # what is signed has none
    if settings.use_headers:
        return now - _TOLERANCE, now + _TOLERANCE
    # A query of v2 says when it ends, and no more.
    begin = now - _TOLERANCE if settings.region is not None else datetime.min.replace(tzinfo=UTC)
    return begin, now + timedelta(seconds=settings.expires)
