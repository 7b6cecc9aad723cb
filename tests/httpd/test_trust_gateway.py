"""The gateway applies only the operator's settings: an attacker writes pages and .htaccess files around the buckets.

The trust boundary, and the test of each line (g: test_trust_gateway.py, p: test_trust_proxy.py, l: test_trust_leaks.py,
o: test_trust_operator.py). These are not the operator, so their settings have no effect:

    the page around a subrequest: `set var`, nested pages, `onerror`            g: test_around_a_request[page...]
    the same, variables of CGI (PATH_INFO, HTTP_RANGE), `exec cgi`              g: test_variables_of_cgi and below
    .htaccess around: SetEnv, SetEnvIf(Expr), BrowserMatch, PassEnv, [E=]       g: the same[htaccess...], test_pass_env
    a fast redirect: DirectoryIndex, FallbackResource, in a subrequest too      g: test_around_a_request[index...]
    an internal redirect: ErrorDocument, RewriteRule, Action, a type map        g: test_around_a_request
    Location of a CGI script, of a file as it is, of another WSGI application   g: test_around_a_request
    .htaccess of the script's directory or above, <If>, <Files> in it           g: test_htaccess_of/above_the_script
    control variables: USP_S3_PATH, REDIRECT_STATUS and others                  g: test_control_variables
    USP_S3_GUARDED                                           g: test_a_truncated_body_never_looks_complete
    a client: headers, query, Host                                              g, p: test_a_client_sets_nothing
    without usp_s3_module all but direct main requests                          g: test_without_the_module...
    .htaccess and mod_proxy: [P], SetHandler, settings within <If>, <Files>     p: test_htaccess_...
    rules (SetEnvIf, [E=]) and mod_proxy                                        p: test_htaccess_...[SetEnvIf, Rewrite]
    pages and redirects that lead to a ProxyPass                                p: test_around_a_request
    URLs that resemble the bucket's: user@host, a Unix socket, patterns        p: test_other_hosts
    a client of a forward proxy                                                 p: test_a_forward_proxy
    readers: printenv, CGI, Header %{...}e, reqenv() in ErrorDocument           l
    authors of objects: SSI in them                                             l: test_an_object_with_ssi

The operator's settings apply: sections, SetEnvIf and [E=] at server, virtual host and section level, PassEnv       o
Other applications keep their variables                                         o: test_a_neighbour...
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import pytest

from tests.faults.server import ScriptedS3, answer, close, first
from tests.httpd.conftest import BUCKET
from tests.httpd.server import Httpd, Reply, WithoutModule
from tests.httpd.test_truncation import TRACEBACK
from tests.httpd.trust import DATA, HAS_CGI, KEY, MISSING, NEEDS_MODULE, Scenario, keys, running_scenario
from tests.httpd.trust_attacks import (
    ATTACKS,
    DIRECTIVES,
    REMOTE,
    ROUTES,
    fill_in,
    rewrite,
    setenv,
    setenvif,
    within,
)
from tests.leaks import SECRET_KEY
from tests.s3 import EmbeddedS3

MOUNTS = ["/embedded", "/daemon"]


@contextmanager
def settings_in_httpds_environment() -> Iterator[None]:
    """Set a variable in httpd's own environment: PassEnv in an .htaccess file must not make it a bucket's setting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3PassQuery", "response-content-type")
        yield


@pytest.fixture(scope="module")
def with_module(s3: EmbeddedS3) -> Iterator[Scenario]:
    with settings_in_httpds_environment(), running_scenario(s3, "") as running:
        yield running


@pytest.fixture(scope="module")
def without_module(s3: EmbeddedS3) -> Iterator[Scenario]:
    with running_scenario(s3, "", WithoutModule) as running:
        yield running


@pytest.mark.parametrize("key", [KEY, MISSING])
@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(("route", "attack"), [*product(ROUTES, ATTACKS)])
def test_around_a_request(with_module: Scenario, route: str, attack: str, mount: str, key: str) -> None:
    """The object is served as the operator configured, as if the attacker had set nothing."""
    attack_request = ROUTES[route](with_module, mount, fill_in(ATTACKS[attack], with_module), key)
    reply = with_module.fetch(attack_request.target)
    if key == KEY:
        with_module.assert_served(reply, attack_request.status, attack_request.key or key)
    else:
        assert DATA not in reply.body
        with_module.assert_no_effect(attack_request.key or key)


@pytest.mark.parametrize("mount", MOUNTS)
def test_pass_env_around_a_request(with_module: Scenario, mount: str) -> None:
    folder = with_module.folder()
    target = f"{mount}/{KEY}?response-content-type=text/x"
    with_module.write(f"{folder}/.htaccess", f"PassEnv S3PassQuery\nDirectoryIndex {target}\n")
    with_module.write(f"{folder}/page.shtml", f'<!--#include virtual="{target}" -->')
    for path in (f"/{folder}/page.shtml", f"/{folder}/"):
        with_module.assert_served(with_module.fetch(path))


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(("route", "attack"), [*product(ROUTES, REMOTE)])
def test_around_a_request_without_the_module(without_module: Scenario, route: str, attack: str, mount: str) -> None:
    """The author of the settings is not known without the module: only direct requests of clients are served."""
    for key in (KEY, MISSING):
        attack_request = ROUTES[route](without_module, mount, fill_in(ATTACKS[attack], without_module), key)
        without_module.assert_rejected(without_module.fetch(attack_request.target))


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(
    "route", ["page", "index SetEnv", "fallback resource", "error document", "rewritten", "as it is"]
)
def test_without_the_module_one_line_says_what_to_install(s3: EmbeddedS3, route: str, mount: str) -> None:
    with running_scenario(s3, "", WithoutModule) as running:
        attack_request = ROUTES[route](running, mount, {}, KEY)
        reply = running.fetch(attack_request.target)
        running.assert_rejected(reply)
        assert route == "page" or reply.status == 500
        running.assert_logged(NEEDS_MODULE)
        lines = [line for line in running.httpd.errors() if "usp_s3_wsgi" in line]
        assert len(lines) == 1 and "apache-config" in lines[0], lines


#: Paths of the same object. mod_wsgi passes SCRIPT_NAME and PATH_INFO decoded, with several slashes merged to one.
DIRECT = [
    "/film/a.ts",
    "/film/a.ts?x=/y//z",
    "//film//a.ts",
    "/film/%61.ts",
    "/./film/x/../a.ts",
    "/f%c3%a9/a%20b+%2b.ts",
]


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("target", DIRECT)
def test_without_the_module_direct_requests_are_served(without_module: Scenario, target: str, mount: str) -> None:
    without_module.s3.put(BUCKET, "fé/a b++.ts", DATA)
    without_module.s3.put(BUCKET, "/film//a.ts", DATA)
    origin = without_module.httpd.url
    for url in (f"{mount}{target}", f"/{mount}{target}", f"{origin}{mount}{target}"):
        reply = without_module.fetch(url)
        # Dot segments are always rejected.
        assert (reply.status, DATA in reply.body) == ((400, False) if ".." in target else (200, True)), url
    reply = without_module.fetch(f"{mount}{target}", method="HEAD")
    assert reply.status == (400 if ".." in target else 200)


# --- .htaccess in the directory of the script


OWN_DIRECTORY: dict[str, Callable[[dict[str, str]], str]] = {
    **DIRECTIVES,
    "If": within("If true", setenv), "Files": within('Files "usp*"', setenv),
    "FilesMatch": within('FilesMatch "usp"', setenv), "If, SetEnvIf": within("If true", setenvif),
    "Files, Rewrite": within('Files "usp*"', rewrite), "If in Files": within('Files "usp*"', within("If true", setenv)),
    "Else": lambda variables: f"<If false>\n</If>\n<Else>\n{setenv(variables)}</Else>\n",
    "PassEnv": lambda variables: "PassEnv S3PassQuery\n", "UnsetEnv": lambda variables: "UnsetEnv S3Region S3Retries\n",
    "If, UnsetEnv": lambda variables: "<If true>\nUnsetEnv S3Region S3SecurityToken\n</If>\n",
}  # fmt: skip


def copied_script(s3: EmbeddedS3, mount: str, options: str = "") -> str:
    """A copy of the gateway's script in a directory with AllowOverride, for which the operator has settings as well."""
    return f"""
WSGIScriptAlias {mount} ${{ROOT}}/htdocs{mount}/usp_s3.wsgi {options}
<Directory ${{ROOT}}/htdocs{mount}>
  SetEnv S3Retries 1
</Directory>
<Location {mount}>
  SetEnv S3BucketURL http://BUCKET_HOST/{BUCKET}/
{keys(s3)}
</Location>
"""


@pytest.fixture(scope="module")
def copied(s3: EmbeddedS3) -> Iterator[Scenario]:
    config = "".join(
        copied_script(s3, f"/copied{number}{kind}", options)
        for number in range(len(OWN_DIRECTORY))
        for kind, options in (("e", ""), ("d", "process-group=s3 application-group=%{GLOBAL}"))
    )
    with settings_in_httpds_environment(), running_scenario(s3, config) as running:
        yield running


def copy_script(scenario: Scenario, folder: str) -> None:
    lines = scenario.httpd.gateway_lines()
    found = re.search(r'Define USP_S3_WSGI "([^"]+)"', lines)
    assert found
    script = Path(found[1])
    scenario.write(f"{folder}/usp_s3.wsgi", script.read_text())
    link = scenario.httpd.root / "htdocs" / folder / "own_packages.py"
    if not link.exists():
        link.symlink_to(script.with_name("own_packages.py"))


@pytest.mark.parametrize("mode", ["e", "d"])
@pytest.mark.parametrize("attack", ["second bucket", "key file", "role", "query", "the bucket itself"])
@pytest.mark.parametrize("directives", OWN_DIRECTORY)
def test_htaccess_of_the_script(copied: Scenario, directives: str, attack: str, mode: str) -> None:
    """The request is rejected, and the log names the file; or, if the file changes nothing, the object is served."""
    folder = f"copied{list(OWN_DIRECTORY).index(directives)}{mode}"
    copy_script(copied, folder)
    htaccess = copied.httpd.root / "htdocs" / folder / ".htaccess"
    htaccess.unlink(missing_ok=True)
    copied.assert_served(copied.fetch(f"/{folder}/{KEY}"))
    copied.write(f"{folder}/.htaccess", OWN_DIRECTORY[directives](fill_in(ATTACKS[attack], copied)))
    for key in (KEY, MISSING):
        reply = copied.fetch(f"/{folder}/{key}?response-content-type=text/x")
        if reply.status == 500:
            copied.assert_rejected(reply)
            copied.assert_logged(r"usp_s3_wsgi: .*(\.htaccess|RewriteRule|SetEnvIf)")
        else:
            assert (reply.status, DATA in reply.body) == ((200, True) if key == KEY else (404, False))
            copied.assert_no_effect(key)


@pytest.mark.parametrize("mode", ["e", "d"])
def test_htaccess_above_the_script(copied: Scenario, mode: str) -> None:
    """It applies to all folders below. The .htaccess file of a page's folder does not apply to the script."""
    folder = f"copied0{mode}"
    copy_script(copied, folder)
    copied.assert_served(copied.fetch(f"/{folder}/{KEY}"))
    above = copied.httpd.root / "htdocs" / ".htaccess"
    try:
        for directives in (setenv, rewrite, within("If true", setenv)):
            copied.write(".htaccess", directives(fill_in(ATTACKS["second bucket"], copied)))
            reply = copied.fetch(f"/{folder}/missing.ts")
            assert reply.status == 500
            copied.assert_rejected(reply)
            copied.assert_logged(r"usp_s3_wsgi: .*(\.htaccess|RewriteRule)")
    finally:
        above.unlink(missing_ok=True)
    for route in ("htaccess SetEnv", "htaccess Rewrite", "rewritten", "index SetEnv", "error document"):
        attack_request = ROUTES[route](copied, f"/{folder}", fill_in(ATTACKS["second bucket"], copied), KEY)
        copied.assert_served(copied.fetch(attack_request.target), attack_request.status)


def test_htaccess_of_the_script_may_set_other_variables(copied: Scenario) -> None:
    copy_script(copied, "copied0e")
    copied.write("copied0e/.htaccess", "SetEnv S3CMD_CONFIG /etc/s3cfg\nSetEnv no-gzip 1\nSetEnvIf Host . x=1\n")
    copied.assert_served(copied.fetch(f"/copied0e/{KEY}"))
    (copied.httpd.root / "htdocs" / "copied0e" / ".htaccess").unlink()


# --- variables that are not settings


AROUND = ["page", "htaccess SetEnv", "htaccess Rewrite", "index SetEnv", "fallback resource"]
CONTROL = {
    "USP_S3_PATH": "{mount}/film//a.ts", "REDIRECT_STATUS": "404", "REDIRECT_URL": "/x", "SERVER_PROTOCOL": "HTTP/1.0",
    "REQUEST_URI": "{mount}/film//a.ts", "REQUEST_METHOD": "HEAD", "PATH_INFO": "/film//a.ts", "SCRIPT_NAME": "/x",
    "QUERY_STRING": "versionId=1", "mod_wsgi.process_group": "x", "mod_wsgi.application_group": "x",
    "mod_wsgi.path_info": "/x", "wsgi.url_scheme": "x", "HTTPS": "on",
}  # fmt: skip


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("name", CONTROL)
@pytest.mark.parametrize("route", AROUND)
def test_control_variables(with_module: Scenario, route: str, name: str, mount: str) -> None:
    """None of them changes the key, the status or the bytes."""
    with_module.s3.put(BUCKET, "film//a.ts", b"another object")
    attack_request = ROUTES[route](with_module, mount, {name: CONTROL[name].format(mount=mount)}, KEY)
    with_module.assert_served(with_module.fetch(attack_request.target))


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("route", AROUND)
def test_variables_of_cgi(with_module: Scenario, route: str, mount: str) -> None:
    """httpd sets PATH_INFO and HTTP_* only if the request has them: variables of the page must not replace them.

    httpd has checked access rules against the path of the request: another key must not be served.
    """
    for variables in ({"PATH_INFO": f"/{KEY}"}, {"PATH_INFO": f"/{KEY}", "USP_S3_PATH": f"{mount}/{KEY}"}):
        attack_request = ROUTES[route](with_module, mount, variables, "")
        # The mount itself, without a slash at its end.
        for path in (with_module.httpd.root / "htdocs" / attack_request.target.split("/")[1]).iterdir():
            path.write_text(re.sub(rf'{mount}/(["\n])', rf"{mount}\1", path.read_text()))
        reply = with_module.fetch(attack_request.target)
        assert DATA not in reply.body and with_module.bucket.received == b""


@pytest.mark.skipif(not HAS_CGI, reason="this httpd has no mod_cgi")
@pytest.mark.parametrize("mount", MOUNTS)
def test_exec_cgi_does_not_choose_the_key(with_module: Scenario, mount: str) -> None:
    """mod_cgi gives such a subrequest the path after the page in the client's URL, unchecked by access rules."""
    folder = with_module.folder()
    with_module.write(f"{folder}/.htaccess", "AcceptPathInfo On\n")
    with_module.write(f"{folder}/page.shtml", f'<!--#exec cgi="{mount}" -->')
    reply = with_module.fetch(f"/{folder}/page.shtml/{KEY}")
    assert DATA not in reply.body and with_module.bucket.received == b""


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("route", ["page", "htaccess SetEnv", "index SetEnv"])
def test_a_page_sets_no_range_and_no_precondition(with_module: Scenario, route: str, mount: str) -> None:
    for name, value in (("HTTP_RANGE", "bytes=0-3"), ("HTTP_IF_NONE_MATCH", "*"), ("HTTP_IF_MATCH", "x")):
        attack_request = ROUTES[route](with_module, mount, {name: value}, KEY)
        with_module.assert_served(with_module.fetch(attack_request.target))
        assert not re.search(rb"(?i)^(range|if-)", with_module.bucket.received, re.MULTILINE)


# --- truncated bodies


PART, LENGTH = b"p" * 100_000, 300_000
TRUNCATED_RESPONSE = first(answer(200, PART, length=LENGTH), close)


def truncation_config(url: str) -> str:
    parts = ["WSGIDaemonProcess s4 python-home=${USP_S3_PYTHON_HOME}", "KeepAliveTimeout 300"]
    for mount, options in (("/cut-e", ""), ("/cut-d", "process-group=s4 application-group=%{GLOBAL}")):
        parts.append(f"""
WSGIScriptAlias {mount} ${{USP_S3_WSGI}} {options}
<Location {mount}>
  SetEnv S3BucketURL {url}/bucket/
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region r
  SetEnv S3Retries 0
  SetEnvIf User-Agent . USP_S3_GUARDED=1
  SetEnv USP_S3_GUARDED 1
</Location>""")
    return "\n".join(parts)


@pytest.mark.parametrize("kind", [Httpd, WithoutModule])
@pytest.mark.parametrize("mount", ["/cut-e", "/cut-d"])
@pytest.mark.parametrize("route", ["direct", "page", "index SetEnv"])
def test_a_truncated_body_never_looks_complete(s3: EmbeddedS3, route: str, mount: str, kind: type[Httpd]) -> None:
    """Although USP_S3_GUARDED says that httpd counts the body: the client detects it, and no other response follows."""
    with ScriptedS3(then=TRUNCATED_RESPONSE) as faulty:
        with running_scenario(s3, truncation_config(faulty.url), kind) as running:
            running.httpd.expect_error(TRACEBACK)
            if route == "direct":
                target = f"{mount}/film.mp4"
            else:
                target = ROUTES[route](running, mount, {"USP_S3_GUARDED": "1"}, "film.mp4").target
            request = f"GET {target} HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\n\r\n".encode()
            received = b""
            with socket.create_connection(("127.0.0.1", running.httpd.port), timeout=15) as client:
                client.sendall(request + f"GET {mount} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                with suppress(ConnectionResetError):
                    while data := client.recv(1 << 20):
                        received += data
        _, _, rest = received.partition(b"\r\n\r\n")
        if PART[:1000] in rest:
            assert received.count(b"HTTP/1.1 ") == 1 and b"0\r\n\r\n" not in rest[-7:]


# --- clients


@pytest.mark.parametrize("which", ["with_module", "without_module"])
@pytest.mark.parametrize("mount", MOUNTS)
def test_a_client_sets_nothing(request: pytest.FixtureRequest, which: str, mount: str) -> None:
    running: Scenario = request.getfixturevalue(which)
    for attack in ATTACKS.values():
        for name, value in fill_in(attack, running).items():
            replies: list[Reply] = []
            for header in (name, name.replace("_", "-"), f"X-{name}", f"HTTP-{name}", f"Redirect-{name}"):
                replies.append(running.fetch(f"{mount}/{KEY}", **{header: value}))
                running.assert_served(replies[-1])
            for target in (f"{mount}/{KEY}?{name}={value}", f"{mount}/{KEY}?response-content-type=x"):
                running.assert_served(running.fetch(target))
    for header in ("Proxy", "X-Forwarded-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL", "X-Script-Name",
                   "X-HTTP-Method-Override", "x-amz-security-token", "Authorization", "SERVER-PROTOCOL"):  # fmt: skip
        running.assert_served(running.fetch(f"{mount}/{KEY}", **{header: f"http://{running.attacker.host}/"}))
    running.assert_served(running.fetch(f"{mount}/{KEY}", host=running.attacker.host))
    running.assert_served(running.fetch(f"http://{running.attacker.host}{mount}/{KEY}"))
