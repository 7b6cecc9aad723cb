"""Temporary credentials, and the AWS identity that they are requested for."""

from __future__ import annotations

from dataclasses import dataclass, field

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.signing.types import Credentials

#: The error for credentials that have expired before they can be used.
ALREADY_EXPIRED = "the new credentials have already expired: check this server's clock"


@dataclass(frozen=True, slots=True)
class FetchedCredentials:
    """Credentials that expire at ``expires`` (unix seconds, None: no known expiration); ``source`` names the provider.

    ``source`` is botocore's name of the credential provider, such as ``iam-role``.
    """

    credentials: Credentials
    expires: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Identity:
    """The AWS identity to get credentials for: the one of this process or the configured keys, and a role to assume.

    Settings with equal identities share one refresher, so every field that changes the credentials belongs here.
    ``static_keys`` are the keys in the settings and the paths of the key files; all are None with
    ``S3CredentialSource aws``.
    """

    static_keys: tuple[str | None, ...] = field(repr=False)
    profile: str | None
    role_arn: str | None
    role_session_name: str
    role_duration: int
    role_external_id: str | None = field(repr=False)
    sts_endpoint: str | None
    region: str | None

    def __str__(self) -> str:
        source = "S3CredentialSource static" if any(self.static_keys) else "S3CredentialSource aws"
        if self.profile:
            source = f"S3Profile {self.profile}"
        return f"{self.role_arn} ({source})" if self.role_arn else source


def from_settings(settings: Settings) -> Identity | None:
    """Return the AWS identity to get credentials for, None if the settings or key files hold the credentials."""
    if settings.credential_source == "static" and settings.role_arn is None:
        return None
    static_keys = (
        settings.access_key, settings.secret_key, settings.security_token,
        settings.access_key_file, settings.secret_key_file, settings.security_token_file,
    )  # fmt: skip
    return Identity(
        static_keys,
        settings.profile,
        settings.role_arn,
        settings.role_session_name,
        settings.role_duration,
        settings.role_external_id,
        settings.sts_endpoint,
        settings.region if settings.role_arn else None,
    )
