"""Signature v4: the examples of Amazon's documentation of S3, and the form of a signed request.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from usp_s3_wsgi.config.settings import Settings, from_environ
from usp_s3_wsgi.signing import sigv4
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIALS = Credentials(access_key="AKIAIOSFODNN7EXAMPLE", secret_key=SECRET, security_token=None)
TOKEN = "AQoDYXdz//token+with/odd==characters"
TEMPORARY = Credentials(access_key="AKIAIOSFODNN7EXAMPLE", secret_key=SECRET, security_token=TOKEN)
HOST = "examplebucket.s3.amazonaws.com"
NOW = datetime(2013, 5, 24, tzinfo=UTC)
SCOPE = "20130524/us-east-1/s3/aws4_request"
EMPTY_PAYLOAD_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def settings(**extra: str) -> Settings:
    return from_environ(
        {
            "S3BucketURL": f"https://{HOST}/",
            "S3AccessKey": CREDENTIALS.access_key,
            "S3SecretKey": SECRET,
            "S3Region": "us-east-1",
            **extra,
        }
    )


def context(**extra: str) -> SigningContext:
    return settings(**extra).signing


def header(request: S3Request, name: str) -> str | None:
    values = [value for key, value in request.headers if key.lower() == name.lower()]
    assert len(values) <= 1, f"{name} is sent {len(values)} times"
    return values[0] if values else None


Pairs = list[tuple[str, str]]
#: Method, path, query, headers, payload hash; SHA-256 of the canonical request, signature.
EXAMPLES: dict[str, tuple[str, str, Pairs, Pairs, str, str, str]] = {
    "GET object": (
        "GET",
        "/test.txt",
        [],
        [("Range", "bytes=0-9")],
        EMPTY_PAYLOAD_HASH,
        "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "PUT object": (
        "PUT",
        "/test%24file.text",
        [],
        [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "GET bucket lifecycle": (
        "GET",
        "/",
        [("lifecycle", "")],
        [],
        EMPTY_PAYLOAD_HASH,
        "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "GET bucket (list objects)": (
        "GET",
        "/",
        [("max-keys", "2"), ("prefix", "J")],
        [],
        EMPTY_PAYLOAD_HASH,
        "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


def canonical_request(example: str) -> str:
    """Return the canonical request of one of the examples."""
    method, path, query, headers, payload_hash, _, _ = EXAMPLES[example]
    headers = [("Host", HOST), *headers, ("x-amz-content-sha256", payload_hash), ("x-amz-date", "20130524T000000Z")]
    return sigv4.canonical_request(
        method,
        path,
        sigv4.canonical_query_string(query),
        sigv4.canonical_headers(headers),
        sigv4.signed_headers(headers),
        payload_hash,
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_documented_header_examples(example: str) -> None:
    *_, canonical_hash, signature = EXAMPLES[example]
    canonical = canonical_request(example)
    string_to_sign = sigv4.string_to_sign(
        sigv4.timestamp(int(NOW.timestamp())), sigv4.credential_scope("20130524", "us-east-1"), canonical
    )
    assert string_to_sign == f"AWS4-HMAC-SHA256\n20130524T000000Z\n{SCOPE}\n{canonical_hash}"
    assert sigv4.signature(sigv4.signing_key(SECRET, "20130524", "us-east-1"), string_to_sign) == signature


@pytest.mark.parametrize("example", ["GET bucket lifecycle", "GET bucket (list objects)"])
def test_documented_header_examples_as_requests(example: str) -> None:
    # In the other two Amazon signs Range and Date as well, which S3 does not require.
    method, path, query, _, _, _, signature = EXAMPLES[example]
    request = S3Request(method, "https", HOST, path, tuple(reversed(query)))
    signed = sign(request, context(S3UseHeaders="on"), CREDENTIALS, NOW)
    assert header(signed, "Authorization") == (
        f"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/{SCOPE}, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}"
    )


def test_documented_query_example() -> None:
    request = S3Request("GET", "https", HOST, "/test.txt")
    signed = sign(request, context(S3Expires="86400"), CREDENTIALS, NOW)
    assert signed.headers == ()
    assert signed.target == (
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_signature_in_headers_leaves_the_rest_of_the_request_unchanged() -> None:
    request = S3Request("HEAD", "https", HOST, "//a%2B//b", (("versionId", "x"),), (("Range", "bytes=0-9"),))
    signed = sign(request, context(S3UseHeaders="on"), TEMPORARY, NOW)
    assert (signed.method, signed.scheme, signed.host, signed.target) == ("HEAD", "https", HOST, request.target)
    assert header(signed, "range") == "bytes=0-9"
    assert header(signed, "x-amz-date") == "20130524T000000Z"
    assert header(signed, "x-amz-content-sha256") == EMPTY_PAYLOAD_HASH
    assert header(signed, "x-amz-security-token") == TOKEN
    names = "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"
    assert names in str(header(signed, "Authorization"))
    assert len(signed.headers) == 5
    assert request.headers == (("Range", "bytes=0-9"),)


def test_signature_in_the_query_keeps_other_parameters_and_sends_the_token_there() -> None:
    request = S3Request("GET", "https", HOST, "/k", (("versionId", "x"),), (("Range", "bytes=0-9"),))
    signed = sign(request, context(), TEMPORARY, NOW)
    assert signed.query[0] == ("versionId", "x")
    assert ("X-Amz-Security-Token", "AQoDYXdz%2F%2Ftoken%2Bwith%2Fodd%3D%3Dcharacters") in signed.query
    assert ("X-Amz-Expires", "300") in signed.query
    assert signed.query[-1][0] == "X-Amz-Signature"
    assert signed.headers == (("Range", "bytes=0-9"),)


def test_without_a_token_there_is_no_token_header_or_parameter() -> None:
    request = S3Request("GET", "https", HOST, "/k")
    for use_headers in ("on", "off"):
        signed = sign(request, context(S3UseHeaders=use_headers), CREDENTIALS, NOW)
        assert "token" not in repr((signed.headers, signed.query)).lower()


@pytest.mark.parametrize("use_headers", ["on", "off"])
def test_headers_that_a_proxy_may_change_are_not_signed(use_headers: str) -> None:
    plain = S3Request("GET", "https", HOST, "/k")
    ranged = S3Request("GET", "https", HOST, "/k", (), (("Range", "bytes=0-9"), ("If-None-Match", '"e"')))
    one, other = (sign(request, context(S3UseHeaders=use_headers), CREDENTIALS, NOW) for request in (plain, ranged))
    assert header(one, "Authorization") == header(other, "Authorization")
    assert one.query == other.query


def test_amz_headers_and_content_type_are_signed() -> None:
    # S3 rejects a request with an unsigned x-amz- header.
    extra = (("X-Amz-Request-Payer", "requester"), ("Content-Type", "text/plain"))
    request = S3Request("GET", "https", HOST, "/k", (), extra)
    signed = sign(request, context(S3UseHeaders="on"), CREDENTIALS, NOW)
    names = "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-request-payer,"
    assert names in str(header(signed, "Authorization"))
    assert header(signed, "x-amz-request-payer") == "requester"
    signed = sign(request, context(), CREDENTIALS, NOW)
    assert ("X-Amz-SignedHeaders", "content-type%3Bhost%3Bx-amz-request-payer") in signed.query
    assert signed.headers == extra


def test_an_existing_signature_is_replaced() -> None:
    request = S3Request("GET", "https", HOST, "/k", (), (("Range", "bytes=0-9"),))
    signed = sign(request, context(S3UseHeaders="on"), TEMPORARY, NOW - timedelta(hours=1))
    assert sign(signed, context(S3UseHeaders="on"), CREDENTIALS, NOW) == sign(
        request, context(S3UseHeaders="on"), CREDENTIALS, NOW
    )
    # S3 rejects a request with two signatures.
    assert sign(signed, context(), CREDENTIALS, NOW).headers == (("Range", "bytes=0-9"),)


def test_payload_hash_of_a_body() -> None:
    request = S3Request("PUT", "https", HOST, "/k")
    signed = sign(request, context(S3UseHeaders="on"), CREDENTIALS, NOW, "UNSIGNED-PAYLOAD")
    assert header(signed, "x-amz-content-sha256") == "UNSIGNED-PAYLOAD"
    assert header(signed, "Authorization") != header(
        sign(request, context(S3UseHeaders="on"), CREDENTIALS, NOW), "Authorization"
    )


@pytest.mark.parametrize("region", ["us-east-1", None])
@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=2))])
def test_a_time_that_is_not_utc_is_rejected(region: str | None, zone: timezone | None) -> None:
    variables = {"S3Region": region} if region else {}
    parsed = from_environ({"S3BucketURL": f"https://{HOST}/", "S3AccessKey": "A", "S3SecretKey": SECRET, **variables})
    with pytest.raises(ValueError, match="utc"):
        sign(S3Request("GET", "https", HOST, "/k"), parsed.signing, CREDENTIALS, datetime(2013, 5, 24, tzinfo=zone))


def test_templates_of_uploads_are_not_cached() -> None:
    before = sigv4._daily_header_template.cache_info().currsize, sigv4._template_at.cache_info().currsize
    request = S3Request("PUT", "https", "b.example", "/a", (), (("Content-Type", "video/mp4"),))
    for number in range(50):
        sigv4.sign_headers(request, Credentials("A", SECRET), "us-east-1", NOW, f"{number:064x}")
        sigv4.sign_query(request._replace(headers=(("x-amz-a", str(number)),)), Credentials("A", SECRET), "r", NOW, 60)
    assert (sigv4._daily_header_template.cache_info().currsize, sigv4._template_at.cache_info().currsize) == before


def test_signing_keys_are_different() -> None:
    # If the cache ignored an argument, requests would be signed for another account, day, region or service.
    keys = {
        sigv4.signing_key(secret, date, region, service)
        for secret in (SECRET, SECRET.lower())
        for date in ("20130524", "20130525")
        for region in ("us-east-1", "eu-central-1")
        for service in ("s3", "sts")
    }
    assert len(keys) == 16
    assert sigv4.signing_key.cache_info().maxsize


def test_a_secret_key_that_is_not_utf_8() -> None:
    # Such bytes are surrogates in Python; a strict encode() would raise an exception that contains the secret key.
    credentials = Credentials(access_key="A", secret_key="s3cret\udce9", security_token=None)
    assert header(
        sign(S3Request("GET", "https", HOST, "/k"), context(S3UseHeaders="on"), credentials, NOW), "Authorization"
    )


@pytest.mark.parametrize("use_headers", ["on", "off"])
def test_a_token_that_is_not_utf_8(use_headers: str) -> None:
    # The exception would contain the token, or all that is signed.
    credentials = Credentials(access_key="A", secret_key="s", security_token="t0ken\udce9")
    assert sign(S3Request("GET", "https", HOST, "/k"), context(S3UseHeaders=use_headers), credentials, NOW)
