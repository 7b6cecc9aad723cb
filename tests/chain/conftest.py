"""Fixtures of the chain: an S3 whose objects a test may replace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3 import EmbeddedS3

pytest.register_assert_rewrite("tests.chain.client")


@pytest.fixture(scope="module")
def bucket_server() -> Iterator[EmbeddedS3]:
    """The S3 of a file of tests, with the bucket "bucket"."""
    with EmbeddedS3(buckets=("bucket",)) as server:
        yield server


@pytest.fixture
def s3(bucket_server: EmbeddedS3) -> EmbeddedS3:
    """The same S3, which has forgotten the requests of earlier tests. Objects of earlier tests stay."""
    bucket_server.clear()
    return bucket_server
