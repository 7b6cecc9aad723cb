"""What is retried, how often, and what is not."""

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
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without a delay."""
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


def fetch(s3: ScriptedS3, method: str = "GET", **changes: str) -> Reply:
    return call(environ("/media/film.mp4", s3_settings(s3.url, **changes), method=method))


@pytest.mark.parametrize("step", [close, reset, error(503, "SlowDown"), error(500, "InternalError")])
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_s3retries_is_the_number_of_retries(step: Step, retries: int) -> None:
    with ScriptedS3(*[step] * (retries + 1)) as s3:
        assert fetch(s3, S3Retries=str(retries)).status in {502, 503}
    assert len(s3.requests) == retries + 1


@pytest.mark.parametrize("step", [close, reset, error(503, "SlowDown"), error(500, "InternalError")])
def test_the_first_successful_attempt_is_forwarded(step: Step) -> None:
    with ScriptedS3(step, step, HELLO) as s3:
        reply = fetch(s3, S3Retries="5")
    assert (reply.status, reply.body) == (200, b"hello")
    assert re.fullmatch(r"(.*bucket/film\.mp4, attempt 1, .* s\); retrying\n)(.*attempt 2.*\n)", reply.log)


def test_a_503_is_drained_and_its_connection_is_reused() -> None:
    with ScriptedS3(error(503, "SlowDown"), HELLO) as s3:
        fetch(s3, S3Retries="1")
    assert [request.connection for request in s3.requests] == [1, 1]


@pytest.mark.parametrize(
    "step", [error(404, "NoSuchKey"), error(403, "AccessDenied"), error(403, "SignatureDoesNotMatch"), answer(304)]
)
def test_permanent_responses_are_not_retried(step: Step) -> None:
    with ScriptedS3(step) as s3:
        fetch(s3, S3Retries="3")
    assert len(s3.requests) == 1


def test_a_read_timeout_is_not_retried() -> None:
    # The client has waited long enough, and S3 may still be processing the first request.
    with ScriptedS3(stall) as s3:
        assert fetch(s3, S3Retries="3", S3ProxySet="timeout=60ms").status == 504


def test_each_attempt_is_signed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[object] = []

    def sign(*arguments: Any) -> S3Request:
        signed.append(arguments)
        return signer.sign(*arguments)

    monkeypatch.setattr(fetcher, "sign", sign)
    with ScriptedS3(close, close, HELLO) as s3:
        assert fetch(s3, S3Retries="2").status == 200
    assert len(signed) == 3


def test_no_retry_begins_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 31.0)
    with ScriptedS3(error(503, "SlowDown")) as s3:
        assert fetch(s3, S3Retries="5", S3ProxySet="timeout=30").status == 503
    assert len(s3.requests) == 1


def test_backoff_grows_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    longest = [fetcher.backoff_delay(attempt) for attempt in range(8)]
    assert longest == sorted(longest)
    assert longest[0] < longest[1] and longest[-1] == longest[-2] <= 2.0


def test_a_rejected_certificate_is_not_retried(certificate: Certificate) -> None:
    connected: list[int] = []
    with ScriptedS3(tls=certificate, accepted=lambda connection: connected.append(connection.number)) as s3:
        assert fetch(s3, S3Retries="3").status == 502
    assert connected == [1]


# --- retry=N of S3ProxySet: a host that cannot be reached is in error state


def stopped_server() -> ScriptedS3:
    """A server that has stopped: its port refuses connections."""
    with ScriptedS3() as s3:
        return s3


def test_a_host_that_refused_is_not_tried_for_retry_seconds(clock: list[float]) -> None:
    s3 = stopped_server()
    assert fetch(s3, S3ProxySet="retry=10").status == 502
    in_error_state = fetch(s3, S3ProxySet="retry=10")
    assert (in_error_state.status, in_error_state.headers["Retry-After"]) == (503, "10")
    assert "retry of S3ProxySet" in in_error_state.log
    clock[0] = 11
    assert fetch(s3, S3ProxySet="retry=10").status == 502


def test_the_reason_of_the_first_failure_is_logged(clock: list[float]) -> None:
    # A retry would find the host in error state, and the reason would be lost.
    reply = fetch(stopped_server(), S3ProxySet="retry=10", S3Retries="2")
    assert reply.status == 502
    assert "Connection refused" in reply.log


def test_retry_0_tries_the_host_each_time() -> None:
    s3 = stopped_server()
    assert [fetch(s3, S3ProxySet="retry=0").status for _ in range(3)] == [502] * 3


def test_a_broken_connection_sets_no_error_state() -> None:
    with ScriptedS3(close, HELLO) as s3:
        assert [fetch(s3, S3ProxySet="retry=10").status for _ in range(2)] == [502, 200]
