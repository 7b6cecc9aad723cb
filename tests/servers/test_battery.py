"""Each question, by each way in and in each way of signing, by GET and by HEAD: right, or the server's own fault."""

from __future__ import annotations

import pytest

from tests.servers.battery import CASES
from tests.servers.battery.case import Case
from tests.servers.run import Run
from tests.servers.sections import PLACES, bucket
from tests.servers.verdict import NOT_OFFERED, OURS, Verdict, judge


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.subject}: {case.name}")
@pytest.mark.parametrize(("way", "mode"), PLACES)
def test_an_answer(run: Run, way: str, mode: str, case: Case) -> None:
    faults = []
    for method in ("GET", "HEAD"):
        verdict = asked(run, case, method, way, mode)
        if verdict is None:
            pytest.skip(f"{run.server.name} does not know {mode}: {run.unknown(mode)}")
        run.results.add(case.subject, case.name, method, way, mode, verdict)
        if verdict.what == OURS:
            faults.append(f"{method}: {verdict.met}")
    assert faults == []


def asked(run: Run, case: Case, method: str, way: str, mode: str) -> Verdict | None:
    """Ask, and say whose fault a wrong answer is. None: of a way of signing that is not known one subject tells."""
    if unknown := run.unknown(mode):
        return Verdict(NOT_OFFERED, unknown) if case.subject == "ways of signing" else None
    if refused := run.stock.refused.get((bucket(mode, case.kind), case.key)):
        return Verdict(NOT_OFFERED, refused)
    case = case.about(run.stock.known(bucket(mode, case.kind), case.key))
    before = run.lines()
    got = run.ask_httpd(case, method, way, mode)
    verdict = judge(case, method, got, lambda is_plain: run.ask_server(case, method, mode, is_plain))
    if verdict.what == "passed" and got.status < 500 and run.lines() > before:
        return Verdict(OURS, f"{got}, and a line in the error log")
    return verdict
