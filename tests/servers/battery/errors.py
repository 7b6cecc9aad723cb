"""Error responses: 4xx for a fault of the client, 502 for a fault of this server.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
"""

from __future__ import annotations

from tests.servers.battery.case import Case, Object
from tests.servers.response import Expected, status

FILE, INNER = b"a-file", b"a-folder/inner.txt"
OBJECTS = [Object(FILE, b"a file"), Object(INNER, b"inner")]
OBJECTS += [
    Object(FILE, b"a file", kind=kind) for kind in ("denied", "denied-404", "wrong-access-key", "wrong-secret-key")
]
SUBJECT = "errors"
#: The error codes for wrong keys.
_KEY_CODES = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})


def s3_error(statuses: tuple[int, ...], *codes: str) -> tuple[Expected, ...]:
    """The error response of S3."""
    return (Expected(statuses, codes=frozenset(codes)),)


_NO_KEY, _DENIED = s3_error((404,), "NoSuchKey"), s3_error((403,), "AccessDenied")
CASES = [
    Case(SUBJECT, "no such object", b"nothing", status(404), s3=_NO_KEY),
    Case(SUBJECT, "no such object, an unusual name", b"no thing+%2F&\xc3\xa9", status(404), s3=_NO_KEY),
    Case(SUBJECT, "a key below an object", FILE + b"/x", status(404), s3=_NO_KEY),
    Case(SUBJECT, "a prefix instead of an object", b"a-folder", status(404), s3=_NO_KEY),
    Case(SUBJECT, "a prefix instead of an object, with a slash", b"a-folder/", status(404), s3=_NO_KEY),
    Case(SUBJECT, "the bucket itself", b"", status(404), s3=status(200)),
    Case(SUBJECT, "a key of 1,025 bytes", b"x" * 205 + b"/" + b"/".join([b"x" * 204] * 4), status(400, 404)),
    Case(SUBJECT, "a name of 1,500 bytes", b"x" * 1500, status(400, 404)),
    # A response to HEAD has no error code: the client gets either status.
    Case(
        SUBJECT, "no such bucket", FILE, status(502), kind="missing", head=status(502, 404),
        s3=s3_error((404,), "NoSuchBucket"),
    ),
    Case(
        SUBJECT, "a wrong access key", FILE, status(502), kind="wrong-access-key", head=status(502, 403),
        s3=s3_error((403,), *_KEY_CODES),
    ),
    Case(
        SUBJECT, "a wrong secret key", FILE, status(502), kind="wrong-secret-key", head=status(502, 403),
        s3=s3_error((403,), *_KEY_CODES),
    ),
    Case(SUBJECT, "denied", FILE, status(403), kind="denied", s3=_DENIED),
    Case(SUBJECT, "denied, and S3DeniedStatus 404", FILE, status(404), kind="denied-404", s3=_DENIED),
]  # fmt: skip
