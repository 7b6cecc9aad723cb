"""Versions: https://docs.aws.amazon.com/AmazonS3/latest/userguide/RetrievingObjectVersions.html, DeleteMarker.html."""

from __future__ import annotations

from tests.servers.answer import Want, status
from tests.servers.battery.case import Case, Object

KEY, FIRST, SECOND = b"film+1.mp4", b"the first version", b"the second"
DELETED = b"deleted.mp4"
OBJECTS = [
    Object(KEY, SECOND, kind="versions", earlier=FIRST),
    Object(DELETED, SECOND, kind="versions", earlier=FIRST, is_deleted=True),
]


def case(name: str, key: bytes, query: str, *wants: Want) -> Case:
    """A request whose ``versionId`` S3PassQuery lets through."""
    return Case("versions", name, key, wants, kind="versions", query=query)


def of(body: bytes, version: str) -> Want:
    """This version, and S3PassHeaders says which it is."""
    return Want((200,), body, {"x-amz-version-id": version})


UNVERSIONED = Object(KEY, FIRST, kind="unversioned")
OBJECTS.append(UNVERSIONED)
CASES = [
    case("none asked for", KEY, "", of(SECOND, "{second}")),
    case("the newest", KEY, "versionId={second}", of(SECOND, "{second}")),
    case("an earlier one", KEY, "versionId={first}", of(FIRST, "{first}")),
    case("of another object", KEY, "versionId={other}", *status(400, 404)),
    case("no version's id", KEY, "versionId=no-such-version", *status(400, 404)),
    case("of an object that is not there", b"nothing", "versionId=no-such-version", *status(400, 404)),
    case("a deleted object", DELETED, "", *status(404)),
    case("its delete marker", DELETED, "versionId={marker}", *status(404, 405)),
    case("a version before it was deleted", DELETED, "versionId={first}", of(FIRST, "{first}")),
    Case(
        "versions", "no version's id, in a bucket without versions", KEY, status(400, 404), kind="unversioned",
        query="versionId=no-such-version",
    ),
    Case(
        "versions", "the id null, in a bucket without versions", KEY, (Want((200,), FIRST),), kind="unversioned",
        query="versionId=null",
    ),
]  # fmt: skip
