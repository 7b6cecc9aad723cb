"""The operator's ``SetEnv`` lines: from the environment of a request to a frozen :class:`Settings` object.

``TABLE`` lists each setting's name, field and parser. Each distinct set of values is parsed once.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from usp_s3_wsgi.config import bucket_url, parsers, proxy_set
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.proxy_set import ProxySet
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.signing.types import SigningContext


@dataclass(frozen=True, slots=True)
class Settings:
    """The validated settings of one bucket. With a ``region`` requests are signed with Signature v4, else with v2.

    ``signing`` holds the settings that the signer needs. The repr shows no secrets.
    """

    bucket_url: BucketURL
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    security_token: str | None = field(default=None, repr=False)
    access_key_file: str | None = None
    secret_key_file: str | None = None
    security_token_file: str | None = None
    region: str | None = None
    use_headers: bool = False
    proxy_set: ProxySet = field(default_factory=ProxySet)
    expires: int = 300
    retries: int = 2
    pass_query: frozenset[str] = frozenset()
    pass_headers: tuple[str, ...] = ()
    pass_accept_encoding: bool = False
    denied_status: int = 403
    ca_file: str | None = None
    requester_pays: bool = False
    credential_source: str = "static"
    profile: str | None = None
    role_arn: str | None = None
    role_session_name: str = "usp_s3_wsgi"
    role_duration: int = 3600
    role_external_id: str | None = field(default=None, repr=False)
    sts_endpoint: str | None = None
    fallback: Settings | None = None
    fallback_on_404: bool = False
    signing: SigningContext = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        context = SigningContext(self.region, self.use_headers, self.expires, self.bucket_url.virtual_host_bucket)
        object.__setattr__(self, "signing", context)  # frozen: https://docs.python.org/3/library/dataclasses.html


class Setting(NamedTuple):
    """A row of the table. ``field`` is None for settings that :func:`parse` handles itself.

    The default is that of the field in :class:`Settings`. ``since``: the first version of this package that has the
    setting. docs/settings.md says what it means: "make docs" fails if it has no section for a row of this table.
    """

    name: str
    field: str | None
    parse: Callable[[str], Any]
    since: str


TABLE = (
    Setting("S3BucketURL", "bucket_url", bucket_url.parse, "1.0.0"),
    Setting("S3Bucket", None, parsers.token, "1.0.0"),
    Setting("S3AccessKey", "access_key", parsers.token, "1.0.0"),
    Setting("S3SecretKey", "secret_key", parsers.token, "1.0.0"),
    Setting("S3SecurityToken", "security_token", parsers.token, "1.0.0"),
    Setting("S3AccessKeyFile", "access_key_file", parsers.file, "1.0.0"),
    Setting("S3SecretKeyFile", "secret_key_file", parsers.file, "1.0.0"),
    Setting("S3SecurityTokenFile", "security_token_file", parsers.file, "1.0.0"),
    Setting("S3Region", "region", parsers.region, "1.0.0"),
    Setting("S3UseHeaders", "use_headers", parsers.on_off, "1.0.0"),
    Setting("S3ProxySet", "proxy_set", proxy_set.parse, "1.0.0"),
    Setting("S3CredentialSource", "credential_source", parsers.credential_source, "1.0.0"),
    Setting("S3Profile", "profile", parsers.profile, "1.3.0"),
    Setting("S3RoleARN", "role_arn", parsers.role_arn, "1.3.0"),
    Setting("S3RoleSessionName", "role_session_name", parsers.role_session_name, "1.3.0"),
    Setting("S3RoleDuration", "role_duration", parsers.integer(900, 43_200), "1.3.0"),
    Setting("S3RoleExternalId", "role_external_id", parsers.external_id, "1.3.0"),
    Setting("S3STSEndpoint", "sts_endpoint", parsers.endpoint, "1.3.0"),
    Setting("S3RequesterPays", "requester_pays", parsers.on_off, "1.3.0"),
    Setting("S3Expires", "expires", parsers.integer(1, 604_800), "1.0.0"),
    Setting("S3Retries", "retries", parsers.integer(0, 10), "1.0.0"),
    Setting("S3PassQuery", "pass_query", parsers.query_names, "1.0.0"),
    Setting("S3PassHeaders", "pass_headers", parsers.header_prefixes, "1.0.0"),
    Setting("S3PassAcceptEncoding", "pass_accept_encoding", parsers.on_off, "1.7.0"),
    Setting("S3DeniedStatus", "denied_status", parsers.denied_status, "1.0.0"),
    Setting("S3CAFile", "ca_file", parsers.file, "1.0.0"),
    Setting("S3FallbackURL", None, bucket_url.parse, "1.2.0"),
    Setting("S3FallbackOn404", "fallback_on_404", parsers.on_off, "1.2.0"),
)
_BY_NAME = {row.name: row for row in TABLE}
#: Settings about the client, which are the same for both buckets. All others may differ for the fallback bucket.
_CLIENT_SETTINGS = frozenset(
    {"S3PassQuery", "S3PassHeaders", "S3PassAcceptEncoding", "S3DeniedStatus", "S3FallbackOn404"}
)
_FALLBACK_PREFIX = "S3Fallback"
_BY_NAME |= {
    f"{_FALLBACK_PREFIX}{row.name.removeprefix('S3')}": row
    for row in TABLE
    if row.name not in _CLIENT_SETTINGS and not row.name.startswith((_FALLBACK_PREFIX, "S3BucketURL"))
}
#: All names of settings.
NAMES = frozenset(_BY_NAME)
_SECRETS = ("S3AccessKey", "S3SecretKey", "S3SecurityToken")
#: A name with at least this difflib.SequenceMatcher ratio to a setting's name is a misspelt setting.
_MIN_SIMILARITY = 0.75
_NON_WORD = re.compile(r"\W", re.ASCII)
_STATIC_KEYS = frozenset({name + suffix for name in _SECRETS for suffix in ("", "File")})
#: Settings that only matter with S3RoleARN.
_ROLE = frozenset({"S3RoleSessionName", "S3RoleDuration", "S3RoleExternalId", "S3STSEndpoint"})
#: If one of these is set for the fallback bucket, it inherits none of the primary bucket's credentials and roles.
_CREDENTIALS = _STATIC_KEYS | {"S3CredentialSource", "S3Profile"}
_CREDENTIALS_AND_ROLE = _CREDENTIALS | _ROLE | {"S3RoleARN"}


def from_environ(environ: Mapping[str, Any]) -> Settings:
    """Return the settings in the environment of a request.

    Raises:
        SettingError: a setting is missing, misspelt, set twice or has a value that is not allowed.
    """
    # Names in any case: a misspelt S3Accesskey must raise, and not silently be ignored.
    return parse(tuple((name, value) for name, value in environ.items() if name[:2] in {"S3", "s3"}))


# The maximum is more than the number of buckets of a server. Above it, the oldest settings are parsed again.
@lru_cache(maxsize=16_384)
def parse(pairs: tuple[tuple[str, str], ...]) -> Settings:
    """Return the settings in pairs of name and value. Raises: SettingError."""
    # An empty value unsets a setting that a section inherits.
    values = {name: value for name, text in pairs if (value := _parse_value(name, text)) is not None}
    primary = {name: value for name, value in values.items() if not _is_for_fallback(name)}
    settings = _build(primary)
    fallback = {
        f"S3{name.removeprefix(_FALLBACK_PREFIX)}": value for name, value in values.items() if _is_for_fallback(name)
    }
    if not fallback and not settings.fallback_on_404:
        return settings
    if "S3URL" not in fallback:
        raise SettingError("S3FallbackURL is not set, but another S3Fallback setting is")
    fallback["S3BucketURL"] = fallback.pop("S3URL")
    not_inherited = {"S3Bucket", *(_CREDENTIALS_AND_ROLE if _CREDENTIALS & set(fallback) else ())}
    inherited = {name: value for name, value in primary.items() if name not in not_inherited}
    try:
        return replace(settings, fallback=_build(inherited | fallback))
    except SettingError as error:
        raise SettingError(f"the fallback bucket (settings S3Fallback...): {error}") from None


def _is_for_fallback(name: str) -> bool:
    """Whether a setting is about the fallback bucket itself, not about when it is used."""
    return name.startswith(_FALLBACK_PREFIX) and name != "S3FallbackOn404"


def _build(values: Mapping[str, Any]) -> Settings:
    """Return the settings of one bucket from parsed values by name."""
    if "S3BucketURL" not in values:
        raise SettingError("S3BucketURL is not set")
    _check_credentials(values)
    settings = Settings(**{row.field: values[row.name] for row in TABLE if row.field and row.name in values})
    return _with_bucket(settings, values.get("S3Bucket"))


def _check_credentials(values: Mapping[str, Any]) -> None:
    is_static = values.get("S3CredentialSource", "static") == "static"
    if is_static and "S3Profile" in values:
        raise SettingError("S3Profile is set, but S3CredentialSource is not aws")
    for name in sorted(_STATIC_KEYS & set(values)) if not is_static else ():
        raise SettingError(f"{name} is set, but S3CredentialSource is aws: remove one of them")
    for name in sorted(_ROLE & set(values)) if "S3RoleARN" not in values else ():
        raise SettingError(f"{name} is set, but S3RoleARN is not")
    for name in _SECRETS if is_static else ():
        if name in values and f"{name}File" in values:
            raise SettingError(f"{name} and {name}File are both set: set only one of them")
        if name not in values and f"{name}File" not in values and name != "S3SecurityToken":
            raise SettingError(f"{name} is not set (nor {name}File)")


def _parse_value(name: str, text: str) -> Any:
    row = _BY_NAME.get(name)
    if row is None:
        _check_spelling(name, text)
        return None
    try:
        return row.parse(text) if text else None
    except ValueError as error:
        raise SettingError(f"{name} {error}") from None


def _check_spelling(name: str, text: str) -> None:
    """Raise SettingError for a misspelt setting. Names that are not similar belong to other programs (S3CMD_CONFIG)."""
    by_lowercase = {setting.lower(): setting for setting in _BY_NAME}
    word = _NON_WORD.split(name, maxsplit=1)[0]
    if word == name and not text:
        return  # unset by a section that inherits it
    similar = difflib.get_close_matches(word.lower(), by_lowercase, n=1, cutoff=_MIN_SIMILARITY)
    if not similar:
        return
    suggestion = by_lowercase[similar[0]]
    if word != name:
        # The name holds a value, perhaps a secret: show only the prefix that it shares with the setting's name.
        common = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(name, suggestion, strict=False))
        name = "".join(letter for letter, _ in common) + "..."
    raise SettingError(f"{name} is not a setting: did you mean {suggestion}?")


def _with_bucket(settings: Settings, bucket: str | None) -> Settings:
    if bucket is not None:
        try:
            return replace(settings, bucket_url=settings.bucket_url.with_bucket(bucket))
        except ValueError as error:
            raise SettingError(f"S3Bucket {error}") from None
    url = settings.bucket_url
    if url.bucket:
        return settings
    if not url.host_includes_bucket:
        # The URL may be that of a whole service, where the client's path would select the bucket.
        raise SettingError(
            "S3BucketURL shows no bucket: put it into the path, or set S3Bucket where the host begins with it"
        )
    if settings.region is None:
        raise SettingError(
            "S3Bucket is not set: Signature v2 signs the bucket's name, which S3BucketURL does not show "
            "(Signature v4, which S3Region selects, does not sign it)"
        )
    return replace(settings, bucket_url=replace(url, path_style=False))


def check_value(name: str, text: str) -> None:
    """Check a single setting. Raises: SettingError: its name is misspelt, or its value is not allowed."""
    _parse_value(name, text)
