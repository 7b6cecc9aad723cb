"""Each case with each way in and signing mode, by GET and HEAD: the expected response, or a fault of the server."""

from __future__ import annotations

import pytest

from tests.servers.battery import CASES, modes
from tests.servers.battery.case import Case
from tests.servers.run import Run
from tests.servers.sections import WAYS_AND_MODES, bucket
from tests.servers.verdict import NOT_SUPPORTED, OUR_FAULT, PASSED, Verdict, judge


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.subject}: {case.name}")
@pytest.mark.parametrize(("way", "mode"), WAYS_AND_MODES)
def test_response(run: Run, way: str, mode: str, case: Case) -> None:
    our_faults = []
    for method in ("GET", "HEAD"):
        verdict = judge_request(run, case, method, way, mode)
        if verdict is None:
            pytest.skip(f"{run.server.name} does not support {mode}: {run.unsupported(mode)}")
        run.results.add(case.subject, case.name, method, way, mode, verdict)
        if verdict.outcome == OUR_FAULT:
            our_faults.append(f"{method}: {verdict.observed}")
    assert our_faults == []


def judge_request(run: Run, case: Case, method: str, way: str, mode: str) -> Verdict | None:
    """Send one request and judge the response. None: the signing mode is not supported, which one subject reports."""
    if unsupported := run.unsupported(mode):
        return Verdict(NOT_SUPPORTED, unsupported) if case.subject == modes.SUBJECT else None
    if rejected := run.stored.rejected.get((bucket(mode, case.kind), case.key)):
        return Verdict(NOT_SUPPORTED, rejected)
    case = case.fill_placeholders(run.stored.placeholders_for(bucket(mode, case.kind), case.key))
    before = run.count_log_lines()
    response = run.fetch_through_httpd(case, method, way, mode)
    verdict = judge(case, method, response, lambda whole_object: run.fetch_directly(case, method, mode, whole_object))
    if verdict.outcome == PASSED and response.status < 500 and run.count_log_lines() > before:
        return Verdict(OUR_FAULT, f"{response}, and a line in the error log")
    return verdict
