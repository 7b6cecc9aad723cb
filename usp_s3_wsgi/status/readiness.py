"""Whether requests to a bucket could be signed now: from what the processes know, without asking S3."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping

from usp_s3_wsgi.credentials.key_files import SETTLE_SECONDS, read_key
from usp_s3_wsgi.status.recorded import RecordedBucket
from usp_s3_wsgi.status.snapshot import Identity, Readiness

_READY = Readiness(True)


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

    Those of an idle server may expire: the next request refreshes them.
    """
    if not identity.is_failing:
        return _READY
    if not identity.successes:
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
