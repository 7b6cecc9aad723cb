"""S3's clock and regions: what is recorded, for which host or settings, and until when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.s3.endpoint_state import SYSTEM_CLOCK, EndpointState

AMAZON = bucket_url("https://films.s3.us-east-1.amazonaws.com/")
CEPH = bucket_url("http://ceph.example:8080/films/")
SECTION = Settings(AMAZON, "AKIA", "secret", region="us-east-1")


def now() -> datetime:
    return datetime.now(UTC)


def seconds_off(state: EndpointState, date: datetime) -> float:
    return abs((state.now(CEPH) - date).total_seconds())


def record_clock(state: EndpointState, date: datetime | None, signed_at: datetime) -> bool:
    """Record the clock to try after S3 rejected a signature; return whether it was found."""
    clock = state.alternative_clock(CEPH, date, signed_at)
    if clock is not None:
        state.record_clock(CEPH, clock)
    return clock is not None


def test_the_system_clock_is_used_until_s3s_clock_is_recorded() -> None:
    state = EndpointState()
    assert seconds_off(state, now()) < 1
    assert record_clock(state, now() + timedelta(hours=3), now())
    assert state.version == 1
    assert seconds_off(state, now() + timedelta(hours=3)) < 1
    assert abs((state.now(AMAZON) - now()).total_seconds()) < 1


def test_a_date_equal_to_the_signed_time_is_not_recorded() -> None:
    state = EndpointState()
    skewed = now() + timedelta(hours=3)
    assert not record_clock(state, skewed, skewed)
    assert not record_clock(state, None, now())
    assert seconds_off(state, now()) < 1 and state.version == 0


def test_two_concurrent_requests_that_record_the_same_clock_are_both_retried() -> None:
    state, skewed = EndpointState(), now() + timedelta(hours=3)
    assert record_clock(state, skewed, now())
    assert record_clock(state, skewed, now())


@pytest.mark.parametrize("has_date", [True, False])
def test_a_recorded_clock_that_s3_rejects_is_removed(has_date: bool) -> None:
    """Another server than the one that checks signatures sets the Date: the system clock may be right again."""
    state, skewed = EndpointState(), now() + timedelta(hours=3)
    assert record_clock(state, skewed, now())
    assert record_clock(state, skewed if has_date else None, state.now(CEPH))
    assert state.clock(CEPH) == SYSTEM_CLOCK and seconds_off(state, now()) < 1


def test_region_and_endpoint_of_amazon() -> None:
    state = EndpointState()
    assert state.effective_settings(SECTION) is SECTION
    assert state.record_region(SECTION, SECTION, "eu-west-3")
    effective = state.effective_settings(SECTION)
    assert (effective.region, effective.bucket_url.host) == ("eu-west-3", "films.s3.eu-west-3.amazonaws.com")
    assert replace(effective, region="us-east-1", bucket_url=AMAZON) == SECTION
    assert not state.record_region(SECTION, effective, "eu-west-3")


@pytest.mark.parametrize("region", ["", "us-east-1"])
def test_an_empty_or_unchanged_region_is_not_recorded(region: str) -> None:
    state = EndpointState()
    assert not state.record_region(SECTION, SECTION, region)
    assert state.effective_settings(SECTION) is SECTION


def test_other_servers_keep_their_host() -> None:
    state, section = EndpointState(), replace(SECTION, bucket_url=CEPH)
    assert state.record_region(section, section, "default")
    assert state.effective_settings(section) == replace(section, region="default")
    assert state.effective_settings(SECTION) is SECTION


def test_signature_v2_has_no_region() -> None:
    state, section = EndpointState(), replace(SECTION, region=None)
    assert state.record_region(section, section, "eu-west-3")
    assert state.effective_settings(section).region is None
    section = replace(section, bucket_url=CEPH)
    assert not state.record_region(section, section, "eu-west-3")


def test_keep_host() -> None:
    """In a <Proxy> section the host stays: another one belongs to another section. The gateway's record is separate."""
    state = EndpointState()
    assert state.record_region(SECTION, SECTION, "eu-west-3", keep_host=True)
    assert state.effective_settings(SECTION, keep_host=True) == replace(SECTION, region="eu-west-3")
    assert state.effective_settings(SECTION) is SECTION
