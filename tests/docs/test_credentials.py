"""What docs/credentials.md says of the error log: the names of the sources, and the messages of failures."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.docs.tables import codes, table
from tests.faults.server import ScriptedS3, answer
from tests.httpd.conftest import ONE_CHILD
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.identity.conftest import Aws
from tests.identity.conftest import aws as aws
from tests.identity.conftest import servers as servers
from tests.identity.endpoints import ACCESS_KEY, ROLE_ARN, SECRET_KEY, STS, Container, Metadata, Role

KEYS = "aws_access_key_id = AKIA0000000000000001\naws_secret_access_key = a-secret\n"
PROCESS = {"Version": 1, "AccessKeyId": "AKIA0000000000000001", "SecretAccessKey": "a-secret"}
IDENTITY = "SetEnv S3CredentialSource aws"
KEY_LINES = (f"SetEnv S3AccessKey {ACCESS_KEY}", f"SetEnv S3SecretKey {SECRET_KEY}")
LOG_NAMES = [name for _, _, names in table("credentials.md", "order") for name in codes(names)]
MESSAGES = [codes(cell)[0] for cell, _ in table("credentials.md", "the log says")]


@pytest.fixture
def folder(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that httpd's children can read, with the shared files."""
    path = Path(tempfile.mkdtemp(prefix="credentials-"))
    path.chmod(0o755)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path / "credentials"))
    yield path
    shutil.rmtree(path)


def config(url: str, *lines: str) -> str:
    body = "\n".join([f"SetEnv S3BucketURL {url}/b/", "SetEnv S3Region eu-central-1", *lines])
    return f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\n{body}\n</Location>\n{ONE_CHILD}"


@pytest.mark.parametrize("name", LOG_NAMES)
def test_the_name_of_each_source(name: str, aws: Aws, folder: Path, servers: Callable[[str], Httpd]) -> None:
    with Metadata() as metadata, Container() as container, STS(Role(), sources=[metadata]) as sts:
        if name == "env":
            aws.set({"AWS_ACCESS_KEY_ID": "AKIA0000000000000001", "AWS_SECRET_ACCESS_KEY": "a-secret"})
        elif name == "assume-role":
            role = f"role_arn = {ROLE_ARN}\ncredential_source = Ec2InstanceMetadata\nregion = eu-central-1\n"
            (folder / "config").write_text(f"[default]\n{role}")
            aws.set(metadata.environment(), {"AWS_ENDPOINT_URL_STS": sts.url})
        elif name == "assume-role-with-web-identity":
            aws.set(sts.environment(folder / "token"))
        elif name == "shared-credentials-file":
            (folder / "credentials").write_text(f"[default]\n{KEYS}")
        elif name == "custom-process":
            (folder / "document").write_text(json.dumps(PROCESS))
            (folder / "config").write_text(f"[default]\ncredential_process = cat {folder}/document\n")
        elif name == "config-file":
            (folder / "config").write_text(f"[default]\n{KEYS}")
        elif name == "container-role":
            aws.set(container.environment())
        else:
            aws.set(metadata.environment())
        with ScriptedS3(then=answer(200, b"an object")) as s3:
            httpd = servers(config(s3.url, IDENTITY))
            assert httpd.fetch("/media/a.ts").status == 200
            httpd.wait_for_error(f"USPS30602: .*credentials refreshed from {name}, access key A")


def test_the_first_source_with_credentials_is_used(aws: Aws, folder: Path, servers: Callable[[str], Httpd]) -> None:
    assert LOG_NAMES[0] == "env" and LOG_NAMES[-2:] == ["container-role", "iam-role"]
    (folder / "config").write_text(f"[default]\n{KEYS}")
    with Metadata() as metadata, ScriptedS3(then=answer(200, b"an object")) as s3:
        aws.set(metadata.environment())
        httpd = servers(config(s3.url, IDENTITY))
        assert httpd.fetch("/media/a.ts").status == 200
        httpd.wait_for_error("credentials refreshed from config-file")


#: Tested elsewhere: a clock and a hang in test_aws.py and test_refresher.py, a missing botocore in test_aws.py, Ceph in
#: tests/rgw.
ELSEWHERE = (
    "STS answered 404 NoSuchEntity",
    "the new credentials have already expired",
    "timed out waiting for credentials",
    "S3RoleARN and S3CredentialSource aws need botocore",
)


@pytest.mark.parametrize("message", [message for message in MESSAGES if message not in ELSEWHERE])
def test_the_message_of_each_failure(message: str, aws: Aws, folder: Path, servers: Callable[[str], Httpd]) -> None:
    lines = [IDENTITY]
    with STS(Role()) as sts, ScriptedS3() as s3, ScriptedS3(tls=make_certificate(folder)) as tls:
        if message.startswith("no AWS credentials found"):
            message = message.removesuffix(", ...")
        elif message == "STS answered 403 AccessDenied":
            other = "arn:aws:iam::123456789012:role/other"
            lines = [*KEY_LINES, f"SetEnv S3RoleARN {other}", f"SetEnv S3STSEndpoint {sts.url}"]
        elif message == "botocore: PermissionError":
            aws.set(sts.environment(folder / "token"))
            (folder / "token").chmod(0)  # httpd's children may be this user
        elif message == "botocore: ProfileNotFound":
            lines.append("SetEnv S3Profile nobody")
        elif message == "botocore: EndpointConnectionError":
            lines = [*KEY_LINES, f"SetEnv S3RoleARN {ROLE_ARN}", f"SetEnv S3STSEndpoint http://127.0.0.1:{free_port()}"]
        elif message == "botocore: SSLError":
            lines = [*KEY_LINES, f"SetEnv S3RoleARN {ROLE_ARN}", f"SetEnv S3STSEndpoint https://localhost:{tls.port}"]
        else:
            assert message == "botocore: NoRegionError"
            role = f"role_arn = {ROLE_ARN}\ncredential_source = Environment\n"
            (folder / "config").write_text(f"[profile media]\n{role}")
            aws.set({"AWS_ACCESS_KEY_ID": "AKIA0000000000000001", "AWS_SECRET_ACCESS_KEY": "a-secret"})
            aws.set({"AWS_ENDPOINT_URL_STS": sts.url})
            lines.append("SetEnv S3Profile media")
        httpd = servers(config(s3.url, *lines))
        httpd.expect_error("USPS30601: ")
        reply = httpd.fetch("/media/a.ts")
        assert reply.status == 503 and "Retry-After" in reply.headers
        httpd.wait_for_error(f"USPS30601: .*{message}")
