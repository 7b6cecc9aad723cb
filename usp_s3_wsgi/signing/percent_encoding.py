"""Percent-encoding by the rules of Amazon S3, the same for what is sent and what is signed."""

from __future__ import annotations

from typing import Literal

#: The characters that are never encoded: https://www.rfc-editor.org/rfc/rfc3986#section-2.3
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def _table(kept: str) -> tuple[str, ...]:
    return tuple(chr(byte) if chr(byte) in kept else f"%{byte:02X}" for byte in range(256))


_COMPONENT = _table(UNRESERVED)
_PATH = _table(UNRESERVED + "/")


def percent_encode(data: bytes, safe: Literal["/", ""] = "/") -> str:
    """Percent-encode bytes once.

    ``A-Z a-z 0-9 - . _ ~`` stay, and so does ``/`` if it is ``safe`` (in a path, but not in a query). Every other
    byte, a space and ``+`` and ``%`` among them, becomes ``%XX`` in uppercase hex. The result is ASCII.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html (UriEncode)
    """
    # Latin-1 makes one character of each byte, so that one pass of str.translate in C encodes any bytes.
    return data.decode("latin-1").translate(_PATH if safe else _COMPONENT)
