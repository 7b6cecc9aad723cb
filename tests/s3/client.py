"""The least S3 client that can fill a bucket: http.client and version 2 header signatures.

It shares nothing with the code under test, and http.client sends a target exactly as it is given, which
the usual HTTP libraries do not ("//", "%2F", ".." and the like).
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
    """The embedded S3 did not start, or did not do what it was asked for."""


@dataclass(frozen=True)
class User:
    """A key pair, an account of its own, and the buckets made in it."""

    access_key: str
    secret_key: str
    buckets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # They end up in an ini file, where other characters have a meaning.
        for value in (self.access_key, self.secret_key):
            if not re.fullmatch(r"[A-Za-z0-9/+=._-]+", value):
                raise ValueError("a key may only have letters, digits and / + = . _ -")

    def authorization(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        """The version 2 Authorization header of a request without sub-resources."""
        lower = {name.lower(): value.strip() for name, value in headers.items()}
        amz = "".join(f"{name}:{lower[name]}\n" for name in sorted(lower) if name.startswith("x-amz-"))
        text = (
            f"{method}\n{lower.get('content-md5', '')}\n{lower.get('content-type', '')}\n{lower['date']}\n{amz}{target}"
        )
        digest = hmac.new(self.secret_key.encode(), text.encode("latin-1"), hashlib.sha1).digest()
        return f"AWS {self.access_key}:{base64.b64encode(digest).decode()}"


class Client:
    """One connection per request, path style."""

    def __init__(self, host: str, port: int, *, tls: bool) -> None:
        self._host, self._port = host, port
        self._context: ssl.SSLContext | None = None
        if tls:
            # The peer is our own child on loopback, and its certificate may be a wrong one on purpose.
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
        """Store an object, always with a Content-Length and never whole in memory."""
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
        """Remove an object."""
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
            # Refused before the whole body was sent: the answer says why.
            with suppress(BrokenPipeError):
                connection.request(method, target, body, signed)
            response = connection.getresponse()
            answer = response.read()
        if response.status // 100 != 2:
            raise S3Error(f"{method} {target}: {response.status} {answer[:500].decode('utf-8', 'replace')}")

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT, blocksize=BLOCK)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT, blocksize=BLOCK, context=self._context
        )
