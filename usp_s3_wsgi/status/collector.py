"""Puts together what the configuration says and what the processes have recorded: the snapshot for page and JSON."""

from __future__ import annotations

import platform
import time
import zlib
from collections import defaultdict
from types import ModuleType
from typing import Any

from usp_s3_wsgi import __version__
from usp_s3_wsgi.config.configured_bucket import ConfiguredBucket
from usp_s3_wsgi.status import recorded
from usp_s3_wsgi.status.assessment import assess
from usp_s3_wsgi.status.explanations import Explanations
from usp_s3_wsgi.status.readiness import Checker
from usp_s3_wsgi.status.recorded import Key, MinuteValues, RecordedExchanges
from usp_s3_wsgi.status.snapshot import (
    Attempt,
    Bucket,
    Failure,
    Health,
    Mount,
    Readiness,
    Snapshot,
    Totals,
)

#: The page shows so many buckets: a person reads the first ones, and finds others by the filter.
MAX_BUCKETS = 300
_NO_EXCHANGES = RecordedExchanges(
    Totals(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), tuple([MinuteValues(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)] * 60)
)
#: Of a bucket that only requests name.
_READY = Readiness(True)
_ORDER = (Health.FAILING, Health.DEGRADED, Health.OK, Health.IDLE)


def take(module: ModuleType, explanations: Explanations, checker: Checker) -> Snapshot:
    """Return the snapshot of now. ``module``: usp_s3_module, as ``recorder.load_module`` returns it."""
    now, state, configuration = time.time(), recorded.read(module), recorded.read_configuration(module)
    ready = checker.results().by_bucket
    mounts = configuration.mounts()
    failures = _failures(module, explanations)
    keys = dict.fromkeys([*state.exchanges, *mounts])
    buckets = [
        _bucket(
            key, mounts.get(key, []), ready.get(key, _READY), state.exchanges.get(key, _NO_EXCHANGES), failures, now
        )
        for key in keys
    ]
    buckets.sort(key=lambda bucket: (_ORDER.index(bucket.health), -bucket.totals.exchanges, bucket.name))
    return Snapshot(
        time=now,
        health=min((bucket.health for bucket in buckets), key=_ORDER.index, default=Health.IDLE),
        version=__version__,
        python=platform.python_version(),
        started_at=state.started_at,
        gateway_requests=state.gateway_requests,
        processes=state.processes,
        buckets=tuple(buckets[:MAX_BUCKETS]),
        omitted_buckets=max(0, len(buckets) - MAX_BUCKETS) + configuration.omitted,
        is_complete=configuration.is_known,
        identities=state.identities,
    )


def _failures(module: ModuleType, explanations: Explanations) -> dict[Key, list[Failure]]:
    found: dict[Key, list[Failure]] = defaultdict(list)
    for key, failure_id, fields in recorded.read_failures(module):
        try:
            found[key].append(_failure(failure_id, fields, explanations))
        except (TypeError, KeyError):
            continue  # of another version of this package, from before a restart
    for failures in found.values():
        failures.sort(key=lambda failure: failure.time, reverse=True)
    return found


def _failure(failure_id: str, fields: dict[str, Any], explanations: Explanations) -> Failure:
    fields["attempts"] = tuple(Attempt(**attempt) for attempt in fields["attempts"])
    return Failure(id=failure_id, explanation=explanations.of(fields["error"], fields["s3_code"]), **fields)


def _bucket(
    key: Key,
    mounts: list[ConfiguredBucket],
    ready: Readiness,
    exchanges: RecordedExchanges,
    failures: dict[Key, list[Failure]],
    now: float,
) -> Bucket:
    own_failures = failures.get(key, [])
    assessment = assess(ready, exchanges.hour, own_failures, is_configured=bool(mounts))
    return Bucket(
        id=f"{key.way}-{zlib.crc32(repr(key).encode()):08x}",
        way=key.way,
        name=key.bucket,
        host=key.host,
        health=assessment.health,
        summary=assessment.summary,
        readiness=ready,
        mounts=tuple(_mount(mount) for mount in mounts),
        identity=_identity(mounts),
        totals=exchanges.totals,
        minutes=recorded.minutes(exchanges.hour, now),
        failures=tuple(own_failures),
        cause=assessment.cause.id if assessment.cause else "",
        action=assessment.action,
    )


def _identity(mounts: list[ConfiguredBucket]) -> str:
    """Return who signs, in words; empty if the configuration does not name the bucket."""
    names = [mount.identity or ("keys in files" if mount.files else "keys in the configuration") for mount in mounts]
    return ", ".join(dict.fromkeys(names))


def _mount(mount: ConfiguredBucket) -> Mount:
    path = f"{mount.path} (S3FallbackURL)" if mount.is_fallback else mount.path
    return Mount(path, f"{mount.file}:{mount.line}", mount.settings)
