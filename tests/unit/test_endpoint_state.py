"""What is remembered of S3's clock and regions, for whom, and how long."""

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


def learn(state: EndpointState, date: datetime | None, signed_at: datetime) -> bool:
    clock = state.alternative_clock(CEPH, date, signed_at)
    if clock is not None:
        state.record_clock(CEPH, clock)
    return clock is not None


def test_the_clock_of_this_server_unless_s3_said_otherwise() -> None:
    state = EndpointState()
    assert seconds_off(state, now()) < 1
    assert learn(state, now() + timedelta(hours=3), now())
    assert state.version == 1
    assert seconds_off(state, now() + timedelta(hours=3)) < 1
    assert abs((state.now(AMAZON) - now()).total_seconds()) < 1


def test_a_clock_that_was_signed_with_already_teaches_nothing() -> None:
    state = EndpointState()
    late = now() + timedelta(hours=3)
    assert not learn(state, late, late)
    assert not learn(state, None, now())
    assert seconds_off(state, now()) < 1 and state.version == 0


def test_two_requests_that_learn_the_same_at_once_are_both_asked_again() -> None:
    state, late = EndpointState(), now() + timedelta(hours=3)
    assert learn(state, late, now())
    assert learn(state, late, now())


@pytest.mark.parametrize("says", ["the same", "nothing"])
def test_a_clock_that_s3_refuses_and_shows_itself_is_given_up(says: str) -> None:
    """Its answers are dated by another server than the one that judges: this server's own clock may be right again."""
    state, late = EndpointState(), now() + timedelta(hours=3)
    assert learn(state, late, now())
    assert learn(state, late if says == "the same" else None, state.now(CEPH))
    assert state.clock(CEPH) == SYSTEM_CLOCK and seconds_off(state, now()) < 1


def test_the_region_and_amazons_endpoint_there() -> None:
    state = EndpointState()
    assert state.effective_settings(SECTION) is SECTION
    assert state.record_region(SECTION, SECTION, "eu-west-3")
    there = state.effective_settings(SECTION)
    assert (there.region, there.bucket_url.host) == ("eu-west-3", "films.s3.eu-west-3.amazonaws.com")
    assert replace(there, region="us-east-1", bucket_url=AMAZON) == SECTION
    assert not state.record_region(SECTION, there, "eu-west-3")


@pytest.mark.parametrize("region", ["", "us-east-1"])
def test_no_other_region(region: str) -> None:
    state = EndpointState()
    assert not state.record_region(SECTION, SECTION, region)
    assert state.effective_settings(SECTION) is SECTION


def test_elsewhere_only_the_signature_changes() -> None:
    state, section = EndpointState(), replace(SECTION, bucket_url=CEPH)
    assert state.record_region(section, section, "default")
    assert state.effective_settings(section) == replace(section, region="default")
    assert state.effective_settings(SECTION) is SECTION


def test_signature_v2_stays_what_it_is() -> None:
    state, section = EndpointState(), replace(SECTION, region=None)
    assert state.record_region(section, section, "eu-west-3")
    assert state.effective_settings(section).region is None
    section = replace(section, bucket_url=CEPH)
    assert not state.record_region(section, section, "eu-west-3")


def test_a_host_that_must_stay() -> None:
    """<Proxy>: another host would be another section's. What the gateway has state of the same section is its own."""
    state = EndpointState()
    assert state.record_region(SECTION, SECTION, "eu-west-3", keep_host=True)
    assert state.effective_settings(SECTION, keep_host=True) == replace(SECTION, region="eu-west-3")
    assert state.effective_settings(SECTION) is SECTION
