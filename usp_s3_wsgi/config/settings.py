"""What an operator wrote with ``SetEnv``: from the request's environment to one frozen :class:`Settings`.

One table says everything: name, field, parser, default. Settings are parsed once for each distinct set of values.
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
    """The settings of one bucket, checked. ``region`` set: Signature v4, else v2. Secrets are not in the repr.

    ``signing``: what the signer needs of them.
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
        url = self.bucket_url
        context = SigningContext(self.region, self.use_headers, self.expires, None if url.path_style else url.bucket)
        object.__setattr__(self, "signing", context)  # frozen: https://docs.python.org/3/library/dataclasses.html


class Setting(NamedTuple):
    """A row of the table. ``field`` None: read by :func:`parse` itself. The default is the field's own."""

    name: str
    field: str | None
    parse: Callable[[str], Any]


TABLE = (
    Setting("S3BucketURL", "bucket_url", bucket_url.parse),
    Setting("S3Bucket", None, parsers.token),
    Setting("S3AccessKey", "access_key", parsers.token),
    Setting("S3SecretKey", "secret_key", parsers.token),
    Setting("S3SecurityToken", "security_token", parsers.token),
    Setting("S3AccessKeyFile", "access_key_file", parsers.file),
    Setting("S3SecretKeyFile", "secret_key_file", parsers.file),
    Setting("S3SecurityTokenFile", "security_token_file", parsers.file),
    Setting("S3Region", "region", parsers.region),
    Setting("S3UseHeaders", "use_headers", parsers.on_off),
    Setting("S3ProxySet", "proxy_set", proxy_set.parse),
    Setting("S3CredentialSource", "credential_source", parsers.credential_source),
    Setting("S3Profile", "profile", parsers.profile),
    Setting("S3RoleARN", "role_arn", parsers.role_arn),
    Setting("S3RoleSessionName", "role_session_name", parsers.role_session_name),
    Setting("S3RoleDuration", "role_duration", parsers.integer(900, 43_200)),
    Setting("S3RoleExternalId", "role_external_id", parsers.external_id),
    Setting("S3STSEndpoint", "sts_endpoint", parsers.endpoint),
    Setting("S3RequesterPays", "requester_pays", parsers.on_off),
    Setting("S3Expires", "expires", parsers.integer(1, 604_800)),
    Setting("S3Retries", "retries", parsers.integer(0, 10)),
    Setting("S3PassQuery", "pass_query", parsers.query_names),
    Setting("S3PassHeaders", "pass_headers", parsers.header_prefixes),
    Setting("S3PassAcceptEncoding", "pass_accept_encoding", parsers.on_off),
    Setting("S3DeniedStatus", "denied_status", parsers.denied_status),
    Setting("S3CAFile", "ca_file", parsers.file),
    Setting("S3FallbackURL", None, bucket_url.parse),
    Setting("S3FallbackOn404", "fallback_on_404", parsers.on_off),
)
_BY_NAME = {row.name: row for row in TABLE}
#: Settings of the client's side, which are the same for both buckets; every other one may differ.
_OF_BOTH = frozenset({"S3PassQuery", "S3PassHeaders", "S3PassAcceptEncoding", "S3DeniedStatus", "S3FallbackOn404"})
_FALLBACK = "S3Fallback"
_BY_NAME |= {
    f"{_FALLBACK}{row.name.removeprefix('S3')}": row
    for row in TABLE
    if row.name not in _OF_BOTH and not row.name.startswith((_FALLBACK, "S3BucketURL"))
}
#: All names of settings.
NAMES = frozenset(_BY_NAME)
_SECRETS = ("S3AccessKey", "S3SecretKey", "S3SecurityToken")
#: The ratio from which on a name is taken for a misspelt setting, as difflib.SequenceMatcher computes it.
_SIMILAR = 0.75
_NO_NAME = re.compile(r"\W", re.ASCII)
_KEYS = frozenset({name + suffix for name in _SECRETS for suffix in ("", "File")})
#: What is about the role alone.
_OF_ROLE = frozenset({"S3RoleSessionName", "S3RoleDuration", "S3RoleExternalId", "S3STSEndpoint"})
#: Whoever gives one of these for the second bucket gives it an identity of its own: nothing of the first one's counts.
_OWN_IDENTITY = _KEYS | {"S3CredentialSource", "S3Profile"}
_IDENTITY = _OWN_IDENTITY | _OF_ROLE | {"S3RoleARN"}


def from_environ(environ: Mapping[str, Any]) -> Settings:
    """Return the settings that the section of this request holds.

    Raises:
        SettingError: a setting is missing, misspelt, given twice or not one of the allowed values.
    """
    # Any case: Apache's names are case-sensitive, so S3Accesskey would silently not count.
    return parse(tuple((name, value) for name, value in environ.items() if name[:2] in {"S3", "s3"}))


# As many sets as a server may have buckets: beyond that the oldest are parsed again.
@lru_cache(maxsize=16_384)
def parse(pairs: tuple[tuple[str, str], ...]) -> Settings:
    """Return the settings of name and value pairs. Raises: SettingError."""
    # An empty value is as if the line were not there: so a section unsets what it inherits.
    given = {name: value for name, text in pairs if (value := _value(name, text)) is not None}
    first = {name: value for name, value in given.items() if not _is_for_second(name)}
    section = _settings(first)
    second = {f"S3{name.removeprefix(_FALLBACK)}": value for name, value in given.items() if _is_for_second(name)}
    if not second and not section.fallback_on_404:
        return section
    if "S3URL" not in second:
        raise SettingError("S3FallbackURL is not set, but another setting of the second bucket is")
    second["S3BucketURL"] = second.pop("S3URL")
    inherited = set(first) - {"S3Bucket", *(_IDENTITY if _OWN_IDENTITY & set(second) else ())}
    try:
        return replace(section, fallback=_settings({name: first[name] for name in inherited} | second))
    except SettingError as error:
        raise SettingError(f"the second bucket (settings S3Fallback...): {error}") from None


def _is_for_second(name: str) -> bool:
    return name.startswith(_FALLBACK) and name != "S3FallbackOn404"


def _settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings of one bucket, their values by name."""
    if "S3BucketURL" not in given:
        raise SettingError("S3BucketURL is not set")
    _check_identity(given)
    settings = Settings(**{row.field: given[row.name] for row in TABLE if row.field and row.name in given})
    return _with_bucket(settings, given.get("S3Bucket"))


def _check_identity(given: Mapping[str, Any]) -> None:
    own = given.get("S3CredentialSource", "static") == "static"
    for name in sorted(_KEYS if not own else {"S3Profile"}):
        if name in given:
            raise SettingError(
                f"{name} is set, and S3CredentialSource is {'static' if own else 'aws'}: give one of them"
            )
    for name in sorted(_OF_ROLE & set(given)) if "S3RoleARN" not in given else ():
        raise SettingError(f"{name} is set, but not S3RoleARN")
    for name in _SECRETS if own else ():
        if name in given and f"{name}File" in given:
            raise SettingError(f"{name} and {name}File are both set: give one of them")
        if name not in given and f"{name}File" not in given and name != "S3SecurityToken":
            raise SettingError(f"{name} is not set (nor {name}File)")


def _value(name: str, text: str) -> Any:
    row = _BY_NAME.get(name)
    if row is None:
        _check_spelling(name, text)
        return None
    try:
        return row.parse(text) if text else None
    except ValueError as error:
        raise SettingError(f"{name} {error}") from None


def _check_spelling(name: str, text: str) -> None:
    """Refuse a misspelt setting; a name that is not similar to one is a variable of another program (S3CMD_CONFIG)."""
    by_lowercase = {known.lower(): known for known in _BY_NAME}
    word = _NO_NAME.split(name, maxsplit=1)[0]
    if word == name and not text:
        return  # a section unsets what it inherits
    similar = difflib.get_close_matches(word.lower(), by_lowercase, n=1, cutoff=_SIMILAR)
    if not similar:
        return
    known = by_lowercase[similar[0]]
    if word != name:
        # A value was written into the name: only what it has in common with a setting's is shown.
        common = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(name, known, strict=False))
        name = "".join(letter for letter, _ in common) + "..."
    raise SettingError(f"{name} is not a setting: did you mean {known}?")


def _with_bucket(settings: Settings, bucket: str | None) -> Settings:
    if bucket is not None:
        try:
            return replace(settings, bucket_url=settings.bucket_url.named(bucket))
        except ValueError as error:
            raise SettingError(f"S3Bucket {error}") from None
    url = settings.bucket_url
    if url.bucket:
        return settings
    if not url.is_buckets_host:
        # Such a URL may be that of a whole service: the client's path would choose the bucket.
        raise SettingError(
            "S3BucketURL shows no bucket: put it into the path, or set S3Bucket where the host begins with it"
        )
    if settings.region is None:
        raise SettingError(
            "S3Bucket is not set: Signature v2 signs the bucket's name, which S3BucketURL does not show "
            "(Signature v4, which S3Region chooses, does not sign it)"
        )
    return replace(settings, bucket_url=replace(url, path_style=False))


def check_value(name: str, text: str) -> None:
    """Check one setting by itself. Raises: SettingError: it is misspelt, or not one of the allowed values."""
    _value(name, text)
