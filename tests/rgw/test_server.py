"""RGW's STS: roles, temporary keys, and its errors."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from tests.rgw import Rgw, TemporaryKeys
from tests.rgw.conftest import BUCKET, DATA, KEY
from tests.rgw.server import error_code


def error_of(call: Callable[[], object]) -> tuple[int, str]:
    """Status and code of the error that the call raises."""
    with pytest.raises(ClientError) as caught:
        call()
    return error_code(caught.value.response)


@pytest.fixture(scope="module")
def keys(rgw: Rgw, role: str) -> TemporaryKeys:
    return rgw.assume_role(role)


# --- temporary keys


def test_temporary_keys_read_an_object(rgw: Rgw, keys: TemporaryKeys) -> None:
    assert rgw.get(BUCKET, KEY, keys) == DATA


def test_temporary_keys_have_only_the_roles_permissions(rgw: Rgw, keys: TemporaryKeys) -> None:
    with closing(rgw.client("s3", keys)) as s3:
        assert error_of(lambda: s3.put_object(Bucket=BUCKET, Key="new", Body=b"")) == (403, "AccessDenied")


def test_a_missing_object_is_404_although_the_role_may_not_list(rgw: Rgw, keys: TemporaryKeys) -> None:
    assert error_of(lambda: rgw.get(BUCKET, "nothing", keys)) == (404, "NoSuchKey")


def test_the_wrong_secret_key(rgw: Rgw, keys: TemporaryKeys) -> None:
    assert error_of(lambda: rgw.get(BUCKET, KEY, replace(keys, secret_key="x" * 40))) == (403, "SignatureDoesNotMatch")


# --- tokens: RGW has neither ExpiredToken nor InvalidToken


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda token: None, (403, "AccessDenied")),
        (lambda token: token[:-8], (403, "AccessDenied")),  # not a multiple of the cipher's block size
        (lambda token: "*" * 16, (400, "InvalidArgument")),
        (lambda token: base64.b64encode(bytes(240)).decode(), (400, "InvalidArgument")),  # decrypts to garbage
    ],
    ids=["none", "truncated", "not-base64", "garbage"],
)
def test_a_wrong_token(
    rgw: Rgw, keys: TemporaryKeys, wrong: Callable[[str], str | None], expected: tuple[int, str]
) -> None:
    assert keys.token
    token = wrong(keys.token)
    assert error_of(lambda: rgw.get(BUCKET, KEY, replace(keys, token=token))) == expected


def test_the_token_of_other_keys(rgw: Rgw, role: str, keys: TemporaryKeys) -> None:
    other = rgw.assume_role(role)
    assert error_of(lambda: rgw.get(BUCKET, KEY, replace(keys, token=other.token))) == (403, "AccessDenied")


def test_keys_that_expire_within_seconds(rgw: Rgw, role: str) -> None:
    with rgw.gateway(clock=3 - 900) as sts_url:
        keys = rgw.assume_role(role, url=sts_url)
    left = keys.expiration.timestamp() - time.time()
    assert 1 < left <= 3
    assert rgw.get(BUCKET, KEY, keys) == DATA
    time.sleep(left + 0.1)
    assert error_of(lambda: rgw.get(BUCKET, KEY, keys)) == (403, "AccessDenied")


def test_a_gateway_with_a_short_minimum_duration(rgw: Rgw, role: str) -> None:
    with rgw.gateway("--rgw-sts-min-session-duration=1") as sts_url:
        keys = rgw.assume_role(role, 2, url=sts_url)
        assert 0 < keys.expiration.timestamp() - time.time() <= 2


@pytest.mark.parametrize("clock", [-910, 910])
def test_a_clock_beyond_rgws_limit(rgw: Rgw, role: str, clock: int) -> None:
    with rgw.gateway(clock=clock) as url:
        assert error_of(lambda: rgw.get(BUCKET, KEY, url=url)) == (403, "RequestTimeTooSkewed")
        assert error_of(lambda: rgw.assume_role(role, url=url)) == (403, "RequestTimeTooSkewed")


# --- roles


def test_a_policy_takes_effect_at_once(rgw: Rgw) -> None:
    keys = rgw.assume_role(rgw.create_role("changing", BUCKET))
    assert rgw.get(BUCKET, KEY, keys) == DATA
    rgw.deny_role("changing")
    assert error_of(lambda: rgw.get(BUCKET, KEY, keys)) == (403, "AccessDenied")
    rgw.allow_role("changing", BUCKET)
    assert rgw.get(BUCKET, KEY, keys) == DATA


@pytest.mark.parametrize("seconds", [900, 3600])
def test_durations(rgw: Rgw, role: str, seconds: int) -> None:
    keys = rgw.assume_role(role, seconds)
    assert keys.expiration.timestamp() - time.time() == pytest.approx(seconds, abs=5)


@pytest.mark.parametrize("seconds", [0, 899, 3601])
def test_durations_out_of_range(rgw: Rgw, role: str, seconds: int) -> None:
    """The minimum is RGW's, the maximum is the role's."""
    assert error_of(lambda: rgw.assume_role(role, seconds)) == (400, "InvalidArgument")


def test_no_such_role(rgw: Rgw) -> None:
    assert error_of(lambda: rgw.assume_role("arn:aws:iam:::role/nobody")) == (404, "NoSuchEntity")
    assert error_of(lambda: rgw.assume_role("this is not an ARN")) == (400, "InvalidArgument")


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
def test_sts_with_the_wrong_keys(rgw: Rgw, role: str, keys: TemporaryKeys, wrong: str) -> None:
    users = replace(keys, access_key=rgw.access_key, secret_key=rgw.secret_key, token=None)
    with closing(rgw.client("sts", replace(users, **{wrong: "x" * 20}))) as sts:  # type: ignore[arg-type]
        response = error_of(lambda: sts.assume_role(RoleArn=role, RoleSessionName="tests", DurationSeconds=900))
    assert response == (403, "AccessDenied")
