"""Health checks for load balancers and orchestrators: a WSGI application (PEP 3333).

Below its mount: ``/live``, ``/ready`` and ``/ready/BUCKET``; docs/health.md describes them. The answer comes from what
the configuration says, from key files, and from what all processes have recorded of their credentials; S3 is not asked.
Without "UspS3Metrics On" nothing is known of buckets, and the server is ready if it responds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from usp_s3_wsgi.observability import recorder
from usp_s3_wsgi.status.readiness import Checker, Results
from usp_s3_wsgi.status.responses import (
    StartResponse,
    has_parameter,
    may_be_rebound,
    reject_other_methods,
    respond,
    wants_json,
)

_checker = Checker(recorder.load_module())


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer a health check: 200, 503 if a bucket is not ready, 404 for an unknown bucket or path.

    Query parameters: ``any``: 503 only if no bucket is ready; ``no-content``: 204 without a body instead of 200;
    ``brief``: no names and reasons; ``format=json``.
    """
    # HAProxy asks with OPTIONS, unless it is told not to.
    if (rejection := reject_other_methods(environ, start_response, ("GET", "HEAD", "OPTIONS"))) is not None:
        return rejection
    path = environ.get("PATH_INFO", "")
    if path == "/live":
        return _respond(environ, start_response, 200, "live", {})
    if path == "/ready":
        return _ready(environ, start_response, _checker.results(), has_parameter(environ, "any"))
    if path.startswith("/ready/"):
        results = _checker.results()
        name = path.removeprefix("/ready/")
        found = {key: value for key, value in results.by_bucket.items() if key.bucket == name}
        if found or not results.is_known:
            return _ready(environ, start_response, Results(found, results.is_known), False)
    return respond(environ, start_response, 404, "text/plain", "not found\n")


def _ready(environ: dict[str, Any], start_response: StartResponse, results: Results, is_any: bool) -> list[bytes]:
    values = list(results.by_bucket.values())
    is_ready = (any if is_any and values else all)(value.is_ready for value in values)
    if not results.is_known:
        words = "ready: the buckets are not known"
    else:
        count = sum(value.is_ready for value in values)
        words = f"{'ready' if is_ready else 'not ready'}: {count} of {len(values)} buckets"
    is_brief = has_parameter(environ, "brief") or may_be_rebound(environ)
    buckets = [
        {"way": key.way, "bucket": key.bucket, "host": key.host, "ready": value.is_ready, "reason": value.reason}
        for key, value in results.by_bucket.items()
        if not is_brief
    ]
    return _respond(environ, start_response, 200 if is_ready else 503, words, {"ready": is_ready, "buckets": buckets})


def _respond(
    environ: dict[str, Any], start_response: StartResponse, status: int, words: str, details: dict[str, Any]
) -> list[bytes]:
    if status == 200 and has_parameter(environ, "no-content"):
        start_response("204 No Content", [("Cache-Control", "no-store")])
        return []
    if wants_json(environ):
        text = json.dumps({"status": words, **details}, indent=1)
        return respond(environ, start_response, status, "application/json", f"{text}\n")
    not_ready = [bucket for bucket in details.get("buckets", ()) if bucket["reason"]]
    lines = [f"{bucket['way']} {bucket['bucket']}: {bucket['reason']}" for bucket in not_ready]
    # Escaped: a name in the configuration may hold anything.
    text = "\n".join([words, *lines]).encode("ascii", "backslashreplace").decode()
    return respond(environ, start_response, status, "text/plain", f"{text}\n")
