"""Credentials from botocore's provider chain and from AssumeRole, against emulated endpoints."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import botocore
import pytest
from botocore.exceptions import ClientError
from botocore.utils import ContainerMetadataFetcher

from tests.identity.conftest import Aws
from tests.identity.endpoints import (
    ACCESS_KEY,
    ROLE_ARN,
    SECRET_KEY,
    SECRET_PREFIX,
    STS,
    TOKEN_PREFIX,
    Container,
    Fault,
    Metadata,
    Role,
    leaks,
)
from tests.wsgi import s3_settings
from usp_s3_wsgi.config.settings import from_environ
from usp_s3_wsgi.credentials import aws as product
from usp_s3_wsgi.credentials import identity
from usp_s3_wsgi.credentials.identity import FetchedCredentials
from usp_s3_wsgi.errors import CredentialsUnavailable, SettingError
from usp_s3_wsgi.signing.types import Credentials

BASE = {"S3AccessKey": "", "S3SecretKey": "", "S3CredentialSource": "aws"}
KEYS = Credentials(ACCESS_KEY, SECRET_KEY)


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_READ_TIMEOUT", 1)
    monkeypatch.setattr(product, "_MAX_ATTEMPTS", 1)
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    monkeypatch.setattr(ContainerMetadataFetcher, "TIMEOUT_SECONDS", 1)


def fetch(keys: Credentials | None = None, **settings: str) -> FetchedCredentials:
    values = s3_settings("http://127.0.0.1:1", **{**({} if keys else BASE), **settings})
    aws_identity = identity.from_settings(from_environ(values))
    assert aws_identity is not None
    return product.fetch(aws_identity, keys)


def failure(keys: Credentials | None = None, **settings: str) -> str:
    with pytest.raises(CredentialsUnavailable) as caught:
        fetch(keys, **settings)
    assert caught.value.__cause__ is None and not leaks(str(caught.value))
    return str(caught.value)


def seconds(expires: float | None) -> float:
    assert expires is not None
    return expires


def at(sts: STS) -> dict[str, str]:
    return {"S3RoleARN": ROLE_ARN, "S3STSEndpoint": sts.url, "S3Region": sts.region or "eu-central-1"}


# --- the providers of botocore's chain


@contextmanager
def environment(aws: Aws) -> Iterator[None]:
    aws.set({"AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT", "AWS_SECRET_ACCESS_KEY": SECRET_PREFIX, "AWS_SESSION_TOKEN": "t"})
    yield


@contextmanager
def shared_profile(aws: Aws) -> Iterator[None]:
    aws.credentials(f"[default]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = {SECRET_PREFIX}\n")
    yield


@contextmanager
def process(aws: Aws) -> Iterator[None]:
    program = aws.directory / "program.py"
    expiration = "2099-01-01T00:00:00Z"
    program.write_text(
        f'import json; print(json.dumps({{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "x",'
        f' "SessionToken": "t", "Expiration": "{expiration}"}}))'
    )
    aws.config(f"[default]\ncredential_process = {sys.executable} {program}\n")
    yield


@contextmanager
def web_identity(aws: Aws) -> Iterator[None]:
    with STS(Role()) as sts:
        aws.set(sts.environment(aws.directory / "web-identity"))
        yield


@contextmanager
def assumed_in_a_profile(aws: Aws) -> Iterator[None]:
    with STS(Role()) as sts:
        aws.set({"AWS_ENDPOINT_URL_STS": sts.url})
        aws.config(
            f"[default]\nrole_arn = {ROLE_ARN}\nsource_profile = base\nregion = {sts.region}\n"
            f"[profile base]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        )
        yield


@contextmanager
def ecs(aws: Aws) -> Iterator[None]:
    with Container() as container:
        aws.set(container.environment())
        yield


@contextmanager
def pod_identity(aws: Aws) -> Iterator[None]:
    with Container() as container:
        aws.set(container.environment(aws.directory / "pod-identity"))
        yield


@contextmanager
def instance(aws: Aws) -> Iterator[None]:
    with Metadata() as metadata:
        aws.set(metadata.environment())
        yield


SOURCES = [environment, shared_profile, process, web_identity, assumed_in_a_profile, ecs, pod_identity, instance]


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_credentials_as_botocore(aws: Aws, source: Callable[[Aws], Iterator[None]]) -> None:
    with source(aws):  # type: ignore[attr-defined]
        found = fetch()
        expected = aws.session().get_credentials()
        frozen = expected.get_frozen_credentials()
    assert found.source == expected.method
    # Each response has new credentials, which are numbered.
    assert found.credentials.access_key.rstrip("0123456789") == frozen.access_key.rstrip("0123456789")
    assert (found.credentials.security_token is None) == (frozen.token is None)
    expiry_time = getattr(expected, "_expiry_time", None)
    assert (found.expires is None) == (expiry_time is None)
    if found.expires is not None and expiry_time is not None:
        assert abs(found.expires - expiry_time.timestamp()) < 60


def test_the_profile_in_the_settings(aws: Aws) -> None:
    aws.credentials(
        f"[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = {SECRET_PREFIX}\n"
        f"[films]\naws_access_key_id = AKIAFILMS\naws_secret_access_key = {SECRET_PREFIX}\n"
    )
    assert fetch(S3Profile="films").credentials.access_key == "AKIAFILMS"
    assert failure(S3Profile="other") == "botocore: ProfileNotFound"


def test_no_credentials_found(aws: Aws) -> None:
    assert failure().startswith("no AWS credentials found")


def test_metadata_version_1_is_not_used(aws: Aws) -> None:
    """It gives credentials to anyone who can make this server fetch a URL (SSRF)."""
    with Metadata() as metadata:
        aws.set(metadata.environment())
        metadata.faulty, metadata.fault = "token", "refuse"
        failure()
        assert [request.method for request in metadata.requests] == ["PUT"]


def test_without_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(SettingError, match=r"pip install '\.\[aws\]'"):
        fetch()


def test_a_botocore_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another application in the same interpreter may have loaded its own."""
    monkeypatch.setattr(botocore, "__version__", "1.29.27")
    with pytest.raises(SettingError, match=r"botocore 1\.29\.27 of .*/botocore is older than 1\.40\.4: .* daemon mode"):
        fetch()


def test_botocore_is_imported_only_if_it_is_needed() -> None:
    program = (
        "import sys; from usp_s3_wsgi import application\n"
        "from usp_s3_wsgi.config import settings\n"
        "from usp_s3_wsgi.credentials import resolver\n"
        "pairs = dict(S3BucketURL='https://b.s3.amazonaws.com/', S3AccessKey='A', S3SecretKey='B')\n"
        "assert resolver.resolve(settings.from_environ(pairs)).access_key == 'A'\n"
        "assert not [name for name in sys.modules if name.startswith('botocore')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# --- roles


def test_a_role_with_the_configured_keys(aws: Aws) -> None:
    with STS(Role(external_id="films-7"), region="eu-west-9") as sts:
        own = {"S3RoleSessionName": "origin-1", "S3RoleDuration": "1800", "S3RoleExternalId": "films-7"}
        values = {**at(sts), **own, "S3Region": "eu-west-9"}
        found = fetch(KEYS, **values)
        issue = sts.issue(1)
        assert found.credentials == Credentials(issue.access_key, issue.secret_key, issue.token)
        assert abs(seconds(found.expires) - sts.now() - 1800) < 30
        assert found.source == "AssumeRole with static credentials"
        [request] = sts.requests
        assert b"RoleSessionName=origin-1" in request.body


def test_a_role_with_the_credentials_of_the_instance(aws: Aws) -> None:
    with Metadata() as metadata, STS(Role(), sources=[metadata]) as sts:
        aws.set(metadata.environment())
        found = fetch(None, **at(sts))
        assert found.credentials.access_key == sts.issue(1).access_key
        assert found.source == "AssumeRole with iam-role credentials"


def test_the_regional_sts_endpoint(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    urls: list[str] = []

    def send(client: object, request: object) -> None:
        urls.append(request.url)  # type: ignore[attr-defined]
        raise RuntimeError

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    aws.set({"AWS_STS_REGIONAL_ENDPOINTS": "legacy"})
    failure(KEYS, S3RoleARN=ROLE_ARN, S3Region="eu-west-1")
    failure(KEYS, S3RoleARN=ROLE_ARN, S3Region="")
    assert urls == ["https://sts.eu-west-1.amazonaws.com/", "https://sts.us-east-1.amazonaws.com/"]


def test_each_call_returns_new_credentials(aws: Aws) -> None:
    with STS(Role()) as sts:
        values = at(sts)
        assert fetch(KEYS, **values) != fetch(KEYS, **values)
        assert len(sts.issued) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"S3RoleARN": "arn:aws:iam::123456789012:role/other"}, "STS answered 403 AccessDenied"),
        ({"S3RoleExternalId": "other"}, "STS answered 403 AccessDenied"),
    ],
)
def test_a_role_that_sts_refuses(aws: Aws, wrong: dict[str, str], message: str) -> None:
    with STS(Role(external_id="films-7")) as sts:
        values = {**at(sts), "S3RoleExternalId": "films-7"}
        assert failure(KEYS, **{**values, **wrong}) == message


def test_keys_that_sts_does_not_know(aws: Aws) -> None:
    with STS(Role()) as sts:
        values = at(sts)
        assert (
            failure(Credentials(ACCESS_KEY, f"{SECRET_PREFIX}wrong"), **values)
            == "STS answered 403 SignatureDoesNotMatch"
        )
        assert failure(Credentials("AKIAOTHER", SECRET_KEY), **values) == "STS answered 403 InvalidClientTokenId"


# --- faults


@pytest.mark.parametrize("fault", ["500", "refuse", "garbage", "hang"])
@pytest.mark.parametrize("kind", ["ecs", "instance", "sts", "web identity"])
def test_the_message_for_a_fault_does_not_show_the_response(aws: Aws, kind: str, fault: Fault) -> None:
    made: dict[str, Callable[[], Container | Metadata | STS]] = {
        "ecs": Container, "instance": Metadata, "sts": lambda: STS(Role()), "web identity": lambda: STS(Role()),
    }  # fmt: skip
    with made[kind]() as endpoint:
        values: dict[str, str] = {}
        if isinstance(endpoint, STS):
            values = at(endpoint)
        if kind == "web identity":
            assert isinstance(endpoint, STS)
            aws.set(endpoint.environment(aws.directory / "web-identity"))
            values = {}
        elif kind != "sts":
            aws.set(endpoint.environment())
        endpoint.fault = fault
        endpoint.garbage = f'{{"Code": "Success", "Message": "{SECRET_PREFIX}"'.encode()
        failure(KEYS if kind == "sts" else None, **values)
        endpoint.fault = None
        assert fetch(KEYS if kind == "sts" else None, **values).credentials.access_key.startswith("ASIA")


def test_the_error_code_of_sts_is_sanitized(aws: Aws) -> None:
    """A forged response must not inject text into the log."""
    response = {"Error": {"Code": "X\n[forged] line"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    assert product._describe(ClientError(response, "AssumeRole")) == "STS answered 403 (no code)"


def test_credentials_that_have_already_expired(aws: Aws) -> None:
    with Container() as container:
        aws.set(container.environment())
        container.fault = "expired"
        assert failure() == identity.ALREADY_EXPIRED


@pytest.mark.parametrize("skew", [-600, 600])
def test_an_sts_clock_that_differs_by_minutes(aws: Aws, skew: int) -> None:
    """The expiration is by the clock of STS, but it is never later than the requested duration allows."""
    with STS(Role()) as sts:
        sts.skew = skew
        found = fetch(KEYS, **at(sts))
        assert abs(seconds(found.expires) - time.time() - 3600 - min(0, skew)) < 30


def test_an_sts_clock_that_differs_by_an_hour(aws: Aws) -> None:
    with STS(Role()) as sts:
        sts.skew = 3600
        assert failure(KEYS, **at(sts)).startswith("STS answered 403 ")


def test_botocore_logs_nothing_at_any_level(
    aws: Aws, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the refresher's threads: another application in this process may log its own use of botocore."""
    caplog.set_level(logging.DEBUG)
    with STS(Role()) as sts, Container() as container:
        aws.set(container.environment())

        def work() -> None:
            values = at(sts)
            fetch(KEYS, **values)
            fetch()
            container.fault = "garbage"
            container.garbage = SECRET_PREFIX.encode()
            failure()

        thread = threading.Thread(target=work, name="usp_s3_wsgi credentials")
        thread.start()
        thread.join()
    assert not leaks(caplog.text) and SECRET_KEY not in caplog.text and TOKEN_PREFIX not in caplog.text


def test_a_credentials_file_outside_of_home(aws: Aws, tmp_path: Path) -> None:
    """Apache's user has another home directory; environment variables name the files."""
    other = tmp_path / "aws-credentials"
    other.write_text(f"[default]\naws_access_key_id = AKIAELSEWHERE\naws_secret_access_key = {SECRET_PREFIX}\n")
    aws.set({"AWS_SHARED_CREDENTIALS_FILE": str(other)})
    assert fetch().credentials.access_key == "AKIAELSEWHERE"
