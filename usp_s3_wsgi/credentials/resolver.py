"""From settings to the credentials that sign: the settings' own, those in files, or temporary ones of AWS."""

from __future__ import annotations

import os
import threading

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials import identity
from usp_s3_wsgi.credentials.identity import Identity
from usp_s3_wsgi.credentials.key_files import files
from usp_s3_wsgi.credentials.refresher import Refresher
from usp_s3_wsgi.signing.types import Credentials

#: The secret is not that of the access key. AWS hands out both together, so it is the request that S3 reads in another
#: way, such as one for a key that is not UTF-8; what clients ask for must not cost the credentials of all others.
_WRONG_SIGNATURE = "SignatureDoesNotMatch"


def resolve(settings: Settings) -> Credentials:
    """Return the credentials of a section; where none are valid, wait for them, ``timeout`` of S3ProxySet at most.

    Raises:
        SettingError: a file cannot be read or does not hold a key, and never did; or botocore is missing.
        CredentialsUnavailable: there are none now.
    """
    asked_for = identity.of(settings)
    if asked_for is not None:
        return _refreshers.of(asked_for, settings).get(settings.proxy_set.timeout)
    return _of_settings(settings, at_once=False)


def renew(settings: Settings, refused: Credentials, patience: float, code: str = "") -> bool:
    """Whether there are other credentials than those that S3 refused: those are what :func:`resolve` returns then.

    ``patience``: seconds that may be waited for them. ``code``: S3's.

    Raises:
        SettingError: as there.
    """
    asked_for = identity.of(settings)
    if asked_for is not None:
        return _refreshers.of(asked_for, settings).renew(refused, patience, is_doubted=code != _WRONG_SIGNATURE)
    return _of_settings(settings, at_once=True) != refused


def doubt(settings: Settings, code: str = "") -> None:
    """Ask for other credentials than :func:`resolve` returns now, for S3 has refused them; nobody waits for them.

    ``code``: S3's.

    Raises:
        SettingError: as there.
    """
    asked_for = identity.of(settings)
    if asked_for is not None:
        if code != _WRONG_SIGNATURE:
            _refreshers.of(asked_for, settings).doubt()
    else:
        _of_settings(settings, at_once=True)


def _of_settings(settings: Settings, at_once: bool) -> Credentials:
    access_key = settings.access_key or files.read("S3AccessKeyFile", settings.access_key_file, at_once)
    secret_key = settings.secret_key or files.read("S3SecretKeyFile", settings.secret_key_file, at_once)
    token = settings.security_token
    if settings.security_token_file:
        token = files.read("S3SecurityTokenFile", settings.security_token_file, at_once)
    return Credentials(access_key, secret_key, token)


class _Refreshers:
    """One for each identity, per process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a process that was forked: threads, and whatever held a lock, stay with the other one."""
        self._lock = threading.Lock()
        self._known: dict[Identity, Refresher] = {}

    def of(self, asked_for: Identity, settings: Settings) -> Refresher:
        known = self._known.get(asked_for)
        if known is None:
            with self._lock:
                known = self._known.get(asked_for) or self._new(asked_for, settings)
                self._known[asked_for] = known
        return known

    def _new(self, asked_for: Identity, settings: Settings) -> Refresher:
        from usp_s3_wsgi.credentials import aws

        is_static = settings.credential_source == "static"
        return Refresher(
            str(asked_for), lambda: aws.fetch(asked_for, _of_settings(settings, False) if is_static else None)
        )


_refreshers = _Refreshers()
os.register_at_fork(after_in_child=_refreshers.forget)
