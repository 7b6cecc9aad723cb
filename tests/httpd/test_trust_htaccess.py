"""With .htaccess files, handlers and filters an author gets no signature, reads no secret and breaks nothing."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from tests.httpd.authors import NEGOTIATION, SCRIPTS, fallback_to, location_section, mount, own_script, running, write
from tests.httpd.conftest import PAGES
from tests.httpd.machine import compile_module
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd, WithoutModule
from tests.httpd.ways import keys, section

INCLUDES = "Options +Includes\nSetOutputFilter INCLUDES\n"

# --- signatures (docs: RewriteRule [P] and SetHandler "proxy:..." of an .htaccess file are rejected)

RULE = "RewriteEngine On\n@MORE@\nRewriteRule ^ @URL@/secret.ts [P]\n"
SIGNING = {
    # these need no configuration of the operator:
    "plain/force-type": 'ForceType "proxy:@URL@/secret"\n',
    "plain/force-type-in-if": '<If "true">\nForceType "proxy:@URL@/secret"\n</If>\n',
    "plain/rule-type": "RewriteEngine On\nRewriteRule ^ - [T=proxy:@URL@/secret]\n",
    # the operator has a directive of mod_rewrite in a <Location> for the folder, as any_key.conf has:
    "ruled/rule-in-if": f'<If "true">\n{RULE}</If>\n'.replace("@MORE@", ""),
    "ruled/inherit": RULE.replace("@MORE@", "RewriteOptions Inherit"),
    "ruled/inherit-down": RULE.replace("@MORE@", "RewriteOptions InheritDown"),
    "ruled/inherit-handler": "RewriteEngine On\nRewriteOptions Inherit\nRewriteRule ^ - [H=proxy:@URL@/secret]\n",
    # the operator has "SetHandler none" for the folder:
    "none/add-handler": 'AddHandler "proxy:@URL@/secret" .ts\n',
}


@pytest.mark.parametrize("way", SIGNING)
def test_an_htaccess_file_gets_no_signature(bucket: Recorder, localhost_names: Path, way: str) -> None:
    url = bucket.url("films", "/bucket")
    around = """
<Location /ruled>
  RewriteEngine On
  RewriteRule ^/nothing$ - [F]
</Location>
<Location /none>
  SetHandler none
</Location>
"""
    with running(localhost_names, around, section(url, *keys("KEY"))) as httpd:
        write(httpd, way, {".htaccess": SIGNING[way].replace("@URL@", url), "a.ts": "the author's"})
        status = httpd.fetch(f"/{way}/a.ts").status
    assert bucket.signers() == []
    assert status == 500


def test_the_decision_about_another_request_does_not_apply(bucket: Recorder, localhost_names: Path) -> None:
    """MultiViews finds a variant, a WSGI script; the request that takes over its configuration is then proxied."""
    url = bucket.url("films", "/bucket")
    htaccess = (
        "Options +MultiViews\nAddHandler wsgi-script .wsgi\nAddType text/plain .wsgi\nSetEnv S3foo 1\n"
        "RewriteEngine On\n"
        f"RewriteCond %{{IS_SUBREQ}} =false\nRewriteRule ^ {url}/secret.ts [P]\n"
    )
    with running(
        localhost_names, NEGOTIATION, section(url, *keys("KEY")), author={".htaccess": htaccess, "foo.wsgi": ""}
    ) as httpd:
        status = httpd.fetch("/author/foo").status
    assert bucket.signers() == []
    assert status == 500


def test_no_signature_reaches_a_socket_of_an_htaccess_author(bucket: Recorder, localhost_names: Path) -> None:
    """S3BucketURL applies to the folder (a gateway at / is enough), and the URL after the socket is the bucket's."""
    url = bucket.url("gateway", "/bucket/")
    around = "\n".join([*keys("KEY"), f"SetEnv S3BucketURL {url}"])
    received: list[bytes] = []
    path = Path(tempfile.mkdtemp()) / "own.sock"
    path.parent.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o777)
        listener.listen()
        listener.settimeout(20)

        def accept_one() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                received.append(connection.recv(8192))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")

        thread = Thread(target=accept_one)
        thread.start()
        htaccess = f'ForceType "proxy:unix:{path}|{url}x"\n'
        with running(
            localhost_names, f"<Location />\n{around}\n</Location>", author={".htaccess": htaccess, "a.ts": ""}
        ) as httpd:
            httpd.fetch("/author/a.ts")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        thread.join()
    assert b"Signature=" not in b"".join(received)


# --- settings of the gateway, with usp_s3_module


def test_with_the_module_a_mount_without_settings_ignores_an_authors_settings(
    bucket: Recorder, other: Recorder, localhost_names: Path
) -> None:
    """Else the content of a file would be sent: the settings and PATH_INFO of a fast redirect's directory."""
    htaccess = (
        f"SetEnv S3BucketURL {other.url('evil', '/evil/')}\nSetEnv S3AccessKeyFile /etc/hostname\n"
        "SetEnv S3SecretKey x\n"
        "SetEnv S3Region r\nSetEnv S3UseHeaders on\nSetEnv PATH_INFO /pages/x\nFallbackResource /media\n"
    )
    parts = ["Alias /media/pages ${ROOT}/htdocs/author", mount("/media/films", bucket.url("films", "/bucket/"))]
    parts.append("WSGIScriptAlias /media ${USP_S3_WSGI}")
    with running(localhost_names, *parts, author={".htaccess": htaccess}) as httpd:
        httpd.fetch("/media/pages/x")
    assert other.signers() == []


@contextmanager
def scripts(preload: Path, way: str, bucket: Recorder, htaccess: str) -> Iterator[Httpd]:
    own = location_section("/own", bucket.url("own", "/bucket/"), "OWN")
    with running(preload, PAGES, SCRIPTS[way], own) as httpd:
        (httpd.root / "scripts").mkdir()
        (httpd.root / "scripts" / "h.wsgi").write_text(f"{own_script(httpd)}\nhandle_request = application\n")
        write(httpd, "own", {".htaccess": htaccess, "m.wsgi": own_script(httpd)})
        write(httpd, "page", {"p": '<!--#include virtual="/own/m.wsgi/a.ts" -->'})
        yield httpd


@pytest.mark.parametrize("way", SCRIPTS)
def test_with_the_module_an_htaccess_file_sets_nothing_for_other_script_handlers(
    bucket: Recorder, other: Recorder, localhost_names: Path, way: str
) -> None:
    with scripts(localhost_names, way, bucket, fallback_to(other)) as httpd:
        httpd.fetch("/own/m.wsgi/denied.ts")
    assert other.signers() == []


@pytest.mark.parametrize("way", SCRIPTS)
def test_with_the_module_other_script_handlers_serve_subrequests(
    bucket: Recorder, localhost_names: Path, way: str
) -> None:
    """Handlers with mod_wsgi's own names do; another name (WSGIHandlerScript) is not known to be mod_wsgi's."""
    with scripts(localhost_names, way, bucket, "") as httpd:
        body = httpd.fetch("/page/p").body
        if way == "WSGIHandlerScript":
            httpd.wait_for_error("it is not mod_wsgi's wsgi-script that handles it")
    assert bucket.signers() == ([] if way == "WSGIHandlerScript" else ["OWN/r"])
    assert (body == b"/bucket/a.ts") == (way != "WSGIHandlerScript")


# --- the gateway without usp_s3_module

FAST_REDIRECTS = {
    # httpd decodes once; if the check decoded twice, the author's folder "%6dedia" would be the mount
    "decoded-twice": ("%6dedia", "FallbackResource /media/denied%252Fy\n", "/%256dedia/denied%252Fy"),
    # httpd sets PATH_INFO only if the request has one
    "path-info": ("nested", "SetEnv PATH_INFO /pages/denied\nFallbackResource /media\n", "/media/pages/denied"),
}


@pytest.mark.parametrize("kind", [WithoutModule, Httpd])
@pytest.mark.parametrize("way", FAST_REDIRECTS)
def test_a_fast_redirect_is_not_direct(
    bucket: Recorder, other: Recorder, localhost_names: Path, way: str, kind: type[Httpd]
) -> None:
    folder, lines, target = FAST_REDIRECTS[way]
    parts = ["Alias /media/pages ${ROOT}/htdocs/nested", mount("/media", bucket.url("films", "/bucket/"))]
    with running(localhost_names, *parts, kind=kind) as httpd:
        write(httpd, folder, {".htaccess": fallback_to(other) + lines})
        status = httpd.fetch(target).status
    # 404: there is no such object. 500: without usp_s3_module the author of the settings is not known.
    assert status == (500 if kind is WithoutModule else 404)
    assert other.signers() == []


# --- keys that authors read


@pytest.mark.parametrize("target", ["gateway", "films"])
def test_an_htaccess_file_reads_no_keys_by_a_lookahead(bucket: Recorder, localhost_names: Path, target: str) -> None:
    """mod_rewrite's %{LA-U:...} makes a subrequest for the URL and reads the environment after its fixup phase."""
    url = bucket.url("films", "/bucket")
    htaccess = (
        f"RewriteEngine On\nRewriteRule ^leak$ /{target}/x\nRewriteCond %{{LA-U:ENV:S3SecretKey}} (.+)\n"
        f"RewriteRule ^/{target}/x /author/a.ts [E=LEAK:%1,L]\nHeader set X-Leak %{{REDIRECT_LEAK}}e\n"
    )
    parts = [
        mount("/gateway", bucket.url("gateway", "/bucket/")),
        f"ProxyPass /films {url}",
        section(url, *keys("KEY")),
    ]
    with running(localhost_names, *parts, author={".htaccess": htaccess, "a.ts": ""}) as httpd:
        reply = httpd.fetch("/author/leak")
    assert "a-secret" not in str(reply.headers)


def test_an_error_page_sees_no_keys(bucket: Recorder, localhost_names: Path) -> None:
    """Any client can cause the error, with a Content-Length that is larger than LimitRequestBody."""
    parts = [PAGES, mount("/media", bucket.url("films", "/bucket/")), "ErrorDocument 413 /page/p"]
    with running(localhost_names, *parts, page={"p": "<!--#printenv -->"}) as httpd:
        reply = httpd.fetch("/media/a.ts", content_length="2000000000")
    assert reply.status == 413
    assert b"a-secret" not in reply.body


# --- settings that rules compute: unset by an author, or lost


@pytest.mark.parametrize(
    "line", ["SetEnvIf Request_URI ^ !S3Region", "RewriteEngine On\nRewriteRule ^ - [E=!S3Region]"]
)
def test_an_htaccess_file_does_not_unset_a_computed_setting(bucket: Recorder, localhost_names: Path, line: str) -> None:
    lines = "\n".join(
        [*keys("OWN", None), f"SetEnv S3BucketURL {bucket.url('own', '/bucket/')}", "SetEnv S3UseHeaders on"]
    )
    parts = (
        "SetEnvIf Request_URI ^ S3Region=r\nWSGIScriptAlias /own ${ROOT}/htdocs/own/m.wsgi\n"
        f"<Location /own>\n{lines}\n</Location>"
    )
    with running(localhost_names, parts) as httpd:
        write(httpd, "own", {".htaccess": f"{line}\n", "m.wsgi": own_script(httpd)})
        httpd.fetch("/own/a.ts")
    assert "OWN" not in bucket.signers()  # Signature v2


def test_a_computed_setting_applies_after_a_redirect_in_a_subrequest(bucket: Recorder, localhost_names: Path) -> None:
    """SetEnvIf with a plain word sets the string of the configuration itself: the page and its subrequest share it."""
    lines = "\n".join(
        [*keys("OWN", None), f"SetEnv S3BucketURL {bucket.url('own', '/bucket/')}", "SetEnv S3UseHeaders on"]
    )
    parts = "SetEnvIf Request_Method GET S3Region=r\n"
    parts += f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\n{lines}\n</Location>"
    moved = {".htaccess": "RewriteEngine On\nRewriteRule ^(.*)$ /media/$1\n"}
    with running(
        localhost_names, PAGES, parts, moved=moved, page={"p": '<!--#include virtual="/moved/a.ts" -->'}
    ) as httpd:
        assert httpd.fetch("/page/p").body == b"/bucket/a.ts"
    assert bucket.signers() == ["OWN/r"]


# --- configurations that worked in 1.5.0, with an unrelated .htaccess file

UNRELATED = {
    "rules": "RewriteEngine On\nRewriteRule ^old$ new [R]\n",
    "unset": "UnsetEnv S3Region\n",
}


@pytest.mark.parametrize("direction", ["reverse"])
def test_an_origin_in_a_folder_with_an_htaccess_file_is_signed(
    bucket: Recorder, localhost_names: Path, tmp_path: Path, direction: str
) -> None:
    url = bucket.url("films", "/bucket")
    module = compile_module(Path(__file__).with_name("origin.c"), tmp_path)
    parts = [f'LoadModule origin_module "{module}"\n<Location /origin>\nSetHandler origin\n</Location>']
    with running(
        localhost_names, *parts, section(url, *keys("KEY")), origin={".htaccess": UNRELATED["rules"]}
    ) as httpd:
        reply = httpd.fetch("/origin/page", x_url=f"{url}/a.ts", x_direction=direction)
    assert reply.body == b"/bucket/a.ts|0 200"
    assert bucket.signers() == ["KEY/r"]


@pytest.mark.parametrize("path", ["of-the-page", "above"])
def test_a_rule_of_the_operators_directory_is_signed_beside_htaccess_files(
    bucket: Recorder, localhost_names: Path, path: str
) -> None:
    """An .htaccess file for the page around a subrequest does not apply to it."""
    url = bucket.url("films", "/bucket")
    rule = f"<Directory ${{ROOT}}/htdocs/films>\nRewriteEngine On\nRewriteRule ([^/]+)$ {url}/$1 [P]\n</Directory>"
    with running(localhost_names, rule, section(url, *keys("KEY")), films={}) as httpd:
        if path == "of-the-page":
            page = {".htaccess": INCLUDES + UNRELATED["rules"], "p.html": '<!--#include virtual="/films/a.ts" -->'}
            write(httpd, "author", page)
            reply = httpd.fetch("/author/p.html")
        else:
            write(httpd, ".", {".htaccess": UNRELATED["rules"]})
            reply = httpd.fetch("/films/a.ts")
            # It is not known whose rule it was, because a rule may be inherited.
            httpd.wait_for_error("the .htaccess file of .* may have routed this request to mod_proxy")
    assert (reply.body == b"/bucket/a.ts") == (path == "of-the-page")
    assert bucket.signers() == (["KEY/r"] if path == "of-the-page" else [])


@pytest.mark.parametrize(
    "htaccess", ["", "AddType text/plain .txt\n", UNRELATED["rules"]], ids=["none", "mime", "rules"]
)
def test_a_handler_of_the_operators_directory_is_signed_without_such_htaccess_files(
    bucket: Recorder, localhost_names: Path, htaccess: str
) -> None:
    """AddHandler may come from the .htaccess file of the folder, if that file has directives of mod_mime or rules."""
    url = bucket.url("films", "/bucket")
    handler = f'<Directory ${{ROOT}}/htdocs/films>\nAddHandler "proxy:{url}/" .ts\n</Directory>'
    files = {"a.ts": "", **({".htaccess": htaccess} if htaccess else {})}
    with running(localhost_names, handler, section(url, *keys("KEY")), films=files) as httpd:
        assert httpd.fetch("/films/a.ts").status == (500 if htaccess else 200)
        if htaccess:
            httpd.wait_for_error("the .htaccess file of .* may have routed this request to mod_proxy")
    assert bucket.signers() == ([] if htaccess else ["KEY/r"])


def test_a_page_around_a_proxypass_may_unset_variables(bucket: Recorder, localhost_names: Path) -> None:
    url = bucket.url("films", "/bucket")
    page = {".htaccess": INCLUDES + UNRELATED["unset"], "p.html": '<!--#include virtual="/films/a.ts" -->'}
    with running(localhost_names, f"ProxyPass /films {url}", section(url, *keys("KEY")), author=page) as httpd:
        assert httpd.fetch("/author/p.html").body == b"/bucket/a.ts"
    assert bucket.signers() == ["KEY/r"]


def test_rules_of_another_virtual_hosts_section_reject_nothing(bucket: Recorder, localhost_names: Path) -> None:
    url = bucket.url("films", "/bucket")
    hosts = [
        f"<VirtualHost *>\nProxyPass /films {url}\n{section(url, *keys('KEY'))}\n</VirtualHost>",
        f"<VirtualHost *>\nServerName other\n"
        f"{section(url, *keys('KEY'), 'SetEnvIf Host x S3Expires=7')}\n</VirtualHost>",
    ]
    with running(localhost_names, *hosts) as httpd:
        assert httpd.fetch("/films/a.ts").status == 200
    assert bucket.signers() == ["KEY/r"]


# --- crashes


FILTERS = {
    "USP_S3_RESPONSE": "SetOutputFilter USP_S3_RESPONSE\n",
    "USP_S3_GUARD": "SetOutputFilter USP_S3_GUARD\n",
    "USP_S3_RESPONSE_HEADER": "SetInputFilter USP_S3_RESPONSE_HEADER\nRewriteEngine On\nRewriteRule ^ @URL@/x [P]\n",
}


@pytest.mark.parametrize("name", FILTERS)
def test_an_htaccess_file_with_this_packages_filters_crashes_no_child(
    other: Recorder, localhost_names: Path, name: str
) -> None:
    """A crash (SIGSEGV) would end the downloads of all other clients of the child."""
    htaccess = FILTERS[name].replace("@URL@", other.url("own", "/own"))
    with running(localhost_names, author={".htaccess": htaccess, "a.ts": "a file"}) as httpd:
        try:
            status = httpd.fetch("/author/a.ts").status
        except ConnectionError as error:
            status = repr(error)  # type: ignore[assignment]
    assert status in {200, 500}


# --- other requests are not affected


def test_another_backend_is_not_affected(other: Recorder, localhost_names: Path) -> None:
    """An author's own backend, whose application has a variable with the name of a setting."""
    htaccess = f"UnsetEnv S3Region\nRewriteEngine On\nRewriteRule ^ {other.url('own', '/own')}/x [P]\n"
    with running(localhost_names, author={".htaccess": htaccess}) as httpd:
        assert httpd.fetch("/author/x").body == b"/own/x"
    assert other.signers() == ["unsigned"]


def test_another_backend_in_a_page_that_unsets_a_variable_is_not_affected(
    other: Recorder, localhost_names: Path
) -> None:
    page = {".htaccess": INCLUDES + UNRELATED["unset"], "p.html": '<!--#include virtual="/app/x" -->'}
    with running(localhost_names, f"ProxyPass /app {other.url('app', '/other')}", author=page) as httpd:
        assert httpd.fetch("/author/p.html").body == b"/other/x"
    assert other.signers() == ["unsigned"]
