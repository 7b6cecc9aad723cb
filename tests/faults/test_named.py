"""What the client gets of each of S3's faults, byte for byte, and what the error log says: the gateway by itself."""

from __future__ import annotations

import re

import pytest

from tests.faults.named import ETAG, FAULTS, TIMEOUT, Fault
from tests.faults.server import Request, ScriptedS3
from tests.wsgi import Reply, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher

#: Conditions of the client, each of which holds; S3 has judged them when the body begins.
CONDITIONS = {
    "If-Match": f'"other", {ETAG[1]}',
    "If-None-Match": '"other"',
    "If-Modified-Since": "Tue, 20 Oct 2015 07:28:00 GMT",
    "If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT",
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


def play(fault: Fault, **more: str) -> tuple[Reply, list[Request]]:
    with ScriptedS3(*fault.script) as s3:
        settings = s3_settings(s3.url, S3Retries="2", S3ProxySet=TIMEOUT)
        reply = call(environ("/media/film.mp4", settings, headers={**fault.asks, **more}))
    return reply, s3.requests


def test_there_are_many() -> None:
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


def conditions(request: Request) -> dict[str, str]:
    """Which part is asked for, and on what conditions."""
    return {name: value for name, value in request.headers.items() if name == "range" or name.startswith("if-")}


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.ranges])
def test_the_rest_is_asked_for_on_one_condition_alone(name: str) -> None:
    """Its range, of the very same object; every other request is the client's own, with all that it asked."""
    fault = FAULTS[name]
    asked = {**CONDITIONS, **fault.asks, **({"If-Range": ETAG[1]} if "Range" in fault.asks else {})}
    _, requests = play(fault, **asked)
    own = {header.lower(): value for header, value in asked.items()}
    rests = [place for place in fault.ranges or () if place != own.get("range")]
    of_rests = [{"range": place, "if-match": ETAG[1]} for place in rests]
    assert [conditions(request) for request in requests] == [own, *of_rests]
