"""The operator's SetEnv lines: read strictly, refused with the setting's name, never with its value."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from usp_s3_wsgi import settings
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.proxy_set import ProxySet
from usp_s3_wsgi.settings import TABLE, Settings, from_environ

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
BASE = {"S3BucketURL": "https://b.s3.eu-west-1.amazonaws.com/", "S3AccessKey": "AKIA", "S3SecretKey": SECRET}
PATH_STYLE = {**BASE, "S3BucketURL": "http://127.0.0.1:9000/bucket"}


def refused(**changes: str | None) -> str:
    """The message for the base settings with these changes; None takes one away."""
    merged = {name: value for name, value in {**BASE, **changes}.items() if value is not None}
    with pytest.raises(SettingError) as caught:
        from_environ(merged)
    assert caught.value.status == 500 and caught.value.logged
    return str(caught.value)


# --- the table: name, text, field, value

GOOD: list[tuple[str, str, str, Any]] = [
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


@pytest.mark.parametrize(("name", "text", "field", "value"), GOOD)
def test_good(name: str, text: str, field: str, value: object) -> None:
    read = from_environ({**BASE, name: text})
    assert getattr(read, field) == value


BAD: list[tuple[str, str]] = [
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


@pytest.mark.parametrize(("name", "text"), BAD)
def test_bad(name: str, text: str) -> None:
    message = refused(**{name: text, **({name[:-4]: None} if name.endswith("KeyFile") else {})})
    assert message.startswith(f"{name} must be ") or message.startswith(f"{name} must not ")


def test_every_row_is_tested() -> None:
    names = {row.name for row in TABLE}
    assert names - {name for name, *_ in GOOD} <= {
        "S3BucketURL", "S3Bucket", "S3AccessKeyFile", "S3SecretKeyFile", "S3CredentialSource",
        "S3FallbackURL",
        # those of the identities, further down
        "S3Profile", "S3RoleARN", "S3RoleSessionName", "S3RoleDuration", "S3RoleExternalId", "S3STSEndpoint",
    }  # fmt: skip
    assert names <= {name for name, _ in BAD}


@pytest.mark.parametrize("name", [row.name for row in TABLE])
def test_an_empty_value_is_as_if_the_line_were_not_there(name: str) -> None:
    if name in {"S3BucketURL", "S3AccessKey", "S3SecretKey"}:
        assert refused(**{name: ""}).startswith(f"{name} is not set")
    else:
        assert from_environ({**BASE, name: ""}) == from_environ(BASE)


def test_defaults() -> None:
    read = from_environ(BASE)
    assert (read.region, read.use_headers, read.expires, read.retries) == (None, False, 300, 2)
    assert (read.pass_query, read.pass_headers, read.denied_status, read.ca_file) == (frozenset(), (), 403, None)
    assert read.proxy_set == ProxySet(5, 30, 300, 0, True, True, 0, 0)  # the line of the vendor's documentation


def test_other_variables_do_not_count() -> None:
    assert from_environ({**BASE, "PATH": "/bin", "XS3Region": "x", "HTTP_S3REGION": "x"}) == from_environ(BASE)


# --- missing, unknown, contradicting


@pytest.mark.parametrize("name", ["S3BucketURL", "S3AccessKey", "S3SecretKey"])
def test_what_is_missing_is_named(name: str) -> None:
    assert refused(**{name: None}).startswith(f"{name} is not set")


def test_nothing_set_names_the_first() -> None:
    with pytest.raises(SettingError, match="S3BucketURL is not set"):
        from_environ({})


@pytest.mark.parametrize("name", ["S3AccessKey", "S3SecretKey", "S3SecurityToken"])
def test_a_value_and_its_file_contradict(name: str) -> None:
    message = refused(**{name: "value", f"{name}File": "/run/file"})
    assert name in message and f"{name}File" in message and "both" in message


def test_a_file_does_instead_of_the_value() -> None:
    given_files = {"S3BucketURL": BASE["S3BucketURL"], "S3AccessKeyFile": "/run/a", "S3SecretKeyFile": "/run/s"}
    read = from_environ(given_files)
    assert (read.access_key, read.access_key_file, read.secret_key_file) == (None, "/run/a", "/run/s")


@pytest.mark.parametrize(
    ("wrong", "meant"),
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
def test_an_unknown_name_is_refused_with_the_nearest(wrong: str, meant: str) -> None:
    assert refused(**{wrong: "x"}) == f"{wrong} is not a setting: did you mean {meant}?"


@pytest.mark.parametrize(
    "name",
    ["S3CMD_CONFIG", "S3_KEY", "S3_UPLOADS_BUCKET", "S3_FORCE_PATH_STYLE", "S3FS_PASSWD", "S3Uploads", "s3fs", "S3"],
)
def test_variables_of_other_programs_are_no_settings(name: str) -> None:
    assert from_environ({**BASE, name: "x"}) == from_environ(BASE)


def test_what_is_misspelt_can_be_unset_where_it_is_inherited() -> None:
    """A server-wide S3_BUCKET is another program's."""
    assert refused(S3_BUCKET="uploads") == "S3_BUCKET is not a setting: did you mean S3Bucket?"
    assert from_environ({**BASE, "S3_BUCKET": ""}) == from_environ(BASE)


def test_the_module_of_httpd_knows_the_same_names() -> None:
    """It says which places are about a bucket, also where its Python did not start."""
    source = (Path(__file__).parents[2] / "usp_s3_wsgi" / "proxy" / "mod_usp_s3" / "setting_names.c").read_text()
    names = re.findall(r'"(\w+)"', source.partition("setting_names[] = {")[2].partition("}")[0])
    assert names == sorted(settings.NAMES)


# --- who signs


ARN = "arn:aws:iam::123456789012:role/path/reader"
NO_KEYS = {"S3AccessKey": "", "S3SecretKey": "", "S3CredentialSource": "aws"}


def test_a_role_by_the_settings_keys() -> None:
    section = from_environ({**BASE, "S3RoleARN": ARN, "S3RoleSessionName": "me", "S3RoleDuration": "900"})
    assert (section.role_arn, section.role_session_name, section.role_duration) == (ARN, "me", 900)
    assert section.access_key and section.credential_source == "static"


def test_the_identity_of_the_process_needs_no_keys() -> None:
    section = from_environ({**BASE, **NO_KEYS, "S3Profile": "films", "S3RoleARN": ARN, "S3RoleExternalId": "x:1"})
    assert (section.credential_source, section.profile, section.access_key) == ("aws", "films", None)
    assert from_environ({**BASE, "S3CredentialSource": "static"}) == from_environ(BASE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"S3CredentialSource": "aws"}, "S3AccessKey is set, and S3CredentialSource is aws: give one of them"),
        ({"S3Profile": "x"}, "S3Profile is set, and S3CredentialSource is static: give one of them"),
        ({"S3CredentialSource": "env"}, "S3CredentialSource must be static or aws"),
        ({"S3RoleDuration": "3600"}, "S3RoleDuration is set, but not S3RoleARN"),
        ({"S3RoleARN": ARN, "S3RoleDuration": "899"}, "S3RoleDuration must be a whole number from 900 to 43200"),
        ({"S3RoleARN": ARN, "S3RoleSessionName": "a"}, "S3RoleSessionName must be 2 to 64"),
        ({"S3RoleARN": ARN, "S3RoleSessionName": "a b"}, "S3RoleSessionName must be 2 to 64"),
        ({"S3RoleARN": ARN, "S3RoleExternalId": "!!"}, "S3RoleExternalId must be 2 to 1224"),
        ({"S3RoleARN": ARN, "S3STSEndpoint": "sts.example.com"}, "S3STSEndpoint must be a URL"),
        ({"S3RequesterPays": "yes"}, "S3RequesterPays must be on or off"),
    ],
)
def test_identities_that_are_none(changes: dict[str, str], message: str) -> None:
    assert refused(**changes).startswith(message)


@pytest.mark.parametrize(
    "arn", ["reader", "arn:aws:iam::1:user/x", "arn:aws:s3:::bucket", "arn:aws:iam::1:role/", "arn:aws:iam::1:role/a b"]
)
def test_what_is_no_arn_of_a_role(arn: str) -> None:
    assert refused(S3RoleARN=arn).startswith("S3RoleARN must be the ARN of a role")


@pytest.mark.parametrize(
    "arn", [ARN, "arn:aws-cn:iam::1:role/x", "arn:aws:iam:::role/of-ceph", "arn:aws:iam::tenant:role/x"]
)
def test_roles_of_other_clouds(arn: str) -> None:
    assert from_environ({**BASE, "S3RoleARN": arn}).role_arn == arn


def test_the_second_bucket_has_the_first_ones_identity_or_one_of_its_own() -> None:
    first = {**BASE, **NO_KEYS, "S3RoleARN": ARN, "S3FallbackURL": "https://copy.s3.amazonaws.com/"}
    second = from_environ(first).fallback
    assert second is not None and (second.credential_source, second.role_arn) == ("aws", ARN)
    second = from_environ({**first, "S3FallbackRoleARN": f"{ARN}2"}).fallback
    assert second is not None and (second.credential_source, second.role_arn) == ("aws", f"{ARN}2")
    keys = {"S3FallbackCredentialSource": "static", "S3FallbackAccessKey": "A", "S3FallbackSecretKey": "B"}
    for own in (keys, dict(list(keys.items())[1:])):
        second = from_environ({**first, **own}).fallback
        assert second is not None
        assert (second.credential_source, second.role_arn, second.access_key) == ("static", None, "A")


# --- secrets


def refusal(name: str, value: str) -> SettingError | None:
    """What is said of a setting with that value, which is the secret key's too."""
    try:
        assert from_environ({**BASE, "S3SecretKey": value, name: value}).secret_key == value
    except SettingError as error:
        return error
    return None


@given(st.sampled_from([row.name for row in TABLE] + ["S3Secret"]), st.text(min_size=8))
@example("S3PassQuery", "content-")
@hypothesis_settings(deadline=None)
def test_a_message_never_holds_a_value(name: str, secret: str) -> None:
    if told := refusal(name, secret):
        # Messages have words of their own, which a value may happen to be: they are there whatever the value is.
        own = f"{refusal(name, 'q' * 8)} {refusal(name, chr(0x2603) * 8)}"
        assert secret not in str(told) or secret in own
        assert told.__cause__ is None and (told.__context__ is None or told.__suppress_context__)


def test_the_repr_shows_no_secret() -> None:
    read = from_environ({**BASE, "S3SecurityToken": "the-session-token"})
    assert SECRET not in repr(read) and "the-session-token" not in repr(read) and "AKIA" not in repr(read)
    assert "amazonaws" in repr(read)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        from_environ(BASE).expires = 1  # type: ignore[misc]


def test_the_same_values_are_parsed_once() -> None:
    settings.parse.cache_clear()
    assert from_environ({**BASE, "REQUEST_URI": "/a"}) is from_environ({**BASE, "REQUEST_URI": "/b"})
    assert isinstance(from_environ(BASE), Settings)
    assert settings.parse.cache_info().misses == 1
    assert from_environ({**BASE, "S3Region": "x"}) is not from_environ(BASE)


def test_a_refusal_is_not_remembered_as_settings() -> None:
    for _ in range(2):
        assert "S3Expires" in refused(S3Expires="0")


# --- the second bucket

SECOND = {**BASE, "S3FallbackURL": "http://127.0.0.1:9000/copies/"}


def second(**changes: str) -> Settings:
    fallback = from_environ({**SECOND, **changes}).fallback
    assert fallback is not None and fallback.fallback is None
    return fallback


def test_without_a_second_url_there_is_none() -> None:
    assert from_environ(BASE).fallback is None


def test_the_second_bucket_has_what_the_first_one_has() -> None:
    shared = {"S3Region": "eu-west-1", "S3UseHeaders": "on", "S3Retries": "4", "S3PassQuery": "versionId",
              "S3DeniedStatus": "404", "S3SecurityToken": "token", "S3ProxySet": "timeout=3"}  # fmt: skip
    first = from_environ({**SECOND, **shared})
    assert first.fallback == dataclasses.replace(from_environ({**BASE, **shared}), bucket_url=second().bucket_url)
    assert first.bucket == "b" and second().bucket == "copies"


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
def test_what_may_differ(name: str, text: str, field: str, value: object) -> None:
    assert getattr(second(**{name: text}), field) == value
    assert getattr(from_environ({**SECOND, name: text}), field) == getattr(from_environ(BASE), field)


def test_keys_of_its_own_come_without_anything_of_the_first_ones() -> None:
    own = second(S3SecurityToken="first", S3FallbackAccessKey="OTHER", S3FallbackSecretKeyFile="/run/other")
    assert (own.access_key, own.secret_key, own.secret_key_file) == ("OTHER", None, "/run/other")
    assert own.security_token is None


def test_half_of_a_key_pair_is_refused() -> None:
    message = refused(**SECOND, S3FallbackAccessKey="OTHER")
    assert "second bucket" in message and "S3SecretKey is not set" in message


@pytest.mark.parametrize("name", ["S3FallbackAccessKey", "S3FallbackRetries", "S3FallbackOn404"])
def test_settings_of_a_second_bucket_that_is_not_named(name: str) -> None:
    assert refused(**{name: {"S3FallbackOn404": "on"}.get(name, "3")}).startswith("S3FallbackURL is not set")


def test_a_second_bucket_must_be_one() -> None:
    assert "shows no bucket" in refused(S3FallbackURL="https://s3.amazonaws.com/")
    assert second(S3FallbackURL="http://other.ceph.example/", S3FallbackBucket="other").bucket == "other"


@pytest.mark.parametrize("name", ["S3FallbackPassQuery", "S3FallbackDeniedStatus", "S3FallbackBucketURL"])
def test_what_the_two_have_in_common_cannot_differ(name: str) -> None:
    assert "did you mean S3" in refused(**SECOND, **{name: "404"})
