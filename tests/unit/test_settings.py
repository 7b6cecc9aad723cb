"""SetEnv values: they are validated strictly; an error names the setting and never shows its value."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.config.proxy_set import ProxySet
from usp_s3_wsgi.config.settings import TABLE, Settings, from_environ
from usp_s3_wsgi.errors import SettingError

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
BASE = {"S3BucketURL": "https://b.s3.eu-west-1.amazonaws.com/", "S3AccessKey": "AKIA", "S3SecretKey": SECRET}
PATH_STYLE = {**BASE, "S3BucketURL": "http://127.0.0.1:9000/bucket"}


def error_message(**changes: str | None) -> str:
    """Return the error for the base settings with changes; None removes a setting."""
    merged = {name: value for name, value in {**BASE, **changes}.items() if value is not None}
    with pytest.raises(SettingError) as caught:
        from_environ(merged)
    assert caught.value.status == 500 and caught.value.should_log
    return str(caught.value)


# --- the table

#: Setting, text, field, value.
VALID: list[tuple[str, str, str, Any]] = [
    ("S3AccessKey", "AKIAIOSFODNN7EXAMPLE", "access_key", "AKIAIOSFODNN7EXAMPLE"),
    ("S3SecretKey", SECRET, "secret_key", SECRET),
    ("S3SecurityToken", "Aq/+=", "security_token", "Aq/+="),
    ("S3SecurityTokenFile", "/run/token", "security_token_file", "/run/token"),
    ("S3Region", "eu-central-1", "region", "eu-central-1"),
    ("S3Region", "x" * 64, "region", "x" * 64),
    ("S3UseHeaders", "on", "use_headers", True),
    ("S3UseHeaders", "ON", "use_headers", True),
    ("S3UseHeaders", "Off", "use_headers", False),
    ("S3ProxySet", "timeout=3", "proxy_set", ProxySet(timeout=3)),
    ("S3ProxySet", "", "proxy_set", ProxySet()),
    ("S3Expires", "1", "expires", 1),
    ("S3Expires", "604800", "expires", 604_800),
    ("S3Retries", "0", "retries", 0),
    ("S3Retries", "10", "retries", 10),
    ("S3PassQuery", "versionId, partNumber response-content-type", "pass_query",
     frozenset({"versionId", "partNumber", "response-content-type"})),
    ("S3PassHeaders", "X-Amz-Meta-, x-amz-version-id", "pass_headers", ("x-amz-meta-", "x-amz-version-id")),
    ("S3PassAcceptEncoding", "on", "pass_accept_encoding", True),
    ("S3DeniedStatus", "403", "denied_status", 403),
    ("S3DeniedStatus", "404", "denied_status", 404),
    ("S3CAFile", "/etc/ssl/s3.pem", "ca_file", "/etc/ssl/s3.pem"),
    ("S3FallbackOn404", "off", "fallback_on_404", False),
    ("S3RequesterPays", "On", "requester_pays", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "field", "value"), VALID)
def test_valid_values(name: str, text: str, field: str, value: object) -> None:
    parsed = from_environ({**BASE, name: text})
    assert getattr(parsed, field) == value


INVALID: list[tuple[str, str]] = [
    ("S3BucketURL", "ftp://bucket.example/"),
    ("S3Bucket", "two words"),
    ("S3AccessKey", "two words"),
    ("S3SecretKey", "ключ"),
    ("S3SecretKey", "line\nfeed"),
    ("S3SecretKeyFile", "secret.txt"),
    ("S3SecurityToken", " "),
    ("S3AccessKeyFile", "relative/path"),
    ("S3SecurityTokenFile", "/nul\0"),
    ("S3Region", "eu central"),
    ("S3Region", "eu/central"),
    ("S3Region", "x" * 65),
    ("S3UseHeaders", "yes"),
    ("S3UseHeaders", "1"),
    ("S3UseHeaders", "on "),
    ("S3ProxySet", "timeout"),
    ("S3FallbackURL", "bucket"),
    ("S3FallbackOn404", "yes"),
    ("S3FallbackRegion", "eu central"),
    ("S3CredentialSource", "AWS"),
    ("S3Profile", "[default]"),
    ("S3RoleARN", "reader"),
    ("S3RoleSessionName", "a b"),
    ("S3RoleDuration", "899"),
    ("S3RoleExternalId", "x"),
    ("S3STSEndpoint", "ftp://sts.example.com"),
    ("S3RequesterPays", "1"),
    ("S3PassAcceptEncoding", "gzip"),
    ("S3Expires", "0"),
    ("S3Expires", "604801"),
    ("S3Expires", "5m"),
    ("S3Expires", "-1"),
    ("S3Expires", "1e3"),
    ("S3Expires", "٣"),
    ("S3Expires", "9" * 400),
    ("S3Retries", "11"),
    ("S3PassQuery", "a=b"),
    ("S3PassQuery", "X-Amz-Expires"),
    ("S3PassQuery", "x-amz-signature"),
    ("S3PassQuery", "Signature"),
    ("S3PassQuery", "versionId acl"),
    ("S3PassQuery", "list-type"),
    ("S3PassQuery", "prefix"),
    ("S3PassQuery", "uploads"),
    ("S3PassHeaders", "etag"),
    ("S3PassHeaders", "set-cookie x-amz-meta-"),
    ("S3DeniedStatus", "401"),
    ("S3DeniedStatus", "0403"),
    ("S3CAFile", "ca.pem"),
]


@pytest.mark.parametrize(("name", "text"), INVALID)
def test_invalid_values(name: str, text: str) -> None:
    message = error_message(**{name: text, **({name[:-4]: None} if name.endswith("KeyFile") else {})})
    assert message.startswith(f"{name} must be ") or message.startswith(f"{name} must not ")


def test_every_row_is_tested() -> None:
    names = {row.name for row in TABLE}
    assert names - {name for name, *_ in VALID} <= {
        "S3BucketURL", "S3Bucket", "S3AccessKeyFile", "S3SecretKeyFile", "S3CredentialSource",
        "S3FallbackURL",
        # tested below, with credentials and roles
        "S3Profile", "S3RoleARN", "S3RoleSessionName", "S3RoleDuration", "S3RoleExternalId", "S3STSEndpoint",
    }  # fmt: skip
    assert names <= {name for name, _ in INVALID}


@pytest.mark.parametrize("name", [row.name for row in TABLE])
def test_an_empty_value_unsets_a_setting(name: str) -> None:
    if name in {"S3BucketURL", "S3AccessKey", "S3SecretKey"}:
        assert error_message(**{name: ""}).startswith(f"{name} is not set")
    else:
        assert from_environ({**BASE, name: ""}) == from_environ(BASE)


def test_defaults() -> None:
    parsed = from_environ(BASE)
    assert (parsed.region, parsed.use_headers, parsed.expires, parsed.retries) == (None, False, 300, 2)
    assert (parsed.pass_query, parsed.pass_headers, parsed.denied_status, parsed.ca_file) == (
        frozenset(),
        (),
        403,
        None,
    )
    assert parsed.proxy_set == ProxySet(5, 30, 300, 0, True, True, 0, 0)  # as in Unified Streaming's documentation


def test_other_variables_are_ignored() -> None:
    assert from_environ({**BASE, "PATH": "/bin", "XS3Region": "x", "HTTP_S3REGION": "x"}) == from_environ(BASE)


# --- missing, misspelt and contradictory settings


@pytest.mark.parametrize("name", ["S3BucketURL", "S3AccessKey", "S3SecretKey"])
def test_a_missing_setting_is_named(name: str) -> None:
    assert error_message(**{name: None}).startswith(f"{name} is not set")


def test_no_settings() -> None:
    with pytest.raises(SettingError, match="S3BucketURL is not set"):
        from_environ({})


@pytest.mark.parametrize("name", ["S3AccessKey", "S3SecretKey", "S3SecurityToken"])
def test_a_value_and_a_file_must_not_both_be_set(name: str) -> None:
    message = error_message(**{name: "value", f"{name}File": "/run/file"})
    assert name in message and f"{name}File" in message and "both" in message


def test_a_file_instead_of_a_value() -> None:
    variables = {"S3BucketURL": BASE["S3BucketURL"], "S3AccessKeyFile": "/run/a", "S3SecretKeyFile": "/run/s"}
    parsed = from_environ(variables)
    assert (parsed.access_key, parsed.access_key_file, parsed.secret_key_file) == (None, "/run/a", "/run/s")


@pytest.mark.parametrize(
    ("misspelt", "suggestion"),
    [
        ("S3Accesskey", "S3AccessKey"),
        ("S3SecretKeyfile", "S3SecretKeyFile"),
        ("S3BucketUrl", "S3BucketURL"),
        ("S3_Region", "S3Region"),
        ("S3Retry", "S3Retries"),
        ("s3useheaders", "S3UseHeaders"),
        ("S3CaFile", "S3CAFile"),
        ("S3Expire", "S3Expires"),
    ],
)
def test_a_misspelt_name_is_rejected_with_a_suggestion(misspelt: str, suggestion: str) -> None:
    assert error_message(**{misspelt: "x"}) == f"{misspelt} is not a setting: did you mean {suggestion}?"


@pytest.mark.parametrize(
    "name",
    ["S3CMD_CONFIG", "S3_KEY", "S3_UPLOADS_BUCKET", "S3_FORCE_PATH_STYLE", "S3FS_PASSWD", "S3Uploads", "s3fs", "S3"],
)
def test_variables_of_other_programs_are_ignored(name: str) -> None:
    assert from_environ({**BASE, name: "x"}) == from_environ(BASE)


def test_an_inherited_misspelt_name_can_be_unset() -> None:
    """A server-wide S3_BUCKET may belong to another program."""
    assert error_message(S3_BUCKET="uploads") == "S3_BUCKET is not a setting: did you mean S3Bucket?"
    assert from_environ({**BASE, "S3_BUCKET": ""}) == from_environ(BASE)


def test_the_c_module_has_the_same_names() -> None:
    """It finds the sections of buckets by these names, also if its Python did not start."""
    source = (Path(__file__).parents[2] / "usp_s3_wsgi" / "proxy" / "mod_usp_s3" / "setting_names.c").read_text()
    names = re.findall(r'"(\w+)"', source.partition("setting_names[] = {")[2].partition("}")[0])
    assert names == sorted(settings.NAMES)


# --- credentials and roles


ARN = "arn:aws:iam::123456789012:role/path/reader"
NO_KEYS = {"S3AccessKey": "", "S3SecretKey": "", "S3CredentialSource": "aws"}


def test_a_role_with_static_keys() -> None:
    parsed = from_environ({**BASE, "S3RoleARN": ARN, "S3RoleSessionName": "me", "S3RoleDuration": "900"})
    assert (parsed.role_arn, parsed.role_session_name, parsed.role_duration) == (ARN, "me", 900)
    assert parsed.access_key and parsed.credential_source == "static"


def test_credential_source_aws_needs_no_keys() -> None:
    parsed = from_environ({**BASE, **NO_KEYS, "S3Profile": "films", "S3RoleARN": ARN, "S3RoleExternalId": "x:1"})
    assert (parsed.credential_source, parsed.profile, parsed.access_key) == ("aws", "films", None)
    assert from_environ({**BASE, "S3CredentialSource": "static"}) == from_environ(BASE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"S3CredentialSource": "aws"}, "S3AccessKey is set, but S3CredentialSource is aws: remove one of them"),
        ({"S3Profile": "x"}, "S3Profile is set, but S3CredentialSource is not aws"),
        ({"S3CredentialSource": "env"}, "S3CredentialSource must be static or aws"),
        ({"S3RoleDuration": "3600"}, "S3RoleDuration is set, but S3RoleARN is not"),
        ({"S3RoleARN": ARN, "S3RoleDuration": "899"}, "S3RoleDuration must be a whole number from 900 to 43200"),
        ({"S3RoleARN": ARN, "S3RoleSessionName": "a"}, "S3RoleSessionName must be 2 to 64"),
        ({"S3RoleARN": ARN, "S3RoleSessionName": "a b"}, "S3RoleSessionName must be 2 to 64"),
        ({"S3RoleARN": ARN, "S3RoleExternalId": "!!"}, "S3RoleExternalId must be 2 to 1224"),
        ({"S3RoleARN": ARN, "S3STSEndpoint": "sts.example.com"}, "S3STSEndpoint must be a URL"),
        ({"S3RequesterPays": "yes"}, "S3RequesterPays must be on or off"),
    ],
)
def test_invalid_combinations_of_credentials_and_roles(changes: dict[str, str], message: str) -> None:
    assert error_message(**changes).startswith(message)


@pytest.mark.parametrize(
    "arn", ["reader", "arn:aws:iam::1:user/x", "arn:aws:s3:::bucket", "arn:aws:iam::1:role/", "arn:aws:iam::1:role/a b"]
)
def test_invalid_role_arns(arn: str) -> None:
    assert error_message(S3RoleARN=arn).startswith("S3RoleARN must be the ARN of a role")


@pytest.mark.parametrize(
    "arn", [ARN, "arn:aws-cn:iam::1:role/x", "arn:aws:iam:::role/of-ceph", "arn:aws:iam::tenant:role/x"]
)
def test_role_arns_of_other_clouds(arn: str) -> None:
    assert from_environ({**BASE, "S3RoleARN": arn}).role_arn == arn


def test_the_fallback_bucket_inherits_credentials_or_has_its_own() -> None:
    values = {**BASE, **NO_KEYS, "S3RoleARN": ARN, "S3FallbackURL": "https://copy.s3.amazonaws.com/"}
    parsed = from_environ(values).fallback
    assert parsed is not None and (parsed.credential_source, parsed.role_arn) == ("aws", ARN)
    parsed = from_environ({**values, "S3FallbackRoleARN": f"{ARN}2"}).fallback
    assert parsed is not None and (parsed.credential_source, parsed.role_arn) == ("aws", f"{ARN}2")
    keys = {"S3FallbackCredentialSource": "static", "S3FallbackAccessKey": "A", "S3FallbackSecretKey": "B"}
    for fallback_keys in (keys, dict(list(keys.items())[1:])):
        parsed = from_environ({**values, **fallback_keys}).fallback
        assert parsed is not None
        assert (parsed.credential_source, parsed.role_arn, parsed.access_key) == ("static", None, "A")


# --- secrets


def error_for(name: str, value: str) -> SettingError | None:
    """Return the error for a setting and the secret key with the same value, None if there is no error."""
    try:
        assert from_environ({**BASE, "S3SecretKey": value, name: value}).secret_key == value
    except SettingError as error:
        return error
    return None


@given(st.sampled_from([row.name for row in TABLE] + ["S3Secret"]), st.text(min_size=8))
@example("S3PassQuery", "content-")
@hypothesis_settings(deadline=None)
def test_a_message_never_shows_a_value(name: str, secret: str) -> None:
    if error := error_for(name, secret):
        # The value may happen to be in the fixed text of the message.
        fixed_text = f"{error_for(name, 'q' * 8)} {error_for(name, chr(0x2603) * 8)}"
        assert secret not in str(error) or secret in fixed_text
        assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)


def test_the_repr_shows_no_secret() -> None:
    parsed = from_environ({**BASE, "S3SecurityToken": "the-session-token"})
    assert SECRET not in repr(parsed) and "the-session-token" not in repr(parsed) and "AKIA" not in repr(parsed)
    assert "amazonaws" in repr(parsed)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        from_environ(BASE).expires = 1  # type: ignore[misc]


def test_the_same_values_are_parsed_once() -> None:
    settings.parse.cache_clear()
    assert from_environ({**BASE, "REQUEST_URI": "/a"}) is from_environ({**BASE, "REQUEST_URI": "/b"})
    assert isinstance(from_environ(BASE), Settings)
    assert settings.parse.cache_info().misses == 1
    assert from_environ({**BASE, "S3Region": "x"}) is not from_environ(BASE)


def test_errors_are_not_cached() -> None:
    for _ in range(2):
        assert "S3Expires" in error_message(S3Expires="0")


# --- the fallback bucket

WITH_FALLBACK = {**BASE, "S3FallbackURL": "http://127.0.0.1:9000/copies/"}


def fallback(**changes: str) -> Settings:
    parsed = from_environ({**WITH_FALLBACK, **changes}).fallback
    assert parsed is not None and parsed.fallback is None
    return parsed


def test_no_fallback_without_its_url() -> None:
    assert from_environ(BASE).fallback is None


def test_the_fallback_bucket_inherits_settings() -> None:
    inherited = {"S3Region": "eu-west-1", "S3UseHeaders": "on", "S3Retries": "4", "S3PassQuery": "versionId",
              "S3DeniedStatus": "404", "S3SecurityToken": "token", "S3ProxySet": "timeout=3"}  # fmt: skip
    parsed = from_environ({**WITH_FALLBACK, **inherited})
    assert parsed.fallback == dataclasses.replace(from_environ({**BASE, **inherited}), bucket_url=fallback().bucket_url)
    assert parsed.bucket_url.bucket == "b" and fallback().bucket_url.bucket == "copies"


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("S3FallbackRegion", "us-east-1", "region", "us-east-1"),
        ("S3FallbackUseHeaders", "on", "use_headers", True),
        ("S3FallbackProxySet", "timeout=3", "proxy_set", ProxySet(timeout=3)),
        ("S3FallbackExpires", "9", "expires", 9),
        ("S3FallbackRetries", "0", "retries", 0),
        ("S3FallbackCAFile", "/etc/ssl/other.pem", "ca_file", "/etc/ssl/other.pem"),
    ],
)
def test_settings_of_the_fallback_bucket_alone(name: str, text: str, field: str, value: object) -> None:
    assert getattr(fallback(**{name: text}), field) == value
    assert getattr(from_environ({**WITH_FALLBACK, name: text}), field) == getattr(from_environ(BASE), field)


def test_a_fallback_bucket_with_keys_inherits_no_credentials() -> None:
    parsed = fallback(S3SecurityToken="first", S3FallbackAccessKey="OTHER", S3FallbackSecretKeyFile="/run/other")
    assert (parsed.access_key, parsed.secret_key, parsed.secret_key_file) == ("OTHER", None, "/run/other")
    assert parsed.security_token is None


def test_half_of_a_fallback_key_pair_is_rejected() -> None:
    message = error_message(**WITH_FALLBACK, S3FallbackAccessKey="OTHER")
    assert message.startswith("the fallback bucket (settings S3Fallback...): ") and "S3SecretKey is not set" in message


@pytest.mark.parametrize("name", ["S3FallbackAccessKey", "S3FallbackRetries", "S3FallbackOn404"])
def test_fallback_settings_without_a_fallback_url(name: str) -> None:
    assert error_message(**{name: {"S3FallbackOn404": "on"}.get(name, "3")}).startswith("S3FallbackURL is not set")


def test_the_fallback_url_must_be_that_of_a_bucket() -> None:
    assert "shows no bucket" in error_message(S3FallbackURL="https://s3.amazonaws.com/")
    assert fallback(S3FallbackURL="http://other.ceph.example/", S3FallbackBucket="other").bucket_url.bucket == "other"


@pytest.mark.parametrize("name", ["S3FallbackPassQuery", "S3FallbackDeniedStatus", "S3FallbackBucketURL"])
def test_shared_settings_have_no_fallback_variant(name: str) -> None:
    assert "did you mean S3" in error_message(**WITH_FALLBACK, **{name: "404"})
