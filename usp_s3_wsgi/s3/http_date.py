"""HTTP dates: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FULL_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_DAY, _MONTH, _TIME = "Mon|Tue|Wed|Thu|Fri|Sat|Sun", "|".join(_MONTHS), "(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
_LEAP_SECOND = 60
_FORMS = (
    re.compile(rf"(?:{_DAY}), (?P<day>[0-9]{{2}}) (?P<month>{_MONTH}) (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"(?:{_FULL_DAYS}), (?P<day>[0-9]{{2}})-(?P<month>{_MONTH})-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"(?:{_DAY}) (?P<month>{_MONTH}) (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


def canonical(text: str) -> str | None:
    """Return a date in the form that must be sent (IMF-fixdate), None for anything else.

    >>> canonical("Sunday, 06-Nov-94 08:49:37 GMT")
    'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    match = next((match for form in _FORMS if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 2000 if year < 70 else 1900  # as httpd does
    hour, minute, second = map(int, match["time"].split(":"))
    if second > _LEAP_SECOND:
        return None
    try:
        day = datetime(
            year, _MONTHS.index(match["month"]) + 1, int(match["day"]), hour, minute, min(second, 59), tzinfo=UTC
        )
    except ValueError:
        return None
    if match.re is _FORMS[0]:
        return text
    from email.utils import format_datetime  # not imported when a child of httpd starts: such dates are rare

    return format_datetime(day, usegmt=True)
