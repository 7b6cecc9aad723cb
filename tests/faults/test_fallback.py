"""The fallback bucket (``S3FallbackURL``): when it is used, and how its requests are signed."""

from __future__ import annotations

import pytest

from tests.certificates import Certificate
from tests.faults.server import ScriptedS3, Step, answer, close, error, first, reset, stall
from tests.wsgi import Reply, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher

FALLBACK_RESPONSE = answer(200, b"the copy", ("ETag", '"copy"'))
TIMEOUT = "timeout=100ms"


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)


def fetch(
    url: str, fallback: ScriptedS3, method: str = "GET", headers: dict[str, str] | None = None, **more: str
) -> Reply:
    settings = s3_settings(url, **{"S3FallbackURL": f"{fallback.url}/fallback/", "S3ProxySet": TIMEOUT, **more})
    return call(environ("/media/a%20film.mp4", settings, method=method, headers=headers))


def refused_url() -> str:
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
def test_it_is_used_when_the_first_bucket_has_failed(failure: str) -> None:
    with ScriptedS3(*FAILURES[failure]) as first_bucket, ScriptedS3(FALLBACK_RESPONSE) as fallback:
        reply = fetch(first_bucket.url, fallback, S3Retries="1")
    assert (reply.status, reply.body, reply.headers["ETag"]) == (200, b"the copy", '"copy"')
    assert fallback.requests[0].target == "/fallback/a%20film.mp4"
    assert reply.log.splitlines()[-1].endswith("; using S3FallbackURL")
    assert len(first_bucket.requests) == len(FAILURES[failure])


def test_it_is_used_when_the_first_bucket_refuses_connections() -> None:
    with ScriptedS3(FALLBACK_RESPONSE) as fallback:
        assert fetch(refused_url(), fallback).body == b"the copy"


def test_it_is_used_at_once_while_the_first_host_is_in_error_state() -> None:
    url = refused_url()
    with ScriptedS3(FALLBACK_RESPONSE, FALLBACK_RESPONSE) as fallback:
        replies = [fetch(url, fallback, S3ProxySet="retry=60") for _ in range(2)]
    assert [reply.body for reply in replies] == [b"the copy"] * 2
    assert "Connection refused" in replies[0].log and "retry of S3ProxySet" in replies[1].log


def test_it_is_used_when_the_first_buckets_certificate_is_rejected(certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate) as first_bucket, ScriptedS3(FALLBACK_RESPONSE) as fallback:
        reply = fetch(first_bucket.url, fallback, S3Retries="3")
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
def test_it_is_not_used_when_the_first_bucket_responds(step: Step) -> None:
    with ScriptedS3(step) as first_bucket, ScriptedS3() as fallback:
        fetch(first_bucket.url, fallback, S3ProxySet="timeout=10")  # long enough for a busy machine


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_it_is_used_on_404_with_s3fallbackon404(method: str) -> None:
    missing = error(404, "NoSuchKey")
    with (
        ScriptedS3(missing if method == "GET" else answer(404, length=0)) as first_bucket,
        ScriptedS3(FALLBACK_RESPONSE) as fallback,
    ):
        reply = fetch(first_bucket.url, fallback, method, S3FallbackOn404="on", S3ProxySet="timeout=10")
    assert (reply.status, reply.log) == (200, "")


def test_its_error_responses_reach_the_client() -> None:
    with ScriptedS3(error(416, "InvalidRange")) as fallback:
        assert fetch(refused_url(), fallback).status == 416
    with ScriptedS3(error(403, "SignatureDoesNotMatch")) as fallback:
        reply = fetch(refused_url(), fallback)
    assert reply.status == 502
    assert "Connection refused" in reply.log
    assert f"SignatureDoesNotMatch, request id 4442587FB7D0A2F9 (GET {fallback.url}" in reply.log


@pytest.mark.parametrize("response", [error(404, "NoSuchKey"), error(403, "AccessDenied")])
def test_its_404_or_403_is_not_forwarded_when_the_first_bucket_failed(response: bytes) -> None:
    with ScriptedS3(response) as fallback:
        reply = fetch(refused_url(), fallback)
    assert (reply.status, reply.log.count("\n")) == (502, 1)
    with ScriptedS3(error(503, "SlowDown", ("Retry-After", "9"))) as first_bucket, ScriptedS3(response) as fallback:
        reply = fetch(first_bucket.url, fallback)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "9")


def test_access_denied_counts_as_404_with_s3deniedstatus_404() -> None:
    """With S3DeniedStatus 404 a denied object counts as missing."""
    settings = {"S3FallbackOn404": "on", "S3DeniedStatus": "404"}
    with ScriptedS3(error(403, "AccessDenied")) as first_bucket, ScriptedS3(FALLBACK_RESPONSE) as fallback:
        assert fetch(first_bucket.url, fallback, "GET", None, **settings).status == 200
    with ScriptedS3(error(403, "AccessDenied")) as first_bucket, ScriptedS3() as fallback:
        assert fetch(first_bucket.url, fallback, "GET", None, S3FallbackOn404="on").status == 403


def test_each_bucket_is_signed_with_its_own_keys_and_region() -> None:
    fallback_settings = {
        "S3FallbackAccessKey": "OTHERKEY",
        "S3FallbackSecretKey": "other",
        "S3FallbackRegion": "us-east-9",
    }
    with ScriptedS3(error(503, "SlowDown")) as first_bucket, ScriptedS3(FALLBACK_RESPONSE) as fallback:
        fetch(first_bucket.url, fallback, "GET", None, **fallback_settings)
    assert "Credential=AKIAIOSFODNN7EXAMPLE/" in first_bucket.requests[0].headers["authorization"]
    assert "/eu-central-1/s3/" in first_bucket.requests[0].headers["authorization"]
    assert "Credential=OTHERKEY/" in fallback.requests[0].headers["authorization"]
    assert "/us-east-9/s3/" in fallback.requests[0].headers["authorization"]
    assert fallback.requests[0].headers["host"] == fallback.url.removeprefix("http://")


def test_the_clients_range_and_conditions_are_forwarded() -> None:
    part = answer(206, b"he co", ("Content-Range", "bytes 1-5/8"))
    with ScriptedS3(part) as fallback:
        reply = fetch(refused_url(), fallback, headers={"Range": "bytes=1-5", "If-Match": '"copy"'})
    assert (reply.status, reply.body) == (206, b"he co")
    assert fallback.requests[0].headers["if-match"] == '"copy"'


def test_a_body_is_never_resumed_from_the_other_bucket() -> None:
    """Different bytes in two buckets may have the same ETag."""
    truncated = first(answer(200, b"the", ("ETag", '"copy"'), length=8), close)
    with ScriptedS3(truncated, close) as first_bucket, ScriptedS3() as fallback:
        reply = fetch(first_bucket.url, fallback, S3Retries="1")
    assert reply.body == b"the"
    assert reply.truncated is not None


def test_both_buckets_fail() -> None:
    with ScriptedS3(error(503, "SlowDown", ("Retry-After", "9"))) as fallback:
        reply = fetch(refused_url(), fallback)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "9")
    assert reply.log.count("\n") == 2
