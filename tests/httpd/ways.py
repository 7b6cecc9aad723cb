"""The ways by which mod_proxy is led to a URL, and a server that notes what it is asked, and signed by whom."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import NamedTuple
from urllib.parse import unquote

from tests.httpd.conftest import PAGES
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
_RULE = "RewriteEngine On\nRewriteRule ^.*?([^/]+)$ @URL@/$1 [P]\n@AROUND@"
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


class Asked(NamedTuple):
    """A request that a server got."""

    host: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """Decoded, without the query."""
        return unquote(self.target.partition("?")[0])

    @property
    def signer(self) -> str:
        """Access key and region of the signature; "unsigned" only where there is no trace of one."""
        text = unquote(f"{self.target}\n" + "\n".join(f"{name}: {value}" for name, value in self.headers.items()))
        if match := re.search(r"Credential=([^/]+)/[0-9]{8}/([^/]+)/s3/aws4_request", text):
            return f"{match[1]}/{match[2]}"
        if match := re.search(r"authorization: AWS ([^:]+):|AWSAccessKeyId=([^&]+)", text):
            return str(match[1] or match[2])
        trace = re.search(r"^authorization:|x-amz-|Signature=|AWSAccessKeyId", text, re.IGNORECASE | re.MULTILINE)
        return f"a trace of one: {trace[0]}" if trace else "unsigned"


class Recorder:
    """An HTTP server that answers with the path it is asked for; what is called denied, S3's way."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.asked: list[Asked] = []

    def __enter__(self) -> Recorder:
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked.append(Asked(headers.get("host", ""), self.path, headers))
                is_denied = "denied" in self.path
                body = b"<Error><Code>AccessDenied</Code></Error>" if is_denied else asked[-1].path.encode()
                self.send_response(403 if is_denied else 200)
                self.send_header("Content-Type", "application/xml" if is_denied else "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            address_family = 10 if ":" in self._host else 2  # AF_INET6, AF_INET
            daemon_threads = True
            block_on_close = False  # connections to it are kept

        self._server = Server((self._host, 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, name: str, path: str = "") -> str:
        """A URL of this server; each name is a host of its own, so that the error log tells them apart."""
        return f"http://{name}.localhost:{self.port}{path}"

    def signers(self) -> list[str]:
        """Who signed the requests since the last call."""
        found = [request.signer for request in self.asked]
        self.asked.clear()
        return found


def keys(access_key: str, region: str | None = "r", *more: str) -> list[str]:
    """The lines that say how to sign."""
    lines = [f"SetEnv S3AccessKey {access_key}", "SetEnv S3SecretKey a-secret", *more]
    return [*lines, f"SetEnv S3Region {region}", "SetEnv S3UseHeaders on"] if region else lines


def section(url: str, *lines: str) -> str:
    """The ``<Proxy>`` section of what is below a URL."""
    inner = "\n".join(lines)
    return f'<Proxy "{url}/">\n{inner}\n</Proxy>'


@contextmanager
def serving(preload: Path, *parts: str, names: Sequence[str] = ()) -> Iterator[Httpd]:
    """An httpd with a folder and a page for each name; every line in its error log must have been expected."""
    with Httpd("\n".join([PAGES, *parts]), preload=preload) as server:
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
