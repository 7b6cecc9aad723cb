"""Each signing mode: a whole object, a range, a 304, a 404."""

from __future__ import annotations

from tests.servers.battery.case import Case, Object
from tests.servers.response import Expected, status

SUBJECT = "signing modes"
#: A server that does not serve this object does not support the signing mode.
PLAIN = Object(b"plain.txt", b"this is plain.txt", {"Content-Type": "text/plain", "Cache-Control": "max-age=60"})
OBJECTS = [PLAIN]
CASES = [
    Case(
        SUBJECT, "an object", PLAIN.key,
        (Expected((200,), PLAIN.body, {"content-type": "text/plain", "x-amz-request-id": None, "set-cookie": None}),),
        s3=(Expected((200,), PLAIN.body, {"content-type": "text/plain"}),),
    ),
    Case(
        SUBJECT, "a range", PLAIN.key,
        (Expected((206,), PLAIN.body[5:8], {"content-range": f"bytes 5-7/{len(PLAIN.body)}"}),),
        headers={"Range": "bytes=5-7"}, head=(Expected((200,), PLAIN.body),),
    ),
    Case(SUBJECT, "not modified", PLAIN.key, (Expected((304,), b""),), headers={"If-None-Match": "{etag}"}),
    Case(SUBJECT, "no such object", b"nothing", status(404)),
]  # fmt: skip
