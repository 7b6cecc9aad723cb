"""usp-s3 sign with a real Ceph, which accepts the pasted curl command: all modes, keys of a user and of a role."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.httpd import commands
from tests.httpd.conftest import MODES
from tests.httpd.server import Httpd
from tests.identity.conftest import Aws
from tests.identity.conftest import aws as aws
from tests.leaks import leaks
from tests.rgw import Rgw
from tests.rgw.conftest import BUCKET, DATA, KEY
from tests.rgw.test_httpd import config

NEEDS_CURL = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on this machine")


def run(script: str) -> bytes:
    return subprocess.run(["sh"], input=script.encode(), capture_output=True, timeout=60, check=True).stdout


def options(mode: str, rgw: Rgw) -> list[str]:
    is_v4, headers = MODES[mode]
    version = ["--region", rgw.region] if is_v4 else ["--signature", "v2"]
    return [*version, "--in", "headers" if headers else "query", "--output", "curl"]


@NEEDS_CURL
@pytest.mark.parametrize("mode", MODES)
def test_keys_and_temporary_keys(rgw: Rgw, role: str, mode: str) -> None:
    temporary = rgw.assume_role(role)
    assert temporary.token
    for environment in (
        {"AWS_ACCESS_KEY_ID": rgw.access_key, "AWS_SECRET_ACCESS_KEY": rgw.secret_key},
        {
            "AWS_ACCESS_KEY_ID": temporary.access_key,
            "AWS_SECRET_ACCESS_KEY": temporary.secret_key,
            "AWS_SESSION_TOKEN": temporary.token,
        },
    ):
        url = f"{rgw.url}/{BUCKET}/{KEY}"
        done = commands.usp_s3("sign", *options(mode, rgw), url, environment=environment)
        assert run(done.stdout) == DATA, done.stderr


@NEEDS_CURL
@pytest.mark.parametrize("mode", MODES)
def test_a_role_of_a_section(rgw: Rgw, role: str, aws: Aws, mode: str) -> None:
    with Httpd(config(rgw, role, mode)) as httpd:
        httpd.expect_error("credentials refreshed")
        for mount in ("/media", "/proxied"):
            done = commands.usp_s3("sign", "--from", mount, *commands.of(httpd), "--output", "curl", f"{mount}/{KEY}")
            assert run(done.stdout) == DATA, done.stderr
            assert not leaks(done.stderr)
