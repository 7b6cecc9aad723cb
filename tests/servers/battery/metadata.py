"""What is stored beside the bytes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html."""

from __future__ import annotations

from tests.servers.answer import Want
from tests.servers.battery.case import Case, Object

BODY = b"this has metadata"
SYSTEM = {
    "Content-Type": "video/mp4; codecs=avc1",
    "Content-Encoding": "gzip",
    "Content-Language": "nl, en",
    "Content-Disposition": "attachment; filename=\"a b.mp4\"; filename*=UTF-8''%e2%98%95.mp4",
    "Cache-Control": "public, max-age=60, s-maxage=3600",
    "Expires": "Wed, 01 Dec 2094 16:00:00 GMT",
}
OWN = {"x-amz-meta-title": "a film", "x-amz-meta-odd": "a=b; c,d", "x-amz-meta-with-dashes-1": "1"}


def several(count: int) -> dict[str, str]:
    """Fields of the user's own, within S3's 2 KB."""
    return {f"x-amz-meta-f{number}": "v" for number in range(count)}


SETS = {**{name: {name: value} for name, value in SYSTEM.items()}, "fields of the user's own": OWN}
SETS |= {"60 fields": several(60), "150 fields": several(150)}
KEYS = {name: f"metadata-{number}.bin".encode() for number, name in enumerate(SETS)}
OBJECTS = [Object(KEYS[name], BODY, headers, kind="metadata") for name, headers in SETS.items()]
#: Without S3PassHeaders the client gets none of it.
HIDDEN = Object(b"hidden.bin", BODY, OWN)
OBJECTS.append(HIDDEN)


def lower(headers: dict[str, str]) -> dict[str, str]:
    """By names in lowercase."""
    return {name.lower(): value for name, value in headers.items()}


CASES = [
    *[
        Case("metadata", name, KEYS[name], (Want((200,), BODY, lower(headers)),), kind="metadata")
        for name, headers in SETS.items()
    ],
    Case(
        "metadata", "fields of the user's own, without S3PassHeaders", HIDDEN.key,
        (Want((200,), BODY, dict.fromkeys(OWN)),), s3=(Want((200,), BODY),),
    ),
    Case(
        "metadata", "a type that the client asks for", KEYS["Content-Type"],
        (Want((200,), BODY, {"content-type": "text/plain"}),), kind="metadata",
        query="response-content-type=text%2Fplain",
    ),
]  # fmt: skip
