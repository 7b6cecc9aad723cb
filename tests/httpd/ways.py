"""The ways by which mod_proxy is led to a URL, and what the tests of all of them have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.httpd.conftest import PAGES
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd, Reply

_BALANCER = '<Proxy "balancer://@NAME@">\nBalancerMember @URL@\n</Proxy>\n'
#: /NAME/a.ts becomes URL/a.ts; what is around it goes into the section that leads there, else into a <Location>.
PASSES = {
    "pass": "ProxyPass /@NAME@ @URL@",
    "pass-slash": "ProxyPass /@NAME@/ @URL@/",
    "pass-nocanon": "ProxyPass /@NAME@ @URL@ nocanon",
    "pass-encoded": "ProxyPass /@NAME@ @URL@ mapping=encoded",
    "pass-location": "<Location /@NAME@>\nProxyPass @URL@\n@AROUND@\n</Location>",
    "balancer": f"{_BALANCER}ProxyPass /@NAME@ balancer://@NAME@",
    "balancer-location": f"{_BALANCER}<Location /@NAME@>\nProxyPass balancer://@NAME@\n@AROUND@\n</Location>",
}
MATCHES = {
    "match": "ProxyPassMatch ^/@NAME@/(.*)$ @URL@/$1",
    "match-location": '<LocationMatch "^/@NAME@/(.*)$">\nProxyPassMatch @URL@/$1\n@AROUND@\n</LocationMatch>',
}
_RULE = "RewriteEngine On\n@AROUND@\nRewriteRule ^.*?([^/]+)$ @URL@/$1 [P]"
RULES = {
    "rewrite": "RewriteEngine On\nRewriteRule ^/@NAME@/(.*)$ @URL@/$1 [P]",
    "rewrite-balancer": f"{_BALANCER}RewriteEngine On\nRewriteRule ^/@NAME@/(.*)$ balancer://@NAME@/$1 [P]",
    "rewrite-location": f"<Location /@NAME@>\n{_RULE}\n</Location>",
    "rewrite-directory": f"<Directory ${{ROOT}}/htdocs/@NAME@>\n{_RULE}\n</Directory>",
}
_HANDLER = 'SetHandler "proxy:@URL@"\n@AROUND@'
#: The file's whole path is added to the URL.
HANDLERS = {
    "handler-location": f"<Location /@NAME@>\n{_HANDLER}\n</Location>",
    "handler-directory": f"<Directory ${{ROOT}}/htdocs/@NAME@>\n{_HANDLER}\n</Directory>",
    "handler-files": f'<Directory ${{ROOT}}/htdocs/@NAME@>\n<Files "*.ts">\n{_HANDLER}\n</Files>\n</Directory>',
}
WAYS = PASSES | MATCHES | RULES | HANDLERS
#: Main requests, and parts of a page.
FORMS = ("main", "part")
FILES = ("a.ts", "denied.ts")


def led(way: str, name: str, url: str, *around: str) -> str:
    """The configuration in which /NAME/ leads to the URL (without a slash at its end)."""
    text, inner = WAYS[way], "\n".join(around)
    if inner and "@AROUND@" not in text:
        mount = "/@NAME@/" if way == "pass-slash" else "/@NAME@"
        text += f"\n<Location {mount}>\n@AROUND@\n</Location>"
    return text.replace("@NAME@", name).replace("@URL@", url).replace("@AROUND@", inner)


def keys(access_key: str, region: str | None = "r", *more: str) -> list[str]:
    """The lines that say how to sign."""
    lines = [f"SetEnv S3AccessKey {access_key}", "SetEnv S3SecretKey a-secret", *more]
    return [*lines, f"SetEnv S3Region {region}", "SetEnv S3UseHeaders on"] if region else lines


def section(url: str, *lines: str) -> str:
    """The ``<Proxy>`` section of what is below a URL."""
    inner = "\n".join(lines)
    return f'<Proxy "{url}/">\n{inner}\n</Proxy>'


@contextmanager
def serving(preload: Path, *parts: str, names: Sequence[str] = (), told: str = "") -> Iterator[Httpd]:
    """An httpd with a folder and a page for each name; every line in its error log must have been expected.

    ``told``: a pattern of configtest's lines, where something is wrong on purpose; nothing else may be told.
    """
    with Httpd("\n".join([PAGES, *parts]), preload=preload) as server:
        assert_told(server, told)
        for name in names:
            folder = server.root / "htdocs" / name
            folder.mkdir()
            for file in FILES:
                (folder / file).write_text("a file of this server")
        (server.root / "htdocs" / "page").mkdir()
        for name in names:
            (server.root / "htdocs" / "page" / name).write_text(f'<!--#include virtual="/{name}/a.ts" -->')
        yield server
    assert "\n".join(server.unexpected) == ""


def assert_told(httpd: Httpd, pattern: str) -> None:
    """See that configtest has told what is wrong on purpose, and nothing else."""
    lines = [line for line in httpd.errors() if "usp_s3_wsgi: " in line]
    assert bool(lines) == bool(pattern) and all(re.search(pattern, line) for line in lines), lines
    if pattern:
        httpd.expect_error(pattern)


def ask(httpd: Httpd, name: str, form: str = "main", file: str = "a.ts") -> Reply:
    """Ask for a file below /NAME/, or for the page that includes its a.ts."""
    return httpd.fetch(f"/{name}/{file}" if form == "main" else f"/page/{name}")


def asked_path(httpd: Httpd, way: str, name: str, base: str = "", file: str = "a.ts") -> str:
    """The path that the URL has then; ``base``: that of the URL which the way leads to."""
    return f"{base}{httpd.root}/htdocs/{name}/{file}" if way in HANDLERS else f"{base}/{file}"


def lines_of(httpd: Httpd) -> list[str]:
    """The lines that this project has written, which are expected from now on."""
    httpd.expect_error("usp_s3_wsgi: |unable to include")
    return [line for line in httpd.errors() if "usp_s3_wsgi: " in line]


def assert_refused(httpd: Httpd, name: str, form: str, reason: str = "") -> None:
    """Ask, and see that it is refused with one line; that nothing was sent is for the servers to tell."""
    before = len(lines_of(httpd))
    reply = ask(httpd, name, form)
    assert (reply.status == 500) if form == "main" else reply.body.startswith(b"[an error occurred"), reply
    (line,) = lines_of(httpd)[before:]
    assert re.search(reason, line), line


def assert_passed(httpd: Httpd, other: Recorder, way: str, name: str, form: str = "main", base: str = "/other") -> None:
    """Ask, and see that the other backend is asked and answers as if we were not there."""
    reply = ask(httpd, name, form)
    assert (reply.status, reply.body.decode()) == (200, asked_path(httpd, way, name, base))
    assert other.signers() == ["unsigned"]


def assert_signed(
    httpd: Httpd, bucket: Recorder, way: str, name: str, form: str = "main", *, signer: str = "KEY/r"
) -> None:
    """Ask, and see that the bucket is asked by the right key and in the right region."""
    reply = ask(httpd, name, form)
    assert (reply.status, reply.body.decode()) == (200, asked_path(httpd, way, name, "/bucket"))
    assert bucket.signers() == [signer]
