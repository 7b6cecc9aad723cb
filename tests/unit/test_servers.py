"""``make test-servers``: its table is generated, and whose fault a wrong answer is."""

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
CALLED_WHOLE = Answer(200, {"content-range": "bytes 5-7/10"}, BODY[5:8])
NO_KEY = Answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")


def refusal(status: int, code: str = "") -> Answer:
    """S3's, or a client's error page."""
    return Answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())


def case(*wants: Want, s3: tuple[Want, ...] | None = None, least: tuple[Want, ...] | None = None) -> Case:
    return Case("a subject", "a name", b"key", wants, s3=s3, least=least)


RIGHT = Want((206,), BODY[5:8], {"content-range": "bytes 5-7/10"})
RANGE, STRICT = case(RIGHT), case(RIGHT, Want((200,), BODY), least=(RIGHT, Want((200,), BODY)))
OBJECT = case(Want((200,), BODY, {"content-type": "a/b"}))
KEYS = case(*status(502), s3=(Want((403,), codes=frozenset({"InvalidAccessKeyId"})),))


def test_the_page_is_what_the_results_say() -> None:
    """Whoever edits it by hand has it undone by the next run."""
    assert report.PAGE.read_text() == report.page(results.load(report.RESULTS))


@pytest.mark.parametrize(
    ("asked", "got", "met", "whose"),
    [
        (RANGE, PART, WHOLE, PASSED),
        (RANGE, WHOLE, WHOLE, OWN),  # the server ignores ranges, as it may
        (RANGE, WHOLE, PART, OURS),
        (RANGE, CALLED_WHOLE, CALLED_WHOLE, OURS),
        (RANGE, PART, CALLED_WHOLE, PASSED),
        (RANGE, refusal(502), CALLED_WHOLE, OWN),
        (RANGE, refusal(416), refusal(416), OWN),
        (RANGE, refusal(416), CALLED_WHOLE, OURS),
        # Where the whole object can be had, there is no excuse.
        (STRICT, refusal(502), refusal(501), OURS),
        (STRICT, refusal(416), refusal(416), OURS),
        (STRICT, WHOLE, refusal(501), PASSED),
        (OBJECT, Answer(200, {"content-type": "x/y"}, BODY), Answer(200, {"content-type": "x/y"}, BODY), OWN),
        (OBJECT, Answer(200, {}, BODY), Answer(200, {"content-type": "x/y"}, BODY), OURS),
        (OBJECT, Answer(200, {"content-type": "a/b"}, BODY[:5]), Answer(200, {"content-type": "x/y"}, BODY), OURS),
        (OBJECT, NO_KEY, NO_KEY, OWN),
        (OBJECT, refusal(502), NO_KEY, OURS),
        (OBJECT, refusal(503), refusal(500, "InternalError"), OWN),
        (OBJECT, refusal(404), refusal(500, "InternalError"), OURS),
        (OBJECT, refusal(502), refusal(403, "SignatureDoesNotMatch"), OWN),
        (OBJECT, Answer(0, {}, b"", "IncompleteRead"), WHOLE, OURS),
        (KEYS, refusal(502), refusal(403, "InvalidAccessKeyId"), PASSED),
        (KEYS, refusal(403), refusal(403, "InvalidAccessKeyId"), OURS),
        (KEYS, refusal(403), refusal(403, "AccessDenied"), OWN),
        (KEYS, WHOLE, WHOLE, OWN),  # no signature is checked there
    ],
)
def test_whose_fault_it_is(asked: Case, got: Answer, met: Answer, whose: str) -> None:
    assert judge(asked, "GET", got, lambda is_plain: WHOLE if is_plain else met).what == whose


@pytest.mark.parametrize(
    ("length", "is_right"), [("10", True), ("00", False), (None, False), ("5x", False), ("+10", False), ("11", False)]
)
def test_the_length_of_a_head(length: str | None, is_right: bool) -> None:
    answer = Answer(200, {"content-length": length} if length else {}, b"")
    assert (check(answer, [Want((200,), BODY)], "HEAD") == []) == is_right


def test_several_parts() -> None:
    text = (
        b"\r\n--x\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n--x\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n--x--\r\n"
    )
    answer = Answer(206, {"content-type": "multipart/byteranges; boundary=x"}, text)
    assert check(answer, [Want((206,), parts=(b"01", b"9"))], "GET") == []
    assert check(answer, [Want((206,), parts=(b"01", b"8"))], "GET") != []


def test_what_is_asked_for_is_named_once_and_stored_once() -> None:
    names = [(one.subject, one.name) for one in CASES]
    stored = [(one.kind, one.key) for one in OBJECTS]
    assert len(set(names)) == len(names) and len(set(stored)) == len(stored)
    assert {one.kind for one in CASES} <= set(KINDS)


def test_what_was_met_is_told_once() -> None:
    """A HEAD has no code; a way of signing that only some ways in were asked by is no news of the ways in."""
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
    # What botocore met is the GET's, and is another one.
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
