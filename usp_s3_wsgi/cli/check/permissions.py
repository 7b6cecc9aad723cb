"""Checks whether the keys may do more than a server that only reads objects needs: list the bucket, write to it."""

from __future__ import annotations

import hashlib
import re
import secrets
import socket
import time
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from usp_s3_wsgi.cli.check import certificate
from usp_s3_wsgi.cli.check.result import Result, fine, look, not_tested
from usp_s3_wsgi.cli.check.s3_requests import BucketRequests, random_key
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import GatewayError
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import S3Request
from usp_s3_wsgi.transport import tls

_CONTINUE, _DENIED = 100, 403
_LISTING = (("list-type", "2"), ("max-keys", "1"))
#: Bytes of a response's header that are read.
_MAX_HEADER = 65_536


def check_list(requests: BucketRequests, is_missing_denied: bool) -> Result:
    """Return whether the keys may list the bucket.

    ``is_missing_denied``: S3 has denied a key that no object has.
    """
    prefix = percent_encode(unquote_to_bytes(requests.key_prefix), safe="")
    query = (*_LISTING, *((("prefix", prefix),) if prefix else ()))
    try:
        answer = requests.send(requests.bucket_request("GET", query))
    except GatewayError as error:
        return not_tested("may list", str(error))
    if answer.status == 200:
        return fine("may list", "yes: missing objects get 404. Clients get no listing from this server")
    if answer.status != _DENIED:
        return not_tested("may list", f"S3 answered {answer.status} to a listing")
    if not is_missing_denied:
        return fine("may list", "no")
    text = "no: S3 answers 403 also for objects that do not exist"
    return look("may list", text, "grant s3:ListBucket, or set S3DeniedStatus 404")


def check_write(requests: BucketRequests) -> Result:
    """Return whether the keys may write, without writing anything.

    The header of an upload is sent with ``Expect: 100-continue``: a server that has checked the signature and the
    permission asks for the body, and the connection is closed instead. The key is one that no object has, and the
    signature or Content-MD5 is that of a body that is never sent, so that nothing can be stored.
    https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
    """
    path = requests.path_of(random_key())
    try:
        status = _status_before_body(requests, _upload(requests, path))
        if status == _CONTINUE:
            # A server, or a proxy before it, may ask for the body before it has checked anything.
            wrong = replace(requests.credentials, secret_key=secrets.token_hex(20))
            other = BucketRequests(requests.settings, wrong)
            if _status_before_body(other, _upload(other, path)) == _CONTINUE:
                return not_tested("may write", "the server asks for a body before it checks the signature")
            return look(
                "may write",
                "yes, which this server never needs",
                "use keys that may only read: s3:GetObject and s3:ListBucket",
            )
    except (GatewayError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        return not_tested("may write", f"no answer to the header of an upload: {reason}")
    if status == _DENIED:
        return fine("may write", "no")
    return not_tested("may write", f"S3 answered {status} to the header of an upload")


def _upload(requests: BucketRequests, path: str) -> S3Request:
    body = secrets.token_bytes(16)
    context = requests.settings.signing._replace(use_headers=True)
    digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    headers = (("Content-Length", str(len(body))), ("Content-MD5", digest), ("Expect", "100-continue"))
    request = requests.object_request("PUT", path, ("Content-MD5", digest))
    payload_hash = hashlib.sha256(body).hexdigest()
    signed = sign(request, context, requests.credentials, datetime.now(UTC), payload_hash)
    return signed._replace(headers=(*(one for one in signed.headers if one[0] != "Content-MD5"), *headers))


def _status_before_body(requests: BucketRequests, signed: S3Request) -> int:
    """Send the header of a request and return the status of the first response, also an interim one; then close.

    Raises: OSError: there is none. SettingError: S3CAFile cannot be used.
    """
    lines = [f"{signed.method} {signed.target} HTTP/1.1", f"Host: {signed.host}", "User-Agent: usp_s3_wsgi"]
    lines += [f"{name}: {value}" for name, value in signed.headers]
    with _connect(requests.settings) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        received, deadline = b"", time.monotonic() + requests.settings.proxy_set.timeout
        while b"\r\n" not in received and len(received) < _MAX_HEADER:
            if time.monotonic() > deadline or not (part := connection.recv(4096)):
                break
            received += part
    match = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", received)
    if match is None:
        raise ConnectionAbortedError(0, "the connection was closed")
    return int(match[1])


def _connect(settings: Settings) -> socket.socket:
    url, seconds = settings.bucket_url, settings.proxy_set.connectiontimeout
    if url.scheme == "https":
        return certificate.connect(url, tls.context(settings.ca_file), seconds)
    return socket.create_connection((url.host, url.port), seconds)
