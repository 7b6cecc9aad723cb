"""Refusals: what is the client's fault is a 4xx, what is this server's a 502.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
"""

from __future__ import annotations

from tests.servers.answer import Want, status
from tests.servers.battery.case import Case, Object

FILE, INNER = b"a-file", b"a-folder/inner.txt"
OBJECTS = [Object(FILE, b"a file"), Object(INNER, b"inner")]
OBJECTS += [
    Object(FILE, b"a file", kind=kind) for kind in ("denied", "denied-404", "wrong-access-key", "wrong-secret-key")
]
SUBJECT = "errors"
#: S3 gives these keys' refusals no other codes.
_KEY_CODES = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})


def refused(statuses: tuple[int, ...], *codes: str) -> tuple[Want, ...]:
    """What S3 answers itself."""
    return (Want(statuses, codes=frozenset(codes)),)


_NO_KEY, _DENIED = refused((404,), "NoSuchKey"), refused((403,), "AccessDenied")
CASES = [
    Case(SUBJECT, "no such object", b"nothing", status(404), s3=_NO_KEY),
    Case(SUBJECT, "no such object, an odd name", b"no thing+%2F&\xc3\xa9", status(404), s3=_NO_KEY),
    Case(SUBJECT, "an object for a folder", FILE + b"/x", status(404), s3=_NO_KEY),
    Case(SUBJECT, "a folder for an object", b"a-folder", status(404), s3=_NO_KEY),
    Case(SUBJECT, "a folder for an object, with a slash", b"a-folder/", status(404), s3=_NO_KEY),
    Case(SUBJECT, "the bucket itself", b"", status(404), s3=status(200)),
    Case(SUBJECT, "a key of 1,025 bytes", b"x" * 205 + b"/" + b"/".join([b"x" * 204] * 4), status(400, 404)),
    Case(SUBJECT, "a name of 1,500 bytes", b"x" * 1500, status(400, 404)),
    # A HEAD has no body that would tell which.
    Case(
        SUBJECT, "no such bucket", FILE, status(502), kind="missing", head=status(502, 404),
        s3=refused((404,), "NoSuchBucket"),
    ),
    Case(
        SUBJECT, "a wrong access key", FILE, status(502), kind="wrong-access-key", head=status(502, 403),
        s3=refused((403,), *_KEY_CODES),
    ),
    Case(
        SUBJECT, "a wrong secret key", FILE, status(502), kind="wrong-secret-key", head=status(502, 403),
        s3=refused((403,), *_KEY_CODES),
    ),
    Case(SUBJECT, "denied", FILE, status(403), kind="denied", s3=_DENIED),
    Case(SUBJECT, "denied, and S3DeniedStatus 404", FILE, status(404), kind="denied-404", s3=_DENIED),
]  # fmt: skip
