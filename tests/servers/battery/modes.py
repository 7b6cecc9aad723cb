"""Each way of signing: a whole object, a part of it, nothing new, nothing there."""

from __future__ import annotations

from tests.servers.answer import Want, status
from tests.servers.battery.case import Case, Object

SUBJECT = "ways of signing"
#: A server that does not answer this does not know the signature.
PLAIN = Object(b"plain.txt", b"this is plain.txt", {"Content-Type": "text/plain", "Cache-Control": "max-age=60"})
OBJECTS = [PLAIN]
CASES = [
    Case(
        SUBJECT, "an object", PLAIN.key,
        (Want((200,), PLAIN.body, {"content-type": "text/plain", "x-amz-request-id": None, "set-cookie": None}),),
        s3=(Want((200,), PLAIN.body, {"content-type": "text/plain"}),),
    ),
    Case(
        SUBJECT, "a part of it", PLAIN.key,
        (Want((206,), PLAIN.body[5:8], {"content-range": f"bytes 5-7/{len(PLAIN.body)}"}),),
        headers={"Range": "bytes=5-7"}, head=(Want((200,), PLAIN.body),),
    ),
    Case(SUBJECT, "nothing new", PLAIN.key, (Want((304,), b""),), headers={"If-None-Match": "{etag}"}),
    Case(SUBJECT, "nothing there", b"nothing", status(404)),
]  # fmt: skip
