"""A second bucket (``S3FallbackURL``): when it is asked, how it is signed for, and when it is left alone."""

from __future__ import annotations

import pytest

from tests.certificates import Certificate
from tests.faults.server import ScriptedS3, Step, answer, close, error, first, reset, stall
from tests.wsgi import Reply, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher

COPY = answer(200, b"the copy", ("ETag", '"copy"'))
TIMEOUT = "timeout=100ms"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


def ask(url: str, copies: ScriptedS3, method: str = "GET", headers: dict[str, str] | None = None, **more: str) -> Reply:
    settings = s3_settings(url, **{"S3FallbackURL": f"{copies.url}/copies/", "S3ProxySet": TIMEOUT, **more})
    return call(environ("/media/a%20film.mp4", settings, method=method, headers=headers))


def gone() -> str:
    """The URL of a server that refuses connections."""
    with ScriptedS3() as s3:
        return s3.url


FAILURES: dict[str, tuple[Step, ...]] = {
    "closed": (close, close),
    "reset": (reset, reset),
    "no answer": (stall,),
    "SlowDown": (error(503, "SlowDown"), error(503, "SlowDown")),
    "InternalError": (error(500, "InternalError"), error(500, "InternalError")),
    "another 5xx": (error(507, "InsufficientStorage"),),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_it_is_asked_when_the_first_has_failed_for_good(failure: str) -> None:
    with ScriptedS3(*FAILURES[failure]) as first_bucket, ScriptedS3(COPY) as copies:
        reply = ask(first_bucket.url, copies, S3Retries="1")
    assert (reply.status, reply.body, reply.headers["ETag"]) == (200, b"the copy", '"copy"')
    assert copies.requests[0].target == "/copies/a%20film.mp4"
    assert reply.log.splitlines()[-1].endswith("; using S3FallbackURL")
    assert len(first_bucket.requests) == len(FAILURES[failure])


def test_it_is_asked_when_the_first_refuses_connections() -> None:
    with ScriptedS3(COPY) as copies:
        assert ask(gone(), copies).body == b"the copy"


def test_it_is_asked_at_once_while_the_first_one_rests() -> None:
    url = gone()
    with ScriptedS3(COPY, COPY) as copies:
        replies = [ask(url, copies, S3ProxySet="retry=60") for _ in range(2)]
    assert [reply.body for reply in replies] == [b"the copy"] * 2
    assert "Connection refused" in replies[0].log and "retry of S3ProxySet" in replies[1].log


def test_it_is_asked_when_the_first_ones_certificate_is_refused(certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate) as first_bucket, ScriptedS3(COPY) as copies:
        reply = ask(first_bucket.url, copies, S3Retries="3")
        assert len(first_bucket.connections) == 1
    assert reply.body == b"the copy"
    assert "certificate verification failed" in reply.log


@pytest.mark.parametrize(
    "step",
    [
        answer(200, b"the film"),
        answer(304),
        error(404, "NoSuchKey"),
        error(403, "AccessDenied"),
        error(403, "SignatureDoesNotMatch"),
        error(416, "InvalidRange"),
        error(404, "NoSuchBucket"),
        first(b"not HTTP\r\n", close),
    ],
    ids=["200", "304", "404", "403", "signature", "416", "no bucket", "not HTTP"],
)
def test_it_is_left_alone_when_the_first_has_an_answer(step: Step) -> None:
    with ScriptedS3(step) as first_bucket, ScriptedS3() as copies:
        ask(first_bucket.url, copies, S3ProxySet="timeout=10")  # however busy this machine is


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_on_404_if_the_operator_says_so(method: str) -> None:
    missing = error(404, "NoSuchKey")
    with ScriptedS3(missing if method == "GET" else answer(404, length=0)) as first_bucket, ScriptedS3(COPY) as copies:
        reply = ask(first_bucket.url, copies, method, S3FallbackOn404="on", S3ProxySet="timeout=10")
    assert (reply.status, reply.log) == (200, "")


def test_its_answer_is_the_clients() -> None:
    with ScriptedS3(error(416, "InvalidRange")) as copies:
        assert ask(gone(), copies).status == 416
    with ScriptedS3(error(403, "SignatureDoesNotMatch")) as copies:
        reply = ask(gone(), copies)
    assert reply.status == 502
    assert "Connection refused" in reply.log
    assert f"SignatureDoesNotMatch, request id 4442587FB7D0A2F9 (GET {copies.url}" in reply.log


@pytest.mark.parametrize("refusal", [error(404, "NoSuchKey"), error(403, "AccessDenied")])
def test_what_a_copy_lacks_may_be_in_the_bucket_that_cannot_be_asked(refusal: bytes) -> None:
    with ScriptedS3(refusal) as copies:
        reply = ask(gone(), copies)
    assert (reply.status, reply.log.count("\n")) == (502, 1)
    with ScriptedS3(error(503, "SlowDown", ("Retry-After", "9"))) as first_bucket, ScriptedS3(refusal) as copies:
        reply = ask(first_bucket.url, copies)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "9")


def test_without_the_permission_to_list_what_is_missing_is_denied() -> None:
    """S3DeniedStatus 404 says that it is to be taken so."""
    settings = {"S3FallbackOn404": "on", "S3DeniedStatus": "404"}
    with ScriptedS3(error(403, "AccessDenied")) as first_bucket, ScriptedS3(COPY) as copies:
        assert ask(first_bucket.url, copies, "GET", None, **settings).status == 200
    with ScriptedS3(error(403, "AccessDenied")) as first_bucket, ScriptedS3() as copies:
        assert ask(first_bucket.url, copies, "GET", None, S3FallbackOn404="on").status == 403


def test_each_is_signed_with_its_own_keys_for_its_own_region() -> None:
    own = {"S3FallbackAccessKey": "OTHERKEY", "S3FallbackSecretKey": "other", "S3FallbackRegion": "us-east-9"}
    with ScriptedS3(error(503, "SlowDown")) as first_bucket, ScriptedS3(COPY) as copies:
        ask(first_bucket.url, copies, "GET", None, **own)
    assert "Credential=AKIAIOSFODNN7EXAMPLE/" in first_bucket.requests[0].headers["authorization"]
    assert "/eu-central-1/s3/" in first_bucket.requests[0].headers["authorization"]
    assert "Credential=OTHERKEY/" in copies.requests[0].headers["authorization"]
    assert "/us-east-9/s3/" in copies.requests[0].headers["authorization"]
    assert copies.requests[0].headers["host"] == copies.url.removeprefix("http://")


def test_the_clients_range_and_conditions_go_on() -> None:
    part = answer(206, b"he co", ("Content-Range", "bytes 1-5/8"))
    with ScriptedS3(part) as copies:
        reply = ask(gone(), copies, headers={"Range": "bytes=1-5", "If-Match": '"copy"'})
    assert (reply.status, reply.body) == (206, b"he co")
    assert copies.requests[0].headers["if-match"] == '"copy"'


def test_a_body_is_never_finished_from_another_bucket() -> None:
    """Two buckets may call different bytes by the same ETag."""
    cut = first(answer(200, b"the", ("ETag", '"copy"'), length=8), close)
    with ScriptedS3(cut, close) as first_bucket, ScriptedS3() as copies:
        reply = ask(first_bucket.url, copies, S3Retries="1")
    assert reply.body == b"the"
    assert reply.truncated is not None


def test_both_have_failed() -> None:
    with ScriptedS3(error(503, "SlowDown", ("Retry-After", "9"))) as copies:
        reply = ask(gone(), copies)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "9")
    assert reply.log.count("\n") == 2
