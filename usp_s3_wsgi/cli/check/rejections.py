"""Asks the diagnosis of rejected signatures what S3's answer to a signed request means."""

from __future__ import annotations

from dataclasses import replace

from usp_s3_wsgi.cli.check.rejected_signature.diagnosis import Answer, Diagnosis, diagnose
from usp_s3_wsgi.cli.check.rejected_signature.setting_names import SettingNames
from usp_s3_wsgi.cli.check.s3_requests import BucketRequests
from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import S3ErrorResponse, UpstreamConnectionError
from usp_s3_wsgi.gateway import error_document
from usp_s3_wsgi.s3 import error_codes
from usp_s3_wsgi.signing.types import S3Request
from usp_s3_wsgi.transport.pool import pool_manager

#: Statuses with which servers reject a signature, or send to another region.
_STATUSES = frozenset({301, 307, 400, 401, 403})
_SUCCESS = frozenset({200, 206, 304, 416})


def is_rejection(error: S3ErrorResponse) -> bool:
    """Whether an answer may be about the signature, the region, the keys or the bucket."""
    if error.is_http_on_tls_port or error.is_not_s3_document or error.code in error_codes.TRANSIENT_CODES:
        return False
    return error.status in _STATUSES or error.code == "NoSuchBucket"


def explain(requests: BucketRequests, rejected: S3Request, names: SettingNames) -> Diagnosis:
    """Return the diagnosis of a request that was rejected; ``rejected``: unsigned."""

    def send(signed: S3Request) -> Answer:
        # A region or a style has a host of its own.
        try:
            url = bucket_url.parse(f"{signed.scheme}://{signed.host}/")
        except ValueError:
            raise UpstreamConnectionError("the host's name is not valid") from None
        own = requests.settings.bucket_url
        settings = replace(requests.settings, bucket_url=replace(own, host=url.host, port=url.port))
        return _send(settings, signed)

    return diagnose(rejected, requests.settings, requests.credentials, send, names=names)


def _send(settings: Settings, signed: S3Request) -> Answer:
    response = pool_manager.pool_for(settings).send(signed)
    status, headers = response.status, response.headers
    if status in _SUCCESS:
        response.drain_or_close()
        return Answer(status, headers, "")
    return Answer(status, headers, error_document.read(response, settings.proxy_set.timeout).document)
