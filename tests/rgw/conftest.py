"""Fixtures: one RGW for all tests, with a bucket, an object and a role that may read it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rgw import MISSING, Rgw, available

BUCKET, KEY, DATA = "private", "a b+c.txt", b"hello"


@pytest.fixture(scope="session")
def rgw() -> Iterator[Rgw]:
    if not available():
        pytest.skip(MISSING)
    with Rgw() as server:
        server.create_bucket(BUCKET)
        server.put(BUCKET, KEY, DATA)
        yield server


@pytest.fixture(scope="session")
def role(rgw: Rgw) -> str:
    """The ARN of a role that may read the bucket's objects."""
    return rgw.create_role("reader", BUCKET)
