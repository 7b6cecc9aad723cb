"""Whether requests to a bucket could be signed now: from what the processes know, without asking S3."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import NamedTuple

from usp_s3_wsgi.credentials.key_files import SETTLE_SECONDS, read_key
from usp_s3_wsgi.status import recorded
from usp_s3_wsgi.status.recorded import Key, RecordedBucket
from usp_s3_wsgi.status.snapshot import Identity, Readiness

_READY = Readiness(True)
#: Seconds for which a failed refresh makes a bucket unready: the refresher waits no longer before the next one.
FAILURE_VALIDITY = 60.0
#: Seconds for which results are used again, and how many times as long as the check took: it costs little CPU time,
#: also with thousands of buckets, and many load balancers at once.
_MAX_AGE, _MAX_SHARE = 1.0, 20


class Results(NamedTuple):
    """The readiness of all configured buckets. ``is_known``: False if there is no list of them."""

    by_bucket: Mapping[Key, Readiness]
    is_known: bool


class Checker:
    """Checks all configured buckets, one check at a time in a process.

    A file server that does not respond holds up one thread only: the others use the results of the check before.
    """

    def __init__(self, module: ModuleType | None) -> None:
        """``module``: usp_s3_module, as ``recorder.load_module`` returns it."""
        self._module, self._lock = module, threading.Lock()
        self._valid_until, self._results = float("-inf"), Results({}, False)

    def results(self) -> Results:
        """Return results that are at most a second old, or older if a check takes long."""
        if time.monotonic() >= self._valid_until and self._lock.acquire(blocking=False):
            try:
                begin = time.monotonic()
                self._results = _check(self._module)
                end = time.monotonic()
                self._valid_until = end + max(_MAX_AGE, _MAX_SHARE * (end - begin))
            finally:
                self._lock.release()
        return self._results


def _check(module: ModuleType | None) -> Results:
    if module is None:
        return Results({}, False)
    configuration = recorded.read_configuration(module)
    identities = {identity.name: identity for identity in recorded.read_identities(module.read_metrics())}
    mounts = defaultdict(list)
    for mount in configuration.buckets:
        mounts[mount.key].append(mount)
    now = time.time()
    return Results({key: of_bucket(found, identities, now) for key, found in mounts.items()}, configuration.is_known)


def of_bucket(mounts: Iterable[RecordedBucket], identities: Mapping[str, Identity], now: float) -> Readiness:
    """Return the readiness of a bucket, with the reason of the first mount that is not ready.

    ``identities``: what all processes know of temporary credentials, by name. ``now``: unix time.
    """
    found = [of_mount(mount, identities, now) for mount in mounts]
    return min(found, key=lambda readiness: (readiness.is_ready, not readiness.reason), default=_READY)


def of_mount(mount: RecordedBucket, identities: Mapping[str, Identity], now: float) -> Readiness:
    """Return the readiness of a bucket in one place of the configuration."""
    if mount.error:
        return Readiness(False, mount.error)
    for name, path in mount.files if mount.reads_files else ():
        reason = _file_error(path)
        if reason:
            return Readiness(False, f"{name}: {reason}")
    identity = identities.get(mount.identity)
    return _READY if identity is None else of_identity(identity, now)


def of_identity(identity: Identity, now: float) -> Readiness:
    """Return whether there are valid credentials.

    Those of an idle server may expire: the next request refreshes them. A failure counts for a while only: requests
    alone start a refresh, and a load balancer sends none to a server that is not ready.
    """
    if not identity.is_failing or not 0 <= now - identity.failed_at < FAILURE_VALIDITY:
        return _READY
    if not identity.successes or not identity.is_current:
        return Readiness(False, f"{identity.name}: there are no credentials, and the last refresh failed")
    if identity.expires and identity.expires <= now:
        return Readiness(False, f"{identity.name}: the credentials have expired, and the last refresh failed")
    minutes = f" in {(identity.expires - now) / 60:.0f} min" if identity.expires else ""
    return Readiness(True, f"{identity.name}: the last refresh failed; the credentials expire{minutes}")


def _file_error(path: str) -> str:
    """Return why a key file cannot be used, empty if it can. It is read anew, as a new process would."""
    try:
        if 0 <= time.time() - os.stat(path).st_mtime < SETTLE_SECONDS:
            return ""  # it is being written: processes use the value that they have
        read_key(path)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    except ValueError as error:
        return f"the content of the file {error}"
    return ""
