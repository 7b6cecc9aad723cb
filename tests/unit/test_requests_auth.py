"""S3Auth for the requests library, with the embedded S3."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
import requests
from requests.auth import AuthBase

from tests.s3 import EmbeddedS3
from usp_s3_wsgi.requests_auth import S3Auth

TIMEOUT = 30
DATA = b"hello " * 1_000


@pytest.fixture(scope="module")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=("private",)) as server:
        yield server


@pytest.fixture(params=["v4", "v2"])
def auth(request: pytest.FixtureRequest, s3: EmbeddedS3) -> AuthBase:
    return S3Auth(s3.access_key, s3.secret_key, s3.region if request.param == "v4" else None)


KEYS = [
    "plain.txt",
    "a%20b",
    "a%2Bb",
    "%C3%A9t%C3%A9",
    "a//b",
    "a%25b",
    "x/~tilde",
    "a%3Fb%23c",
    "a(b)!'*",
    "a+b@c,d;e",
]


@pytest.mark.parametrize("key", KEYS)
def test_put_and_get(s3: EmbeddedS3, auth: AuthBase, key: str) -> None:
    url = f"{s3.url}/private/{key}"
    headers = {"Content-Type": "text/plain", "x-amz-meta-who": "me   and   you"}
    response = requests.put(url, data=DATA, auth=auth, headers=headers, timeout=TIMEOUT)
    assert response.status_code == 200, response.text
    response = requests.get(url, auth=auth, timeout=TIMEOUT)
    assert (response.status_code, response.content) == (200, DATA)
    assert requests.head(url, auth=auth, timeout=TIMEOUT).headers["ETag"].strip('"') == hashlib.md5(DATA).hexdigest()


def test_a_wrong_secret_key_is_rejected(s3: EmbeddedS3) -> None:
    for region in (s3.region, None):
        response = requests.get(f"{s3.url}/private/x", auth=S3Auth(s3.access_key, "wrong", region), timeout=TIMEOUT)
        assert response.status_code == 403


@pytest.mark.parametrize(
    "query",
    ["", "?prefix=listed/", "?prefix=listed%2F&max-keys=2", "?prefix=listed/a+b", "?prefix=listed/a%20b", "?acl"],
)
def test_a_query_is_signed(s3: EmbeddedS3, auth: AuthBase, query: str) -> None:
    s3.put("private", "listed/a b", b"x")
    response = requests.get(f"{s3.url}/private{query}", auth=auth, timeout=TIMEOUT)
    assert response.status_code == 200, response.text
    assert "acl" in query or "listed/a b" in response.text


def test_parameters_are_signed(s3: EmbeddedS3, auth: AuthBase) -> None:
    s3.put("private", "listed/a b", b"x")
    params = {"prefix": "listed/a b", "list-type": "2"}
    response = requests.get(f"{s3.url}/private", params=params, auth=auth, timeout=TIMEOUT)
    assert response.status_code == 200, response.text
    assert "listed/a b" in response.text


def test_text_and_an_empty_body(s3: EmbeddedS3, auth: AuthBase) -> None:
    for data, stored in (("é", "é".encode()), (b"", b""), (None, b"")):
        url = f"{s3.url}/private/body"
        assert requests.put(url, data=data, auth=auth, timeout=TIMEOUT).status_code == 200
        assert requests.get(url, auth=auth, timeout=TIMEOUT).content == stored


def test_a_session_signs_each_request(s3: EmbeddedS3, auth: AuthBase) -> None:
    s3.put("private", "one", b"1")
    with requests.Session() as session:
        session.auth = auth
        for _ in range(2):
            assert session.get(f"{s3.url}/private/one", timeout=TIMEOUT).content == b"1"


def prepare(url: str, auth: AuthBase) -> requests.PreparedRequest:
    return requests.Request("GET", url, auth=auth).prepare()


def test_a_streamed_body_is_sent_unsigned() -> None:
    request = requests.Request("PUT", "https://b.s3.amazonaws.com/a", data=iter([b"x"]), auth=S3Auth("k", "s", "r"))
    assert request.prepare().headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


def test_temporary_credentials() -> None:
    for region in ("r", None):
        request = prepare("https://b.s3.amazonaws.com/a", S3Auth("k", "s", region, security_token="token"))
        assert request.headers["x-amz-security-token"] == "token"


def test_the_bucket_of_a_host_that_does_not_contain_its_name() -> None:
    url = "https://media.example.com/films/a"
    default = prepare(url, S3Auth("k", "s"))
    named = prepare(url, S3Auth("k", "s", bucket="films.example"))
    assert default.headers["Authorization"] != named.headers["Authorization"]


def test_the_signed_host_has_no_default_port() -> None:
    assert prepare("https://b.s3.amazonaws.com:443/a", S3Auth("k", "s", "r")).headers["Host"] == "b.s3.amazonaws.com"


@pytest.mark.parametrize("url", ["https://b.s3.amazonaws.com/%zz", "https://u:p@b.s3.amazonaws.com/"])
def test_invalid_urls(url: str) -> None:
    auth = S3Auth("k", "s", "r")
    request = requests.Request("GET", "https://b.s3.amazonaws.com/").prepare()
    request.url = url
    with pytest.raises(ValueError):
        auth(request)


def test_the_repr_shows_no_secret() -> None:
    assert "the-secret" not in repr(S3Auth("k", "the-secret", "r"))
