"""The emulated endpoints are spoken to by botocore as AWS is: what they give, what they refuse, and how they fail."""

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


def ask(
    endpoint: Endpoint, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send one request, as no library would; return status, headers and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)) as connection:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def issue_in(credentials: Any, endpoint: Endpoint) -> int:
    """Return the number of the issue that botocore's credentials now are, which may need a refresh first."""
    frozen = credentials.get_frozen_credentials()
    issue = endpoint.issued_as(frozen.access_key)
    assert issue is not None and (frozen.secret_key, frozen.token) == (issue.secret_key, issue.token)
    return issue.number


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore ask a container's endpoint again without a pause."""
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)


class TestMetadata:
    def test_gives_botocore_the_role_s_credentials(self, aws: Aws) -> None:
        with Metadata() as metadata:
            aws.set(metadata.environment())
            credentials = aws.session().get_credentials()
            assert credentials.method == "iam-role" and issue_in(credentials, metadata) == 1
            assert credentials._expiry_time == metadata.issue(1).expiration
        seen = [(request.method, request.path) for request in metadata.requests]
        assert seen == [
            ("PUT", "/latest/api/token"), ("GET", ROLES_PATH), ("GET", f"{ROLES_PATH}media-instance"),
        ]  # fmt: skip

    def test_gives_new_ones_at_a_refresh(self, aws: Aws) -> None:
        with Metadata() as metadata:
            aws.set(metadata.environment())
            credentials = aws.session().get_credentials()
            credentials._expiry_time = datetime.now(UTC)
            assert issue_in(credentials, metadata) == 2

    def test_refuses_version_1_and_tokens_that_are_wrong_or_over(self) -> None:
        with Metadata() as metadata:
            assert ask(metadata, "GET", ROLES_PATH)[0] == 401
            assert ask(metadata, "GET", ROLES_PATH, {"X-aws-ec2-metadata-token": "made up"})[0] == 401
            token = self.token(metadata, "60")
            assert ask(metadata, "GET", ROLES_PATH, token)[2] == b"media-instance"
            metadata.skew = 61
            assert ask(metadata, "GET", ROLES_PATH, token)[0] == 401
        assert metadata.issued == []

    @pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "six hours"])
    def test_gives_no_token_without_a_time_to_live(self, ttl: str) -> None:
        with Metadata() as metadata:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": ttl} if ttl else {}
            assert ask(metadata, "PUT", "/latest/api/token", headers)[0] == 400

    def test_gives_no_token_through_a_proxy(self) -> None:
        with Metadata() as metadata:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60", "X-Forwarded-For": "10.0.0.1"}
            assert ask(metadata, "PUT", "/latest/api/token", headers)[0] == 403

    def test_knows_its_own_role_and_paths_alone(self) -> None:
        with Metadata(role="mine") as metadata:
            token = self.token(metadata)
            for path in (f"{ROLES_PATH}another", "/latest/meta-data/iam", "/"):
                assert ask(metadata, "GET", path, token)[0] == 404
            assert ask(metadata, "POST", f"{ROLES_PATH}mine", token)[0] == 405
            status, _, body = ask(metadata, "GET", f"{ROLES_PATH}mine", token)
            assert status == 200 and json.loads(body)["Code"] == "Success"

    def test_an_instance_without_a_role_has_no_credentials(self, aws: Aws) -> None:
        with Metadata(role=None) as metadata:
            aws.set(metadata.environment())
            assert aws.session().get_credentials() is None

    @pytest.mark.parametrize("faulty", [None, "token", "role", "credentials"])
    @pytest.mark.parametrize("fault", ["500", "refuse", "garbage"])
    def test_a_fault_leaves_botocore_without_credentials(self, aws: Aws, fault: Fault, faulty: Step | None) -> None:
        with Metadata() as metadata:
            aws.set(metadata.environment())
            metadata.fault, metadata.faulty = fault, faulty
            assert aws.session().get_credentials() is None  # no exception: it is the end of the chain
            metadata.fault = None
            assert issue_in(aws.session().get_credentials(), metadata) == 1

    def test_botocore_prolongs_what_has_expired_on_arrival(self, aws: Aws) -> None:
        with Metadata() as metadata:
            aws.set(metadata.environment())
            metadata.fault = "expired"
            credentials = aws.session().get_credentials()
            assert issue_in(credentials, metadata) == 1
            assert metadata.issue(1).expiration < datetime.now(UTC) < credentials._expiry_time

    @pytest.mark.usefixtures("aws")
    def test_hangs_until_it_closes(self) -> None:
        with Metadata() as metadata:
            metadata.fault = "hang"
            # By the environment it would be whole seconds.
            fetcher = InstanceMetadataFetcher(timeout=0.1, base_url=metadata.url)
            assert fetcher.retrieve_iam_role_credentials() == {}
            assert len(metadata.requests) == 2  # no token in time, so the role the old way

    @staticmethod
    def token(metadata: Metadata, ttl: str = "21600") -> dict[str, str]:
        """Return the header with a new session token."""
        status, headers, token = ask(
            metadata, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": ttl}
        )
        assert status == 200 and headers["X-Aws-Ec2-Metadata-Token-Ttl-Seconds"] == ttl
        return {"X-aws-ec2-metadata-token": token.decode()}


@pytest.mark.usefixtures("at_once")
class TestContainer:
    def test_gives_an_ecs_task_its_credentials(self, aws: Aws) -> None:
        with Container() as ecs:
            aws.set(ecs.environment())
            credentials = aws.session().get_credentials()
            assert credentials.method == "container-role" and issue_in(credentials, ecs) == 1
            assert credentials._expiry_time == ecs.issue(1).expiration
        assert [request.headers["authorization"] for request in ecs.requests] == [ecs.token]

    def test_gives_a_pod_its_credentials_and_takes_a_renewed_token(self, aws: Aws) -> None:
        with Container() as agent:
            file = aws.directory / "token"
            aws.set(agent.environment(file))
            credentials = aws.session().get_credentials()
            assert issue_in(credentials, agent) == 1
            agent.token = f"{TOKEN_PREFIX}Renewed"
            file.write_text(agent.token)
            credentials._expiry_time = datetime.now(UTC)
            assert issue_in(credentials, agent) == 2

    @pytest.mark.parametrize("token", ["", "another"])
    def test_refuses_another_token(self, aws: Aws, token: str) -> None:
        with Container() as ecs:
            aws.set(ecs.environment(), {"AWS_CONTAINER_AUTHORIZATION_TOKEN": token})
            with pytest.raises(CredentialRetrievalError, match="non 200 response 401"):
                aws.session().get_credentials()
            assert ask(ecs, "GET", ecs.path)[0] == 401
        assert ecs.issued == []

    def test_knows_its_own_path_alone(self) -> None:
        with Container() as ecs:
            headers = {"Authorization": ecs.token}
            assert ask(ecs, "GET", "/", headers)[0] == 404
            assert ask(ecs, "PUT", ecs.path, headers)[0] == 405

    @pytest.mark.parametrize(
        ("fault", "words"),
        [("500", "non 200 response 500"), ("refuse", "non 200 response 403"), ("garbage", "Unable to parse JSON")],
    )
    def test_a_fault_is_tried_three_times(self, aws: Aws, fault: Fault, words: str) -> None:
        with Container() as ecs:
            aws.set(ecs.environment())
            ecs.fault = fault
            with pytest.raises(CredentialRetrievalError, match=words):
                aws.session().get_credentials()
            assert len(ecs.requests) == 3

    def test_garbage_that_is_json_is_not_tried_again(self, aws: Aws) -> None:
        with Container() as ecs:
            aws.set(ecs.environment())
            ecs.fault, ecs.garbage = "garbage", b'{"code": "Nothing"}'
            with pytest.raises(KeyError, match="AccessKeyId"):
                aws.session().get_credentials()
            assert len(ecs.requests) == 1

    def test_what_has_expired_on_arrival_is_asked_for_once_more(self, aws: Aws) -> None:
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
            assert issue_in(coming.result(), ecs) == 1

    def test_is_slow_for_a_time(self, aws: Aws) -> None:
        with Container() as ecs:
            aws.set(ecs.environment())
            ecs.fault, ecs.delay = "slow", 0.01
            assert issue_in(aws.session().get_credentials(), ecs) == 1


class TestWebIdentity:
    def test_gives_credentials_for_a_token(self, aws: Aws) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"), {"AWS_ROLE_SESSION_NAME": "pod"})
            credentials = aws.session().get_credentials()
            assert credentials.method == "assume-role-with-web-identity" and issue_in(credentials, sts) == 1
            assert credentials._expiry_time == sts.issue(1).expiration
        assert (sts.issue(1).role, sts.issue(1).session_name) == (ROLE_ARN, "pod")
        assert "authorization" not in sts.requests[0].headers
        assert sts.requests[0].parameters["WebIdentityToken"] == WEB_IDENTITY_TOKEN

    def test_refuses_a_token_that_is_unknown_or_over(self, aws: Aws) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"))
            sts.web_identity_token = f"{TOKEN_PREFIX}Renewed"
            assert self.error(aws) == (400, "InvalidIdentityToken")
            sts.expired_web_identity_tokens.add(WEB_IDENTITY_TOKEN)
            assert self.error(aws) == (400, "ExpiredTokenException")
            (aws.directory / "token").write_text(sts.web_identity_token)
            assert issue_in(aws.session().get_credentials(), sts) == 1

    def test_refuses_a_role_that_is_unknown(self, aws: Aws) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"))
            sts.roles.clear()
            assert self.error(aws) == (403, "AccessDenied")

    @pytest.mark.parametrize(
        ("fault", "expected", "requests"),
        [("500", (500, "InternalFailure"), 3), ("refuse", (403, "AccessDenied"), 1)],
    )
    def test_an_error_is_sts_s_own(self, aws: Aws, fault: Fault, expected: tuple[int, str], requests: int) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"), {"AWS_RETRY_MODE": "standard"})  # once not the default
            sts.fault = fault
            assert self.error(aws) == expected
            assert len(sts.requests) == requests

    @pytest.mark.parametrize(
        ("garbage", "kind"),
        [(b"<html></html>", KeyError), (b"not even XML", ResponseParserError), (b"", ResponseParserError)],
    )
    def test_garbage_is_not_tried_again(self, aws: Aws, garbage: bytes, kind: type[Exception]) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"))
            sts.fault, sts.garbage = "garbage", garbage
            with pytest.raises(kind):
                aws.session().get_credentials().get_frozen_credentials()
            assert len(sts.requests) == 1

    @pytest.mark.parametrize(("fault", "skew"), [("expired", 0), (None, -3700)])
    def test_what_has_expired_on_arrival_is_not_used(self, aws: Aws, fault: Fault | None, skew: float) -> None:
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

    def test_botocore_cannot_reach_what_is_not_there(self, aws: Aws) -> None:
        with STS() as sts:
            aws.set(sts.environment(aws.directory / "token"), {"AWS_MAX_ATTEMPTS": "1"})
        with pytest.raises(EndpointConnectionError):
            aws.session().get_credentials().get_frozen_credentials()

    @staticmethod
    def error(aws: Aws) -> tuple[int, str]:
        """Return status and code of the error that botocore gets for the credentials."""
        with pytest.raises(ClientError) as caught:
            aws.session().get_credentials().get_frozen_credentials()
        return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


class TestAssumeRole:
    def test_gives_a_profile_its_role(self, aws: Aws) -> None:
        with STS(Role(external_id="customer/7")) as sts:
            aws.set(sts.environment(), {"AWS_PROFILE": "media"})
            aws.credentials(f"[base]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n")
            aws.config(
                f"[profile media]\nrole_arn={ROLE_ARN}\nsource_profile=base\nrole_session_name=origin\n"
                "external_id=customer/7\nduration_seconds=900\nregion=eu-central-1\n"
            )
            credentials = aws.session().get_credentials()
            assert credentials.method == "assume-role" and issue_in(credentials, sts) == 1
            left = sts.issue(1).expiration - datetime.now(UTC)
            assert timedelta(seconds=890) < left < timedelta(seconds=902)
        found = signature_of(sts.requests[0])
        assert found is not None and (found.access_key, found.region, found.service) == (
            ACCESS_KEY, "eu-central-1", "sts",
        )  # fmt: skip

    def test_takes_an_instance_s_credentials(self, aws: Aws) -> None:
        with Metadata() as metadata, STS(sources=[metadata]) as sts:
            aws.set(metadata.environment(), sts.environment(), {"AWS_PROFILE": "media"})
            aws.config(f"[profile media]\nrole_arn={ROLE_ARN}\ncredential_source=Ec2InstanceMetadata\nregion=r\n")
            assert issue_in(aws.session().get_credentials(), sts) == 1
            assert sts.requests[0].headers["x-amz-security-token"] == metadata.issue(1).token

    def test_takes_what_it_has_issued_itself_while_it_is_valid(self, aws: Aws) -> None:
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

    def test_refuses_other_keys(self, aws: Aws) -> None:
        with STS() as sts:
            assert "(SignatureDoesNotMatch)" in self.assume(aws, sts, keys=(ACCESS_KEY, "another", None))
            assert "(InvalidClientTokenId)" in self.assume(aws, sts, keys=("AKIAANOTHER", SECRET_KEY, None))
            assert "(InvalidClientTokenId)" in self.assume(aws, sts, keys=(ACCESS_KEY, SECRET_KEY, "a token"))
            assert sts.issued == []

    @pytest.mark.parametrize(("skew", "words"), [(1000, "Signature expired"), (-1000, "Signature not yet current")])
    def test_refuses_a_time_that_is_far_from_its_own(self, aws: Aws, skew: float, words: str) -> None:
        with STS() as sts:
            sts.skew = skew
            assert f"(SignatureDoesNotMatch) when calling the AssumeRole operation: {words}" in self.assume(aws, sts)

    def test_refuses_another_region_where_it_has_one(self, aws: Aws) -> None:
        with STS(region="eu-central-1") as sts:
            assert self.assume(aws, sts) == ""
            sts.region = "us-east-1"
            assert "valid region" in self.assume(aws, sts)

    def test_refuses_a_role_that_is_not_for_the_caller(self, aws: Aws) -> None:
        with STS(Role(external_id="right", longest=3600)) as sts:
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

    def test_takes_a_query_as_well_as_a_form(self) -> None:
        with STS() as sts:
            target = f"/?{urlencode(ASSUME)}"
            status, headers, body = ask(sts, "GET", target, signed(sts, "GET", target, b""))
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
    def test_a_signature_is_for_one_request(
        self, changed: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]]
    ) -> None:
        with STS() as sts:
            body = urlencode(ASSUME).encode()
            headers = signed(sts, "POST", "/", body)
            assert ask(sts, "POST", "/", headers, body)[0] == 200
            headers, body = changed(headers, body)
            status, _, answer = ask(sts, "POST", "/", headers, body)
            assert status == 403 and b"<Code>SignatureDoesNotMatch</Code>" in answer

    def test_refuses_what_is_not_signed_for_it(self) -> None:
        with STS() as sts:
            body = urlencode(ASSUME).encode()
            form = {"Content-Type": FORM}
            assert b"MissingAuthenticationToken" in ask(sts, "POST", "/", form, body)[2]
            old = {**form, "Authorization": f"AWS {ACCESS_KEY}:c2lnbmF0dXJl"}
            assert b"IncompleteSignature" in ask(sts, "POST", "/", old, body)[2]
            assert b"correct service" in ask(sts, "POST", "/", signed(sts, "POST", "/", body, "s3"), body)[2]
            assert b"InvalidAction" in ask(sts, "POST", "/", form, b"Action=GetCallerIdentity&Version=2011-06-15")[2]
            assert ask(sts, "POST", "/else", form, body)[0] == 404

    @staticmethod
    def assume(
        aws: Aws,
        sts: STS,
        *,
        keys: tuple[str, str, str | None] = (ACCESS_KEY, SECRET_KEY, None),
        **parameters: Any,
    ) -> str:
        """Assume the role with botocore's client, which checks nothing itself; return the error, if any."""
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
    def test_many_at_one_moment_get_credentials_of_their_own(self, aws: Aws) -> None:
        with Container() as ecs, ThreadPoolExecutor(64) as threads:
            ecs.fault = "slow"
            answers = [threads.submit(ask, ecs, "GET", ecs.path, {"Authorization": ecs.token}) for _ in range(64)]
            ecs.wait_for_requests(64)
            ecs.released.set()
            keys = {json.loads(answer.result()[2])["AccessKeyId"] for answer in answers}
        assert keys == {issue.access_key for issue in ecs.issued} and len(keys) == 64
        assert [issue.number for issue in ecs.issued] == [*range(1, 65)]

    def test_secrets_are_found_and_not_shown(self) -> None:
        with Metadata() as metadata, Container() as ecs, STS() as sts:
            metadata_token = TestMetadata.token(metadata)
            ask(metadata, "GET", f"{ROLES_PATH}media-instance", metadata_token)
            ask(ecs, "GET", ecs.path, {"Authorization": ecs.token})
            body = urlencode({**ASSUME, "Action": "AssumeRoleWithWebIdentity", "WebIdentityToken": WEB_IDENTITY_TOKEN})
            ask(sts, "POST", "/", {"Content-Type": FORM}, body.encode())
            issues = [*metadata.issued, *ecs.issued, *sts.issued]
        assert len({issue.access_key for issue in issues}) == 3 and not leaks(repr(issues))
        secrets = [secret for issue in issues for secret in (issue.secret_key, issue.token)]
        for secret in (*secrets, *metadata_token.values(), ecs.token, SECRET_KEY, WEB_IDENTITY_TOKEN):
            assert secret.startswith((SECRET_PREFIX, TOKEN_PREFIX))
            assert leaks(f"x {secret} y") == [secret.encode()]
            assert leaks(urlencode({"q": secret})) and leaks(json.dumps(secret).encode())

    def test_the_clock_is_the_endpoint_s_own(self) -> None:
        with Container(lifetime=60) as ecs:
            ecs.skew = 7200
            _, headers, body = ask(ecs, "GET", ecs.path, {"Authorization": ecs.token})
        ahead = parsedate_to_datetime(headers["Date"]) - datetime.now(UTC)
        assert timedelta(seconds=7190) < ahead < timedelta(seconds=7201)
        assert timedelta(seconds=50) < ecs.issue(1).expiration - parsedate_to_datetime(headers["Date"])
        assert json.loads(body)["Expiration"] == ecs.issue(1).expiration.strftime("%Y-%m-%dT%H:%M:%SZ")

    def test_comes_back_on_its_port(self) -> None:
        with Metadata() as first:
            port = first.port
        with pytest.raises(ConnectionRefusedError):
            ask(first, "GET", "/")
        with Metadata(port=port) as second:
            assert second.url == first.url and ask(second, "GET", "/")[0] == 401

    def test_ends_while_clients_wait_and_keep_connections(self) -> None:
        with ThreadPoolExecutor(2) as threads, Container() as ecs:
            idle = http.client.HTTPConnection("127.0.0.1", ecs.port, timeout=10)
            idle.request("GET", "/")
            idle.getresponse().read()
            ecs.fault = "hang"
            hanging = threads.submit(ask, ecs, "GET", ecs.path)
            ecs.wait_for_requests(2)
            ecs.fault = "slow"
            slow = threads.submit(ask, ecs, "GET", ecs.path)
            ecs.wait_for_requests(3)
        for waiting in (hanging, slow):
            assert isinstance(waiting.exception(), http.client.RemoteDisconnected)
        idle.close()

    def test_an_error_inside_fails_the_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ecs = Container()
        monkeypatch.setattr(ecs, "_answer", None)
        ecs.__enter__()
        with pytest.raises(http.client.RemoteDisconnected):
            ask(ecs, "GET", "/")
        with pytest.raises(AssertionError, match="the endpoint failed: TypeError"):
            ecs.__exit__(None, None, None)


def signed(sts: STS, method: str, target: str, body: bytes, service: str = "sts") -> dict[str, str]:
    """Return the headers of a request to the service, signed by botocore."""
    request = AWSRequest(method, f"{sts.url}{target}", {"Host": f"127.0.0.1:{sts.port}"}, body)
    if method == "POST":
        request.headers["Content-Type"] = FORM
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), service, "eu-central-1").add_auth(request)
    return dict(request.headers.items())


def test_a_signature_can_be_checked_for_any_service() -> None:
    headers = {"Host": "bucket.example", "x-amz-meta-a": "  two   words "}
    request = AWSRequest("GET", "https://bucket.example/a%20b?z=&a=%2F&a=%21", headers)
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "execute-api", "eu-west-1").add_auth(request)
    path = "/a%2520b"
    arrived = Request("GET", f"{path}?z=&a=%2F&a=%21", {k.lower(): v for k, v in request.headers.items()}, b"")
    found = signature_of(arrived)
    assert found is not None and is_signed(arrived, found, SECRET_KEY)
    assert not is_signed(arrived, found, f"{SECRET_KEY}x")
