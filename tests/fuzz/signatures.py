"""The signatures of all four modes: equal to botocore's for any key, query, token, host and time.

``tests/unit/test_signing_botocore.py`` compares them; here the inputs follow the code's branches.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from tests.fuzz.target import Target, fields, join
from tests.unit import test_signing_botocore as botocore_comparison
from tests.unit.test_signing_botocore import Scenario
from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.signing.types import Credentials

_MAX_LENGTH = 16_384
#: Object parameters, those of Signature v2's list of subresources, and others.
_NAMES = (
    "versionId", "partNumber", "acl", "torrent", "tagging", "uploadId", "response-content-type",
    "response-content-disposition", "response-cache-control", "response-expires", "prefix", "max-keys", "x-id",
)  # fmt: skip
_FIRST_SECOND = datetime(2000, 1, 1, tzinfo=UTC)
_SECONDS_OF_A_CENTURY = 100 * 365 * 24 * 3600
_REGIONS = ("us-east-1", "eu-central-1", "default", "x_Y-1")


def check(data: bytes) -> None:
    options, url, key, query, access_key, secret_key, token, second, content_type = fields(data, 9)
    choice = sum(options)
    credentials = Credentials(_printable(access_key) or "A", _printable(secret_key) or "S", _printable(token) or None)
    bucket = _bucket(url.decode("latin-1"))
    scenario = Scenario(
        "HEAD" if choice & 1 else "GET",
        bucket or ("https://s3.amazonaws.com/my-bucket/", None),
        key,
        _query(query),
        (("Range", "bytes=0-"),) if choice & 2 else (),
        _signed_headers(content_type, bool(choice & 4)),
        _FIRST_SECOND + timedelta(seconds=int.from_bytes(second[:5], "big") % _SECONDS_OF_A_CENTURY),
        credentials,
        _REGIONS[choice % len(_REGIONS)],
        1 + choice * 2_371 % 604_800,
    )
    botocore_comparison.check_v4_headers(scenario, bool(choice & 8))
    botocore_comparison.check_v4_query(scenario)
    scenario.region = None
    botocore_comparison.check_v2_headers(scenario)
    botocore_comparison.check_v2_query(scenario)


def _bucket(text: str) -> tuple[str, str | None] | None:
    """Return the URL and the bucket's name if the host has it; None if it is no URL of a bucket."""
    try:
        url = bucket_url.parse(text)
    except ValueError:
        return None
    return (text, None if url.path_style else url.bucket) if url.bucket else None


def _query(data: bytes) -> tuple[tuple[str, str], ...]:
    """Parameters with different names, as those of a request are; the first byte of each part chooses its name."""
    parts = [part for part in data.split(b"&") if part]
    return tuple({_NAMES[part[0] % len(_NAMES)]: part[1:].decode("utf-8", "replace") for part in parts}.items())


def _signed_headers(content_type: bytes, has_request_payer: bool) -> tuple[tuple[str, str], ...]:
    value = re.sub("[^ -~\t]", "", content_type.decode("latin-1"))
    headers = (("Content-Type", value), ("x-amz-meta-a", value)) if value.strip() else ()
    return (*headers, ("x-amz-request-payer", "requester")) if has_request_payer else headers


def _printable(data: bytes) -> str:
    """What the settings allow for a key or a token."""
    return re.sub("[^!-~]", "", data.decode("latin-1"))


_HOSTS = (
    b"https://mybucket.s3.eu-central-1.amazonaws.com/", b"http://mybucket.s3.eu-central-1.amazonaws.com:8080/a/b",
    b"https://s3.amazonaws.com/my-bucket/", b"http://127.0.0.1:9000/my-bucket/", b"https://[::1]:8443/my-bucket/",
    b"http://localhost:443/my-bucket/%C3%A9/", b"https://storage.googleapis.com/b/", b"https://B.S3.amazonaws.com:443",
)  # fmt: skip
_KEYS = (
    b"film.mp4", b"//a+b%2F \xff", "é/ü~".encode(), b"\0\n\x7f", b"a" * 1_024, b" " * 8_000, b"/" * 8_000, b"%" * 4_000,
)  # fmt: skip
TARGET = Target(
    check,
    (
        b"",
        *(join(bytes([7]), url, b"k", b"\0a+b/c=", b"AK", b"s+/=", b"t+/==", b"\x2f\x00\x00\x00") for url in _HOSTS),
        *(join(b"\0", b"", key, b"\0" + key[:200], b"AK/IA", b"s") for key in _KEYS),
        *(join(bytes([number]), b"", b"k", bytes([number]) + b"=&\x01", b"A" * 40, b"S") for number in range(13)),
        join(b"\4", b"", b"k", b"", b"A", b"S" * 4_000, b"t" * 4_000, b"\xff" * 5, b"  text/plain;  charset=utf-8 "),
        join(b"\4", b"", b"k", b"", b"A", b"S", b"", b"", b"x" + b" " * 8_000 + b"\ty"),
    ),
    _MAX_LENGTH,
)
