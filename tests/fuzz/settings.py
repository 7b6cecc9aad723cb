"""Settings: a bad value raises SettingError, whose text holds no value; a good one means what the operator wrote."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from tests.fuzz.target import SEPARATOR, Target
from usp_s3_wsgi.config import bucket_url, settings
from usp_s3_wsgi.config.bucket_url import DEFAULT_PORTS, BucketURL
from usp_s3_wsgi.config.proxy_set import ProxySet
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.proxy import section_settings

_MARKER = "q8ZkW2vJx5RbT7yN"
_WEEK = 7 * 24 * 3600.0


def check(data: bytes) -> None:
    """An input is a list of name=value. Its length decides which of the values is taken for a secret."""
    pairs = [_pair(part.decode("latin-1")) for part in data.split(SEPARATOR)]
    parsed = _parse(pairs)
    if parsed is not None:
        _check_settings(parsed)
    for name, value in pairs[:8]:
        _check_single(name, value)
    # The value may be a secret on the wrong line, or in a name without the space after it.
    number = len(data) % len(pairs)
    name, value = pairs[number]
    for changed in ((name, value + _MARKER), (f"{name}={value}{_MARKER}", ""), (f"{name}={_MARKER}", "x")):
        secret = _parse([*pairs[:number], changed, *pairs[number + 1 :]])
        assert secret is None or _MARKER not in _secrets_shown(secret)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _parse(pairs: list[tuple[str, str]]) -> Settings | None:
    """Parse as the gateway and as <Proxy> does, and check the text of any error."""
    parsed = None
    try:
        parsed = settings.from_environ(dict(pairs))
    except SettingError as error:
        _check_error(error)
    try:
        section_settings.for_request("https://b.s3.amazonaws.com/", tuple(pairs), "https://b.s3.amazonaws.com")
    except SettingError as error:
        _check_error(error)
    return parsed


def _check_error(error: SettingError) -> None:
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    assert not any(_MARKER in text for text in texts), texts
    assert len(texts[0]) < 1_000 and "\n" not in texts[0], texts[0]


def _check_single(name: str, value: str) -> None:
    try:
        settings.check_value(name, value)
    except SettingError as error:
        _check_error(error)
    try:
        url = bucket_url.parse(value)
    except ValueError:
        return
    _check_url(url)
    split = urlsplit(value)
    assert url.scheme == split.scheme and url.host == (split.hostname or "").rstrip(".")
    assert url.port == (split.port or DEFAULT_PORTS[url.scheme])
    assert unquote_to_bytes(url.prefix).rstrip(b"/") == unquote_to_bytes(split.path).rstrip(b"/")


def _check_settings(parsed: Settings) -> None:
    assert parsed.secret_key is None or parsed.secret_key not in {"", repr(parsed)}
    for bucket in (parsed, parsed.fallback):
        if bucket is not None:
            _check_url(bucket.bucket_url)
            _check_proxy_set(bucket.proxy_set)
            assert 1 <= bucket.expires <= 604_800 and 0 <= bucket.retries <= 10
            assert bucket.bucket_url.bucket or bucket.bucket_url.host_includes_bucket


def _check_url(url: BucketURL) -> None:
    """The URL has one meaning: written out, and parsed by urllib or by this package, it is the same again."""
    text = f"{url.scheme}://{url.authority}{url.prefix}"
    split = urlsplit(text)
    assert (split.scheme, split.hostname, split.port or DEFAULT_PORTS[url.scheme], split.path, split.query) == (
        (url.scheme, url.host, url.port, url.prefix, "")
    ), text
    again = bucket_url.parse(text)
    assert (again.host, again.port, again.prefix) == (url.host, url.port, url.prefix)
    segments = unquote_to_bytes(url.prefix).split(b"/")
    assert url.prefix.startswith("/") and url.prefix.endswith("/")
    assert not {b".", b".."} & set(segments) and b"\0" not in unquote_to_bytes(url.prefix)
    moved = url.in_region("eu-north-1")
    assert (moved.port, moved.prefix, moved.scheme) == (url.port, url.prefix, url.scheme)
    assert moved.host == url.host or "amazonaws.com" in moved.host
    bucket_url.parse(f"{moved.scheme}://{moved.authority}{moved.prefix}")


def _check_proxy_set(values: ProxySet) -> None:
    for name in ("connectiontimeout", "timeout", "ttl"):
        assert 0 < getattr(values, name) <= _WEEK
    for name in ("retry", "acquire", "addressttl"):
        value: float = getattr(values, name)
        assert 0 <= value <= _WEEK or (name == "addressttl" and math.isinf(value))
    assert 0 <= values.max <= 100_000


def _secrets_shown(parsed: Settings) -> str:
    """Those parts of the repr in which no value may be: it has the other settings, which are not secret."""
    hidden: Any = (parsed.access_key, parsed.secret_key, parsed.security_token, parsed.role_external_id)
    shown = repr(parsed)
    return "".join(value for value in hidden if value and _MARKER in value and value in shown)


def _seed(*lines: str) -> bytes:
    return SEPARATOR.join(line.encode() for line in lines)


_KEYS = ("S3AccessKey=A", "S3SecretKey=S")
_URL = "S3BucketURL=https://bucket.s3.eu-central-1.amazonaws.com/"
TARGET = Target(
    check,
    (
        b"",
        _seed(_URL, *_KEYS, "S3Region=eu-central-1", "S3UseHeaders=on"),
        _seed("S3BucketURL=http://[::1]:9000/bucket/a%20b", *_KEYS, "S3Bucket=bucket", "S3Expires=60", "S3Retries=3"),
        _seed("S3BucketURL=https://S3.Example.:443/b/%C3%A9/%2F", *_KEYS, "S3SecurityToken=t", "S3CAFile=/ca.pem"),
        _seed("S3BucketURL=https://films.s3.example", *_KEYS, "S3Region=r", "S3DeniedStatus=404", "S3RequesterPays=on"),
        _seed("S3BucketURL=https://b.s3.dualstack.us-west-2.amazonaws.com.cn/%00/%2e%2E/", "S3SecretKeyFile=/k\0"),
        _seed("S3BucketURL=https://user:secret@h:99999/?a#b", "S3BucketURL=https://h:٣/", "S3BucketURL=http://[v1.x]/"),
        _seed("S3ProxySet=connectiontimeout=500ms timeout=30 ttl=5mi retry=0 keepalive=on max=5 acquire=10", _URL),
        _seed("S3ProxySet=addressttl=-1 disablereuse=on enablereuse=off max=999999999 timeout=1h", _URL, *_KEYS),
        _seed("S3CredentialSource=aws", "S3Profile=p", "S3RoleARN=arn:aws:iam::123456789012:role/r", _URL),
        _seed("S3RoleSessionName=s@x", "S3RoleDuration=900", "S3RoleExternalId=id", "S3STSEndpoint=https://sts:1/"),
        _seed("S3PassQuery=versionId, partNumber", "S3PassHeaders=x-amz-meta- x-amz-version-id", *_KEYS, _URL),
        _seed("S3FallbackURL=https://c.s3.amazonaws.com/", "S3FallbackOn404=on", "S3FallbackRegion=r", _URL, *_KEYS),
        _seed("S3Accesskey=A", "S3SecretKey:=x", "s3region=eu", "S3CMD_CONFIG=/x", "S3Secretkey ", "S3SecretKe=\n"),
        _seed(*_KEYS, "S3BucketURL=" + " " * 8_000),
        _seed("S3ProxySet=" + " " * 60_000 + "x", _URL, *_KEYS),
        _seed("S3PassQuery=" + " ," * 8_000 + "x", "S3PassHeaders=" + "\t" * 8_000),
        _seed("S3BucketURL=https://" + "s3." * 2_000 + "/" + "%2f" * 2_000, *_KEYS),
        _seed("S3Expires=" + "9" * 5_000, "S3Retries=٣", "S3UseHeaders=İ", "S3" + "x" * 2_000 + "=1"),
    ),
)
