"""A server with all objects, an httpd in front of it, and their responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from typing import Any

from tests.httpd.server import Httpd
from tests.servers.battery.case import Case
from tests.servers.battery.modes import PLAIN
from tests.servers.botocore_client import BotocoreClient, encoded
from tests.servers.program import Server
from tests.servers.response import Response
from tests.servers.results import ServerResults
from tests.servers.sections import bucket, config, keys_of, mount
from tests.servers.stored_objects import StoredObjects


class Run:
    """The part of a run for one server."""

    def __init__(self, server: Server, stored: StoredObjects, httpd: Httpd) -> None:
        self.server, self.stored, self.httpd = server, stored, httpd
        self.results = ServerResults(server.name, server.version())
        self._direct: dict[tuple[str, str, str, str, bool], Response] = {}
        self._unsupported: dict[str, str] = {}

    def unsupported(self, mode: str) -> str:
        """botocore's response if the server does not support this signing mode; otherwise an empty string."""
        if mode not in self._unsupported:
            response = BotocoreClient(self.server).send("GET", f"/{bucket(mode, 'objects')}/{encoded(PLAIN.key)}", mode)
            self._unsupported[mode] = "" if response.body == PLAIN.body else str(response)
        return self._unsupported[mode]

    def fetch_directly(self, case: Case, method: str, mode: str, whole_object: bool) -> Response:
        """botocore's response to the case's request, or to a plain GET of the whole object; sent once and cached."""
        key = (case.subject, case.name, method, mode, whole_object)
        if key not in self._direct:
            query, headers = ("", {}) if whole_object else (case.query, case.headers)
            path = f"/{bucket(mode, case.kind)}/{encoded(case.key)}{'?' if query else ''}{query}"
            self._direct[key] = BotocoreClient(self.server, keys_of(self.server, case.kind)).send(
                method, path, mode, headers
            )
        return self._direct[key]

    def fetch_through_httpd(self, case: Case, method: str, way: str, mode: str) -> Response:
        """The client's response."""
        path = f"{mount(way, mode, case.kind)}/{encoded(case.key)}{'?' if case.query else ''}{case.query}"
        return fetch(self.httpd, path, method, case.headers)

    def count_log_lines(self) -> int:
        """The number of this package's lines in the error log."""
        return (self.httpd.root / "error.log").read_bytes().count(b"usp_s3_wsgi: ")


def fetch(httpd: Httpd, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Response:
    """The client's response; a truncated body is a failure."""
    header_arguments: dict[str, Any] = {name.replace("-", "_"): value for name, value in (headers or {}).items()}
    try:
        reply = httpd.fetch(path, method=method, **header_arguments)
    except (HTTPException, OSError) as error:
        return Response(0, {}, b"", type(error).__name__)
    return Response.from_fields(reply.status, reply.headers.items(), reply.body)


@contextmanager
def running(server_class: type[Server]) -> Iterator[Run]:
    """Start the server, store the objects, start an httpd in front of it."""
    with ExitStack() as stack:
        server = stack.enter_context(server_class())
        stored = StoredObjects(server)
        stored.store_all()
        yield Run(server, stored, stack.enter_context(Httpd(config(server))))
