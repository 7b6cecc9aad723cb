"""What the operator writes goes on working: sections, rules at server, virtual host and section level; and neighbours.

The table of the trust boundary is in test_trust_gateway.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.httpd.conftest import BUCKET
from tests.httpd.server import Reply, WithoutModule
from tests.httpd.trust import DATA, HAS_CGI, KEY, Stage, keys, stage
from tests.httpd.trust_attacks import ATTACKS, WAYS, fill_in, include, rewrite, setenv, setenvif, vars_of
from tests.leaks import TOKEN
from tests.s3 import EmbeddedS3

DAEMON = "process-group=s3 application-group=%{GLOBAL}"
MODES = {"e": "", "d": DAEMON}
#: The query parameter by which a test sees whether S3PassQuery counts.
PARAMETER = "response-content-type=text/x"


def rules(s3: EmbeddedS3, mode: str) -> str:
    """As in many_buckets.conf: a rule of the virtual host says which bucket it is."""
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
    """A server with a place for each way to say something of a bucket."""
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


#: At server level, it counts in all virtual hosts.
SERVER = 'SetEnvIf X-Level "^server$" S3PassQuery=response-content-type\n'


@pytest.fixture(scope="module")
def running(s3: EmbeddedS3) -> Iterator[Stage]:
    config = SERVER + "".join(rules(s3, mode) + sections(s3, mode) for mode in MODES)
    default = '<VirtualHost *>\nServerName default.example\nDocumentRoot "${ROOT}/htdocs"\n</VirtualHost>\n'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3PassQuery", "response-content-type")
        s3.put(BUCKET, "a//b//c.ts", DATA)
        s3.put(BUCKET, "a/b/c.ts", b"another object")
        with stage(s3, default + config) as stage_:
            yield stage_


def passed(running: Stage, reply: Reply, key: str = KEY) -> bool:
    """Whether the bucket's answer came, and S3PassQuery counted."""
    assert (reply.status, DATA in reply.body) == (200, True), (reply.status, reply.body, running.httpd.errors()[-3:])
    (target,) = set(running.bucket.targets)
    assert target.partition("?")[0] == f"/{BUCKET}/{key}"
    assert running.attacker.received == b""
    return target.endswith("text%2Fx")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_rule_of_the_virtual_host(running: Stage, way: str, mode: str) -> None:
    """It runs for the client's request, for a subrequest, and after each redirect, whatever an attacker adds."""
    for attack in ("nothing", "second bucket", "the bucket itself"):
        shot = WAYS[way](running, f"/media/{BUCKET}", fill_in(ATTACKS[attack], running), KEY)
        running.served(running.fetch(shot.target, host=f"many-{mode}.example"), shot.status, shot.key or KEY)


@pytest.mark.parametrize("mode", MODES)
def test_a_rule_of_the_virtual_host_directly(running: Stage, mode: str) -> None:
    host = f"many-{mode}.example"
    for target in (f"/media/{BUCKET}/{KEY}", f"/alias/{KEY}"):
        running.served(running.fetch(target, host=host))
    assert running.fetch(f"/media/other/{KEY}", host=host).status == 404
    assert running.bucket.received == b""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", ["server", "vhost", "expression", "rule", "location", "none"])
def test_rules_at_each_level(running: Stage, level: str, mode: str) -> None:
    reply = running.fetch(f"/media/{KEY}?{PARAMETER}", host=f"sections-{mode}.example", x_level=level)
    assert passed(running, reply) == (level != "none")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", ["server", "vhost", "expression", "rule", "none"])
def test_rules_in_subrequests(running: Stage, level: str, mode: str) -> None:
    """What the server's rules said of the client's request counts in its parts; a page cannot change it."""
    host = f"sections-{mode}.example"
    line = include(f"/media/{KEY}?{PARAMETER}")
    running.write("parts/plain.shtml", line)
    running.write("parts/nested.shtml", include("/parts/plain.shtml"))
    running.write("parts/changed.shtml", vars_of({"S3PassQuery": "versionId"}) + line)
    running.write("parts/emptied.shtml", vars_of({"S3PassQuery": ""}) + line)
    running.write("index/.htaccess", f"DirectoryIndex /media/{KEY}?{PARAMETER}\n")
    running.write("unset/.htaccess", f"UnsetEnv S3PassQuery\nDirectoryIndex /media/{KEY}?{PARAMETER}\n")
    running.write("rule/.htaccess", f"{rewrite({'!S3PassQuery': ''})}DirectoryIndex /media/{KEY}?{PARAMETER}\n")
    parts = [f"/parts/{name}.shtml" for name in ("plain", "nested", "changed", "emptied")]
    for target in ("/index/", "/unset/", "/rule/", *parts):
        assert passed(running, running.fetch(target, host=host, x_level=level)) == (level != "none"), target
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
@pytest.mark.parametrize("place", ["passed", "ruled", "conditional", "outer"])
def test_sections(running: Stage, place: str, mode: str) -> None:
    """PassEnv, a rule in a <Location>, <If>, and the inner of two: directly and in a page."""
    host = f"sections-{mode}.example"
    assert passed(running, running.fetch(f"/{place}/{KEY}?{PARAMETER}", host=host))
    running.write(f"{place}.shtml", include(f"/{place}/{KEY}?{PARAMETER}"))
    # An internal rule of mod_rewrite in a section runs in fixups, which subrequests have as well.
    assert passed(running, running.fetch(f"/{place}.shtml", host=host))
    running.write(
        f"{place}-index/.htaccess", f"SetEnv S3PassQuery versionId\nDirectoryIndex /{place}/{KEY}?{PARAMETER}"
    )
    assert passed(running, running.fetch(f"/{place}-index/", host=host))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "way", ["direct", "page", "htaccess Rewrite", "fallback resource", "rewritten", "error document"]
)
def test_a_rule_tells_the_path_that_is_served(running: Stage, way: str, mode: str) -> None:
    key, host = "a//b//c.ts", f"sections-{mode}.example"
    if way == "direct":
        running.served(running.fetch(f"/slashes/{key}", host=host), key=key)
        return
    # The attacker says another path; the operator's rule comes later, and counts.
    shot = WAYS[way](running, "/slashes", {"USP_S3_PATH": "/slashes/a/b/c.ts"}, key)
    running.served(running.fetch(shot.target, host=host), shot.status, key)


def test_without_the_module_rules_count_directly(s3: EmbeddedS3) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3PassQuery", "response-content-type")
        with stage(s3, SERVER + rules(s3, "e") + sections(s3, "e"), WithoutModule) as running:
            host = "sections-e.example"
            running.served(running.fetch(f"/media/{BUCKET}/{KEY}", host="many-e.example"))
            for level in ("server", "vhost", "expression", "rule", "location"):
                assert passed(running, running.fetch(f"/media/{KEY}?{PARAMETER}", host=host, x_level=level))
            for place in ("passed", "ruled", "conditional", "outer"):
                assert passed(running, running.fetch(f"/{place}/{KEY}?{PARAMETER}", host=host))
            s3.put(BUCKET, "a//b//c.ts", DATA)
            running.served(running.fetch("/slashes/a//b//c.ts", host=host), key="a//b//c.ts")


# --- neighbours


#: Another application's, and some that are ours by name: in its own place they are its own affair.
THEIRS = {
    "S3_BUCKET": "uploads", "S3CMD_CONFIG": "/etc/s3cfg", "S3BucketURL": "http://theirs.example/b/",
    "S3SecretKey": "their-own", "S3Region": "r", "USP_S3_PATH": "/x", "USP_S3_GUARDED": "1", "S3FallbackURL": "x",
}  # fmt: skip
SHOW = """
def application(environ, start):
    found = sorted((name, value) for name, value in environ.items() if "S3" in name)
    start("200 OK", [("Content-Type", "text/plain")])
    return [repr(found).encode()]
"""
NEIGHBOURS = {
    "app": "WSGIScriptAlias /app ${ROOT}/htdocs/app/app.wsgi\n",
    "remote": "WSGIScriptAlias /remote ${ROOT}/htdocs/remote/app.wsgi process-group=other\n",
    "script": "ScriptAlias /script ${ROOT}/htdocs/script/env.cgi\n",
}
if not HAS_CGI:
    del NEIGHBOURS["script"]


@pytest.fixture(scope="module")
def neighbours(s3: EmbeddedS3) -> Iterator[Stage]:
    with stage(s3, "".join(NEIGHBOURS.values())) as stage_:
        for name in ("app", "remote"):
            stage_.write(f"{name}/app.wsgi", SHOW)
        lines = 'env | grep S3 | sort | sed "s/^/  /"'
        stage_.write("script/env.cgi", f"#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n{lines}\n", 0o755)
        yield stage_


def shown(reply: Reply) -> set[str]:
    text = reply.body.decode()
    assert reply.status == 200
    return {name for name, value in THEIRS.items() if f"'{name}', '{value}'" in text or f"  {name}={value}\n" in text}


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("how", ["SetEnv", "SetEnvIf", "Rewrite"])
def test_a_neighbour_keeps_its_htaccess(neighbours: Stage, how: str, name: str) -> None:
    directives = {"SetEnv": setenv, "SetEnvIf": setenvif, "Rewrite": rewrite}[how]
    neighbours.write(f"{name}/.htaccess", directives(THEIRS))
    assert shown(neighbours.fetch(f"/{name}")) == set(THEIRS)
    neighbours.write("page.shtml", include(f"/{name}") + include(f"/embedded/{KEY}") + include(f"/{name}"))
    # mod_setenvif of a directory does not run in subrequests.
    assert shown(neighbours.fetch("/page.shtml")) == (set() if how == "SetEnvIf" else set(THEIRS))
    neighbours.write("index/.htaccess", f"DirectoryIndex /{name}\n")
    assert shown(neighbours.fetch("/index/")) == (set() if how == "SetEnvIf" else set(THEIRS))
    (neighbours.httpd.root / "htdocs" / name / ".htaccess").unlink()


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("way", ["page", "page of pages", "page after page", "htaccess SetEnv", "htaccess SetEnvIf",
                                 "htaccess Rewrite", "index SetEnv", "fallback resource"])  # fmt: skip
def test_a_neighbour_gets_what_is_around_it(neighbours: Stage, way: str, name: str) -> None:
    shot = WAYS[way](neighbours, f"/{name}", THEIRS, "x")
    assert shown(neighbours.fetch(shot.target)) == set(THEIRS)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_neighbour_after_a_redirect(neighbours: Stage, name: str) -> None:
    """httpd itself puts REDIRECT_ before them."""
    shot = WAYS["error document"](neighbours, f"/{name}", THEIRS, "x")
    text = neighbours.fetch(shot.target).body.decode()
    for each, value in THEIRS.items():
        assert f"'REDIRECT_{each}', '{value}'" in text or f"  REDIRECT_{each}={value}\n" in text, each


def test_a_page_keeps_its_variables(neighbours: Stage) -> None:
    """Also around and after a bucket's object."""
    echo = "".join(f'{name}=<!--#echo encoding="none" var="{name}" -->;' for name in THEIRS)
    neighbours.write(
        "own.shtml", vars_of(THEIRS) + echo + include(f"/embedded/{KEY}") + include(f"/daemon/{KEY}") + echo
    )
    reply = neighbours.fetch("/own.shtml")
    neighbours.served(reply)
    for name, value in THEIRS.items():
        assert reply.body.count(f"{name}={value};".encode()) == 2, name
