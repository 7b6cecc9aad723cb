"""Whose fault a wrong answer is: botocore, asking the server directly in the same run, is the measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.servers.answer import Answer, Want, check, status
from tests.servers.battery.case import Case

PASSED, OWN, NOT_OFFERED, OURS = "passed", "the server's own", "not offered", "ours"


class Verdict(NamedTuple):
    """What it is, and what was met: by the client where it is our fault, else by botocore."""

    what: str
    met: str = ""


def judge(case: Case, method: str, got: Answer, ask_server: Callable[[bool], Answer]) -> Verdict:
    """``got``: what the client got. ``ask_server``: what botocore gets, of the whole object without conditions (True),
    or of the very same request (False).
    """
    wrong = check(got, case.right(method), method)
    if not wrong:
        return Verdict(PASSED)
    met, least = ask_server(False), case.at_least(method)
    theirs = check(met, case.right_of_s3(method), method)
    fair = least if least is not None and ask_server(True).status == 200 else deserved(case, method, met)
    if not theirs or check(got, fair, method):
        return Verdict(OURS, f"{'; '.join(wrong)}; botocore met {met}")
    return Verdict(OWN, "; ".join(theirs))


def deserved(case: Case, method: str, met: Answer) -> tuple[Want, ...]:
    """What the client should get of what S3 has answered, right or wrong: README, "What the client gets"."""
    if met.status in {200, 206}:
        named = {name: value for want in case.right(method) for name, value in want.headers.items()}
        headers = {name: value and met.headers.get(name) for name, value in named.items()}
        # A part is called one, or is refused.
        is_part = met.status == 206 or "content-range" in met.headers
        served = Want((206,) if is_part else (200,), met.body if method == "GET" else None, headers)
        return (served, *status(502)) if is_part else (served,)
    if met.status == 501 and case.query:
        return status(400)
    return status(*_STATUSES.get(met.status, (502,)), *_of_code(met, method))


#: What else botocore may meet.
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


def _of_code(met: Answer, method: str) -> tuple[int, ...]:
    """403 is the object's or the keys', 404 the object's or the bucket's; a HEAD does not say which."""
    if method == "HEAD":
        return {403: (403, 404, 502), 404: (502,)}.get(met.status, ())
    if met.status == 403:
        return (403, 404) if met.code in {"AccessDenied", ""} else (502,)
    return (502,) if met.code == "NoSuchBucket" else ()
