"""What S3 says of a refusal, and what that means to the client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError

from usp_s3_wsgi import upstream
from usp_s3_wsgi.errors import AccessDenied, BadPath, GatewayError, ObjectNotFound, UpstreamBusy, UpstreamRefused
from usp_s3_wsgi.settings import Settings

#: S3's error documents are far shorter.
_SIZE = 65_536
#: 403 that is about the object; every other one is about this server's keys.
_DENIED = frozenset({"AccessDenied", "InvalidObjectState", ""})
#: 400 that is about the client's URL; every other one is about this server's signature.
_BAD_KEY = frozenset({"KeyTooLongError", "InvalidURI", "XMinioInvalidObjectName", "InvalidObjectName"})


@dataclass(frozen=True, slots=True)
class S3Error:
    """What S3 says of a refusal: status, code (empty where it says none), request id, and the bucket's region."""

    status: int
    code: str
    request_id: str
    region: str

    def __str__(self) -> str:
        region = f", the bucket is in region {self.region}: set S3Region to it" if self.region else ""
        return f"S3 answered {self.status} {self.code or '(no code)'}, request id {self.request_id or '(none)'}{region}"


def read(response: urllib3.BaseHTTPResponse) -> S3Error:
    """Read S3's error document, at most 64 KiB of it, and give the connection back."""
    try:
        text = response.read(_SIZE).decode("utf-8", "replace")
    except HTTPError:
        text = ""
    upstream.discard(response)
    return parse(response.status, response.headers, text)


def parse(status: int, headers: Mapping[str, str], text: str) -> S3Error:
    """Return what an error document and the headers around it say; ``headers`` by names in lowercase or any case.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    code = _element(text, "Code")
    if code == "AccessDenied" and "<ServerTime>" in text:
        code = "RequestExpired"  # AWS's words for a signature in the query string that is too old, or a wrong clock
    return S3Error(
        status,
        code,
        _word(headers.get("x-amz-request-id", "")) or _element(text, "RequestId"),
        _word(headers.get("x-amz-bucket-region", "")) or _element(text, "Region"),
    )


def _element(text: str, name: str) -> str:
    match = re.search(rf"<{name}>\s*([^<]{{1,128}}?)\s*</{name}>", text)
    return _word(match[1]) if match else ""


def _word(text: str) -> str:
    """What is safe to log and to compare: S3's codes, ids and regions are such words; anything else is nobody's."""
    return text if re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", text) else ""


def refusal(error: S3Error, settings: Settings, retry_after: str | None) -> GatewayError:
    """Return what S3's refusal means to the client, to be raised."""
    if error.status >= 500:
        seconds = retry_after if retry_after and re.fullmatch(r"[0-9]{1,5}", retry_after) else "1"
        return UpstreamBusy(str(error), seconds)
    if error.status == 404 and error.code != "NoSuchBucket":
        return ObjectNotFound(str(error))
    if error.status == 403 and error.code in _DENIED:
        return AccessDenied(str(error), settings.denied_status)
    if error.status == 400 and error.code in _BAD_KEY:
        return BadPath(str(error))
    return UpstreamRefused(str(error))
