"""Who signs: key pairs, those that end, and what tells one identity from another."""

from __future__ import annotations

from dataclasses import dataclass, field

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.signing.types import Credentials

#: What is said of credentials that cannot be used when they come.
EXPIRED = "what came had expired already; is this server's clock right?"


@dataclass(frozen=True, slots=True)
class Temporary:
    """Credentials that end at ``expires`` (unix seconds; None: not known to end); ``source``: where they come from."""

    credentials: Credentials
    expires: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What AWS is asked for: the identity of the process (``aws``) or the settings' own, and a role for it to assume.

    Sections that mean the same share one, so the fields are all that makes a difference; ``keys`` are the settings and
    files that the settings' own keys come from.
    """

    keys: tuple[str | None, ...] = field(repr=False)
    profile: str | None
    role_arn: str | None
    role_session_name: str
    role_duration: int
    role_external_id: str | None = field(repr=False)
    sts_endpoint: str | None
    region: str | None

    def __str__(self) -> str:
        base = "the settings' keys" if any(self.keys) else f"the AWS profile {self.profile}" if self.profile else "AWS"
        return f"{self.role_arn} (by {base})" if self.role_arn else base


def of(settings: Settings) -> Identity | None:
    """Return whom AWS is asked for, None where the settings hold the credentials themselves."""
    if settings.credential_source == "static" and settings.role_arn is None:
        return None
    keys = (
        settings.access_key, settings.secret_key, settings.security_token,
        settings.access_key_file, settings.secret_key_file, settings.security_token_file,
    )  # fmt: skip
    return Identity(
        keys,
        settings.profile,
        settings.role_arn,
        settings.role_session_name,
        settings.role_duration,
        settings.role_external_id,
        settings.sts_endpoint,
        settings.region if settings.role_arn else None,
    )
