"""A minimal S3 client that can fill a bucket: http.client and Signature v2 in headers.

It shares no code with the package. http.client sends a target unchanged; the usual HTTP libraries
change "//", "%2F", ".." and the like.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import re
import ssl
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import IO
from urllib.parse import quote

TIMEOUT = 60.0
BLOCK = 1 << 20


class S3Error(RuntimeError):
    """The embedded S3 did not start, or a request to it failed."""


@dataclass(frozen=True)
class User:
    """A key pair with its own account, and the buckets of this account."""

    access_key: str
    secret_key: str
    buckets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # They are written to an ini file, in which other characters have a meaning.
        for value in (self.access_key, self.secret_key):
            if not re.fullmatch(r"[A-Za-z0-9/+=._-]+", value):
                raise ValueError("a key may only contain letters, digits and / + = . _ -")

    def authorization(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        """The Authorization header (Signature v2) of a request without sub-resources."""
        lowercase = {name.lower(): value.strip() for name, value in headers.items()}
        amz = "".join(f"{name}:{lowercase[name]}\n" for name in sorted(lowercase) if name.startswith("x-amz-"))
        content = f"{lowercase.get('content-md5', '')}\n{lowercase.get('content-type', '')}"
        string_to_sign = f"{method}\n{content}\n{lowercase['date']}\n{amz}{target}"
        digest = hmac.new(self.secret_key.encode(), string_to_sign.encode("latin-1"), hashlib.sha1).digest()
        return f"AWS {self.access_key}:{base64.b64encode(digest).decode()}"


class Client:
    """A client with one connection per request and path-style URLs."""

    def __init__(self, host: str, port: int, *, tls: bool) -> None:
        self._host, self._port = host, port
        self._context: ssl.SSLContext | None = None
        if tls:
            # The server is a child process on loopback; in some tests its certificate is invalid on purpose.
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    def put(
        self,
        user: User,
        bucket: str,
        key: str | bytes,
        data: bytes | Path | Iterable[bytes],
        length: int | None,
        headers: Mapping[str, str],
    ) -> None:
        """Store an object, with a Content-Length and without reading it into memory."""
        with ExitStack() as stack:
            body: bytes | IO[bytes] | Iterable[bytes] = data if not isinstance(data, Path) else b""
            if isinstance(data, Path):
                body = stack.enter_context(data.open("rb"))
                length = data.stat().st_size
            elif isinstance(data, bytes):
                length = len(data)
            elif length is None:
                raise ValueError("data from an iterator needs its length")
            self._send(user, "PUT", bucket, key, {**headers, "Content-Length": str(length)}, body)

    def delete(self, user: User, bucket: str, key: str | bytes) -> None:
        """Delete an object."""
        self._send(user, "DELETE", bucket, key, {}, None)

    def _send(
        self,
        user: User,
        method: str,
        bucket: str,
        key: str | bytes,
        headers: Mapping[str, str],
        body: bytes | IO[bytes] | Iterable[bytes] | None,
    ) -> None:
        if not key:
            raise ValueError("an empty key names the bucket, not an object")
        target = f"/{quote(bucket, safe='')}/{quote(key, safe='/~')}"
        signed = {**headers, "Date": formatdate(usegmt=True)}
        signed["Authorization"] = user.authorization(method, target, signed)
        with closing(self._connection()) as connection:
            # The server rejected the request before the body was sent completely: the response says why.
            with suppress(BrokenPipeError):
                connection.request(method, target, body, signed)
            response = connection.getresponse()
            body_text = response.read()
        if response.status // 100 != 2:
            raise S3Error(f"{method} {target}: {response.status} {body_text[:500].decode('utf-8', 'replace')}")

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT, blocksize=BLOCK)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT, blocksize=BLOCK, context=self._context
        )
