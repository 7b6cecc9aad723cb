"""What must stand in nothing that is written: secret keys, session tokens, signing keys, signatures.

The tests' own clients and servers look for it in all that passes them: logs, pages, headers (tests/wsgi.py,
tests/httpd/server.py); tests/httpd/test_secret_scan.py in what only a running server shows.
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
#: Of both versions, in headers and in queries, whether they are encoded or not.
_SIGNATURE = re.compile(
    rb"Signature=(?!0{64})[0-9A-Za-z%/+]{25,}|AWS [!-9;-~]+:[0-9A-Za-z+/]{27}=|Credential=[^,\s]+, ?SignedHeaders"
)


@lru_cache(maxsize=1)
def _known() -> re.Pattern[bytes]:
    """Each secret in the forms that it may be written in; the signing keys are those of these days."""
    forms = {
        text.encode() for secret in (SECRET_KEY, TOKEN) for text in (secret, quote(secret, safe=""), quote(secret))
    }
    today = datetime.now(UTC)
    for day in (today - timedelta(1), today, today + timedelta(1)):
        for region in ("eu-central-1", "us-east-1", "r", ""):
            key = sigv4.signing_key(SECRET_KEY, day.strftime("%Y%m%d"), region)
            forms |= {key, key.hex().encode(), base64.b64encode(key), repr(key)[2:-1].encode()}
    return re.compile(b"|".join(re.escape(form) for form in sorted(forms)))


def leaks(written: bytes | str) -> list[bytes]:
    """Return what of it must not be there, as much of each as does no harm."""
    data = written.encode("utf-8", "surrogateescape") if isinstance(written, str) else written
    found = [match[0] for pattern in (_known(), _SIGNATURE) for match in pattern.finditer(data)]
    return [data[max(0, data.find(one) - 40) : data.find(one) + 12] for one in found]
