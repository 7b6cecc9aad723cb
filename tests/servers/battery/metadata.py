"""Metadata of objects: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html."""

from __future__ import annotations

from tests.servers.battery.case import Case, Object
from tests.servers.response import Expected

BODY = b"this has metadata"
SYSTEM = {
    "Content-Type": "video/mp4; codecs=avc1",
    "Content-Encoding": "gzip",
    "Content-Language": "nl, en",
    "Content-Disposition": "attachment; filename=\"a b.mp4\"; filename*=UTF-8''%e2%98%95.mp4",
    "Cache-Control": "public, max-age=60, s-maxage=3600",
    "Expires": "Wed, 01 Dec 2094 16:00:00 GMT",
}
USER_METADATA = {"x-amz-meta-title": "a film", "x-amz-meta-odd": "a=b; c,d", "x-amz-meta-with-dashes-1": "1"}


def user_fields(count: int) -> dict[str, str]:
    """User metadata within S3's limit of 2 KB."""
    return {f"x-amz-meta-f{number}": "v" for number in range(count)}


HEADERS = {**{name: {name: value} for name, value in SYSTEM.items()}, "user metadata": USER_METADATA}
HEADERS |= {"user metadata, 60 fields": user_fields(60), "user metadata, 150 fields": user_fields(150)}
KEYS = {name: f"metadata-{number}.bin".encode() for number, name in enumerate(HEADERS)}
OBJECTS = [Object(KEYS[name], BODY, headers, kind="metadata") for name, headers in HEADERS.items()]
#: In a bucket without S3PassHeaders: user metadata is not forwarded.
HIDDEN = Object(b"hidden.bin", BODY, USER_METADATA)
OBJECTS.append(HIDDEN)


def lower(headers: dict[str, str]) -> dict[str, str]:
    """The headers with lowercase names."""
    return {name.lower(): value for name, value in headers.items()}


CASES = [
    *[
        Case("metadata", name, KEYS[name], (Expected((200,), BODY, lower(headers)),), kind="metadata")
        for name, headers in HEADERS.items()
    ],
    Case(
        "metadata", "user metadata, without S3PassHeaders", HIDDEN.key,
        (Expected((200,), BODY, dict.fromkeys(USER_METADATA)),), s3=(Expected((200,), BODY),),
    ),
    Case(
        "metadata", "response-content-type", KEYS["Content-Type"],
        (Expected((200,), BODY, {"content-type": "text/plain"}),), kind="metadata",
        query="response-content-type=text%2Fplain",
    ),
]  # fmt: skip
