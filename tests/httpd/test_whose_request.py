"""Which proxied requests are signed, and with whose keys: one rule, by whatever way mod_proxy is led to the URL.

No other server may see a signature, a trace of one, or a request that should have had one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd.conftest import BUCKET, proxy_section
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.httpd.ways import (
    FORMS,
    HANDLERS,
    MATCHES,
    RULES,
    WAYS,
    ask,
    asked_path,
    assert_passed,
    assert_refused,
    assert_signed,
    keys,
    led,
    section,
    serving,
)
from tests.s3 import EmbeddedS3

every_way = pytest.mark.parametrize("way", WAYS)
every_form = pytest.mark.parametrize("form", FORMS)


# --- a <Proxy> section with all settings


@pytest.fixture(scope="module")
def alone(s3: EmbeddedS3, localhost_names: Path) -> Iterator[Httpd]:
    parts = []
    for way in WAYS:
        url = f"http://{way}.localhost:{s3.port}/{BUCKET}/{way}"
        parts += [led(way, way, url), proxy_section(f"{url}/", s3)]
    with serving(localhost_names, *parts, names=list(WAYS)) as httpd:
        for way in WAYS:
            s3.put(BUCKET, asked_path(httpd, way, way, way).lstrip("/"), f"an object by {way}".encode())
        yield httpd


@every_form
@every_way
def test_a_section_is_signed(alone: Httpd, s3: EmbeddedS3, way: str, form: str) -> None:
    s3.clear()
    reply = ask(alone, way, form)
    assert (reply.status, reply.body.decode()) == (200, f"an object by {way}")
    assert [entry["headers"]["authorization"] for entry in s3.requests()] == ["AWS4-HMAC-SHA256"]


# --- with settings around


@pytest.fixture(scope="module")
def around(bucket_server: Recorder, localhost_names: Path) -> Iterator[Httpd]:
    parts = []
    for way in WAYS:
        url = bucket_server.url(way, "/bucket")
        more = ("SetEnv S3DeniedStatus 404", "SetEnv S3Expires 77")
        parts += [led(way, way, url, *more), section(url, *keys("KEY"), "SetEnv S3UseHeaders off")]
    with serving(localhost_names, *parts, names=list(WAYS)) as httpd:
        yield httpd


@every_form
@every_way
def test_a_section_with_settings_around_is_signed(around: Httpd, bucket: Recorder, way: str, form: str) -> None:
    reply = ask(around, way, form)
    assert (reply.status, reply.body.decode()) == (200, asked_path(around, way, way, "/bucket"))
    assert [request.target.count("X-Amz-Expires=77&") for request in bucket.asked] == [1]
    assert bucket.signers() == ["KEY/r"]


@every_way
def test_a_setting_around_takes_effect(around: Httpd, bucket: Recorder, way: str) -> None:
    around.expect_error("usp_s3_wsgi: S3 answered 403 AccessDenied")
    assert ask(around, way, file="denied.ts").status == 404
    assert bucket.signers() == ["KEY/r"]


# --- beside the gateway


GATEWAY = """
WSGIScriptAliasMatch "^/(?!page/|[^/]*-(?:directory|files|location)/)" ${USP_S3_WSGI}
<Location />
@SETTINGS@
</Location>
"""


@pytest.fixture(scope="module", params=["location", "location-without-region", "many-buckets"])
def beside(
    request: pytest.FixtureRequest, bucket_server: Recorder, other_server: Recorder, localhost_names: Path
) -> Iterator[Httpd]:
    """A gateway at / for one bucket, and each way to another backend, and to another bucket with its own section."""
    region = None if request.param == "location-without-region" else "g"
    url = bucket_server.url("gateway", "/gateway/")
    lines = [*keys("GATEWAY", region), f"SetEnv S3BucketURL {url}"]
    gateway = GATEWAY.replace("@SETTINGS@", "\n".join(lines))
    if request.param == "many-buckets":
        rule = f"RewriteEngine On\nRewriteRule ^ - [E=S3BucketURL:{url},E=S3AccessKey:GATEWAY,E=S3SecretKey:a-secret]\n"
        others = "SetEnv S3Region r\nSetEnv S3UseHeaders on"
        gateway = rule + GATEWAY.replace("@SETTINGS@", others)
    parts = [gateway]
    for way in WAYS:
        section_url = bucket_server.url(f"b-{way}", "/bucket")
        parts += [led(way, f"o-{way}", other_server.url(f"o-{way}", "/other")), led(way, f"b-{way}", section_url)]
        parts.append(section(section_url, *keys("SECTION")))
    names = [f"{side}-{way}" for side in ("o", "b") for way in WAYS]
    with serving(localhost_names, *parts, names=names) as httpd:
        yield httpd


def test_the_gateway_itself_is_signed_with_its_keys(beside: Httpd, bucket: Recorder) -> None:
    assert beside.fetch("/films/a.ts").body == b"/gateway/films/a.ts"
    assert bucket.signers() in (["GATEWAY/g"], ["GATEWAY/r"], ["GATEWAY"])


@every_form
@every_way
def test_beside_a_gateway_another_backend_is_left_alone(
    beside: Httpd, bucket: Recorder, other: Recorder, way: str, form: str
) -> None:
    assert_passed(beside, other, way, f"o-{way}", form)
    assert bucket.signers() == []


@every_form
@every_way
def test_beside_a_gateway_another_bucket_has_its_own_keys(beside: Httpd, bucket: Recorder, way: str, form: str) -> None:
    assert_signed(beside, bucket, way, f"b-{way}", form, signer="SECTION/r")


def test_a_gateway_at_the_root_itself(bucket: Recorder, other: Recorder, localhost_names: Path) -> None:
    """The shipped form: WSGIScriptAlias of all paths."""
    settings = "\n".join([*keys("GATEWAY", "g"), f"SetEnv S3BucketURL {bucket.url('gateway', '/gateway/')}"])
    ways = [way for way in WAYS if "directory" not in way and way not in HANDLERS]
    leading = [led(way, way, other.url(way, "/other")) for way in ways]
    gateway = f"WSGIScriptAlias / ${{USP_S3_WSGI}}\n<Location />\n{settings}\n</Location>"
    with serving(localhost_names, *leading, gateway, names=ways) as httpd:
        for way in ways:
            assert_passed(httpd, other, way, way)
        assert bucket.signers() == []
        assert httpd.fetch("/a.ts").body == b"/gateway/a.ts"
        assert bucket.signers() == ["GATEWAY/g"]


# --- keys for the whole server


@pytest.fixture(scope="module", params=["server", "server-of-host", "host"])
def defaults(
    request: pytest.FixtureRequest, bucket_server: Recorder, other_server: Recorder, localhost_names: Path
) -> Iterator[Httpd]:
    """Keys at server or virtual-host level; the sections of buckets hold the region alone."""
    parts = []
    for way in WAYS:
        url = bucket_server.url(f"b-{way}", "/bucket")
        parts += [led(way, f"o-{way}", other_server.url(f"o-{way}", "/other")), led(way, f"b-{way}", url)]
        parts.append(section(url, "SetEnv S3Region section"))
    default = keys("DEFAULT", "default")
    host = ["<VirtualHost *>", "DocumentRoot ${ROOT}/htdocs"]
    if request.param == "server":
        parts = [*default, *parts]
    elif request.param == "server-of-host":
        parts = [*default, *host, *parts, "</VirtualHost>"]
    else:
        parts = [*host, *default, *parts, "</VirtualHost>"]
    names = [f"{side}-{way}" for side in ("o", "b") for way in WAYS]
    with serving(localhost_names, *parts, names=names) as httpd:
        yield httpd


@every_form
@every_way
def test_keys_of_the_whole_server_make_no_backend_a_bucket(
    defaults: Httpd, other: Recorder, way: str, form: str
) -> None:
    assert_passed(defaults, other, way, f"o-{way}", form)


@every_form
@every_way
def test_a_section_has_its_keys_of_the_whole_server(defaults: Httpd, bucket: Recorder, way: str, form: str) -> None:
    assert_signed(defaults, bucket, way, f"b-{way}", form, signer="DEFAULT/section")


# --- S3BucketURL around


AROUND_RULES = [*RULES, *HANDLERS]


@pytest.fixture(scope="module")
def named(bucket_server: Recorder, other_server: Recorder, localhost_names: Path) -> Iterator[Httpd]:
    """No <Proxy> section: all settings and S3BucketURL around each way, to that bucket and past it."""
    parts, names = [], []
    for way in WAYS:
        for side, url in (
            ("b", bucket_server.url(f"b-{way}", "/bucket")),
            ("p", bucket_server.url(f"p-{way}", "/bucket2")),
            ("o", other_server.url(f"o-{way}", "/other")),
        ):
            name = f"{side}-{way}"
            parts.append(led(way, name, url, *keys("KEY"), f"SetEnv S3BucketURL {bucket_server.url(name, '/bucket/')}"))
            names.append(name)
    told = (
        "these settings do not apply to the requests of"  # of p- and o-
        "|S3BucketURL has another scheme, host or port than .*, where .* sends these requests"
    )
    with serving(localhost_names, *parts, names=names, told=told) as httpd:
        yield httpd


@every_form
@every_way
def test_the_bucket_that_is_named_around_is_signed(named: Httpd, bucket: Recorder, way: str, form: str) -> None:
    assert_signed(named, bucket, way, f"b-{way}", form)


@every_form
@pytest.mark.parametrize("way", AROUND_RULES)
def test_what_is_not_below_the_bucket_that_is_named_around_is_left_alone(
    named: Httpd, bucket: Recorder, other: Recorder, way: str, form: str
) -> None:
    assert_passed(named, other, way, f"o-{way}", form)
    assert bucket.signers() == []
    assert_passed(named, bucket, way, f"p-{way}", form, "/bucket2")


@pytest.mark.parametrize("way", [way for way in WAYS if way not in AROUND_RULES])
def test_a_location_of_a_pass_that_names_another_bucket_signs_nothing(
    named: Httpd, bucket: Recorder, other: Recorder, way: str
) -> None:
    named.expect_error("usp_s3_wsgi: ")
    for side in ("o", "p"):
        assert ask(named, f"{side}-{way}").status in {200, 500}
    assert set(other.signers() + bucket.signers()) <= {"unsigned"}


# --- keys around, and nothing that says for which bucket


@pytest.fixture(scope="module", params=["keys", "identity"])
def nameless(
    request: pytest.FixtureRequest, bucket_server: Recorder, other_server: Recorder, localhost_names: Path
) -> Iterator[Httpd]:
    lines = {"keys": keys("KEY"), "identity": ["SetEnv S3CredentialSource aws", "SetEnv S3Region r"]}[request.param]
    parts, names = [], []
    for way in WAYS:
        parts.append(led(way, way, bucket_server.url(way, "/bucket"), *lines))
        parts.append(led(way, f"k-{way}", other_server.url(way, "/other"), "SetEnv S3DeniedStatus 404"))
        names += [way, f"k-{way}"]
    told = "S3AccessKey is not set|put these settings into a <Proxy|a URL pattern needs S3BucketURL"
    with serving(localhost_names, *parts, names=names, told=told) as httpd:
        yield httpd


@every_form
@pytest.mark.parametrize("way", [*RULES, *HANDLERS])
def test_keys_around_a_rule_that_say_no_bucket_are_refused(
    nameless: Httpd, bucket: Recorder, way: str, form: str
) -> None:
    assert_refused(nameless, way, form, "S3BucketURL|<Proxy")
    assert bucket.signers() == []


@pytest.mark.parametrize("way", MATCHES)
def test_keys_around_a_pattern_do_not_go_out_unsigned(nameless: Httpd, bucket: Recorder, way: str) -> None:
    nameless.expect_error("usp_s3_wsgi: ")
    ask(nameless, way)
    assert "unsigned" not in bucket.signers()


@pytest.mark.parametrize("way", [*RULES, *HANDLERS])
def test_a_setting_around_a_rule_that_is_no_key_makes_no_bucket(nameless: Httpd, other: Recorder, way: str) -> None:
    assert_passed(nameless, other, way, f"k-{way}")


# --- settings that rules compute


COMPUTED = {
    "host-SetEnvIf": "SetEnvIf Request_URI ^ S3Expires=77",
    "host-SetEnvIf-of-the-host": "SetEnvIf Host ^ S3SecretKey=x",
    "host-rule": "RewriteEngine On\nRewriteRule ^ - [E=S3DeniedStatus:404]",
    "around-SetEnvIf": "SetEnvIf Request_URI ^ S3Expires=77",
    "around-rule": "RewriteEngine On\nRewriteRule ^ - [E=S3SecretKey:x]",
    "section-SetEnvIf": "SetEnvIf Request_URI ^ S3AccessKey=x",
}


@pytest.fixture(scope="module", params=COMPUTED)
def computed(request: pytest.FixtureRequest, bucket_server: Recorder, localhost_names: Path) -> Iterator[Httpd]:
    """A section that holds all settings, and a rule that sets one more."""
    place, line = request.param.partition("-")[0], COMPUTED[request.param]
    parts = [line] if place == "host" else []
    for way in WAYS:
        url = bucket_server.url(way, "/bucket")
        parts.append(led(way, way, url, *([line] if place == "around" else [])))
        parts.append(section(url, *keys("KEY"), *([line] if place == "section" else [])))
    told = "" if place == "host" else "is set by a rule, which only the gateway supports"
    with serving(localhost_names, *parts, names=list(WAYS), told=told) as httpd:
        yield httpd


@every_way
def test_a_setting_that_a_rule_computes_is_refused(computed: Httpd, bucket: Recorder, way: str) -> None:
    assert_refused(computed, way, "main", "RewriteRule sets (S3(Expires|SecretKey|DeniedStatus|AccessKey)|settings in)")
    assert bucket.signers() == []


@pytest.fixture(scope="module", params=["rule", "SetEnvIf"])
def map_of_buckets(
    request: pytest.FixtureRequest, bucket_server: Recorder, other_server: Recorder, localhost_names: Path
) -> Iterator[Httpd]:
    """As in many_buckets.conf: a rule of the whole host says URL and keys of the gateway's bucket."""
    url = bucket_server.url("gateway", "/gateway/")
    values = {"S3BucketURL": url, "S3AccessKey": "GATEWAY", "S3SecretKey": "a-secret"}
    rule = ",".join(f"E={name}:{value}" for name, value in values.items())
    line = f"RewriteEngine On\nRewriteRule ^ - [{rule}]"
    if request.param == "SetEnvIf":
        line = "\n".join(f"SetEnvIf Request_URI ^ {name}={value}" for name, value in values.items())
    parts = [line]
    for way in WAYS:
        section_url = bucket_server.url(f"b-{way}", "/bucket")
        parts += [led(way, f"o-{way}", other_server.url(f"o-{way}", "/other")), led(way, f"b-{way}", section_url)]
        parts.append(section(section_url, *keys("SECTION")))
    names = [f"{side}-{way}" for side in ("o", "b") for way in WAYS]
    with serving(localhost_names, *parts, names=names) as httpd:
        yield httpd


@every_form
@every_way
def test_what_is_computed_for_a_bucket_of_the_gateway_is_about_no_other_url(
    map_of_buckets: Httpd, bucket: Recorder, other: Recorder, way: str, form: str
) -> None:
    assert_passed(map_of_buckets, other, way, f"o-{way}", form)
    assert_signed(map_of_buckets, bucket, way, f"b-{way}", form, signer="SECTION/r")
