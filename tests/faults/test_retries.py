"""What is asked again, how often, and what is not: retrying must help, never hide and never hammer."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from tests.certificates import Certificate
from tests.faults.server import ScriptedS3, Step, answer, close, error, reset, stall
from tests.wsgi import Reply, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher
from usp_s3_wsgi.signing import signer
from usp_s3_wsgi.signing.types import S3Request

HELLO = answer(200, b"hello")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between two tries."""
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


def ask(s3: ScriptedS3, method: str = "GET", **changes: str) -> Reply:
    return call(environ("/media/film.mp4", s3_settings(s3.url, **changes), method=method))


@pytest.mark.parametrize("step", [close, reset, error(503, "SlowDown"), error(500, "InternalError")])
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_s3retries_further_tries(step: Step, retries: int) -> None:
    with ScriptedS3(*[step] * (retries + 1)) as s3:
        assert ask(s3, S3Retries=str(retries)).status in {502, 503}
    assert len(s3.requests) == retries + 1


@pytest.mark.parametrize("step", [close, reset, error(503, "SlowDown"), error(500, "InternalError")])
def test_the_first_try_that_succeeds_is_the_answer(step: Step) -> None:
    with ScriptedS3(step, step, HELLO) as s3:
        reply = ask(s3, S3Retries="5")
    assert (reply.status, reply.body) == (200, b"hello")
    assert re.fullmatch(r"(.*bucket/film\.mp4, attempt 1, .* s\); retrying\n)(.*attempt 2.*\n)", reply.log)


def test_a_busy_answer_is_read_so_that_its_connection_serves_again() -> None:
    with ScriptedS3(error(503, "SlowDown"), HELLO) as s3:
        ask(s3, S3Retries="1")
    assert [request.connection for request in s3.requests] == [1, 1]


@pytest.mark.parametrize(
    "step", [error(404, "NoSuchKey"), error(403, "AccessDenied"), error(403, "SignatureDoesNotMatch"), answer(304)]
)
def test_what_would_not_change_is_asked_once(step: Step) -> None:
    with ScriptedS3(step) as s3:
        ask(s3, S3Retries="3")
    assert len(s3.requests) == 1


def test_a_time_out_is_not_asked_again() -> None:
    # The client has waited long enough; S3 may still be at work on the first.
    with ScriptedS3(stall) as s3:
        assert ask(s3, S3Retries="3", S3ProxySet="timeout=60ms").status == 504


def test_each_try_is_signed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[object] = []

    def sign(*given: Any) -> S3Request:
        signed.append(given)
        return signer.sign(*given)

    monkeypatch.setattr(fetcher, "sign", sign)
    with ScriptedS3(close, close, HELLO) as s3:
        assert ask(s3, S3Retries="2").status == 200
    assert len(signed) == 3


def test_no_try_begins_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 31.0)
    with ScriptedS3(error(503, "SlowDown")) as s3:
        assert ask(s3, S3Retries="5", S3ProxySet="timeout=30").status == 503
    assert len(s3.requests) == 1


def test_pauses_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    longest = [fetcher.backoff_delay(attempt) for attempt in range(8)]
    assert longest == sorted(longest)
    assert longest[0] < longest[1] and longest[-1] == longest[-2] <= 2.0


def test_a_refused_certificate_is_not_asked_again(certificate: Certificate) -> None:
    connected: list[int] = []
    with ScriptedS3(tls=certificate, accepted=lambda connection: connected.append(connection.number)) as s3:
        assert ask(s3, S3Retries="3").status == 502
    assert connected == [1]


# --- retry=N of S3ProxySet: a host that cannot be reached rests


def gone() -> ScriptedS3:
    """A server that has ended: its port refuses connections."""
    with ScriptedS3() as s3:
        return s3


def test_a_host_that_refused_rests_for_retry_seconds(clock: list[float]) -> None:
    s3 = gone()
    assert ask(s3, S3ProxySet="retry=10").status == 502
    resting = ask(s3, S3ProxySet="retry=10")
    assert (resting.status, resting.headers["Retry-After"]) == (503, "10")
    assert "retry of S3ProxySet" in resting.log
    clock[0] = 11
    assert ask(s3, S3ProxySet="retry=10").status == 502


def test_the_first_failure_is_told_as_it_is(clock: list[float]) -> None:
    # Its retries would meet a resting host, and the reason would be lost.
    reply = ask(gone(), S3ProxySet="retry=10", S3Retries="2")
    assert reply.status == 502
    assert "Connection refused" in reply.log


def test_retry_0_never_rests() -> None:
    s3 = gone()
    assert [ask(s3, S3ProxySet="retry=0").status for _ in range(3)] == [502] * 3


def test_a_broken_connection_is_no_reason_to_rest() -> None:
    with ScriptedS3(close, HELLO) as s3:
        assert [ask(s3, S3ProxySet="retry=10").status for _ in range(2)] == [502, 200]
