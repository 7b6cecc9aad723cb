"""usp-s3 sign --from with a role or an AWS identity: the credentials are those that the section's requests have."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.configurations import configtest_input
from tests.identity.conftest import Aws
from tests.identity.endpoints import ACCESS_KEY, ROLE_ARN, SECRET_KEY, STS, Role, leaks
from usp_s3_wsgi.cli.main import main
from usp_s3_wsgi.cli.server import httpd_config, httpd_environment
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest import parsed_config
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.errors import CredentialsUnavailable


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


@pytest.mark.parametrize("in_shell", [False, True])
def test_an_aws_identity_is_that_of_httpd(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], in_shell: bool
) -> None:
    """And not that of the variables and the folder ~/.aws of the operator's shell, which httpd does not have."""
    home = aws.directory / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    monkeypatch.setattr(httpd_environment, "_home", lambda uid: str(home))
    if in_shell:
        aws.credentials("[default]\naws_access_key_id = OPERATOR\naws_secret_access_key = operator\n")
        aws.set({"AWS_ACCESS_KEY_ID": "OPERATOR", "AWS_SECRET_ACCESS_KEY": "operator", "AWS_SESSION_TOKEN": "token"})
    before = dict(os.environ)
    configure(monkeypatch, "S3CredentialSource aws")
    assert main(["sign", "--from", "/media", "--in", "query", "a.ts"]) == 0
    out = capsys.readouterr().out
    assert f"X-Amz-Credential={ACCESS_KEY}%2F" in out and "Security-Token" not in out
    assert dict(os.environ) == before


def test_get_has_the_identity_of_httpd(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.set({"AWS_ACCESS_KEY_ID": "OPERATOR", "AWS_SECRET_ACCESS_KEY": "operator"})
    seen: list[dict[str, str]] = []

    def resolve(settings: Settings) -> None:
        seen.append(dict(os.environ))
        raise CredentialsUnavailable("none")

    monkeypatch.setattr(resolver, "resolve", resolve)
    monkeypatch.setattr(httpd_environment, "_home", lambda uid: "/home/of/httpd")
    configure(monkeypatch, "S3CredentialSource aws", "S3Retries 0")
    assert main(["get", "--from", "/media", "-o", "/dev/null", "a.ts"]) == 1
    assert seen and not any(name.startswith("AWS_") for name in seen[0])
    assert seen[0]["HOME"] == "/home/of/httpd"


def test_a_role_that_may_not_be_assumed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with STS(Role("arn:aws:iam::123456789012:role/other")) as sts:
        configure(monkeypatch, *role(sts))
        assert main(["sign", "--from", "/media", "a.ts"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "STS answered 403 AccessDenied" in err and not leaks(err)
