"""Versions: https://docs.aws.amazon.com/AmazonS3/latest/userguide/RetrievingObjectVersions.html, DeleteMarker.html."""

from __future__ import annotations

from tests.servers.battery.case import Case, Object
from tests.servers.response import Expected, status

KEY, FIRST, SECOND = b"film+1.mp4", b"the first version", b"the second"
DELETED = b"deleted.mp4"
OBJECTS = [
    Object(KEY, SECOND, kind="versions", earlier=FIRST),
    Object(DELETED, SECOND, kind="versions", earlier=FIRST, is_deleted=True),
]


def case(name: str, key: bytes, query: str, *expected: Expected) -> Case:
    """A request to a bucket with ``S3PassQuery versionId``."""
    return Case("versions", name, key, expected, kind="versions", query=query)


def version_response(body: bytes, version: str) -> Expected:
    """This version, with its ID in the header of S3PassHeaders."""
    return Expected((200,), body, {"x-amz-version-id": version})


UNVERSIONED = Object(KEY, FIRST, kind="unversioned")
OBJECTS.append(UNVERSIONED)
CASES = [
    case("no versionId", KEY, "", version_response(SECOND, "{second}")),
    case("the newest version", KEY, "versionId={second}", version_response(SECOND, "{second}")),
    case("an earlier version", KEY, "versionId={first}", version_response(FIRST, "{first}")),
    case("a version of another object", KEY, "versionId={other}", *status(400, 404)),
    case("an invalid version ID", KEY, "versionId=no-such-version", *status(400, 404)),
    case("a version of an object that does not exist", b"nothing", "versionId=no-such-version", *status(400, 404)),
    case("a deleted object", DELETED, "", *status(404)),
    case("a delete marker", DELETED, "versionId={marker}", *status(404, 405)),
    case("a version of a deleted object", DELETED, "versionId={first}", version_response(FIRST, "{first}")),
    Case(
        "versions", "an invalid version ID, bucket without versioning", KEY, status(400, 404), kind="unversioned",
        query="versionId=no-such-version",
    ),
    Case(
        "versions", "version ID null, bucket without versioning", KEY, (Expected((200,), FIRST),), kind="unversioned",
        query="versionId=null",
    ),
]  # fmt: skip
