"""From the client's URL and headers to the request for S3: no URL may be mapped to another key, or leave the bucket."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.wsgi import environ
from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BadRequestTarget, MethodNotAllowed, ObjectNotFound
from usp_s3_wsgi.gateway import client_request
from usp_s3_wsgi.gateway.client_request import from_environ, object_key
from usp_s3_wsgi.s3.object_request import allowed_parameters
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import S3Request

SETTINGS = Settings(bucket_url("https://b.s3.amazonaws.com/pre/fix"))


def key_of(url: str, **options: Any) -> bytes:
    """Return the key of a request for a raw URL, as httpd and mod_wsgi pass it on."""
    return object_key(environ(url, **options))


def subrequest_environ(url: str, **variables: Any) -> dict[str, Any]:
    """Return mod_wsgi's environ of a subrequest: SCRIPT_NAME is the complete path, REQUEST_URI belongs to the page."""
    direct = environ(url)
    path = direct["SCRIPT_NAME"] + direct["PATH_INFO"]
    changes = {"SERVER_PROTOCOL": "INCLUDED", "SCRIPT_NAME": path, "REQUEST_URI": "/page.shtml"}
    return {**direct, **changes, **variables}


def s3_request(wsgi_environ: dict[str, Any]) -> S3Request:
    return from_environ(wsgi_environ).for_bucket(SETTINGS)


# --- the key

#: Path below the mount, and the key.
UNUSUAL_KEYS = {
    "/a": b"a",
    "/a/b/c.ts": b"a/b/c.ts",
    "//a": b"/a",
    "/a//b": b"a//b",
    "/a///b//": b"a///b//",
    "//": b"/",
    "/a/": b"a/",
    "/a%2Fb": b"a/b",
    "/a%2f%2Fb": b"a//b",
    "/a%252Fb": b"a%2Fb",
    "/a%2520b": b"a%20b",
    "/a+b": b"a+b",
    "/a%2Bb": b"a+b",
    "/a%20b": b"a b",
    "/%C3%A9": "é".encode(),
    "/\xe9": b"\xe9",
    "/%E9%ff": b"\xe9\xff",
    "/a%3Fb?c=d": b"a?b",
    "/a%23b": b"a#b",
    "/...": b"...",
    "/a..b/.c/d.": b"a..b/.c/d.",
    "/~a_b-c;d=e,f:g@h!$&'()*": b"~a_b-c;d=e,f:g@h!$&'()*",
    "/%0A%0D%09%01%7F": b"\n\r\t\x01\x7f",
    "/%5C..%5C": b"\\..\\",
    "/media/a": b"media/a",
    "/media/media/": b"media/media/",
}


@pytest.mark.parametrize(("path", "key"), UNUSUAL_KEYS.items(), ids=[ascii(path) for path in UNUSUAL_KEYS])
@pytest.mark.parametrize("mount", ["/media", "/a/deep/mount", ""])
def test_unusual_keys(path: str, key: bytes, mount: str) -> None:
    assert key_of(mount + path, mount=mount) == key


def test_encoding_and_double_slashes_in_the_mount() -> None:
    assert object_key({**environ("/media/a//b"), "REQUEST_URI": "//m%65dia//a//b"}) == b"/a//b"


@pytest.mark.parametrize("start", ["http://gateway.example", "HTTPS://gateway.example:8443", "http://[::1]:80"])
def test_request_target_in_absolute_form(start: str) -> None:
    assert object_key({**environ("/media/a//b"), "REQUEST_URI": f"{start}/media/a//b?x=http://y/z"}) == b"a//b"


def test_the_key_of_a_subrequest_is_path_info() -> None:
    assert object_key(subrequest_environ("/media/film%20one.mp4")) == b"film one.mp4"


def test_a_subrequest_of_a_page_whose_url_has_the_same_end() -> None:
    # REQUEST_URI belongs to the page.
    assert object_key(subrequest_environ("/media/b", REQUEST_URI="/pages//b")) == b"b"


def test_the_url_of_a_subrequests_page_may_be_invalid() -> None:
    assert object_key(subrequest_environ("/media/b", REQUEST_URI="/pages/%zz/../x")) == b"b"


@pytest.mark.parametrize("uri", ["/short/b", "/old//name", "/"])
def test_the_key_after_a_rewrite_is_path_info(uri: str) -> None:
    assert object_key({**environ("/media/film/a"), "REQUEST_URI": uri}) == b"film/a"


def test_the_key_after_an_internal_redirect_is_path_info() -> None:
    redirected = {**environ("/media/errors/404.html"), "REQUEST_URI": "/media/nothing"}
    assert object_key(redirected) == b"errors/404.html"


def test_usp_s3_path_keeps_the_slashes_of_a_subrequest_and_a_rewrite() -> None:
    assert object_key(subrequest_environ("/media/a//b"), "/media/a//b") == b"a//b"
    assert object_key({**environ("/media/a//b"), "REQUEST_URI": "/short"}, "/media/a//b") == b"a//b"


def test_usp_s3_path_with_merged_slashes() -> None:
    """With MergeSlashes, httpd's default, REQUEST_URI is preferred: it is the same URL with its slashes."""
    for uri, key in (("/media//a//b", b"/a//b"), ("/media/a%2F%2Fb", b"a//b"), ("//media/a/b", b"a/b")):
        assert object_key({**environ("/media/a/b"), "REQUEST_URI": uri}, "/media/a/b") == key


def test_usp_s3_path_of_another_url_is_ignored() -> None:
    assert object_key(subrequest_environ("/media/a//b"), "/media/other") == b"a/b"
    assert object_key(environ("/media/a//b"), "/media/other") == b"a//b"


def test_usp_s3_path_is_not_decoded_again() -> None:
    assert object_key(environ("/media/a%2520b"), "/media/a%20b") == b"a%20b"


SEGMENT = st.binary(max_size=6).map(lambda raw: raw.replace(b"\0", b"").replace(b"/", b"")).filter(
    lambda raw: raw not in {b".", b".."}
)  # fmt: skip
KEYS = st.lists(SEGMENT, min_size=1, max_size=6).map(b"/".join)


@st.composite
def encoded(draw: st.DrawFn) -> tuple[bytes, str]:
    """A key, and one of its many encodings in a URL."""
    key = draw(KEYS)
    reserved = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,;=:@/-]")
    parts = []
    for byte in key:
        must_encode = bool(reserved.fullmatch(bytes([byte]))) and not (byte >= 0x80 and draw(st.booleans()))
        # httpd decodes an encoded slash (AllowEncodedSlashes On) and merges it like any other.
        parts.append(
            draw(st.sampled_from(["%%%02X", "%%%02x"])) % byte if must_encode or draw(st.booleans()) else chr(byte)
        )
    return key, "/" + "".join(parts)


@given(encoded(), st.sampled_from(["/media", "", "/x/y"]))
@hypothesis_settings(deadline=None)
def test_any_key_in_any_encoding(pair: tuple[bytes, str], mount: str) -> None:
    key, path = pair
    assert key_of(mount + path, mount=mount) == key


@given(encoded())
@hypothesis_settings(deadline=None)
def test_the_path_for_s3_decodes_to_the_key(pair: tuple[bytes, str]) -> None:
    key, path = pair
    if not key:
        return
    request = s3_request(environ("/media" + path))
    assert re.fullmatch(r"/pre/fix/(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})*", request.path)
    decoded = re.sub(r"%(..)", lambda match: chr(int(match[1], 16)), request.path).encode("latin-1")
    assert decoded == b"/pre/fix/" + key


@given(st.text(alphabet="ab./%2F_~-? é", max_size=12), st.sampled_from(["", "/m"]), st.booleans())
@example("a/b.c", "/m", False)
@hypothesis_settings(deadline=None)
def test_the_fast_path_for_plain_paths_returns_the_same_key(path: str, mount: str, is_subrequest: bool) -> None:
    merged = re.sub("/+", "/", "/" + path.partition("?")[0].replace("%2F", "/"))
    request = environ(mount + "/" + path, mount=mount) | {"PATH_INFO": merged}
    request |= {"SERVER_PROTOCOL": "INCLUDED"} if is_subrequest else {}
    try:
        key = percent_encode(object_key(request))
    except BadRequestTarget:
        with pytest.raises(BadRequestTarget):
            from_environ(request)
    else:
        assert from_environ(request).key == key


def test_a_plain_path_takes_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_request, "object_key", lambda *arguments: pytest.fail("not the fast path"))
    assert from_environ(environ("/media/film-1/seg_2.m4s?x=%2F")).key == "film-1/seg_2.m4s"


# --- paths that cannot be a key


@pytest.mark.parametrize(
    "path",
    ["/..", "/.", "/a/../b", "/a/./b", "/../../other", "/%2e%2e/a", "/a/%2E", "/.%2e/a", "/a%2F..%2Fb", "/a//../b"],
)
@pytest.mark.parametrize("make_environ", [environ, subrequest_environ], ids=["main", "subrequest"])
def test_dot_segments(path: str, make_environ: Any) -> None:
    with pytest.raises(BadRequestTarget):
        object_key(make_environ("/media" + path))


@pytest.mark.parametrize("uri", ["/media/a/../b", "/media/x/%2e%2e/b", "/media/./b"])
def test_dot_segments_that_httpd_has_resolved(uri: str) -> None:
    with pytest.raises(BadRequestTarget):
        object_key({**environ("/media/b"), "REQUEST_URI": uri})


@pytest.mark.parametrize("path", ["/%00", "/a%00b", "/a/%00/b"])
def test_nul(path: str) -> None:
    with pytest.raises(BadRequestTarget):
        key_of("/media" + path)
    with pytest.raises(BadRequestTarget):
        object_key(subrequest_environ("/media" + path))


@pytest.mark.parametrize("path", ["/%", "/%4", "/%zz", "/a%-1", "/100%", "/%%41", "/%u0041"])
def test_invalid_percent_encoding(path: str) -> None:
    with pytest.raises(BadRequestTarget):
        object_key({**environ("/media/a"), "REQUEST_URI": f"/media{path}"})


@pytest.mark.parametrize("name", ["a%2Fb", "a%2fb", "a%2F..%2Fb"])
def test_an_encoded_slash_that_httpd_did_not_decode(name: str) -> None:
    # AllowEncodedSlashes NoDecode: httpd's access rules have checked one segment, S3 would see two.
    undecoded = {**environ("/media/x"), "REQUEST_URI": f"/media/{name}", "PATH_INFO": f"/{name}"}
    with pytest.raises(BadRequestTarget):
        object_key(undecoded)


@pytest.mark.parametrize("url", ["/media", "/media/", "/media?list-type=2", "/media/?prefix=a"])
def test_the_empty_key_is_not_found(url: str) -> None:
    with pytest.raises(ObjectNotFound):
        s3_request(environ(url))


# --- method, headers, query


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get"])
def test_methods_other_than_get_and_head(method: str) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        s3_request(environ(method=method))
    assert caught.value.headers == (("Allow", "GET, HEAD"),)


def test_the_request_for_s3() -> None:
    request = s3_request(environ("/media/a b?x=1".replace(" ", "%20"), method="HEAD"))
    assert request == S3Request("HEAD", "https", "b.s3.amazonaws.com", "/pre/fix/a%20b", (), ())
    assert request.target == "/pre/fix/a%20b"


def test_no_query_is_forwarded_by_default() -> None:
    assert s3_request(environ("/media/a?versionId=1&acl&X-Amz-Signature=x")).query == ()


@pytest.mark.parametrize(
    ("query", "forwarded"),
    [
        ("versionId=3", (("versionId", "3"),)),
        ("versionId=a%2Fb+c", (("versionId", "a%2Fb%20c"),)),
        ("versionId=a=b", (("versionId", "a%3Db"),)),
        ("versionId=%e9", (("versionId", "%E9"),)),
        ("versionId=\xe9", (("versionId", "%E9"),)),
        ("versionId", (("versionId", ""),)),
        ("other=1&versionId=1&partNumber=2&other=3", (("versionId", "1"), ("partNumber", "2"))),
        ("partNumber=2&versionId=1", (("partNumber", "2"), ("versionId", "1"))),
        ("version%49d=1&versionid=2&acl&VersionId=3", ()),
        ("versionId=1;acl", (("versionId", "1%3Bacl"),)),
        ("versionId=%26acl", (("versionId", "%26acl"),)),
        ("other=%zz", ()),
        ("", ()),
        ("&&", ()),
    ],
)
def test_s3passquery(query: str, forwarded: tuple[tuple[str, str], ...]) -> None:
    assert allowed_parameters(query, frozenset({"versionId", "partNumber"})) == forwarded


@pytest.mark.parametrize("query", ["versionId=%", "versionId=%zz", "versionId=a%4"])
def test_invalid_percent_encoding_in_a_query(query: str) -> None:
    with pytest.raises(BadRequestTarget):
        allowed_parameters(query, frozenset({"versionId"}))


def test_the_repr_shows_no_signature() -> None:
    signed = S3Request(
        "GET", "https", "b.example", "/a", (("X-Amz-Signature", "5ec4e7"),), (("Authorization", "AWS4 5ec4e7"),)
    )
    assert repr(signed) == "S3Request(GET https://b.example/a)"
    assert signed.target == "/a?X-Amz-Signature=5ec4e7"


def test_headers_are_found_in_any_case() -> None:
    request = S3Request("GET", "https", "b.example", "/a", (), (("If-Range", "x"), ("if-range", "y")))
    assert (request.header("IF-RANGE"), request.header("Range")) == ("x", None)
