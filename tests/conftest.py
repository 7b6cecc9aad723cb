"""What tests of the gateway in this process share: connections that do not outlive a test, and a certificate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd.machine import make_certificate
from usp_s3_wsgi import pool, upstream


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test pools of its own and close them, so that no port's past and no open file is left."""
    own = pool.Workers()
    monkeypatch.setattr(upstream, "workers", own)
    yield
    for worker in own._known.values():
        worker._pool.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key for 127.0.0.1 and localhost, self-signed."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))
