"""The base of the emulated credential endpoints: an HTTP server that issues credentials or simulates a fault."""

from __future__ import annotations

import math
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

HOST = "127.0.0.1"
#: Seconds that a test waits for a request at most.
WAIT = 10.0
#: Prefixes of all secret keys and tokens, so that they can be searched for.
SECRET_PREFIX, TOKEN_PREFIX = "EmulatedSecretKey", "EmulatedToken"
#: The end of all tokens: characters that must be percent-encoded in a URL.
TAIL = "//+="
#: The body for the fault "garbage". One line: botocore sends the response to its PUT, the token, in a header.
GARBAGE = b"<html><body>Welcome to the guest network!</body></html>"
#: For the fault "expired": so many seconds ago the issued credentials expired.
EXPIRED_FOR = 60

Fault = Literal["slow", "hang", "500", "garbage", "refuse", "expired"]
Self = TypeVar("Self", bound="Endpoint")


@dataclass(frozen=True, slots=True)
class Request:
    """A received request. ``target`` is as sent; header names are lowercase, values of one name joined with a comma."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query, as sent."""
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        """The target's query, as sent."""
        return urlsplit(self.target).query

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the query and of the form that is the body, decoded."""
        form = self.body.decode() if "form-urlencoded" in self.headers.get("content-type", "") else ""
        return dict(parse_qsl(self.query, keep_blank_values=True) + parse_qsl(form, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Issue:
    """Temporary credentials, numbered from 1 by the endpoint that issued them. ``expiration`` is by its clock, UTC.

    ``role`` is the role of the instance, or the ARN of the assumed role with its ``session_name``.
    """

    number: int
    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(repr=False)
    expiration: datetime
    role: str = ""
    session_name: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. Date, Content-Length and Content-Type are added to its headers."""

    status: int
    body: bytes
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


def leaks(text: bytes | str) -> list[bytes]:
    """Return the secrets and tokens of these endpoints in a text, each in full."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return re.findall(rf"(?:{SECRET_PREFIX}|{TOKEN_PREFIX})[0-9A-Za-z%/+=-]*".encode(), data)


def iso8601(moment: datetime) -> str:
    """Return a time (UTC, whole seconds) in the format of AWS: ``2024-05-24T00:00:00Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Endpoint:
    """An endpoint as a context manager, on a free port. Its faults can be changed at any time.

    Subclasses implement the responses: ``_answer``, and ``_error`` for the faults "500" and "refuse".
    """

    #: The address on which it listens.
    host = HOST
    #: Three capitals in the access key ids that it issues. Two endpoints of one class need different labels.
    label = "TMP"

    def __init__(self, *, lifetime: float | None = None, port: int = 0) -> None:
        self.lifetime = lifetime
        self.skew = 0.0
        self.fault: Fault | None = None
        self.delay: float | None = None
        self.garbage = GARBAGE
        self.released = threading.Event()
        self.lock = threading.RLock()
        self.requests: list[Request] = []
        self.issued: list[Issue] = []
        self.failures: list[str] = []
        self._wanted_port = port
        self._arrived = threading.Condition(self.lock)
        self._closed = threading.Event()

    def __enter__(self: Self) -> Self:
        self._server = _Server(self, self._wanted_port)
        self.port: int = self._server.server_address[1]
        self.url = f"http://{self.host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self.released.set()
        self._server.shutdown()
        self._thread.join(WAIT)
        self._server.end_connections()
        self._server.server_close()  # joins the threads
        if error is None:
            assert not self.failures, "; ".join(self.failures)

    def issue(self, number: int) -> Issue:
        """Return the issued credentials with this number, from 1."""
        with self.lock:
            return self.issued[number - 1]

    def issued_as(self, access_key: str) -> Issue | None:
        """Return the issued credentials with this access key id, None if this endpoint did not issue them."""
        with self.lock:
            return next((issue for issue in self.issued if issue.access_key == access_key), None)

    def wait_for_requests(self, count: int) -> None:
        """Wait until ``count`` requests have arrived since the start, with or without a response."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.requests) >= count, WAIT)
            assert arrived, f"{len(self.requests)} requests instead of {count}"

    def now(self) -> float:
        """Return the unix time by the endpoint's clock."""
        return time.time() + self.skew

    def moment(self, later: float = 0) -> datetime:
        """Return the time in ``later`` seconds by the endpoint's clock, rounded up to a whole second."""
        return datetime.fromtimestamp(math.ceil(self.now() + later), tz=UTC)

    def answer(self, request: Request) -> Answer | None:
        """Record a request and return the response for the current fault; None closes the connection instead."""
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
            fault = self.fault if self._is_faulty(request) else None
        if fault == "slow":
            self.released.wait(self.delay)
        elif fault == "hang":
            self._closed.wait()
        if self._closed.is_set():
            return None
        if fault == "garbage":
            return Answer(200, self.garbage, "text/html")
        if fault in ("500", "refuse"):
            return self._error(500 if fault == "500" else 403)
        return self._answer(request, expired=fault == "expired")

    def _is_faulty(self, request: Request) -> bool:
        """Return whether the fault applies to this request."""
        return True

    def _answer(self, request: Request, *, expired: bool) -> Answer:
        raise NotImplementedError

    def _error(self, status: int) -> Answer:
        raise NotImplementedError

    def _issue(self, lifetime: float, *, expired: bool, role: str = "", session_name: str = "") -> Issue:
        """Issue new credentials."""
        with self.lock:
            number = len(self.issued) + 1
            name = f"{self.label}{number:013}"
            issue = Issue(
                number,
                f"ASIA{name}",
                f"{SECRET_PREFIX}{name}{TAIL}",
                f"{TOKEN_PREFIX}{name}{TAIL}",
                self.moment(-EXPIRED_FOR if expired else lifetime),
                role,
                session_name,
            )
            self.issued.append(issue)
            return issue


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128  # many threads may connect at a time

    def __init__(self, endpoint: Endpoint, port: int) -> None:
        self.endpoint = endpoint
        self._open: set[socket.socket] = set()
        super().__init__((endpoint.host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.endpoint.lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.endpoint.lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Shut down connections that the client keeps open, so that their threads end."""
        with self.endpoint.lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # else the client has closed the connection
            self.endpoint.failures.append(f"the endpoint failed: {error!r}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {
            name.lower(): ",".join(value.strip() for value in self.headers.get_all(name, ())) for name in self.headers
        }
        answer = self.server.endpoint.answer(Request(self.command, self.path, headers, body))
        if answer is None:
            self.close_connection = True
            return
        fields = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Date": formatdate(self.server.endpoint.now(), usegmt=True),
            **answer.headers,
        }
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self.wfile.write(head + (b"" if self.command == "HEAD" else answer.body))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the requests are in ``Endpoint.requests``."""
