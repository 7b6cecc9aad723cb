"""``usp-s3 config``: what it writes is valid, for each provider and for any accepted answers; what it asks; files."""

from __future__ import annotations

import inspect
import os
import pty
import re
import select
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.configurations import configtest_input
from usp_s3_wsgi.cli.check import command as check_module
from usp_s3_wsgi.cli.config import answers as checks
from usp_s3_wsgi.cli.config import command as config
from usp_s3_wsgi.cli.config import key_file
from usp_s3_wsgi.cli.config.answers import Answers, Way
from usp_s3_wsgi.cli.config.key_file import KeyFileError
from usp_s3_wsgi.cli.config.providers import BY_NAME, PROVIDERS, Provider
from usp_s3_wsgi.cli.config.rendering import render
from usp_s3_wsgi.cli.main import main, usp_s3
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest import check, parsed_config

ROOT = Path(__file__).parents[2]
#: Ctrl-C.
INTERRUPT = "\x03"
#: What must be known of each provider, besides the bucket and the key.
KNOWN = {
    "aws": ["--region=eu-central-1"],
    "aws-role": ["--region=eu-central-1"],
    "ceph": ["--endpoint=https://s3.example"],
    "minio": ["--endpoint=https://minio.example:9000"],
    "google": [],
    "oracle": ["--namespace=axaxnpcrorw5", "--region=eu-frankfurt-1"],
    "r2": ["--account=023e105f4ecef8ad9ca31a8372d0c353"],
    "wasabi": ["--region=eu-central-1"],
    "backblaze": ["--region=us-west-004"],
    "swift": ["--endpoint=http://swift.example:8080"],
    "other": ["--endpoint=https://s3.example"],
}
URLS = {
    "aws": "https://mybucket.s3.eu-central-1.amazonaws.com/",
    "aws-role": "https://mybucket.s3.eu-central-1.amazonaws.com/",
    "ceph": "https://s3.example/mybucket/",
    "minio": "https://minio.example:9000/mybucket/",
    "google": "https://storage.googleapis.com/mybucket/",
    "oracle": "https://axaxnpcrorw5.compat.objectstorage.eu-frankfurt-1.oraclecloud.com/mybucket/",
    "r2": "https://023e105f4ecef8ad9ca31a8372d0c353.r2.cloudflarestorage.com/mybucket/",
    "wasabi": "https://s3.eu-central-1.wasabisys.com/mybucket/",
    "backblaze": "https://s3.us-west-004.backblazeb2.com/mybucket/",
    "swift": "http://swift.example:8080/mybucket/",
    "other": "https://s3.example/mybucket/",
}
REGIONS = {
    "ceph": "default", "minio": "us-east-1", "google": "auto", "oracle": "eu-frankfurt-1", "r2": "auto",
    "backblaze": "us-west-004", "swift": "us-east-1", "other": "us-east-1",
}  # fmt: skip
WAYS: tuple[Way, ...] = ("gateway", "proxy")
#: Before click 8.2 both outputs were one unless this is False, and since then they never are.
_OUTPUTS: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
RUNNER = CliRunner(**_OUTPUTS)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")


def options(provider: str, *more: str, bucket: str = "mybucket") -> list[str]:
    """The options of a provider that has keys, or none."""
    keys = ["--access-key=ACCESS_KEY"] if BY_NAME[provider].credentials == "keys" else []
    return [f"--provider={provider}", f"--bucket={bucket}", *KNOWN[provider], *keys, *more]


def run(way: str, *arguments: str, stdin: str = "") -> Result:
    """Run the command without a terminal."""
    return RUNNER.invoke(usp_s3, ["config", way, *arguments], input=stdin)


def read_back(text: str) -> tuple[list[str], Settings]:
    """What configtest finds in a configuration, and the settings of its only bucket."""
    data = configtest_input(text.encode("utf-8", "surrogateescape").decode("latin-1"))
    findings = check(parsed_config.parse(data))
    (use,) = findings.buckets
    assert isinstance(use.settings, Settings), use.settings
    return [f"{finding.code}: {finding.text}" for finding in findings.sorted()], use.settings


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    """A file with a secret key."""
    file = tmp_path / "a.secret"
    file.write_text(f"{SECRET}\n")
    return str(file)


# --- the configurations


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BY_NAME)
def test_configtest_accepts_the_configuration_of_each_provider(name: str, way: str, secret_file: str) -> None:
    keys = BY_NAME[name].credentials == "keys"
    done = run(way, *options(name, *([f"--secret-key-file={secret_file}"] if keys else [])))
    assert (done.exit_code, done.stderr) == (0, "")
    findings, found = read_back(done.stdout)
    assert findings == []
    url = found.bucket_url
    assert f"{url.scheme}://{url.authority}{url.prefix}" == URLS[name]
    assert (url.bucket, found.region) == ("mybucket", REGIONS.get(name, "eu-central-1"))
    assert (found.access_key, found.secret_key_file) == (("ACCESS_KEY", secret_file) if keys else (None, None))
    assert (found.credential_source, found.use_headers) == ("static" if keys else "aws", True)
    assert (URLS[name] in done.stdout) and max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda one: one.name)
def test_each_provider_is_on_its_page(provider: Provider) -> None:
    page = (ROOT / "docs" / "providers.md").read_text()
    assert f"--provider {provider.name} " in page
    assert provider.source in page
    assert provider.name in run("gateway", "--help").stdout


@pytest.mark.parametrize("block", [
    pytest.param(match, id=match[1].replace("usp-s3 config ", "")[:60])
    for match in re.finditer(
        r"```sh\n(usp-s3 config (?:.|\\\n)*?)\n```\n\n(?:<!--.*?-->\n)?```apache\n(.*?)```",
        (ROOT / "docs" / "providers.md").read_text(), re.DOTALL,
    )
])  # fmt: skip
def test_the_page_has_what_the_command_prints(block: re.Match[str]) -> None:
    words = shlex.split(block[1].replace("\\\n", " "))
    done = run(*words[2:])
    assert (done.exit_code, done.stdout) == (0, block[2]), done.stderr


def test_the_page_has_a_configuration_for_each_provider() -> None:
    page = (ROOT / "docs" / "providers.md").read_text()
    assert len(re.findall(r"```sh\nusp-s3 config ", page)) == len(re.findall(r"```apache\n", page)) > len(PROVIDERS)


@pytest.mark.parametrize(
    ("arguments", "url", "bucket"),
    [
        # A certificate for *.s3.REGION.amazonaws.com has no name with more dots.
        (options("aws", bucket="my.bucket"), "https://s3.eu-central-1.amazonaws.com/my.bucket/", None),
        (options("aws", bucket="My_Bucket"), "https://s3.eu-central-1.amazonaws.com/My_Bucket/", None),
        (options("aws", "--style=path"), "https://s3.eu-central-1.amazonaws.com/mybucket/", None),
        (options("google", "--style=host"), "https://mybucket.storage.googleapis.com/", None),
        (options("ceph", "--style=host"), "https://mybucket.s3.example/", "mybucket"),
        (options("swift", "--style=host", "--signature=v2"), "http://mybucket.swift.example:8080/", "mybucket"),
        (["--provider=r2", "--bucket=mybucket", "--access-key=A", "--endpoint=https://abc.eu.r2.cloudflarestorage.com"],
         "https://abc.eu.r2.cloudflarestorage.com/mybucket/", None),
        (["--provider=other", "--bucket=a", "--access-key=A", "--endpoint=HTTPS://S3.Example:443/"],
         "https://s3.example/a/", None),
        (["--provider=other", "--bucket=a", "--access-key=A", "--endpoint=s3.example:9000"],
         "https://s3.example:9000/a/", None),
        (["--provider=aws", "--bucket=films", "--access-key=A", "--region=cn-north-1"],
         "https://films.s3.cn-north-1.amazonaws.com.cn/", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", WAYS)
def test_where_the_bucket_is_in_the_url(
    arguments: list[str], url: str, bucket: str | None, way: str, secret_file: str
) -> None:
    done = run(way, *arguments, f"--secret-key-file={secret_file}")
    assert done.exit_code == 0, done.stderr
    assert (f"S3BucketURL     {url}\n" if way == "gateway" else f'<Proxy "{url}">') in done.stdout
    assert ("SetEnv S3Bucket " in done.stdout) is (bucket is not None)
    findings, found = read_back(done.stdout)
    assert findings == []
    assert bucket is None or found.bucket_url.bucket == bucket


def test_roles(secret_file: str) -> None:
    role = "--role-arn=arn:aws:iam::123456789012:role/reader"
    identity = run("proxy", *options("aws-role", role)).stdout
    assert read_back(identity)[1].role_arn == role.partition("=")[2]
    ceph = run("gateway", *options("ceph", "--role-arn=arn:aws:iam:::role/r", f"--secret-key-file={secret_file}"))
    findings, found = read_back(ceph.stdout)
    assert (findings, found.sts_endpoint, found.role_arn) == ([], "https://s3.example", "arn:aws:iam:::role/r")
    assert "needs botocore" in ceph.stdout


def test_a_private_authority(secret_file: str) -> None:
    arguments = options("minio", f"--secret-key-file={secret_file}", "--ca-file=/etc/ssl/certs/ca-certificates.crt")
    gateway, proxy = (run(way, *arguments).stdout for way in WAYS)
    assert "SetEnv S3CAFile        /etc/ssl/certs/ca-certificates.crt\n" in gateway
    assert "S3CAFile" not in proxy and "  SSLProxyCACertificateFile /etc/ssl/certs/ca-certificates.crt\n" in proxy


def test_an_unencrypted_endpoint_has_a_warning_and_no_tls() -> None:
    text = run("proxy", *options("swift")).stdout
    assert "# - Requests and objects are not encrypted" in text and "SSLProxy" not in text


def test_signature_v2() -> None:
    text = run("gateway", *options("ceph", "--signature=v2")).stdout
    assert "S3Region" not in text and read_back(text)[1].region is None


@pytest.mark.parametrize("path", ["/", "/media", "/media/", "/a/b c/é"])
@pytest.mark.parametrize("way", WAYS)
def test_paths(path: str, way: str, secret_file: str) -> None:
    text = run(way, *options("google", f"--path={path}", f"--secret-key-file={secret_file}")).stdout
    findings, _ = read_back(text)
    assert findings == []
    written = path.rstrip("/") or "/"
    quoted = f'"{written}"' if way == "proxy" or " " in path else written
    assert (f"ProxyPass {quoted} " if way == "proxy" else f"WSGIScriptAlias {quoted} ") in text
    # mod_proxy joins the target and what follows the path.
    assert way == "gateway" or (f'{quoted} "{URLS["google"]}"\n' in text) is (path == "/")


# --- what is not accepted


@pytest.mark.parametrize(
    ("way", "arguments", "message"),
    [
        ("gateway", [], "--provider (one of aws, aws-role, ceph, minio, google, oracle, r2, wasabi, backb"),
        ("gateway", ["--bucket=a"], "swift, other) is missing. Questions are only asked on a terminal"),
        ("gateway", ["--provider=s3"], "--provider: must be one of aws, aws-role, ceph"),
        ("gateway", ["--provider=aws"], "--bucket, --region, --access-key are missing"),
        ("gateway", ["--provider=aws", "--bucket=a"], "--region, --access-key are missing"),
        ("gateway", ["--provider=aws", "--bucket=a", "--region=eu"], "--access-key is missing"),
        ("gateway", ["--provider=minio", "--bucket=a"], "--endpoint (such as https://minio.example:9000), --acc"),
        ("gateway", ["--provider=aws-role", "--bucket=a"], "--region is missing. Questions are only asked on"),
        ("gateway", ["--provider=oracle"], "--bucket, --region, --account (Object Storage namespace), --acc"),
        ("gateway", ["--provider=r2", "--bucket=a"], "--account (account ID), --access-key are missing"),
        ("gateway", options("aws", "--region=EU central"), "--region: must be a region's name such as"),
        ("gateway", options("aws", "--region=EU-Central-1"), "--region: must be a region's name in lowercase"),
        ("gateway", options("r2", "--account=abc"), "--account: must be 32 hexadecimal digits"),
        ("gateway", options("oracle", "--account=A.b"), "--account: must be the namespace in lowercase"),
        ("gateway", options("aws", bucket="a/b"), "--bucket: must be the name of a bucket, without a slash"),
        ("gateway", options("aws", bucket=".."), "--bucket: must be the name of a bucket"),
        ("gateway", options("aws", bucket="${HOME}"), "--bucket: must have no control characters and no ${"),
        ("proxy", options("ceph", bucket="a b"), "--bucket: must have only letters, digits and - . _ ~"),
        ("gateway", options("aws", "--access-key=a b"), "--access-key: must be printable ASCII"),
        ("gateway", options("aws", "--access-key=${K}"), "--access-key: must have no control characters and no ${"),
        ("gateway", options("aws", "--access-key="), "--access-key: must not be empty"),
        ("gateway", options("aws", "--path=media"), "--path: must begin with a slash"),
        ("gateway", options("aws", "--path=/a%20b"), "--path: must have none of the characters"),
        ("gateway", options("aws", "--path=/a/../b"), "--path: must have no empty segments"),
        ("gateway", options("aws", "--path=/a//b"), "--path: must have no empty segments"),
        ("gateway", options("aws", "--secret-key-file=a.secret"), "--secret-key-file: must be the absolute path"),
        ("gateway", options("aws", "--secret-key-file=/é"), "--secret-key-file: must have only ASCII characters"),
        ("gateway", options("aws", "--secret-key-file=/a\n/b"), "--secret-key-file: must have no control"),
        ("gateway", options("aws", "--secret-key-file=/" + "a" * 1000), "must not be longer than 1000 bytes"),
        ("gateway", options("aws", "--role-arn=reader"), "--role-arn: must be the ARN of a role"),
        ("gateway", options("google", "--role-arn=arn:aws:iam::1:role/r"), "--role-arn has no meaning for"),
        ("gateway", options("aws-role", "--access-key=A"), "--access-key has no meaning for the provider aws-role"),
        ("gateway", options("aws-role", "--secret-key-file=/a"), "--secret-key-file has no meaning"),
        ("gateway", options("aws-role", "--secret-key-from-stdin"), "--secret-key-from-stdin has no meaning"),
        ("gateway", options("aws", "--account=a"), "--account has no meaning for the provider aws."),
        ("gateway", options("r2", "--endpoint=https://a.example"), "--account has no meaning for the provider r2 with"),
        ("gateway", options("oracle", "--style=host"), "--style: must be path for the provider oracle"),
        ("gateway", options("ceph", "--style=host", bucket="A_b"), "--style: must be path: this bucket's name"),
        ("gateway", options("aws", "--signature=v2"), "--signature: must be v4 for the provider aws"),
        ("gateway", options("ceph", "--signature=v2", "--region=x"), "--region has no meaning with Signature v2"),
        ("gateway", options("swift", "--ca-file=/a.pem"), "--ca-file has no meaning for an http:// endpoint"),
        ("gateway", options("ceph", "--endpoint=https://s3.example/a"), "--endpoint: must be the URL of the service"),
        ("gateway", options("ceph", "--endpoint=https://u:p@s3.example"), "--endpoint: must be the URL of"),
        ("gateway", options("ceph", "--endpoint=ftp://s3.example"), "--endpoint: must be the URL of the service"),
        ("gateway", options("ceph", "--endpoint=https://s3..example"), "--endpoint: must be the URL of the service"),
        ("gateway", options("ceph", "--endpoint=https://s3.example:99999"), "--endpoint: must be the URL of"),
        ("gateway", options("ceph", "--endpoint=https://films.s3.amazonaws.com"), "the endpoint names a bucket itself"),
        ("gateway", options("ceph", "--endpoint=http://10.0.0.1:9000", "--style=host"), "--style: must be path: the"),
        ("gateway", options("ceph", "--endpoint=https://[::1]", "--style=host"), "must be path: the endpoint is an IP"),
        ("proxy", options("ceph", "--endpoint=https://127.0.0.1"), "mod_ssl does not accept a certificate for an IP"),
        ("proxy", options("ceph", "--endpoint=http://[::1]:9000"), "a <Proxy> section of an IPv6 address needs"),
        ("sideways", options("aws"), "'sideways' is not one of 'gateway', 'proxy'"),
    ],
)  # fmt: skip
def test_one_clear_error(way: str, arguments: list[str], message: str) -> None:
    done = run(way, *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1 and message in errors[0].replace('"', "'")


def test_an_address_of_a_server_on_this_network(secret_file: str) -> None:
    """The gateway compares addresses with the certificate, and http:// has none."""
    for way, endpoint in (
        ("gateway", "https://127.0.0.1"),
        ("gateway", "http://[::1]:9000"),
        ("proxy", "http://10.0.0.1"),
    ):
        done = run(way, *options("ceph", f"--endpoint={endpoint}", f"--secret-key-file={secret_file}"))
        assert done.exit_code == 0 and read_back(done.stdout)[0] == []


# --- any accepted answers

#: Characters with a meaning for httpd, for shells, and for none.
ODD = st.text(st.sampled_from("ab/.-_ ~\"'\\$%{}()<>#?*[]|&;:@=+,!é☃\u2028\x7f\n\t\0^`"), min_size=1, max_size=12)
PATHS = st.one_of(st.just("/"), ODD.map("/{}".format), st.sampled_from(["/media", "/a b", "/a'b", "/$1", "/~a/", "/é"]))
ENDPOINTS = st.sampled_from(
    ["https://s3.example", "http://s3.example:9000", "https://films-s3.example", "https://a.b.c"]
)


def accepted(function: Callable[..., str], text: str, **more: object) -> str:
    """The answer; the example is left out if it is not accepted."""
    try:
        return function(text, **more)
    except ValueError:
        assume(False)
        raise


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), way=st.sampled_from(WAYS), name=st.sampled_from(sorted(BY_NAME)))
def test_any_accepted_answers_are_read_back(data: st.DataObject, way: Way, name: str, tmp_path: Path) -> None:
    provider = BY_NAME[name]
    has_keys = provider.credentials == "keys"
    draw = data.draw
    bucket = accepted(checks.bucket, draw(st.one_of(ODD, st.sampled_from(["films", "my.films", "A_b"]))), way=way)
    region = draw(st.sampled_from(["eu-central-1", "us-west-004", "x"]))
    account = provider.account.example if provider.account else ""
    endpoint = provider.endpoint_in(region, account) if provider.endpoint else draw(ENDPOINTS)
    style = accepted(
        checks.style, draw(st.sampled_from(provider.styles)), provider=provider, bucket_name=bucket,
        endpoint_url=endpoint,
    )  # fmt: skip
    assert style in {"path", "host"}
    signature = draw(st.sampled_from(provider.signatures))
    file = draw(ODD.map(lambda text: text.replace("/", "")).filter(lambda text: text not in {"", ".", ".."}))
    path = accepted(checks.file, str(tmp_path / file))
    Path(path).write_text(SECRET)
    found = Answers(
        way, provider, checks.endpoint(endpoint, way), bucket, checks.style(style, provider, bucket, endpoint),
        signature,
        accepted(checks.path, draw(PATHS)), region if signature == "v4" else "",
        accepted(checks.access_key, draw(ODD)) if has_keys else "", path if has_keys else "", "",
        draw(st.sampled_from(["", "/etc/ssl/certs/ca-certificates.crt"])) if way == "proxy" else "",
    )  # fmt: skip
    text = render(found)
    assert not re.search(r"\\$", text, re.MULTILINE) and len(text.splitlines()) == text.count("\n")
    findings, back = read_back(text)
    assert findings == []
    expected = found.settings()
    assert back.secret_key_file == (path if has_keys else None)
    assert (back.bucket_url, back.access_key) == (expected.bucket_url, expected.access_key)
    assert (back.region, back.credential_source) == (expected.region, expected.credential_source)


# --- files


def test_the_file_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "films.conf"
    assert run("gateway", *options("google", f"--output={target}")).stdout == ""
    first = target.read_text()
    assert first == run("gateway", *options("google", "--output=-")).stdout
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    done = run("proxy", *options("google", f"--output={target}"))
    assert (done.exit_code, target.read_text()) == (1, first)
    assert "exists, and is not replaced without --force; nothing was written" in done.stderr


def test_force_replaces_the_file_of_a_link_and_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "available").mkdir()
    target, link = tmp_path / "available" / "films.conf", tmp_path / "films.conf"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    assert run("gateway", *options("google", "-o", str(link), "--force")).exit_code == 0
    assert link.is_symlink() and target.read_text().startswith("# Google")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["films.conf"]


@AS_ROOT
@pytest.mark.parametrize("folder_mode", [0o755, 0o777, 0o1777])
def test_force_follows_no_link_of_another_user(tmp_path: Path, folder_mode: int) -> None:
    target, link = tmp_path / "shadow", tmp_path / "shared" / "films.conf"
    target.write_text("old")
    link.parent.mkdir()
    link.parent.chmod(folder_mode)
    link.symlink_to(target)
    os.chown(link, 65_534, 65_534, follow_symlinks=False)
    done = run("gateway", *options("google", "-o", str(link), "--force"))
    assert (done.exit_code, done.stdout, target.read_text()) == (1, "", "old")
    assert f"{link} is a link of another user" in done.stderr


@AS_ROOT
@pytest.mark.parametrize("above", [False, True])
def test_force_follows_no_link_that_others_could_replace(tmp_path: Path, above: bool) -> None:
    target, folder = tmp_path / "target", tmp_path / "shared"
    target.write_text("old")
    link = folder / "deep" / "films.conf"
    link.parent.mkdir(parents=True)
    (folder if above else link.parent).chmod(0o777)
    link.symlink_to(target)
    done = run("gateway", *options("google", "-o", str(link), "--force"))
    assert (done.exit_code, target.read_text()) == (1, "old")
    assert "can be written by others than root" in done.stderr


@AS_ROOT
def test_the_mode_of_another_user_is_not_kept(tmp_path: Path) -> None:
    target = tmp_path / "films.conf"
    target.touch()
    target.chmod(0o666)
    os.chown(target, 65_534, 65_534)
    assert run("gateway", *options("google", "-o", str(target), "--force")).exit_code == 0
    assert (target.stat().st_uid, stat.S_IMODE(target.stat().st_mode)) == (0, 0o644)


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    done = run("gateway", *options("google", "-o", str(tmp_path / "a"), "--force"))
    assert done.exit_code == 1 and "Too many levels of symbolic links" in done.stderr


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    done = run("gateway", *options("google", f"--output={tmp_path}/none/films.conf"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "cannot be written: No such file or directory" in done.stderr


@AS_ROOT
@pytest.mark.parametrize("directory", ["", "new/deep"])
def test_the_secret_key_from_standard_input(directory: str, tmp_path: Path) -> None:
    file = tmp_path / directory / "films.secret"
    done = run(
        "gateway", *options("google", f"--secret-key-file={file}", "--secret-key-from-stdin", "--apache-group=daemon"),
        stdin=f"  {SECRET}\n",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert file.read_text() == f"{SECRET}\n"
    status = file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 0, 1)
    assert directory == "" or stat.S_IMODE(file.parent.stat().st_mode) == 0o755
    assert SECRET not in done.output
    assert read_back(done.stdout)[0] == []
    # Never replaced, also not with --force.
    again = run(
        "gateway", *options("google", f"--secret-key-file={file}", "--secret-key-from-stdin", "--force"), stdin="other"
    )
    assert (again.exit_code, again.stdout, file.read_text()) == (1, "", f"{SECRET}\n")


@AS_ROOT
@pytest.mark.parametrize("secret", ["", "a b", "é"])
def test_a_wrong_secret_key_is_not_repeated(secret: str, tmp_path: Path) -> None:
    file = tmp_path / "films.secret"
    arguments = options("google", f"--secret-key-file={file}", "--secret-key-from-stdin", "--apache-group=daemon")
    done = run("gateway", *arguments, stdin=secret)
    assert (done.exit_code, done.stdout, file.exists()) == (1, "", False)
    assert "the secret key on standard input must be printable ASCII" in done.stderr
    assert not secret or secret not in done.stderr


@AS_ROOT
@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_secret_key_in_quotes(quote: str, tmp_path: Path) -> None:
    file = tmp_path / "films.secret"
    arguments = options("google", f"--secret-key-file={file}", "--secret-key-from-stdin", "--apache-group=daemon")
    done = run("gateway", *arguments, stdin=f"{quote}{SECRET}{quote}\n")
    assert (done.exit_code, done.stdout, file.exists()) == (1, "", False)
    assert "the secret key on standard input is in quotes: write it without them" in done.stderr
    assert SECRET not in done.stderr


@AS_ROOT
def test_a_key_file_behind_a_link_or_in_a_directory_of_others(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="exists, and is not replaced"):
        key_file.create(str(tmp_path / "link"), SECRET, 0)
    assert not (tmp_path / "elsewhere").exists()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(KeyFileError, match="can be written by others than root"):
        key_file.create(str(shared / "a"), SECRET, 0)
    (shared / "root's").mkdir()
    with pytest.raises(KeyFileError, match=f"{shared} can be written by others than root"):
        key_file.create(str(shared / "root's" / "a"), SECRET, 0)
    with pytest.raises(KeyFileError, match=f"{shared} can be written by others than root"):
        key_file.create(str(shared / "new" / "a"), SECRET, 0)
    assert os.listdir(shared) == ["root's"] and os.listdir(shared / "root's") == []
    (tmp_path / "theirs").symlink_to(tmp_path)
    os.chown(tmp_path / "theirs", 65_534, 65_534, follow_symlinks=False)
    with pytest.raises(KeyFileError, match="is a link of another user: use another directory"):
        key_file.create(str(tmp_path / "theirs" / "a"), SECRET, 0)
    with pytest.raises(KeyFileError, match="cannot be created: Not a directory"):
        key_file.create("/etc/hostname/a", SECRET, 0)


@AS_ROOT
def test_a_full_disk_leaves_no_empty_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyFileError, match="No space left"):
        key_file.create(str(tmp_path / "a"), SECRET, 0)
    assert list(tmp_path.iterdir()) == []


def test_another_user_gets_the_commands_for_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    file = tmp_path / "a b.secret"
    done = run("gateway", *options("google", f"--secret-key-file={file}", "--secret-key-from-stdin"), stdin=SECRET)
    assert (done.exit_code, done.stdout, file.exists()) == (1, "", False)
    assert f"install -m 640 -o root -g www-data /dev/null '{file}'" in done.stderr


def test_the_group_of_apache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    httpd = tmp_path / "httpd"
    httpd.write_text("#!/bin/sh\necho 'User: name=\"www\" id=33'\necho 'Group: name=\"www\" id=34'\n")
    httpd.chmod(0o755)
    monkeypatch.setattr("usp_s3_wsgi.cli.httpd_user.programs", lambda: ["/none", str(httpd)])
    assert key_file.apache_group("") == 34
    assert key_file.apache_group("daemon") == 1
    with pytest.raises(KeyFileError, match="there is no group 'nobodys'"):
        key_file.apache_group("nobodys")
    monkeypatch.setattr("usp_s3_wsgi.cli.httpd_user.programs", list)
    with pytest.raises(KeyFileError, match="name it with --apache-group"):
        key_file.apache_group("")


# --- the dialog


@pytest.fixture
def dialog(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command as on a terminal, with these answers."""
    monkeypatch.setattr(config, "is_terminal", lambda: True)

    def answer(way: str, *answers: str, arguments: tuple[str, ...] = ()) -> Result:
        return RUNNER.invoke(usp_s3, ["config", way, *arguments], input="".join(f"{one}\n" for one in answers))

    return answer


def test_the_dialog(dialog: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "none" / "films.secret"
    done = dialog("gateway", "7", "films", "x", "0" * 32, "KEY", "media", "/media", str(file), "n")
    assert done.exit_code == 0, done.stderr
    flags = [
        "--provider=r2",
        "--bucket=films",
        f"--account={'0' * 32}",
        "--access-key=KEY",
        f"--secret-key-file={file}",
    ]
    assert done.stdout == run("gateway", *flags, "--no-input").stdout
    # A wrong answer is asked again, with the reason.
    assert "Error: must be 32 hexadecimal digits" in done.stderr and "Error: must begin with a slash" in done.stderr
    assert "  3 ceph      Ceph RGW\n" in done.stderr
    assert "Region" not in done.stderr and "Provider [aws]: " in done.stderr and "Path [/media]: " in done.stderr
    # The next steps, and the command that asks nothing.
    steps = done.stderr.partition("\nNext:\n")[2]
    for step in ("read -rs secret", "apachectl configtest && apachectl graceful", "usp-s3 check --bucket /media"):
        assert step in steps
    repeated = shlex.split(steps.rpartition("The same without questions:\n")[2].replace("\\\n", ""))
    again = run(*repeated[2:])
    assert again.stdout == done.stdout, again.stderr


@AS_ROOT
def test_the_dialog_writes_the_secret_key(dialog: Callable[..., Result], tmp_path: Path) -> None:
    file, target = tmp_path / "films.secret", tmp_path / "films.conf"
    arguments = (
        *options("aws", f"--secret-key-file={file}", "--path=/films"),
        "--apache-group=daemon",
        "-o",
        str(target),
    )
    done = dialog("proxy", "", "y", "a b", SECRET, "n", arguments=tuple(arguments))
    assert done.exit_code == 0, done.stderr
    assert file.read_text() == f"{SECRET}\n" and SECRET not in done.output and "a b" not in done.output
    assert "Error: the secret key must be printable ASCII" in done.stderr
    assert done.stdout == "" and read_back(target.read_text())[0] == []
    steps = done.stderr.partition("\nNext:\n")[2]
    assert "store the secret key" not in steps and "a2enmod proxy_http ssl" in steps
    assert f"Put {target} into the virtual host that should serve /films" in " ".join(steps.split())


@AS_ROOT
def test_a_key_file_that_cannot_be_created_loses_no_answer(dialog: Callable[..., Result]) -> None:
    file = "/etc/hostname/a.secret"
    arguments = (*options("wasabi", "--path=/a"), f"--secret-key-file={file}", "--apache-group=daemon")
    done = dialog("gateway", "y", SECRET, arguments=arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Not a directory; nothing was written. To go on:\n  usp-s3 config gateway --provider wasabi " in done.stderr


@AS_ROOT
@pytest.mark.parametrize("arguments", [(), ("--apache-group=nobodys",)])
def test_the_group_is_asked_where_httpd_does_not_say_it(
    dialog: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("usp_s3_wsgi.cli.httpd_user.programs", list)
    monkeypatch.setattr(key_file, "usual_group", lambda: "daemon")
    for name, answers in (("a", ["no such", "bin"]), ("b", [""])):
        file = tmp_path / f"{name}.secret"
        given = (*options("wasabi", "--path=/a"), f"--secret-key-file={file}", *arguments)
        done = dialog("gateway", "y", *answers, SECRET, arguments=given)
        assert done.exit_code == 0, done.stderr
        assert file.read_text() == f"{SECRET}\n" and file.group() == ("bin" if name == "a" else "daemon")
        assert "Group [daemon]: " in done.stderr
        assert name == "b" or "Error: there is no group 'no such' on this machine" in done.stderr


@pytest.mark.parametrize("provider", BY_NAME.values(), ids=BY_NAME)
def test_no_line_of_the_dialog_is_wider_than_a_terminal(
    provider: Provider, dialog: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {
        "Provider": provider.name, "Bucket": "mybucket", "Endpoint": "https://s3.example", "Region": "eu-central-1",
        "Access key": "KEY", "Secret key file": f"/none/{'a' * 30}.secret",
    }  # fmt: skip

    def answer(question: str, check: Callable[[str], str], *, default: str | None = None) -> str:
        click.echo(f"{question} [{default}]: ", err=True)
        account = provider.account.example if provider.account else ""
        return check(known.get(question) or (account if default is None else default))

    monkeypatch.setattr("usp_s3_wsgi.cli.config.questions.prompt", answer)
    shown = dialog("proxy", "n", "n", arguments=("--output", str(tmp_path / "a.conf")))
    assert shown.exit_code == 0, shown.stderr
    # A path is one word, however long it is.
    assert [line for line in shown.stderr.splitlines() if len(line) > 80 and len(line.split()) > 1] == []


def test_the_next_steps_have_whole_paths(
    dialog: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = (*options("aws-role", "--path=/media"), "--role-arn=", "--output=b.conf")
    done = dialog("gateway", "n", arguments=arguments)
    assert f"Put {tmp_path}/b.conf into the virtual host" in " ".join(done.stderr.split())
    assert "Have you included the file in httpd's configuration?\nRun usp-s3 check now? [y/N]: " in done.stderr


def test_without_a_terminal_it_is_said_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("gateway", *options("google", "--output=a.conf", "--secret-key-file=/none/a.secret"))
    assert done.stderr.splitlines() == [
        f"usp-s3: the configuration is in {tmp_path}/a.conf",
        "usp-s3: /none/a.secret does not exist yet: it must contain the secret key",
    ]
    assert run("gateway", *options("aws-role")).stderr == ""


@pytest.mark.parametrize(
    ("provider", "region", "warns"),
    [
        ("aws", "eu-central1", True),
        ("aws-role", "frankfurt", True),
        ("aws", "eu-central-1", False),
        ("aws", "us-gov-west-1", False),
        ("aws", "us-isob-east-1", False),
        ("aws", "eusc-de-east-1", False),
        ("aws", "cn-northwest-1", False),
        ("oracle", "x", False),
    ],
)
def test_an_odd_region_of_aws(provider: str, region: str, warns: bool) -> None:
    done = run("gateway", *options(provider, f"--region={region}"))
    assert done.exit_code == 0
    assert (f"usp-s3: {region} does not look like a region of AWS, such as eu-central-1\n" in done.stderr) == warns


def test_questions_of_own_servers(dialog: Callable[..., Result]) -> None:
    done = dialog("gateway", "other", "films", "v2", "https://s3.example", "host", "", "KEY", "", "", "n")
    assert done.exit_code == 0, done.stderr
    assert "SetEnv S3Bucket        films\n" in done.stdout and "S3Region" not in done.stdout
    assert "Region" not in done.stderr
    assert "SetEnv S3BucketURL     https://films.s3.example/\n" in done.stdout


def test_the_file_is_asked_where_the_output_is_a_terminal(
    dialog: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "is_output_shown", lambda: True)
    monkeypatch.setattr(config, "_SITES", tmp_path)
    arguments = (*options("aws-role", "--path=/media"), "--role-arn=")
    shown = dialog("gateway", "-", arguments=arguments)
    assert shown.stdout.startswith("# Amazon S3") and list(tmp_path.iterdir()) == []
    # The folder of Debian's sites is the default.
    site = dialog("gateway", "", "n", arguments=arguments)
    assert (site.exit_code, site.stdout) == (0, "")
    assert (tmp_path / "mybucket.conf").read_text() == shown.stdout
    assert "Enable the site: a2ensite mybucket" in site.stderr and "pip install '.[aws]'" in site.stderr
    # It is not replaced, and not proposed again.
    again = dialog("gateway", str(tmp_path / "mybucket.conf"), "", arguments=arguments)
    assert (
        "Error: the file exists, and is not replaced without --force" in again.stderr and "File [-]: " in again.stderr
    )
    assert again.stdout == shown.stdout


def test_an_existing_output_ends_the_dialog_before_it_begins(dialog: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.conf").touch()
    done = dialog("gateway", arguments=(f"--output={tmp_path}/a.conf",))
    assert done.exit_code == 1 and "Provider" not in done.stderr


def test_a_wrong_option_ends_the_dialog(dialog: Callable[..., Result]) -> None:
    done = dialog("gateway", "aws", arguments=("--bucket=a/b",))
    assert done.exit_code == 2 and "Invalid value for --bucket: must be the name of a bucket" in done.stderr


def test_check_is_offered(dialog: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    @click.command("check")
    @click.option("--bucket")
    def check_command(bucket: str) -> None:
        called.append(bucket)
        raise click.ClickException("no bucket is configured at /media")

    monkeypatch.setattr(check_module, "command", check_command)
    arguments = (*options("aws-role", "--path=/media"), "--role-arn=")
    done = dialog("gateway", "y", arguments=(*arguments, f"--output={tmp_path}/b.conf"))
    no = dialog("gateway", "n", arguments=(*arguments, f"--output={tmp_path}/c.conf"))
    assert (done.exit_code, no.exit_code, called) == (0, 0, ["/media"])
    assert "no bucket is configured at /media" in done.stderr


def test_in_a_real_terminal(tmp_path: Path) -> None:
    """Questions and the hidden secret key on a pty; standard output is a pipe, and has the configuration only."""
    file = tmp_path / "films.secret"
    dialog = {
        "Provider": "google", "Bucket": "films", "Access key": "GOOGKEY", "Path": "", "Secret key file": str(file),
    }  # fmt: skip
    if os.geteuid() == 0:
        dialog |= {"Write the secret key": "y", r"Secret key \(not shown\)": SECRET}
    status, stdout, shown = in_terminal(dialog, "--apache-group", "daemon")
    assert status == 0, shown
    assert stdout.startswith("# Google Cloud Storage") and "SetEnv S3BucketURL     https://storage" in stdout
    assert "The same without questions:" in shown
    assert SECRET not in shown + stdout
    assert os.geteuid() != 0 or file.read_text() == f"{SECRET}\n"


def test_an_interrupted_dialog_writes_nothing_and_says_how_to_go_on(tmp_path: Path) -> None:
    target = tmp_path / "films.conf"
    dialog = {"Provider": "backblaze", "Bucket": "a b", "Region": "us-west-004", "Access key": INTERRUPT}
    status, stdout, shown = in_terminal(dialog, "--output", str(target))
    assert (status, stdout, target.exists()) == (130, "", False)
    assert "Nothing was written. To go on:\n  usp-s3 config gateway --provider backblaze --bucket 'a b' " in shown
    assert "usp-s3: interrupted\n" in shown


def in_terminal(dialog: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run the command on a pty; return its status, its standard output, and what the terminal shows."""
    program = "import sys; from usp_s3_wsgi.cli.main import main; sys.exit(main())"
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "config", "gateway", *arguments],
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True, cwd=ROOT, start_new_session=True,
        preexec_fn=_control_terminal,
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = ""
        for question, answer in dialog.items():
            shown += _read_until(terminal, rf"{question}[^\n]*: ")
            if answer == INTERRUPT:
                _interrupt(process, terminal)
            else:
                os.write(terminal, f"{answer}\n".encode())
        stdout, _ = process.communicate(timeout=30)
        shown += _read_until(terminal, None)
    finally:
        process.kill()
        process.communicate()
        os.close(terminal)
    return process.returncode, stdout, shown.replace("\r\n", "\n")


def _interrupt(process: subprocess.Popen[str], terminal: int) -> None:
    """Type Ctrl-C until it is noticed: Python forgets it between a question and the wait for the answer."""
    for _ in range(30):
        os.write(terminal, INTERRUPT.encode())
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
            return


def _control_terminal() -> None:
    """Make standard input the terminal that /dev/tty is, for the hidden input."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))


def _read_until(descriptor: int, pattern: str | None) -> str:
    """What the terminal shows until a pattern, or until its end."""
    shown, deadline = "", time.monotonic() + 30
    while pattern is None or not re.search(pattern, shown):
        assert time.monotonic() < deadline and select.select([descriptor], [], [], 30)[0], shown
        try:
            part = os.read(descriptor, 4096)
        except OSError:  # the other end was closed
            break
        shown += part.decode("utf-8", "replace")
    return shown


def test_without_a_terminal_nothing_is_asked() -> None:
    assert main(["config", "gateway", "--provider", "aws"]) == 2
