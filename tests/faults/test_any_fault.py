"""Random combinations of faults: the client gets exactly the right bytes or an abnormal end, never a mix of objects.

If S3 fails no more often than S3Retries, and only temporarily, the client gets the complete body.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.conftest import forget_state
from tests.faults.server import Connection, Request, ScriptedS3, answer, error, head_of
from tests.wsgi import Reply, call, environ, s3_settings

LENGTH = 3_000
#: The object's versions in order of time; no two have the same byte at the same position.
VERSIONS = [bytes((number * 7 + version * 101) % 251 for number in range(LENGTH)) for version in range(3)]
#: The read timeout, which also limits the time in which the gateway retries.
READ_TIMEOUT = "timeout=400ms"


@dataclass
class Flaw:
    """What goes wrong with one response.

    ``at``: after how many bytes it fails; ``way``: how; ``changed``: the object is overwritten before it;
    ``ignored_header``: a request header that S3 ignores.
    """

    at: int
    way: str
    chunked: bool = False
    changed: bool = False
    ignored_header: str = ""


@dataclass
class FlawedS3:
    """An S3 that plays a list of flaws with a changing object; when they are used up, it works.

    ``failures`` counts the flaws; ``permanent``: there was one that a retry cannot correct.
    """

    flaws: list[Flaw]
    version: int = 0
    failures: int = 0
    permanent: bool = False

    def serve(self, connection: Connection, request: Request) -> None:
        if not self.flaws:
            connection.send(self._response(request, Flaw(0, "")))
            return
        flaw = self.flaws.pop(0)
        self.version = min(self.version + flaw.changed, len(VERSIONS) - 1)
        self.failures += 1
        busy = error(503, "SlowDown") if flaw.way == "busy" else b""
        whole = busy or self._response(request, flaw)
        self.permanent |= flaw.changed or bool(flaw.ignored_header) or self._cannot_be_resumed(flaw, whole)
        connection.send(busy or whole[: flaw.at])
        if flaw.way == "stall":
            connection.wait()
        elif flaw.way == "reset":
            connection.reset()
        if not busy and not connection.closed:
            connection.close()

    @staticmethod
    def _cannot_be_resumed(flaw: Flaw, whole: bytes) -> bool:
        """Whether the gateway times out, or gets all bytes without the last chunk."""
        head, end = len(head_of(whole)), b"0000\r\n\r\n"
        if flaw.way == "stall" and flaw.at < head:
            return True
        return flaw.chunked and whole.startswith(b"HTTP/1.1 200") and flaw.at >= len(whole) - len(end) - 2

    def _response(self, request: Request, flaw: Flaw) -> bytes:
        headers_in = {name: value for name, value in request.headers.items() if name != flaw.ignored_header}
        current, etag = VERSIONS[self.version], f'"version-{self.version}"'
        if headers_in.get("if-match", etag) != etag:
            return error(412, "PreconditionFailed")
        status, start, stop = 200, 0, LENGTH
        headers = [("ETag", etag)]
        if match := re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", headers_in.get("range", "")):
            start = int(match[1]) if match[1] else max(0, LENGTH - int(match[2]))
            stop = min(LENGTH, int(match[2]) + 1) if match[1] and match[2] else LENGTH
            if start >= stop:
                return error(416, "InvalidRange", ("Content-Range", f"bytes */{LENGTH}"))
            status = 206
            headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{LENGTH}"))
        body = current[start:stop]
        if not flaw.chunked:
            return answer(status, body, *headers)
        pieces = [body[start : start + 700] for start in range(0, len(body), 700)]
        encoded = b"".join(b"%04x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        return answer(status, encoded, *headers, ("Transfer-Encoding", "chunked"), length=None)


FLAWS = st.builds(
    Flaw,
    at=st.integers(0, LENGTH + 400),
    way=st.sampled_from(["close"] * 6 + ["reset"] * 3 + ["busy"] * 3 + ["stall"]),
    chunked=st.booleans(),
    changed=st.sampled_from([False] * 7 + [True]),
    ignored_header=st.sampled_from([""] * 12 + ["if-match", "range"]),
)
RANGES = st.one_of(
    st.none(),
    st.builds(lambda one, two: f"bytes={min(one, two)}-{max(one, two)}", *[st.integers(0, LENGTH - 1)] * 2),
    st.integers(0, LENGTH - 1).map(lambda start: f"bytes={start}-"),
    st.integers(1, LENGTH).map(lambda count: f"bytes=-{count}"),
)


def expected_bytes(requested_range: str | None, version: int) -> bytes:
    if requested_range is None:
        return VERSIONS[version]
    start, _, end = requested_range.removeprefix("bytes=").partition("-")
    if not start:
        return VERSIONS[version][-int(end) :]
    return VERSIONS[version][int(start) : int(end) + 1 if end else LENGTH]


def play(flaws: list[Flaw], requested_range: str | None, retries: int) -> tuple[Reply, FlawedS3]:
    """Send one request; the backoff between retries takes no time."""
    flawed = FlawedS3(list(flaws))
    with pytest.MonkeyPatch.context() as patch, ScriptedS3(then=flawed.serve) as s3:
        patch.setattr(time, "sleep", lambda seconds: None)
        forget_state()
        section = s3_settings(s3.url, S3Retries=str(retries), S3ProxySet=READ_TIMEOUT)
        reply = call(environ("/media/film.mp4", section, headers={"Range": requested_range} if requested_range else {}))
    return reply, flawed


@settings(max_examples=300, deadline=None)
@given(flaws=st.lists(FLAWS, max_size=5), requested_range=RANGES, retries=st.integers(0, 3))
@example(flaws=[Flaw(1_000, "close"), Flaw(300, "reset"), Flaw(500, "stall")], requested_range=None, retries=3)
@example(flaws=[Flaw(1_000, "stall", chunked=True), Flaw(0, "busy")], requested_range="bytes=100-", retries=2)
@example(
    flaws=[Flaw(1_000, "close"), Flaw(9_000, "close", changed=True, ignored_header="if-match")],
    requested_range=None,
    retries=3,
)
@example(
    flaws=[Flaw(1_000, "close"), Flaw(9_000, "close", ignored_header="range")], requested_range="bytes=-900", retries=3
)
def test_the_right_bytes_or_an_abnormal_end(flaws: list[Flaw], requested_range: str | None, retries: int) -> None:
    reply, s3 = play(flaws, requested_range, retries)
    temporary = not s3.permanent and s3.failures <= retries
    if reply.status >= 400:
        assert reply.body in {b"502 Bad Gateway\n", b"503 Service Unavailable\n", b"504 Gateway Timeout\n"}
        assert not temporary
        return
    if reply.status != (206 if requested_range else 200):
        assert reply.status == 200 and any(flaw.ignored_header == "range" for flaw in flaws)
        requested_range = None
    whole = expected_bytes(requested_range, int(reply.headers["ETag"].strip('"').removeprefix("version-")))
    assert reply.headers.get("Content-Length") in {None, str(len(whole))}
    if reply.truncated is None:
        assert reply.body == whole
    else:
        assert whole.startswith(reply.body)
        assert not temporary
        assert reply.log


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("requested_range", [None, "bytes=1000-2499"])
def test_a_connection_that_closes_anywhere_is_resumed(requested_range: str | None, chunked: bool) -> None:
    whole = expected_bytes(requested_range, 0)
    head = len(
        head_of(FlawedS3([])._response(Request("GET", "/", {"range": requested_range or ""}, 1), Flaw(0, "", chunked)))
    )
    for position in [*range(0, head, 30), *range(head, head + len(whole), 230)]:
        reply, s3 = play([Flaw(position, "close", chunked)], requested_range, retries=1)
        assert (reply.body, reply.truncated, s3.failures) == (whole, None, 1), position
