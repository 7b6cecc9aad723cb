"""A backend that records the requests it gets, and whose access key signed them."""

from __future__ import annotations

import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import unquote

from tests.httpd.machine import serving


class RecordedRequest(NamedTuple):
    """A request as the server received it; ``head``: the request line and the header, in lines."""

    host: str
    target: str
    headers: dict[str, str]
    head: str

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        return unquote(self.target.partition("?")[0])

    @property
    def signer(self) -> str:
        """Access key and region of the signature; "unsigned" only if no part of a signature is found."""
        text = unquote(f"{self.target}\n" + "\n".join(f"{name}: {value}" for name, value in self.headers.items()))
        if match := re.search(r"Credential=([^/]+)/[0-9]{8}/([^/]+)/s3/aws4_request", text):
            return f"{match[1]}/{match[2]}"
        if match := re.search(r"authorization: AWS ([^:]+):|AWSAccessKeyId=([^&]+)", text):
            return str(match[1] or match[2])
        trace = re.search(r"^authorization:|x-amz-|Signature=|AWSAccessKeyId", text, re.IGNORECASE | re.MULTILINE)
        return f"a trace of one: {trace[0]}" if trace else "unsigned"


class Answer(NamedTuple):
    """What a backend answers; the body is not sent to HEAD."""

    status: int
    content_type: str
    body: bytes


class Recorder:
    """An HTTP server that answers with the requested path; if the path has "denied" in it, with S3's AccessDenied."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.requests: list[RecordedRequest] = []

    def answer(self, request: RecordedRequest) -> Answer:
        """Return the answer to a request; a subclass may give another one."""
        if "denied" in request.target:
            return Answer(403, "application/xml", b"<Error><Code>AccessDenied</Code></Error>")
        return Answer(200, "text/plain", request.path.encode())

    def __enter__(self) -> Self:
        requests, answer = self.requests, self.answer
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = RecordedRequest(
                    headers.get("host", ""), self.path, headers, f"{self.requestline}\n{self.headers}"
                )
                requests.append(request)
                status, content_type, body = answer(request)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            address_family = family
            daemon_threads = True
            block_on_close = False  # its clients keep connections open

        self._serving = serving(Server((self._host, 0), Handler))
        self.port = self._serving.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._serving.__exit__(kind, error, trace)

    def url(self, name: str, path: str = "") -> str:
        """A URL of this server. Each name is a host of its own, so that lines of the error log can be told apart."""
        return f"http://{name}.localhost:{self.port}{path}"

    def signers(self) -> list[str]:
        """The signers of the requests since the last call."""
        found = [request.signer for request in self.requests]
        self.requests.clear()
        return found
