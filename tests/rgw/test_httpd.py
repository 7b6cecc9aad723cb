"""Roles in a real httpd with a real S3 and STS: settings, tokens and their expiry."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.httpd.conftest import MODES, ONE_CHILD
from tests.httpd.server import Httpd
from tests.identity.conftest import Aws
from tests.identity.conftest import aws as aws
from tests.identity.conftest import servers as servers
from tests.rgw import Rgw
from tests.rgw.conftest import BUCKET, DATA

PATH = "a%20b%2Bc.txt"


def config(rgw: Rgw, role: str, mode: str, *lines: str, sts: str = "") -> str:
    """The configuration of both ways in with this signing mode."""
    region, headers = MODES[mode]
    directives = [
        f"SetEnv S3AccessKey {rgw.access_key}",
        f"SetEnv S3SecretKey {rgw.secret_key}",
        f"SetEnv S3RoleARN {role}",
        "SetEnv S3RoleDuration 900",
        f"SetEnv S3STSEndpoint {sts or rgw.url}",
        f"SetEnv S3UseHeaders {'on' if headers else 'off'}",
        *([f"SetEnv S3Region {rgw.region}"] if region else []),
        *lines,
    ]
    body = "\n".join(directives)
    return (
        f"AllowEncodedSlashes On\nWSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\n"
        f"SetEnv S3BucketURL {rgw.url}/{BUCKET}/\n{body}\n</Location>\n"
        f'ProxyPass /proxied {rgw.url}/{BUCKET}\n<Proxy "{rgw.url}/{BUCKET}/">\n{body}\n</Proxy>\n{ONE_CHILD}'
    )


@pytest.mark.parametrize("mode", MODES)
def test_an_object_with_the_keys_of_a_role(
    rgw: Rgw, role: str, aws: Aws, servers: Callable[[str], Httpd], mode: str
) -> None:
    httpd = servers(config(rgw, role, mode))
    for mount in ("/media", "/proxied"):
        reply = httpd.fetch(f"{mount}/{PATH}")
        assert (reply.status, reply.body) == (200, DATA)
        assert httpd.fetch(f"{mount}/{PATH}", range="bytes=1-2").body == DATA[1:3]
        assert httpd.fetch(f"{mount}/{PATH}", method="HEAD").headers["Content-Length"] == str(len(DATA))
    line = httpd.wait_for_error("credentials refreshed from AssumeRole with static credentials")
    assert f"{role} (S3CredentialSource static)" in line


def test_a_role_that_does_not_exist(rgw: Rgw, role: str, aws: Aws, servers: Callable[[str], Httpd]) -> None:
    httpd = servers(config(rgw, f"{role}-not", "v4-header"))
    httpd.expect_error("usp_s3_wsgi: .*STS answered 404")
    for mount in ("/media", "/proxied"):
        reply = httpd.fetch(f"{mount}/{PATH}")
        assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("mode", ["v4-header", "v2-query"])
def test_expiring_tokens_are_replaced(
    rgw: Rgw, role: str, aws: Aws, servers: Callable[[str], Httpd], mode: str
) -> None:
    """An STS with a slow clock issues tokens for ten seconds. RGW then rejects them, and no client gets an error."""
    with rgw.gateway(clock=10 - 900) as sts:
        httpd = servers(config(rgw, role, mode, sts=sts))
        ends = time.monotonic() + 14  # the first tokens have expired by then
        while time.monotonic() < ends:
            for mount in ("/media", "/proxied"):
                reply = httpd.fetch(f"{mount}/{PATH}")
                assert (reply.status, reply.body) == (200, DATA)
            time.sleep(0.05)


@pytest.mark.parametrize("clock", [-3600, 3600])
@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_clock(rgw: Rgw, role: str, servers: Callable[[str], Httpd], mode: str, clock: int) -> None:
    """The gateway retries with S3's clock; in <Proxy> sections the next request is signed with it."""
    with rgw.gateway(clock=clock) as url:
        region, headers = MODES[mode]
        lines = "\n".join(
            [
                f"SetEnv S3AccessKey {rgw.access_key}",
                f"SetEnv S3SecretKey {rgw.secret_key}",
                f"SetEnv S3UseHeaders {'on' if headers else 'off'}",
                f"SetEnv S3Region {rgw.region}" if region else "",
            ]
        )
        httpd = servers(
            f"AllowEncodedSlashes On\nWSGIScriptAlias /media ${{USP_S3_WSGI}}\n"
            f"<Location /media>\nSetEnv S3BucketURL {url}/{BUCKET}/\n{lines}\n</Location>\n"
            f'ProxyPass /proxied {url}/{BUCKET}\n<Proxy "{url}/{BUCKET}/">\n{lines}\n</Proxy>\n{ONE_CHILD}'
        )
        httpd.expect_error("correct it")
        rejected = mode.endswith("header") or clock > 0  # RGW accepts a query signature of the future
        assert httpd.fetch(f"/proxied/{PATH}").status == (502 if rejected else 200)
        for mount in ("/proxied", "/media"):
            assert [httpd.fetch(f"{mount}/{PATH}").body for _ in range(2)] == [DATA] * 2
        assert len(httpd.errors()) == rejected


@pytest.mark.parametrize("mode", ["v4-query", "v2-query"])
def test_the_gateway_retries_with_s3s_clock(rgw: Rgw, role: str, servers: Callable[[str], Httpd], mode: str) -> None:
    with rgw.gateway(clock=3600) as url:
        region = f"SetEnv S3Region {rgw.region}" if MODES[mode][0] else ""
        httpd = servers(
            f"LogLevel warn usp_s3:info\n"
            f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\nSetEnv S3BucketURL {url}/{BUCKET}/\n"
            f"SetEnv S3AccessKey {rgw.access_key}\nSetEnv S3SecretKey {rgw.secret_key}\n{region}\n</Location>\n"
            + ONE_CHILD
        )
        assert [httpd.fetch(f"/media/{PATH}").status for _ in range(2)] == [200, 200]
        httpd.wait_for_error("S3 answered 403 AccessDenied, .* s behind S3's: correct it .*; retrying$")
        assert len(httpd.errors()) == 1
