"""The emulated endpoints with botocore as the client: credentials, refused requests, and faults."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, CredentialRetrievalError, EndpointConnectionError, ReadTimeoutError
from botocore.parsers import ResponseParserError
from botocore.utils import ContainerMetadataFetcher, InstanceMetadataFetcher

from tests.identity.conftest import Aws
from tests.identity.endpoints import (
    ACCESS_KEY,
    ROLE_ARN,
    SECRET_KEY,
    SECRET_PREFIX,
    STS,
    TOKEN_PREFIX,
    WEB_IDENTITY_TOKEN,
    Container,
    Endpoint,
    Fault,
    Issue,
    Metadata,
    Request,
    Role,
    Step,
    leaks,
)
from tests.identity.signature import is_signed, signature_of

FORM = "application/x-www-form-urlencoded; charset=utf-8"
ROLES_PATH = "/latest/meta-data/iam/security-credentials/"
ASSUME = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": ROLE_ARN, "RoleSessionName": "origin"}


def send(
    endpoint: Endpoint, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send a raw request; return status, headers and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)) as connection:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def issue_number(credentials: Any, endpoint: Endpoint) -> int:
    """Return the issue number of botocore's credentials, after a refresh if they need one."""
    frozen = credentials.get_frozen_credentials()
    issue = endpoint.issued_as(frozen.access_key)
    assert issue is not None and (frozen.secret_key, frozen.token) == (issue.secret_key, issue.token)
    return issue.number


@pytest.fixture
def no_retry_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore retry requests to a container's endpoint without a delay."""
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)


class TestMetadata:
    def test_botocore_gets_the_credentials_of_the_role(self, aws: Aws) -> None:
        with Metadata() as metadata:
            aws.set(metadata.environment())
            credentials = aws.session().get_credentials()
            assert credentials.method == "iam-role" and issue_number(credentials, metadata) == 1
            assert credentials._expiry_time == metadata.issue(1).expiration
        seen = [(request.method, request.path) for request in metadata.requests]
        assert seen == [
            ("PUT", "/latest/api/token"), ("GET", ROLES_PATH), ("GET", f"{ROLES_PATH}media-instance"),
        ]  # fmt: skip

    def test_a_refresh_gets_new_credentials(self, aws: Aws) -> None:
        with Metadata() as metadata:
            aws.set(metadata.environment())
            credentials = aws.session().get_credentials()
            credentials._expiry_time = datetime.now(UTC)
            assert issue_number(credentials, metadata) == 2

    def test_refuses_version_1_and_invalid_or_expired_tokens(self) -> None:
        with Metadata() as metadata:
            assert send(metadata, "GET", ROLES_PATH)[0] == 401
            assert send(metadata, "GET", ROLES_PATH, {"X-aws-ec2-metadata-token": "made up"})[0] == 401
            token = self.token(metadata, "60")
            assert send(metadata, "GET", ROLES_PATH, token)[2] == b"media-instance"
            metadata.skew = 61
            assert send(metadata, "GET", ROLES_PATH, token)[0] == 401
        assert metadata.issued == []

    @pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "six hours"])
    def test_refuses_a_token_request_without_a_valid_ttl(self, ttl: str) -> None:
        with Metadata() as metadata:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": ttl} if ttl else {}
            assert send(metadata, "PUT", "/latest/api/token", headers)[0] == 400

    def test_refuses_a_token_request_through_a_proxy(self) -> None:
        with Metadata() as metadata:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60", "X-Forwarded-For": "10.0.0.1"}
            assert send(metadata, "PUT", "/latest/api/token", headers)[0] == 403

    def test_refuses_other_roles_and_paths(self) -> None:
        with Metadata(role="mine") as metadata:
            token = self.token(metadata)
            for path in (f"{ROLES_PATH}another", "/latest/meta-data/iam", "/"):
                assert send(metadata, "GET", path, token)[0] == 404
            assert send(metadata, "POST", f"{ROLES_PATH}mine", token)[0] == 405
            status, _, body = send(metadata, "GET", f"{ROLES_PATH}mine", token)
            assert status == 200 and json.loads(body)["Code"] == "Success"

    def test_an_instance_without_a_role_has_no_credentials(self, aws: Aws) -> None:
        with Metadata(role=None) as metadata:
            aws.set(metadata.environment())
            assert aws.session().get_credentials() is None

    @pytest.mark.parametrize("faulty", [None, "token", "role", "credentials"])
    @pytest.mark.parametrize("fault", ["500", "refuse", "garbage"])
    def test_botocore_gets_no_credentials_during_a_fault(self, aws: Aws, fault: Fault, faulty: Step | None) -> None:
        with Metadata() as metadata:
            aws.set(metadata.environment())
            metadata.fault, metadata.faulty = fault, faulty
            assert aws.session().get_credentials() is None  # no exception: it is the last provider of the chain
            metadata.fault = None
            assert issue_number(aws.session().get_credentials(), metadata) == 1

    def test_botocore_extends_credentials_that_have_already_expired(self, aws: Aws) -> None:
        with Metadata() as metadata:
            aws.set(metadata.environment())
            metadata.fault = "expired"
            credentials = aws.session().get_credentials()
            assert issue_number(credentials, metadata) == 1
            assert metadata.issue(1).expiration < datetime.now(UTC) < credentials._expiry_time

    @pytest.mark.usefixtures("aws")
    def test_hangs_until_it_closes(self) -> None:
        with Metadata() as metadata:
            metadata.fault = "hang"
            # The environment variable takes whole seconds only.
            fetcher = InstanceMetadataFetcher(timeout=0.1, base_url=metadata.url)
            assert fetcher.retrieve_iam_role_credentials() == {}
            assert len(metadata.requests) == 2  # no token in time, so it requests the role with version 1

    @staticmethod
    def token(metadata: Metadata, ttl: str = "21600") -> dict[str, str]:
        """Return the request header with a new session token."""
        status, headers, token = send(
            metadata, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": ttl}
        )
        assert status == 200 and headers["X-Aws-Ec2-Metadata-Token-Ttl-Seconds"] == ttl
        return {"X-aws-ec2-metadata-token": token.decode()}


@pytest.mark.usefixtures("no_retry_delay")
class TestContainer:
    def test_an_ecs_task_gets_its_credentials(self, aws: Aws) -> None:
        with Container() as ecs:
            aws.set(ecs.environment())
            credentials = aws.session().get_credentials()
            assert credentials.method == "container-role" and issue_number(credentials, ecs) == 1
            assert credentials._expiry_time == ecs.issue(1).expiration
        assert [request.headers["authorization"] for request in ecs.requests] == [ecs.token]

    def test_a_pod_gets_its_credentials_also_with_a_new_token(self, aws: Aws) -> None:
        with Container() as agent:
            file = aws.directory / "token"
            aws.set(agent.environment(file))
            credentials = aws.session().get_credentials()
            assert issue_number(credentials, agent) == 1
            agent.token = f"{TOKEN_PREFIX}Renewed"
            file.write_text(agent.token)
            credentials._expiry_time = datetime.now(UTC)
            assert issue_number(credentials, agent) == 2

    @pytest.mark.parametrize("token", ["", "another"])
    def test_refuses_another_token(self, aws: Aws, token: str) -> None:
        with Container() as ecs:
            aws.set(ecs.environment(), {"AWS_CONTAINER_AUTHORIZATION_TOKEN": token})
            with pytest.raises(CredentialRetrievalError, match="non 200 response 401"):
                aws.session().get_credentials()
            assert send(ecs, "GET", ecs.path)[0] == 401
        assert ecs.issued == []

    def test_refuses_other_paths_and_methods(self) -> None:
        with Container() as ecs:
            headers = {"Authorization": ecs.token}
            assert send(ecs, "GET", "/", headers)[0] == 404
            assert send(ecs, "PUT", ecs.path, headers)[0] == 405

    @pytest.mark.parametrize(
        ("fault", "words"),
        [("500", "non 200 response 500"), ("refuse", "non 200 response 403"), ("garbage", "Unable to parse JSON")],
    )
    def test_botocore_sends_three_requests_during_a_fault(self, aws: Aws, fault: Fault, words: str) -> None:
        with Container() as ecs:
            aws.set(ecs.environment())
            ecs.fault = fault
            with pytest.raises(CredentialRetrievalError, match=words):
                aws.session().get_credentials()
            assert len(ecs.requests) == 3

    def test_invalid_json_documents_are_not_retried(self, aws: Aws) -> None:
        with Container() as ecs:
            aws.set(ecs.environment())
            ecs.fault, ecs.garbage = "garbage", b'{"code": "Nothing"}'
            with pytest.raises(KeyError, match="AccessKeyId"):
                aws.session().get_credentials()
            assert len(ecs.requests) == 1

    def test_botocore_requests_expired_credentials_twice(self, aws: Aws) -> None:
        with Container() as ecs:
            aws.set(ecs.environment())
            ecs.fault = "expired"
            with pytest.raises(RuntimeError, match="still expired"):
                aws.session().get_credentials().get_frozen_credentials()
            assert len(ecs.issued) == 2

    def test_hangs_until_it_closes(self, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ContainerMetadataFetcher, "TIMEOUT_SECONDS", 0.1)
        with Container() as ecs:
            aws.set(ecs.environment())
            ecs.fault = "hang"
            with pytest.raises(CredentialRetrievalError, match="Read timeout"):
                aws.session().get_credentials()

    def test_is_slow_until_it_is_released(self, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ContainerMetadataFetcher, "TIMEOUT_SECONDS", 10)
        with Container() as ecs, ThreadPoolExecutor(1) as threads:
            aws.set(ecs.environment())
            ecs.fault = "slow"
            coming = threads.submit(aws.session().get_credentials)
            ecs.wait_for_requests(1)
            assert not coming.done() and ecs.issued == []
            ecs.released.set()
            assert issue_number(coming.result(), ecs) == 1

    def test_is_slow_for_a_delay(self, aws: Aws) -> None:
        with Container() as ecs:
            aws.set(ecs.environment())
            ecs.fault, ecs.delay = "slow", 0.01
            assert issue_number(aws.session().get_credentials(), ecs) == 1


class TestWebIdentity:
    def test_a_token_gets_credentials(self, aws: Aws) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"), {"AWS_ROLE_SESSION_NAME": "pod"})
            credentials = aws.session().get_credentials()
            assert credentials.method == "assume-role-with-web-identity" and issue_number(credentials, sts) == 1
            assert credentials._expiry_time == sts.issue(1).expiration
        assert (sts.issue(1).role, sts.issue(1).session_name) == (ROLE_ARN, "pod")
        assert "authorization" not in sts.requests[0].headers
        assert sts.requests[0].parameters["WebIdentityToken"] == WEB_IDENTITY_TOKEN

    def test_refuses_invalid_and_expired_tokens(self, aws: Aws) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"))
            sts.web_identity_token = f"{TOKEN_PREFIX}Renewed"
            assert self.error(aws) == (400, "InvalidIdentityToken")
            sts.expired_web_identity_tokens.add(WEB_IDENTITY_TOKEN)
            assert self.error(aws) == (400, "ExpiredTokenException")
            (aws.directory / "token").write_text(sts.web_identity_token)
            assert issue_number(aws.session().get_credentials(), sts) == 1

    def test_refuses_an_unknown_role(self, aws: Aws) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"))
            sts.roles.clear()
            assert self.error(aws) == (403, "AccessDenied")

    @pytest.mark.parametrize(
        ("fault", "expected", "requests"),
        [("500", (500, "InternalFailure"), 3), ("refuse", (403, "AccessDenied"), 1)],
    )
    def test_botocore_gets_the_error_codes_of_sts(
        self, aws: Aws, fault: Fault, expected: tuple[int, str], requests: int
    ) -> None:
        with STS() as sts:
            aws.set(
                sts.environment(aws.directory / "token"), {"AWS_RETRY_MODE": "standard"}
            )  # older versions of botocore have another default
            sts.fault = fault
            assert self.error(aws) == expected
            assert len(sts.requests) == requests

    @pytest.mark.parametrize(
        ("garbage", "kind"),
        [(b"<html></html>", KeyError), (b"not even XML", ResponseParserError), (b"", ResponseParserError)],
    )
    def test_garbage_is_not_retried(self, aws: Aws, garbage: bytes, kind: type[Exception]) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"))
            sts.fault, sts.garbage = "garbage", garbage
            with pytest.raises(kind):
                aws.session().get_credentials().get_frozen_credentials()
            assert len(sts.requests) == 1

    @pytest.mark.parametrize(("fault", "skew"), [("expired", 0), (None, -3700)])
    def test_credentials_that_have_already_expired_are_not_used(
        self, aws: Aws, fault: Fault | None, skew: float
    ) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"))
            sts.fault, sts.skew = fault, skew
            with pytest.raises(RuntimeError, match="still expired"):
                aws.session().get_credentials().get_frozen_credentials()

    def test_hangs_until_it_closes(self, aws: Aws) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"))
            sts.fault = "hang"
            session = aws.session()
            session.set_default_client_config(Config(read_timeout=0.1, retries={"total_max_attempts": 2}))
            with pytest.raises(ReadTimeoutError):
                session.get_credentials().get_frozen_credentials()
            assert len(sts.requests) == 2

    def test_a_closed_endpoint_is_unreachable(self, aws: Aws) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"), {"AWS_MAX_ATTEMPTS": "1"})
        with pytest.raises(EndpointConnectionError):
            aws.session().get_credentials().get_frozen_credentials()

    @staticmethod
    def error(aws: Aws) -> tuple[int, str]:
        """Return status and code of the error that botocore gets instead of credentials."""
        with pytest.raises(ClientError) as caught:
            aws.session().get_credentials().get_frozen_credentials()
        return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


class TestAssumeRole:
    def test_a_profile_assumes_its_role(self, aws: Aws) -> None:
        with STS(Role(external_id="customer/7")) as sts:
            aws.set(sts.environment(), {"AWS_PROFILE": "media"})
            aws.credentials(f"[base]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n")
            aws.config(
                f"[profile media]\nrole_arn={ROLE_ARN}\nsource_profile=base\nrole_session_name=origin\n"
                "external_id=customer/7\nduration_seconds=900\nregion=eu-central-1\n"
            )
            credentials = aws.session().get_credentials()
            assert credentials.method == "assume-role" and issue_number(credentials, sts) == 1
            left = sts.issue(1).expiration - datetime.now(UTC)
            assert timedelta(seconds=890) < left < timedelta(seconds=902)
        found = signature_of(sts.requests[0])
        assert found is not None and (found.access_key, found.region, found.service) == (
            ACCESS_KEY, "eu-central-1", "sts",
        )  # fmt: skip

    def test_accepts_the_credentials_of_an_instance(self, aws: Aws) -> None:
        with Metadata() as metadata, STS(sources=[metadata]) as sts:
            aws.set(metadata.environment(), sts.environment(), {"AWS_PROFILE": "media"})
            aws.config(f"[profile media]\nrole_arn={ROLE_ARN}\ncredential_source=Ec2InstanceMetadata\nregion=r\n")
            assert issue_number(aws.session().get_credentials(), sts) == 1
            assert sts.requests[0].headers["x-amz-security-token"] == metadata.issue(1).token

    def test_accepts_its_own_credentials_until_they_expire(self, aws: Aws) -> None:
        with STS() as sts:
            assert self.assume(aws, sts) == ""
            issue = sts.issue(1)
            keys = (issue.access_key, issue.secret_key, issue.token)
            assert self.assume(aws, sts, keys=keys) == ""
            assert "role chaining" in self.assume(aws, sts, keys=keys, DurationSeconds=3601)
            assert "(InvalidClientTokenId)" in self.assume(aws, sts, keys=(*keys[:2], None))
            assert "(InvalidClientTokenId)" in self.assume(aws, sts, keys=(*keys[:2], sts.issue(2).token))
            sts.issued[0] = Issue(1, *keys, datetime.now(UTC))
            assert "(ExpiredToken)" in self.assume(aws, sts, keys=keys)

    def test_refuses_unknown_keys(self, aws: Aws) -> None:
        with STS() as sts:
            assert "(SignatureDoesNotMatch)" in self.assume(aws, sts, keys=(ACCESS_KEY, "another", None))
            assert "(InvalidClientTokenId)" in self.assume(aws, sts, keys=("AKIAANOTHER", SECRET_KEY, None))
            assert "(InvalidClientTokenId)" in self.assume(aws, sts, keys=(ACCESS_KEY, SECRET_KEY, "a token"))
            assert sts.issued == []

    @pytest.mark.parametrize(("skew", "words"), [(1000, "Signature expired"), (-1000, "Signature not yet current")])
    def test_refuses_a_signature_of_another_time(self, aws: Aws, skew: float, words: str) -> None:
        with STS() as sts:
            sts.skew = skew
            assert f"(SignatureDoesNotMatch) when calling the AssumeRole operation: {words}" in self.assume(aws, sts)

    def test_refuses_another_region_if_it_has_one(self, aws: Aws) -> None:
        with STS(region="eu-central-1") as sts:
            assert self.assume(aws, sts) == ""
            sts.region = "us-east-1"
            assert "valid region" in self.assume(aws, sts)

    def test_refuses_a_role_that_the_caller_may_not_assume(self, aws: Aws) -> None:
        with STS(Role(external_id="right", max_duration=3600)) as sts:
            assert self.assume(aws, sts, ExternalId="right") == ""
            assert "(AccessDenied)" in self.assume(aws, sts)
            assert "(AccessDenied)" in self.assume(aws, sts, ExternalId="wrong")
            assert "(AccessDenied)" in self.assume(aws, sts, ExternalId="right", RoleArn=f"{ROLE_ARN}-2")
            assert "MaxSessionDuration" in self.assume(aws, sts, ExternalId="right", DurationSeconds=7200)

    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"RoleSessionName": "a b"}, r"Value 'a b' at 'roleSessionName' failed to satisfy constraint: Member must "
             r"satisfy regular expression pattern: [\w+=,.@-]*"),
            ({"RoleSessionName": "é" * 2}, "pattern"),
            ({"RoleSessionName": "a"}, "Member must have length greater than or equal to 2"),
            ({"RoleSessionName": "a" * 65}, "Member must have length less than or equal to 64"),
            ({"RoleSessionName": None}, "Value null at 'roleSessionName'"),
            ({"DurationSeconds": 899}, "Member must have value greater than or equal to 900"),
            ({"DurationSeconds": 43_201}, "Member must have value less than or equal to 43200"),
            ({"DurationSeconds": 1, "RoleArn": "role"}, "2 validation errors detected: "),
            ({"RoleArn": "arn:aws:s3:::media-bucket"}, "arn:aws:s3:::media-bucket is invalid"),
            ({"ExternalId": "a b"}, r"pattern: [\w+=,.@:\/-]*"),
        ],
    )  # fmt: skip
    def test_refuses_parameters_as_sts_does(self, aws: Aws, parameters: dict[str, Any], words: str) -> None:
        with STS() as sts:
            error = self.assume(aws, sts, **parameters)
            assert "(ValidationError)" in error and words in error

    def test_accepts_a_query_string_and_a_form(self) -> None:
        with STS() as sts:
            target = f"/?{urlencode(ASSUME)}"
            status, headers, body = send(sts, "GET", target, signed(sts, "GET", target, b""))
            assert status == 200 and headers["x-amzn-RequestId"] and sts.issue(1).token.encode() in body

    @pytest.mark.parametrize(
        "changed",
        [
            lambda headers, body: (headers, body.replace(b"origin", b"intruder")),
            lambda headers, body: ({**headers, "x-amz-extra": "unsigned"}, body),
            lambda headers, body: ({**headers, "x-amz-content-sha256": "0" * 64}, body),
            lambda headers, body: ({**headers, "Authorization": headers["Authorization"].replace(";host", "")}, body),
            lambda headers, body: ({**headers, "Host": "sts.amazonaws.com"}, body),
        ],
    )
    def test_a_signature_is_valid_for_one_request(
        self, changed: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]]
    ) -> None:
        with STS() as sts:
            body = urlencode(ASSUME).encode()
            headers = signed(sts, "POST", "/", body)
            assert send(sts, "POST", "/", headers, body)[0] == 200
            headers, body = changed(headers, body)
            status, _, answer = send(sts, "POST", "/", headers, body)
            assert status == 403 and b"<Code>SignatureDoesNotMatch</Code>" in answer

    def test_refuses_requests_that_are_not_signed_for_it(self) -> None:
        with STS() as sts:
            body = urlencode(ASSUME).encode()
            form = {"Content-Type": FORM}
            assert b"MissingAuthenticationToken" in send(sts, "POST", "/", form, body)[2]
            old = {**form, "Authorization": f"AWS {ACCESS_KEY}:c2lnbmF0dXJl"}
            assert b"IncompleteSignature" in send(sts, "POST", "/", old, body)[2]
            assert b"correct service" in send(sts, "POST", "/", signed(sts, "POST", "/", body, "s3"), body)[2]
            assert b"InvalidAction" in send(sts, "POST", "/", form, b"Action=GetCallerIdentity&Version=2011-06-15")[2]
            assert send(sts, "POST", "/else", form, body)[0] == 404

    @staticmethod
    def assume(
        aws: Aws,
        sts: STS,
        *,
        keys: tuple[str, str, str | None] = (ACCESS_KEY, SECRET_KEY, None),
        **parameters: Any,
    ) -> str:
        """Assume the role with botocore's client without its own validation; return the error, empty for success."""
        given = {"RoleArn": ROLE_ARN, "RoleSessionName": "origin", **parameters}
        client = aws.session().create_client(
            "sts", "eu-central-1", endpoint_url=sts.url, aws_access_key_id=keys[0], aws_secret_access_key=keys[1],
            aws_session_token=keys[2], config=Config(parameter_validation=False),
        )  # fmt: skip
        with closing(client):
            try:
                answer = client.assume_role(**{name: value for name, value in given.items() if value is not None})
            except ClientError as error:
                return str(error)
        issue = sts.issued_as(answer["Credentials"]["AccessKeyId"])
        assert issue is not None and answer["Credentials"]["Expiration"] == issue.expiration
        assert answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::123456789012:assumed-role/media-reader/origin"
        return ""


class TestAll:
    def test_simultaneous_requests_get_different_credentials(self, aws: Aws) -> None:
        with Container() as ecs, ThreadPoolExecutor(64) as threads:
            ecs.fault = "slow"
            answers = [threads.submit(send, ecs, "GET", ecs.path, {"Authorization": ecs.token}) for _ in range(64)]
            ecs.wait_for_requests(64)
            ecs.released.set()
            keys = {json.loads(answer.result()[2])["AccessKeyId"] for answer in answers}
        assert keys == {issue.access_key for issue in ecs.issued} and len(keys) == 64
        assert [issue.number for issue in ecs.issued] == [*range(1, 65)]

    def test_leaks_finds_all_secrets_and_the_repr_shows_none(self) -> None:
        with Metadata() as metadata, Container() as ecs, STS() as sts:
            metadata_token = TestMetadata.token(metadata)
            send(metadata, "GET", f"{ROLES_PATH}media-instance", metadata_token)
            send(ecs, "GET", ecs.path, {"Authorization": ecs.token})
            body = urlencode({**ASSUME, "Action": "AssumeRoleWithWebIdentity", "WebIdentityToken": WEB_IDENTITY_TOKEN})
            send(sts, "POST", "/", {"Content-Type": FORM}, body.encode())
            issues = [*metadata.issued, *ecs.issued, *sts.issued]
        assert len({issue.access_key for issue in issues}) == 3 and not leaks(repr(issues))
        secrets = [secret for issue in issues for secret in (issue.secret_key, issue.token)]
        for secret in (*secrets, *metadata_token.values(), ecs.token, SECRET_KEY, WEB_IDENTITY_TOKEN):
            assert secret.startswith((SECRET_PREFIX, TOKEN_PREFIX))
            assert leaks(f"x {secret} y") == [secret.encode()]
            assert leaks(urlencode({"q": secret})) and leaks(json.dumps(secret).encode())

    def test_the_endpoint_has_its_own_clock(self) -> None:
        with Container(lifetime=60) as ecs:
            ecs.skew = 7200
            _, headers, body = send(ecs, "GET", ecs.path, {"Authorization": ecs.token})
        ahead = parsedate_to_datetime(headers["Date"]) - datetime.now(UTC)
        assert timedelta(seconds=7190) < ahead < timedelta(seconds=7201)
        assert timedelta(seconds=50) < ecs.issue(1).expiration - parsedate_to_datetime(headers["Date"])
        assert json.loads(body)["Expiration"] == ecs.issue(1).expiration.strftime("%Y-%m-%dT%H:%M:%SZ")

    def test_a_restart_on_the_same_port(self) -> None:
        with Metadata() as first:
            port = first.port
        with pytest.raises(ConnectionRefusedError):
            send(first, "GET", "/")
        with Metadata(port=port) as second:
            assert second.url == first.url and send(second, "GET", "/")[0] == 401

    def test_closes_while_clients_wait_and_keep_connections(self) -> None:
        with ThreadPoolExecutor(2) as threads, Container() as ecs:
            idle = http.client.HTTPConnection("127.0.0.1", ecs.port, timeout=10)
            idle.request("GET", "/")
            idle.getresponse().read()
            ecs.fault = "hang"
            hanging = threads.submit(send, ecs, "GET", ecs.path)
            ecs.wait_for_requests(2)
            ecs.fault = "slow"
            slow = threads.submit(send, ecs, "GET", ecs.path)
            ecs.wait_for_requests(3)
        for waiting in (hanging, slow):
            assert isinstance(waiting.exception(), http.client.RemoteDisconnected)
        idle.close()

    def test_an_exception_in_the_endpoint_fails_the_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ecs = Container()
        monkeypatch.setattr(ecs, "_answer", None)
        ecs.__enter__()
        with pytest.raises(http.client.RemoteDisconnected):
            send(ecs, "GET", "/")
        with pytest.raises(AssertionError, match="the endpoint failed: TypeError"):
            ecs.__exit__(None, None, None)


def signed(sts: STS, method: str, target: str, body: bytes, service: str = "sts") -> dict[str, str]:
    """Return the headers of a request to STS, signed by botocore."""
    request = AWSRequest(method, f"{sts.url}{target}", {"Host": f"127.0.0.1:{sts.port}"}, body)
    if method == "POST":
        request.headers["Content-Type"] = FORM
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), service, "eu-central-1").add_auth(request)
    return dict(request.headers.items())


def test_signatures_for_any_service_can_be_verified() -> None:
    headers = {"Host": "bucket.example", "x-amz-meta-a": "  two   words "}
    request = AWSRequest("GET", "https://bucket.example/a%20b?z=&a=%2F&a=%21", headers)
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "execute-api", "eu-west-1").add_auth(request)
    path = "/a%2520b"
    arrived = Request("GET", f"{path}?z=&a=%2F&a=%21", {k.lower(): v for k, v in request.headers.items()}, b"")
    found = signature_of(arrived)
    assert found is not None and is_signed(arrived, found, SECRET_KEY)
    assert not is_signed(arrived, found, f"{SECRET_KEY}x")
