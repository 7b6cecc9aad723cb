"""A real S3 with a real STS behind a real httpd: roles assumed by our settings, their tokens, and their end."""

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
    """Both ways in, signing so."""
    region, headers = MODES[mode]
    given = [
        f"SetEnv S3AccessKey {rgw.access_key}",
        f"SetEnv S3SecretKey {rgw.secret_key}",
        f"SetEnv S3RoleARN {role}",
        "SetEnv S3RoleDuration 900",
        f"SetEnv S3STSEndpoint {sts or rgw.url}",
        f"SetEnv S3UseHeaders {'on' if headers else 'off'}",
        *([f"SetEnv S3Region {rgw.region}"] if region else []),
        *lines,
    ]
    body = "\n".join(given)
    return (
        f"AllowEncodedSlashes On\nWSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\n"
        f"SetEnv S3BucketURL {rgw.url}/{BUCKET}/\n{body}\n</Location>\n"
        f'ProxyPass /proxied {rgw.url}/{BUCKET}\n<Proxy "{rgw.url}/{BUCKET}/">\n{body}\n</Proxy>\n{ONE_CHILD}'
    )


@pytest.mark.parametrize("mode", MODES)
def test_an_object_by_a_role(rgw: Rgw, role: str, aws: Aws, servers: Callable[[str], Httpd], mode: str) -> None:
    httpd = servers(config(rgw, role, mode))
    for mount in ("/media", "/proxied"):
        reply = httpd.fetch(f"{mount}/{PATH}")
        assert (reply.status, reply.body) == (200, DATA)
        assert httpd.fetch(f"{mount}/{PATH}", range="bytes=1-2").body == DATA[1:3]
        assert httpd.fetch(f"{mount}/{PATH}", method="HEAD").headers["Content-Length"] == str(len(DATA))
    line = httpd.wait_for_error("credentials refreshed from AssumeRole with static credentials")
    assert f"{role} (S3CredentialSource static)" in line


def test_a_role_that_is_not_there(rgw: Rgw, role: str, aws: Aws, servers: Callable[[str], Httpd]) -> None:
    httpd = servers(config(rgw, f"{role}-not", "v4-header"))
    httpd.expect_error("usp_s3_wsgi: .*STS answered 404")
    for mount in ("/media", "/proxied"):
        reply = httpd.fetch(f"{mount}/{PATH}")
        assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("mode", ["v4-header", "v2-query"])
def test_tokens_that_end(rgw: Rgw, role: str, aws: Aws, servers: Callable[[str], Httpd], mode: str) -> None:
    """An STS whose clock is slow issues what ends in ten seconds: RGW refuses it then, and nobody is to notice."""
    with rgw.gateway(clock=10 - 900) as sts:
        httpd = servers(config(rgw, role, mode, sts=sts))
        ends = time.monotonic() + 14  # the first ones are refused by then
        while time.monotonic() < ends:
            for mount in ("/media", "/proxied"):
                reply = httpd.fetch(f"{mount}/{PATH}")
                assert (reply.status, reply.body) == (200, DATA)
            time.sleep(0.05)


@pytest.mark.parametrize("clock", [-3600, 3600])
@pytest.mark.parametrize("mode", MODES)
def test_a_clock_that_is_not_s3s(rgw: Rgw, role: str, servers: Callable[[str], Httpd], mode: str, clock: int) -> None:
    """The gateway asks again by S3's; in <Proxy> the next request is signed by it."""
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
        refused = mode.endswith("header") or clock > 0  # RGW takes a query of the future
        assert httpd.fetch(f"/proxied/{PATH}").status == (502 if refused else 200)
        for mount in ("/proxied", "/media"):
            assert [httpd.fetch(f"{mount}/{PATH}").body for _ in range(2)] == [DATA] * 2
        assert len(httpd.errors()) == refused


@pytest.mark.parametrize("mode", ["v4-query", "v2-query"])
def test_the_gateway_before_a_clock_that_is_not_s3s(
    rgw: Rgw, role: str, servers: Callable[[str], Httpd], mode: str
) -> None:
    with rgw.gateway(clock=3600) as url:
        region = f"SetEnv S3Region {rgw.region}" if MODES[mode][0] else ""
        httpd = servers(
            f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\nSetEnv S3BucketURL {url}/{BUCKET}/\n"
            f"SetEnv S3AccessKey {rgw.access_key}\nSetEnv S3SecretKey {rgw.secret_key}\n{region}\n</Location>\n"
            + ONE_CHILD
        )
        assert [httpd.fetch(f"/media/{PATH}").status for _ in range(2)] == [200, 200]
        httpd.wait_for_error("S3 answered 403 AccessDenied, .* s behind S3's: correct it .*; retrying$")
        assert len(httpd.errors()) == 1
