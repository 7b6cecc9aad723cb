"""A server with everything stored, an httpd before it, and what they have answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from typing import Any

from tests.httpd.server import Httpd
from tests.servers.answer import Answer
from tests.servers.battery.case import Case
from tests.servers.battery.modes import PLAIN
from tests.servers.direct import Direct, encoded
from tests.servers.program import Server
from tests.servers.results import ServerResults
from tests.servers.sections import bucket, config, keys_of, mount
from tests.servers.stock import Stock


class Run:
    """One server's part of a run."""

    def __init__(self, server: Server, stock: Stock, httpd: Httpd) -> None:
        self.server, self.stock, self.httpd = server, stock, httpd
        self.results = ServerResults(server.name, server.version())
        self._met: dict[tuple[str, str, str, str, bool], Answer] = {}
        self._unknown: dict[str, str] = {}

    def unknown(self, mode: str) -> str:
        """What botocore meets where the server does not know this way of signing; else nothing."""
        if mode not in self._unknown:
            answer = Direct(self.server).ask("GET", f"/{bucket(mode, 'objects')}/{encoded(PLAIN.key)}", mode)
            self._unknown[mode] = "" if answer.body == PLAIN.body else str(answer)
        return self._unknown[mode]

    def ask_server(self, case: Case, method: str, mode: str, is_plain: bool) -> Answer:
        """What botocore gets, asked once: of the case's request, or of its object without more."""
        key = (case.subject, case.name, method, mode, is_plain)
        if key not in self._met:
            query, headers = ("", {}) if is_plain else (case.query, case.headers)
            path = f"/{bucket(mode, case.kind)}/{encoded(case.key)}{'?' if query else ''}{query}"
            self._met[key] = Direct(self.server, keys_of(self.server, case.kind)).ask(method, path, mode, headers)
        return self._met[key]

    def ask_httpd(self, case: Case, method: str, way: str, mode: str) -> Answer:
        """What a client gets."""
        path = f"{mount(way, mode, case.kind)}/{encoded(case.key)}{'?' if case.query else ''}{case.query}"
        return fetch(self.httpd, path, method, case.headers)

    def lines(self) -> int:
        """How many lines of ours are in the error log."""
        return (self.httpd.root / "error.log").read_bytes().count(b"usp_s3_wsgi: ")


def fetch(httpd: Httpd, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
    """What a client gets; a body that is cut short is a failure."""
    named: dict[str, Any] = {name.replace("-", "_"): value for name, value in (headers or {}).items()}
    try:
        reply = httpd.fetch(path, method=method, **named)
    except (HTTPException, OSError) as error:
        return Answer(0, {}, b"", type(error).__name__)
    return Answer.of(reply.status, reply.headers.items(), reply.body)


@contextmanager
def running(kind: type[Server]) -> Iterator[Run]:
    """Start the server, fill it, put httpd before it."""
    with ExitStack() as stack:
        server = stack.enter_context(kind())
        stock = Stock(server)
        stock.fill()
        yield Run(server, stock, stack.enter_context(Httpd(config(server))))
