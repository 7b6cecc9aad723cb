"""Roles in the gateway and the proxy callbacks, in this process: rejections by S3, fallback, and fork."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.faults.server import ScriptedS3, answer, error
from tests.identity.conftest import Aws
from tests.identity.endpoints import ACCESS_KEY, ROLE_ARN, SECRET_KEY, STS, Role, leaks
from tests.wsgi import Reply, call, environ, s3_settings
from usp_s3_wsgi.credentials import refresher, resolver
from usp_s3_wsgi.proxy import callbacks

HELLO = answer(200, b"hello")
#: The only role of an STS that does not know the role in the settings.
OTHERS = Role("arn:aws:iam::123456789012:role/other")


@pytest.fixture(autouse=True)
def _new_process(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    resolver.reset()
    monkeypatch.setattr(refresher, "_MIN_REPLACE_INTERVAL", 0.0)
    yield
    resolver.reset()


def fetch(s3: ScriptedS3, sts: STS, **changes: str) -> Reply:
    role = {"S3AccessKey": ACCESS_KEY, "S3SecretKey": SECRET_KEY, "S3RoleARN": ROLE_ARN, "S3STSEndpoint": sts.url}
    return call(environ("/media/film.mp4", s3_settings(s3.url, S3ProxySet="timeout=5", **{**role, **changes})))


def keys(s3: ScriptedS3) -> list[str]:
    return [request.headers["authorization"].partition("Credential=")[2].partition("/")[0] for request in s3.requests]


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken"])
def test_rejected_temporary_credentials_are_replaced(code: str) -> None:
    with STS(Role()) as sts, ScriptedS3(error(400, code), HELLO) as s3:
        assert fetch(s3, sts).body == b"hello"
        assert keys(s3) == [issue.access_key for issue in sts.issued] and len(sts.issued) == 2


def test_temporary_credentials_are_replaced_once_per_request() -> None:
    refused = error(400, "ExpiredToken")
    with STS(Role()) as sts, ScriptedS3(refused, refused) as s3:
        assert fetch(s3, sts).status == 502
        assert len(sts.issued) == 2


def test_a_signature_mismatch_does_not_invalidate_temporary_credentials() -> None:
    """AWS issues both keys together. SeaweedFS and rclone return this code for object keys that are not UTF-8."""
    with STS(Role()) as sts, ScriptedS3(error(403, "SignatureDoesNotMatch"), HELLO) as s3:
        assert fetch(s3, sts).status == 502
        assert fetch(s3, sts).body == b"hello"
        assert len(sts.issued) == 1 and len(s3.requests) == 2
    section_url = "http://127.0.0.1:1/bucket/"
    with STS(Role()) as sts:
        role = {"S3AccessKey": ACCESS_KEY, "S3SecretKey": SECRET_KEY, "S3RoleARN": ROLE_ARN, "S3STSEndpoint": sts.url}
        pairs = tuple({**role, "S3Region": "eu-central-1"}.items())
        signed = callbacks.sign_request((section_url, pairs, "GET", f"{section_url}%FF", "/%FF", False, None))
        assert isinstance(signed, callbacks.SignedRequest)
        body = b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        refused = callbacks.explain_error((section_url, pairs, "GET", f"{section_url}%FF"), (403, body, {}), (1, 0.1))
        assert refused.status == 502 and refused.log_line and "S3SecretKeyFile" in refused.log_line
        time.sleep(0.2)  # a refresh would have started
        assert len(sts.issued) == 1


def test_without_credentials_the_fallback_bucket_is_used() -> None:
    own = {"S3FallbackAccessKey": "OTHERKEY", "S3FallbackSecretKey": "other/secret"}
    with STS(OTHERS) as sts, ScriptedS3() as s3, ScriptedS3(HELLO) as copies:
        reply = fetch(s3, sts, S3FallbackURL=f"{copies.url}/bucket/", **own)
        assert reply.body == b"hello"
        assert keys(copies) == ["OTHERKEY"]
    assert "STS answered 403 AccessDenied" in reply.log and "; using S3FallbackURL" in reply.log
    assert not leaks(reply.log)


def test_without_credentials_no_request_is_sent() -> None:
    with STS(OTHERS) as sts, ScriptedS3() as s3:
        replies = [fetch(s3, sts) for _ in range(3)]
        assert len(sts.requests) == 1  # the next refresh starts after a second
    assert [(reply.status, reply.headers["Retry-After"]) for reply in replies] == [(503, "1")] * 3


def test_a_forked_child_has_no_refreshers() -> None:
    """Threads and held locks remain with the parent: a refresh that runs there never ends in the child."""
    with STS(Role()) as sts, ScriptedS3(then=lambda connection, request: connection.send(HELLO)) as s3:
        assert fetch(s3, sts).status == 200
        child = os.fork()
        if child == 0:
            os._exit(0 if not resolver._refreshers._by_identity and not resolver._refreshers._lock.locked() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert resolver._refreshers._by_identity


def test_in_proxy_sections_the_next_requests_use_new_credentials() -> None:
    """The rejected request does not wait for them, and its error is returned."""
    section_url = "http://127.0.0.1:1/bucket/"
    with STS(Role()) as sts:
        role = {"S3AccessKey": ACCESS_KEY, "S3SecretKey": SECRET_KEY, "S3RoleARN": ROLE_ARN, "S3STSEndpoint": sts.url}
        pairs = tuple({**role, "S3Region": "eu-central-1", "S3UseHeaders": "on"}.items())

        def signed_by() -> str:
            signed = callbacks.sign_request((section_url, pairs, "GET", f"{section_url}a.ts", "/a.ts", False, None))
            assert isinstance(signed, callbacks.SignedRequest)
            return dict(signed.headers)["Authorization"].partition("Credential=")[2].partition("/")[0]

        assert signed_by() == sts.issue(1).access_key
        body = b"<Error><Code>ExpiredToken</Code></Error>"
        by = (int(time.time()), 0, -1)
        refused = callbacks.explain_error(
            (section_url, pairs, "GET", f"{section_url}a.ts"), (400, body, {}), (1, 0.1), by
        )
        assert refused.status == 502 and refused.log_line is not None and "ExpiredToken" in refused.log_line
        deadline = time.monotonic() + 10
        while signed_by() == sts.issue(1).access_key:
            assert time.monotonic() < deadline
