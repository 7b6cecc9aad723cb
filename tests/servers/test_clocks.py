"""A clock that is 20 minutes wrong: the gateway corrects it while the client waits, ``<Proxy>`` for what is next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.httpd.server import Httpd
from tests.servers.battery.modes import PLAIN
from tests.servers.direct import Direct, encoded
from tests.servers.run import Run, fetch
from tests.servers.sections import PLACES, bucket, config, mount
from tests.servers.verdict import OURS, PASSED, Verdict

#: In seconds; S3 allows 900.
CLOCKS = {"20 minutes slow": -1200, "20 minutes fast": 1200}
#: How many requests <Proxy> may lose before it has learned S3's clock.
LOST = 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(("way", "mode"), PLACES)
def test_an_object(
    run: Run, shifted_clock: Path, monkeypatch: pytest.MonkeyPatch, way: str, mode: str, clock: str, method: str
) -> None:
    if unknown := run.unknown(mode):
        pytest.skip(f"{run.server.name} does not know {mode}: {unknown}")
    key = encoded(PLAIN.key)
    met = Direct(run.server).ask("GET", f"/{bucket(mode, 'objects')}/{key}", mode, clock=CLOCKS[clock])
    run.results.clocks[f"{mode}, {clock}"] = str(met)
    monkeypatch.setenv("CLOCK_SHIFT", str(CLOCKS[clock]))
    with Httpd(config(run.server, [(way, mode)], ["objects"]), preload=shifted_clock) as httpd:
        tries = [fetch(httpd, f"{mount(way, mode, 'objects')}/{key}", method) for _ in range(LOST + 2)]
    body = PLAIN.body if method == "GET" else b""
    lost = [answer for answer in tries if (answer.status, answer.body) != (200, body)]
    # What is lost is this server's fault, and no cache may keep it.
    is_right = tries[-1] not in lost and len(lost) <= (LOST if way == "proxy" else 0)
    is_right = is_right and all(answer.status in {502, 503} for answer in lost)
    verdict = Verdict(PASSED) if is_right else Verdict(OURS, f"{', '.join(map(str, tries))}; botocore met {met}")
    run.results.add("wrong clocks", clock, method, way, mode, verdict)
    assert verdict == Verdict(PASSED)
