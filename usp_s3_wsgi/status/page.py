"""The pages that an operator reads: the status page, a failure's details, the error codes.

Each is one document that loads nothing else. What clients and S3 have sent is in many places of it: each value is made
visible (``words.visible``) and escaped, wherever a template shows it, and the policy allows no script but ours.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from importlib import resources
from typing import Any, NamedTuple

try:
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup
except ImportError:
    raise ImportError("the status page needs jinja2 for httpd's Python: pip install 'usp_s3_wsgi[status]'") from None

from usp_s3_wsgi import __version__
from usp_s3_wsgi.status import charts, comparison, routes, words
from usp_s3_wsgi.status.snapshot import Bucket, Explanation, Failure, Health, Snapshot

#: The limit of ``render`` in bytes. A page of 300 buckets is fetched every 10 seconds, maybe over a slow line.
MAX_BYTES = 950_000
#: Seconds between two updates of the page.
REFRESH_SECONDS = 10
#: A page shows so many buckets in trouble at its top; all of them are in the list below.
_MAX_PROBLEMS = 12
_MAX_LAST_FAILURES = 20


class _Limits(NamedTuple):
    """How much of a bucket is shown: numbers of its entries, and characters of a text."""

    failures: int
    mounts: int
    settings: int
    characters: int
    details: bool = True
    charts: bool = True


#: From all of a bucket to its state and its name. Few servers have so many buckets that the first is too much.
_LIMITS = (
    _Limits(10, 20, 60, 240),
    _Limits(4, 5, 20, 160),
    _Limits(2, 2, 12, 100),
    _Limits(1, 1, 6, 80),
    _Limits(0, 0, 0, 60),
    _Limits(0, 0, 0, 48, details=False),
    _Limits(0, 0, 0, 40, details=False, charts=False),
)
#: Bytes that are kept back for each bucket that follows, and that a bucket may take at most: all that it has, unless it
#: is hostile.
_LEAST, _MOST = 1_100, 40_000


def render(snapshot: Snapshot, base: str) -> str:
    """Return the status page, of at most ``MAX_BYTES`` in UTF-8.

    ``base``: the URL path of the mount, such as "/usp-s3/status".
    """
    values = {"snapshot": snapshot, **_of_snapshot(snapshot)}
    without_list = _page("status.html", base, items=[], compact=len(snapshot.buckets), **values)
    items, compact = _bucket_list(snapshot, base, MAX_BYTES - len(without_list.encode()))
    return _page("status.html", base, items=items, compact=compact, **values)


def _bucket_list(snapshot: Snapshot, base: str, left: float) -> tuple[list[Markup], int]:
    """The entries of the list, and how many of them have no charts.

    ``left``: the bytes of the list. A bucket gets its share of what is left, those in trouble four times as much.
    """
    template = _environment.get_template("bucket.html")
    items: list[Markup] = []
    level = compact = 0
    for index, bucket in enumerate(snapshot.buckets):
        following = len(snapshot.buckets) - index - 1
        share = left / (following + 1) * (4 if bucket.health in {Health.FAILING, Health.DEGRADED} else 1)
        allowed = min(share, left - following * _LEAST, _MOST)
        # A bucket is mostly as large as the one before: begin with its limits, or with the next larger ones.
        level = max(0, level - 1)
        while True:
            item = template.render(bucket=bucket, limits=_LIMITS[level], base=base, now=snapshot.time)
            taken = len(item.encode()) + 1
            if taken <= allowed or level == len(_LIMITS) - 1:
                break
            level += 1
        items.append(Markup(item))
        compact += not _LIMITS[level].charts
        left -= taken
    return items, compact


def _of_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """What the template needs and the snapshot does not say."""
    problems = [bucket for bucket in snapshot.buckets if bucket.health in {Health.FAILING, Health.DEGRADED}]
    failures = [
        (bucket, failure) for bucket in snapshot.buckets for failure in bucket.failures if not failure.is_client_error
    ]
    failures.sort(key=lambda found: found[1].time, reverse=True)
    return {
        "now": snapshot.time,
        "sentence": words.overall(snapshot),
        "further": words.further_states(snapshot),
        "problems": problems[:_MAX_PROBLEMS],
        "more_problems": max(0, len(problems) - _MAX_PROBLEMS),
        "last_failures": failures[:_MAX_LAST_FAILURES],
        "total": charts.hour([minute for bucket in snapshot.buckets for minute in bucket.minutes]),
        "old_processes": sum(not process.is_current for process in snapshot.processes),
        "refresh": REFRESH_SECONDS,
        "health": _overall_health(snapshot),
    }


def _overall_health(snapshot: Snapshot) -> Health:
    """The worst state of the server, its buckets and its credentials."""
    identities = {words.health_of_identity(identity, snapshot.time) for identity in snapshot.identities}
    found = {snapshot.health, *(bucket.health for bucket in snapshot.buckets), *(identities - {Health.IDLE})}
    return next(health for health in Health if health in found)


def render_failure(snapshot_bucket: Bucket, failure: Failure, base: str) -> str:
    """Return the page of one failure: what was requested, each attempt, what was signed, and what to do."""
    comparisons = [
        ("Canonical request", comparison.compare(failure.canonical_request, failure.s3_canonical_request)),
        ("String to sign", comparison.compare(failure.string_to_sign, failure.s3_string_to_sign)),
    ]
    return _page(
        "failure.html",
        base,
        bucket=snapshot_bucket,
        failure=failure,
        comparisons=comparisons,
        conclusion=_conclusion(failure, [found for _, found in comparisons]),
        now=failure.time,
        health=Health.DEGRADED if failure.is_client_error else Health.FAILING,
    )


def _conclusion(failure: Failure, comparisons: Iterable[comparison.Comparison]) -> str:
    """What both sides of a rejected signature say about its reason, in one sentence; empty if that is nothing."""
    compared = [found for found in comparisons if found.has_ours and found.has_theirs]
    if not compared:
        return ""
    if any(found.first for found in compared):
        return "S3 has computed something else than this server has signed: the first line that differs is marked."
    if failure.s3_code == "SignatureDoesNotMatch":
        return (
            "Both have computed the same, apart from masked values. So the secret key of this server is not the one "
            "that belongs to this access key."
        )
    return "Both have computed the same, apart from masked values."


def render_errors(explanations: Iterable[Explanation], base: str) -> str:
    """Return the page of all error codes, each with its code as the anchor: ``#USPS30305``."""
    return _page("errors.html", base, explanations=list(explanations), health=Health.IDLE)


def render_not_found(base: str) -> str:
    """Return the page for a path that is none, or for a failure that is not kept any more."""
    return _page("not_found.html", base, health=Health.IDLE)


def _page(template: str, base: str, **values: Any) -> str:
    urls = {"status": routes.status(base), "errors": routes.errors(base)}
    return _environment.get_template(template).render(base=base, urls=urls, **values)


def _visible(value: object) -> object:
    """Each value passes here before it is escaped."""
    return words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _read(name: str) -> str:
    return resources.files("usp_s3_wsgi.status").joinpath("templates", name).read_text("utf-8")


def _without_indentation(name: str) -> str:
    """A template without the spaces that begin its lines: a page of 300 buckets has ten thousands of them."""
    return re.sub(r"^ +", "", _read(name), flags=re.MULTILINE)


def _hash(source: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() + "'"


_STYLE, _SCRIPT = _read("page.css"), _read("page.js")
#: For the header Content-Security-Policy of each page. The icon is a data: URL, and there is no other image.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TEMPLATES = ("base.html", "status.html", "failure.html", "errors.html", "not_found.html", "bucket.html", "macros.html")
_environment = Environment(
    loader=DictLoader({name: _without_indentation(name) for name in _TEMPLATES}),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_visible,
    trim_blocks=True,
    auto_reload=False,
)
_environment.filters.update(
    ago=words.ago,
    clock=words.clock,
    count=words.count,
    duration=words.duration,
    number=words.number,
    shorten=words.shorten,
    size=words.size,
    utc=words.utc,
)
_environment.globals.update(
    Health=Health,
    build=hashlib.sha256((_STYLE + _SCRIPT).encode()).hexdigest()[:12],
    causes=words.causes,
    charts=charts,
    expiry=words.expiry,
    failure_url=routes.failure,
    errors_url=routes.errors,
    identity_health=words.health_of_identity,
    identity_state=words.state_of_identity,
    script=Markup(_SCRIPT),
    style=Markup(_STYLE),
    title_of=words.title_of,
    version=__version__,
    with_bucket=lambda bucket, failures: [(bucket, failure) for failure in failures],
)
