"""Handlers, redirects and lookups with which an author tries to get requests signed, or to read keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.httpd.authors import NEGOTIATION, SCRIPTS, fallback_to, location_section, mount, own_script, running, write
from tests.httpd.recorder import Recorder
from tests.httpd.server import WithoutModule
from tests.httpd.ways import keys, section

RULE = "RewriteEngine On\n@MORE@\nRewriteRule ^ @URL@/secret.ts [P]\n"
SIGNING = {
    # these need no configuration of the operator: the handler is proxy:... before the rule runs
    "plain/add-handler": 'AddHandler "proxy:http://x.invalid/" .ts\n' + RULE,
    "plain/set-handler": 'SetHandler "proxy:http://x.invalid/"\n' + RULE,
    "plain/force-type": 'ForceType "proxy:http://x.invalid/"\n' + RULE,
    "plain/add-type": 'AddType "proxy:http://x.invalid/" .ts\n' + RULE,
    # the operator has SetHandler "proxy:http://public/" for the folder
    "handled/rule-and-handler": RULE.replace("@MORE@", "RewriteRule ^ - [H=proxy:@PUBLIC@/]"),
}


@pytest.mark.parametrize("way", SIGNING)
def test_an_htaccess_file_gets_no_signature(bucket: Recorder, other: Recorder, localhost_names: Path, way: str) -> None:
    url, public = bucket.url("films", "/bucket"), bucket.url("films", "/bucket/pub")
    around = f"""
<Location /handled>
  SetHandler "proxy:{public}/"
</Location>
"""
    with running(localhost_names, around, section(url, *keys("KEY"))) as httpd:
        text = SIGNING[way].replace("@URL@", url).replace("@MORE@", "").replace("@PUBLIC@", public)
        write(httpd, way, {".htaccess": text, "a.ts": "the author's"})
        reply = httpd.fetch(f"/{way}/a.ts")
    assert bucket.signers() == []
    assert reply.status == 500


SLASHLESS = {
    "rule": "RewriteEngine On\nRewriteOptions AllowNoSlash\nRewriteRule ^ @URL@/secret.ts [P]\n",
    "handler": 'SetHandler "proxy:@URL@/secret"\n',
}


@pytest.mark.parametrize("way", SLASHLESS)
def test_the_htaccess_file_of_a_folder_without_its_slash_gets_no_signature(
    bucket: Recorder, localhost_names: Path, way: str
) -> None:
    """The URL is /author, and the .htaccess file belongs to /author/, which is not a prefix of the URL."""
    url = bucket.url("films", "/bucket")
    htaccess = "DirectorySlash Off\n" + SLASHLESS[way].replace("@URL@", url)
    with running(localhost_names, section(url, *keys("KEY")), author={".htaccess": htaccess}) as httpd:
        reply = httpd.fetch("/author")
    assert bucket.signers() == []
    assert reply.status == 500


def test_the_decision_about_a_variant_does_not_apply_to_a_rule(bucket: Recorder, localhost_names: Path) -> None:
    """The operator's SetHandler sends the variant to a public folder; then an author's rule runs."""
    url, public = bucket.url("films", "/bucket"), bucket.url("films", "/bucket/pub")
    around = f'<Directory ${{ROOT}}/htdocs>\n<Files "*.ts">\nSetHandler "proxy:{public}/"\n</Files>\n</Directory>'
    htaccess = (
        "Options +MultiViews\nAddType video/mp2t .ts\nRewriteEngine On\n"
        f"RewriteCond %{{IS_SUBREQ}} =false\nRewriteRule ^ {url}/secret.ts [P]\n"
    )
    with running(
        localhost_names,
        NEGOTIATION,
        around,
        section(url, *keys("KEY")),
        author={".htaccess": htaccess, "foo.ts": ""},
    ) as httpd:
        reply = httpd.fetch("/author/foo")
    assert bucket.signers() == []
    assert reply.status == 500


LEAKS = {
    "variant": ("/own/m/a.ts", "Options +MultiViews\nHeader always set X-Leak %{S3SecretKey}e\n"),
    "request-header": (
        "/own/m.wsgi/a.ts",
        'RequestHeader set X-Leak %{S3SecretKey}e\nHeader always set X-Leak "expr=%{req:X-Leak}"\n',
    ),
}


@pytest.mark.parametrize("way", LEAKS)
def test_an_htaccess_file_reads_no_keys(bucket: Recorder, localhost_names: Path, way: str) -> None:
    target, htaccess = LEAKS[way]
    own = location_section("/own", bucket.url("own", "/bucket/"), "OWN")
    with running(localhost_names, NEGOTIATION, SCRIPTS["AddType"], own) as httpd:
        write(httpd, "own", {".htaccess": htaccess, "m.wsgi": own_script(httpd)})
        reply = httpd.fetch(target)
    assert reply.body == b"/bucket/a.ts"
    assert "X-Leak" in str(reply.headers) and "a-secret" not in str(reply.headers)


def test_an_htaccess_file_reads_no_keys_of_mod_proxy(bucket: Recorder, localhost_names: Path) -> None:
    url = bucket.url("films", "/bucket")
    lines = "\n".join(keys("OWN"))
    around = f'<Directory ${{ROOT}}/htdocs/own>\nSetHandler "proxy:{url}"\n{lines}\n</Directory>'
    with running(localhost_names, around, f'<Proxy "{url}/">\nSetEnv S3Retries 0\n</Proxy>') as httpd:
        write(httpd, "own", {".htaccess": LEAKS["request-header"][1], "a.ts": ""})
        reply = httpd.fetch("/own/a.ts")
    assert "X-Leak" in str(reply.headers) and "a-secret" not in str(reply.headers)


def test_a_redirected_request_with_an_encoded_slash_is_not_direct(
    bucket: Recorder, other: Recorder, localhost_names: Path
) -> None:
    """Without the module: /media%2Fx is a URL of the docroot's author, whose fast redirect leads to /media/x."""
    parts = ["AllowEncodedSlashes NoDecode", mount("/media", bucket.url("films", "/bucket/"))]
    with running(localhost_names, *parts, kind=WithoutModule) as httpd:
        write(httpd, ".", {".htaccess": fallback_to(other) + "FallbackResource /media/denied\n"})
        reply = httpd.fetch("/media%2Fdenied")
        httpd.wait_for_error("needs usp_s3_module")
    assert reply.status == 500
    assert other.signers() == []


def test_a_handler_that_is_chosen_after_a_fast_redirect(
    bucket: Recorder, other: Recorder, localhost_names: Path
) -> None:
    """mod_rewrite's [H=] applies after mod_dir; the target's .htaccess file does not apply here."""
    own = location_section("/own", bucket.url("own", "/bucket/"), "OWN")
    own = fallback_to(other) + "<If \"%{IS_SUBREQ} == 'true'\">\nSetHandler default-handler\n</If>\nAcceptPathInfo On\n"
    author = "RewriteEngine On\nRewriteRule ^ - [H=wsgi-script]\nDirectoryIndex /own/m.wsgi/denied.ts\n"
    with running(localhost_names, SCRIPTS["AddType"], own) as httpd:
        write(httpd, "own", {".htaccess": own, "m.wsgi": own_script(httpd)})
        write(httpd, "author", {".htaccess": author})
        reply = httpd.fetch("/author/")
        httpd.wait_for_error("/own/m.wsgi: S3BucketURL is not set for this request")
    assert reply.status == 500
    assert other.signers() == []


# --- crashes: nothing that an author writes ends a child

HOSTILE_URLS = [
    "", "http:", "http:/", "http://", "http://[", "http://[::1", "http://[::1]/b/x", "http://:0/", "http://%00/",
    "http://films.localhost:@PORT@/bucket/%00x", "http://films.localhost:@PORT@", "HTTP://Films.LOCALHOST:@PORT@/bucket/x",
    "unix:", "unix:|", "unix:/x|", "unix:/x|http", "unix:/x|http://", "unix:/x|http://films.localhost:@PORT@/bucket/x",
    "balancer:", "balancer://", "balancer://b", "balancer://b/x", "balancer://nobody/x", "fcgi://x/", "h2://x/",
    "http://films.localhost:@PORT@/bucket?x", "http://films.localhost:@PORT@?x", "http://u:p@films.localhost:@PORT@/bucket/x",
]  # fmt: skip
HOSTILE = {
    "handler": 'SetHandler "proxy:@URL@"\n',
    "type": 'ForceType "proxy:@URL@"\n',
    "rule": "RewriteEngine On\nRewriteRule ^ @URL@ [P,NE]\n",
    "rule-handler": 'RewriteEngine On\nRewriteRule ^ "-" "[H=proxy:@URL@]"\n',
    "both": 'AddHandler "proxy:http://x/" .ts\nRewriteEngine On\nRewriteRule ^ @URL@ [P,NE]\n',
}


@pytest.mark.parametrize("way", HOSTILE)
def test_no_url_of_an_author_crashes_a_child(bucket: Recorder, localhost_names: Path, way: str) -> None:
    url = bucket.url("films", "/bucket")
    around = "\n".join([*keys("KEY"), f"SetEnv S3BucketURL {bucket.url('gateway', '/bucket/')}"])
    parts = [
        f"<Location />\n{around}\n</Location>",
        section(url, *keys("KEY")),
        '<Proxy "http://[::1]/b/">\nSetEnv S3AccessKey KEY\n</Proxy>',
        '<ProxyMatch "^http://m[0-9]">\nSetEnv S3Region r\n</ProxyMatch>',
        f'<Proxy "balancer://b">\nBalancerMember {url}\n</Proxy>',
        f"ProxyPass /films {url}",
        f"ProxyPassMatch ^/m/(.*)$ {url}/$1",
        f"<Location /l>\nProxyPass {url}\n</Location>",
    ]
    with running(localhost_names, *parts) as httpd:
        children = httpd.children()
        for i, hostile in enumerate(HOSTILE_URLS):
            text = HOSTILE[way].replace("@URL@", hostile.replace("@PORT@", str(bucket.port)))
            write(httpd, f"f{i}", {".htaccess": text, "a.ts": "x"})
            try:
                httpd.fetch(f"/f{i}/a.ts", timeout=20)
            except ConnectionError as error:
                raise AssertionError(hostile) from error
        crashes = [line for line in httpd.errors() if "AH00051" in line or "AH00052" in line]
        after = httpd.children()
    signed = [request for request in bucket.requests if request.signer != "unsigned"]
    assert crashes == [] and set(children) <= set(after)  # httpd may have started another one
    assert signed == []


FILTERS = ["USP_S3_RESPONSE", "USP_S3_GUARD", "USP_S3_DISCARD"]


@pytest.mark.parametrize("name", FILTERS)
def test_mod_filter_with_this_packages_filters_crashes_no_child(
    other: Recorder, localhost_names: Path, name: str
) -> None:
    htaccess = f'FilterDeclare x\nFilterProvider x {name} "true"\nFilterChain x\n'
    with running(localhost_names, author={".htaccess": htaccess, "a.ts": "a file"}) as httpd:
        reply = httpd.fetch("/author/a.ts")
    assert (reply.status, reply.body) == (200, b"a file")


# --- requests that 1.5.0 served


def test_a_script_in_an_aliased_folder_is_direct_without_the_module(bucket: Recorder, localhost_names: Path) -> None:
    parts = (
        "Alias /media ${ROOT}/scripts\n<Directory ${ROOT}/scripts>\nRequire all granted\nOptions +ExecCGI\n"
        "AddHandler wsgi-script .wsgi\n</Directory>\n"
        + location_section("/media", bucket.url("own", "/bucket/"), "OWN")
    )
    with running(localhost_names, parts, kind=WithoutModule) as httpd:
        (httpd.root / "scripts").mkdir()
        (httpd.root / "scripts" / "m.wsgi").write_text(own_script(httpd))
        reply = httpd.fetch("/media/m.wsgi/a.ts")
    assert reply.body == b"/bucket/a.ts"
    assert bucket.signers() == ["OWN/r"]


def test_the_decision_about_a_fast_redirect_does_not_apply_to_another_handler(
    bucket: Recorder, localhost_names: Path
) -> None:
    """mod_rewrite's [H=] applies after mod_dir: the file is the operator's, the first URL the author's."""
    url = bucket.url("films", "/bucket")
    around = f'<Location /pub>\nSetHandler "proxy:{url}/pub"\n</Location>'
    htaccess = f"RewriteEngine On\nRewriteRule ^ - [H=proxy:{url}/secret]\nDirectoryIndex /pub/x\n"
    with running(
        localhost_names, around, section(url, *keys("KEY")), author={".htaccess": htaccess}, pub={"x": ""}
    ) as httpd:
        reply = httpd.fetch("/author/")
        httpd.wait_for_error("the .htaccess file of .* may have routed this request to mod_proxy")
    assert reply.status == 500
    assert bucket.requests == []


def test_a_redirected_request_with_a_slash_before_the_mount_is_not_direct(
    bucket: Recorder, other: Recorder, localhost_names: Path
) -> None:
    """Without the module: a URL that the mount's pattern does not match belongs to the docroot's author."""
    parts = (
        "MergeSlashes Off\nAllowEncodedSlashes NoDecode\nWSGIScriptAliasMatch ^/media ${USP_S3_WSGI}\n"
        f"{location_section('/media', bucket.url('films', '/bucket/'), 'GATEWAY')}"
    )
    with running(localhost_names, parts, kind=WithoutModule) as httpd:
        write(httpd, ".", {".htaccess": fallback_to(other) + "FallbackResource /media/denied\n"})
        reply = httpd.fetch("/%2Fmedia/denied")
        httpd.wait_for_error("needs usp_s3_module")
    assert reply.status == 500
    assert other.signers() == []
