"""Temporary credentials from AWS, or from servers with the same protocols: botocore loads them and calls STS.

Only this module imports botocore, the extra ``[aws]``, and only if S3RoleARN or S3CredentialSource aws is set.
https://botocore.amazonaws.com/v1/documentation/api/latest/reference/credentials.html
"""

from __future__ import annotations

import functools
import logging
import re
import threading
import time
from datetime import datetime
from typing import Any, cast

from usp_s3_wsgi import import_path
from usp_s3_wsgi.credentials.identity import ALREADY_EXPIRED, FetchedCredentials, Identity
from usp_s3_wsgi.errors import CredentialsUnavailable, SettingError
from usp_s3_wsgi.signing.types import Credentials

#: Seconds for the connection to STS and the like, and for the response; and how often a request is sent.
_CONNECT_TIMEOUT, _READ_TIMEOUT, _MAX_ATTEMPTS = 5, 10, 2
#: The lowest version of botocore, as in setup.cfg.
MIN_BOTOCORE = (1, 40, 4)
#: STS in this region assumes any role of AWS. Other servers ignore the region's name.
_DEFAULT_REGION = "us-east-1"
_NO_CREDENTIALS = (
    "no AWS credentials found in the environment, web identity, shared profile, credential process, container or "
    "instance metadata"
)


def fetch(identity: Identity, static_credentials: Credentials | None) -> FetchedCredentials:
    """Return new credentials for an identity. ``static_credentials``: the configured keys, None for those of AWS.

    Without them botocore's provider chain is used: environment, web identity, shared profile, credential process,
    container, instance metadata.

    Raises:
        CredentialsUnavailable: there are no credentials now.
        SettingError: botocore is not installed, or is too old.
    """
    try:
        session = _create_session(identity)
        if static_credentials is not None:
            source = FetchedCredentials(static_credentials, None, "static")
        else:
            source = _load_credentials(session)
        return source if identity.role_arn is None else _assume_role(session, identity, source)
    except (CredentialsUnavailable, SettingError):
        raise
    except Exception as error:  # botocore's errors have no common base class
        raise CredentialsUnavailable(_describe(error)) from None


def _create_session(identity: Identity) -> Any:
    try:
        with import_path.own_packages_first():
            import botocore.session
            from botocore.config import Config
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise SettingError(
            f"S3RoleARN and S3CredentialSource aws need {missing}: pip install '.[aws]' in the source directory"
        ) from None
    if tuple(map(int, botocore.__version__.split(".")[:3])) < MIN_BOTOCORE:
        raise SettingError(
            f"botocore {botocore.__version__} of {botocore.__path__[0]} is older than "
            f"{'.'.join(map(str, MIN_BOTOCORE))}: if another application loaded it into this process, run one of the "
            "two applications in daemon mode"
        )
    # A new session each time: it reads profiles and token files again, and holds no cached responses.
    session = botocore.session.Session(profile=identity.profile)
    session.register_component("data_loader", _data_loader())
    session.set_config_variable("ec2_metadata_v1_disabled", True)
    session.set_config_variable("sts_regional_endpoints", "regional")
    retries = {"total_max_attempts": _MAX_ATTEMPTS, "mode": "standard"}
    config = Config(connect_timeout=_CONNECT_TIMEOUT, read_timeout=_READ_TIMEOUT, retries=retries)
    session.set_default_client_config(config)
    _silence_botocore()
    return session


@functools.lru_cache(maxsize=1)
def _data_loader() -> Any:
    """Return the loader of botocore's service models. All sessions share it: it reads and holds 8 MB."""
    from botocore.loaders import create_loader

    return create_loader()


def _load_credentials(session: Any) -> FetchedCredentials:
    """Return the credentials that botocore's provider chain finds."""
    found = session.get_credentials()
    if found is None:
        raise CredentialsUnavailable(_NO_CREDENTIALS)
    frozen = found.get_frozen_credentials()
    # The expiration is in no public attribute. Amazon's own command line reads this one, too:
    # https://github.com/aws/aws-cli/blob/develop/awscli/customizations/configure/exportcreds.py
    expires: datetime | None = getattr(found, "_expiry_time", None)
    credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
    return FetchedCredentials(credentials, expires.timestamp() if expires else None, str(found.method))


def _assume_role(session: Any, identity: Identity, source: FetchedCredentials) -> FetchedCredentials:
    """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html"""
    client = session.create_client(
        "sts",
        region_name=identity.region or session.get_config_variable("region") or _DEFAULT_REGION,
        endpoint_url=identity.sts_endpoint,
        aws_access_key_id=source.credentials.access_key,
        aws_secret_access_key=source.credentials.secret_key,
        aws_session_token=source.credentials.security_token,
    )
    requested_at = time.time()
    external_id = {"ExternalId": identity.role_external_id} if identity.role_external_id else {}
    try:
        response = client.assume_role(
            RoleArn=identity.role_arn,
            RoleSessionName=identity.role_session_name,
            DurationSeconds=identity.role_duration,
            **external_id,
        )["Credentials"]
    finally:
        client.close()
    _silence_botocore()
    credentials = Credentials(response["AccessKeyId"], response["SecretAccessKey"], response["SessionToken"])
    # The expiration is by the clock of STS. If that clock is ahead of this server's, they expire earlier than it says.
    expires = min(response["Expiration"].timestamp(), requested_at + identity.role_duration)
    return FetchedCredentials(credentials, expires, f"AssumeRole with {source.source} credentials")


def _describe(error: Exception) -> str:
    """Return a message for an error. Its own text may hold the response of the endpoint, with secrets."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        parsed = cast("dict[str, Any]", response)
        status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        code = str(parsed.get("Error", {}).get("Code", ""))
        return f"STS answered {status} {code if re.fullmatch('[A-Za-z0-9._-]{1,128}', code) else '(no code)'}"
    if type(error) is RuntimeError:  # botocore raises it if refreshed credentials have expired, too
        return ALREADY_EXPIRED
    name = type(error).__name__
    # Instance metadata is the last provider of the chain.
    return _NO_CREDENTIALS if name == "MetadataRetrievalError" else f"botocore: {name}"


class _RefreshThreadFilter(logging.Filter):
    """Drops what botocore logs in the refresher's threads: requests and responses, with secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not threading.current_thread().name.startswith("usp_s3_wsgi")


_refresh_thread_filter = _RefreshThreadFilter()


def _silence_botocore() -> None:
    """Add the filter to botocore's loggers. Call it again after botocore may have imported further modules."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] == "botocore" and isinstance(logger, logging.Logger):
            logger.addFilter(_refresh_thread_filter)
