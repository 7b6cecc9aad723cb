"""The secrets that must not be in any log or response: secret keys, session tokens, signing keys, signatures.

The tests' own clients and servers search everything that they receive: logs, bodies, headers (tests/wsgi.py,
tests/httpd/server.py). tests/httpd/test_secret_scan.py searches what only a running server shows.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import quote

from usp_s3_wsgi.signing import sigv4

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "AQoDYXdzEJr//session+token=="
#: Signatures of both versions, in headers and in queries, percent-encoded or not.
_SIGNATURE = re.compile(
    rb"Signature=(?!0{64})[0-9A-Za-z%/+]{25,}|AWS [!-9;-~]+:[0-9A-Za-z+/]{27}=|Credential=[^,\s]+, ?SignedHeaders"
)


@lru_cache(maxsize=1)
def _secrets() -> re.Pattern[bytes]:
    """Return a pattern for each secret, in each encoding; the signing keys are those of yesterday to tomorrow."""
    forms = {
        text.encode() for secret in (SECRET_KEY, TOKEN) for text in (secret, quote(secret, safe=""), quote(secret))
    }
    today = datetime.now(UTC)
    for day in (today - timedelta(1), today, today + timedelta(1)):
        for region in ("eu-central-1", "us-east-1", "r", ""):
            key = sigv4.signing_key(SECRET_KEY, day.strftime("%Y%m%d"), region)
            forms |= {key, key.hex().encode(), base64.b64encode(key), repr(key)[2:-1].encode()}
    return re.compile(b"|".join(re.escape(form) for form in sorted(forms)))


def leaks(text: bytes | str) -> list[bytes]:
    """Return an excerpt around each secret in the text; of the secret itself only the first bytes."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    found = [match[0] for pattern in (_secrets(), _SIGNATURE) for match in pattern.finditer(data)]
    return [data[max(0, data.find(secret) - 40) : data.find(secret) + 12] for secret in found]
