"""What tests of the gateway in this process share: connections that do not outlive a test, and a certificate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.certificates import Certificate, make_certificate
from usp_s3_wsgi.gateway import fetcher
from usp_s3_wsgi.observability import error_log
from usp_s3_wsgi.proxy import callbacks, clock_correction
from usp_s3_wsgi.s3 import endpoint_state
from usp_s3_wsgi.transport import pool


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test the process's state anew: pools, which are closed after it, what was learned, counted lines."""
    own = pool.Workers()
    monkeypatch.setattr(pool, "workers", own)
    for module in (fetcher, callbacks):
        monkeypatch.setattr(module, "learned", state := endpoint_state.Learned())
    monkeypatch.setattr(callbacks, "clock_trials", clock_correction.ClockTrials(state))
    monkeypatch.setattr(error_log, "limiter", error_log.Limiter())
    yield
    for worker in own._known.values():
        worker._idle.close_all()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for 127.0.0.1 and localhost, as public providers have them."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))
