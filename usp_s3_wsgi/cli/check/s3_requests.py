"""Sends signed requests to a bucket as the gateway does, and reads S3's answer whole."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import S3ErrorResponse
from usp_s3_wsgi.gateway import error_document
from usp_s3_wsgi.s3 import byte_range, object_request
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request
from usp_s3_wsgi.transport.pool import pool_manager

#: Statuses with which a signature was accepted, and there is an object: a range of an empty one is not satisfiable.
SUCCESS = frozenset({200, 206, 304, 416})
FIRST_BYTE = ("Range", "bytes=0-0")


class Answer(NamedTuple):
    """S3's answer. ``error``: of an answer that is not a success. ``connected_at``: by time.monotonic()."""

    status: int
    headers: Mapping[str, str]
    error: S3ErrorResponse | None
    signed_at: datetime
    connected_at: float

    @property
    def is_success(self) -> bool:
        """Whether the signature was accepted, and there is an object."""
        return self.status in SUCCESS


def random_key() -> str:
    """Return a key that no object has."""
    return f"usp-s3-check-{secrets.token_hex(8)}"


class BucketRequests:
    """Signed requests with a bucket's settings."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self.settings, self.credentials = settings, credentials

    def object_request(self, method: str, path: str, *headers: tuple[str, str]) -> S3Request:
        """Return an unsigned request. ``path``: of S3's URL, percent-encoded."""
        return self._request(method, path, (), headers)

    def path_of(self, key: str) -> str:
        """Return the path of S3's URL for a key below the prefix of S3BucketURL, which is not percent-encoded."""
        return self.settings.bucket_url.prefix + percent_encode(key.encode())

    @property
    def key_prefix(self) -> str:
        """What all keys below S3BucketURL begin with, percent-encoded; empty if that is the whole bucket."""
        prefix = self.settings.bucket_url.prefix[1:]
        return prefix.partition("/")[2] if self.settings.bucket_url.path_style else prefix

    def bucket_request(self, method: str, query: tuple[tuple[str, str], ...]) -> S3Request:
        """Return an unsigned request about the bucket itself. ``query``: percent-encoded."""
        url = self.settings.bucket_url
        path = f"/{percent_encode(url.bucket.encode(), safe='')}" if url.path_style else "/"
        return self._request(method, path, query, ())

    def _request(
        self, method: str, path: str, query: tuple[tuple[str, str], ...], headers: tuple[tuple[str, str], ...]
    ) -> S3Request:
        url = self.settings.bucket_url
        if self.settings.requester_pays:
            headers = (*headers, object_request.REQUESTER_PAYS)
        return S3Request(method, url.scheme, url.authority, path, query, headers)

    def send(self, request: S3Request) -> Answer:
        """Sign and send a request once.

        Raises: UpstreamError: there is no answer. SettingError: S3CAFile cannot be used.
        """
        signed_at = datetime.now(UTC)
        signed = sign(request, self.settings.signing, self.credentials, signed_at)
        response = pool_manager.pool_for(self.settings).send(signed)
        headers, connected_at = response.headers, response.connected_at
        status = byte_range.effective_status(response.status, headers, signed.header("Range"), False)
        if status in SUCCESS:
            response.drain_or_close()
            return Answer(status, headers, None, signed_at, connected_at)
        error = error_document.read(response, self.settings.proxy_set.timeout)
        return Answer(status, headers, error, signed_at, connected_at)
