"""From when to when a signature is valid, by S3's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.signing.signer import validity_interval

NOW = datetime(2026, 3, 29, 1, 30, 7, 999_999, tzinfo=UTC)
SIGNED = NOW.replace(microsecond=0)
QUARTER = timedelta(minutes=15)


@pytest.mark.parametrize("region", ["eu-central-1", None])
def test_a_signature_in_headers_is_valid_15_minutes_before_and_after_its_time(region: str | None) -> None:
    parsed = Settings(bucket_url("https://b.s3.amazonaws.com/"), region=region, use_headers=True, expires=10)
    assert validity_interval(parsed.signing, NOW) == (SIGNED - QUARTER, SIGNED + QUARTER)


def test_a_signature_in_the_query_is_valid_until_it_expires() -> None:
    parsed = Settings(bucket_url("https://b.s3.amazonaws.com/"), region="eu-central-1", expires=10)
    assert validity_interval(parsed.signing, NOW) == (SIGNED - QUARTER, SIGNED + timedelta(seconds=10))


def test_a_signature_v2_in_the_query_has_only_an_end() -> None:
    begin, end = validity_interval(Settings(bucket_url("https://b.s3.amazonaws.com/"), expires=10).signing, NOW)
    assert begin < SIGNED - timedelta(days=10_000) and end == SIGNED + timedelta(seconds=10)
