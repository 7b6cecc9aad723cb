"""What a question is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.servers.answer import Want


@dataclass(frozen=True, slots=True)
class Object:
    """What is stored for the questions.

    ``kind``: which bucket, see :data:`tests.servers.sections.KINDS`. ``parts``: the body in so many bytes each, sent as
    a multipart upload. ``earlier``: the body of an earlier version. ``is_deleted``: a delete marker is on top.
    """

    key: bytes
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "objects"
    parts: tuple[int, ...] = ()
    earlier: bytes | None = None
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One request, by GET and by HEAD, and the right answers to the client.

    ``headers``, ``query`` and the headers of ``wants`` may name what is known of the object: ``{etag}``,
    ``{modified}``, and of versions ``{first}``, ``{second}``, ``{marker}``. ``head``: right for a HEAD, where that is
    not what is right for a GET.

    ``s3``: what S3 itself should answer, where that is not what the client should get.
    ``least``: what the client can be given whatever the server makes of this very request, if only the server serves
    the whole object. A client that gets less meets a fault of ours.
    """

    subject: str
    name: str
    key: bytes
    wants: tuple[Want, ...]
    kind: str = "objects"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    head: tuple[Want, ...] | None = None
    s3: tuple[Want, ...] | None = None
    least: tuple[Want, ...] | None = None

    def about(self, facts: Mapping[str, str]) -> Case:
        """The same with what is known of the object."""
        return replace(
            self,
            query=self.query.format(**facts),
            headers=_filled(self.headers, facts),
            wants=tuple(replace(want, headers=_filled(want.headers, facts)) for want in self.wants),
        )

    def right(self, method: str) -> tuple[Want, ...]:
        """The right answers to the client."""
        return self.head if self.head is not None and method == "HEAD" else self.wants

    def right_of_s3(self, method: str) -> tuple[Want, ...]:
        """The right answers of S3."""
        if self.s3 is None:
            return self.right(method)
        return tuple(replace(want, codes=frozenset()) for want in self.s3) if method == "HEAD" else self.s3

    def at_least(self, method: str) -> tuple[Want, ...] | None:
        """What must come if the server serves the whole object."""
        return self.head if self.least is not None and self.head is not None and method == "HEAD" else self.least


def _filled(headers: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, Any]:
    return {name: value.format(**facts) if value is not None else None for name, value in headers.items()}
