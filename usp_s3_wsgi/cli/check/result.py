"""What the checks of a bucket return: plain values, without a secret."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from usp_s3_wsgi.cli.check.rejected_signature.computed_texts import ComparedLine


class Verdict(StrEnum):
    """``LOOK``: requests are served, but something should be changed, or could not be decided."""

    FINE = "fine"
    LOOK = "look"
    WRONG = "wrong"
    NOT_TESTED = "not tested"


#: The verdicts, the one that counts most first.
_ORDER = (Verdict.WRONG, Verdict.LOOK, Verdict.FINE, Verdict.NOT_TESTED)


@dataclass(frozen=True, slots=True)
class Result:
    """What one check has found.

    ``action``: what to change. ``details``: further lines. ``comparison``: what was signed beside what S3 has computed.
    """

    check: str
    verdict: Verdict
    text: str
    action: str = ""
    details: tuple[str, ...] = ()
    comparison: tuple[ComparedLine, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        fields = {name: getattr(self, name) for name in ("check", "verdict", "text", "action")}
        return {
            **fields,
            "details": list(self.details),
            "comparison": [line._asdict() for line in self.comparison],
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Result:
        """Return the result of such a dict."""
        comparison = tuple(ComparedLine(**line) for line in fields["comparison"])
        verdict, details = Verdict(fields["verdict"]), tuple(fields["details"])
        return cls(fields["check"], verdict, fields["text"], fields["action"], details, comparison)


#: The fields of a report besides its results.
_FIELDS = ("way", "place", "location", "url", "is_fallback")


@dataclass(frozen=True, slots=True)
class BucketReport:
    """The results for one bucket.

    ``place``: its mount, or the URL of its ``<Proxy>`` section. ``location``: file and line. ``url``: of the bucket.
    """

    way: str
    place: str
    location: str
    url: str
    is_fallback: bool
    results: tuple[Result, ...] = field(default=())

    @property
    def verdict(self) -> Verdict:
        """The verdict that counts most."""
        return worst(result.verdict for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        return {**fields, "verdict": self.verdict, "results": [result.to_dict() for result in self.results]}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> BucketReport:
        """Return the report of such a dict."""
        results = tuple(Result.from_dict(one) for one in fields["results"])
        return cls(**{name: fields[name] for name in _FIELDS}, results=results)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that counts most; NOT_TESTED if there is none."""
    return min(verdicts, key=_ORDER.index, default=Verdict.NOT_TESTED)


def fine(check: str, text: str) -> Result:
    """Nothing to change."""
    return Result(check, Verdict.FINE, text)


def look(check: str, text: str, action: str, details: Iterable[str] = ()) -> Result:
    """Requests are served, but something should be changed."""
    return Result(check, Verdict.LOOK, text, action, tuple(details))


def wrong(check: str, text: str, action: str, details: Iterable[str] = ()) -> Result:
    """Requests fail."""
    return Result(check, Verdict.WRONG, text, action, tuple(details))


def not_tested(check: str, text: str) -> Result:
    """It could not be decided; ``text`` says why."""
    return Result(check, Verdict.NOT_TESTED, text)
