"""Whose fault an unexpected response is, by comparison with botocore's direct request in the same run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.servers.battery.case import Case
from tests.servers.response import Expected, Response, differences, status

PASSED, SERVER_FAULT, NOT_SUPPORTED, OUR_FAULT = "passed", "server fault", "not supported", "our fault"


class Verdict(NamedTuple):
    """``outcome``: one of the constants above. ``observed``: the unexpected response, the client's or botocore's."""

    outcome: str
    observed: str = ""


def judge(case: Case, method: str, got: Response, fetch_directly: Callable[[bool], Response]) -> Verdict:
    """``got``: the client's response. ``fetch_directly``: gets botocore's response to a plain request for the whole
    object (True), or to the same request (False).
    """
    client_differences = differences(got, case.expected_for_client(method), method)
    if not client_differences:
        return Verdict(PASSED)
    direct, minimum = fetch_directly(False), case.minimum_for(method)
    server_differences = differences(direct, case.expected_from_s3(method), method)
    if minimum is not None and fetch_directly(True).status == 200:
        acceptable = minimum
    else:
        acceptable = acceptable_responses(case, method, direct)
    if not server_differences or differences(got, acceptable, method):
        return Verdict(OUR_FAULT, f"{'; '.join(client_differences)}; botocore got {direct}")
    return Verdict(SERVER_FAULT, "; ".join(server_differences))


def acceptable_responses(case: Case, method: str, direct: Response) -> tuple[Expected, ...]:
    """What the client should get for this response of S3, right or wrong: docs/responses.md."""
    if direct.status in {200, 206}:
        checked = {name: value for one in case.expected_for_client(method) for name, value in one.headers.items()}
        headers = {name: value and direct.headers.get(name) for name, value in checked.items()}
        # A range is forwarded as 206, or rejected.
        is_range = direct.status == 206 or "content-range" in direct.headers
        served = Expected((206,) if is_range else (200,), direct.body if method == "GET" else None, headers)
        return (served, *status(502)) if is_range else (served,)
    if direct.status == 501 and case.query:
        return status(400)
    return status(*_STATUSES.get(direct.status, (502,)), *_statuses_for_code(direct, method))


#: What the client may get for other statuses of S3.
_STATUSES = {
    304: (304,),
    400: (400, 502),
    404: (404,),
    405: (404, 405),
    410: (404,),
    412: (412,),
    416: (416,),
    431: (400, 502),
    500: (503,),
    501: (501, 502),
    503: (503,),
    504: (503,),
}


def _statuses_for_code(direct: Response, method: str) -> tuple[int, ...]:
    """403 concerns the object or the keys, 404 the object or the bucket; a response to HEAD does not say which."""
    if method == "HEAD":
        return {403: (403, 404, 502), 404: (502,)}.get(direct.status, ())
    if direct.status == 403:
        return (403, 404) if direct.code in {"AccessDenied", ""} else (502,)
    return (502,) if direct.code == "NoSuchBucket" else ()
