"""Requests that botocore sends directly to a server: to store objects, and to compare responses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import timedelta
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any
from unittest import mock

import botocore.session
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import HTTPClientError
from botocore.httpsession import URLLib3Session
from botocore.utils import percent_encode

from tests.rgw.server import NO_PROFILE
from tests.servers.program import Keys, Server
from tests.servers.response import Response

EXPIRES = 300


class BotocoreClient:
    """botocore with one user's keys."""

    def __init__(self, server: Server, keys: Keys | None = None) -> None:
        self._server, self._keys = server, keys or server.keys
        self._session = URLLib3Session(timeout=60)

    def send(
        self,
        method: str,
        path: str,
        mode: str = "v4-header",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        clock: int = 0,
    ) -> Response:
        """Send one signed request; ``path``: percent-encoded, with its query. ``clock``: seconds that it is fast."""
        request = AWSRequest(method, f"{self._server.url}{path}", dict(headers or {}), body)
        with _clock(clock) if clock else nullcontext():
            self._signer(mode).add_auth(request)
        try:
            response = self._session.send(request.prepare())
            content = response.content
        except HTTPClientError as error:
            return Response(0, {}, b"", type(error).__name__)
        return Response.from_fields(response.status_code, response.headers.items(), content)

    def client(self) -> Any:
        """botocore's S3 client, for operations of several requests; the caller closes it."""
        return botocore.session.Session(NO_PROFILE).create_client(
            "s3",
            region_name=self._server.region,
            endpoint_url=self._server.url,
            aws_access_key_id=self._keys.access_key,
            aws_secret_access_key=self._keys.secret_key,
            config=Config(
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def _signer(self, mode: str) -> Any:
        keys, region = Credentials(self._keys.access_key, self._keys.secret_key), self._server.region
        if mode == "v4-header":
            return auth.S3SigV4Auth(keys, "s3", region)
        if mode == "v4-query":
            return auth.S3SigV4QueryAuth(keys, "s3", region, expires=EXPIRES)
        return auth.HmacV1Auth(keys) if mode == "v2-header" else auth.HmacV1QueryAuth(keys, expires=EXPIRES)


def encoded(key: bytes) -> str:
    """The key, percent-encoded as botocore does."""
    return str(percent_encode(key, safe="/~"))


def _clock(seconds: int) -> Any:
    return mock.patch.multiple(
        auth,
        get_current_datetime=lambda *args, **kwargs: get_current_datetime(*args, **kwargs) + timedelta(seconds=seconds),
        formatdate=lambda *args, **kwargs: formatdate(time.time() + seconds, usegmt=True),
        time=SimpleNamespace(time=lambda: time.time() + seconds),
    )
