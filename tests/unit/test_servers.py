"""``make test-servers``: the page is generated from the results, and each wrong response is attributed."""

from __future__ import annotations

import pytest

from tests.servers import report, results
from tests.servers.answer import Answer, Want, check, status
from tests.servers.battery import CASES, OBJECTS
from tests.servers.battery.case import Case
from tests.servers.sections import KINDS
from tests.servers.verdict import OURS, OWN, PASSED, Verdict, judge

BODY = b"0123456789"
PART = Answer(206, {"content-range": "bytes 5-7/10"}, BODY[5:8])
WHOLE = Answer(200, {}, BODY)
PART_AS_200 = Answer(200, {"content-range": "bytes 5-7/10"}, BODY[5:8])
NO_KEY = Answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")


def error(status: int, code: str = "") -> Answer:
    """Return an error response of S3, or of the gateway."""
    return Answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())


def case(*wants: Want, s3: tuple[Want, ...] | None = None, least: tuple[Want, ...] | None = None) -> Case:
    return Case("a subject", "a name", b"key", wants, s3=s3, least=least)


RIGHT = Want((206,), BODY[5:8], {"content-range": "bytes 5-7/10"})
RANGE, STRICT = case(RIGHT), case(RIGHT, Want((200,), BODY), least=(RIGHT, Want((200,), BODY)))
OBJECT = case(Want((200,), BODY, {"content-type": "a/b"}))
KEYS = case(*status(502), s3=(Want((403,), codes=frozenset({"InvalidAccessKeyId"})),))


def test_the_page_is_generated_from_the_results() -> None:
    """The next run would overwrite a manual change."""
    assert report.PAGE.read_text() == report.page(results.load(report.RESULTS))


@pytest.mark.parametrize(
    ("requested", "response", "direct", "verdict"),
    [
        (RANGE, PART, WHOLE, PASSED),
        (RANGE, WHOLE, WHOLE, OWN),  # the server ignores ranges, as it may
        (RANGE, WHOLE, PART, OURS),
        (RANGE, PART_AS_200, PART_AS_200, OURS),
        (RANGE, PART, PART_AS_200, PASSED),
        (RANGE, error(502), PART_AS_200, OWN),
        (RANGE, error(416), error(416), OWN),
        (RANGE, error(416), PART_AS_200, OURS),
        # If the server sends the whole object, an error is our fault.
        (STRICT, error(502), error(501), OURS),
        (STRICT, error(416), error(416), OURS),
        (STRICT, WHOLE, error(501), PASSED),
        (OBJECT, Answer(200, {"content-type": "x/y"}, BODY), Answer(200, {"content-type": "x/y"}, BODY), OWN),
        (OBJECT, Answer(200, {}, BODY), Answer(200, {"content-type": "x/y"}, BODY), OURS),
        (OBJECT, Answer(200, {"content-type": "a/b"}, BODY[:5]), Answer(200, {"content-type": "x/y"}, BODY), OURS),
        (OBJECT, NO_KEY, NO_KEY, OWN),
        (OBJECT, error(502), NO_KEY, OURS),
        (OBJECT, error(503), error(500, "InternalError"), OWN),
        (OBJECT, error(404), error(500, "InternalError"), OURS),
        (OBJECT, error(502), error(403, "SignatureDoesNotMatch"), OWN),
        (OBJECT, Answer(0, {}, b"", "IncompleteRead"), WHOLE, OURS),
        (KEYS, error(502), error(403, "InvalidAccessKeyId"), PASSED),
        (KEYS, error(403), error(403, "InvalidAccessKeyId"), OURS),
        (KEYS, error(403), error(403, "AccessDenied"), OWN),
        (KEYS, WHOLE, WHOLE, OWN),  # this server checks no signatures
    ],
)
def test_verdict(requested: Case, response: Answer, direct: Answer, verdict: str) -> None:
    """``response``: what the client gets. ``direct``: what botocore gets from the server itself."""
    assert judge(requested, "GET", response, lambda is_plain: WHOLE if is_plain else direct).what == verdict


@pytest.mark.parametrize(
    ("length", "is_valid"), [("10", True), ("00", False), (None, False), ("5x", False), ("+10", False), ("11", False)]
)
def test_content_length_of_a_head_response(length: str | None, is_valid: bool) -> None:
    answer = Answer(200, {"content-length": length} if length else {}, b"")
    assert (check(answer, [Want((200,), BODY)], "HEAD") == []) == is_valid


def test_multipart_byteranges() -> None:
    text = (
        b"\r\n--x\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n--x\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n--x--\r\n"
    )
    answer = Answer(206, {"content-type": "multipart/byteranges; boundary=x"}, text)
    assert check(answer, [Want((206,), parts=(b"01", b"9"))], "GET") == []
    assert check(answer, [Want((206,), parts=(b"01", b"8"))], "GET") != []


def test_names_of_cases_and_keys_of_objects_are_unique() -> None:
    names = [(one.subject, one.name) for one in CASES]
    stored = [(one.kind, one.key) for one in OBJECTS]
    assert len(set(names)) == len(names) and len(set(stored)) == len(stored)
    assert {one.kind for one in CASES} <= set(KINDS)


def test_a_finding_is_reported_once() -> None:
    """A HEAD has no code. A finding in one signing mode is not reported for each way in."""
    one = results.ServerResults("a server", "1")
    for way, mode in (("gateway", "v4-header"), ("daemon", "v4-header"), ("gateway", "v2-query")):
        for method, met in (("GET", "403 AccessDenied, not 200"), ("HEAD", "403, not 200")):
            one.add(
                "keys",
                "a tab",
                method,
                way,
                mode,
                Verdict(OWN, met) if mode == "v2-query" else Verdict(PASSED),
            )
    # botocore gets another code with GET: this is another finding.
    one.add("clocks", "slow", "GET", "proxy", "v4-query", Verdict(OURS, "403; botocore met 403 AccessDenied"))
    one.add("clocks", "slow", "HEAD", "proxy", "v4-header", Verdict(OURS, "403; botocore met 403 RequestTimeTooSkewed"))
    finding = {
        "subject": "keys",
        "case": "a tab",
        "what": OWN,
        "met": "403 AccessDenied, not 200",
        "only": ["v2-query"],
    }
    found = one.summary()
    assert found["findings"][0] == finding and len(found["findings"]) == 3
    assert found["subjects"] == {"keys": {PASSED: 4, OWN: 2}, "clocks": {OURS: 2}}
