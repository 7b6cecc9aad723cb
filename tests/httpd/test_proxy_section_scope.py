"""Which sections apply to a proxied request: ``<Location>``, patterns that match any host, other schemes than http."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.server import ScriptedS3, answer
from tests.httpd.conftest import settings
from tests.httpd.fastcgi import fastcgi_server
from tests.httpd.machine import has_module, modules_directory
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.httpd.ways import (
    WAYS,
    assert_configtest_reports,
    assert_rejected,
    assert_signed,
    fetch,
    keys,
    log_lines,
    proxy_config,
    running,
    section,
)
from tests.s3 import EmbeddedS3

every_way = pytest.mark.parametrize("way", WAYS)

# --- <Location>s around a ProxyPass

ALL = "\n".join(keys("KEY"))
#: The configuration, and the signer of each path; the status of denied.ts shows the S3DeniedStatus that applies.
LOCATIONS = {
    "the root around": (f"<Location />\n{ALL}\n</Location>\nProxyPass /app @OTHER@", {"/app/a.ts": "unsigned"}),
    "the root and a Location": (f'<Location "/">\n{ALL}\n</Location>\n<Location /app>\nProxyPass @OTHER@\n</Location>',
                        {"/app/a.ts": "unsigned"}),
    "the root around a balancer": (f"<Location />\n{ALL}\n</Location>\nProxyPass /app balancer://app\n"
                                   '<Proxy "balancer://app">\nBalancerMember @OTHER@\n</Proxy>',
                                   {"/app/a.ts": "unsigned"}),
    "a folder around a ProxyPass": (f"<Location /sites>\n{ALL}\n</Location>\nProxyPass /sites/app @OTHER@",
                                {"/sites/app/a.ts": "unsigned"}),
    "the path of the ProxyPass": (f"<Location /media>\n{ALL}\n</Location>\nProxyPass /media @BUCKET@",
                              {"/media/a.ts": "KEY/r", "/media/x/a.ts": "KEY/r"}),
    "ProxyPass inside": (f"<Location /media>\nProxyPass @BUCKET@\n{ALL}\n</Location>", {"/media/a.ts": "KEY/r"}),
    "a slash at both ends": (f"<Location /media/>\n{ALL}\n</Location>\nProxyPass /media/ @BUCKET@/",
                             {"/media/a.ts": "KEY/r"}),
    "a slash at the end of the ProxyPass": (f"<Location /media>\n{ALL}\n</Location>\nProxyPass /media/ @BUCKET@/",
                                        {"/media/a.ts": "KEY/r"}),
    "a slash at the end of the section": (f"<Location /media/>\n{ALL}\n</Location>\nProxyPass /media @BUCKET@",
                                          {"/media/a.ts": "KEY/r"}),
    "a section of a subfolder": (f"<Location /media/films>\n{ALL}\n</Location>\nProxyPass /media @BUCKET@",
                            {"/media/films/a.ts": "KEY/r", "/media/a.ts": "unsigned", "/media/films2/a": "unsigned"}),
    "a nested section": (f"<Location /media>\n{ALL}\n</Location>\n<Location /media/sub>\nSetEnv S3DeniedStatus 404\n"
                         "</Location>\nProxyPass /media @BUCKET@",
                         {"/media/sub/a.ts": "KEY/r", "/media/sub/denied.ts": "KEY/r 404",
                          "/media/denied.ts": "KEY/r 403"}),
    "a ProxyPass below another one": (f"<Location /media>\n{ALL}\n</Location>\nProxyPass /media/app @OTHER@\n"
                               "ProxyPass /media @BUCKET@",
                               {"/media/app/a.ts": "unsigned", "/media/a.ts": "KEY/r"}),
    "a ProxyPass below, in its own Location": (f"<Location /media>\nProxyPass @BUCKET@\n{ALL}\n</Location>\n"
                                           "<Location /media/app>\nProxyPass @OTHER@\n</Location>",
                                           {"/media/app/a.ts": "unsigned", "/media/a.ts": "KEY/r"}),
    "a path with the same beginning": (f"<Location /media>\n{ALL}\n</Location>\nProxyPass /media2 @OTHER@\n"
                                 "ProxyPass /media @BUCKET@", {"/media2/a.ts": "unsigned", "/media/a.ts": "KEY/r"}),
    "a ProxyPass of the root": (f"<Location />\n{ALL}\n</Location>\nProxyPass /app @OTHER@\nProxyPass / @BUCKET@/",
                              {"/app/a.ts": "unsigned", "/x/a.ts": "KEY/r"}),
    "some settings, and keys of the server": (f"{ALL}\n<Location /media>\nSetEnv S3Region l\n</Location>\n"
                                              "ProxyPass /media @BUCKET@\nProxyPass /app @OTHER@",
                                              {"/media/a.ts": "KEY/l", "/app/a.ts": "unsigned"}),
    "an excluded path": (f"<Location /media>\n{ALL}\n</Location>\nProxyPass /media/page !\nProxyPass /media @BUCKET@",
                          {"/media/a.ts": "KEY/r"}),
}  # fmt: skip


@pytest.mark.parametrize("case", LOCATIONS)
def test_the_settings_of_a_location_apply_to_its_proxypass(
    case: str,
    bucket: Recorder,
    other: Recorder,
    localhost_names: Path,
    checked: list[Httpd],
) -> None:
    text, expected = LOCATIONS[case]
    text = text.replace("@BUCKET@", bucket.url("b", "/bucket")).replace("@OTHER@", other.url("o", "/other"))
    httpd = Httpd(text, preload=localhost_names)
    checked.append(httpd)
    httpd.start()
    is_unused = set(expected.values()) == {"unsigned"}
    assert_configtest_reports(httpd, "these settings do not apply to the requests of" if is_unused else "")
    httpd.expect_error("usp_s3_wsgi: S3 answered 403 AccessDenied")
    for target, signer_and_status in expected.items():
        signer, _, status = signer_and_status.partition(" ")
        reply = httpd.fetch(target)
        assert (reply.status, other.signers() + bucket.signers()) == (int(status or 200), [signer]), target


def test_a_location_around_a_balancer_is_rejected(
    bucket: Recorder, localhost_names: Path, checked: list[Httpd]
) -> None:
    """Only the balancer knows the bucket's URL, which is the member's."""
    text = f"<Location /media>\n{ALL}\n</Location>\n" + proxy_config("balancer", "media", bucket.url("b", "/bucket"))
    httpd = Httpd(text, preload=localhost_names)
    checked.append(httpd)
    httpd.start()
    assert_configtest_reports(httpd, 'put these settings into a <Proxy "http://b.localhost:[0-9]+/bucket/"> section')
    assert_rejected(httpd, "media", "main", "S3BucketURL")
    assert bucket.signers() == []


# --- a balancer with a bucket and another backend


def test_only_the_bucket_of_a_balancer_is_signed(
    bucket: Recorder,
    other: Recorder,
    localhost_names: Path,
) -> None:
    urls = bucket.url("b", "/bucket"), other.url("o", "/other")
    members = "\n".join(f"BalancerMember {url}" for url in urls)
    text = f'<Proxy "balancer://both">\n{members}\n</Proxy>\nProxyPass /both balancer://both'
    with running(localhost_names, text, section(urls[0], *keys("KEY")), names=["both"]) as httpd:
        for _ in range(6):
            assert fetch(httpd, "both").status == 200
            assert fetch(httpd, "both", "subrequest").status == 200
    assert set(bucket.signers()) == {"KEY/r"} and set(other.signers()) == {"unsigned"}


# --- sections that match any host


PATTERNS = {
    "Proxy *": '<Proxy "*">\n@SETTINGS@\n</Proxy>',
    "Proxy http://*": '<Proxy "http://*">\n@SETTINGS@\n</Proxy>',
    "ProxyMatch .*": '<ProxyMatch ".*">\n@SETTINGS@\n</ProxyMatch>',
    "ProxyMatch ^http": '<ProxyMatch "^https?://">\n@SETTINGS@\n</ProxyMatch>',
}


@pytest.fixture(scope="module", params=PATTERNS)
def any_host(
    request: pytest.FixtureRequest,
    bucket_server: Recorder,
    localhost_names: Path,
) -> Iterator[Httpd]:
    """Keys in a section that matches any host, without S3BucketURL; and a forward proxy."""
    parts = ["ProxyRequests On", PATTERNS[request.param].replace("@SETTINGS@", ALL)]
    parts += [proxy_config(way, way, bucket_server.url(way, "/bucket")) for way in WAYS]
    with running(localhost_names, *parts, names=list(WAYS), configtest="this section matches any host") as httpd:
        yield httpd


@every_way
def test_keys_for_any_host_are_rejected(any_host: Httpd, bucket: Recorder, way: str) -> None:
    assert_rejected(any_host, way, "main", "S3BucketURL")
    assert bucket.signers() == []


@pytest.mark.parametrize("name", ["x", "films.s3"])
def test_keys_for_any_host_are_rejected_in_a_forward_proxy(
    any_host: Httpd,
    bucket: Recorder,
    name: str,
) -> None:
    """The client chooses the host, also one whose name looks like a bucket's."""
    before = len(log_lines(any_host))
    assert any_host.fetch(bucket.url(name, "/bucket/a.ts")).status == 500
    assert len(log_lines(any_host)) == before + 1
    assert bucket.signers() == []


@pytest.fixture(scope="module", params=PATTERNS)
def any_host_with_bucket_url(
    request: pytest.FixtureRequest,
    bucket_server: Recorder,
    other_server: Recorder,
    localhost_names: Path,
) -> Iterator[Httpd]:
    """The same with S3BucketURL; b-WAY is proxied to that bucket, o-WAY to another backend."""
    lines = f"{ALL}\nSetEnv S3BucketURL {bucket_server.url('b', '/bucket/')}"
    parts, names = ["ProxyRequests On", PATTERNS[request.param].replace("@SETTINGS@", lines)], []
    for way in WAYS:
        for side, url in (("b", bucket_server.url("b", "/bucket")), ("o", other_server.url(f"o-{way}", "/other"))):
            parts.append(proxy_config(way, f"{side}-{way}", url))
            names.append(f"{side}-{way}")
    with running(localhost_names, *parts, names=names) as httpd:
        yield httpd


@every_way
def test_a_bucket_in_a_section_for_any_host_is_signed(
    any_host_with_bucket_url: Httpd,
    bucket: Recorder,
    way: str,
) -> None:
    assert_signed(any_host_with_bucket_url, bucket, way, f"b-{way}")


@every_way
def test_other_urls_in_a_section_for_any_host_are_not_signed(
    any_host_with_bucket_url: Httpd,
    bucket: Recorder,
    other: Recorder,
    way: str,
) -> None:
    any_host_with_bucket_url.expect_error("usp_s3_wsgi: ")
    reply = fetch(any_host_with_bucket_url, f"o-{way}")
    assert (reply.status, other.signers()) in ((500, []), (200, ["unsigned"]))
    assert bucket.signers() == []


def test_a_forward_proxy_signs_only_for_s3bucketurl(
    any_host_with_bucket_url: Httpd,
    bucket: Recorder,
    other: Recorder,
) -> None:
    any_host_with_bucket_url.expect_error("usp_s3_wsgi: ")
    assert any_host_with_bucket_url.fetch(bucket.url("b", "/bucket/a.ts")).status == 200
    assert bucket.signers() == ["KEY/r"]
    for url in (bucket.url("b", "/bucket2/a.ts"), bucket.url("c", "/bucket/a.ts"), other.url("b", "/bucket/a.ts")):
        assert any_host_with_bucket_url.fetch(url).status in {200, 500}
    assert set(bucket.signers() + other.signers()) <= {"unsigned"}


# --- a bucket whose name is not in the URL


def test_signature_v4_does_not_require_the_buckets_name(
    localhost_names: Path, checked: list[Httpd], s3: EmbeddedS3
) -> None:
    host = f"private.{s3.domain}:{s3.port}"
    lines = settings(s3)
    gateway = "\n".join([*lines, f"SetEnv S3BucketURL http://{host}/"])
    text = (
        f"ProxyPass /media http://{host}\n{section(f'http://{host}', *lines)}\n"
        f"WSGIScriptAlias /gateway ${{USP_S3_WSGI}}\n<Location /gateway>\n{gateway}\n</Location>"
    )
    s3.put("private", "a b.ts", b"an object")
    httpd = Httpd(text, preload=localhost_names)
    checked.append(httpd)
    httpd.start()
    for mount in ("media", "gateway"):
        assert httpd.fetch(f"/{mount}/a%20b.ts").body == b"an object"
        for target in (f"/{mount}", f"/{mount}/", f"/{mount}/?list-type=2"):
            assert httpd.fetch(target).status == 404
    httpd.config = text.replace(f"SetEnv S3Region {s3.region}\n", "")
    httpd.reload()
    for mount in ("media", "gateway"):
        assert httpd.fetch(f"/{mount}/a%20b.ts").status == 500
    httpd.wait_for_error("S3Bucket is not set: Signature v2 signs the bucket's name")


# --- other schemes than http in the same places


OTHER_SCHEMES = {
    "server": f"{ALL}\nProxyPass /app @URL@",
    "gateway": "WSGIScriptAliasMatch ^/(?!page/) ${USP_S3_WSGI}\n"
    f"<Location />\n{ALL}\nSetEnv S3BucketURL http://gateway.localhost/b/\n</Location>\nProxyPass /app @URL@",
    "location": f"<Location /app>\nProxyPass @URL@\n{ALL}\n</Location>",
    "location around": f"<Location /app>\n{ALL}\n</Location>\nProxyPass /app @URL@",
    "rule": f"<Location /app>\n{ALL}\nRewriteEngine On\nRewriteRule ^.*/(.*)$ @URL@/$1 [P]\n</Location>",
    "handler": f'<Directory ${{ROOT}}/htdocs/app>\n{ALL}\nSetHandler "proxy:@URL@"\n</Directory>',
    "section": f'ProxyPass /app @URL@\n<Proxy "@URL@/">\n{ALL}\n</Proxy>',
    "pattern": f'ProxyPass /app @URL@\n<Proxy "*">\n{ALL}\n</Proxy>',
    "computed": "ProxyPass /app @URL@\nSetEnvIf Request_URI ^ S3AccessKey=x\n<Location /app>\n"
    "SetEnvIf Request_URI ^ S3SecretKey=x\n</Location>",
}


@pytest.mark.parametrize("place", OTHER_SCHEMES)
def test_fastcgi_requests_are_forwarded_unchanged(place: str, localhost_names: Path) -> None:
    with fastcgi_server() as port:
        text = OTHER_SCHEMES[place].replace("@URL@", f"fcgi://127.0.0.1:{port}")
        reported = "S3AccessKey applies to no request" if place == "server" else ""
        with running(localhost_names, text, names=["app"], configtest=reported) as httpd:
            for kind in ("main", "subrequest"):
                reply = fetch(httpd, "app", kind)
                assert reply.status == 200 and b"REQUEST_URI" in reply.body, reply


@pytest.mark.skipif(not has_module("proxy_wstunnel"), reason="this httpd has no mod_proxy_wstunnel")
@pytest.mark.parametrize("place", [place for place in OTHER_SCHEMES if place != "handler"])
def test_websocket_requests_are_forwarded_unchanged(place: str, checked: list[Httpd]) -> None:
    module = f'LoadModule proxy_wstunnel_module "{modules_directory()}/mod_proxy_wstunnel.so"'
    with ScriptedS3(answer(200, b"a socket's"), then=answer(200, b"a socket's")) as server:
        text = OTHER_SCHEMES[place].replace("@URL@", f"ws://127.0.0.1:{server.port}")
        httpd = Httpd(f"{module}\n{text}")
        checked.append(httpd)
        httpd.start()
        assert_configtest_reports(httpd, "S3AccessKey applies to no request" if place == "server" else "")
        reply = httpd.fetch("/app/a.ts", upgrade="websocket", connection="Upgrade")
    assert (reply.status, reply.body) == (200, b"a socket's")
    (request,) = server.requests
    assert "authorization" not in request.headers and "Signature" not in request.target
    assert not [name for name in request.headers if name.startswith("x-amz-")]
