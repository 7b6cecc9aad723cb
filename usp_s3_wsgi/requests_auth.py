"""The same signer for the requests library: ``requests.get(url, auth=S3Auth("KEY", "SECRET", "eu-central-1"))``."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

import requests
from requests.auth import AuthBase

from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext


class S3Auth(AuthBase):
    """Sign a prepared request for S3 in headers, as it is sent: Signature v4 with a region, v2 without.

    ``bucket`` is needed for v2 with virtual-host style URLs whose host does not begin with the bucket's name.
    A body must be ``bytes`` or ``str``; a streamed one is sent as ``UNSIGNED-PAYLOAD`` (v4).

    Raises:
        ValueError: the URL is no S3 URL (http or https, a host, no user).
    """

    def __init__(
        self,
        access_key: str,
        secret_key: str,
        region: str | None = None,
        *,
        security_token: str | None = None,
        bucket: str | None = None,
    ) -> None:
        self._credentials = Credentials(access_key, secret_key, security_token)
        self._region = region
        self._bucket = bucket

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        parts = urlsplit(prepared.url or "")
        place = bucket_url.parse(f"{parts.scheme}://{parts.netloc}{parts.path or '/'}")
        if self._bucket:
            place = replace(place, bucket=self._bucket, path_style=place.prefix.startswith(f"/{self._bucket}/"))
        # Encoded as S3 does it when it checks: requests leaves "/" and "+" in a query, and "(" in a path.
        path = percent_encode(unquote_to_bytes(parts.path or "/"))
        pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
        query = [(_component(name), equals, _component(value)) for name, equals, value in pairs]
        headers = tuple((str(name), str(value)) for name, value in prepared.headers.items() if name.lower() != "host")
        signed_query = tuple((name, value) for name, _, value in query)
        unsigned = S3Request(prepared.method or "GET", place.scheme, place.authority, path, signed_query, headers)
        context = SigningContext(self._region, use_headers=True, virtual_host_bucket=place.virtual_host_bucket)
        signed = sign(unsigned, context, self._credentials, datetime.now(UTC), _payload_hash(prepared.body))
        prepared.url = urlunsplit((parts.scheme, parts.netloc, path, "&".join(map("".join, query)), ""))
        prepared.headers.update({"Host": place.authority, **dict(signed.headers)})
        return prepared


def _component(text: str) -> str:
    return percent_encode(unquote_to_bytes(text.replace("+", " ")), safe="")


def _payload_hash(body: object) -> str:
    if body is None:
        body = b""
    if isinstance(body, str):
        body = body.encode()
    return hashlib.sha256(body).hexdigest() if isinstance(body, bytes) else "UNSIGNED-PAYLOAD"
