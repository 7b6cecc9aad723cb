"""From settings to the credentials for signing: keys in the settings, key files, or temporary credentials from AWS."""

from __future__ import annotations

import os
import threading

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials import identity
from usp_s3_wsgi.credentials.identity import Identity
from usp_s3_wsgi.credentials.key_files import key_files
from usp_s3_wsgi.credentials.refresher import Refresher
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.signing.types import Credentials

#: S3's code for a signature made with a wrong secret key. AWS issues access key and secret key together, so a wrong
#: secret is not the reason here: S3 computed another canonical request, for example because the key is not UTF-8. A
#: client that requests such a key must not invalidate the credentials of all others.
_SIGNATURE_MISMATCH = "SignatureDoesNotMatch"


def resolve(settings: Settings) -> Credentials:
    """Return the credentials for these settings.

    If there are no valid temporary credentials, wait for a refresh, at most ``timeout`` seconds of S3ProxySet.

    Raises:
        SettingError: a key file holds no valid key and none is cached, or botocore is not installed.
        CredentialsUnavailable: there are no valid credentials now.
    """
    aws_identity = identity.from_settings(settings)
    if aws_identity is not None:
        return _refreshers.get(aws_identity, settings).get(settings.proxy_set.timeout)
    return _static_credentials(settings, allow_unsettled=False)


def current(settings: Settings) -> Credentials | None:
    """Return the credentials that :func:`resolve` returned last, without waiting; None if there are none."""
    aws_identity = identity.from_settings(settings)
    if aws_identity is not None:
        return _refreshers.get(aws_identity, settings).current()
    try:
        return _static_credentials(settings, allow_unsettled=False)
    except SettingError:
        return None


def expiration(settings: Settings) -> float | None:
    """Return when the credentials that :func:`resolve` returned expire, in unix seconds; None if that is not known."""
    aws_identity = identity.from_settings(settings)
    return None if aws_identity is None else _refreshers.get(aws_identity, settings).expires


def replace_rejected(settings: Settings, rejected: Credentials, timeout: float, code: str = "") -> bool:
    """Return whether there are other credentials than ``rejected``, which S3 refused; :func:`resolve` returns them.

    ``timeout``: seconds to wait for new credentials. ``code``: S3's error code.

    Raises:
        SettingError: as :func:`resolve`.
    """
    aws_identity = identity.from_settings(settings)
    if aws_identity is not None:
        refresher = _refreshers.get(aws_identity, settings)
        return refresher.replace_rejected(rejected, timeout, may_refresh=code != _SIGNATURE_MISMATCH)
    return _static_credentials(settings, allow_unsettled=True) != rejected


def invalidate(settings: Settings, code: str = "") -> None:
    """Replace the credentials that S3 refused, without waiting for the new ones. ``code``: S3's error code.

    Raises:
        SettingError: as :func:`resolve`.
    """
    aws_identity = identity.from_settings(settings)
    if aws_identity is not None:
        if code != _SIGNATURE_MISMATCH:
            _refreshers.get(aws_identity, settings).invalidate()
    else:
        _static_credentials(settings, allow_unsettled=True)


def reset() -> None:
    """Forget all temporary credentials.

    A forked child must do so: the parent's refresh threads do not run there, and a lock that they held is never
    released.
    """
    _refreshers.reset()


def _static_credentials(settings: Settings, allow_unsettled: bool) -> Credentials:
    access_key = settings.access_key or key_files.read("S3AccessKeyFile", settings.access_key_file, allow_unsettled)
    secret_key = settings.secret_key or key_files.read("S3SecretKeyFile", settings.secret_key_file, allow_unsettled)
    token = settings.security_token
    if settings.security_token_file:
        token = key_files.read("S3SecurityTokenFile", settings.security_token_file, allow_unsettled)
    return Credentials(access_key, secret_key, token)


class _Refreshers:
    """The refreshers of this process, one for each identity."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._by_identity: dict[Identity, Refresher] = {}

    def get(self, aws_identity: Identity, settings: Settings) -> Refresher:
        refresher = self._by_identity.get(aws_identity)
        if refresher is None:
            with self._lock:
                refresher = self._by_identity.get(aws_identity) or self._create(aws_identity, settings)
                self._by_identity[aws_identity] = refresher
        return refresher

    def _create(self, aws_identity: Identity, settings: Settings) -> Refresher:
        from usp_s3_wsgi.credentials import aws

        is_static = settings.credential_source == "static"
        return Refresher(
            str(aws_identity),
            lambda: aws.fetch(aws_identity, _static_credentials(settings, False) if is_static else None),
        )


_refreshers = _Refreshers()
os.register_at_fork(after_in_child=reset)
