"""The values of settings: the bucket's URL in all the styles of S3's servers, and mod_proxy's own parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from usp_s3_wsgi.bucket_url import parse as bucket_url
from usp_s3_wsgi.proxy_set import ProxySet
from usp_s3_wsgi.proxy_set import parse as proxy_set

# --- the bucket's URL: URL, bucket, path style, host, port, prefix, Host header

PLACES = [
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


@pytest.mark.parametrize(("text", "bucket", "path_style", "authority"), PLACES)
def test_style_and_bucket(text: str, bucket: str, path_style: bool, authority: str) -> None:
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
def test_where_to_connect(text: str, host: str, port: int) -> None:
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


REFUSED = [
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


@pytest.mark.parametrize("text", REFUSED)
def test_refused_urls(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a URL|must be an http"):
        bucket_url(text)


@given(st.text(), st.sampled_from(["", "https://", "https://b.example/", "http://b.example:", "http://["]))
@hypothesis_settings(deadline=None)
def test_any_text_is_a_url_that_can_be_sent_or_is_refused(text: str, start: str) -> None:
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


# --- S3ProxySet


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ProxySet()),
        ("connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300", ProxySet()),
        ("connectiontimeout=2", ProxySet(connectiontimeout=2)),
        ("timeout=500ms", ProxySet(timeout=0.5)),
        ("timeout=1ms", ProxySet(timeout=0.001)),
        ("timeout=5s", ProxySet(timeout=5)),
        ("timeout=2mi", ProxySet(timeout=120)),
        ("ttl=1h", ProxySet(ttl=3600)),
        ("ttl=1000ms", ProxySet(ttl=1)),
        ("retry=0", ProxySet(retry=0)),
        ("retry=60", ProxySet(retry=60)),
        ("acquire=3000", ProxySet(acquire=3)),  # milliseconds, as in mod_proxy
        ("acquire=1", ProxySet(acquire=0.001)),
        ("acquire=3s", ProxySet(acquire=3)),
        ("max=1", ProxySet(max=1)),
        ("max=100000", ProxySet(max=100_000)),
        ("keepalive=Off", ProxySet(keepalive=False)),
        ("enablereuse=off", ProxySet(enablereuse=False)),
        ("disablereuse=on", ProxySet(enablereuse=False)),
        ("disablereuse=off", ProxySet(enablereuse=True)),
        ("  max=2 \t timeout=3  ", ProxySet(max=2, timeout=3)),
    ],
)
def test_parameters(text: str, expected: ProxySet) -> None:
    assert proxy_set(text) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("timeout", "name=value"),
        ("timeout 30", "name=value"),
        ("loadfactor=1", "name=value"),
        ("Timeout=30", "name=value"),
        ("timeout=", "timeout must be a time"),
        ("timeout=0", "timeout must be a time"),
        ("timeout=-1", "timeout must be a time"),
        ("timeout=1.5", "timeout must be a time"),
        ("timeout=5m", "timeout must be a time"),
        ("timeout=5us", "timeout must be a time"),
        ("connectiontimeout=0", "connectiontimeout must be a time"),
        ("ttl=0", "ttl must be a time"),
        ("ttl=999ms", "ttl must be a time"),
        ("acquire=0", "acquire must be a time"),
        ("retry=1e9", "retry must be a time"),
        ("max=0", "max must be a whole number"),
        ("max=100001", "max must be a whole number"),
        ("max=all", "max must be a whole number"),
        ("keepalive=yes", "keepalive must be on or off"),
        ("enablereuse=on disablereuse=off", "both enablereuse and disablereuse"),
    ],
)
def test_refused_parameters(text: str, named: str) -> None:
    with pytest.raises(ValueError) as caught:
        proxy_set(text)
    assert named in str(caught.value)


@given(st.sampled_from(["", "timeout=", "timeout=5 ", "max=1 acquire="]), st.text())
@hypothesis_settings(deadline=None)
def test_any_other_text_is_refused_without_repeating_it(before: str, text: str) -> None:
    with pytest.raises(ValueError) as refusal:
        proxy_set(f"{before}5ec4e7{text}")
    assert "5ec4e7" not in str(refusal.value)
