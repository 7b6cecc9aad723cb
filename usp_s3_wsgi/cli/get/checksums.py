"""The checksums of a download: SHA-256, and those that S3 has of the object.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

#: The header that makes S3 send the checksums that it has.
CHECKSUM_MODE = ("x-amz-checksum-mode", "ENABLED")
_PREFIX = "x-amz-checksum-"
#: Names of headers that are no checksums.
_NO_CHECKSUMS = frozenset({"x-amz-checksum-type", "x-amz-checksum-mode", "x-amz-checksum-algorithm"})
#: What Python's standard library computes fast. It has neither CRC32C nor CRC64NVME.
_HASHES = ("sha1", "sha256", "sha512", "md5")
_MD5_ETAG = re.compile(r'"([0-9a-f]{32})"')
_AMAZON = re.compile(r"(?:.+\.)?s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?")
#: Hosts of Amazon whose objects are not those that were uploaded, or whose ETag is no MD5.
_OTHER_AMAZON = re.compile(r"s3-object-lambda|--x-s3|s3express|vpce")


class Check(NamedTuple):
    """A checksum that was compared. ``reason``: why it could not be, or what differs."""

    name: str
    result: Literal["equal", "different", "not checked"]
    reason: str = ""

    @property
    def is_different(self) -> bool:
        """Whether the bytes are not those that were stored."""
        return self.result == "different"


class _Digest(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


class _CRC32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class Digests:
    """The digests of bytes as they arrive: SHA-256, and those that can be compared with the headers."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._digests: dict[str, _Digest] = {"sha256": hashlib.sha256()}
        for name in [name.removeprefix(_PREFIX) for name in headers if name.startswith(_PREFIX)]:
            if name == "crc32":
                self._digests[name] = _CRC32()
            elif name in _HASHES and name not in self._digests:
                self._digests[name] = hashlib.new(name, usedforsecurity=False)
        if _MD5_ETAG.fullmatch(headers.get("etag", "")):
            self._digests.setdefault("md5", hashlib.new("md5", usedforsecurity=False))

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        for digest in self._digests.values():
            digest.update(data)

    def of(self, name: str) -> bytes | None:
        """Return a digest, None if it is not computed."""
        return self._digests[name].digest() if name in self._digests else None

    @property
    def sha256(self) -> str:
        """SHA-256 in hexadecimal digits."""
        return self._digests["sha256"].digest().hex()


def check(headers: Mapping[str, str], digests: Digests, url: str) -> list[Check]:
    """Compare the checksums in the headers of a whole object. What is not certain to be one is no reason for alarm."""
    is_composite = headers.get("x-amz-checksum-type", "").upper() == "COMPOSITE"
    names = [name for name in headers if name.startswith(_PREFIX) and name not in _NO_CHECKSUMS]
    checks = [_check_header(name.removeprefix(_PREFIX), headers[name], digests, is_composite) for name in names]
    return [*checks, _check_etag(headers, digests, url)]


def _check_header(name: str, value: str, digests: Digests, is_composite: bool) -> Check:
    shown = name.upper()
    if is_composite or "-" in value:
        return Check(shown, "not checked", "it is a checksum of the parts of a multipart upload")
    computed = digests.of(name)
    if computed is None:
        return Check(shown, "not checked", "Python's standard library does not compute it")
    own = base64.b64encode(computed).decode()
    return Check(shown, "equal") if own == value else Check(shown, "different", f"S3 has {value}, the bytes {own}")


def _check_etag(headers: Mapping[str, str], digests: Digests, url: str) -> Check:
    etag = headers.get("etag", "")
    match, computed = _MD5_ETAG.fullmatch(etag), digests.of("md5")
    if match is None or computed is None:
        if not etag:
            return Check("ETag", "not checked", "the response has none")
        is_multipart = re.fullmatch(r'"[0-9a-f]{32}-\d+"', etag)
        return Check("ETag", "not checked", "it is that of a multipart upload" if is_multipart else "it is no MD5")
    if match[1] == computed.hex():
        return Check("ETag", "equal", "it is the MD5 of the bytes")
    if not _is_certainly_md5(headers, url):
        return Check("ETag", "not checked", "it is not the MD5 of the bytes, and need not be with this server")
    return Check("ETag", "different", f"S3 has {match[1]}, the bytes have the MD5 {computed.hex()}")


def _is_certainly_md5(headers: Mapping[str, str], url: str) -> bool:
    """Whether the ETag is the MD5 of what S3 has stored.

    Other servers make ETags of this form in other ways: Swift of the segments of a large object, MinIO of encrypted
    ones. https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    host = urlsplit(url).hostname or ""
    return (
        headers.get("server") == "AmazonS3"
        and _AMAZON.fullmatch(host) is not None
        and _OTHER_AMAZON.search(host) is None
        and headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
        and "x-amz-server-side-encryption-customer-algorithm" not in headers
        and "content-encoding" not in headers
    )
