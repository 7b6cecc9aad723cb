"""What several tests of faults share."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that the gateway's clock is ahead."""
    ahead, real = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])
    yield ahead
    monkeypatch.undo()
