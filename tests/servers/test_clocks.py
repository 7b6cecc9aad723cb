"""A clock that is 20 minutes wrong: the gateway corrects it within the request, ``<Proxy>`` for the next request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.httpd.server import Httpd
from tests.servers.battery.modes import PLAIN
from tests.servers.botocore_client import BotocoreClient, encoded
from tests.servers.run import Run, fetch
from tests.servers.sections import WAYS_AND_MODES, bucket, config, mount
from tests.servers.verdict import OUR_FAULT, PASSED, Verdict

#: In seconds; S3 allows 900.
CLOCKS = {"20 minutes slow": -1200, "20 minutes fast": 1200}
#: How many requests may fail in <Proxy> before S3's clock is recorded.
MAX_FAILED = 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(("way", "mode"), WAYS_AND_MODES)
def test_an_object_with_a_wrong_clock(
    run: Run, shifted_clock: Path, monkeypatch: pytest.MonkeyPatch, way: str, mode: str, clock: str, method: str
) -> None:
    if unsupported := run.unsupported(mode):
        pytest.skip(f"{run.server.name} does not support {mode}: {unsupported}")
    key = encoded(PLAIN.key)
    direct = BotocoreClient(run.server).send("GET", f"/{bucket(mode, 'objects')}/{key}", mode, clock=CLOCKS[clock])
    run.results.clocks[f"{mode}, {clock}"] = str(direct)
    monkeypatch.setenv("CLOCK_SHIFT", str(CLOCKS[clock]))
    with Httpd(config(run.server, [(way, mode)], ["objects"]), preload=shifted_clock) as httpd:
        responses = [fetch(httpd, f"{mount(way, mode, 'objects')}/{key}", method) for _ in range(MAX_FAILED + 2)]
    body = PLAIN.body if method == "GET" else b""
    failed = [response for response in responses if (response.status, response.body) != (200, body)]
    # A failed request is this server's fault: the status must be one that caches do not store.
    is_expected = responses[-1] not in failed and len(failed) <= (MAX_FAILED if way == "proxy" else 0)
    is_expected = is_expected and all(response.status in {502, 503} for response in failed)
    verdict = (
        Verdict(PASSED)
        if is_expected
        else Verdict(OUR_FAULT, f"{', '.join(map(str, responses))}; botocore got {direct}")
    )
    run.results.add("wrong clocks", clock, method, way, mode, verdict)
    assert verdict == Verdict(PASSED)
