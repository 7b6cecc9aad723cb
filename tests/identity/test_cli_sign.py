"""usp-s3 sign --from with a role or an AWS identity: the credentials are those that the section's requests have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.configurations import configtest_input
from tests.identity.conftest import Aws
from tests.identity.endpoints import ACCESS_KEY, ROLE_ARN, SECRET_KEY, STS, Container, Role, leaks
from usp_s3_wsgi.cli.main import main
from usp_s3_wsgi.cli.server import httpd_config
from usp_s3_wsgi.configtest import parsed_config
from usp_s3_wsgi.credentials import resolver


@pytest.fixture(autouse=True)
def _new_process(aws: Aws) -> Iterator[None]:
    resolver.reset()
    yield
    resolver.reset()


def configure(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    body = "\n".join(f"SetEnv {line}" for line in ("S3BucketURL https://s3.example/films/", "S3Region r", *lines))
    text = f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\n{body}\n</Location>\n"
    configuration = parsed_config.parse(configtest_input(text))
    monkeypatch.setattr(httpd_config, "read", lambda httpd: configuration)


def role(sts: STS) -> tuple[str, ...]:
    return f"S3AccessKey {ACCESS_KEY}", f"S3SecretKey {SECRET_KEY}", f"S3RoleARN {ROLE_ARN}", f"S3STSEndpoint {sts.url}"


def test_a_role(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with STS(Role()) as sts:
        configure(monkeypatch, *role(sts))
        assert main(["sign", "--from", "/media", "--in", "headers", "--explain", "a.ts"]) == 0
        (issue,) = sts.issued
    out, err = capsys.readouterr()
    assert f"Credential={issue.access_key}/" in out and f"x-amz-security-token: {issue.token}\n" in out
    assert "x-amz-security-token:(masked)\n" in err and not leaks(err)


def test_an_aws_identity(aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Container() as container:
        aws.set(container.environment())
        configure(monkeypatch, "S3CredentialSource aws")
        assert main(["sign", "--from", "/media", "a.ts"]) == 0
        (issue,) = container.issued
    assert f"X-Amz-Credential={issue.access_key}%2F" in capsys.readouterr().out


def test_a_role_that_may_not_be_assumed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with STS(Role("arn:aws:iam::123456789012:role/other")) as sts:
        configure(monkeypatch, *role(sts))
        assert main(["sign", "--from", "/media", "a.ts"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "STS answered 403 AccessDenied" in err and not leaks(err)
