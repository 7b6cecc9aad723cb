"""The steps of a signature, each under its name in Amazon's specification, for ``--explain``.

The secret key and the signing keys are not in them, and the security token is masked.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote

from usp_s3_wsgi.observability.flight_recorder import MASK
from usp_s3_wsgi.signing import sigv2, sigv4
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import Credentials, Pairs, S3Request, SigningContext

_S3 = "https://docs.aws.amazon.com/AmazonS3/latest/API/"
_V4_HEADERS = f"{_S3}sig-v4-header-based-auth.html"
_V4_QUERY = f"{_S3}sigv4-query-string-auth.html"
_V4_SCOPE = "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"
_V2 = f"{_S3}RESTAuthentication.html"
_EMPTY = "(empty)"


class Step(NamedTuple):
    """A step. ``parts``: names in the specification, and what stands for them here. ``text``: the result, exactly."""

    name: str
    specification: str
    text: str
    parts: Pairs = ()


class Signing(NamedTuple):
    """A request before and after it was signed, and with what."""

    request: S3Request
    signed: S3Request
    context: SigningContext
    credentials: Credentials
    signed_at: datetime
    payload_hash: str

    def __repr__(self) -> str:
        return f"Signing({self.request!r})"

    @property
    def masked(self) -> Signing:
        """The same with a mask in the place of the token: lines and their order are those that were signed."""
        token = MASK if self.credentials.security_token else None
        return self._replace(credentials=replace(self.credentials, security_token=token))


def explain(signing: Signing) -> list[Step]:
    """Return the steps in their order; the last one is the signature that the request has."""
    return _version_2(signing) if signing.context.region is None else _version_4(signing, signing.context.region)


def _version_4(signing: Signing, region: str) -> list[Step]:
    specification = _V4_HEADERS if signing.context.use_headers else _V4_QUERY
    template = _template(signing, region)
    masked = signing.masked
    shown = sigv4.canonical_request_of(signing.request, _template(masked, region))
    shown = shown.replace(percent_encode(MASK.encode(), safe=""), MASK)
    method, path, query, rest = shown.split("\n", 3)
    headers, names, payload_hash = rest.rsplit("\n", 2)
    parts = (
        ("HTTPMethod", method),
        ("CanonicalURI", path),
        ("CanonicalQueryString", query),
        ("CanonicalHeaders", headers.rstrip("\n")),
        ("SignedHeaders", names),
        ("HashedPayload", payload_hash),
    )
    canonical = sigv4.canonical_request_of(signing.request, template)
    string_to_sign = sigv4.string_to_sign(template.time, template.scope, canonical)
    return [
        Step("Canonical request", specification, shown, parts),
        Step("Hashed canonical request", specification, string_to_sign.rpartition("\n")[2]),
        Step("Credential scope", _V4_SCOPE, template.scope),
        Step("String to sign", specification, string_to_sign),
        Step(
            "Signing key",
            specification,
            "kDate, kRegion, kService, kSigning: derived from the secret key, not shown",
        ),
        Step("Signature", specification, _signature(signing)),
    ]


def _template(signing: Signing, region: str) -> sigv4.SigningTemplate:
    request, context, credentials, signed_at = signing.request, signing.context, signing.credentials, signing.signed_at
    if context.use_headers:
        return sigv4.header_template(request, credentials, region, signed_at, signing.payload_hash)[1]
    return sigv4.query_template(request, credentials, region, signed_at, context.expires)[1]


def _version_2(signing: Signing) -> list[Step]:
    request, context, credentials, signed_at = signing.request, signing.context, signing.credentials, signing.signed_at
    bucket, credentials = context.virtual_host_bucket, signing.masked.credentials
    if context.use_headers:
        text = sigv2.header_string_to_sign(request, credentials, bucket, signed_at)
        anchor = "#ConstructingTheAuthenticationHeader"
    else:
        text = sigv2.query_string_to_sign(request, credentials, bucket, signed_at, context.expires)
        anchor = "#RESTAuthenticationQueryStringAuth"
    method, content_md5, content_type, date, rest = text.split("\n", 4)
    resource = sigv2.canonicalized_resource(request.path, request.query, bucket)
    headers = rest.removesuffix(resource)
    parts = (
        ("HTTP-Verb", method),
        ("Content-MD5", content_md5),
        ("Content-Type", content_type),
        ("Date" if context.use_headers else "Expires", date),
        ("CanonicalizedAmzHeaders", headers.rstrip("\n")),
        ("CanonicalizedResource", resource),
    )
    return [
        Step(
            "CanonicalizedAmzHeaders",
            f"{_V2}#RESTAuthenticationConstructingCanonicalizedAmzHeaders",
            headers.rstrip("\n") or _EMPTY,
        ),
        Step("CanonicalizedResource", f"{_V2}#ConstructingTheCanonicalizedResourceElement", resource),
        Step("StringToSign", f"{_V2}{anchor}", text, parts),
        Step("Signature", f"{_V2}{anchor}", _signature(signing)),
    ]


def _signature(signing: Signing) -> str:
    """The signature in the signed request: it is computed once."""
    is_v2 = signing.context.region is None
    if signing.context.use_headers:
        return signing.signed.headers[-1][1].rpartition(":" if is_v2 else "=")[2]
    return unquote(dict(signing.signed.query)["Signature" if is_v2 else "X-Amz-Signature"])


def lines(steps: list[Step]) -> list[tuple[str, str]]:
    """Return the explanation as lines with the style of each: a heading, a link, or nothing."""
    result: list[tuple[str, str]] = []
    for number, step in enumerate(steps, start=1):
        result += [("", ""), (f"{number}. {step.name}", "bold"), (f"   {step.specification}", "dim")]
        width = max((len(name) for name, _ in step.parts), default=0) + 2
        for name, value in step.parts:
            first, *others = (value or _EMPTY).split("\n")
            result += [(f"   {name:<{width}}{first}", ""), *((" " * (width + 3) + line, "") for line in others)]
        if step.parts:
            result.append(("", ""))
        result += [(f"     {line}".rstrip(" "), "cyan") for line in step.text.split("\n")]
    return result
