"""An answer, and what it should have been."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """What came; ``headers`` by names in lowercase. Status 0 and ``failure``: none came, or not the whole of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    failure: str = ""

    @classmethod
    def of(cls, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
        """Fields that come several times are joined."""
        joined: dict[str, str] = {}
        for name, value in headers:
            name = name.lower()
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return cls(status, joined, body)

    @property
    def code(self) -> str:
        """S3's code, where this is an error of S3."""
        match = re.search(rb"<Code>([A-Za-z0-9.]{1,64})</Code>", self.body[:4096]) if self.status >= 300 else None
        return match[1].decode() if match else ""

    def __str__(self) -> str:
        return self.failure or f"{self.status} {self.code}".strip()


@dataclass(frozen=True, slots=True)
class Want:
    """One of the right answers: one of ``statuses``, these very bytes (None: any), these headers (None: absent).

    ``parts``: the bodies of multipart/byteranges. ``codes``: one of these is S3's own code, where there is a body.
    """

    statuses: tuple[int, ...]
    body: bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    parts: tuple[bytes, ...] = ()
    codes: frozenset[str] = frozenset()


def status(*statuses: int) -> tuple[Want, ...]:
    """One of these, whatever the body: error pages are no business of a battery."""
    return (Want(statuses),)


def check(answer: Answer, wants: Sequence[Want], method: str) -> list[str]:
    """Say what is wrong with the answer, compared with the right one that is nearest."""
    if answer.failure:
        return [answer.failure]
    fitting = [want for want in wants if answer.status in want.statuses]
    if not fitting:
        statuses = dict.fromkeys(status for want in wants for status in want.statuses)
        return [f"{answer}, not {' or '.join(map(str, statuses))}"]
    return min((_complaints(answer, want, method) for want in fitting), key=len)


def _complaints(answer: Answer, want: Want, method: str) -> list[str]:
    if want.codes and method == "GET" and answer.code not in want.codes:
        return [f"{answer}, not {' or '.join(sorted(want.codes))}"]
    body = _head_complaints(answer, want.body) if method == "HEAD" else _body_complaints(answer, want)
    fields = [
        f"{answer.status} with {name} {shown(answer.headers.get(name))}, not {shown(value)}"
        for name, value in want.headers.items()
        if answer.headers.get(name) != value
    ]
    return body + fields


def shown(value: str | None) -> str:
    """A field's value in a complaint."""
    return "absent" if value is None else repr(value) if len(value) < 80 else f"of {len(value)} bytes"


def _body_complaints(answer: Answer, want: Want) -> list[str]:
    if want.parts:
        return [] if byteranges(answer) == want.parts else [f"{answer.status} with other parts"]
    stated = answer.headers.get("content-length")
    if stated is not None and stated.strip() != str(len(answer.body)) and answer.status != 304:
        return [f"{answer.status} with {len(answer.body)} bytes and Content-Length {shown(stated)}"]
    if want.body is None or answer.body == want.body:
        return []
    if len(answer.body) == len(want.body):
        return [f"{answer.status} with other bytes"]
    return [f"{answer.status} with {len(answer.body)} bytes, not {len(want.body)}"]


def _head_complaints(answer: Answer, body: bytes | None) -> list[str]:
    """A HEAD may leave the length out (RFC 9110, 9.3.2): httpd does where it is 0."""
    if answer.body:
        return [f"{answer.status} with a body"]
    stated = answer.headers.get("content-length")
    if body is None or answer.status == 304 or (stated is None and not body):
        return []
    if stated is None or not stated.isdigit():
        return [f"{answer.status} with Content-Length {shown(stated)}, not {len(body)}"]
    return [] if int(stated) == len(body) else [f"{answer.status} with {int(stated)} bytes, not {len(body)}"]


def byteranges(answer: Answer) -> tuple[bytes, ...]:
    """The bodies of multipart/byteranges (RFC 9110, 14.6), empty where it is none."""
    kind = answer.headers.get("content-type", "")
    match = re.search(r"^multipart/byteranges;.*boundary=\"?([^\";]+)", kind, re.IGNORECASE)
    if not match:
        return ()
    pieces = (b"\r\n" + answer.body).split(b"\r\n--" + match[1].encode())
    return tuple(piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1])
