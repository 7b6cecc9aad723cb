"""The request that S3 gets: its target as it was signed, and only the client's headers that S3 needs."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote_from_bytes

import pytest

from tests.faults.server import Request, ScriptedS3, answer
from tests.wsgi import MODES, SECRET_KEY, TOKEN, call, environ, s3_settings

HELLO = answer(200, b"hello")
#: Raw paths as a client sends them after the mount, and the object key.
UNUSUAL_KEYS = {
    "/a//b": b"a//b",
    "//a": b"/a",
    "///": b"//",
    "//%5B/x": b"/[/x",
    "//user@host:99999/x": b"/user@host:99999/x",
    "/a/": b"a/",
    "/dots.../x": b"dots.../x",
    "/a./b": b"a./b",
    "/...": b"...",
    "/.hidden": b".hidden",
    "/a%252Eb": b"a%2Eb",
    "/a%252F..b": b"a%2F..b",
    "/%2e%2e%2e": b"...",
    "/a%2Fb": b"a/b",
    "/a%20b+c": b"a b+c",
    "/a%3Fb%23c": b"a?b#c",
    "/a%5Cb|c": b"a\\b|c",
    "/%C3%A9t%C3%A9": "été".encode(),
    "/%FF%FE": b"\xff\xfe",
    "/%0D%0AHost:%20evil": b"\r\nHost: evil",
    "/~tilde;p=1,2:3@!$&'()*": b"~tilde;p=1,2:3@!$&'()*",
    '/"<>[]^`{}': b'"<>[]^`{}',
    "/http://other.example/x": b"http://other.example/x",
}


@pytest.mark.parametrize(("path", "key"), UNUSUAL_KEYS.items(), ids=UNUSUAL_KEYS)
@pytest.mark.parametrize("style", ["path", "host"])
def test_the_target_is_the_key_encoded_once(path: str, key: bytes, style: str) -> None:
    with ScriptedS3(HELLO) as s3:
        changes = {} if style == "path" else {"S3BucketURL": f"http://localhost:{s3.port}", "S3Bucket": "localhost"}
        reply = call(environ("/media" + path, {**s3_settings(s3.url), **changes}))
    assert (reply.status, reply.log) == (200, "")
    prefix = "/bucket/" if style == "path" else "/"
    assert s3.requests[0].target == prefix + quote_from_bytes(key, safe="/~")


@pytest.mark.parametrize("path", ["/a//b", "/..%2E", "/%FF", "/a%252Eb", "/a+b c".replace(" ", "%20")])
def test_the_target_is_the_signed_one(path: str) -> None:
    with ScriptedS3(HELLO) as s3:
        call(environ("/media" + path, s3_settings(s3.url)))
    [request] = s3.requests
    assert request.headers["authorization"].endswith("Signature=" + _v4_signature(request))


def _v4_signature(request: Request) -> str:
    """Compute the signature as S3 does: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html."""
    names = ["host", "x-amz-content-sha256", "x-amz-date"]
    lines = "".join(f"{name}:{request.headers[name]}\n" for name in names)
    payload = hashlib.sha256(b"").hexdigest()
    canonical = f"{request.method}\n{request.target}\n\n{lines}\n{';'.join(names)}\n{payload}"
    time = request.headers["x-amz-date"]
    credential_scope = f"{time[:8]}/eu-central-1/s3/aws4_request"
    string_to_sign = f"AWS4-HMAC-SHA256\n{time}\n{credential_scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + SECRET_KEY.encode()
    for part in credential_scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, string_to_sign.encode(), "sha256").hexdigest()


@pytest.mark.parametrize("mode", ["v4-query", "v2-query"])
def test_query_signatures(mode: str) -> None:
    with ScriptedS3(HELLO) as s3:
        settings = s3_settings(s3.url, mode, S3SecurityToken=TOKEN, S3PassQuery="versionId")
        call(environ("/media/a?versionId=1%2F2+3&prefix=x&X-Amz-Expires=9", settings))
    path, _, query = s3.requests[0].target.partition("?")
    assert path == "/bucket/a"
    assert query.startswith("versionId=1%2F2%203&")
    assert quote_from_bytes(TOKEN.encode(), safe="") in query
    assert "prefix" not in query and "X-Amz-Expires=9&" not in query


@pytest.mark.parametrize("mode", MODES)
def test_headers_that_are_never_forwarded(mode: str) -> None:
    client_headers = {
        "Authorization": "Basic client",
        "Cookie": "session=client",
        "X-Amz-Security-Token": "client",
        "X-Amz-Acl": "client",
        "X-Forwarded-For": "client",
        "Forwarded": "for=client",
        "Connection": "client",
        "TE": "client",
        "Upgrade": "client",
        "Referer": "client",
        "Origin": "client",
        "Accept-Encoding": "client",
        "User-Agent": "client",
        "Expect": "client",
        "Host": "client",
        "Proxy-Authorization": "client",
    }
    with ScriptedS3(HELLO) as s3:
        call(environ("/media/a", s3_settings(s3.url, mode), headers=client_headers))
        assert s3.requests[0].headers["host"] == f"127.0.0.1:{s3.port}"
    assert "client" not in str(s3.requests[0])


DATES = {
    "If-Modified-Since": "Wed, 21 Oct 2015 07:28:00 GMT",
    "If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT",
}
ETAGS = {"If-Match": '"a"', "If-None-Match": '"b", W/"c"'}


def forwarded_headers(headers: dict[str, str]) -> dict[str, str]:
    """Which of these headers of a client S3 gets."""
    with ScriptedS3(HELLO) as s3:
        call(environ("/media/a", s3_settings(s3.url), headers=headers))
    return {name: s3.requests[0].headers[name.lower()] for name in headers if name.lower() in s3.requests[0].headers}


@pytest.mark.parametrize("conditions", [DATES, ETAGS], ids=["dates", "ETags"])
def test_headers_that_are_forwarded(conditions: dict[str, str]) -> None:
    headers = {"Range": "bytes=0-", "If-Range": '"d"', **conditions}
    assert forwarded_headers(headers) == headers


def test_a_date_is_not_forwarded_beside_an_etag() -> None:
    assert forwarded_headers({**DATES, **ETAGS}) == ETAGS
    for etag, date in (("If-None-Match", "If-Modified-Since"), ("If-Match", "If-Unmodified-Since")):
        assert forwarded_headers({**DATES, etag: ETAGS[etag]}).keys() == {*DATES, etag} - {date}
    assert forwarded_headers({**DATES, "If-Match": "", "If-None-Match": ""}) == DATES


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_method_is_forwarded(method: str) -> None:
    with ScriptedS3(HELLO if method == "GET" else answer(200, length=5)) as s3:
        call(environ("/media/a", s3_settings(s3.url), method=method))
    assert s3.requests[0].method == method
    assert "content-length" not in s3.requests[0].headers
