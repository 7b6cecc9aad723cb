"""The directives that make mod_proxy forward to a URL (the "ways"), and helpers of the tests that try all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.httpd.conftest import PAGES
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd, Reply

_BALANCER = '<Proxy "balancer://@NAME@">\nBalancerMember @URL@\n</Proxy>\n'
#: /NAME/a.ts is forwarded to URL/a.ts. @AROUND@: further lines in the way's own section; else in a <Location>.
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
#: The handlers append the whole path of the file to the URL.
HANDLERS = {
    "handler-location": f"<Location /@NAME@>\n{_HANDLER}\n</Location>",
    "handler-directory": f"<Directory ${{ROOT}}/htdocs/@NAME@>\n{_HANDLER}\n</Directory>",
    "handler-files": f'<Directory ${{ROOT}}/htdocs/@NAME@>\n<Files "*.ts">\n{_HANDLER}\n</Files>\n</Directory>',
}
WAYS = PASSES | MATCHES | RULES | HANDLERS
#: Main requests, and subrequests of a page.
FORMS = ("main", "part")
FILES = ("a.ts", "denied.ts")


def led(way: str, name: str, url: str, *around: str) -> str:
    """The configuration that forwards /NAME/ to the URL (without a slash at its end); ``around``: further lines."""
    text, inner = WAYS[way], "\n".join(around)
    if inner and "@AROUND@" not in text:
        mount = "/@NAME@/" if way == "pass-slash" else "/@NAME@"
        text += f"\n<Location {mount}>\n@AROUND@\n</Location>"
    return text.replace("@NAME@", name).replace("@URL@", url).replace("@AROUND@", inner)


def keys(access_key: str, region: str | None = "r", *more: str) -> list[str]:
    """The settings for signing; without a region it is Signature v2."""
    lines = [f"SetEnv S3AccessKey {access_key}", "SetEnv S3SecretKey a-secret", *more]
    return [*lines, f"SetEnv S3Region {region}", "SetEnv S3UseHeaders on"] if region else lines


def section(url: str, *lines: str) -> str:
    """The ``<Proxy>`` section for the URLs below a URL."""
    inner = "\n".join(lines)
    return f'<Proxy "{url}/">\n{inner}\n</Proxy>'


@contextmanager
def serving(preload: Path, *parts: str, names: Sequence[str] = (), told: str = "") -> Iterator[Httpd]:
    """An httpd with a folder and a page for each name; every line in its error log must have been expected.

    ``told``: a pattern that every line of configtest matches, where a setting is wrong on purpose; else none.
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
    """Assert that configtest reported what is wrong on purpose, and nothing else; without a pattern: nothing."""
    lines = [line for line in httpd.errors() if "usp_s3_wsgi: " in line]
    assert bool(lines) == bool(pattern) and all(re.search(pattern, line) for line in lines), lines
    if pattern:
        httpd.expect_error(pattern)


def ask(httpd: Httpd, name: str, form: str = "main", file: str = "a.ts") -> Reply:
    """Request a file below /NAME/, or the page that includes its a.ts."""
    return httpd.fetch(f"/{name}/{file}" if form == "main" else f"/page/{name}")


def asked_path(httpd: Httpd, way: str, name: str, base: str = "", file: str = "a.ts") -> str:
    """The path that the backend gets; ``base``: the path of the URL that the way forwards to."""
    return f"{base}{httpd.root}/htdocs/{name}/{file}" if way in HANDLERS else f"{base}/{file}"


def lines_of(httpd: Httpd) -> list[str]:
    """The lines of this package in the error log. They are allowed from now on."""
    httpd.expect_error("usp_s3_wsgi: |unable to include")
    return [line for line in httpd.errors() if "usp_s3_wsgi: " in line]


def assert_refused(httpd: Httpd, name: str, form: str, reason: str = "") -> None:
    """Request, and assert an error and one log line. That nothing was sent, the test asserts at the servers."""
    before = len(lines_of(httpd))
    reply = ask(httpd, name, form)
    assert (reply.status == 500) if form == "main" else reply.body.startswith(b"[an error occurred"), reply
    (line,) = lines_of(httpd)[before:]
    assert re.search(reason, line), line


def assert_passed(httpd: Httpd, other: Recorder, way: str, name: str, form: str = "main", base: str = "/other") -> None:
    """Request, and assert that the other backend got it unsigned and that its response is returned unchanged."""
    reply = ask(httpd, name, form)
    assert (reply.status, reply.body.decode()) == (200, asked_path(httpd, way, name, base))
    assert other.signers() == ["unsigned"]


def assert_signed(
    httpd: Httpd, bucket: Recorder, way: str, name: str, form: str = "main", *, signer: str = "KEY/r"
) -> None:
    """Request, and assert that the bucket got it, signed with the right access key and region."""
    reply = ask(httpd, name, form)
    assert (reply.status, reply.body.decode()) == (200, asked_path(httpd, way, name, "/bucket"))
    assert bucket.signers() == [signer]
