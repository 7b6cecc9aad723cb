"""The official test suite of Signature v4, step by step, for headers and query: the steps that sign each request.

Source: awslabs/aws-c-auth, tests/aws-signing-test-suite/v4 (Apache-2.0; the file names the commit).
The suite is for services that normalize paths. S3 does not, so the package does not either: this file does it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from usp_s3_wsgi.signing import sigv4
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import Credentials

CASES: dict[str, Any] = json.loads(Path(__file__).with_name("sigv4_vectors.json").read_text("utf-8"))["cases"]
Pairs = list[tuple[str, str]]
each_case = pytest.mark.parametrize("name", sorted(CASES))


@dataclass
class Case:
    """A case of the suite; its request is parsed and percent-encoded for the functions of the package."""

    context: dict[str, Any]
    expected: dict[str, str]
    method: str
    path: str
    query: Pairs
    headers: Pairs
    payload_hash: str

    @property
    def credentials(self) -> Credentials:
        keys = self.context["credentials"]
        return Credentials(
            access_key=keys["access_key_id"], secret_key=keys["secret_access_key"], security_token=keys.get("token")
        )

    @property
    def signed_token(self) -> str | None:
        return None if self.context.get("omit_session_token") else self.credentials.security_token

    @property
    def time(self) -> str:
        return sigv4.timestamp(int(datetime.fromisoformat(self.context["timestamp"]).timestamp()))

    @property
    def scope(self) -> str:
        return sigv4.credential_scope(self.time[:8], self.context["region"], self.context["service"])

    def canonical_request(self, query: Pairs, headers: Pairs) -> str:
        return sigv4.canonical_request(
            self.method,
            self.path,
            sigv4.canonical_query_string(query),
            sigv4.canonical_headers(headers),
            sigv4.signed_headers(headers),
            self.payload_hash,
        )

    def signature(self, string_to_sign: str) -> str:
        key = sigv4.signing_key(
            self.credentials.secret_key, self.time[:8], self.context["region"], self.context["service"]
        )
        return sigv4.signature(key, string_to_sign)


def load(name: str) -> Case:
    case = CASES[name]
    head, _, body = case["request"].partition("\n\n")
    request_line, _, fields = head.partition("\n")
    method, target = request_line.removesuffix(" HTTP/1.1").split(" ", 1)
    path, _, query = target.partition("?")
    # A line that begins with white space continues the previous one.
    headers = [pair(field, ":") for field in re.split(r"\n(?=\S)", fields.strip("\n"))]
    return Case(
        context=case["context"],
        expected=case,
        method=method,
        path=percent_encode((normalize(path) if case["context"]["normalize"] else path).encode()),
        query=parameters(query),
        headers=headers,
        payload_hash=sha256(body.encode() if case["context"]["sign_body"] else b"").hexdigest(),
    )


def pair(text: str, divider: str) -> tuple[str, str]:
    name, _, value = text.partition(divider)
    return name, value


def encoded(text: str) -> str:
    return percent_encode(unquote_to_bytes(text), "")


def parameters(query: str) -> Pairs:
    return [(encoded(name), encoded(value)) for name, value in (pair(part, "=") for part in query.split("&") if part)]


def normalize(path: str) -> str:
    """Normalize a path: RFC 3986, 5.2.4, and empty segments are removed. Paths for S3 must stay as they are."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    return "/" + "/".join(segments) + ("/" if segments and path.endswith("/") else "")


def headers_to_sign(case: Case) -> Pairs:
    added = sigv4.signature_headers(case.signed_token, case.time, case.payload_hash)
    if not case.context["sign_body"]:  # only S3 requires this header
        added.remove(("x-amz-content-sha256", case.payload_hash))
    return case.headers + added


def query_to_sign(case: Case) -> Pairs:
    names = sigv4.signed_headers(case.headers)
    expires = case.context["expiration_in_seconds"]
    return case.query + sigv4.query_parameters(
        case.credentials.access_key, case.signed_token, case.scope, case.time, expires, names
    )


def test_number_of_cases() -> None:
    assert len(CASES) == 38


@each_case
def test_signature_in_headers(name: str) -> None:
    case = load(name)
    headers = headers_to_sign(case)
    canonical = case.canonical_request(case.query, headers)
    assert canonical == case.expected["header-canonical-request"]
    string_to_sign = sigv4.string_to_sign(case.time, case.scope, canonical)
    assert string_to_sign == case.expected["header-string-to-sign"]
    signature = case.signature(string_to_sign)
    assert signature == case.expected["header-signature"]
    names = sigv4.signed_headers(headers)
    authorization = sigv4.authorization(case.credentials.access_key, case.scope, names, signature)
    assert f"\nAuthorization:{authorization}\n" in case.expected["header-signed-request"]


@each_case
def test_signature_in_the_query(name: str) -> None:
    case = load(name)
    query = query_to_sign(case)
    canonical = case.canonical_request(query, case.headers)
    assert canonical == case.expected["query-canonical-request"]
    string_to_sign = sigv4.string_to_sign(case.time, case.scope, canonical)
    assert string_to_sign == case.expected["query-string-to-sign"]
    signature = case.signature(string_to_sign)
    assert signature == case.expected["query-signature"]
    query.append(("X-Amz-Signature", signature))
    if case.context.get("omit_session_token"):  # some services require that the token is not signed
        query.append(("X-Amz-Security-Token", encoded(str(case.credentials.security_token))))
    target = case.expected["query-signed-request"].split(" HTTP/1.1\n")[0]
    assert sorted(parameters(target.partition("?")[2])) == sorted(query)
