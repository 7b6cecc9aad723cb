"""A response, and the comparison with the expected responses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Response:
    """A response; names of ``headers`` are lowercase. Status 0 and ``failure``: no complete response arrived."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    failure: str = ""

    @classmethod
    def from_fields(cls, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Response:
        """Make a response from its header fields; repeated fields are joined."""
        joined: dict[str, str] = {}
        for name, value in headers:
            name = name.lower()
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return cls(status, joined, body)

    @property
    def code(self) -> str:
        """The error code of S3, if there is one."""
        match = re.search(rb"<Code>([A-Za-z0-9.]{1,64})</Code>", self.body[:4096]) if self.status >= 300 else None
        return match[1].decode() if match else ""

    def __str__(self) -> str:
        return self.failure or f"{self.status} {self.code}".strip()


@dataclass(frozen=True, slots=True)
class Expected:
    """An expected response: one of ``statuses``, exactly this body (None: any), these headers (None: absent).

    ``parts``: the bodies of multipart/byteranges. ``codes``: the allowed error codes of S3, checked for GET.
    """

    statuses: tuple[int, ...]
    body: bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    parts: tuple[bytes, ...] = ()
    codes: frozenset[str] = frozenset()


def status(*statuses: int) -> tuple[Expected, ...]:
    """One of these statuses with any body: error pages are not compared."""
    return (Expected(statuses),)


def differences(response: Response, expected: Sequence[Expected], method: str) -> list[str]:
    """List the differences from the most similar expected response."""
    if response.failure:
        return [response.failure]
    candidates = [one for one in expected if response.status in one.statuses]
    if not candidates:
        statuses = dict.fromkeys(status for one in expected for status in one.statuses)
        return [f"{response}, not {' or '.join(map(str, statuses))}"]
    return min((_differences_from(response, one, method) for one in candidates), key=len)


def _differences_from(response: Response, one: Expected, method: str) -> list[str]:
    if one.codes and method == "GET" and response.code not in one.codes:
        return [f"{response}, not {' or '.join(sorted(one.codes))}"]
    body = _head_differences(response, one.body) if method == "HEAD" else _body_differences(response, one)
    fields = [
        f"{response.status} with {name} {shown(response.headers.get(name))}, not {shown(value)}"
        for name, value in one.headers.items()
        if response.headers.get(name) != value
    ]
    return body + fields


def shown(value: str | None) -> str:
    """A header value as it is shown in a difference."""
    return "absent" if value is None else repr(value) if len(value) < 80 else f"of {len(value)} bytes"


def _body_differences(response: Response, one: Expected) -> list[str]:
    if one.parts:
        return [] if byteranges(response) == one.parts else [f"{response.status} with other parts"]
    content_length = response.headers.get("content-length")
    if content_length is not None and content_length.strip() != str(len(response.body)) and response.status != 304:
        return [f"{response.status} with {len(response.body)} bytes and Content-Length {shown(content_length)}"]
    if one.body is None or response.body == one.body:
        return []
    if len(response.body) == len(one.body):
        return [f"{response.status} with other bytes"]
    return [f"{response.status} with {len(response.body)} bytes, not {len(one.body)}"]


def _head_differences(response: Response, body: bytes | None) -> list[str]:
    """A response to HEAD may lack Content-Length (RFC 9110, 9.3.2): httpd omits 0."""
    if response.body:
        return [f"{response.status} with a body"]
    content_length = response.headers.get("content-length")
    if body is None or response.status == 304 or (content_length is None and not body):
        return []
    if content_length is None or not content_length.isdigit():
        return [f"{response.status} with Content-Length {shown(content_length)}, not {len(body)}"]
    if int(content_length) == len(body):
        return []
    return [f"{response.status} with {int(content_length)} bytes, not {len(body)}"]


def byteranges(response: Response) -> tuple[bytes, ...]:
    """The bodies of multipart/byteranges (RFC 9110, 14.6); empty for other content types."""
    content_type = response.headers.get("content-type", "")
    match = re.search(r"^multipart/byteranges;.*boundary=\"?([^\";]+)", content_type, re.IGNORECASE)
    if not match:
        return ()
    pieces = (b"\r\n" + response.body).split(b"\r\n--" + match[1].encode())
    return tuple(piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1])
