"""Verification of Signature v4, independent of the product's own code.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from tests.identity.emulated import Request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request,\s*"
    r"SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Signature:
    """The parsed Authorization header of a request; ``time`` is its x-amz-date, ``20130524T000000Z``."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    time: str

    @property
    def moment(self) -> float:
        """The unix time of the signature."""
        return datetime.strptime(self.time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def signature_of(request: Request) -> Signature | None:
    """Return the signature in the headers of a request, None if there is no valid one."""
    match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    time = request.headers.get("x-amz-date", "")
    if match is None or not re.fullmatch(r"\d{8}T\d{6}Z", time) or time[:8] != match[2]:
        return None
    return Signature(match[1], match[2], match[3], match[4], tuple(match[5].split(";")), match[6], time)


def is_signed(request: Request, found: Signature, secret_key: str) -> bool:
    """Return whether the signature of a request (with its body) is right, and all required headers are signed."""
    names = found.signed_headers
    required = {"host"} | {name for name in request.headers if name.startswith("x-amz-")}
    if names != tuple(sorted(names)) or not required <= set(names) <= set(request.headers):
        return False
    payload = sha256(request.body).hexdigest()
    if request.headers.get("x-amz-content-sha256", payload) != payload:
        return False
    pairs = [pair.partition("=") for pair in request.query.split("&") if pair]
    query = "&".join(f"{name}={value}" for name, _, value in sorted(pairs))
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names)
    canonical_request = "\n".join([request.method, request.path, query, headers, ";".join(names), payload])
    scope = (found.date, found.region, found.service, "aws4_request")
    string_to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", found.time, "/".join(scope), sha256(canonical_request.encode("utf-8")).hexdigest()]
    )
    key = f"AWS4{secret_key}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.compare_digest(hmac.digest(key, string_to_sign.encode(), "sha256").hex(), found.signature)
