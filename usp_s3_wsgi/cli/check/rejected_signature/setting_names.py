"""The names of a bucket's settings in messages: of its keys, and of how its requests are signed."""

from __future__ import annotations

from typing import NamedTuple

from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings


class ProxyPass(NamedTuple):
    """The arguments of a ProxyPass that leads to a <Proxy> section; ``path``: empty if it is not known."""

    path: str
    url: str


class SettingNames:
    """The names of the settings of a bucket."""

    def __init__(self, settings: Settings, prefix: str = "S3", proxy_pass: ProxyPass | None = None) -> None:
        """``prefix``: S3Fallback for the fallback bucket. ``proxy_pass``: if the bucket is in a <Proxy> section."""
        self._settings, self._prefix, self._proxy_pass = settings, prefix, proxy_pass
        self.url = "S3FallbackURL" if prefix == "S3Fallback" else f"{prefix}BucketURL"
        if proxy_pass is not None:
            self.url = "the URL of ProxyPass and <Proxy>"
        self.region, self.use_headers = f"{prefix}Region", f"{prefix}UseHeaders"
        self.bucket, self.expires = f"{prefix}Bucket", f"{prefix}Expires"
        self.requester_pays, self.source = f"{prefix}RequesterPays", f"{prefix}CredentialSource"

    def set_url(self, url: BucketURL) -> str:
        """Return what to write for another URL of the bucket: in a <Proxy> section both finished lines."""
        new = _text(url)
        if self._proxy_pass is None:
            return f"set {self.url} to {new}"
        path, old = self._proxy_pass
        below = old.removeprefix(_text(self._settings.bucket_url).removesuffix("/"))
        if not path or below == old:  # a RewriteRule, or an address that httpd computes
            return f'write <Proxy "{new}">, and the same URL in ProxyPass or RewriteRule'
        return f'write ProxyPass "{path}" "{new.removesuffix("/")}{below}" and <Proxy "{new}">'

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
            return f"the content of {self._prefix}{setting}File"
        return f"{self._prefix}{setting}"


def sentence(clause: str) -> str:
    """Return a clause as a sentence of its own."""
    return f"{clause[0].upper()}{clause[1:]}."


def _text(url: BucketURL) -> str:
    return f"{url.scheme}://{url.authority}{url.prefix}"
