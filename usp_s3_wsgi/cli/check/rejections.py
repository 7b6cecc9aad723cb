"""Sends the requests that find out why S3 rejects a signature, and whether a server checks signatures at all."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from usp_s3_wsgi.cli.check.rejected_signature.diagnosis import WRONG_SECRET, Diagnosis, ServerAnswer, diagnose
from usp_s3_wsgi.cli.check.rejected_signature.endpoint_host import is_amazon, region_in_host
from usp_s3_wsgi.cli.check.rejected_signature.setting_names import SettingNames
from usp_s3_wsgi.cli.check.s3_requests import SUCCESS, Answer, BucketRequests
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import S3ErrorResponse, UpstreamConnectionError, UpstreamError
from usp_s3_wsgi.gateway import error_document
from usp_s3_wsgi.s3 import error_codes
from usp_s3_wsgi.signing.types import S3Request
from usp_s3_wsgi.transport.pool import pool_manager

#: Statuses with which servers reject a signature, or send to another region.
_STATUSES = frozenset({301, 307, 400, 401, 403})


def is_rejection(error: S3ErrorResponse) -> bool:
    """Whether an answer may be about the signature, the region, the keys or the bucket."""
    if error.is_http_on_tls_port or error.is_not_s3_document or error.code in error_codes.TRANSIENT_CODES:
        return False
    return error.status in _STATUSES or error.code == "NoSuchBucket"


def explain(requests: BucketRequests, rejected: S3Request, names: SettingNames) -> Diagnosis:
    """Return the diagnosis of a request that was rejected; ``rejected``: unsigned."""
    settings = requests.settings
    return diagnose(rejected, settings, requests.credentials, partial(send, settings), names=names)


def accepts_wrong_signature(requests: BucketRequests, request: S3Request, answer: Answer) -> bool | None:
    """Whether the server gives the same answer to a request that is signed with a wrong secret key.

    Then it checks no signatures (moto; a proxy that answers in place of S3), and ``answer`` does not prove that the
    keys are right; only Ceph's AccessDenied is the same although it checks them. None: there was no answer.
    ``request``: unsigned, a GET of one byte; ``answer``: to it, signed with the right key.
    """
    wrong = replace(requests.credentials, secret_key=WRONG_SECRET)
    try:
        other = BucketRequests(requests.settings, wrong).send(request)
    except UpstreamError:
        return None
    if other.error is not None and error_codes.is_transient(other.error):
        return None
    return _status_and_code(other) == _status_and_code(answer)


def _status_and_code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.error.code if answer.error is not None else ""


def may_get_signature(url: BucketURL, host: str) -> bool:
    """Whether a request that these settings sign may be sent to a host.

    Only to the configured one, or over TLS to Amazon's endpoint of another region for the same bucket: DNS search lists
    and wildcards decide where any other name leads, and a false server could send the signed request to S3 again.
    ``host``: as in the Host header.
    """
    if host == url.authority:
        return True
    return url.scheme == "https" and is_amazon(url.host) and host == url.in_region(region_in_host(host)).authority


def send(settings: Settings, signed: S3Request) -> ServerAnswer:
    """Send a signed request once. Raises: UpstreamError: there is no answer, or the host may not get the request."""
    url = settings.bucket_url
    if signed.scheme != url.scheme or not may_get_signature(url, signed.host):
        raise UpstreamConnectionError("not sent: keys sign for the configured host only")
    host = url.host if signed.host == url.authority else signed.host.removesuffix(f":{url.port}")
    response = pool_manager.pool_for(replace(settings, bucket_url=replace(url, host=host))).send(signed)
    status, headers = response.status, response.headers
    if status in SUCCESS:
        response.drain_or_close()
        return ServerAnswer(status, headers, "")
    return ServerAnswer(status, headers, error_document.read(response, settings.proxy_set.timeout).document)
