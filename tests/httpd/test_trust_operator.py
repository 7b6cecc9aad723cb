"""The operator's settings apply: sections, rules at server, virtual host and section level.

Other applications keep their variables. The table of the trust boundary is in test_trust_gateway.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.httpd.conftest import BUCKET
from tests.httpd.server import Reply, WithoutModule
from tests.httpd.trust import DATA, HAS_CGI, KEY, Scenario, keys, running_scenario
from tests.httpd.trust_attacks import ATTACKS, ROUTES, fill_in, include, rewrite, set_vars, setenv, setenvif
from tests.leaks import TOKEN
from tests.s3 import EmbeddedS3

DAEMON = "process-group=s3 application-group=%{GLOBAL}"
MODES = {"e": "", "d": DAEMON}
#: The query parameter that S3 gets only if S3PassQuery applies.
PARAMETER = "response-content-type=text/x"


def rules(s3: EmbeddedS3, mode: str) -> str:
    """As in many_buckets.conf: a rule of the virtual host chooses the bucket."""
    return f"""
<VirtualHost *>
  ServerName many-{mode}.example
  DocumentRoot ${{ROOT}}/htdocs
  RewriteEngine On
  RewriteRule ^/alias/(.*) /media/{BUCKET}/$1
  RewriteCond $1 ^({BUCKET})$
  RewriteRule ^/media/([^/]+)/ - [E=S3BucketURL:http://BUCKET_HOST/%1/,E=S3AccessKey:{s3.access_key},S=1]
  RewriteRule ^/media - [R=404]
  RewriteRule ^/media/ - [E=S3SecretKey:{s3.secret_key},E=S3SecurityToken:{TOKEN},PT]
  WSGIScriptAliasMatch ^/media/[^/]+ ${{USP_S3_WSGI}} {MODES[mode]}
  <Location /media>
    SetEnv S3Region {s3.region}
    SetEnv S3UseHeaders on
  </Location>
</VirtualHost>
"""


def sections(s3: EmbeddedS3, mode: str) -> str:
    """A virtual host with a mount for each kind of section."""
    url, script = f"http://BUCKET_HOST/{BUCKET}/", f"${{USP_S3_WSGI}} {MODES[mode]}"
    plain = f"SetEnv S3BucketURL {url}\n{keys(s3)}"
    return f"""
<VirtualHost *>
  ServerName sections-{mode}.example
  DocumentRoot ${{ROOT}}/htdocs
  MergeSlashes Off
  RewriteEngine On
  SetEnvIf X-Level "^vhost$" S3PassQuery=response-content-type
  SetEnvIfExpr "%{{HTTP:X-Level}} == 'expression'" S3PassQuery=response-content-type
  RewriteCond %{{HTTP:X-Level}} ^rule$
  RewriteRule ^/media/ - [E=S3PassQuery:response-content-type]
  WSGIScriptAlias /media {script}
  <Location /media>
    {plain}
    SetEnvIf X-Level "^location$" S3PassQuery=response-content-type
  </Location>
  WSGIScriptAlias /passed {script}
  <Location /passed>
    {plain}
    PassEnv S3PassQuery
  </Location>
  WSGIScriptAlias /ruled {script}
  <Location /ruled>
    {plain}
    RewriteEngine On
    RewriteRule ^ - [E=S3PassQuery:response-content-type]
  </Location>
  WSGIScriptAlias /conditional {script}
  <Location /conditional>
    {plain}
    <If "true">
      SetEnv S3PassQuery response-content-type
    </If>
  </Location>
  WSGIScriptAlias /slashes {script}
  <Location /slashes>
    {plain}
    RewriteEngine On
    RewriteRule ^ - [E=USP_S3_PATH:%{{REQUEST_URI}}]
  </Location>
  WSGIScriptAlias /outer {script}
  <Location /outer>
    {plain}
    SetEnv S3PassQuery response-expires
    SetEnv S3FallbackOn404 on
    SetEnv S3FallbackURL http://ATTACKER/b/
  </Location>
  <Location /outer/film>
    SetEnv S3PassQuery response-content-type
    UnsetEnv S3FallbackURL S3FallbackOn404
  </Location>
</VirtualHost>
"""


#: At server level: it applies in all virtual hosts.
SERVER = 'SetEnvIf X-Level "^server$" S3PassQuery=response-content-type\n'


@pytest.fixture(scope="module")
def running(s3: EmbeddedS3) -> Iterator[Scenario]:
    config = SERVER + "".join(rules(s3, mode) + sections(s3, mode) for mode in MODES)
    default = '<VirtualHost *>\nServerName default.example\nDocumentRoot "${ROOT}/htdocs"\n</VirtualHost>\n'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3PassQuery", "response-content-type")
        s3.put(BUCKET, "a//b//c.ts", DATA)
        s3.put(BUCKET, "a/b/c.ts", b"another object")
        with running_scenario(s3, default + config) as scenario:
            yield scenario


def is_parameter_passed(running: Scenario, reply: Reply, key: str = KEY) -> bool:
    """Assert that the object was served; return whether S3PassQuery applied."""
    assert (reply.status, DATA in reply.body) == (200, True), (reply.status, reply.body, running.httpd.errors()[-3:])
    (target,) = set(running.bucket.targets)
    assert target.partition("?")[0] == f"/{BUCKET}/{key}"
    assert running.attacker.received == b""
    return target.endswith("text%2Fx")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("route", ROUTES)
def test_a_rule_of_the_virtual_host(running: Scenario, route: str, mode: str) -> None:
    """It applies to subrequests, and after each redirect, whatever an attacker adds."""
    for attack in ("nothing", "second bucket", "the bucket itself"):
        attack_request = ROUTES[route](running, f"/media/{BUCKET}", fill_in(ATTACKS[attack], running), KEY)
        running.assert_served(
            running.fetch(attack_request.target, host=f"many-{mode}.example"),
            attack_request.status,
            attack_request.key or KEY,
        )


@pytest.mark.parametrize("mode", MODES)
def test_a_rule_of_the_virtual_host_directly(running: Scenario, mode: str) -> None:
    host = f"many-{mode}.example"
    for target in (f"/media/{BUCKET}/{KEY}", f"/alias/{KEY}"):
        running.assert_served(running.fetch(target, host=host))
    assert running.fetch(f"/media/other/{KEY}", host=host).status == 404
    assert running.bucket.received == b""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", ["server", "vhost", "expression", "rule", "location", "none"])
def test_rules_at_each_level(running: Scenario, level: str, mode: str) -> None:
    reply = running.fetch(f"/media/{KEY}?{PARAMETER}", host=f"sections-{mode}.example", x_level=level)
    assert is_parameter_passed(running, reply) == (level != "none")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", ["server", "vhost", "expression", "rule", "none"])
def test_rules_in_subrequests(running: Scenario, level: str, mode: str) -> None:
    """The variables that the server's rules set for the client's request apply to its subrequests."""
    host = f"sections-{mode}.example"
    line = include(f"/media/{KEY}?{PARAMETER}")
    running.write("parts/plain.shtml", line)
    running.write("parts/nested.shtml", include("/parts/plain.shtml"))
    running.write("parts/changed.shtml", set_vars({"S3PassQuery": "versionId"}) + line)
    running.write("parts/emptied.shtml", set_vars({"S3PassQuery": ""}) + line)
    running.write("index/.htaccess", f"DirectoryIndex /media/{KEY}?{PARAMETER}\n")
    running.write("unset/.htaccess", f"UnsetEnv S3PassQuery\nDirectoryIndex /media/{KEY}?{PARAMETER}\n")
    running.write("rule/.htaccess", f"{rewrite({'!S3PassQuery': ''})}DirectoryIndex /media/{KEY}?{PARAMETER}\n")
    parts = [f"/parts/{name}.shtml" for name in ("plain", "nested", "changed", "emptied")]
    for target in ("/index/", "/unset/", "/rule/", *parts):
        assert is_parameter_passed(running, running.fetch(target, host=host, x_level=level)) == (level != "none"), (
            target
        )
    for folder, status in (("error", 404), ("moved", 200)):
        rule = {
            "error": f"ErrorDocument 404 /media/{KEY}?{PARAMETER}\n",
            "moved": f"RewriteEngine On\nRewriteRule ^x$ /media/{KEY}?{PARAMETER}\n",
        }[folder]
        running.write(f"{folder}/.htaccess", rule)
        reply = running.fetch(f"/{folder}/x", host=host, x_level=level)
        assert reply.status == status and DATA in reply.body
        assert ("text%2Fx" in running.bucket.targets[0]) == (level != "none"), folder


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mount", ["passed", "ruled", "conditional", "outer"])
def test_sections(running: Scenario, mount: str, mode: str) -> None:
    """PassEnv, a rule in a <Location>, <If>, and the inner of two sections: in direct requests and in a page."""
    host = f"sections-{mode}.example"
    assert is_parameter_passed(running, running.fetch(f"/{mount}/{KEY}?{PARAMETER}", host=host))
    running.write(f"{mount}.shtml", include(f"/{mount}/{KEY}?{PARAMETER}"))
    # A rule of mod_rewrite in a section runs in the fixup phase, which subrequests have as well.
    assert is_parameter_passed(running, running.fetch(f"/{mount}.shtml", host=host))
    running.write(
        f"{mount}-index/.htaccess", f"SetEnv S3PassQuery versionId\nDirectoryIndex /{mount}/{KEY}?{PARAMETER}"
    )
    assert is_parameter_passed(running, running.fetch(f"/{mount}-index/", host=host))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "route", ["direct", "page", "htaccess Rewrite", "fallback resource", "rewritten", "error document"]
)
def test_a_rule_may_set_the_path_that_is_served(running: Scenario, route: str, mode: str) -> None:
    key, host = "a//b//c.ts", f"sections-{mode}.example"
    if route == "direct":
        running.assert_served(running.fetch(f"/slashes/{key}", host=host), key=key)
        return
    # The attacker sets another path. The operator's rule runs later, and applies.
    attack_request = ROUTES[route](running, "/slashes", {"USP_S3_PATH": "/slashes/a/b/c.ts"}, key)
    running.assert_served(running.fetch(attack_request.target, host=host), attack_request.status, key)


def test_without_the_module_rules_apply_to_direct_requests(s3: EmbeddedS3) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3PassQuery", "response-content-type")
        with running_scenario(s3, SERVER + rules(s3, "e") + sections(s3, "e"), WithoutModule) as running:
            host = "sections-e.example"
            running.assert_served(running.fetch(f"/media/{BUCKET}/{KEY}", host="many-e.example"))
            for level in ("server", "vhost", "expression", "rule", "location"):
                assert is_parameter_passed(
                    running, running.fetch(f"/media/{KEY}?{PARAMETER}", host=host, x_level=level)
                )
            for mount in ("passed", "ruled", "conditional", "outer"):
                assert is_parameter_passed(running, running.fetch(f"/{mount}/{KEY}?{PARAMETER}", host=host))
            s3.put(BUCKET, "a//b//c.ts", DATA)
            running.assert_served(running.fetch("/slashes/a//b//c.ts", host=host), key="a//b//c.ts")


# --- other applications


#: Variables of another application. Some have names of this package's settings: here they are not ours.
OTHERS_VARIABLES = {
    "S3_BUCKET": "uploads", "S3CMD_CONFIG": "/etc/s3cfg", "S3BucketURL": "http://theirs.example/b/",
    "S3SecretKey": "their-own", "S3Region": "r", "USP_S3_PATH": "/x", "USP_S3_GUARDED": "1", "S3FallbackURL": "x",
}  # fmt: skip
PRINT_ENVIRON = """
def application(environ, start):
    found = sorted((name, value) for name, value in environ.items() if "S3" in name)
    start("200 OK", [("Content-Type", "text/plain")])
    return [repr(found).encode()]
"""
OTHER_APPLICATIONS = {
    "app": "WSGIScriptAlias /app ${ROOT}/htdocs/app/app.wsgi\n",
    "remote": "WSGIScriptAlias /remote ${ROOT}/htdocs/remote/app.wsgi process-group=other\n",
    "script": "ScriptAlias /script ${ROOT}/htdocs/script/env.cgi\n",
}
if not HAS_CGI:
    del OTHER_APPLICATIONS["script"]


@pytest.fixture(scope="module")
def others(s3: EmbeddedS3) -> Iterator[Scenario]:
    with running_scenario(s3, "".join(OTHER_APPLICATIONS.values())) as scenario:
        for name in ("app", "remote"):
            scenario.write(f"{name}/app.wsgi", PRINT_ENVIRON)
        lines = 'env | grep S3 | sort | sed "s/^/  /"'
        scenario.write("script/env.cgi", f"#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n{lines}\n", 0o755)
        yield scenario


def shown_variables(reply: Reply) -> set[str]:
    text = reply.body.decode()
    assert reply.status == 200
    return {
        name
        for name, value in OTHERS_VARIABLES.items()
        if f"'{name}', '{value}'" in text or f"  {name}={value}\n" in text
    }


@pytest.mark.parametrize("name", OTHER_APPLICATIONS)
@pytest.mark.parametrize("directive", ["SetEnv", "SetEnvIf", "Rewrite"])
def test_another_application_keeps_its_htaccess(others: Scenario, directive: str, name: str) -> None:
    directives = {"SetEnv": setenv, "SetEnvIf": setenvif, "Rewrite": rewrite}[directive]
    others.write(f"{name}/.htaccess", directives(OTHERS_VARIABLES))
    assert shown_variables(others.fetch(f"/{name}")) == set(OTHERS_VARIABLES)
    others.write("page.shtml", include(f"/{name}") + include(f"/embedded/{KEY}") + include(f"/{name}"))
    # mod_setenvif of a directory does not run in subrequests.
    assert shown_variables(others.fetch("/page.shtml")) == (set() if directive == "SetEnvIf" else set(OTHERS_VARIABLES))
    others.write("index/.htaccess", f"DirectoryIndex /{name}\n")
    assert shown_variables(others.fetch("/index/")) == (set() if directive == "SetEnvIf" else set(OTHERS_VARIABLES))
    (others.httpd.root / "htdocs" / name / ".htaccess").unlink()


@pytest.mark.parametrize("name", OTHER_APPLICATIONS)
@pytest.mark.parametrize("route", ["page", "page of pages", "page after page", "htaccess SetEnv", "htaccess SetEnvIf",
                                 "htaccess Rewrite", "index SetEnv", "fallback resource"])  # fmt: skip
def test_another_application_gets_the_variables_around_it(others: Scenario, route: str, name: str) -> None:
    attack_request = ROUTES[route](others, f"/{name}", OTHERS_VARIABLES, "x")
    assert shown_variables(others.fetch(attack_request.target)) == set(OTHERS_VARIABLES)


@pytest.mark.parametrize("name", OTHER_APPLICATIONS)
def test_another_application_after_a_redirect(others: Scenario, name: str) -> None:
    """httpd puts REDIRECT_ before their names."""
    attack_request = ROUTES["error document"](others, f"/{name}", OTHERS_VARIABLES, "x")
    text = others.fetch(attack_request.target).body.decode()
    for variable, value in OTHERS_VARIABLES.items():
        assert f"'REDIRECT_{variable}', '{value}'" in text or f"  REDIRECT_{variable}={value}\n" in text, variable


def test_a_page_keeps_its_variables(others: Scenario) -> None:
    """Also before and after a bucket's object."""
    echo = "".join(f'{name}=<!--#echo encoding="none" var="{name}" -->;' for name in OTHERS_VARIABLES)
    others.write(
        "own.shtml", set_vars(OTHERS_VARIABLES) + echo + include(f"/embedded/{KEY}") + include(f"/daemon/{KEY}") + echo
    )
    reply = others.fetch("/own.shtml")
    others.assert_served(reply)
    for name, value in OTHERS_VARIABLES.items():
        assert reply.body.count(f"{name}={value};".encode()) == 2, name
