"""Which settings apply to a proxied request where several sections, rules or ``.htaccess`` files have some."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.server import ScriptedS3, answer
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.httpd.ways import keys, section

ALL = "\n".join(keys("KEY"))


def start(checked: list[Httpd], preload: Path, text: str) -> Httpd:
    httpd = Httpd(text, preload=preload)
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("usp_s3_wsgi: |AH00111")
    return httpd


# --- a balancer without failonstatus (httpd's default), and S3 fails


@pytest.mark.parametrize("status", [500, 503])
def test_a_failure_of_a_member_does_not_crash_the_child(
    checked: list[Httpd], localhost_names: Path, status: int
) -> None:
    with ScriptedS3(answer(status, b"<Error><Code>X</Code></Error>"), then=answer(status, b"")) as server:
        url = f"http://127.0.0.1:{server.port}/bucket"
        balancer = f'<Proxy "balancer://c">\nBalancerMember {url}\n</Proxy>\nProxyPass /m balancer://c'
        httpd = start(checked, localhost_names, f"{section(url, *keys('KEY'))}\n{balancer}")
        children = set(httpd.children())
        assert httpd.fetch("/m/a.ts").status >= 500
        assert children <= set(httpd.children())  # httpd may have started another one


# --- settings in <If> and <LocationMatch>


NAMED = f"{ALL}\nSetEnv S3BucketURL @BUCKET@/"
IFS = {
    "in the Location of the ProxyPass": f'<Location /m>\nProxyPass @BUCKET@\n<If "true">\n{ALL}\n</If>\n</Location>',
    "the same, with S3BucketURL": f'<Location /m>\nProxyPass @BUCKET@\n<If "true">\n{NAMED}\n</If>\n</Location>',
    "around all, with S3BucketURL": f'<If "true">\n{NAMED}\n</If>\nProxyPass /m @BUCKET@',
    "in the Proxy section": f'ProxyPass /m @BUCKET@\n<Proxy "@BUCKET@/">\n<If "true">\n{ALL}\n</If>\n</Proxy>',
    "LocationMatch around": f'<LocationMatch "^/m/">\n{ALL}\n</LocationMatch>\nProxyPass /m @BUCKET@',
}


@pytest.mark.parametrize("form", IFS)
def test_settings_in_an_if_or_a_pattern_are_never_ignored(
    checked: list[Httpd], localhost_names: Path, bucket: Recorder, form: str
) -> None:
    httpd = start(checked, localhost_names, IFS[form].replace("@BUCKET@", bucket.url("b", "/bucket")))
    httpd.fetch("/m/a.ts")
    assert "unsigned" not in bucket.signers()


# --- other backends on the same server


GATEWAY = f"WSGIScriptAliasMatch ^/g/ ${{USP_S3_WSGI}}\n<Location @PATH@>\n{NAMED}\n</Location>\n"
FOREIGN = {
    "a server-wide SetEnvIf": ("SetEnvIf Host ^ S3Region=eu\n" + GATEWAY + "ProxyPass /o @OTHER@", "/g", "/o/a.ts"),
    "a server-wide rule": (
        "RewriteEngine On\nRewriteRule ^ - [E=S3Expires:77]\n" + GATEWAY + "ProxyPass /o @OTHER@", "/g", "/o/a.ts"),
    "a SetEnvIf of the Location /": (
        "<Location />\nSetEnvIf Host ^ S3Region=eu\n</Location>\n" + GATEWAY + "ProxyPass /o @OTHER@", "/g", "/o/a.ts"),
    "gateway at /, ends in .php": (GATEWAY + 'ProxyPassMatch "\\.php$" @OTHER@', "/", "/x/a.php"),
    "gateway at /, ^/(.*\\.php)$": (GATEWAY + 'ProxyPassMatch "^/(.*\\.php)$" @OTHER@/$1', "/", "/x/a.php"),
    "gateway at /g, ends in .php": (GATEWAY + 'ProxyPassMatch "\\.php$" @OTHER@', "/g", "/g/a.php"),
    "gateway at /g, a pattern within": (GATEWAY + 'ProxyPassMatch "^/g/.*\\.php$" @OTHER@', "/g", "/g/a.php"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_another_backend_gets_no_signature_of_a_gateway(
    checked: list[Httpd], localhost_names: Path, bucket: Recorder, other: Recorder, case: str
) -> None:
    text, path, target = FOREIGN[case]
    text = text.replace("@PATH@", path).replace("@OTHER@", other.url("o", "/other"))
    httpd = start(checked, localhost_names, text.replace("@BUCKET@", bucket.url("gateway", "/gateway")))
    assert httpd.fetch(target).status == 200
    assert other.signers() == ["unsigned"]


# --- settings that do not apply


def test_a_location_that_does_not_apply_overrides_nothing(
    checked: list[Httpd], localhost_names: Path, bucket: Recorder
) -> None:
    """httpd has merged the value of the later <Location />, which does not apply: the value that it replaced does."""
    url = bucket.url("b", "/bucket")
    text = f"<Location /m>\nProxyPass {url}\n{ALL}\n</Location>\n<Location />\nSetEnv S3Region g\n</Location>"
    assert start(checked, localhost_names, text).fetch("/m/a.ts").status == 200
    assert bucket.signers() == ["KEY/r"]


def test_an_empty_value_of_a_location_overrides_the_sections(
    checked: list[Httpd], localhost_names: Path, bucket: Recorder
) -> None:
    """All empty values of mod_env have the same address: the <Location>'s must not be taken for the server's."""
    url = bucket.url("b", "/bucket")
    text = (
        f"SetEnv S3SecurityToken\n{section(url, *keys('KEY'), 'SetEnv S3SecurityToken token')}\n"
        f"<Location /m>\nProxyPass {url}\nSetEnv S3SecurityToken\n</Location>"
    )
    assert start(checked, localhost_names, text).fetch("/m/a.ts").status == 200
    (request,) = bucket.requests
    assert "x-amz-security-token" not in request.headers


def test_an_empty_variable_of_an_htaccess_file_is_not_a_setting(
    checked: list[Httpd], localhost_names: Path, bucket: Recorder
) -> None:
    url = bucket.url("b", "/bucket")
    text = (
        '<Directory "${ROOT}/htdocs">\nAllowOverride All\n</Directory>\n<Directory "${ROOT}/htdocs/d">\n'
        f'SetHandler "proxy:{url}"\n{ALL}\nSetEnv S3SecurityToken\nSetEnv S3BucketURL {url}/\n</Directory>'
    )
    httpd = start(checked, localhost_names, text)
    folder = httpd.root / "htdocs" / "d"
    folder.mkdir()
    (folder / "a.ts").write_text("")
    (folder / ".htaccess").write_text("SetEnv FOO\n")
    assert httpd.fetch("/d/a.ts").status == 200
    assert bucket.signers() == ["KEY/r"]


def test_rules_in_a_section_apply_to_its_virtual_host_only(
    checked: list[Httpd], localhost_names: Path, bucket: Recorder
) -> None:
    url = bucket.url("b", "/bucket")
    hosts = [
        f"<VirtualHost *>\nServerName {name}\nProxyPass /m {url}\n{section(url, *keys('KEY'), *more)}\n</VirtualHost>"
        for name, more in (("one", ()), ("two", ("SetEnvIf Request_URI ^ S3Expires=77",)))
    ]
    httpd = start(checked, localhost_names, "\n".join(hosts))
    assert httpd.fetch("/m/a.ts", host="one").status == 200
    assert bucket.signers() == ["KEY/r"]


def test_a_rule_on_a_header_with_a_settings_name_sets_nothing(
    checked: list[Httpd], localhost_names: Path, bucket: Recorder
) -> None:
    url = bucket.url("b", "/bucket")
    httpd = start(
        checked, localhost_names, f"ProxyPass /m {url}\n{section(url, *keys('KEY'), 'SetEnvIf X-S3Region ^ DUMMY=1')}"
    )
    assert httpd.fetch("/m/a.ts").status == 200


# --- log lines


def test_a_path_that_the_client_encodes_differently_is_named_as_the_reason(
    checked: list[Httpd], localhost_names: Path, bucket: Recorder
) -> None:
    """The line does not suggest the URL that the section has already."""
    url = bucket.url("b", "/bucket")
    text = f"{section(url, *keys('KEY'))}\nProxyPass /m {url.removesuffix('/bucket')} nocanon"
    httpd = start(checked, localhost_names, text)
    assert httpd.fetch("/m/%62ucket/a.ts").status == 500
    assert "its path is percent-encoded differently" in httpd.wait_for_error("mod_proxy does not apply <Proxy")


def test_the_password_of_a_url_is_not_logged(checked: list[Httpd], localhost_names: Path, bucket: Recorder) -> None:
    url = bucket.url("b", "/bucket")
    text = f"{section(url.replace('//', '//user:hidden@'), *keys('KEY'))}\nProxyPass /m {url}"
    httpd = start(checked, localhost_names, text)
    assert httpd.fetch("/m/a.ts").status == 500
    httpd.wait_for_error("mod_proxy does not apply <Proxy")
    assert "hidden" not in "\n".join(httpd.errors())
    assert bucket.signers() == []


def test_keys_in_the_section_of_a_balancer_are_rejected_with_a_hint(
    checked: list[Httpd], localhost_names: Path, bucket: Recorder
) -> None:
    url = bucket.url("b", "/bucket")
    text = f'<Proxy "balancer://c">\nBalancerMember {url}\n{ALL}\n</Proxy>\nProxyPass /m balancer://c'
    httpd = start(checked, localhost_names, text)
    assert httpd.fetch("/m/a.ts").status == 500
    line = httpd.wait_for_error(r"usp_s3_wsgi: .*\(GET ")
    assert "set S3BucketURL" in line or "S3BucketURL shows no bucket" in line


# --- .htaccess files of other sites, on a server without a bucket


HTACCESS_FILES = {
    "SetEnv": "SetEnv S3REGION eu",
    "SetEnvIf": "SetEnvIf Host ^ S3REGION=eu",
    "E=": "RewriteEngine On\nRewriteRule ^ - [E=S3REGION:eu]",
}


@pytest.mark.parametrize("form", HTACCESS_FILES)
def test_an_htaccess_file_that_proxies_to_another_backend_works(
    checked: list[Httpd], localhost_names: Path, other: Recorder, form: str
) -> None:
    httpd = start(checked, localhost_names, '<Directory "${ROOT}/htdocs">\nAllowOverride All\n</Directory>')
    folder = httpd.root / "htdocs" / "d"
    folder.mkdir()
    rule = f"RewriteEngine On\nRewriteRule ^(.*)$ {other.url('o', '/other')}/$1 [P]\n"
    (folder / ".htaccess").write_text(f"{HTACCESS_FILES[form]}\n{rule}")
    assert httpd.fetch("/d/a.ts").status == 200
    assert other.signers() == ["unsigned"]
