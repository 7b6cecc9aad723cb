"""Dates of conditions: those that are none never reach S3."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usp_s3_wsgi.http_date import canonical

DATES = st.datetimes(datetime(1970, 1, 2), datetime(2069, 12, 31)).map(lambda date: date.replace(microsecond=0))


@given(DATES)
def test_three_forms_of_one_date(date: datetime) -> None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7"""
    today = format_datetime(date.replace(tzinfo=UTC), usegmt=True)
    assert canonical(today) == today
    assert canonical(date.strftime("%A, %d-%b-%y %H:%M:%S GMT")) == today
    assert canonical(f"{date:%a %b} {date.day:2} {date:%H:%M:%S %Y}") == today


@given(st.text("SunMoTueJaFb, :-0123456789GT+", max_size=40))
@example("Sun, 06 Nov 1994 08:49:60 GMT")
def test_what_is_a_date_is_one_for_others_too(text: str) -> None:
    if (date := canonical(text)) is not None:
        assert re.fullmatch(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT", date)
        assert canonical(date) == date
        assert format_datetime(parsedate_to_datetime(date), usegmt=True) == date


@pytest.mark.parametrize(
    "text",
    ["", "0", "now", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT ",
     "sun, 06 nov 1994 08:49:37 gmt", "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 29 Feb 2023 08:49:37 GMT",
     "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT",
     "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-1994 08:49:37 GMT", "Sun Nov 06 08:49:37 1994 GMT"],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    assert canonical(text) is None
