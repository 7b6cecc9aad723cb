"""What the client gets of each of S3's faults, byte for byte, and what the error log says: the gateway by itself."""

from __future__ import annotations

import re

import pytest

from tests.faults.named import FAULTS, TIMEOUT, Fault
from tests.faults.server import ScriptedS3
from tests.wsgi import call, environ, s3_settings
from usp_s3_wsgi import upstream


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_backoff", lambda retry: 0.0)


def test_there_are_many() -> None:
    assert len(FAULTS) >= 25


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str) -> None:
    fault: Fault = FAULTS[name]
    with ScriptedS3(*fault.script) as s3:
        settings = s3_settings(s3.url, S3Retries="2", S3ProxySet=TIMEOUT)
        reply = call(environ("/media/film.mp4", settings, headers=fault.asks))
    assert (reply.status, reply.body) == (fault.status, fault.body)
    assert (reply.truncated is None) == fault.whole
    lines = reply.log.splitlines()
    assert len(lines) == len(fault.log)
    for line, pattern in zip(lines, fault.log, strict=True):
        assert re.search(pattern, line), line
    if fault.ranges is not None:
        assert tuple(request.headers.get("range") for request in s3.requests) == fault.ranges
