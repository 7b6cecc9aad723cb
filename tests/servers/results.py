"""What a run has met, as it is written to results.json; the table comes from nothing else."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.verdict import PASSED, Verdict


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. ``way``, ``mode``: by which way in, signed how."""

    subject: str
    case: str
    method: str
    way: str
    mode: str
    what: str
    met: str = ""


@dataclass(slots=True)
class ServerResults:
    """All of one server; ``clocks``: what botocore meets whose clock is wrong, by mode and clock."""

    name: str
    version: str
    asked: list[Asked] = field(default_factory=list)
    clocks: dict[str, str] = field(default_factory=dict)

    def add(self, subject: str, case: str, method: str, way: str, mode: str, verdict: Verdict) -> None:
        """Note one request's verdict."""
        self.asked.append(Asked(subject, case, method, way, mode, verdict.what, verdict.met))

    def summary(self) -> dict[str, Any]:
        """The numbers of each subject; and what was not passed, each once, with the requests that met it.

        ``only``: by which of the methods, ways in and ways of signing, where not by all that were asked.
        """
        subjects: dict[str, Counter[str]] = {}
        cases: dict[tuple[str, str], list[Asked]] = {}
        for one in self.asked:
            subjects.setdefault(one.subject, Counter())[one.what] += 1
            cases.setdefault((one.subject, one.case), []).append(one)
        return {
            "name": self.name,
            "version": self.version,
            "subjects": {subject: dict(sorted(counts.items())) for subject, counts in subjects.items()},
            "findings": [
                {"subject": subject, "case": case, "what": what, "met": met, "only": _only(same, asked)}
                for (subject, case), asked in cases.items()
                for (what, met), same in _findings(asked).items()
            ],
            "clocks": self.clocks,
        }


def _findings(asked: list[Asked]) -> dict[tuple[str, str], list[Asked]]:
    """What was not passed, by verdict and what was met; a HEAD has no code, and meets what its GET met but for that."""
    findings: dict[tuple[str, str], list[Asked]] = {}
    words: dict[str, str] = {}
    for one in asked:
        if one.what == PASSED:
            continue
        if one.method == "GET":
            words[re.sub(r"(\d{3}) [A-Z][A-Za-z]+", r"\1", one.met)] = one.met
        met = words.get(one.met, one.met) if one.method == "HEAD" else one.met
        findings.setdefault((one.what, met), []).append(one)
    return findings


def _only(some: list[Asked], asked: list[Asked]) -> list[str]:
    """The methods, ways in and ways of signing of some requests, where others of the same kind were asked besides."""
    named = {part: dict.fromkeys(getattr(one, part) for one in some) for part in ("method", "way", "mode")}
    only: list[str] = []
    for part, values in named.items():
        others = named.keys() - {part}
        alike = [one for one in asked if all(getattr(one, other) in named[other] for other in others)]
        if len(values) < len({getattr(one, part) for one in alike}):
            only += values
    return only


def load(path: Path) -> dict[str, Any]:
    """What :func:`save` has written."""
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def save(path: Path, servers: list[ServerResults], about: dict[str, str]) -> None:
    """Write all as JSON."""
    results = {"about": about, "servers": [one.summary() for one in servers]}
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
