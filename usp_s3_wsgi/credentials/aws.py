"""Temporary credentials from AWS, or from what speaks its protocols: botocore finds the identity and asks STS.

The one module that imports botocore, and only when a section asks for it: it is the extra ``[aws]``.
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
from usp_s3_wsgi.credentials.identity import EXPIRED, Identity, Temporary
from usp_s3_wsgi.errors import CredentialsUnavailable, SettingError
from usp_s3_wsgi.signing.types import Credentials

#: Seconds that STS and the like may take, to connect and to answer; with one more try.
_CONNECT, _READ, _TRIES = 5, 10, 2
#: The oldest botocore that will do, as in setup.cfg.
_OLDEST = (1, 40, 4)
#: STS of Amazon knows every role; elsewhere the name of the region is of no account.
_ANY_REGION = "us-east-1"


_NOBODY = (
    "AWS knows no identity of this process: not by environment, profile, process, web identity, container or instance"
)


def fetch(identity: Identity, keys: Credentials | None) -> Temporary:
    """Ask for credentials; ``keys`` are the settings' own, None for the identity of this process.

    That is what botocore finds, in its order: environment, web identity, shared profile, process, container, instance.

    Raises:
        CredentialsUnavailable: there are none now.
        SettingError: botocore is not installed.
    """
    try:
        session = _session(identity)
        own = Temporary(keys, None, "the settings") if keys is not None else _own_identity(session)
        return own if identity.role_arn is None else _assumed(session, identity, own)
    except (CredentialsUnavailable, SettingError):
        raise
    except Exception as error:  # botocore's errors have no base class in common
        raise CredentialsUnavailable(_told(error)) from None


def _session(identity: Identity) -> Any:
    try:
        with import_path.own_packages_first():
            import botocore.session
            from botocore.config import Config
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise SettingError(
            f"S3RoleARN and S3CredentialSource aws need {missing}: pip install '.[aws]' in the folder of the sources"
        ) from None
    if tuple(map(int, botocore.__version__.split(".")[:3])) < _OLDEST:
        raise SettingError(
            f"botocore {botocore.__version__} of {botocore.__path__[0]} is older than {'.'.join(map(str, _OLDEST))}: "
            "if another application has loaded it in this process, run one of the two in daemon mode"
        )
    # A new one each time: what another process wrote into a profile or a token's file counts, and no old answer does.
    session = botocore.session.Session(profile=identity.profile)
    session.register_component("data_loader", _loader())
    session.set_config_variable("ec2_metadata_v1_disabled", True)
    session.set_config_variable("sts_regional_endpoints", "regional")
    retries = {"total_max_attempts": _TRIES, "mode": "standard"}
    session.set_default_client_config(Config(connect_timeout=_CONNECT, read_timeout=_READ, retries=retries))
    _silence()
    return session


@functools.lru_cache(maxsize=1)
def _loader() -> Any:
    """What botocore knows of the services: for all sessions together, or each reads and holds 8 MB of it."""
    from botocore.loaders import create_loader

    return create_loader()


def _own_identity(session: Any) -> Temporary:
    found = session.get_credentials()
    if found is None:
        raise CredentialsUnavailable(_NOBODY)
    frozen = found.get_frozen_credentials()
    # Not public, and the one place where botocore tells it; Amazon's own command line reads it there too.
    # https://github.com/aws/aws-cli/blob/develop/awscli/customizations/configure/exportcreds.py
    expires: datetime | None = getattr(found, "_expiry_time", None)
    credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
    return Temporary(credentials, expires.timestamp() if expires else None, str(found.method))


def _assumed(session: Any, identity: Identity, own: Temporary) -> Temporary:
    """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html"""
    client = session.create_client(
        "sts",
        region_name=identity.region or session.get_config_variable("region") or _ANY_REGION,
        endpoint_url=identity.sts_endpoint,
        aws_access_key_id=own.credentials.access_key,
        aws_secret_access_key=own.credentials.secret_key,
        aws_session_token=own.credentials.security_token,
    )
    begun = time.time()
    external = {"ExternalId": identity.role_external_id} if identity.role_external_id else {}
    try:
        answer = client.assume_role(
            RoleArn=identity.role_arn,
            RoleSessionName=identity.role_session_name,
            DurationSeconds=identity.role_duration,
            **external,
        )["Credentials"]
    finally:
        client.close()
    _silence()
    credentials = Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])
    # The end is told by STS's clock. If this server's is slow, what was asked for ends earlier than it thinks.
    expires = min(answer["Expiration"].timestamp(), begun + identity.role_duration)
    return Temporary(credentials, expires, f"AssumeRole by {own.source}")


def _told(error: Exception) -> str:
    """Say what went wrong. Not in the error's own words: they may hold what the endpoint answered, secrets too."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        said = cast("dict[str, Any]", response)
        status = said.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        code = str(said.get("Error", {}).get("Code", ""))
        return f"STS answered {status} {code if re.fullmatch('[A-Za-z0-9._-]{1,128}', code) else '(no code)'}"
    if type(error) is RuntimeError:  # botocore's, of what it has asked for twice
        return EXPIRED
    name = type(error).__name__
    return _NOBODY if name == "MetadataRetrievalError" else f"botocore: {name}"  # the last in its order has failed


class _NotOurs(logging.Filter):
    """Keep out what botocore logs in the threads of a refresh: answers and requests, with the secrets in them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not threading.current_thread().name.startswith("usp_s3_wsgi")


_not_ours = _NotOurs()


def _silence() -> None:
    """Loggers come into being with botocore's modules, which are imported as they are needed."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] == "botocore" and isinstance(logger, logging.Logger):
            logger.addFilter(_not_ours)
