"""Whether requests to a bucket could be signed now: from what the processes know, without asking S3."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

from usp_s3_wsgi.config.configured_bucket import ConfiguredBucket
from usp_s3_wsgi.credentials.key_files import SETTLE_SECONDS, read_key, shown_path
from usp_s3_wsgi.status import recorded
from usp_s3_wsgi.status.recorded import Key
from usp_s3_wsgi.status.snapshot import Identity, Readiness

_READY = Readiness(True)
#: Seconds for which a failed refresh makes a bucket unready: the refresher waits no longer before the next one.
FAILURE_VALIDITY = 60.0
_CREDENTIALS = (
    "USPS30603 and USPS30601 in the error log say why: the trust policy of the role, the instance profile, the network "
    "to STS."
)
#: Minutes whose exchanges show that processes can still sign, with the keys that they have read earlier.
_STILL_SIGNING = 2
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
    metrics = module.read_metrics()
    identities = {identity.name: identity for identity in recorded.read_identities(metrics)}
    mounts, now = configuration.mounts(), time.time()
    by_bucket = {key: of_bucket(found, identities, now) for key, found in mounts.items()}
    unready = [key for key, found in by_bucket.items() if not found.is_ready and not mounts[key][0].error]
    for key in unready:
        if _is_still_signing(module, metrics, key):
            reason = (
                f"new processes cannot sign; running ones use the credentials that they have: {by_bucket[key].reason}"
            )
            by_bucket[key] = replace(by_bucket[key], is_ready=True, reason=reason)
    return Results(by_bucket, configuration.is_known)


def _is_still_signing(module: ModuleType, metrics: dict[str, Any], key: Key) -> bool:
    """Whether requests to a bucket succeed, although its files could not be read now."""
    exchanges = recorded.read_exchanges(module, metrics, key)
    latest = exchanges.hour[-_STILL_SIGNING:] if exchanges else ()
    return any(minute.successes for minute in latest) and not any(minute.faults for minute in latest)


def of_bucket(mounts: Iterable[ConfiguredBucket], identities: Mapping[str, Identity], now: float) -> Readiness:
    """Return the readiness of a bucket, with the reason of the first mount that is not ready.

    ``identities``: what all processes know of temporary credentials, by name. ``now``: unix time.
    """
    found = [of_mount(mount, identities, now) for mount in mounts]
    return min(found, key=lambda readiness: (readiness.is_ready, not readiness.reason), default=_READY)


def of_mount(mount: ConfiguredBucket, identities: Mapping[str, Identity], now: float) -> Readiness:
    """Return the readiness of a bucket in one place of the configuration."""
    if mount.error:
        return Readiness(False, mount.error, f"Correct the settings at {mount.file}:{mount.line}, and reload httpd.")
    for name, path in mount.files if mount.reads_files else ():
        reason = _file_error(path)
        if reason:
            shown = "".join(shown_path(path)) or "the file"
            action = (
                f"Let Apache's user read {shown} and the folders above it, and see that it holds the key and nothing "
                "else. No reload is needed."
            )
            return Readiness(False, f"{name}: {reason}", action)
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
        return Readiness(False, f"{identity.name}: there are no credentials, and the last refresh failed", _CREDENTIALS)
    if identity.expires and identity.expires <= now:
        reason = f"{identity.name}: the credentials have expired, and the last refresh failed"
        return Readiness(False, reason, _CREDENTIALS)
    minutes = f" in {(identity.expires - now) / 60:.0f} min" if identity.expires else ""
    return Readiness(True, f"{identity.name}: the last refresh failed; the credentials expire{minutes}", _CREDENTIALS)


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
