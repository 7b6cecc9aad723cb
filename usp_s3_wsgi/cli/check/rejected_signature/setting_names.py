"""The names of a bucket's settings in messages: of its keys, and of how its requests are signed."""

from __future__ import annotations

from usp_s3_wsgi.config.settings import Settings


class SettingNames:
    """The names of the settings of a bucket."""

    def __init__(self, settings: Settings, prefix: str = "S3", url: str = "") -> None:
        """``prefix``: S3Fallback for the fallback bucket. ``url``: where its URL is, by default in S3BucketURL."""
        self._settings, self._prefix = settings, prefix
        self.url = url or ("S3FallbackURL" if prefix == "S3Fallback" else f"{prefix}BucketURL")
        self.region, self.use_headers = f"{prefix}Region", f"{prefix}UseHeaders"
        self.bucket, self.expires = f"{prefix}Bucket", f"{prefix}Expires"
        self.requester_pays, self.source = f"{prefix}RequesterPays", f"{prefix}CredentialSource"

    @property
    def is_identity(self) -> bool:
        """Whether the credentials are those of a role or an AWS identity, and not in settings."""
        return self._settings.credential_source != "static" or self._settings.role_arn is not None

    @property
    def access_key(self) -> str:
        """What has the access key."""
        return self._name("AccessKey", "access_key", "the access key")

    @property
    def secret_key(self) -> str:
        """What has the secret key."""
        return self._name("SecretKey", "secret_key", "the secret key")

    @property
    def security_token(self) -> str:
        """What has the session token."""
        return self._name("SecurityToken", "security_token", "the session token")

    def _name(self, setting: str, field: str, words: str) -> str:
        if self._settings.role_arn is not None:
            return f"{words} of the role {self._settings.role_arn}"
        if self._settings.credential_source != "static":
            profile = f" {self._settings.profile}" if self._settings.profile else ""
            return f"{words} of the AWS identity{profile} ({self.source} aws)"
        in_file = getattr(self._settings, field) is None and getattr(self._settings, f"{field}_file") is not None
        if in_file:
            return f"the file of {self._prefix}{setting}File"
        return f"{self._prefix}{setting}"
