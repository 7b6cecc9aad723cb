"""S3BucketURL in the styles of all S3 servers, and S3Bucket for URLs that do not contain the bucket's name."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.unit.test_settings import BASE, PATH_STYLE, error_message
from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.settings import from_environ

# --- S3BucketURL

#: URL, bucket, whether it is path style, Host header.
BUCKET_URLS = [
    ("https://b.s3.eu-central-1.amazonaws.com/", "b", False, "b.s3.eu-central-1.amazonaws.com"),
    ("https://b.s3.eu-central-1.amazonaws.com", "b", False, "b.s3.eu-central-1.amazonaws.com"),
    ("https://b.s3.amazonaws.com/pre/fix", "b", False, "b.s3.amazonaws.com"),
    ("https://b.s3-eu-west-1.amazonaws.com/", "b", False, "b.s3-eu-west-1.amazonaws.com"),
    ("https://b.s3.dualstack.us-east-1.amazonaws.com/", "b", False, "b.s3.dualstack.us-east-1.amazonaws.com"),
    ("https://b.s3-accelerate.amazonaws.com/", "b", False, "b.s3-accelerate.amazonaws.com"),
    ("https://b.s3-fips.us-gov-west-1.amazonaws.com/", "b", False, "b.s3-fips.us-gov-west-1.amazonaws.com"),
    ("https://b.s3.cn-north-1.amazonaws.com.cn/", "b", False, "b.s3.cn-north-1.amazonaws.com.cn"),
    ("https://my.dotted.bucket.s3.amazonaws.com/", "my.dotted.bucket", False, "my.dotted.bucket.s3.amazonaws.com"),
    ("https://my.s3-logs.s3.eu-west-1.amazonaws.com/", "my.s3-logs", False, "my.s3-logs.s3.eu-west-1.amazonaws.com"),
    ("https://s3.films.s3.amazonaws.com/", "s3.films", False, "s3.films.s3.amazonaws.com"),
    ("https://s3.eu-central-1.amazonaws.com/b/", "b", True, "s3.eu-central-1.amazonaws.com"),
    ("https://s3.amazonaws.com/b/pre", "b", True, "s3.amazonaws.com"),
    ("https://s3.dualstack.eu-west-1.amazonaws.com/b", "b", True, "s3.dualstack.eu-west-1.amazonaws.com"),
    ("https://s3.cn-north-1.amazonaws.com.cn/b", "b", True, "s3.cn-north-1.amazonaws.com.cn"),
    ("https://storage.googleapis.com/b/", "b", True, "storage.googleapis.com"),
    ("https://b.storage.googleapis.com/", "b", False, "b.storage.googleapis.com"),
    ("http://minio:9000/b/", "b", True, "minio:9000"),
    ("http://b.ceph.example:7480/", "", True, "b.ceph.example:7480"),
    ("http://b.s3.example:9000/", "", True, "b.s3.example:9000"),
    ("http://ceph.example:7480/b/", "b", True, "ceph.example:7480"),
    ("http://192.0.2.7/b/", "b", True, "192.0.2.7"),
    ("http://[2001:db8::7]:9000/b/", "b", True, "[2001:db8::7]:9000"),
    ("http://[::1]/b", "b", True, "[::1]"),
    ("HTTPS://B.S3.AMAZONAWS.COM/", "b", False, "b.s3.amazonaws.com"),
    ("https://b.s3.amazonaws.com./", "b", False, "b.s3.amazonaws.com"),
    ("https://b.s3.amazonaws.com:443/", "b", False, "b.s3.amazonaws.com"),
    ("http://b.s3.amazonaws.com:443/", "b", False, "b.s3.amazonaws.com:443"),
    ("http://b.ceph.example:80/", "", True, "b.ceph.example"),
    ("http://ceph.example/under_score/", "under_score", True, "ceph.example"),
    ("https://s3.eu-central-1.amazonaws.com/", "", True, "s3.eu-central-1.amazonaws.com"),
    ("http://minio:9000", "", True, "minio:9000"),
    ("http://[::1]:9000/", "", True, "[::1]:9000"),
]


@pytest.mark.parametrize(("text", "bucket", "path_style", "authority"), BUCKET_URLS)
def test_bucket_style_and_authority(text: str, bucket: str, path_style: bool, authority: str) -> None:
    url = bucket_url(text)
    assert (url.bucket, url.path_style, url.authority) == (bucket, path_style, authority)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://b.example/", "b.example", 80),
        ("https://b.example/", "b.example", 443),
        ("https://b.example:/", "b.example", 443),
        ("https://b.example:8443/", "b.example", 8443),
        ("https://[2001:db8::7]/b", "2001:db8::7", 443),
    ],
)
def test_host_and_port(text: str, host: str, port: int) -> None:
    url = bucket_url(text)
    assert (url.host, url.port) == (host, port)


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("", "/"),
        ("/", "/"),
        ("/b", "/b/"),
        ("/b/a+b@c", "/b/a%2Bb%40c/"),
        ("/b/a%20b", "/b/a%20b/"),
        ("/b/a%2fb", "/b/a/b/"),
        ("/b/%e9%C3%A9", "/b/%E9%C3%A9/"),
        ("/b//c//", "/b//c//"),
        ("/b/a%25b", "/b/a%25b/"),
        ("/b/%3F%23", "/b/%3F%23/"),
        ("/b/...", "/b/.../"),
        ("/b/~;p=1", "/b/~%3Bp%3D1/"),
    ],
)
def test_the_prefix_is_encoded_once(path: str, prefix: str) -> None:
    assert bucket_url(f"https://minio.example{path}").prefix == prefix


INVALID_URLS = [
    "",
    "b.s3.amazonaws.com",
    "//b.s3.amazonaws.com/",
    "ftp://b.s3.amazonaws.com/",
    "s3://bucket/",
    "https://",
    "https:///bucket",
    "https://./bucket",
    "https://user@b.example/",
    "https://user:password@b.example/",
    "https://b.example/?acl",
    "https://b.example/?",
    "https://b.example/#a",
    "https://b.example:99999/",
    "https://b.example:0x50/",
    "https://b.example:-1/",
    "https://[::1/b",
    "https://[fe80::1%25eth0]/b",
    "https://b.example/%zz",
    "https://b.example/%4",
    "https://b.example/a/../b",
    "https://b.example/%2e%2e/",
    "https://b.example/./",
    "https://b.example/%00/",
    "https://b.example/a b/",
    " https://b.example/",
    "https://b.example/\n",
    "https://bücher.example/",
    "https://b.example/é",
    "https://b.exa\tmple/",
    "https://b%2Eexample/",
]


@pytest.mark.parametrize("text", INVALID_URLS)
def test_invalid_urls(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a URL|must be an http"):
        bucket_url(text)


@pytest.mark.parametrize("text", ["https://AKIA:hidden/", "https://user:hidden\u2100@b.example/"])
def test_a_traceback_does_not_show_the_url(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a URL") as caught:
        bucket_url(text)
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


@given(st.text(), st.sampled_from(["", "https://", "https://b.example/", "http://b.example:", "http://["]))
@hypothesis_settings(deadline=None)
def test_any_text_is_parsed_or_rejected(text: str, start: str) -> None:
    try:
        url = bucket_url(start + text)
    except ValueError as error:
        message = str(error)
    else:
        message = "must be "
        assert url.prefix.startswith("/") and url.prefix.endswith("/")
        assert url.host and f"{url.authority}{url.prefix}".isascii()
        assert 0 < url.port < 65_536
        assert bucket_url(f"{url.scheme}://{url.authority}{url.prefix}") == url
    assert message.startswith("must be ")


# --- S3Bucket


def test_s3bucket_in_virtual_host_style() -> None:
    for url in ("https://films.ceph.example/", "https://films.minio:9000/", "https://films/", "https://FILMS.x/2024/"):
        settings = from_environ({**BASE, "S3BucketURL": url, "S3Bucket": "films"})
        assert (settings.bucket_url.bucket, settings.bucket_url.path_style) == ("films", False)
    settings = from_environ({**BASE, "S3BucketURL": "https://media.example.com/", "S3Bucket": "media.example.com"})
    assert (settings.bucket_url.bucket, settings.bucket_url.path_style) == ("media.example.com", False)


@pytest.mark.parametrize(
    "url", ["https://s3.amazonaws.com/other/", "https://other.s3.amazonaws.com/", "https://media.example.com/"]
)
def test_s3bucket_that_contradicts_the_url_is_rejected(url: str) -> None:
    assert "S3Bucket must be the bucket that S3BucketURL names" in error_message(S3BucketURL=url, S3Bucket="films")


def test_inherited_settings_can_be_unset() -> None:
    settings = from_environ({**BASE, "S3Region": "", "S3SecurityToken": "", "S3SecurityTokenFile": ""})
    assert settings == from_environ(BASE)


def test_a_secret_in_a_settings_name_is_not_in_the_message() -> None:
    for name in ("S3SecretKey wJalrXUtnFEMI/K7MDENG", "S3SecretKey=wJalrXUtnFEMI", "S3SecretKeywJalr/XUtn"):
        message = error_message(**{name: ""})
        assert "did you mean S3SecretKey" in message and "wJalr" not in message
    message = error_message(S3SecretKey=None, **{"S3SecretKeywJalrXUtnFEMIK7MDENG": ""})
    assert message == "S3SecretKey is not set (nor S3SecretKeyFile)"


def test_s3bucket_overrides_the_first_path_segment() -> None:
    url = "https://films.ceph.example/2024/"
    assert (from_environ({**BASE, "S3BucketURL": url}).bucket_url.bucket) == "2024"
    settings = from_environ({**BASE, "S3BucketURL": url, "S3Bucket": "films"})
    assert (settings.bucket_url.bucket, settings.bucket_url.path_style) == ("films", False)


def test_s3bucket_at_the_start_of_the_path() -> None:
    settings = from_environ({**PATH_STYLE, "S3Bucket": "bucket"})
    assert (settings.bucket_url.bucket, settings.bucket_url.path_style) == ("bucket", True)


@pytest.mark.parametrize(
    "url",
    [
        "https://s3.eu-west-1.amazonaws.com/",
        "http://minio:9000/",
        "http://127.0.0.1/",
        "https://minio.example.com/",
        "https://s3.wasabisys.com/",
        "https://account.r2.cloudflarestorage.com/",
        "https://ns.compat.objectstorage.eu-frankfurt-1.oraclecloud.com/",
        "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com/",
    ],
)
def test_a_url_without_a_bucket_is_rejected(url: str) -> None:
    # Otherwise the first segment of the client's path would select the bucket.
    assert "S3BucketURL shows no bucket" in error_message(S3BucketURL=url)


@pytest.mark.parametrize(
    "url",
    ["https://s3.eu-west-1.amazonaws.com/", "https://storage.googleapis.com", "http://10.0.0.5:9000", "http://minio"],
)
def test_s3bucket_does_not_allow_a_url_without_a_bucket(url: str) -> None:
    assert "S3Bucket must be the bucket" in error_message(S3BucketURL=url, S3Bucket="films")


# --- virtual-host style at unknown servers: the length of the bucket's name in the host is not known


@pytest.mark.parametrize(
    "url",
    [
        "http://films.s3.example:9000/",
        "http://films.s3.example:9000",
        "https://FILMS.S3.Example/",
        "https://my.films.s3.example/",
        "https://films.s3-eu.example/",
        "https://films.eu.s3.example/",
        "https://films.s3.eu.example/",
        "http://films.s3:9000/",
        "http://films.s3.localhost/",
        "https://films.s3.wasabisys.com/",
    ],
)
def test_signature_v4_does_not_need_s3bucket_in_virtual_host_style(url: str) -> None:
    settings = from_environ({**BASE, "S3BucketURL": url, "S3Region": "r"})
    assert (settings.bucket_url.bucket, settings.bucket_url.path_style, settings.bucket_url.prefix) == ("", False, "/")
    message = error_message(S3BucketURL=url)
    assert message.startswith("S3Bucket is not set: Signature v2 signs") and "S3Region" in message
    name = "my.films" if "//my." in url else "films"
    assert from_environ({**BASE, "S3BucketURL": url, "S3Bucket": name}).bucket_url.bucket == name


@pytest.mark.parametrize(
    "url",
    [
        "https://s3.eu-west-1.amazonaws.com/",
        "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com/",
        "https://storage.googleapis.com/",
        "https://s3.example/",
        "https://s3.s3.example/",
        "https://s3-eu.example/",
        "https://s3-eu.s3.example/",
        "https://s3.wasabisys.com/",
        "https://s3/",
        "http://localhost:9000/",
        "http://minio:9000/",
        "http://127.0.0.1:9000/",
        "http://[::1]:9000/",
        "http://ceph.example/",
        "https://minio.example.com/",
        "https://account.r2.cloudflarestorage.com/",
        "https://ns.compat.objectstorage.eu-frankfurt-1.oraclecloud.com/",
        "https://media.example.com/",
        "https://mys3.example/",
        "https://films.nos3.example/",
        "http://minio.s3.svc:9000/",
        "http://minio.s3.svc.cluster.local:9000/",
    ],
)
def test_a_url_without_a_bucket_is_rejected_with_signature_v4_too(url: str) -> None:
    assert "S3BucketURL shows no bucket" in error_message(S3BucketURL=url, S3Region="r")


def test_the_fallback_bucket_has_its_own_region() -> None:
    changes = {"S3FallbackURL": "http://films.s3.example/", "S3Region": "r"}
    settings = from_environ({**BASE, **changes})
    assert settings.fallback and settings.fallback.bucket_url.host == "films.s3.example"
    message = error_message(S3FallbackURL="http://films.s3.example/")
    assert message.startswith("the fallback bucket (settings S3Fallback...): S3Bucket is not set")


@pytest.mark.parametrize(
    ("url", "bucket"),
    [("https://s3.eu-central-1.amazonaws.com/", "s3"), ("https://storage.googleapis.com/", "storage")],
)
def test_s3bucket_is_not_the_first_label_of_a_service(url: str, bucket: str) -> None:
    assert "S3Bucket must be the bucket" in error_message(S3BucketURL=url, S3Bucket=bucket)


def test_s3bucket_in_host_and_path_is_path_style() -> None:
    settings = from_environ({**BASE, "S3BucketURL": "https://storage.example/storage/", "S3Bucket": "storage"})
    assert (settings.bucket_url.bucket, settings.bucket_url.path_style) == ("storage", True)


def test_s3bucket_may_be_the_whole_host() -> None:
    settings = from_environ({**BASE, "S3BucketURL": "http://films/", "S3Bucket": "films"})
    assert (settings.bucket_url.bucket, settings.bucket_url.path_style) == ("films", False)


# --- Amazon's endpoint of another region


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://films.s3.us-east-1.amazonaws.com/", "films.s3.eu-west-3.amazonaws.com"),
        ("https://films.s3.amazonaws.com/", "films.s3.eu-west-3.amazonaws.com"),
        ("https://films.s3-us-west-2.amazonaws.com/", "films.s3.eu-west-3.amazonaws.com"),
        ("https://my.films.s3.dualstack.us-gov-west-1.amazonaws.com/", "my.films.s3.dualstack.eu-west-3.amazonaws.com"),
        ("https://s3.amazonaws.com/films/", "s3.eu-west-3.amazonaws.com"),
        ("https://s3.cn-north-1.amazonaws.com.cn/films/", "s3.eu-west-3.amazonaws.com.cn"),
        # Not regional endpoints: the host in another region is unknown.
        ("https://films.s3-accelerate.amazonaws.com/", None),
        ("https://bucket.vpce-1a2b-5hijk.s3.us-east-1.vpce.amazonaws.com/films/", None),
        ("https://films.ceph.example/films/", None),
        ("http://127.0.0.1:9000/films/", None),
        ("https://s3.us-east-1.amazonaws.com.evil.example/films/", None),
    ],
)
def test_endpoint_in_another_region(url: str, host: str | None) -> None:
    url_before = bucket_url(url)
    expected = replace(url_before, host=host) if host else url_before
    assert url_before.in_region("eu-west-3") == expected


@pytest.mark.parametrize("region", ["evil.example/", "a.b", "EU", "", "x" * 10 + "\n"])
def test_invalid_regions_are_ignored(region: str) -> None:
    url = bucket_url("https://films.s3.us-east-1.amazonaws.com/")
    assert url.in_region(region) == url
