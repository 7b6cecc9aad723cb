"""Whatever goes wrong: the client has exactly the right bytes or an abnormal end, and never bytes of two objects."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.server import Connection, Request, ScriptedS3, answer, error
from tests.wsgi import call, environ, s3_settings
from usp_s3_wsgi import error_log, pool, upstream

LENGTH = 3_000
#: What the key holds, one after the other; no two bytes at the same place are alike.
VERSIONS = [bytes((number * 7 + version * 101) % 251 for number in range(LENGTH)) for version in range(3)]


@dataclass
class Flaw:
    """What goes wrong with one answer: after so many bytes of it, in that way; ``changed``: of a new version."""

    at: int
    way: str
    chunked: bool
    changed: bool


@dataclass
class FlawedS3:
    """A key that changes, at a server that breaks off; when the flaws are used up all is well."""

    flaws: list[Flaw]
    version: int = 0
    served: list[int] = field(default_factory=list)

    def serve(self, connection: Connection, request: Request) -> None:
        flaw = self.flaws.pop(0) if self.flaws else None
        if flaw is None:
            connection.send(self._answer(request, False))
            return
        if flaw.changed:
            self.version = min(self.version + 1, len(VERSIONS) - 1)
        whole = error(503, "SlowDown") if flaw.way == "busy" else self._answer(request, flaw.chunked)
        connection.send(whole if flaw.way == "busy" else whole[: flaw.at])
        if flaw.way == "reset":
            connection.reset()
        elif flaw.way != "busy":
            connection.close()

    def _answer(self, request: Request, chunked: bool) -> bytes:
        current = VERSIONS[self.version]
        etag = f'"version-{self.version}"'
        if request.headers.get("if-match", etag) != etag:
            return error(412, "PreconditionFailed")
        status, start, stop = 200, 0, LENGTH
        headers = [("ETag", etag)]
        if match := re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", request.headers.get("range", "")):
            start = int(match[1]) if match[1] else max(0, LENGTH - int(match[2]))
            stop = min(LENGTH, int(match[2]) + 1) if match[1] and match[2] else LENGTH
            status = 206
            headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{LENGTH}"))
        body = current[start:stop]
        if not chunked:
            return answer(status, body, *headers)
        pieces = [body[place : place + 700] for place in range(0, len(body), 700)]
        framed = b"".join(b"%04x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        return answer(status, framed, *headers, ("Transfer-Encoding", "chunked"), length=None)


FLAWS = st.builds(
    Flaw,
    at=st.integers(0, LENGTH + 400),
    way=st.sampled_from(["close", "close", "reset", "busy"]),
    chunked=st.booleans(),
    changed=st.sampled_from([False, False, False, True]),
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


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flaws=st.lists(FLAWS, max_size=5), asked=RANGES, retries=st.integers(0, 3))
def test_the_right_bytes_or_an_abnormal_end(
    monkeypatch: pytest.MonkeyPatch, flaws: list[Flaw], asked: str | None, retries: int
) -> None:
    monkeypatch.setattr(upstream, "_backoff", lambda retry: 0.0)
    monkeypatch.setattr(pool, "workers", workers := pool.Workers())
    monkeypatch.setattr(error_log, "limiter", error_log.Limiter())
    harmless = all(flaw.way == "busy" and not flaw.changed for flaw in flaws) and len(flaws) <= retries
    flawed = FlawedS3(list(flaws))
    with ScriptedS3(then=flawed.serve) as s3:
        section = s3_settings(s3.url, S3Retries=str(retries), S3ProxySet="timeout=5")
        reply = call(environ("/media/film.mp4", section, headers={"Range": asked} if asked else {}))
    for worker in workers._known.values():
        worker._pool.close()
    if reply.status >= 400:
        assert reply.body in {b"502 Bad Gateway\n", b"503 Service Unavailable\n"}
        assert not harmless
        return
    assert reply.status == (206 if asked else 200)
    answers = [wanted(asked, version) for version in range(len(VERSIONS))]
    if reply.truncated is None:
        assert reply.body in answers
    else:
        assert any(whole.startswith(reply.body) for whole in answers)
        assert not harmless
        assert reply.log
