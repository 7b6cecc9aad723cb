"""Conditional requests: RFC 9110, section 13. An invalid HTTP-date is ignored (13.1.3, 13.1.4)."""

from __future__ import annotations

from tests.servers.battery.case import Case, Object
from tests.servers.response import Expected

KEY, DATA = b"conditions.txt", b"this is conditions.txt"
OBJECTS = [Object(KEY, DATA)]
OTHER = '"0123456789abcdef0123456789abcdef"'
PAST = "Sun, 06 Nov 1994 08:49:37 GMT"
SERVED, NOT_MODIFIED, FAILED = Expected((200,), DATA), Expected((304,), b""), Expected((412,))
#: The obsolete formats that a recipient must accept: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7.
OBSOLETE_DATES = {"RFC 850": "Sunday, 06-Nov-94 08:49:37 GMT", "asctime": "Sun Nov  6 08:49:37 1994"}
INVALID_DATES = {
    "0": "0",
    "a word": "yesterday",
    "ISO 8601": "2094-11-06T08:49:37Z",
    "seconds": "3934255777",
    "no time zone": "Sat, 06 Nov 2094 08:49:37",
}


def case(name: str, expected: Expected, **headers: str) -> Case:
    """``If_Match="x"`` is the header If-Match."""
    request_headers = {header.replace("_", "-"): value for header, value in headers.items()}
    return Case("conditions", name, KEY, (expected,), headers=request_headers)


def ignored(name: str, **headers: str) -> Case:
    """Headers that must be ignored; the client gets the object whatever the server responds."""
    served = case(name, SERVED, **headers)
    return Case("conditions", name, KEY, served.expected, headers=served.headers, minimum=served.expected)


CASES = [
    case("If-None-Match: the same ETag", NOT_MODIFIED, If_None_Match="{etag}"),
    case("If-None-Match: the same ETag, weak", NOT_MODIFIED, If_None_Match="W/{etag}"),
    case("If-None-Match: one of a list", NOT_MODIFIED, If_None_Match=f"{OTHER}, {{etag}}"),
    case("If-None-Match: *", NOT_MODIFIED, If_None_Match="*"),
    case("If-None-Match: another ETag", SERVED, If_None_Match=OTHER),
    case("If-Match: the same ETag", SERVED, If_Match="{etag}"),
    case("If-Match: one of a list", SERVED, If_Match=f"{OTHER}, {{etag}}"),
    case("If-Match: *", SERVED, If_Match="*"),
    case("If-Match: another ETag", FAILED, If_Match=OTHER),
    case("If-Modified-Since: Last-Modified", NOT_MODIFIED, If_Modified_Since="{modified}"),
    case("If-Modified-Since: an earlier date", SERVED, If_Modified_Since=PAST),
    case("If-Unmodified-Since: Last-Modified", SERVED, If_Unmodified_Since="{modified}"),
    case("If-Unmodified-Since: an earlier date", FAILED, If_Unmodified_Since=PAST),
    *[
        case(f"If-Modified-Since: an earlier date, {name}", SERVED, If_Modified_Since=date)
        for name, date in OBSOLETE_DATES.items()
    ],
    *[
        case(f"If-Unmodified-Since: an earlier date, {name}", FAILED, If_Unmodified_Since=date)
        for name, date in OBSOLETE_DATES.items()
    ],
    *[ignored(f"If-Modified-Since: {name}", If_Modified_Since=text) for name, text in INVALID_DATES.items()],
    *[ignored(f"If-Unmodified-Since: {name}", If_Unmodified_Since=text) for name, text in INVALID_DATES.items()],
    # 13.2.2: ETags are evaluated first.
    case(
        "If-None-Match: the same ETag, with If-Modified-Since: an earlier date", NOT_MODIFIED,
        If_None_Match="{etag}", If_Modified_Since=PAST,
    ),
    case(
        "If-None-Match: another ETag, with If-Modified-Since: Last-Modified", SERVED,
        If_None_Match=OTHER, If_Modified_Since="{modified}",
    ),
    case(
        "If-Match: the same ETag, with If-Unmodified-Since: an earlier date", SERVED,
        If_Match="{etag}", If_Unmodified_Since=PAST,
    ),
    case(
        "If-Match: another ETag, with If-Unmodified-Since: Last-Modified", FAILED,
        If_Match=OTHER, If_Unmodified_Since="{modified}",
    ),
    case("If-Match and If-None-Match: the same ETag", NOT_MODIFIED, If_Match="{etag}", If_None_Match="{etag}"),
]  # fmt: skip
