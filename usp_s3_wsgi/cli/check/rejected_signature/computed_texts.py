"""What this server has signed beside what S3 says that it has computed, in labelled lines, and what the first
difference means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from usp_s3_wsgi.observability.flight_recorder import SignedWith
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.signing.signer import signed_text

_MAX_SHOWN = 80
PATH, QUERY, RESOURCE, SCOPE = "path", "query string", "resource", "scope"
HASH = "hash of the canonical request"
_HEADER = "header "
ONLY_THEIRS = "only S3 has this"
_MASKED_HEADERS = ("header x-amz-security-token",)


class ComparedLine(NamedTuple):
    """A line of both texts, None where a text does not have it.

    ``label``: its name in the specification. ``is_compared``: S3 has sent this text.
    """

    label: str
    ours: str | None
    theirs: str | None
    is_first_difference: bool
    is_compared: bool


class ComputedTexts(NamedTuple):
    """The lines of canonical request and string to sign, which may hold a token: :meth:`masked` returns them without.

    ``has_theirs``: S3 has sent what it has computed. ``first``: the first difference, None if there is none.
    """

    lines: tuple[ComparedLine, ...]
    has_theirs: bool
    first: ComparedLine | None

    @property
    def difference(self) -> str | None:
        """The label of the first difference; empty if there is none; None if it is not known."""
        if not self.has_theirs or (self.first and self.first.label == HASH):
            return None
        return self.first.label if self.first else ""

    def masked(self, mask: Callable[[str], str]) -> tuple[ComparedLine, ...]:
        """Return the lines to be shown."""
        return tuple(
            line._replace(
                ours=None if line.ours is None else mask(line.ours),
                theirs=None if line.theirs is None else mask(line.theirs),
            )
            for line in self.lines
        )

    def __repr__(self) -> str:
        return "ComputedTexts()"


def compare_texts(signed: SignedWith, document: str) -> ComputedTexts:
    """Compare what was signed with what an error document of S3 says about it.

    They are compared before they are masked: a token that a proxy has changed is a difference, too.
    """
    canonical_request, string_to_sign = signed_text(
        signed.request, signed.context, signed.credentials, signed.signed_at
    )
    said = error_response.computed_by_s3(document)
    lines = _align(string_to_sign, said.string_to_sign, _label_v4 if canonical_request else _label_v2)
    if canonical_request:
        lines = _align(canonical_request, said.canonical_request, _label_canonical_request) + lines
    place = next((i for i, line in enumerate(lines) if line.is_compared and line.ours != line.theirs), None)
    if place is not None:
        lines[place] = lines[place]._replace(is_first_difference=True)
    has_theirs = any(line.is_compared for line in lines)
    return ComputedTexts(tuple(lines), has_theirs, None if place is None else lines[place])


_Lines = list[tuple[str, str]]


#: The lines before which a header that only S3 has is shown.
_AFTER_HEADERS = frozenset({"signed headers", RESOURCE})


def _align(ours: str, theirs: str, label: Callable[[str], _Lines]) -> list[ComparedLine]:
    """Return the lines of both texts by label: a header that one of them lacks does not shift the others."""
    own, other = dict(label(ours)), dict(label(theirs)) if theirs else {}
    labels = list(own)
    for added in [name for name in other if name not in own]:
        is_header = added.startswith(_HEADER)
        place = next((i for i, name in enumerate(labels) if is_header and name in _AFTER_HEADERS), len(labels))
        labels.insert(place, added)
    # What S3 alone has may be anything, also as the name of a header: it is no label, which is not masked.
    return [
        ComparedLine(name if name in own else ONLY_THEIRS, own.get(name), other.get(name), False, bool(theirs))
        for name in labels
    ]


def _label_canonical_request(text: str) -> _Lines:
    lines = text.split("\n")
    rest = lines[3:]
    end = rest.index("") if "" in rest else len(rest)
    return _unique(
        [
            *zip(("method", PATH, QUERY), lines[:3], strict=False),
            *[(_header_label(line), line) for line in rest[:end]],
            *_numbered(("signed headers", "hash of the body"), rest[end + 1 :]),
        ]
    )


def _label_v4(text: str) -> _Lines:
    return _unique(_numbered(("algorithm", "time", SCOPE, HASH), text.split("\n")))


def _label_v2(text: str) -> _Lines:
    lines = text.split("\n")
    return _unique(
        [
            *zip(("method", "Content-MD5", "Content-Type", "Date or Expires"), lines[:4], strict=False),
            *[(_header_label(line), line) for line in lines[4:-1]],
            *[(RESOURCE, line) for line in lines[4:][-1:]],
        ]
    )


def _header_label(line: str) -> str:
    return _HEADER + re.sub(r"[^!-~]", "?", line.partition(":")[0].lower())[:_MAX_SHOWN]


def _numbered(names: tuple[str, ...], lines: list[str]) -> _Lines:
    return [(names[i] if i < len(names) else f"line {i + 1}", line) for i, line in enumerate(lines)]


def _unique(lines: _Lines) -> _Lines:
    seen: dict[str, int] = {}
    result = []
    for label, line in lines:
        seen[label] = seen.get(label, 0) + 1
        result.append((label if seen[label] == 1 else f"{label} ({seen[label]})", line))
    return result


def explain(first: ComparedLine) -> str:
    """Return in words what the first difference means: something on the way has changed the request."""
    ours, theirs, label = first.ours or "", first.theirs or "", first.label
    if label == PATH:
        return f"the path: {_path_change(ours, theirs)}"
    if label == RESOURCE:
        return f"the bucket or the path: {_path_change(ours, theirs)}"
    if label == ONLY_THEIRS:
        return f"S3 got more than this server signed: {_shown(theirs)}"
    if label.startswith(_HEADER):
        name = label.removeprefix(_HEADER)
        if first.theirs is None:
            return f"the header {name} does not arrive"
        if label in _MASKED_HEADERS:
            return f"the header {name} arrives with another value"
        return f"the header {name}: {_change(ours.partition(':')[2], theirs.partition(':')[2])}"
    if label == SCOPE:
        return f"the day, the region or the service: {_change(ours, theirs)}"
    if label == HASH:
        return "the method, the path, the query string or a header (S3 does not say which)"
    return f"the {label}: {_change(ours, theirs)}"


def _change(ours: str, theirs: str) -> str:
    return f"this server signed {_shown(ours)}, S3 got {_shown(theirs)}"


def _path_change(ours: str, theirs: str) -> str:
    if re.sub("/+", "/", ours) == re.sub("/+", "/", theirs):
        how = "repeated slashes are merged: "
    elif unquote(ours) == unquote(theirs):
        how = "percent-encoding is decoded or changed: "
    elif theirs.endswith(ours) or ours.endswith(theirs):
        how = "its beginning is removed or added: "
    else:
        how = ""
    return how + _change(ours, theirs)


def _shown(text: str) -> str:
    return (text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}...") or "(nothing)"
