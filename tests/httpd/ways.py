"""The ways in which a configuration makes mod_proxy request a URL, and what their tests have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.httpd.conftest import PAGES
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd, Reply

_BALANCER = '<Proxy "balancer://@NAME@">\nBalancerMember @URL@\n</Proxy>\n'
#: /NAME/a.ts becomes URL/a.ts. @AROUND@: further lines in the same section; without it they are in a <Location>.
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
#: These append the whole path of the file to the URL.
HANDLERS = {
    "handler-location": f"<Location /@NAME@>\n{_HANDLER}\n</Location>",
    "handler-directory": f"<Directory ${{ROOT}}/htdocs/@NAME@>\n{_HANDLER}\n</Directory>",
    "handler-files": f'<Directory ${{ROOT}}/htdocs/@NAME@>\n<Files "*.ts">\n{_HANDLER}\n</Files>\n</Directory>',
}
WAYS = PASSES | MATCHES | RULES | HANDLERS
#: Main requests, and subrequests of a page that includes the file.
KINDS = ("main", "subrequest")
FILES = ("a.ts", "denied.ts")


def proxy_config(way: str, name: str, url: str, *around: str) -> str:
    """The configuration that proxies /NAME/ to the URL, which has no slash at its end; ``around``: further lines."""
    text, inner = WAYS[way], "\n".join(around)
    if inner and "@AROUND@" not in text:
        mount = "/@NAME@/" if way == "pass-slash" else "/@NAME@"
        text += f"\n<Location {mount}>\n@AROUND@\n</Location>"
    return text.replace("@NAME@", name).replace("@URL@", url).replace("@AROUND@", inner)


def keys(access_key: str, region: str | None = "r", *more: str) -> list[str]:
    """The lines of a section with the keys: Signature v4 in headers with a region, Signature v2 without."""
    lines = [f"SetEnv S3AccessKey {access_key}", "SetEnv S3SecretKey a-secret", *more]
    return [*lines, f"SetEnv S3Region {region}", "SetEnv S3UseHeaders on"] if region else lines


def section(url: str, *lines: str) -> str:
    """The ``<Proxy>`` section of all URLs below this one."""
    inner = "\n".join(lines)
    return f'<Proxy "{url}/">\n{inner}\n</Proxy>'


@contextmanager
def running(preload: Path, *parts: str, names: Sequence[str] = (), configtest: str = "") -> Iterator[Httpd]:
    """An httpd with a folder and a page for each name; every line in its error log must have been expected.

    ``configtest``: a pattern that all lines of configtest match; empty: it must report nothing.
    """
    with Httpd("\n".join([PAGES, *parts]), preload=preload) as server:
        assert_configtest_reports(server, configtest)
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


def assert_configtest_reports(httpd: Httpd, pattern: str) -> None:
    """Assert that all lines that configtest wrote at the start match; no lines for an empty pattern."""
    lines = [line for line in httpd.errors() if "usp_s3_wsgi: " in line]
    assert bool(lines) == bool(pattern) and all(re.search(pattern, line) for line in lines), lines
    if pattern:
        httpd.expect_error(pattern)


def fetch(httpd: Httpd, name: str, kind: str = "main", file: str = "a.ts") -> Reply:
    """Request a file below /NAME/, or the page that includes its a.ts."""
    return httpd.fetch(f"/{name}/{file}" if kind == "main" else f"/page/{name}")


def requested_path(httpd: Httpd, way: str, name: str, base: str = "", file: str = "a.ts") -> str:
    """The path of the URL that mod_proxy requests; ``base``: that of the configured URL."""
    return f"{base}{httpd.root}/htdocs/{name}/{file}" if way in HANDLERS else f"{base}/{file}"


def log_lines(httpd: Httpd) -> list[str]:
    """This package's lines in the error log, which are expected from now on."""
    httpd.expect_error("usp_s3_wsgi: |unable to include")
    return [line for line in httpd.errors() if "usp_s3_wsgi: " in line]


def assert_rejected(httpd: Httpd, name: str, kind: str, reason: str = "") -> None:
    """Assert that a request is rejected with one log line. The caller asserts that the backend got no request."""
    before = len(log_lines(httpd))
    reply = fetch(httpd, name, kind)
    assert (reply.status == 500) if kind == "main" else reply.body.startswith(b"[an error occurred"), reply
    (line,) = log_lines(httpd)[before:]
    assert re.search(reason, line), line


def assert_unsigned(
    httpd: Httpd, other: Recorder, way: str, name: str, kind: str = "main", base: str = "/other"
) -> None:
    """Assert that the other backend gets the request without a signature, and that its response is forwarded."""
    reply = fetch(httpd, name, kind)
    assert (reply.status, reply.body.decode()) == (200, requested_path(httpd, way, name, base))
    assert other.signers() == ["unsigned"]


def assert_signed(
    httpd: Httpd, bucket: Recorder, way: str, name: str, kind: str = "main", *, signer: str = "KEY/r"
) -> None:
    """Assert that the bucket gets the request, signed with this access key and for this region."""
    reply = fetch(httpd, name, kind)
    assert (reply.status, reply.body.decode()) == (200, requested_path(httpd, way, name, "/bucket"))
    assert bucket.signers() == [signer]


def expect_etags_before_dates(httpd: Httpd, target: str) -> None:
    """RFC 9110, 13.2.2. Swift compares both: a cache would keep an object that was replaced within the same second."""
    whole = httpd.fetch(target)
    etag, date, long_ago = whole.headers["ETag"], whole.headers["Last-Modified"], "Fri, 01 Jan 2010 00:00:00 GMT"
    assert httpd.fetch(target, if_none_match='"other"', if_modified_since=date).status == 200
    assert httpd.fetch(target, if_none_match=etag, if_modified_since=long_ago).status == 304
    assert httpd.fetch(target, if_match=etag, if_unmodified_since=long_ago).status == 200
    assert httpd.fetch(target, if_match='"other"', if_unmodified_since=date).status == 412
