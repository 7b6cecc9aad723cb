"""A backend that records the requests it gets, and whose access key signed them."""

from __future__ import annotations

import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import NamedTuple
from urllib.parse import unquote


class RecordedRequest(NamedTuple):
    """A request as the server received it."""

    host: str
    target: str
    headers: dict[str, str]

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


class Recorder:
    """An HTTP server that answers with the requested path; if the path has "denied" in it, with S3's AccessDenied."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.requests: list[RecordedRequest] = []

    def __enter__(self) -> Recorder:
        requests = self.requests
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                requests.append(RecordedRequest(headers.get("host", ""), self.path, headers))
                is_denied = "denied" in self.path
                body = b"<Error><Code>AccessDenied</Code></Error>" if is_denied else requests[-1].path.encode()
                self.send_response(403 if is_denied else 200)
                self.send_header("Content-Type", "application/xml" if is_denied else "text/plain")
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
        """A URL of this server. Each name is a host of its own, so that lines of the error log can be told apart."""
        return f"http://{name}.localhost:{self.port}{path}"

    def signers(self) -> list[str]:
        """The signers of the requests since the last call."""
        found = [request.signer for request in self.requests]
        self.requests.clear()
        return found
