"""The diagnosis of a rejected signature: each planted cause is found, and none is invented."""

from __future__ import annotations

import base64
import html
import itertools
import re
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.server import ScriptedS3, Step, answer, close, error
from tests.s3 import EmbeddedS3
from tests.unit.verifying_s3 import ANY_REGION, NOW, VerifyingS3
from usp_s3_wsgi.cli.check import rejections
from usp_s3_wsgi.cli.check.rejected_signature import diagnosis
from usp_s3_wsgi.cli.check.rejected_signature.diagnosis import MAX_REQUESTS, Diagnosis, ServerAnswer, diagnose
from usp_s3_wsgi.cli.check.rejected_signature.endpoint_host import region_in_host
from usp_s3_wsgi.cli.check.rejected_signature.key_copies import corrected
from usp_s3_wsgi.cli.check.rejected_signature.setting_names import ProxyPass, SettingNames
from usp_s3_wsgi.cli.check.s3_requests import FIRST_BYTE, BucketRequests
from usp_s3_wsgi.config.settings import Settings, from_environ
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.errors import UpstreamConnectionError
from usp_s3_wsgi.signing.types import Credentials, S3Request
from usp_s3_wsgi.transport.pool import pool_manager

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfi+YEXAMPLEKEY"
TEMPORARY_KEY, TOKEN = "ASIAIOSFODNN7EXAMPLE", "FwoGZXIvYXdzEL//session+token/abc=="
OTHER_SECRET = "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"
V4_HEADERS, V4_QUERY, V2_HEADERS, V2_QUERY = "v4 headers", "v4 query", "v2 headers", "v2 query"
MODES = [V4_HEADERS, V4_QUERY, V2_HEADERS, V2_QUERY]
V4 = [V4_HEADERS, V4_QUERY]


def settings_of(mode: str = V4_HEADERS, url: str = "http://s3.example:8080/films/", **changes: str) -> Settings:
    environ = {
        "S3BucketURL": url,
        "S3AccessKey": ACCESS_KEY,
        "S3SecretKey": SECRET_KEY,
        "S3Region": "eu-central-1" if mode.startswith("v4") else "",
        "S3UseHeaders": "on" if mode.endswith("headers") else "off",
    }
    return from_environ(environ | changes)


def request_of(config: Settings, key: str = "a.mp4", method: str = "GET", **headers: str) -> S3Request:
    url = config.bucket_url
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return S3Request(method, url.scheme, url.authority, url.prefix + key, (), pairs)


def diagnosed(
    s3: Callable[[S3Request], ServerAnswer],
    config: Settings,
    *,
    request: S3Request | None = None,
    credentials: Credentials | None = None,
    now: datetime = NOW,
    **options: Any,
) -> Diagnosis:
    static = Credentials(config.access_key or "", config.secret_key or "", config.security_token)
    hosts: set[str] = set()

    def send(signed: S3Request) -> ServerAnswer:
        hosts.add(signed.host)
        return s3(signed)

    request = request or request_of(config)
    result = diagnose(request, config, credentials or static, send, now=lambda: now, **options)
    others = {host for host in hosts - {request.host} if not rejections.may_get_signature(config.bucket_url, host)}
    assert not others, "keys never sign for another host"
    assert "\n" not in result.cause + result.what_to_change
    sent = s3.requests if isinstance(s3, VerifyingS3) else []
    assert len(sent) <= MAX_REQUESTS
    assert all(request.method in {"GET", "HEAD"} and request.header("Range") == "bytes=0-0" for request in sent)
    return result


def s3_with(**options: Any) -> VerifyingS3:
    return VerifyingS3({ACCESS_KEY: SECRET_KEY}, **options)


#: The servers that differ in what they say: AWS and Swift, MinIO and SeaweedFS, Ceph 16.
SERVERS: dict[str, dict[str, Any]] = {
    "texts": {"shows_texts": True},
    "code": {"shows_texts": False},
    "unknown access keys": {"shows_texts": True, "knows_access_keys": False},
    "one denial": {"shows_texts": False, "has_one_denial": True},
}


# --- nothing is wrong


@pytest.mark.parametrize("mode", MODES)
def test_the_verifier_accepts_the_signer(mode: str) -> None:
    s3 = s3_with(tokens={ACCESS_KEY: TOKEN})
    found = diagnosed(s3, settings_of(mode, S3SecurityToken=TOKEN))
    assert found.cause == "S3 accepts the signature now."
    assert found.is_signature_accepted and not found.is_found
    assert found.tried == ("as configured: 206",)


# --- keys


COPIES = {
    "quotes": (f'"{SECRET_KEY}"', "without the quotes around it"),
    "single quotes": (f"'{SECRET_KEY}'", "without the quotes around it"),
    "a quote on one side": (f'{SECRET_KEY}"', "without the quotes around it"),
    "JSON": (f'"{SECRET_KEY}",', "without the quotes around it and the punctuation at its end"),
    "a name": (f"aws_secret_access_key={SECRET_KEY}", "without the name in front of it"),
    "a name in YAML": (f'secretKey:"{SECRET_KEY}"', "without the quotes around it and the name in front of it"),
    "backslashes": (SECRET_KEY.replace("/", "\\/"), "without the backslashes"),
    "a line end in words": (SECRET_KEY + "\\n", "without the \\n or \\r at its end"),
    "percent-encoded": (quote(SECRET_KEY, safe=""), "percent-decoded"),
    "HTML": (SECRET_KEY.replace("/", "&#x2F;"), "without HTML's character references"),
    "Base64": (base64.b64encode(SECRET_KEY.encode()).decode(), "decoded from Base64"),
    "Base64 with a line end": (base64.b64encode(SECRET_KEY.encode() + b"\n").decode(), "decoded from Base64"),
    "twice": (SECRET_KEY * 2, "once: it is there twice"),
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("copy", COPIES)
def test_a_secret_key_that_was_copied_with_something_else(copy: str, server: str) -> None:
    text, words = COPIES[copy]
    found = diagnosed(s3_with(**SERVERS[server]), settings_of(S3SecretKey=text))
    assert found.cause.startswith("The secret key is accepted ") and words in found.cause
    assert "S3SecretKey" in found.what_to_change
    assert found.is_found and not found.is_signature_accepted
    assert len(found.tried) <= 6


@pytest.mark.parametrize("text", [f" {SECRET_KEY}", f"{SECRET_KEY}\r\n", f"\ufeff{SECRET_KEY}", f"{SECRET_KEY}\xa0"])
def test_white_space_that_botocore_has_read(text: str) -> None:
    """Settings and key files cannot have it."""
    config = settings_of(S3CredentialSource="aws", S3AccessKey="", S3SecretKey="")
    found = diagnosed(s3_with(), config, credentials=Credentials(ACCESS_KEY, text))
    assert found.cause == "The secret key is accepted without the white space around it."
    assert "the secret key of the AWS identity (S3CredentialSource aws)" in found.what_to_change


@pytest.mark.parametrize("text", [f"{ACCESS_KEY}\n", f"\ufeff{ACCESS_KEY}"])
def test_white_space_in_an_access_key_that_no_header_can_have(text: str) -> None:
    s3 = s3_with()

    def send(request: S3Request) -> ServerAnswer:
        """As the connection pool does."""
        if any("\n" in value for _, value in request.headers):
            raise ValueError("line break in a header")
        for _, value in request.headers:
            value.encode("latin-1")
        return s3(request)

    config = settings_of(S3CredentialSource="aws", S3AccessKey="", S3SecretKey="")
    found = diagnosed(send, config, credentials=Credentials(text, SECRET_KEY))
    assert found.cause == "The access key is accepted without the white space around it."
    assert found.tried[0] == "as configured: not sent, because of a character in access key or token"
    inside = diagnosed(send, config, credentials=Credentials("AKIA\ufeffIOSFODNN7EXAMPLE", SECRET_KEY))
    assert inside.cause == "The access key or the session token has a character that cannot be sent."


def test_spaces_that_were_plus_signs() -> None:
    credentials = Credentials(ACCESS_KEY, SECRET_KEY.replace("+", " "))
    found = diagnosed(s3_with(), settings_of(), credentials=credentials)
    assert found.cause == "The secret key is accepted with + in place of its spaces."


@pytest.mark.parametrize("server", SERVERS)
def test_both_keys_in_quotes(server: str) -> None:
    config = settings_of(S3SecretKey=f"'{SECRET_KEY}'", S3AccessKey=f"'{ACCESS_KEY}'")
    found = diagnosed(s3_with(**SERVERS[server]), config)
    assert found.cause == "The keys are accepted without the quotes around them."
    assert (
        found.what_to_change == "Write the keys again in S3SecretKey and S3AccessKey, without the quotes around them."
    )


def test_an_access_key_in_quotes() -> None:
    found = diagnosed(s3_with(), settings_of(S3AccessKey=f'"{ACCESS_KEY}"'))
    assert found.cause == "The access key is accepted without the quotes around it."


def test_the_setting_is_named_by_where_the_key_is(tmp_path: Any) -> None:
    file = tmp_path / "secret"
    file.write_text(f'"{SECRET_KEY}"')
    config = settings_of(S3SecretKey="", S3SecretKeyFile=str(file))
    credentials = Credentials(ACCESS_KEY, f'"{SECRET_KEY}"')
    assert "in the content of S3SecretKeyFile," in diagnosed(s3_with(), config, credentials=credentials).what_to_change
    names = SettingNames(config, "S3Fallback")
    found = diagnosed(s3_with(), config, credentials=credentials, names=names)
    assert "in the content of S3FallbackSecretKeyFile," in found.what_to_change
    assert names.url == "S3FallbackURL"
    role = settings_of(S3RoleARN="arn:aws:iam::123456789012:role/reader")
    assert SettingNames(role).secret_key == "the secret key of the role arn:aws:iam::123456789012:role/reader"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", SERVERS)
def test_swapped_keys(server: str, mode: str) -> None:
    config = settings_of(mode, S3AccessKey=SECRET_KEY, S3SecretKey=ACCESS_KEY)
    found = diagnosed(s3_with(**SERVERS[server]), config)
    assert found.cause == "The access key and the secret key are swapped."
    assert found.what_to_change.startswith("Swap S3AccessKey and S3SecretKey. Better: make a new key pair")


@pytest.mark.parametrize("secret", [SECRET_KEY[:-1], "SECRETOFCAPITALS1234", OTHER_SECRET, f'"{OTHER_SECRET}"'])
def test_a_secret_key_is_never_sent_as_an_access_key(secret: str) -> None:
    s3 = s3_with(shows_texts=False)
    diagnosed(s3, settings_of(S3SecretKey=secret))
    for request in s3.requests:
        assert secret not in str(request.headers) + unquote(request.target)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", ["texts", "unknown access keys"])
def test_the_secret_key_of_another_pair_where_s3_says_what_it_has_computed(server: str, mode: str) -> None:
    """The texts are equal, so nothing but the secret key can be wrong: nothing else is tried."""
    found = diagnosed(s3_with(**SERVERS[server]), settings_of(mode, S3SecretKey=OTHER_SECRET))
    assert found.cause == (
        "The secret key is not the one that S3 has for this access key: S3 has computed the same text, and another "
        "signature. It is none of the usual slips (quotes, blanks, swapped)."
    )
    assert "access key AKIA...MPLE" in found.what_to_change
    assert found.is_found
    assert len(found.tried) == 1
    assert [line for line in found.comparison if line.ours != line.theirs or line.is_first_difference] == []


@pytest.mark.parametrize("mode", MODES)
def test_the_secret_key_of_another_pair_where_s3_says_nothing(mode: str) -> None:
    found = diagnosed(s3_with(shows_texts=False), settings_of(mode, S3SecretKey=OTHER_SECRET))
    assert found.cause.startswith("The secret key is not the one that S3 has for this access key, or the request")
    assert "No usual correction was accepted." in found.cause
    assert not found.is_found
    assert len(found.tried) <= MAX_REQUESTS
    assert found.comparison and all(line.theirs is None for line in found.comparison)


def test_a_line_of_s3fs_in_place_of_the_secret_key() -> None:
    for text in (f"{ACCESS_KEY}:{SECRET_KEY}", f"films:{ACCESS_KEY}:{SECRET_KEY}"):
        for server in SERVERS.values():
            found = diagnosed(s3_with(**server), settings_of(S3SecretKey=text))
            assert found.cause.startswith("The secret key is accepted without the access key and the colon in front ")
            assert len(found.tried) == 2 + (server.get("has_one_denial", False) * 2)


def test_what_is_behind_a_colon_in_an_access_key_is_not_sent_as_one() -> None:
    s3 = s3_with()
    diagnosed(s3, settings_of(S3AccessKey=f"{ACCESS_KEY}:{SECRET_KEY}"))
    for request in s3.requests:
        assert f"Credential={SECRET_KEY}" not in str(request.headers)


def test_a_secret_key_with_something_else_in_it() -> None:
    found = diagnosed(s3_with(), settings_of(S3SecretKey=f"{SECRET_KEY}/{ACCESS_KEY}x"))
    assert "It has 62 characters, those of Amazon have 40: is something else in it, such as ACCESS:" in found.cause
    other = VerifyingS3({"minio": SECRET_KEY})
    assert "Amazon" not in diagnosed(other, settings_of(S3AccessKey="minio", S3SecretKey=SECRET_KEY[:-1])).cause


NEW_LINES = {
    ("/media", "https://films.s3.eu-central-1.amazonaws.com"):
        'ProxyPass "/media" "https://films.s3.eu-west-3.amazonaws.com"',
    ("/media/", "https://films.s3.eu-central-1.amazonaws.com/"):
        'ProxyPass "/media/" "https://films.s3.eu-west-3.amazonaws.com/"',
    ("/media", "https://films.s3.eu-central-1.amazonaws.com/hd"):
        'ProxyPass "/media" "https://films.s3.eu-west-3.amazonaws.com/hd"',
    ("", "https://films.s3.eu-central-1.amazonaws.com/"): "the same URL in ProxyPass or RewriteRule",
}  # fmt: skip


@pytest.mark.parametrize(("path", "url"), NEW_LINES)
def test_both_lines_of_a_proxy_section_are_finished(path: str, url: str) -> None:
    config = settings_of(url="https://films.s3.eu-central-1.amazonaws.com/")
    names = SettingNames(config, proxy_pass=ProxyPass(path, url))
    headers = {"x-amz-bucket-region": "eu-west-3"}
    s3 = s3_with(region="eu-west-3", domain="s3.eu-west-3.amazonaws.com")

    def send(request: S3Request) -> ServerAnswer:
        moved = ServerAnswer(301, headers, "<Error><Code>PermanentRedirect</Code></Error>")
        return s3(request) if ".eu-west-3." in request.host else moved

    change = diagnosed(send, config, names=names).what_to_change
    assert change.startswith("Set S3Region to eu-west-3, and write ")
    assert NEW_LINES[path, url] in change
    assert '<Proxy "https://films.s3.eu-west-3.amazonaws.com/">' in change


def test_a_lost_character_cannot_be_found_but_is_counted() -> None:
    found = diagnosed(s3_with(), settings_of(S3SecretKey=SECRET_KEY[:-1]))
    assert "It has 39 characters, those of Amazon have 40: was all of it copied?" in found.cause


@pytest.mark.parametrize("mode", MODES)
def test_a_server_with_one_answer_to_all(mode: str) -> None:
    """Ceph 16: a wrong secret key and a missing permission look the same; a bucket that does not exist does not."""
    wrong = diagnosed(s3_with(has_one_denial=True), settings_of(mode, S3SecretKey=OTHER_SECRET))
    assert wrong.cause.startswith(
        "The keys are wrong, or have no permission: this server answers 403 AccessDenied to both."
    )
    assert not wrong.is_found
    right = diagnosed(s3_with(has_one_denial=True, denied=frozenset({ACCESS_KEY})), settings_of(mode))
    assert right.cause.startswith("S3 accepts the signature, but these keys have no permission")
    assert right.is_signature_accepted


def test_an_unknown_access_key() -> None:
    found = diagnosed(s3_with(), settings_of(S3AccessKey="AKIAI44QH8DHBEXAMPLE"))
    assert found.cause == "S3 does not know the access key AKIA...MPLE."
    assert "is one of s3.example" in found.what_to_change
    assert found.is_found
    assert len(found.tried) == 1


# --- tokens


@pytest.mark.parametrize("mode", MODES)
def test_a_temporary_access_key_without_its_token(mode: str) -> None:
    s3 = VerifyingS3({TEMPORARY_KEY: SECRET_KEY}, {TEMPORARY_KEY: TOKEN})
    found = diagnosed(s3, settings_of(mode, S3AccessKey=TEMPORARY_KEY))
    assert found.cause == "The access key ASIA...MPLE is a temporary one, and no session token is set."
    assert "S3SecurityToken" in found.what_to_change
    assert len(found.tried) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", SERVERS)
def test_the_token_of_other_keys(server: str, mode: str) -> None:
    found = diagnosed(s3_with(**SERVERS[server]), settings_of(mode, S3SecurityToken=TOKEN))
    assert found.cause.startswith("S3 accepts the keys without the session token")
    assert "Remove S3SecurityToken" in found.what_to_change


def test_a_token_that_was_percent_encoded() -> None:
    s3 = VerifyingS3({TEMPORARY_KEY: SECRET_KEY}, {TEMPORARY_KEY: TOKEN})
    config = settings_of(S3AccessKey=TEMPORARY_KEY, S3SecurityToken=quote(TOKEN, safe=""))
    assert diagnosed(s3, config).cause == "The session token is accepted percent-decoded (%2F is /, %2B is +)."


def test_a_token_that_is_not_complete() -> None:
    s3 = VerifyingS3({TEMPORARY_KEY: SECRET_KEY}, {TEMPORARY_KEY: TOKEN})
    found = diagnosed(s3, settings_of(S3AccessKey=TEMPORARY_KEY, S3SecurityToken=TOKEN[:-9]))
    assert found.cause == "S3 does not accept the session token: it is that of another key pair, or not complete."


# --- the clock


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("minutes", [-60, 60, 60 * 24 * 400])
@pytest.mark.parametrize("server", ["texts", "code"])
def test_the_clock(server: str, minutes: int, mode: str) -> None:
    s3 = s3_with(skew=timedelta(minutes=minutes), **SERVERS[server])
    found = diagnosed(s3, settings_of(mode))
    if minutes < 0 and mode.endswith("query"):
        assert found.cause == "S3 accepts the signature now."  # a clock that is ahead: it is valid for longer
        return
    side = "behind" if minutes > 0 else "ahead of"
    assert found.cause == f"The clock of this server is {abs(minutes) * 60} s {side} S3's."
    assert "NTP" in found.what_to_change


def test_an_expiry_that_is_too_short() -> None:
    s3 = s3_with(skew=timedelta(seconds=4))
    found = diagnosed(s3, settings_of(V4_QUERY, S3Expires="1"))
    assert found.cause == "A signature that is valid for 1 s ends before S3 checks it."
    assert found.what_to_change == "Set S3Expires to 900, and check the clock of this server."


def test_a_time_that_s3_never_accepts() -> None:
    document = "<Error><Code>RequestTimeTooSkewed</Code></Error>"
    found = diagnosed(
        lambda request: ServerAnswer(403, {"date": "Sat, 28 Nov 2026 13:00:00 GMT"}, document), settings_of()
    )
    assert found.cause.startswith("S3 answers 403 RequestTimeTooSkewed about the time of the signature")
    assert len(found.tried) == 2


# --- region, version, place


@pytest.mark.parametrize("mode", V4)
def test_a_region_that_s3_names(mode: str) -> None:
    found = diagnosed(s3_with(region="eu-west-3"), settings_of(mode))
    assert found.cause == "The requests are signed for the region eu-central-1; S3 accepts eu-west-3."
    assert found.what_to_change == "Set S3Region to eu-west-3."
    assert len(found.tried) == 2


@pytest.mark.parametrize("region", ["us-east-1", "auto", "eu-west-3"])
@pytest.mark.parametrize("server", ["texts", "code", "one denial"])
def test_a_region_that_s3_does_not_name(server: str, region: str) -> None:
    s3 = s3_with(region=region, knows_regions=False, **SERVERS[server])
    found = diagnosed(s3, settings_of(url="http://s3.eu-west-3.example.net:8080/films/"))
    assert found.what_to_change == f"Set S3Region to {region}."


def test_amazons_other_endpoint() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html: a redirect names the endpoint."""
    s3 = s3_with(region="eu-west-3", domain="s3.eu-west-3.amazonaws.com")

    def send(request: S3Request) -> ServerAnswer:
        if ".eu-west-3." in request.host:
            return s3(request)
        headers = {"x-amz-bucket-region": "eu-west-3"}
        return ServerAnswer(301, headers, "<Error><Code>PermanentRedirect</Code><Bucket>films</Bucket></Error>")

    for mode in MODES:
        config = settings_of(mode, url="https://films.s3.eu-central-1.amazonaws.com/")
        found = diagnosed(send, config)
        url = "S3BucketURL to https://films.s3.eu-west-3.amazonaws.com/"
        change = f"Set S3Region to eu-west-3, and set {url}." if mode in V4 else f"Set {url}."
        assert found.what_to_change == change
        assert found.cause.endswith("S3 accepts eu-west-3.")


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("films.s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3.dualstack.ap-southeast-2.amazonaws.com", "ap-southeast-2"),
        ("films.s3.amazonaws.com", "us-east-1"),
        ("s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("ns.compat.objectstorage.eu-frankfurt-1.oraclecloud.com", "eu-frankfurt-1"),
        ("s3.fr-par.scw.cloud", "fr-par"),
        ("s3.gra.io.cloud.ovh.net", "gra"),
        ("us-east-1.linodeobjects.com", "us-east-1"),
        ("0123456789abcdef.r2.cloudflarestorage.com", "auto"),
        ("storage.googleapis.com", "auto"),
        ("s3.example.com", ""),
        ("127.0.0.1", ""),
    ],
)
def test_the_region_in_a_host(host: str, region: str) -> None:
    assert region_in_host(host) == region


@pytest.mark.parametrize("mode", [V2_HEADERS, V2_QUERY])
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-3"])
def test_version_4_is_needed(region: str, mode: str) -> None:
    s3 = s3_with(versions=("v4",), region=region)
    found = diagnosed(s3, settings_of(mode))
    assert found.cause.startswith("S3 accepts Signature v4, and not v2.")
    assert f"Set S3Region to {region}" in found.what_to_change


@pytest.mark.parametrize("mode", V4)
def test_version_2_is_needed(mode: str) -> None:
    found = diagnosed(s3_with(versions=("v2",)), settings_of(mode))
    assert found.cause == "S3 accepts Signature v2, and not v4."
    assert found.what_to_change.startswith("Remove S3Region")


@pytest.mark.parametrize(("mode", "version"), [(V4_QUERY, "v4"), (V2_QUERY, "v2")])
def test_only_headers_are_supported(mode: str, version: str) -> None:
    found = diagnosed(s3_with(places=("headers",), versions=(version,)), settings_of(mode))
    assert found.cause == "S3 accepts the signature in headers, and not in the query string."
    assert found.what_to_change == "Set S3UseHeaders to on."


@pytest.mark.parametrize("mode", [V4_HEADERS, V2_HEADERS])
def test_a_device_that_drops_authorization(mode: str) -> None:
    found = diagnosed(s3_with(device=lambda request: request.without("authorization")), settings_of(mode))
    assert found.cause.startswith("S3 accepts the signature in the query string, and not in headers: a device")
    assert "let the device pass Authorization" in found.what_to_change


# --- the bucket's name


def test_virtual_hosted_style_where_s3_reads_the_path() -> None:
    for mode in MODES:
        config = settings_of(mode, url="http://films.s3.example:8080/", S3Bucket="films")
        found = diagnosed(s3_with(), config, request=request_of(config, "hd/a.mp4"))
        assert found.cause == "S3 takes the bucket's name from the path, and not from the host.", mode
        assert found.what_to_change.startswith(
            "Set S3BucketURL to http://films.s3.example:8080/films/. Or use the same"
        )


def test_virtual_hosted_style_where_s3_denies_access_to_buckets_that_do_not_exist() -> None:
    """SeaweedFS does so."""
    config = settings_of(url="http://films.s3.example:8080/", S3Bucket="films")
    found = diagnosed(s3_with(no_bucket=(403, "AccessDenied")), config)
    assert found.cause == "S3 takes the bucket's name from the path, and not from the host."
    assert not found.is_signature_accepted
    denied = diagnosed(s3_with(no_bucket=(403, "AccessDenied"), bucket="other"), config)
    assert denied.cause.startswith("S3 accepts the signature, but these keys have no permission")
    assert denied.is_signature_accepted


@pytest.mark.parametrize("mode", MODES)
def test_the_host_with_the_buckets_name_is_suggested_and_gets_no_request(mode: str) -> None:
    """A DNS search list or a wildcard decides to whom films.s3.example leads."""
    sent: list[S3Request] = []

    def send(request: S3Request) -> ServerAnswer:
        sent.append(request)
        return ServerAnswer(404, {}, "<Error><Code>NoSuchBucket</Code></Error>")

    found = diagnosed(send, settings_of(mode, url="http://s3.example:8080/films/hd/", S3SecurityToken=TOKEN))
    assert found.cause == "s3.example has no bucket films, or not in the account of these keys."
    assert found.what_to_change.endswith(
        "If the server takes the bucket's name from the host, set S3BucketURL to http://films.s3.example:8080/hd/."
    )
    assert {request.host for request in sent} == {"s3.example:8080"}


@pytest.mark.parametrize("mode", MODES)
def test_no_other_name_is_looked_up(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    names: set[Any] = set()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        names.add(host)
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with ScriptedS3(then=error(404, "NoSuchBucket")) as s3:
        config = settings_of(mode, url=f"http://localhost:{s3.port}/films/", S3SecurityToken=TOKEN)
        requests = BucketRequests(config, resolver.resolve(config))
        request = requests.object_request("GET", requests.path_of("a.mp4"), FIRST_BYTE)
        found = rejections.explain(requests, request, SettingNames(config))
    assert found.what_to_change.endswith(f"set S3BucketURL to http://films.localhost:{s3.port}/.")
    assert names == {"localhost"}
    assert {one.headers["host"] for one in s3.requests} == {f"localhost:{s3.port}"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/films/", "http://[::1]:9000/films/"])
def test_an_address_has_no_host_with_the_buckets_name(url: str) -> None:
    found = diagnosed(fixed(404, "<Error><Code>NoSuchBucket</Code></Error>"), settings_of(url=url))
    assert "from the host" not in found.what_to_change


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", ["PermanentRedirect", "AuthorizationHeaderMalformed"])
def test_no_other_host_gets_a_signature_over_http(code: str, mode: str) -> None:
    sent: list[S3Request] = []

    def send(request: S3Request) -> ServerAnswer:
        sent.append(request)
        return ServerAnswer(301, {"x-amz-bucket-region": "eu-west-3"}, f"<Error><Code>{code}</Code></Error>")

    url = "http://films.s3.eu-central-1.amazonaws.com/"
    diagnosed(send, settings_of(mode, url=url, S3SecurityToken=TOKEN))
    assert {request.host for request in sent} == {"films.s3.eu-central-1.amazonaws.com"}


@pytest.mark.parametrize(
    ("url", "host", "is_allowed"),
    [
        ("http://minio/films/", "minio", True),
        ("http://minio/films/", "films.minio", False),
        ("http://minio/films/", "minio:9000", False),
        ("https://minio:9000/films/", "minio:9000", True),
        ("https://minio:9000/films/", "minio", False),
        ("https://films.s3.eu-central-1.amazonaws.com/", "films.s3.eu-west-3.amazonaws.com", True),
        ("https://films.s3.eu-central-1.amazonaws.com/", "films.s3.us-gov-west-1.amazonaws.com", True),
        ("https://s3.amazonaws.com/films/", "s3.eu-west-3.amazonaws.com", True),
        ("https://films.s3.eu-central-1.amazonaws.com/", "other.s3.eu-west-3.amazonaws.com", False),
        ("https://films.s3.eu-central-1.amazonaws.com/", "films.s3.eu-west-3.amazonaws.com:8443", False),
        ("https://films.s3.eu-central-1.amazonaws.com/", "films.s3.eu-west-3.amazonaws.com.cn", False),
        ("https://films.s3.eu-central-1.amazonaws.com/", "films.s3.eu-west-3.amazonaws.com.example", False),
        ("http://films.s3.eu-central-1.amazonaws.com/", "films.s3.eu-west-3.amazonaws.com", False),
        ("https://s3.eu-central-1.example.com/films/", "s3.eu-west-3.example.com", False),
        ("https://s3.example/films/", "s3 .example", False),
    ],
)
def test_only_the_configured_host_and_amazons_endpoints_get_a_signature(
    monkeypatch: pytest.MonkeyPatch, url: str, host: str, is_allowed: bool
) -> None:
    """Whatever the diagnosis wants to send."""

    class Connected(Exception):
        pass

    def pool_for(config: Settings) -> Any:
        raise Connected(config.bucket_url.authority)

    monkeypatch.setattr(pool_manager, "pool_for", pool_for)
    config = settings_of(url=url)
    request = request_of(config)._replace(host=host)
    with pytest.raises(Connected if is_allowed else UpstreamConnectionError) as raised:
        rejections.send(config, request)
    if is_allowed:
        assert str(raised.value) == host
    with pytest.raises(UpstreamConnectionError):
        rejections.send(config, request._replace(scheme="http" if request.scheme == "https" else "https"))


def test_a_host_whose_bucket_version_2_does_not_sign() -> None:
    """The path is a prefix of the key, but looks like a bucket."""
    s3 = s3_with(domain="cdn.example")
    found = diagnosed(s3, settings_of(V2_HEADERS, url="http://films.cdn.example:8080/hd/"))
    assert found.cause == "S3 takes the bucket's name from the host: it is films, which Signature v2 signs."
    assert found.what_to_change == "Set S3Bucket to films."


def test_no_such_bucket() -> None:
    found = diagnosed(s3_with(bucket="other"), settings_of())
    assert found.cause == "s3.example has no bucket films, or not in the account of these keys."
    assert found.is_found


# --- what is changed on the way


def to_backend(request: S3Request) -> S3Request:
    return request._replace(host="backend:9000")


def without_port(request: S3Request) -> S3Request:
    return request._replace(host=request.host.partition(":")[0])


def decoded(request: S3Request) -> S3Request:
    return request._replace(path=quote(unquote(request.path), safe="/+"))


def merged(request: S3Request) -> S3Request:
    return request._replace(path=re.sub("/+", "/", request.path))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("mode", V4)
def test_a_device_that_removes_the_port(mode: str, server: str) -> None:
    found = diagnosed(s3_with(device=without_port, **SERVERS[server]), settings_of(mode))
    assert found.cause == (
        "A device between this server and S3 removes the port from the Host header: this server signs s3.example:8080, "
        "S3 gets s3.example."
    )
    assert "proxy_set_header Host" in found.what_to_change


@pytest.mark.parametrize("mode", V4)
def test_a_device_that_rewrites_the_host(mode: str) -> None:
    """S3's host is not signed to prove it: the answer could name any host, which would get a valid signature."""
    s3 = s3_with(device=to_backend)
    found = diagnosed(s3, settings_of(mode))
    assert found.cause == (
        "The request is changed on its way to S3: the header host: this server signed s3.example:8080, S3 got "
        "backend:9000."
    )
    assert found.is_found
    (first,) = [line for line in found.comparison if line.is_first_difference]
    assert (first.label, first.ours, first.theirs) == ("header host", "host:s3.example:8080", "host:backend:9000")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("device", "key"), [(decoded, "a%2Bb.mp4"), (merged, "a//b.mp4")])
@pytest.mark.parametrize("mode", MODES)
def test_a_device_that_changes_paths(mode: str, device: Any, key: str, server: str) -> None:
    config = settings_of(mode)
    found = diagnosed(s3_with(device=device, **SERVERS[server]), config, request=request_of(config, key))
    assert found.cause.startswith("S3 accepts the signature for another key: a device on the way changes paths with ")
    assert ("//" in found.cause) == ("//" in key)


def test_a_device_that_adds_a_path() -> None:
    found = diagnosed(s3_with(device=lambda request: request._replace(path=f"/s3{request.path}")), settings_of())
    assert (
        "the path: its beginning is removed or added: this server signed /films/a.mp4, S3 got /s3/films" in found.cause
    )


def test_a_device_that_drops_a_signed_header() -> None:
    config = settings_of(V4_QUERY, S3RequesterPays="on")
    request = request_of(config, x_amz_request_payer="requester")
    s3 = s3_with(device=lambda request: request.without("x-amz-request-payer"), shows_texts=False)
    found = diagnosed(s3, config, request=request)
    assert "without the header x-amz-request-payer: a device drops or changes it" in found.cause


def test_a_device_that_turns_head_into_get() -> None:
    config = settings_of()
    s3 = s3_with(device=lambda request: request._replace(method="GET"))
    found = diagnosed(s3, config, request=request_of(config, method="HEAD"))
    assert found.cause.startswith("S3 accepts the signature of GET, but not of HEAD")
    assert diagnosed(s3_with(), config, request=request_of(config, method="HEAD")).is_signature_accepted


# --- not the signature


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", ["texts", "code"])
def test_a_missing_permission(server: str, mode: str) -> None:
    s3 = s3_with(denied=frozenset({ACCESS_KEY}), **SERVERS[server])
    found = diagnosed(s3, settings_of(mode))
    assert found.cause == (
        "S3 accepts the signature, but these keys have no permission to read this object. S3 says: Access Denied"
    )
    assert "S3RequesterPays" in found.what_to_change
    assert found.is_signature_accepted and found.is_found
    assert len(found.tried) == 2


def test_a_missing_permission_of_kms() -> None:
    """In the words of https://github.com/cisagov/XFD/pull/1371."""
    message = (
        "User: arn:aws:sts::123456789012:assumed-role/reader is not authorized to perform: kms:Decrypt on resource: "
        "arn:aws:kms:us-east-1:123456789012:key/1 because no identity-based policy allows the kms:Decrypt action"
    )
    found = diagnosed(s3_with(denied=frozenset({ACCESS_KEY}), denied_message=message), settings_of())
    assert "may not use the KMS key" in found.cause
    assert "kms:Decrypt" in found.what_to_change


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ServerAnswer(403, {}, "<html><h1>Blocked</h1></html>"), "The answer (403) is not S3's"),
        (ServerAnswer(400, {}, "<html>Client sent an HTTP request to an HTTPS server."), "The port speaks TLS."),
        (
            ServerAnswer(301, {"location": "https://s3.example/films/a.mp4"}, ""),
            "s3.example redirects to https://s3.example/",
        ),
        (
            ServerAnswer(503, {}, "<Error><Code>SlowDown</Code></Error>"),
            "S3 gives no answer to diagnose: 503 SlowDown.",
        ),
        (ServerAnswer(418, {}, "<Error><Code>Teapot</Code><Message>I am one</Message></Error>"), "S3 says: I am one"),
    ],
)
def test_answers_that_say_nothing_of_the_signature(answer: ServerAnswer, words: str) -> None:
    found = diagnosed(lambda request: answer, settings_of())
    assert words in found.cause
    assert not found.is_signature_accepted


def test_no_connection() -> None:
    def send(request: S3Request) -> ServerAnswer:
        raise UpstreamConnectionError("connection refused")

    assert diagnosed(send, settings_of()).cause == "S3 gives no answer to diagnose: connection refused."


def test_a_server_that_checks_no_signature_of_another_place_proves_nothing() -> None:
    """A public object: without a signature that the server understands, everybody may read it."""
    s3 = s3_with(versions=("v4",), shows_texts=False)

    def send(request: S3Request) -> ServerAnswer:
        is_signed = request.header("authorization") or "X-Amz-Signature" in dict(request.query)
        return s3(request) if is_signed else ServerAnswer(206, {}, "x")

    found = diagnosed(send, settings_of(S3SecretKey=OTHER_SECRET))
    assert "The secret key is not the one" in found.cause
    assert not found.is_found


# --- two at once, and limits


def test_the_clock_and_the_secret_key() -> None:
    found = diagnosed(s3_with(skew=timedelta(hours=1)), settings_of(S3SecretKey=f'"{SECRET_KEY}"'))
    assert found.cause == (
        "The clock of this server is 3600 s behind S3's. Then: The secret key is accepted without the quotes around it."
    )


QUOTED = {"S3SecretKey": f'"{SECRET_KEY}"'}
FAULTS: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "clock": ({"skew": timedelta(hours=1)}, {}, "The clock of this server is 3600 s behind S3's."),
    "region": ({"region": "eu-west-3"}, {}, "S3 accepts eu-west-3."),
    "version": ({"versions": ("v4",)}, {"S3Region": ""}, "S3 accepts Signature v4, and not v2."),
    "secret key": ({}, QUOTED, "without the quotes around "),
    "token": ({}, {"S3SecurityToken": TOKEN}, "S3 accepts the keys without the session token"),
    "access key": ({}, {"S3AccessKey": f"{ACCESS_KEY};"}, "without the punctuation at "),
    "permission": ({"denied": frozenset({ACCESS_KEY})}, {}, "S3 accepts the signature, but these keys have no"),
    "bucket": ({"bucket": "other"}, {}, "s3.example has no bucket films"),
}  # fmt: skip


@pytest.mark.parametrize("server", ["texts", "code"])
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(FAULTS, 2)))
def test_two_faults(one: str, other: str, server: str) -> None:
    """Both are named, whatever S3 says first; a missing bucket hides whether there is a permission."""
    (s3_one, settings_one, words_one), (s3_other, settings_other, words_other) = FAULTS[one], FAULTS[other]
    found = diagnosed(s3_with(**s3_one, **s3_other, **SERVERS[server]), settings_of(**settings_one | settings_other))
    expected = {"permission", "bucket"} - ({"permission"} if {one, other} == {"permission", "bucket"} else set())
    for name, words in ((one, words_one), (other, words_other)):
        if name in expected or name not in {"permission", "bucket"}:
            assert words in found.cause
    assert found.is_found


def test_region_version_and_secret_key() -> None:
    config = settings_of(V2_HEADERS, S3SecretKey=OTHER_SECRET)
    found = diagnosed(s3_with(versions=("v4",), region="eu-west-3"), config)
    assert found.cause.startswith("S3 accepts Signature v4, and not v2. Then: ")
    assert "The secret key is not the one that S3 has for this access key: S3 has computed the same text" in found.cause
    assert not any(line.is_first_difference for line in found.comparison)


def test_the_clock_and_a_missing_permission() -> None:
    found = diagnosed(s3_with(skew=timedelta(hours=1), denied=frozenset({ACCESS_KEY})), settings_of())
    assert found.cause.startswith(
        "The clock of this server is 3600 s behind S3's. Then: S3 accepts the signature, but "
    )
    assert not found.is_signature_accepted


def test_the_number_of_requests_is_bounded() -> None:
    s3 = s3_with(shows_texts=False)
    found = diagnosed(s3, settings_of(S3SecretKey=OTHER_SECRET), max_requests=3)
    assert len(s3.requests) == 3
    assert found.tried[-1] == "(stopped after 3 requests)"
    assert "The secret key is not the one" in found.cause


def test_the_time_is_bounded() -> None:
    s3 = s3_with()
    found = diagnosed(s3, settings_of(), max_seconds=-1)
    assert s3.requests == []
    assert found.cause == "S3 gives no answer to diagnose: no request was sent."


def test_no_request_is_sent_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 1000.0
    s3 = s3_with(shows_texts=False)

    def send(request: S3Request) -> ServerAnswer:
        nonlocal seconds
        seconds += 19
        return s3(request)

    monkeypatch.setattr(diagnosis, "time", SimpleNamespace(monotonic=lambda: seconds))
    found = diagnosed(send, settings_of(S3SecretKey=OTHER_SECRET))
    assert len(s3.requests) == 4
    assert found.tried[-1] == "(stopped after 4 requests)"


def test_s3_is_left_alone_if_it_stops_answering() -> None:
    answers = iter(
        [ServerAnswer(403, {}, "<Error><Code>SignatureDoesNotMatch</Code></Error>"), *[ServerAnswer(503, {}, "")] * 9]
    )
    found = diagnosed(lambda request: next(answers), settings_of())
    assert len(found.tried) == 4
    assert found.tried[-1] == "(stopped after 3 requests)"


# --- documents of other providers


def fixed(status: int, document: str, **headers: str) -> Callable[[S3Request], ServerAnswer]:
    return lambda request: ServerAnswer(status, headers, document)


DOCUMENTS = {
    # https://github.com/aws/aws-sdk-php/issues/612
    "AWS, the clock": (
        403,
        "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time "
        "is too large.</Message><RequestTime>20150604T232559Z</RequestTime>"
        "<ServerTime>2015-06-04T22:26:16Z</ServerTime>"
        "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds></Error>",
        "signed with S3's time",
    ),
    # https://github.com/aws/aws-sdk-js/issues/3493
    "AWS, an expired query": (
        403,
        "<Error>\n<Code>AccessDenied</Code>\n<Message>Request has expired</Message>\n"
        "<Expires>2020-10-15T02:03:37Z</Expires>\n<ServerTime>2020-10-15T02:03:42Z</ServerTime></Error>",
        "signed with S3's time",
    ),
    # https://github.com/GoogleCloudPlatform/gsutil/issues/1024
    "AWS, the region": (
        400,
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region "
        "'us-east-1' is wrong; expecting 'ap-southeast-1'</Message><Region>ap-southeast-1</Region></Error>",
        "signed for the region ap-southeast-1",
    ),
    # https://github.com/jeessy2/backup-x/issues/127
    "Cloudflare, the region": (
        400,
        "<Error><Code>InvalidRegionName</Code><Message>The region name 'cn-north-1' is not valid. Must be one of: "
        "wnam, enam, weur, eeur, apac, oc, auto</Message></Error>",
        "signed for the region auto",
    ),
    # https://github.com/PhantomPhoton/S3-Compatible/issues/28
    "Garage, the region": (
        400,
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>Authorization header malformed, unexpected scope: "
        "20260519/made-up-region/s3/aws4_request, expected: 20260519/garage/s3/aws4_request</Message></Error>",
        "signed for the region garage",
    ),
    # https://github.com/nukulb/s3-angular-file-upload/issues/23
    "AWS, the version": (
        400,
        "<Error><Code>InvalidRequest</Code><Message>The authorization mechanism you have provided is not supported. "
        "Please use AWS4-HMAC-SHA256.</Message></Error>",
        "Signature v2",
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_lead_to_what_is_tried_next(name: str) -> None:
    status, document, words = DOCUMENTS[name]
    url = "https://account.r2.cloudflarestorage.com/films/" if "Cloudflare" in name else "https://s3.example/films/"
    found = diagnosed(fixed(status, document), settings_of(url=url))
    assert found.tried[1].startswith(words)
    assert len(found.tried) <= 8


def test_an_expired_token_of_aws() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; AWS repeats the token."""
    message = "<Message>The provided token has expired.</Message>"
    document = f"<Error><Code>ExpiredToken</Code>{message}<Token-0>{TOKEN}</Token-0></Error>"
    config = settings_of(S3SecurityToken=TOKEN)
    found = diagnosed(fixed(400, document), config)
    assert found.cause == "The session token has expired."
    assert len(found.tried) == 1


def test_the_expired_query_of_google() -> None:
    """Google answers ExpiredToken to a signature in the query that has expired, without any token."""
    document = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    found = diagnosed(fixed(400, document, date="Sat, 28 Nov 2026 13:00:00 GMT"), settings_of(V4_QUERY))
    assert found.tried[1].startswith("signed with S3's time")


def test_googles_document() -> None:
    """https://github.com/edenlabllc/ehealth.api/issues/945: version 2, with the string to sign alone."""
    document = (
        "<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>The request "
        "signature we calculated does not match the signature you provided. Check your Google secret key and signing "
        "method.</Message><StringToSign>PUT\n\n\n1504106769\n/declaration-requests-dev/person.jpg</StringToSign></Error>"
    )
    found = diagnosed(fixed(403, document), settings_of(V2_QUERY, url="https://storage.googleapis.com/films/"))
    assert [(line.label, line.theirs) for line in found.comparison] == [
        ("method", "PUT"),
        ("Content-MD5", ""),
        ("Content-Type", ""),
        ("Date or Expires", "1504106769"),
        ("resource", "/declaration-requests-dev/person.jpg"),
    ]
    assert "the method: this server signed GET, S3 got PUT" in found.cause


# --- nothing secret in what is returned

FORMS: list[Callable[[str], str]] = [
    str,
    lambda text: quote(text, safe=""),
    lambda text: quote(text),
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: text.encode().hex(),
    lambda text: text.encode().hex(" "),
]
keys = st.text("abcXYZ0189+/=", min_size=16, max_size=40)


def signature_of(request: S3Request) -> str:
    values = {**dict(request.headers), **dict(request.query)}
    header = values.get("Authorization", "")
    if header.startswith("AWS "):
        return header.rpartition(":")[2]
    return header.rpartition("Signature=")[2] or unquote(values.get("X-Amz-Signature") or values["Signature"])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(MODES),
    keys,
    st.none() | keys,
    st.sampled_from(["{}", '"{}"', "key={}", "{}\\n", f"{ACCESS_KEY}:{{}}"]),
    st.sampled_from(
        ["SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "AccessDenied", "RequestTimeTooSkewed", "{}"]
    ),
    st.booleans(),
)
def test_nothing_secret_is_returned(
    mode: str, secret: str, token: str | None, copied: str, code: str, is_swapped: bool
) -> None:
    """S3 repeats all that it knows, in every form and in every element."""
    configured = copied.format(secret)
    pair = (configured, ACCESS_KEY) if is_swapped else (ACCESS_KEY, configured)
    config = settings_of(mode)
    sent: list[S3Request] = []

    def send(request: S3Request) -> ServerAnswer:
        sent.append(request)
        known = [secret, configured, token or "none", signature_of(request)]
        text = " ".join(form(value) for value in known for form in FORMS)
        elements = {
            "Code": code.format(secret), "Message": f"kms: {text}", "Region": secret, "AWSAccessKeyId": pair[0],
            "StringToSign": text.replace(" ", "\n"), "CanonicalRequest": text.replace(" ", "\n"),
            "Token-0": token or "",
        }  # fmt: skip
        document = "".join(f"<{name}>{html.escape(value)}</{name}>" for name, value in elements.items())
        return ServerAnswer(403, {"location": f"https://s3.example/{quote(secret)}"}, f"<Error>{document}</Error>")

    result = diagnosed(send, config, credentials=Credentials(*pair, token))
    text = repr(result) + str([line._asdict() for line in result.comparison])
    for value in [secret, token or secret, *map(signature_of, sent)]:
        for form in FORMS:
            assert form(value) not in text


def test_s3s_words_are_one_line() -> None:
    s3 = s3_with(denied=frozenset({ACCESS_KEY}), denied_message="no \x1b[31m\nway é")
    assert diagnosed(s3, settings_of()).cause.endswith("S3 says: no \\x1b[31m way \\xe9")


@given(st.text(min_size=1, max_size=80))
def test_corrected_keys_are_other_keys(key: str) -> None:
    copies = list(corrected(key))
    assert all(copy.text and copy.text != key for copy in copies)
    assert len({copy.text for copy in copies}) == len(copies)
    assert all(copy.text not in repr(copy) or copy.text in copy.words + "Copy(words=)" for copy in copies)


def test_any_region_is_accepted_where_there_are_none() -> None:
    assert diagnosed(s3_with(region=ANY_REGION), settings_of(S3Region="made-up")).is_signature_accepted


# --- servers that check no signature

REJECTED = error(403, "SignatureDoesNotMatch")
RIGHT_AND_WRONG: dict[str, tuple[Step, Step, bool | None]] = {
    "an object, checked": (answer(206, b"x"), REJECTED, False),
    "an object, not checked": (answer(206, b"x"), answer(206, b"x"), True),
    "no object, checked": (error(404, "NoSuchKey"), REJECTED, False),
    "no object, not checked": (error(404, "NoSuchKey"), error(404, "NoSuchKey"), True),
    "an empty 404, not checked": (answer(404), answer(404), True),
    "denied, checked": (error(403, "AccessDenied"), REJECTED, False),
    "denied, not checked, or checked by Ceph": (error(403, "AccessDenied"), error(403, "AccessDenied"), True),
    "no answer": (answer(206, b"x"), close, None),
    "no answer now": (answer(206, b"x"), error(503, "SlowDown"), None),
    "a page of a proxy": (answer(206, b"x"), answer(502, b"<html>Bad Gateway</html>"), None),
}


@pytest.mark.parametrize("name", RIGHT_AND_WRONG)
@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_checks_no_signature(mode: str, name: str) -> None:
    right, wrong, expected = RIGHT_AND_WRONG[name]
    with ScriptedS3(right, wrong) as s3:
        config = settings_of(mode, url=f"http://127.0.0.1:{s3.port}/films/")
        requests = BucketRequests(config, Credentials(ACCESS_KEY, SECRET_KEY))
        request = requests.object_request("GET", requests.path_of("a.mp4"), FIRST_BYTE)
        first = requests.send(request)
        assert rejections.accepts_wrong_signature(requests, request, first) is expected
    one, other = s3.requests
    assert [one.headers["range"], other.headers["range"]] == ["bytes=0-0"] * 2
    assert (one.headers.get("authorization"), one.target) != (other.headers.get("authorization"), other.target)
    assert ACCESS_KEY in other.headers.get("authorization", "") + other.target


@pytest.mark.parametrize("mode", MODES)
def test_an_s3_checks_signatures(mode: str) -> None:
    with EmbeddedS3(["films"]) as s3:
        url, keys = f"{s3.url}/films/", {"S3AccessKey": s3.access_key, "S3SecretKey": s3.secret_key}
        config = settings_of(mode, url=url, **keys)
        requests = BucketRequests(config, resolver.resolve(config))
        request = requests.object_request("GET", requests.path_of("a.mp4"), FIRST_BYTE)
        first = requests.send(request)
        assert (first.status, first.error and first.error.code) == (404, "NoSuchKey")
        assert rejections.accepts_wrong_signature(requests, request, first) is False
