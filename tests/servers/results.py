"""The results of a run, as written to results.json, from which the table is generated."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.verdict import PASSED, Verdict


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The result of one request; ``way``: gateway, daemon or proxy; ``mode``: the signing mode."""

    subject: str
    case: str
    method: str
    way: str
    mode: str
    outcome: str
    observed: str = ""


@dataclass(slots=True)
class ServerResults:
    """The results of one server; ``clocks``: botocore's responses with a wrong clock, by mode and clock."""

    name: str
    version: str
    requests: list[RequestResult] = field(default_factory=list)
    clocks: dict[str, str] = field(default_factory=dict)

    def add(self, subject: str, case: str, method: str, way: str, mode: str, verdict: Verdict) -> None:
        """Record the verdict of one request."""
        self.requests.append(RequestResult(subject, case, method, way, mode, verdict.outcome, verdict.observed))

    def summary(self) -> dict[str, Any]:
        """The counts of each subject, and each failure once, with the cases that had it.

        ``only``: the methods, ways in and signing modes with this failure, if others of the same case differ.
        """
        subjects: dict[str, Counter[str]] = {}
        cases: dict[tuple[str, str], list[RequestResult]] = {}
        for one in self.requests:
            subjects.setdefault(one.subject, Counter())[one.outcome] += 1
            cases.setdefault((one.subject, one.case), []).append(one)
        return {
            "name": self.name,
            "version": self.version,
            "subjects": {subject: dict(sorted(counts.items())) for subject, counts in subjects.items()},
            "findings": [
                {
                    "subject": subject,
                    "case": case,
                    "outcome": outcome,
                    "observed": observed,
                    "only": _only(same, requests),
                }
                for (subject, case), requests in cases.items()
                for (outcome, observed), same in _findings(requests).items()
            ],
            "clocks": self.clocks,
        }


def _findings(requests: list[RequestResult]) -> dict[tuple[str, str], list[RequestResult]]:
    """The failures by outcome and response. A HEAD has no error code: it is grouped with the GET of the same status."""
    findings: dict[tuple[str, str], list[RequestResult]] = {}
    with_code: dict[str, str] = {}
    for one in requests:
        if one.outcome == PASSED:
            continue
        if one.method == "GET":
            with_code[re.sub(r"(\d{3}) [A-Z][A-Za-z]+", r"\1", one.observed)] = one.observed
        observed = with_code.get(one.observed, one.observed) if one.method == "HEAD" else one.observed
        findings.setdefault((one.outcome, observed), []).append(one)
    return findings


def _only(some: list[RequestResult], requests: list[RequestResult]) -> list[str]:
    """The methods, ways in and signing modes of some requests, if the case also has requests with other ones."""
    values_of = {part: dict.fromkeys(getattr(one, part) for one in some) for part in ("method", "way", "mode")}
    only: list[str] = []
    for part, values in values_of.items():
        others = values_of.keys() - {part}
        comparable = [one for one in requests if all(getattr(one, other) in values_of[other] for other in others)]
        if len(values) < len({getattr(one, part) for one in comparable}):
            only += values
    return only


def load(path: Path) -> dict[str, Any]:
    """Read the results that :func:`save` has written."""
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def save(path: Path, servers: list[ServerResults], about: dict[str, str]) -> None:
    """Write the results as JSON."""
    results = {"about": about, "servers": [one.summary() for one in servers]}
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
