"""Dates in conditional headers: invalid dates are never sent to S3."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usp_s3_wsgi.s3.http_date import canonical

DATES = st.datetimes(datetime(1970, 1, 2), datetime(2069, 12, 31)).map(lambda date: date.replace(microsecond=0))


@given(DATES)
def test_the_three_formats_of_a_date(date: datetime) -> None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7"""
    imf_fixdate = format_datetime(date.replace(tzinfo=UTC), usegmt=True)
    assert canonical(imf_fixdate) == imf_fixdate
    assert canonical(date.strftime("%A, %d-%b-%y %H:%M:%S GMT")) == imf_fixdate
    assert canonical(f"{date:%a %b} {date.day:2} {date:%H:%M:%S %Y}") == imf_fixdate


@given(DATES, st.integers(0, 28), st.sampled_from("SunMoTuedaFrbJ0123456789 :,-GMT"))
@example(datetime(1994, 11, 6, 8, 49, 37), 23, "6")
def test_a_date_with_a_changed_character(date: datetime, position: int, character: str) -> None:
    """It is rejected, or its canonical form is a date for other parsers too."""
    text = format_datetime(date.replace(tzinfo=UTC), usegmt=True)
    if (sent := canonical(text[:position] + character + text[position + 1 :])) is not None:
        assert re.fullmatch(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT", sent)
        assert canonical(sent) == sent
        assert sent[17:].endswith(":60 GMT") or parsedate_to_datetime(sent)


@pytest.mark.parametrize(
    "text",
    ["", "0", "now", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT ",
     "sun, 06 nov 1994 08:49:37 gmt", "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 29 Feb 2023 08:49:37 GMT",
     "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT",
     "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT", "Xyz, 06 Nov 1994 08:49:37 GMT",
     "Sunday, 06-Nov-1994 08:49:37 GMT", "Sun Nov 06 08:49:37 1994 GMT"],
)  # fmt: skip
def test_invalid_dates(text: str) -> None:
    assert canonical(text) is None
