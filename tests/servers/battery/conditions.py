"""Conditional requests: RFC 9110, section 13. What is no HTTP-date is as if it were not there (13.1.3, 13.1.4)."""

from __future__ import annotations

from tests.servers.answer import Want
from tests.servers.battery.case import Case, Object

KEY, DATA = b"conditions.txt", b"this is conditions.txt"
OBJECTS = [Object(KEY, DATA)]
OTHER = '"0123456789abcdef0123456789abcdef"'
PAST = "Sun, 06 Nov 1994 08:49:37 GMT"
SERVED, SAME, FAILED = Want((200,), DATA), Want((304,), b""), Want((412,))
#: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7: two of them are dates that a recipient must understand.
OLD_FORMS = {"RFC 850": "Sunday, 06-Nov-94 08:49:37 GMT", "asctime": "Sun Nov  6 08:49:37 1994"}
NO_DATES = {
    "0": "0",
    "a word": "yesterday",
    "ISO 8601": "2094-11-06T08:49:37Z",
    "seconds": "3934255777",
    "no time zone": "Sat, 06 Nov 2094 08:49:37",
}


def case(name: str, want: Want, **headers: str) -> Case:
    """``If_Match="x"`` is the header If-Match."""
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    return Case("conditions", name, KEY, (want,), headers=named)


def ignored(name: str, **headers: str) -> Case:
    """As if the headers were not there, whatever the server makes of them."""
    given = case(name, SERVED, **headers)
    return Case("conditions", name, KEY, given.wants, headers=given.headers, least=given.wants)


CASES = [
    case("If-None-Match: the same", SAME, If_None_Match="{etag}"),
    case("If-None-Match: the same, weak", SAME, If_None_Match="W/{etag}"),
    case("If-None-Match: one of a list", SAME, If_None_Match=f"{OTHER}, {{etag}}"),
    case("If-None-Match: *", SAME, If_None_Match="*"),
    case("If-None-Match: another", SERVED, If_None_Match=OTHER),
    case("If-Match: the same", SERVED, If_Match="{etag}"),
    case("If-Match: one of a list", SERVED, If_Match=f"{OTHER}, {{etag}}"),
    case("If-Match: *", SERVED, If_Match="*"),
    case("If-Match: another", FAILED, If_Match=OTHER),
    case("If-Modified-Since: since then", SAME, If_Modified_Since="{modified}"),
    case("If-Modified-Since: long ago", SERVED, If_Modified_Since=PAST),
    case("If-Unmodified-Since: since then", SERVED, If_Unmodified_Since="{modified}"),
    case("If-Unmodified-Since: long ago", FAILED, If_Unmodified_Since=PAST),
    *[case(f"If-Modified-Since: long ago, {name}", SERVED, If_Modified_Since=date) for name, date in OLD_FORMS.items()],
    *[
        case(f"If-Unmodified-Since: long ago, {name}", FAILED, If_Unmodified_Since=date)
        for name, date in OLD_FORMS.items()
    ],
    *[ignored(f"If-Modified-Since: {name}", If_Modified_Since=text) for name, text in NO_DATES.items()],
    *[ignored(f"If-Unmodified-Since: {name}", If_Unmodified_Since=text) for name, text in NO_DATES.items()],
    # 13.2.2: ETags are asked first.
    case("both: the same ETag, a date long ago", SAME, If_None_Match="{etag}", If_Modified_Since=PAST),
    case("both: another ETag, since then", SERVED, If_None_Match=OTHER, If_Modified_Since="{modified}"),
    case("both: it must match and does, a date long ago", SERVED, If_Match="{etag}", If_Unmodified_Since=PAST),
    case("both: it must match and does not, since then", FAILED, If_Match=OTHER, If_Unmodified_Since="{modified}"),
    case("both: it must match, and there is nothing new", SAME, If_Match="{etag}", If_None_Match="{etag}"),
]  # fmt: skip
