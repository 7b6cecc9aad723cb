"""Whatever goes wrong: the client has exactly the right bytes or an abnormal end, and never bytes of two objects.

And where S3 fails no more often than S3Retries, in ways that pass, the client has all of them.
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
#: What the key holds, one after the other; no two bytes at the same place are alike.
VERSIONS = [bytes((number * 7 + version * 101) % 251 for number in range(LENGTH)) for version in range(3)]
#: For how long the gateway waits for bytes, and within which it begins its tries.
PATIENCE = "timeout=400ms"


@dataclass
class Flaw:
    """What goes wrong with one answer.

    After ``at`` bytes of it, in that ``way``; ``changed``: of a new version; ``deaf_to``: a header that S3 ignores.
    """

    at: int
    way: str
    chunked: bool = False
    changed: bool = False
    deaf_to: str = ""


@dataclass
class FlawedS3:
    """A key that changes, at a server that fails; when the flaws are used up all is well.

    ``failures`` counts those that any gateway could make good, ``lasting``: there was one that none can.
    """

    flaws: list[Flaw]
    version: int = 0
    failures: int = 0
    lasting: bool = False

    def serve(self, connection: Connection, request: Request) -> None:
        if not self.flaws:
            connection.send(self._answer(request, Flaw(0, "")))
            return
        flaw = self.flaws.pop(0)
        self.version = min(self.version + flaw.changed, len(VERSIONS) - 1)
        self.failures += 1
        busy = error(503, "SlowDown") if flaw.way == "busy" else b""
        whole = busy or self._answer(request, flaw)
        self.lasting |= flaw.changed or bool(flaw.deaf_to) or self._hides_its_end(flaw, whole)
        connection.send(busy or whole[: flaw.at])
        if flaw.way == "stall":
            connection.wait()
        elif flaw.way == "reset":
            connection.reset()
        if not busy and not connection.closed:
            connection.close()

    @staticmethod
    def _hides_its_end(flaw: Flaw, whole: bytes) -> bool:
        """Whether a silent S3 has to be given up, or all bytes came and nothing says that they are all."""
        head, end = len(head_of(whole)), b"0000\r\n\r\n"
        if flaw.way == "stall" and flaw.at < head:
            return True
        return flaw.chunked and whole.startswith(b"HTTP/1.1 200") and flaw.at >= len(whole) - len(end) - 2

    def _answer(self, request: Request, flaw: Flaw) -> bytes:
        asked = {name: value for name, value in request.headers.items() if name != flaw.deaf_to}
        current, etag = VERSIONS[self.version], f'"version-{self.version}"'
        if asked.get("if-match", etag) != etag:
            return error(412, "PreconditionFailed")
        status, start, stop = 200, 0, LENGTH
        headers = [("ETag", etag)]
        if match := re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", asked.get("range", "")):
            start = int(match[1]) if match[1] else max(0, LENGTH - int(match[2]))
            stop = min(LENGTH, int(match[2]) + 1) if match[1] and match[2] else LENGTH
            if start >= stop:
                return error(416, "InvalidRange", ("Content-Range", f"bytes */{LENGTH}"))
            status = 206
            headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{LENGTH}"))
        body = current[start:stop]
        if not flaw.chunked:
            return answer(status, body, *headers)
        pieces = [body[place : place + 700] for place in range(0, len(body), 700)]
        framed = b"".join(b"%04x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        return answer(status, framed, *headers, ("Transfer-Encoding", "chunked"), length=None)


FLAWS = st.builds(
    Flaw,
    at=st.integers(0, LENGTH + 400),
    way=st.sampled_from(["close"] * 6 + ["reset"] * 3 + ["busy"] * 3 + ["stall"]),
    chunked=st.booleans(),
    changed=st.sampled_from([False] * 7 + [True]),
    deaf_to=st.sampled_from([""] * 12 + ["if-match", "range"]),
)
RANGES = st.one_of(
    st.none(),
    st.builds(lambda one, two: f"bytes={min(one, two)}-{max(one, two)}", *[st.integers(0, LENGTH - 1)] * 2),
    st.integers(0, LENGTH - 1).map(lambda start: f"bytes={start}-"),
    st.integers(1, LENGTH).map(lambda count: f"bytes=-{count}"),
)


def wanted(asked: str | None, version: int) -> bytes:
    if asked is None:
        return VERSIONS[version]
    start, _, end = asked.removeprefix("bytes=").partition("-")
    if not start:
        return VERSIONS[version][-int(end) :]
    return VERSIONS[version][int(start) : int(end) + 1 if end else LENGTH]


def play(flaws: list[Flaw], asked: str | None, retries: int) -> tuple[Reply, FlawedS3]:
    """Ask once; pauses are as long as ever, and pass at once."""
    flawed = FlawedS3(list(flaws))
    with pytest.MonkeyPatch.context() as patch, ScriptedS3(then=flawed.serve) as s3:
        patch.setattr(time, "sleep", lambda seconds: None)
        forget_state()
        section = s3_settings(s3.url, S3Retries=str(retries), S3ProxySet=PATIENCE)
        reply = call(environ("/media/film.mp4", section, headers={"Range": asked} if asked else {}))
    return reply, flawed


@settings(max_examples=300, deadline=None)
@given(flaws=st.lists(FLAWS, max_size=5), asked=RANGES, retries=st.integers(0, 3))
@example(flaws=[Flaw(1_000, "close"), Flaw(300, "reset"), Flaw(500, "stall")], asked=None, retries=3)
@example(flaws=[Flaw(1_000, "stall", chunked=True), Flaw(0, "busy")], asked="bytes=100-", retries=2)
@example(flaws=[Flaw(1_000, "close"), Flaw(9_000, "close", changed=True, deaf_to="if-match")], asked=None, retries=3)
@example(flaws=[Flaw(1_000, "close"), Flaw(9_000, "close", deaf_to="range")], asked="bytes=-900", retries=3)
def test_the_right_bytes_or_an_abnormal_end(flaws: list[Flaw], asked: str | None, retries: int) -> None:
    reply, s3 = play(flaws, asked, retries)
    passing = not s3.lasting and s3.failures <= retries
    if reply.status >= 400:
        assert reply.body in {b"502 Bad Gateway\n", b"503 Service Unavailable\n", b"504 Gateway Timeout\n"}
        assert not passing
        return
    if reply.status != (206 if asked else 200):
        assert reply.status == 200 and any(flaw.deaf_to == "range" for flaw in flaws)
        asked = None
    whole = wanted(asked, int(reply.headers["ETag"].strip('"').removeprefix("version-")))
    assert reply.headers.get("Content-Length") in {None, str(len(whole))}
    if reply.truncated is None:
        assert reply.body == whole
    else:
        assert whole.startswith(reply.body)
        assert not passing
        assert reply.log


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("asked", [None, "bytes=1000-2499"])
def test_a_break_at_any_place_costs_the_client_nothing(asked: str | None, chunked: bool) -> None:
    whole = wanted(asked, 0)
    head = len(head_of(FlawedS3([])._answer(Request("GET", "/", {"range": asked or ""}, 1), Flaw(0, "", chunked))))
    for place in [*range(0, head, 30), *range(head, head + len(whole), 230)]:
        reply, s3 = play([Flaw(place, "close", chunked)], asked, retries=1)
        assert (reply.body, reply.truncated, s3.failures) == (whole, None, 1), place
