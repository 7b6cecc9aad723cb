"""The demo's own web server, on 127.0.0.1: the page, the counters of the links, and the button."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.httpd.machine import serving

PAGE = Path(__file__).with_name("index.html")
#: Scripts only of this server; the film comes from the shield, which is another origin.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' blob:; worker-src blob:; style-src 'unsafe-inline'; "
    "img-src data:; media-src blob: {media}; connect-src 'self' {media}; frame-ancestors 'none'; base-uri 'none'"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A link as the page shows it."""

    id: str
    title: str
    program: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Herd:
    """What clients that sent a request at the same moment got, and what of it reached S3."""

    requested: str
    clients: int
    right: int
    s3_requests: int
    s3_bytes: int


@dataclass(frozen=True, slots=True)
class Functions:
    """What the page can ask for.

    ``problem`` returns a sentence if a program has ended by itself, else nothing. ``media``: where the film comes from
    (scheme, host and port).
    """

    links: Callable[[], list[Shown]]
    problem: Callable[[], str]
    herds: Mapping[str, Callable[[], Herd]]
    playlist: str
    media: str
    hls_js: Path


@contextmanager
def page(functions: Functions, port: int = 0) -> Iterator[str]:
    """Serve the page; yields its URL. Raises: OSError: the port is not free."""
    with serving(_Server(("127.0.0.1", port), functions)) as number:
        yield f"http://127.0.0.1:{number}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # browsers keep connections open

    def __init__(self, address: tuple[str, int], functions: Functions) -> None:
        self.functions = functions
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        functions = self.server.functions
        match self.path:
            case "/":
                policy = _POLICY.format(media=functions.media)
                self._reply(PAGE.read_bytes(), "text/html; charset=utf-8", ("Content-Security-Policy", policy))
            case "/hls.js":
                self._reply(functions.hls_js.read_bytes(), "text/javascript")
            case "/film":
                self._json({"playlist": functions.playlist})
            case "/counts":
                self._json({"links": [asdict(link) for link in functions.links()], "problem": functions.problem()})
            case _:
                self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        herd = self.server.functions.herds.get(self.path.removeprefix("/herd/"))
        # A page of another site can send a POST to this server, also with a name that it has changed to 127.0.0.1.
        host = f"127.0.0.1:{self.server.server_address[1]}"
        if herd is None or (self.headers.get("Host"), self.headers.get("Origin")) != (host, f"http://{host}"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._json(asdict(herd()))

    def _json(self, value: Any) -> None:
        self._reply(json.dumps(value).encode(), "application/json")

    def _reply(self, body: bytes, content_type: str, *headers: tuple[str, str]) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in (("Content-Type", content_type), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""
