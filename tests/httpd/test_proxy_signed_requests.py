"""Which proxied requests are signed, and with which keys: the same for every way in which mod_proxy gets a URL.

No other backend may get a signature or a part of one, and no request for a bucket may be sent unsigned.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd.conftest import BUCKET, proxy_section
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.httpd.ways import (
    HANDLERS,
    KINDS,
    MATCHES,
    RULES,
    WAYS,
    assert_rejected,
    assert_signed,
    assert_unsigned,
    fetch,
    keys,
    proxy_config,
    requested_path,
    running,
    section,
)
from tests.s3 import EmbeddedS3

every_way = pytest.mark.parametrize("way", WAYS)
every_kind = pytest.mark.parametrize("kind", KINDS)
#: The names in :func:`two_backends`.
TWO_BACKENDS = [f"{side}-{way}" for side in ("o", "b") for way in WAYS]


def two_backends(bucket_server: Recorder, other_server: Recorder, *lines: str) -> list[str]:
    """Return the configuration of each way to another backend (o-WAY), and to a bucket with its own section (b-WAY).

    ``lines``: in the bucket's section.
    """
    parts = []
    for way in WAYS:
        section_url = bucket_server.url(f"b-{way}", "/bucket")
        parts += [
            proxy_config(way, f"o-{way}", other_server.url(f"o-{way}", "/other")),
            proxy_config(way, f"b-{way}", section_url),
            section(section_url, *lines),
        ]
    return parts


# --- a <Proxy> section with all settings


@pytest.fixture(scope="module")
def sections_only(s3: EmbeddedS3, localhost_names: Path) -> Iterator[Httpd]:
    parts = []
    for way in WAYS:
        url = f"http://{way}.localhost:{s3.port}/{BUCKET}/{way}"
        parts += [proxy_config(way, way, url), proxy_section(f"{url}/", s3)]
    with running(localhost_names, *parts, names=list(WAYS)) as httpd:
        for way in WAYS:
            s3.put(BUCKET, requested_path(httpd, way, way, way).lstrip("/"), f"an object by {way}".encode())
        yield httpd


@every_kind
@every_way
def test_requests_of_a_proxy_section_are_signed(sections_only: Httpd, s3: EmbeddedS3, way: str, kind: str) -> None:
    s3.clear()
    reply = fetch(sections_only, way, kind)
    assert (reply.status, reply.body.decode()) == (200, f"an object by {way}")
    assert [entry["headers"]["authorization"] for entry in s3.requests()] == ["AWS4-HMAC-SHA256"]


# --- settings around the rule that proxies


@pytest.fixture(scope="module")
def with_settings_around(bucket_server: Recorder, localhost_names: Path) -> Iterator[Httpd]:
    parts = []
    for way in WAYS:
        url = bucket_server.url(way, "/bucket")
        more = ("SetEnv S3DeniedStatus 404", "SetEnv S3Expires 77")
        parts += [proxy_config(way, way, url, *more), section(url, *keys("KEY"), "SetEnv S3UseHeaders off")]
    with running(localhost_names, *parts, names=list(WAYS)) as httpd:
        yield httpd


@every_kind
@every_way
def test_settings_around_the_rule_are_used_with_the_sections_keys(
    with_settings_around: Httpd, bucket: Recorder, way: str, kind: str
) -> None:
    reply = fetch(with_settings_around, way, kind)
    assert (reply.status, reply.body.decode()) == (200, requested_path(with_settings_around, way, way, "/bucket"))
    assert [request.target.count("X-Amz-Expires=77&") for request in bucket.requests] == [1]
    assert bucket.signers() == ["KEY/r"]


@every_way
def test_s3deniedstatus_around_the_rule_is_used(with_settings_around: Httpd, bucket: Recorder, way: str) -> None:
    with_settings_around.expect_error("usp_s3_wsgi: S3 answered 403 AccessDenied")
    assert fetch(with_settings_around, way, file="denied.ts").status == 404
    assert bucket.signers() == ["KEY/r"]


# --- a gateway at / on the same server


GATEWAY = """
WSGIScriptAliasMatch "^/(?!page/|[^/]*-(?:directory|files|location)/)" ${USP_S3_WSGI}
<Location />
@SETTINGS@
</Location>
"""


@pytest.fixture(scope="module", params=["location", "location-without-region", "many-buckets"])
def with_gateway(
    request: pytest.FixtureRequest, bucket_server: Recorder, other_server: Recorder, localhost_names: Path
) -> Iterator[Httpd]:
    """A gateway at /; each way to another backend (o-WAY), and to a bucket with its own section (b-WAY)."""
    region = None if request.param == "location-without-region" else "g"
    url = bucket_server.url("gateway", "/gateway/")
    lines = [*keys("GATEWAY", region), f"SetEnv S3BucketURL {url}"]
    gateway = GATEWAY.replace("@SETTINGS@", "\n".join(lines))
    if request.param == "many-buckets":
        rule = f"RewriteEngine On\nRewriteRule ^ - [E=S3BucketURL:{url},E=S3AccessKey:GATEWAY,E=S3SecretKey:a-secret]\n"
        others = "SetEnv S3Region r\nSetEnv S3UseHeaders on"
        gateway = rule + GATEWAY.replace("@SETTINGS@", others)
    with running(
        localhost_names, gateway, *two_backends(bucket_server, other_server, *keys("SECTION")), names=TWO_BACKENDS
    ) as httpd:
        yield httpd


def test_the_gateway_signs_with_its_own_keys(with_gateway: Httpd, bucket: Recorder) -> None:
    assert with_gateway.fetch("/films/a.ts").body == b"/gateway/films/a.ts"
    assert bucket.signers() in (["GATEWAY/g"], ["GATEWAY/r"], ["GATEWAY"])


@every_kind
@every_way
def test_another_backend_gets_no_signature_of_the_gateway(
    with_gateway: Httpd, bucket: Recorder, other: Recorder, way: str, kind: str
) -> None:
    assert_unsigned(with_gateway, other, way, f"o-{way}", kind)
    assert bucket.signers() == []


@every_kind
@every_way
def test_another_bucket_is_signed_with_its_own_keys(with_gateway: Httpd, bucket: Recorder, way: str, kind: str) -> None:
    assert_signed(with_gateway, bucket, way, f"b-{way}", kind, signer="SECTION/r")


def test_wsgiscriptalias_of_the_root_does_not_sign_proxied_requests(
    bucket: Recorder, other: Recorder, localhost_names: Path
) -> None:
    """As in the shipped examples: WSGIScriptAlias /."""
    settings = "\n".join([*keys("GATEWAY", "g"), f"SetEnv S3BucketURL {bucket.url('gateway', '/gateway/')}"])
    ways = [way for way in WAYS if "directory" not in way and way not in HANDLERS]
    proxied = [proxy_config(way, way, other.url(way, "/other")) for way in ways]
    gateway = f"WSGIScriptAlias / ${{USP_S3_WSGI}}\n<Location />\n{settings}\n</Location>"
    with running(localhost_names, *proxied, gateway, names=ways) as httpd:
        for way in ways:
            assert_unsigned(httpd, other, way, way)
        assert bucket.signers() == []
        assert httpd.fetch("/a.ts").body == b"/gateway/a.ts"
        assert bucket.signers() == ["GATEWAY/g"]


# --- keys at the level of the server


@pytest.fixture(scope="module", params=["server", "server-of-host", "host"])
def with_server_keys(
    request: pytest.FixtureRequest, bucket_server: Recorder, other_server: Recorder, localhost_names: Path
) -> Iterator[Httpd]:
    """Keys at server or virtual-host level; the buckets' sections have only the region."""
    parts = two_backends(bucket_server, other_server, "SetEnv S3Region section")
    default = keys("DEFAULT", "default")
    host = ["<VirtualHost *>", "DocumentRoot ${ROOT}/htdocs"]
    if request.param == "server":
        parts = [*default, *parts]
    elif request.param == "server-of-host":
        parts = [*default, *host, *parts, "</VirtualHost>"]
    else:
        parts = [*host, *default, *parts, "</VirtualHost>"]
    names = [f"{side}-{way}" for side in ("o", "b") for way in WAYS]
    with running(localhost_names, *parts, names=names) as httpd:
        yield httpd


@every_kind
@every_way
def test_another_backend_is_not_signed_with_the_servers_keys(
    with_server_keys: Httpd, other: Recorder, way: str, kind: str
) -> None:
    assert_unsigned(with_server_keys, other, way, f"o-{way}", kind)


@every_kind
@every_way
def test_a_section_without_keys_uses_the_servers(
    with_server_keys: Httpd, bucket: Recorder, way: str, kind: str
) -> None:
    assert_signed(with_server_keys, bucket, way, f"b-{way}", kind, signer="DEFAULT/section")


# --- S3BucketURL around the rule


AROUND_RULES = [*RULES, *HANDLERS]


@pytest.fixture(scope="module")
def with_bucket_url(bucket_server: Recorder, other_server: Recorder, localhost_names: Path) -> Iterator[Httpd]:
    """No <Proxy> section: all settings and S3BucketURL are around the rule.

    The rule proxies to that bucket (b-WAY), to another path of its host (p-WAY), and to another backend (o-WAY).
    """
    parts, names = [], []
    for way in WAYS:
        for side, url in (
            ("b", bucket_server.url(f"b-{way}", "/bucket")),
            ("p", bucket_server.url(f"p-{way}", "/bucket2")),
            ("o", other_server.url(f"o-{way}", "/other")),
        ):
            name = f"{side}-{way}"
            parts.append(
                proxy_config(way, name, url, *keys("KEY"), f"SetEnv S3BucketURL {bucket_server.url(name, '/bucket/')}")
            )
            names.append(name)
    reported = (
        "these settings do not apply to the requests of"
        "|S3BucketURL has another scheme, host or port than .*, where .* sends these requests"
    )
    with running(localhost_names, *parts, names=names, configtest=reported) as httpd:
        yield httpd


@every_kind
@every_way
def test_requests_below_s3bucketurl_are_signed(with_bucket_url: Httpd, bucket: Recorder, way: str, kind: str) -> None:
    assert_signed(with_bucket_url, bucket, way, f"b-{way}", kind)


@every_kind
@pytest.mark.parametrize("way", AROUND_RULES)
def test_requests_not_below_s3bucketurl_are_unsigned(
    with_bucket_url: Httpd, bucket: Recorder, other: Recorder, way: str, kind: str
) -> None:
    assert_unsigned(with_bucket_url, other, way, f"o-{way}", kind)
    assert bucket.signers() == []
    assert_unsigned(with_bucket_url, bucket, way, f"p-{way}", kind, "/bucket2")


@pytest.mark.parametrize("way", [way for way in WAYS if way not in AROUND_RULES])
def test_a_location_with_another_s3bucketurl_than_its_proxypass_signs_nothing(
    with_bucket_url: Httpd, bucket: Recorder, other: Recorder, way: str
) -> None:
    with_bucket_url.expect_error("usp_s3_wsgi: ")
    for side in ("o", "p"):
        assert fetch(with_bucket_url, f"{side}-{way}").status in {200, 500}
    assert set(other.signers() + bucket.signers()) <= {"unsigned"}


# --- keys around the rule, and no S3BucketURL


@pytest.fixture(scope="module", params=["keys", "identity"])
def without_bucket_url(
    request: pytest.FixtureRequest, bucket_server: Recorder, other_server: Recorder, localhost_names: Path
) -> Iterator[Httpd]:
    lines = {"keys": keys("KEY"), "identity": ["SetEnv S3CredentialSource aws", "SetEnv S3Region r"]}[request.param]
    parts, names = [], []
    for way in WAYS:
        parts.append(proxy_config(way, way, bucket_server.url(way, "/bucket"), *lines))
        parts.append(proxy_config(way, f"k-{way}", other_server.url(way, "/other"), "SetEnv S3DeniedStatus 404"))
        names += [way, f"k-{way}"]
    reported = "S3AccessKey is not set|put these settings into a <Proxy|a URL pattern needs S3BucketURL"
    with running(localhost_names, *parts, names=names, configtest=reported) as httpd:
        yield httpd


@every_kind
@pytest.mark.parametrize("way", [*RULES, *HANDLERS])
def test_keys_around_a_rule_without_s3bucketurl_are_rejected(
    without_bucket_url: Httpd, bucket: Recorder, way: str, kind: str
) -> None:
    assert_rejected(without_bucket_url, way, kind, "S3BucketURL|<Proxy")
    assert bucket.signers() == []


@pytest.mark.parametrize("way", MATCHES)
def test_keys_around_a_pattern_are_never_ignored(without_bucket_url: Httpd, bucket: Recorder, way: str) -> None:
    without_bucket_url.expect_error("usp_s3_wsgi: ")
    fetch(without_bucket_url, way)
    assert "unsigned" not in bucket.signers()


@pytest.mark.parametrize("way", [*RULES, *HANDLERS])
def test_a_setting_other_than_a_key_makes_no_backend_a_bucket(
    without_bucket_url: Httpd, other: Recorder, way: str
) -> None:
    assert_unsigned(without_bucket_url, other, way, f"k-{way}")


# --- settings from RewriteRule and SetEnvIf


RULE_SETTINGS = {
    "host-SetEnvIf": "SetEnvIf Request_URI ^ S3Expires=77",
    "host-SetEnvIf-of-the-host": "SetEnvIf Host ^ S3SecretKey=x",
    "host-rule": "RewriteEngine On\nRewriteRule ^ - [E=S3DeniedStatus:404]",
    "around-SetEnvIf": "SetEnvIf Request_URI ^ S3Expires=77",
    "around-rule": "RewriteEngine On\nRewriteRule ^ - [E=S3SecretKey:x]",
    "section-SetEnvIf": "SetEnvIf Request_URI ^ S3AccessKey=x",
}


@pytest.fixture(scope="module", params=RULE_SETTINGS)
def with_rule(request: pytest.FixtureRequest, bucket_server: Recorder, localhost_names: Path) -> Iterator[Httpd]:
    """A section with all settings, and a rule that sets another one."""
    place, line = request.param.partition("-")[0], RULE_SETTINGS[request.param]
    parts = [line] if place == "host" else []
    for way in WAYS:
        url = bucket_server.url(way, "/bucket")
        parts.append(proxy_config(way, way, url, *([line] if place == "around" else [])))
        parts.append(section(url, *keys("KEY"), *([line] if place == "section" else [])))
    reported = "" if place == "host" else "is set by a rule, which only the gateway supports"
    with running(localhost_names, *parts, names=list(WAYS), configtest=reported) as httpd:
        yield httpd


@every_way
def test_a_setting_from_a_rule_is_rejected(with_rule: Httpd, bucket: Recorder, way: str) -> None:
    assert_rejected(
        with_rule, way, "main", "RewriteRule sets (S3(Expires|SecretKey|DeniedStatus|AccessKey)|settings in)"
    )
    assert bucket.signers() == []


@pytest.fixture(scope="module", params=["rule", "SetEnvIf"])
def map_of_buckets(
    request: pytest.FixtureRequest, bucket_server: Recorder, other_server: Recorder, localhost_names: Path
) -> Iterator[Httpd]:
    """As in many_buckets.conf: a rule of the virtual host sets URL and keys of the gateway's bucket."""
    url = bucket_server.url("gateway", "/gateway/")
    values = {"S3BucketURL": url, "S3AccessKey": "GATEWAY", "S3SecretKey": "a-secret"}
    rule = ",".join(f"E={name}:{value}" for name, value in values.items())
    line = f"RewriteEngine On\nRewriteRule ^ - [{rule}]"
    if request.param == "SetEnvIf":
        line = "\n".join(f"SetEnvIf Request_URI ^ {name}={value}" for name, value in values.items())
    with running(
        localhost_names, line, *two_backends(bucket_server, other_server, *keys("SECTION")), names=TWO_BACKENDS
    ) as httpd:
        yield httpd


@every_kind
@every_way
def test_settings_from_a_rule_for_the_gateway_are_not_used_for_other_urls(
    map_of_buckets: Httpd, bucket: Recorder, other: Recorder, way: str, kind: str
) -> None:
    assert_unsigned(map_of_buckets, other, way, f"o-{way}", kind)
    assert_signed(map_of_buckets, bucket, way, f"b-{way}", kind, signer="SECTION/r")
