"""From the client's request to the object: no URL may mean another key than its bytes say, or leave the bucket."""

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
from usp_s3_wsgi.gateway.client_request import _plain_key, from_environ, object_key
from usp_s3_wsgi.s3.object_request import allowed_parameters
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import S3Request

SETTINGS = Settings(bucket_url("https://b.s3.amazonaws.com/pre/fix"))


def key_of(url: str, **more: Any) -> bytes:
    """The key of a request for that raw URL, as httpd and mod_wsgi present it."""
    return object_key(environ(url, **more))


def included(url: str, **more: Any) -> dict[str, Any]:
    """The environ of a subrequest, as mod_wsgi gives it: SCRIPT_NAME is the whole URL, REQUEST_URI the page's."""
    subrequest = environ(url)
    whole = subrequest["SCRIPT_NAME"] + subrequest["PATH_INFO"]
    about = {"SERVER_PROTOCOL": "INCLUDED", "SCRIPT_NAME": whole, "REQUEST_URI": "/page.shtml"}
    return {**subrequest, **about, **more}


def for_s3(given: dict[str, Any]) -> S3Request:
    return from_environ(given).for_bucket(SETTINGS)


# --- the key

AWKWARD = {
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


@pytest.mark.parametrize(("path", "key"), AWKWARD.items(), ids=[ascii(path) for path in AWKWARD])
@pytest.mark.parametrize("mount", ["/media", "/a/deep/mount", ""])
def test_awkward_keys(path: str, key: bytes, mount: str) -> None:
    assert key_of(mount + path, mount=mount) == key


def test_the_mount_itself_may_be_encoded_and_doubled() -> None:
    assert object_key({**environ("/media/a//b"), "REQUEST_URI": "//m%65dia//a//b"}) == b"/a//b"


@pytest.mark.parametrize("start", ["http://gateway.example", "HTTPS://gateway.example:8443", "http://[::1]:80"])
def test_absolute_form(start: str) -> None:
    assert object_key({**environ("/media/a//b"), "REQUEST_URI": f"{start}/media/a//b?x=http://y/z"}) == b"a//b"


def test_a_subrequest_is_told_by_path_info() -> None:
    assert object_key(included("/media/film%20one.mp4")) == b"film one.mp4"


def test_a_subrequest_of_a_page_with_the_same_end() -> None:
    # REQUEST_URI is the page's, and by chance it ends in the same way.
    assert object_key(included("/media/b", REQUEST_URI="/pages//b")) == b"b"


def test_a_subrequests_broken_page_url_does_not_matter() -> None:
    assert object_key(included("/media/b", REQUEST_URI="/pages/%zz/../x")) == b"b"


@pytest.mark.parametrize("uri", ["/short/b", "/old//name", "/"])
def test_after_a_rewrite_path_info_is_the_truth(uri: str) -> None:
    assert object_key({**environ("/media/film/a"), "REQUEST_URI": uri}) == b"film/a"


def test_an_internal_redirect() -> None:
    redirected = {**environ("/media/errors/404.html"), "REQUEST_URI": "/media/nothing"}
    assert object_key(redirected) == b"errors/404.html"


def test_usp_s3_path_keeps_the_slashes_of_a_subrequest_and_a_rewrite() -> None:
    assert object_key(included("/media/a//b"), "/media/a//b") == b"a//b"
    assert object_key({**environ("/media/a//b"), "REQUEST_URI": "/short"}, "/media/a//b") == b"a//b"


def test_usp_s3_path_whose_slashes_httpd_has_merged() -> None:
    """MergeSlashes, httpd's default: REQUEST_URI is of the same URL, and has them."""
    for uri, key in (("/media//a//b", b"/a//b"), ("/media/a%2F%2Fb", b"a//b"), ("//media/a/b", b"a/b")):
        assert object_key({**environ("/media/a/b"), "REQUEST_URI": uri}, "/media/a/b") == key


def test_usp_s3_path_of_another_url_does_not_count() -> None:
    assert object_key(included("/media/a//b"), "/media/other") == b"a/b"
    assert object_key(environ("/media/a//b"), "/media/other") == b"a//b"


def test_usp_s3_path_is_decoded_already() -> None:
    assert object_key(environ("/media/a%2520b"), "/media/a%20b") == b"a%20b"


SEGMENT = st.binary(max_size=6).map(lambda raw: raw.replace(b"\0", b"").replace(b"/", b"")).filter(
    lambda raw: raw not in {b".", b".."}
)  # fmt: skip
KEYS = st.lists(SEGMENT, min_size=1, max_size=6).map(b"/".join)


@st.composite
def encoded(draw: st.DrawFn) -> tuple[bytes, str]:
    """A key, and one of the many ways to write it in a URL."""
    key = draw(KEYS)
    reserved = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,;=:@/-]")
    parts = []
    for byte in key:
        must = bool(reserved.fullmatch(bytes([byte]))) and not (byte >= 0x80 and draw(st.booleans()))
        # An encoded slash is httpd's to decode (AllowEncodedSlashes On); it folds it like any other.
        parts.append(draw(st.sampled_from(["%%%02X", "%%%02x"])) % byte if must or draw(st.booleans()) else chr(byte))
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
    request = for_s3(environ("/media" + path))
    assert re.fullmatch(r"/pre/fix/(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})*", request.path)
    decoded = re.sub(r"%(..)", lambda match: chr(int(match[1], 16)), request.path).encode("latin-1")
    assert decoded == b"/pre/fix/" + key


@given(st.text(alphabet="ab./%2F_~-? é", max_size=12), st.sampled_from(["", "/m"]), st.booleans())
@example("a/b.c", "/m", False)
@hypothesis_settings(deadline=None)
def test_what_takes_a_glance_is_what_takes_a_look(path: str, mount: str, inner: bool) -> None:
    """The shortcut for a plain path, whatever httpd has made of it."""
    folded = re.sub("/+", "/", "/" + path.partition("?")[0].replace("%2F", "/"))
    asked = environ(mount + "/" + path, mount=mount) | {"PATH_INFO": folded}
    asked |= {"SERVER_PROTOCOL": "INCLUDED"} if inner else {}
    if glance := _plain_key(asked, None, inner):
        assert glance == percent_encode(object_key(asked))


def test_most_paths_take_a_glance() -> None:
    assert _plain_key(environ("/media/film-1/seg_2.m4s?x=%2F"), None, False) == "film-1/seg_2.m4s"


# --- what cannot be a key


@pytest.mark.parametrize(
    "path",
    ["/..", "/.", "/a/../b", "/a/./b", "/../../other", "/%2e%2e/a", "/a/%2E", "/.%2e/a", "/a%2F..%2Fb", "/a//../b"],
)
@pytest.mark.parametrize("by", [environ, included], ids=["main", "subrequest"])
def test_dot_segments(path: str, by: Any) -> None:
    with pytest.raises(BadRequestTarget):
        object_key(by("/media" + path))


@pytest.mark.parametrize("uri", ["/media/a/../b", "/media/x/%2e%2e/b", "/media/./b"])
def test_dot_segments_that_httpd_has_resolved(uri: str) -> None:
    with pytest.raises(BadRequestTarget):
        object_key({**environ("/media/b"), "REQUEST_URI": uri})


@pytest.mark.parametrize("path", ["/%00", "/a%00b", "/a/%00/b"])
def test_nul(path: str) -> None:
    with pytest.raises(BadRequestTarget):
        key_of("/media" + path)
    with pytest.raises(BadRequestTarget):
        object_key(included("/media" + path))


@pytest.mark.parametrize("path", ["/%", "/%4", "/%zz", "/a%-1", "/100%", "/%%41", "/%u0041"])
def test_broken_encoding(path: str) -> None:
    with pytest.raises(BadRequestTarget):
        object_key({**environ("/media/a"), "REQUEST_URI": f"/media{path}"})


@pytest.mark.parametrize("name", ["a%2Fb", "a%2fb", "a%2F..%2Fb"])
def test_an_encoded_slash_that_httpd_did_not_decode(name: str) -> None:
    # AllowEncodedSlashes NoDecode: access rules have seen one segment, S3 would see two.
    undecoded = {**environ("/media/x"), "REQUEST_URI": f"/media/{name}", "PATH_INFO": f"/{name}"}
    with pytest.raises(BadRequestTarget):
        object_key(undecoded)


@pytest.mark.parametrize("url", ["/media", "/media/", "/media?list-type=2", "/media/?prefix=a"])
def test_the_bucket_itself_is_not_found(url: str) -> None:
    with pytest.raises(ObjectNotFound):
        for_s3(environ(url))


# --- method, headers, query


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get"])
def test_other_methods(method: str) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        for_s3(environ(method=method))
    assert caught.value.headers == (("Allow", "GET, HEAD"),)


def test_the_request_for_s3() -> None:
    request = for_s3(environ("/media/a b?x=1".replace(" ", "%20"), method="HEAD"))
    assert request == S3Request("HEAD", "https", "b.s3.amazonaws.com", "/pre/fix/a%20b", (), ())
    assert request.target == "/pre/fix/a%20b"


def test_no_query_passes_by_default() -> None:
    assert for_s3(environ("/media/a?versionId=1&acl&X-Amz-Signature=x")).query == ()


@pytest.mark.parametrize(
    ("query", "passed"),
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
def test_s3passquery(query: str, passed: tuple[tuple[str, str], ...]) -> None:
    assert allowed_parameters(query, frozenset({"versionId", "partNumber"})) == passed


@pytest.mark.parametrize("query", ["versionId=%", "versionId=%zz", "versionId=a%4"])
def test_a_broken_query(query: str) -> None:
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
