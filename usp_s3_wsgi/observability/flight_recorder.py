"""The flight recorder: the last failed exchanges of each bucket, for the status page ("UspS3Metrics On").

A record says what was requested, what was signed, each attempt, and what S3 said. usp_s3_module keeps it in memory that
httpd's processes share (``proxy/mod_usp_s3/failures.c``); there is no file. Tokens and signatures are masked before,
also where S3's response repeats them.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from usp_s3_wsgi.errors import GatewayError, LogCode, describe_internal_error
from usp_s3_wsgi.observability import error_log, recorder
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.signing.signer import sign, signed_text
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext

#: Bytes of a record: USP_S3_FAILURE_SIZE of ``metrics.h``.
MAX_SIZE = 8192
#: Characters of each text, halved until a record fits.
_MAX_TEXT = 3000
#: Seconds in which a process keeps one failure of a bucket for the same reason: a flood of them costs no CPU time.
_INTERVAL = 1.0
#: Reasons that are remembered for that.
_MAX_REASONS = 1000
MASK = "(masked)"
#: What is secret by its name, wherever it stands: a parameter, a header, a part of Authorization.
_SECRET_VALUE = re.compile(
    r"((?<![a-z])(?:x-amz-)?(?:signature|security-token)\"?\s*[=:]\s*)(?!\(masked\))[^\s&,;\"<]+", re.IGNORECASE
)
#: The ways in, as ``metrics.h`` numbers them.
GATEWAY, PROXY = 0, 1


class FailedRequest(NamedTuple):
    """What was requested.

    ``way``: GATEWAY or PROXY. ``path``: percent-encoded. ``range``: the client's Range header.
    """

    way: int
    host: str
    bucket: str
    method: str
    path: str
    range: str = ""


class SignedWith(NamedTuple):
    """The last request that was signed, before it was, and with what."""

    request: S3Request
    context: SigningContext
    credentials: Credentials
    signed_at: datetime

    def __repr__(self) -> str:
        return f"SignedWith({self.request!r})"


class SentAttempt:
    """An attempt of an exchange; ``started_after`` and ``seconds``: as in ``status.snapshot.Attempt``."""

    __slots__ = ("connection", "failure", "host", "request_id", "s3_code", "seconds", "started_after", "status")

    def __init__(self, host: str, started_after: float) -> None:
        self.host, self.started_after = host, started_after
        self.seconds, self.status = 0.0, 0
        self.s3_code = self.request_id = self.connection = self.failure = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return {name: getattr(self, name) for name in self.__slots__}


def record(
    failure: BaseException,
    request: FailedRequest,
    attempts: Iterable[SentAttempt] = (),
    signed: SignedWith | Callable[[], SignedWith | None] | None = None,
    cause: str = "",
    client_status: int | None = None,
) -> None:
    """Keep a failed exchange, unless one for the same reason was kept just now. Raises nothing.

    ``signed``: a function is only called if the failure is kept. ``cause``: more words than the failure's own, which
    may differ between failures for the same reason. ``client_status``: what the client got, 0 for nothing; None: the
    status of the failure.
    """
    keep = recorder.record_failure
    if keep is None:
        return
    try:
        kind = _kind(failure)
        if _is_due((request.way, request.host, request.bucket, kind)):
            signed_with = signed() if callable(signed) else signed
            fields = _describe(failure, request, attempts, signed_with, cause)
            data = _encode(fields if client_status is None else {**fields, "client_status": client_status})
            keep(request.host, request.bucket, request.way, kind, data)
    except Exception as error:  # a fault in what is recorded must not fail the request
        error_log.write_to_stderr(LogCode.INTERNAL_ERROR, describe_internal_error(error))


def _kind(failure: BaseException) -> int:
    reason = failure.rate_limit_key if isinstance(failure, GatewayError) else type(failure).__name__
    return zlib.crc32(reason.encode("utf-8", "replace"))


_last_times: dict[tuple[int, str, str, int], float] = {}


def _is_due(reason: tuple[int, str, str, int]) -> bool:
    now = time.monotonic()
    if now - _last_times.get(reason, float("-inf")) < _INTERVAL:
        return False
    if len(_last_times) >= _MAX_REASONS:
        _last_times.clear()
    _last_times[reason] = now
    return True


def _describe(
    failure: BaseException,
    request: FailedRequest,
    attempts: Iterable[SentAttempt],
    signed: SignedWith | None,
    cause: str,
) -> dict[str, Any]:
    known = failure if isinstance(failure, GatewayError) else GatewayError(describe_internal_error(failure))
    s3_error, mask = known.s3_error, Mask(signed)
    message = ": ".join([str(known), cause]) if cause else str(known)
    message = f"{message}; {known.hint}" if known.hint else message
    canonical_request = string_to_sign = access_key = signed_at = ""
    said = error_response.ComputedByS3()
    if signed is not None:
        canonical_request, string_to_sign = signed_text(
            signed.request, signed.context, signed.credentials, signed.signed_at
        )
        access_key = signed.credentials.short_access_key
        signed_at = signed.signed_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        # S3's words may repeat a token. What was not signed with these credentials is not known well enough to mask it.
        said = error_response.computed_by_s3(s3_error.document) if s3_error else said
    return {
        "time": time.time(),
        "is_client_error": not known.should_log,
        "error": str(known.code),
        "client_status": known.status,
        "message": mask(message),
        "method": request.method,
        "path": mask(request.path),
        "range": request.range,
        "s3_status": s3_error.status if s3_error else 0,
        "s3_code": s3_error.code if s3_error else "",
        "s3_message": mask(said.message),
        "request_id": s3_error.request_id if s3_error else "",
        "signed_at": signed_at,
        "access_key": access_key,
        "region": (signed.context.region or "") if signed else "",
        "canonical_request": mask(canonical_request),
        "string_to_sign": mask(string_to_sign),
        "s3_canonical_request": mask(said.canonical_request),
        "s3_string_to_sign": mask(said.string_to_sign),
        "attempts": [{**attempt.to_dict(), "failure": mask(attempt.failure)} for attempt in attempts],
    }


class Mask:
    """Replaces the token and the signature of a request in a text, as they are and as S3 repeats them."""

    def __init__(self, signed: SignedWith | None) -> None:
        self._replacements: list[tuple[str, str]] = []
        if signed is None:
            return
        access_key, secret_key = signed.credentials.access_key, signed.credentials.secret_key
        secrets = [secret_key, signed.credentials.security_token or "", _signature(signed)]
        pairs = [(form, MASK) for secret in secrets if secret for form in _forms(secret)]
        pairs += [(form, signed.credentials.short_access_key) for form in _forms(access_key)]
        # A longer one first: it may contain a shorter one.
        self._replacements = sorted(pairs, key=lambda pair: len(pair[0]), reverse=True)

    def __call__(self, text: str) -> str:
        for secret, replacement in self._replacements:
            text = text.replace(secret, replacement)
        return _SECRET_VALUE.sub(rf"\1{MASK}", text)


def _signature(signed: SignedWith) -> str:
    request = sign(signed.request, signed.context, signed.credentials, signed.signed_at)
    is_v2 = signed.context.region is None
    if signed.context.use_headers:
        return request.headers[-1][1].rpartition(":" if is_v2 else "=")[2]
    return unquote(dict(request.query)["Signature" if is_v2 else "X-Amz-Signature"])


def _forms(secret: str) -> set[str]:
    """Return the secret as it is, percent-encoded once and twice in the usual ways, and in hexadecimal digits."""
    encoded = {quote(secret, safe=safe, errors="surrogateescape") for safe in ("", "/", "/+=:")}
    encoded |= {quote(text, safe="") for text in encoded}
    encoded |= {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in encoded}
    data = secret.encode("utf-8", "surrogateescape")
    return {secret, *encoded, data.hex(), data.hex(" "), data.hex(" ").upper()}


def _encode(fields: dict[str, Any]) -> bytes:
    """Return the record as JSON of at most MAX_SIZE bytes: its texts are cut, and then attempts are omitted."""
    import json  # not when a child of httpd starts: most never need it

    limit = _MAX_TEXT
    while True:
        data = json.dumps(_cut(fields, limit), separators=(",", ":")).encode("ascii")
        if len(data) <= MAX_SIZE:
            return data
        attempts = fields["attempts"]
        if limit > 100 or not attempts:
            limit //= 2
        else:
            fields = {**fields, "attempts": attempts[(len(attempts) + 1) // 2 :]}


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[: max(0, limit - 3)]}..."
    if isinstance(value, list):
        return [_cut(item, limit) for item in value]
    return {key: _cut(item, limit) for key, item in value.items()} if isinstance(value, dict) else value
