"""The status page and its JSON: a WSGI application (PEP 3333).

Below its mount: nothing or ``/``, the page; ``/json``; ``/failures/ID``, a failed exchange of the flight recorder;
``/errors``, what all codes mean. docs/status.md describes them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from usp_s3_wsgi.observability import recorder
from usp_s3_wsgi.status import collector, page
from usp_s3_wsgi.status.explanations import Explanations
from usp_s3_wsgi.status.responses import StartResponse, reject_other_methods, respond

_NOT_RECORDED = "Nothing is recorded: httpd has not loaded usp_s3_module, or UspS3Metrics is not On.\n"
_PAGE_HEADERS = (("Content-Security-Policy", page.CONTENT_SECURITY_POLICY), ("X-Frame-Options", "DENY"))


def make_application(errors: Path) -> Callable[[dict[str, Any], StartResponse], Iterable[bytes]]:
    """Return the application. ``errors``: docs/errors.md, from which the page says what a code means."""
    module, explanations = recorder.load_module(), Explanations.from_file(errors)

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if (rejection := reject_other_methods(environ, start_response)) is not None:
            return rejection
        if module is None:
            return respond(environ, start_response, 503, "text/plain", _NOT_RECORDED)
        base, path = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
        if path == "/json":
            text = json.dumps(dataclasses.asdict(collector.take(module, explanations)), indent=1)
            return respond(environ, start_response, 200, "application/json", f"{text}\n")
        status, text = 200, None
        if path in {"", "/"}:
            text = page.render(collector.take(module, explanations), base)
        elif path == "/errors":
            text = page.render_errors(explanations.by_code.values(), base)
        elif path.startswith("/failures/"):
            text = _render_failure(path.removeprefix("/failures/"), base)
        if text is None:
            status, text = 404, page.render_not_found(base)
        return respond(environ, start_response, status, "text/html", text, _PAGE_HEADERS)

    def _render_failure(failure_id: str, base: str) -> str | None:
        assert module is not None
        for bucket in collector.take(module, explanations).buckets:
            for failure in bucket.failures:
                if failure.id == failure_id:
                    return page.render_failure(bucket, failure, base)
        return None

    return application
