"""The faults of named.py with the gateway in this process: the client's bytes, the error log, S3's requests."""

from __future__ import annotations

import re

import pytest

from tests.faults.named import ETAG, FAULTS, TIMEOUT, Fault
from tests.faults.server import Request, ScriptedS3
from tests.wsgi import Reply, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher

#: Conditions of the client that all hold; S3 evaluates them in the first request. Dates are not sent beside ETags.
CONDITIONS = {
    "dates": {
        "If-Modified-Since": "Tue, 20 Oct 2015 07:28:00 GMT",
        "If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT",
    },
    "ETags": {"If-Match": f'"other", {ETAG[1]}', "If-None-Match": '"other"'},
}


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


def play(fault: Fault, **more: str) -> tuple[Reply, list[Request]]:
    with ScriptedS3(*fault.script) as s3:
        settings = s3_settings(s3.url, S3Retries="2", S3ProxySet=TIMEOUT)
        reply = call(environ("/media/film.mp4", settings, headers={**fault.asks, **more}))
    return reply, s3.requests


def test_number_of_faults() -> None:
    assert len(FAULTS) >= 25


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str) -> None:
    fault = FAULTS[name]
    reply, requests = play(fault)
    assert (reply.status, reply.body) == (fault.status, fault.body)
    assert reply.headers == fault.headers
    assert (reply.truncated is None) == fault.whole
    lines = reply.log.splitlines()
    assert len(lines) == len(fault.log)
    for line, pattern in zip(lines, fault.log, strict=True):
        assert re.search(pattern, line), line
    ranges = fault.ranges or (fault.asks.get("Range"),) * len(requests)
    assert tuple(request.headers.get("range") for request in requests) == ranges


def range_and_conditions(request: Request) -> dict[str, str]:
    """The headers of a request that state a range or a condition."""
    return {name: value for name, value in request.headers.items() if name == "range" or name.startswith("if-")}


@pytest.mark.parametrize("conditions", CONDITIONS)
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.ranges])
def test_the_rest_is_requested_with_if_match_only(name: str, conditions: str) -> None:
    """The request for the rest has its range and If-Match; all others have the client's range and conditions."""
    fault = FAULTS[name]
    headers = {**CONDITIONS[conditions], **fault.asks, **({"If-Range": ETAG[1]} if "Range" in fault.asks else {})}
    _, requests = play(fault, **headers)
    original = {header.lower(): value for header, value in headers.items()}
    ranges_of_rest = [value for value in fault.ranges or () if value != original.get("range")]
    resumed = [{"range": value, "if-match": ETAG[1]} for value in ranges_of_rest]
    assert [range_and_conditions(request) for request in requests] == [original, *resumed]
