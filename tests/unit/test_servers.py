"""``make test-servers``: the generated page, and whose fault an unexpected response is."""

from __future__ import annotations

import pytest

from tests.servers import report, results
from tests.servers.battery import CASES, OBJECTS
from tests.servers.battery.case import Case
from tests.servers.response import Expected, Response, differences, status
from tests.servers.sections import KINDS
from tests.servers.verdict import OUR_FAULT, PASSED, SERVER_FAULT, Verdict, judge

BODY = b"0123456789"
PART = Response(206, {"content-range": "bytes 5-7/10"}, BODY[5:8])
WHOLE = Response(200, {}, BODY)
RANGE_AS_200 = Response(200, {"content-range": "bytes 5-7/10"}, BODY[5:8])
NO_KEY = Response(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")


def error(status: int, code: str = "") -> Response:
    """An error response of S3, or a client's error page."""
    return Response(status, {}, f"<Error><Code>{code}</Code></Error>".encode())


def case(
    *expected: Expected, s3: tuple[Expected, ...] | None = None, minimum: tuple[Expected, ...] | None = None
) -> Case:
    return Case("a subject", "a name", b"key", expected, s3=s3, minimum=minimum)


EXPECTED_RANGE = Expected((206,), BODY[5:8], {"content-range": "bytes 5-7/10"})
RANGE, STRICT = (
    case(EXPECTED_RANGE),
    case(EXPECTED_RANGE, Expected((200,), BODY), minimum=(EXPECTED_RANGE, Expected((200,), BODY))),
)
OBJECT = case(Expected((200,), BODY, {"content-type": "a/b"}))
KEYS = case(*status(502), s3=(Expected((403,), codes=frozenset({"InvalidAccessKeyId"})),))


def test_the_page_is_what_the_results_say() -> None:
    """The next run would overwrite changes by hand."""
    assert report.PAGE.read_text() == report.page(results.load(report.RESULTS))


@pytest.mark.parametrize(
    ("request_case", "got", "direct", "outcome"),
    [
        (RANGE, PART, WHOLE, PASSED),
        (RANGE, WHOLE, WHOLE, SERVER_FAULT),  # the server ignores ranges, as it may
        (RANGE, WHOLE, PART, OUR_FAULT),
        (RANGE, RANGE_AS_200, RANGE_AS_200, OUR_FAULT),
        (RANGE, PART, RANGE_AS_200, PASSED),
        (RANGE, error(502), RANGE_AS_200, SERVER_FAULT),
        (RANGE, error(416), error(416), SERVER_FAULT),
        (RANGE, error(416), RANGE_AS_200, OUR_FAULT),
        # If the server serves the whole object, the client must get a valid response.
        (STRICT, error(502), error(501), OUR_FAULT),
        (STRICT, error(416), error(416), OUR_FAULT),
        (STRICT, WHOLE, error(501), PASSED),
        (
            OBJECT,
            Response(200, {"content-type": "x/y"}, BODY),
            Response(200, {"content-type": "x/y"}, BODY),
            SERVER_FAULT,
        ),
        (OBJECT, Response(200, {}, BODY), Response(200, {"content-type": "x/y"}, BODY), OUR_FAULT),
        (
            OBJECT,
            Response(200, {"content-type": "a/b"}, BODY[:5]),
            Response(200, {"content-type": "x/y"}, BODY),
            OUR_FAULT,
        ),
        (OBJECT, NO_KEY, NO_KEY, SERVER_FAULT),
        (OBJECT, error(502), NO_KEY, OUR_FAULT),
        (OBJECT, error(503), error(500, "InternalError"), SERVER_FAULT),
        (OBJECT, error(404), error(500, "InternalError"), OUR_FAULT),
        (OBJECT, error(502), error(403, "SignatureDoesNotMatch"), SERVER_FAULT),
        (OBJECT, Response(0, {}, b"", "IncompleteRead"), WHOLE, OUR_FAULT),
        (KEYS, error(502), error(403, "InvalidAccessKeyId"), PASSED),
        (KEYS, error(403), error(403, "InvalidAccessKeyId"), OUR_FAULT),
        (KEYS, error(403), error(403, "AccessDenied"), SERVER_FAULT),
        (KEYS, WHOLE, WHOLE, SERVER_FAULT),  # no signature is checked there
    ],
)
def test_whose_fault_it_is(request_case: Case, got: Response, direct: Response, outcome: str) -> None:
    assert judge(request_case, "GET", got, lambda whole_object: WHOLE if whole_object else direct).outcome == outcome


@pytest.mark.parametrize(
    ("length", "is_expected"),
    [("10", True), ("00", False), (None, False), ("5x", False), ("+10", False), ("11", False)],
)
def test_content_length_of_a_head_response(length: str | None, is_expected: bool) -> None:
    response = Response(200, {"content-length": length} if length else {}, b"")
    assert (differences(response, [Expected((200,), BODY)], "HEAD") == []) == is_expected


def test_multipart_byteranges() -> None:
    text = (
        b"\r\n--x\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n--x\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n--x--\r\n"
    )
    response = Response(206, {"content-type": "multipart/byteranges; boundary=x"}, text)
    assert differences(response, [Expected((206,), parts=(b"01", b"9"))], "GET") == []
    assert differences(response, [Expected((206,), parts=(b"01", b"8"))], "GET") != []


def test_names_of_cases_and_keys_of_objects_are_unique() -> None:
    names = [(one.subject, one.name) for one in CASES]
    stored = [(one.kind, one.key) for one in OBJECTS]
    assert len(set(names)) == len(names) and len(set(stored)) == len(stored)
    assert {one.kind for one in CASES} <= set(KINDS)


def test_each_finding_is_reported_once() -> None:
    """A HEAD has no error code. A signing mode that not all ways in have does not mean that the ways in differ."""
    one = results.ServerResults("a server", "1")
    for way, mode in (("gateway", "v4-header"), ("daemon", "v4-header"), ("gateway", "v2-query")):
        for method, observed in (("GET", "403 AccessDenied, not 200"), ("HEAD", "403, not 200")):
            one.add(
                "keys",
                "a tab",
                method,
                way,
                mode,
                Verdict(SERVER_FAULT, observed) if mode == "v2-query" else Verdict(PASSED),
            )
    # botocore's response to GET with its error code, and another one.
    one.add("clocks", "slow", "GET", "proxy", "v4-query", Verdict(OUR_FAULT, "403; botocore got 403 AccessDenied"))
    one.add(
        "clocks", "slow", "HEAD", "proxy", "v4-header", Verdict(OUR_FAULT, "403; botocore got 403 RequestTimeTooSkewed")
    )
    finding = {
        "subject": "keys",
        "case": "a tab",
        "outcome": SERVER_FAULT,
        "observed": "403 AccessDenied, not 200",
        "only": ["v2-query"],
    }
    found = one.summary()
    assert found["findings"][0] == finding and len(found["findings"]) == 3
    assert found["subjects"] == {"keys": {PASSED: 4, SERVER_FAULT: 2}, "clocks": {OUR_FAULT: 2}}
