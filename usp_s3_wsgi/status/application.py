"""The status page and its JSON: a WSGI application (PEP 3333).

Below its mount: ``/json``, and the pages of :mod:`routes`. docs/status.md describes them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from usp_s3_wsgi.observability import recorder
from usp_s3_wsgi.status import collector, page, routes
from usp_s3_wsgi.status.explanations import Explanations
from usp_s3_wsgi.status.readiness import Checker
from usp_s3_wsgi.status.responses import StartResponse, may_be_rebound, reject_other_methods, respond
from usp_s3_wsgi.status.snapshot import Snapshot

_NOT_RECORDED = "Nothing is recorded: httpd has not loaded usp_s3_module, or UspS3Metrics is not On.\n"
_REBOUND = "From this machine, open the page at http://127.0.0.1 or http://localhost, not at another name.\n"
_PAGE_HEADERS = (("Content-Security-Policy", page.CONTENT_SECURITY_POLICY), ("X-Frame-Options", "DENY"))


def make_application(errors: Path) -> Callable[[dict[str, Any], StartResponse], Iterable[bytes]]:
    """Return the application. ``errors``: docs/errors.md, from which the page says what a code means."""
    module, explanations = recorder.load_module(), Explanations.from_file(errors)
    checker = Checker(module)

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if (rejection := reject_other_methods(environ, start_response)) is not None:
            return rejection
        if module is None:
            return respond(environ, start_response, 503, "text/plain", _NOT_RECORDED)
        if may_be_rebound(environ):
            return respond(environ, start_response, 403, "text/plain", _REBOUND)
        base, path = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
        if path == "/json":
            text = json.dumps(dataclasses.asdict(collector.take(module, explanations, checker)), indent=1)
            return respond(environ, start_response, 200, "application/json", f"{text}\n")
        route = routes.find(path)
        html = _render(lambda: collector.take(module, explanations, checker), explanations, route, base)
        status = 404 if html is None else 200
        html = page.render_not_found(base) if html is None else html
        return respond(environ, start_response, status, "text/html", html, _PAGE_HEADERS)

    return application


def _render(
    take: Callable[[], Snapshot], explanations: Explanations, route: routes.Route | None, base: str
) -> str | None:
    """Return the page of a route, None if there is none, or if its failure is not kept any more."""
    if route is None:
        return None
    if route.page == "errors":
        return page.render_errors(explanations.by_code.values(), base)
    snapshot = take()
    if route.page == "status":
        return page.render(snapshot, base)
    found = (
        (bucket, failure)
        for bucket in snapshot.buckets
        for failure in bucket.failures
        if (bucket.id, failure.id) == (route.bucket, route.failure)
    )
    pair = next(found, None)
    return page.render_failure(*pair, base) if pair else None
