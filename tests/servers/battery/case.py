"""A test case, and an object that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.servers.response import Expected


@dataclass(frozen=True, slots=True)
class Object:
    """An object in a bucket.

    ``kind``: which bucket, see :data:`tests.servers.sections.KINDS`. ``parts``: the sizes of the parts of a multipart
    upload. ``earlier``: the body of an earlier version. ``is_deleted``: the latest version is a delete marker.
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
    """One request, sent by GET and by HEAD, and the responses that the client should get.

    ``headers``, ``query`` and the headers of ``expected`` may contain placeholders: ``{etag}``, ``{modified}``, and for
    versions ``{first}``, ``{second}``, ``{marker}``. ``head``: expected for HEAD, if it differs from GET.

    ``s3``: what S3 itself should respond, if it differs from what the client should get.
    ``minimum``: what the client must get if the server at least serves the whole object, whatever it responds to this
    request. Anything else is our fault.
    """

    subject: str
    name: str
    key: bytes
    expected: tuple[Expected, ...]
    kind: str = "objects"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    head: tuple[Expected, ...] | None = None
    s3: tuple[Expected, ...] | None = None
    minimum: tuple[Expected, ...] | None = None

    def fill_placeholders(self, values: Mapping[str, str]) -> Case:
        """The same case with these values for its placeholders."""
        return replace(
            self,
            query=self.query.format(**values),
            headers=_filled(self.headers, values),
            expected=tuple(replace(one, headers=_filled(one.headers, values)) for one in self.expected),
        )

    def expected_for_client(self, method: str) -> tuple[Expected, ...]:
        """The responses that the client should get."""
        return self.head if self.head is not None and method == "HEAD" else self.expected

    def expected_from_s3(self, method: str) -> tuple[Expected, ...]:
        """The responses that S3 should send."""
        if self.s3 is None:
            return self.expected_for_client(method)
        return tuple(replace(one, codes=frozenset()) for one in self.s3) if method == "HEAD" else self.s3

    def minimum_for(self, method: str) -> tuple[Expected, ...] | None:
        """What the client must get if the server serves the whole object."""
        return self.head if self.minimum is not None and self.head is not None and method == "HEAD" else self.minimum


def _filled(headers: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    return {name: value.format(**values) if value is not None else None for name, value in headers.items()}
