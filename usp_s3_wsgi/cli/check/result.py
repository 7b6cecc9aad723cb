"""What the checks of a bucket return: plain values, without a secret."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


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
    """What one check has found. ``action``: what to change. ``details``: further lines, such as what was signed."""

    check: str
    verdict: Verdict
    text: str
    action: str = ""
    details: tuple[str, ...] = ()


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
        return {**asdict(self), "verdict": self.verdict}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> BucketReport:
        """Return the report of such a dict."""
        results = tuple(
            Result(
                one["check"], Verdict(one["verdict"]), one["text"], one["action"], tuple(one["details"])
            )
            for one in fields["results"]
        )  # fmt: skip
        names = ("way", "place", "location", "url", "is_fallback")
        return cls(**{name: fields[name] for name in names}, results=results)


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
