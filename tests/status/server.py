"""A server with the status page of a snapshot, as ``application.py`` serves it."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType

from tests.status.examples import BASE, EXPLANATIONS
from usp_s3_wsgi.status import page, routes
from usp_s3_wsgi.status.snapshot import Snapshot


class Server:
    """Serves the pages of ``snapshot``, which may be replaced. ``fails_with``: a status of all responses, 0: none."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.fails_with = 0
        self.requested: list[str] = []

    def __enter__(self) -> Server:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requested.append(self.path)
                status, text = server.response(self.path)
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", page.CONTENT_SECURITY_POLICY)
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}{BASE}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def response(self, path: str) -> tuple[int, str]:
        """Return the status and the page of a path of the server."""
        if self.fails_with:
            return self.fails_with, "<!doctype html><title>failure</title>"
        route = routes.find(path.removeprefix(BASE)) if path.startswith(BASE) else None
        if route and route.page == "status":
            return 200, page.render(self.snapshot, BASE)
        if route and route.page == "errors":
            return 200, page.render_errors(EXPLANATIONS.values(), BASE)
        for bucket in self.snapshot.buckets:
            for failure in bucket.failures:
                if route and (route.bucket, route.failure) == (bucket.id, failure.id):
                    return 200, page.render_failure(bucket, failure, BASE)
        return 404, page.render_not_found(BASE)
