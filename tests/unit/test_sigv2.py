"""Signature v2: the examples of Amazon's documentation, and the form of a signed request.

https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#RESTAuthenticationExamples
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from usp_s3_wsgi.config.settings import Settings, from_environ
from usp_s3_wsgi.signing import sigv2
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIALS = Credentials(access_key="AKIAIOSFODNN7EXAMPLE", secret_key=SECRET, security_token=None)
TOKEN = "AQoDYXdz//token+with/odd==characters"
TEMPORARY = Credentials(access_key="AKIAIOSFODNN7EXAMPLE", secret_key=SECRET, security_token=TOKEN)
Pairs = list[tuple[str, str]]
#: Method, bucket in the host, path, query, headers, date.
Request = tuple[str, str | None, str, Pairs, Pairs, str]
NOW = datetime(2007, 3, 27, 19, 36, 42, tzinfo=UTC)

UPLOAD = [
    ("User-Agent", "curl/7.15.5"),
    ("x-amz-acl", "public-read"),
    ("content-type", "application/x-download"),
    ("Content-MD5", "4gJE4saaMU4BqNR0kLY+lw=="),
    ("X-Amz-Meta-ReviewedBy", "joe@example.com"),
    ("X-Amz-Meta-ReviewedBy", "jane@example.com"),
    ("X-Amz-Meta-FileChecksum", "0x02661779"),
    ("X-Amz-Meta-ChecksumAlgorithm", "crc32"),
    ("Content-Disposition", "attachment; filename=database.dat"),
    ("Content-Encoding", "gzip"),
    ("Content-Length", "5913339"),
]
JPEG = [("Content-Type", " image/jpeg ")]
LIST = [("prefix", "photos"), ("max-keys", "50"), ("marker", "puppy")]
#: Request, string to sign, signature. The examples with the bucket johnsmith are from older versions of the page.
EXAMPLES: dict[str, tuple[Request, str, str]] = {
    "object GET": (
        ("GET", "awsexamplebucket1", "/photos/puppy.jpg", [], [], "Tue, 27 Mar 2007 19:36:42 +0000"),
        "GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/awsexamplebucket1/photos/puppy.jpg",
        "qgk2+6Sv9/oM7G3qLEjTH1a1l1g=",
    ),
    "object PUT": (
        ("PUT", "awsexamplebucket1", "/photos/puppy.jpg", [], JPEG, "Tue, 27 Mar 2007 21:15:45 +0000"),
        "PUT\n\nimage/jpeg\nTue, 27 Mar 2007 21:15:45 +0000\n/awsexamplebucket1/photos/puppy.jpg",
        "iqRzw+ileNPu1fhspnRs8nOjjIA=",
    ),
    "list": (
        ("GET", "awsexamplebucket1", "/", LIST, [], "Tue, 27 Mar 2007 19:42:41 +0000"),
        "GET\n\n\nTue, 27 Mar 2007 19:42:41 +0000\n/awsexamplebucket1/",
        "m0WP8eCtspQl5Ahe6L1SozdX9YA=",
    ),
    "fetch": (
        ("GET", "awsexamplebucket1", "/", [("acl", "")], [], "Tue, 27 Mar 2007 19:44:46 +0000"),
        "GET\n\n\nTue, 27 Mar 2007 19:44:46 +0000\n/awsexamplebucket1/?acl",
        "82ZHiFIjc+WbcwFKGUVEQspPn+0=",
    ),
    "upload": (
        ("PUT", "static.example.com", "/db-backup.dat.gz", [], UPLOAD, "Tue, 27 Mar 2007 21:06:08 +0000"),
        "PUT\n4gJE4saaMU4BqNR0kLY+lw==\napplication/x-download\nTue, 27 Mar 2007 21:06:08 +0000\n"
        "x-amz-acl:public-read\nx-amz-meta-checksumalgorithm:crc32\nx-amz-meta-filechecksum:0x02661779\n"
        "x-amz-meta-reviewedby:joe@example.com,jane@example.com\n/static.example.com/db-backup.dat.gz",
        "jtBQa0Aq+DkULFI8qrpwIjGEx0E=",
    ),
    "list all my buckets": (
        ("GET", None, "/", [], [], "Wed, 28 Mar 2007 01:29:59 +0000"),
        "GET\n\n\nWed, 28 Mar 2007 01:29:59 +0000\n/",
        "qGdzdERIC03wnaRNKh6OqZehG9s=",
    ),
    "unicode keys": (
        ("GET", None, "/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re", [], [], "Wed, 28 Mar 2007 01:49:49 +0000"),
        "GET\n\n\nWed, 28 Mar 2007 01:49:49 +0000\n/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re",
        "DNEZGsoieTZ92F3bUfSPQcbGmlM=",
    ),
    "object GET, johnsmith": (
        ("GET", "johnsmith", "/photos/puppy.jpg", [], [], "Tue, 27 Mar 2007 19:36:42 +0000"),
        "GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/johnsmith/photos/puppy.jpg",
        "bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
    ),
    "list, johnsmith": (
        ("GET", "johnsmith", "/", LIST, [], "Tue, 27 Mar 2007 19:42:41 +0000"),
        "GET\n\n\nTue, 27 Mar 2007 19:42:41 +0000\n/johnsmith/",
        "htDYFYduRNen8P9ZfE/s9SuKy0U=",
    ),
    "fetch, johnsmith": (
        ("GET", "johnsmith", "/", [("acl", "")], [], "Tue, 27 Mar 2007 19:44:46 +0000"),
        "GET\n\n\nTue, 27 Mar 2007 19:44:46 +0000\n/johnsmith/?acl",
        "c2WLPFtWHVgbEmeEG93a4cG37dM=",
    ),
    "delete, johnsmith, path style": (
        ("DELETE", None, "/johnsmith/photos/puppy.jpg", [], [], "Tue, 27 Mar 2007 21:20:26 +0000"),
        "DELETE\n\n\nTue, 27 Mar 2007 21:20:26 +0000\n/johnsmith/photos/puppy.jpg",
        "lx3byBScXR6KzyMaifNkardMwNk=",
    ),
    "query string, johnsmith": (
        ("GET", "johnsmith", "/photos/puppy.jpg", [], [], "1175139620"),
        "GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg",
        "NpgCjnDzrM+WFzoENXmpNDUsSn8=",
    ),
}


def settings(url: str = "https://johnsmith.s3.amazonaws.com/", **extra: str) -> Settings:
    return from_environ({"S3BucketURL": url, "S3AccessKey": CREDENTIALS.access_key, "S3SecretKey": SECRET, **extra})


def context(url: str = "https://johnsmith.s3.amazonaws.com/", **extra: str) -> SigningContext:
    return settings(url, **extra).signing


def header(request: S3Request, name: str) -> str | None:
    values = [value for key, value in request.headers if key.lower() == name.lower()]
    assert len(values) <= 1, f"{name} is sent {len(values)} times"
    return values[0] if values else None


@pytest.mark.parametrize("example", EXAMPLES)
def test_documented_examples(example: str) -> None:
    (method, bucket, path, query, headers, date), expected, signature = EXAMPLES[example]
    resource = sigv2.canonicalized_resource(path, query, bucket)
    string_to_sign = sigv2.string_to_sign(method, headers, date, resource)
    assert string_to_sign == expected
    assert sigv2.signature(SECRET, string_to_sign) == signature


def test_documented_query_example_as_a_request() -> None:
    request = S3Request("GET", "https", "johnsmith.s3.amazonaws.com", "/photos/puppy.jpg")
    now = datetime.fromtimestamp(1175139620 - 300, UTC)
    assert sign(request, context(), CREDENTIALS, now).target == (
        "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1175139620"
        "&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D"
    )


def test_signature_in_headers() -> None:
    request = S3Request("GET", "https", "johnsmith.s3.amazonaws.com", "/k", (), (("Range", "bytes=0-9"),))
    signed = sign(request, context(S3UseHeaders="on"), TEMPORARY, NOW)
    assert header(signed, "Date") == "Tue, 27 Mar 2007 19:36:42 GMT"
    assert header(signed, "x-amz-security-token") == TOKEN
    assert header(signed, "Range") == "bytes=0-9"
    string_to_sign = f"GET\n\n\nTue, 27 Mar 2007 19:36:42 GMT\nx-amz-security-token:{TOKEN}\n/johnsmith/k"
    assert header(signed, "Authorization") == f"AWS AKIAIOSFODNN7EXAMPLE:{sigv2.signature(SECRET, string_to_sign)}"
    assert signed.query == ()
    assert len(signed.headers) == 4


def test_signature_in_the_query_signs_the_token_as_a_header_and_sends_it_in_the_query() -> None:
    query, headers = (("versionId", "3"),), (("Range", "bytes=0-9"),)
    request = S3Request("GET", "https", "johnsmith.s3.amazonaws.com", "/k", query, headers)
    signed = sign(request, context(S3Expires="60"), TEMPORARY, NOW)
    expires = int(NOW.timestamp()) + 60
    string_to_sign = f"GET\n\n\n{expires}\nx-amz-security-token:{TOKEN}\n/johnsmith/k?versionId=3"
    parameters = dict(signed.query)
    assert parameters.pop("Signature") == percent_encode(sigv2.signature(SECRET, string_to_sign).encode(), "")
    assert parameters == {
        "versionId": "3",
        "AWSAccessKeyId": "AKIAIOSFODNN7EXAMPLE",
        "Expires": str(expires),
        "x-amz-security-token": "AQoDYXdz%2F%2Ftoken%2Bwith%2Fodd%3D%3Dcharacters",
    }
    assert signed.headers == headers


def test_the_bucket_of_path_style_is_not_signed_twice() -> None:
    virtual_host_style = S3Request("GET", "https", "johnsmith.s3.amazonaws.com", "/a%20b")
    path_style = S3Request("GET", "https", "s3.amazonaws.com", "/johnsmith/a%20b")
    one = sign(virtual_host_style, context(), CREDENTIALS, NOW)
    other = sign(path_style, context("https://s3.amazonaws.com/johnsmith/"), CREDENTIALS, NOW)
    assert one.query == other.query


def test_subresources_are_sorted_and_other_parameters_are_not_signed() -> None:
    query = [("versionId", "3"), ("max-keys", "2"), ("response-expires", "x"), ("partNumber", "1"), ("acl", "")]
    expected = "/k?acl&partNumber=1&response-expires=x&versionId=3"
    assert sigv2.canonicalized_resource("/k", query) == expected


def test_subresource_values_are_signed_decoded() -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html: "must not be encoded"
    query = [("response-content-disposition", "attachment%3B%20filename%3D%22a%2Bb%20%C3%A9.mp4%22")]
    resource = sigv2.canonicalized_resource("/a%2Bb", query, "b")
    assert resource == '/b/a%2Bb?response-content-disposition=attachment; filename="a+b é.mp4"'


def test_subresource_values_keep_bytes_that_are_not_utf_8() -> None:
    one, other = (
        sigv2.signature(SECRET, sigv2.canonicalized_resource("/k", [("response-content-type", value)]))
        for value in ("a%E9", "a%E8")
    )
    assert one != other


def test_folded_header_lines_are_unfolded() -> None:
    headers = [("X-Amz-Meta-Note", " one\n   two  three "), ("Range", "bytes=0-9")]
    assert sigv2.canonicalized_amz_headers(headers) == "x-amz-meta-note:one two  three\n"


@pytest.mark.parametrize("use_headers", ["on", "off"])
def test_an_existing_signature_is_replaced(use_headers: str) -> None:
    host = "johnsmith.s3.amazonaws.com"
    stale = (
        ("Authorization", "AWS A:B"),
        ("date", "Mon, 26 Mar 2007 19:36:42 GMT"),
        ("X-Amz-Date", "20070326T193642Z"),
        ("X-Amz-Security-Token", "old"),
    )
    one, other = (
        sign(
            S3Request("GET", "https", host, "/k", (), headers),
            context(S3UseHeaders=use_headers),
            CREDENTIALS,
            NOW,
        )
        for headers in (stale, ())
    )
    assert one == other


def test_a_secret_key_that_is_not_utf_8() -> None:
    # Such bytes are surrogates in Python; a strict encode() would raise an exception that contains the secret key.
    assert sigv2.signature("s3cret\udce9", "GET") != sigv2.signature("s3cret", "GET")
