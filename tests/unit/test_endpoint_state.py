"""What is remembered of S3's clock and regions, for whom, and how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.s3.endpoint_state import OWN, Learned

AMAZON = bucket_url("https://films.s3.us-east-1.amazonaws.com/")
CEPH = bucket_url("http://ceph.example:8080/films/")
SECTION = Settings(AMAZON, "AKIA", "secret", region="us-east-1")


def now() -> datetime:
    return datetime.now(UTC)


def seconds_off(learned: Learned, date: datetime) -> float:
    return abs((learned.now(CEPH) - date).total_seconds())


def learn(learned: Learned, date: datetime | None, signed_at: datetime) -> bool:
    clock = learned.other_clock(CEPH, date, signed_at)
    if clock is not None:
        learned.take_clock(CEPH, clock)
    return clock is not None


def test_the_clock_of_this_server_unless_s3_said_otherwise() -> None:
    learned = Learned()
    assert seconds_off(learned, now()) < 1
    assert learn(learned, now() + timedelta(hours=3), now())
    assert learned.version == 1
    assert seconds_off(learned, now() + timedelta(hours=3)) < 1
    assert abs((learned.now(AMAZON) - now()).total_seconds()) < 1


def test_a_clock_that_was_signed_with_already_teaches_nothing() -> None:
    learned = Learned()
    late = now() + timedelta(hours=3)
    assert not learn(learned, late, late)
    assert not learn(learned, None, now())
    assert seconds_off(learned, now()) < 1 and learned.version == 0


def test_two_requests_that_learn_the_same_at_once_are_both_asked_again() -> None:
    learned, late = Learned(), now() + timedelta(hours=3)
    assert learn(learned, late, now())
    assert learn(learned, late, now())


@pytest.mark.parametrize("says", ["the same", "nothing"])
def test_a_clock_that_s3_refuses_and_shows_itself_is_given_up(says: str) -> None:
    """Its answers are dated by another server than the one that judges: this server's own clock may be right again."""
    learned, late = Learned(), now() + timedelta(hours=3)
    assert learn(learned, late, now())
    assert learn(learned, late if says == "the same" else None, learned.now(CEPH))
    assert learned.clock(CEPH) == OWN and seconds_off(learned, now()) < 1


def test_the_region_and_amazons_endpoint_there() -> None:
    learned = Learned()
    assert learned.whereabouts(SECTION) is SECTION
    assert learned.take_region(SECTION, SECTION, "eu-west-3")
    there = learned.whereabouts(SECTION)
    assert (there.region, there.bucket_url.host) == ("eu-west-3", "films.s3.eu-west-3.amazonaws.com")
    assert replace(there, region="us-east-1", bucket_url=AMAZON) == SECTION
    assert not learned.take_region(SECTION, there, "eu-west-3")


@pytest.mark.parametrize("region", ["", "us-east-1"])
def test_no_other_region(region: str) -> None:
    learned = Learned()
    assert not learned.take_region(SECTION, SECTION, region)
    assert learned.whereabouts(SECTION) is SECTION


def test_elsewhere_only_the_signature_changes() -> None:
    learned, section = Learned(), replace(SECTION, bucket_url=CEPH)
    assert learned.take_region(section, section, "default")
    assert learned.whereabouts(section) == replace(section, region="default")
    assert learned.whereabouts(SECTION) is SECTION


def test_signature_v2_stays_what_it_is() -> None:
    learned, section = Learned(), replace(SECTION, region=None)
    assert learned.take_region(section, section, "eu-west-3")
    assert learned.whereabouts(section).region is None
    section = replace(section, bucket_url=CEPH)
    assert not learned.take_region(section, section, "eu-west-3")


def test_a_host_that_must_stay() -> None:
    """<Proxy>: another host would be another section's. What the gateway has learned of the same section is its own."""
    learned = Learned()
    assert learned.take_region(SECTION, SECTION, "eu-west-3", same_host=True)
    assert learned.whereabouts(SECTION, same_host=True) == replace(SECTION, region="eu-west-3")
    assert learned.whereabouts(SECTION) is SECTION
