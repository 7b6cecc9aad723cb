"""Unusual keys, with each way by which httpd serves a URL: the response must be exactly the requested object."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.httpd.conftest import BUCKET, PAGES, section
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

KEYS = [
    "plain.txt", "a b.txt", "a+b.txt", "100%.txt", "a%2Fb.txt", "a%252Fb.txt", "a//b.txt", "a///b//c.txt", "/lead.txt",
    "//two.txt", "a/b/", "café ☕ 日本.txt", "~tilde.txt", "'single' \"double\".txt", "(parens).txt", "=&:;,@$.txt",
    "what?.txt", "#hash.txt", "back\\slash.txt", "[brackets]{}.txt", "...", "a/..b/c..", "<>|^`.txt", "%zz.txt",
    "*!.txt", "x" * 900,
]  # fmt: skip
#: As in any_key.conf.
ANY_KEY = "MergeSlashes Off\nAllowEncodedSlashes On\n"
CONFIG = """
RewriteEngine On
RewriteRule ^/old/(.*)$ /media/$1 [PT]
# The path that is served, decoded, as the gateway's conf says for keys with "//".
<Location /exact>
  RewriteEngine On
  RewriteRule ^ - [E=USP_S3_PATH:%{REQUEST_URI}]
</Location>
"""


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    for key in KEYS:
        s3.put(BUCKET, key, f"this is {key}".encode())
    # Objects that a wrong mapping would serve instead of an error.
    for key in ("a/b.txt", "a b", "lead.txt", "two.txt", "a/b", "what"):
        s3.put(BUCKET, key, b"another object")
    error_documents = [
        f'<Location /moved/{KEYS.index(key)}>\nErrorDocument 404 "/exact/{encoded(key)}"\n</Location>' for key in KEYS
    ]
    with Httpd(
        "\n".join([ANY_KEY, section("/media", s3), section("/exact", s3), CONFIG, PAGES, *error_documents])
    ) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


@pytest.fixture(scope="module")
def default_httpd(httpd: Httpd, s3: EmbeddedS3) -> Iterator[Httpd]:
    """An httpd with the default of MergeSlashes. (The default of AllowEncodedSlashes would only reject keys.)"""
    with Httpd("AllowEncodedSlashes On\n" + section("/media", s3) + section("/exact", s3) + CONFIG) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


def encoded(key: str) -> str:
    """A key as browsers and players encode it; some leave more characters unencoded."""
    return quote(key, safe="/~")


@pytest.mark.parametrize("key", KEYS)
def test_main_request(httpd: Httpd, key: str) -> None:
    reply = httpd.fetch("/media/" + encoded(key))
    assert (reply.status, reply.body.decode()) == (200, f"this is {key}")


@pytest.mark.parametrize("mount", ["/media", "/exact", "//exact"])
@pytest.mark.parametrize("key", KEYS)
def test_main_request_with_httpds_default_mergeslashes(default_httpd: Httpd, mount: str, key: str) -> None:
    reply = default_httpd.fetch(f"{mount}/{encoded(key)}")
    assert (reply.status, reply.body.decode()) == (200, f"this is {key}")


@pytest.mark.parametrize("mount", ["/media", "/exact"])
@pytest.mark.parametrize("encoded_key", ["a%2F%2Fb.txt", "a/%2Fb.txt", "a%2F/b.txt", "a//b.txt"])
def test_encoded_slashes_that_httpd_merges_too(default_httpd: Httpd, mount: str, encoded_key: str) -> None:
    assert default_httpd.fetch(f"{mount}/{encoded_key}").body == b"this is a//b.txt"


@pytest.mark.parametrize("key", ["a+b.txt", "=&:;,@$.txt", "(parens).txt", "~tilde.txt", "*!.txt"])
def test_characters_that_need_no_encoding(httpd: Httpd, key: str) -> None:
    assert httpd.fetch("/media/" + key).body.decode() == f"this is {key}"


@pytest.mark.parametrize("key", ["a//b.txt", "/lead.txt", "a b.txt"])
def test_every_byte_encoded(httpd: Httpd, key: str) -> None:
    target = "/media/" + "".join(f"%{byte:02x}" for byte in key.encode())
    assert httpd.fetch(target).body.decode() == f"this is {key}"


@pytest.mark.parametrize("key", KEYS)
def test_subrequest(httpd: Httpd, key: str) -> None:
    page = httpd.root / "htdocs" / "page"
    page.write_text(f'[<!--#include virtual="/exact/{encoded(key)}" -->]')
    assert httpd.fetch("/page").body.decode() == f"[this is {key}]"


@pytest.mark.parametrize("key", [key for key in KEYS if "//" not in key and not key.startswith("/")])
def test_subrequest_without_usp_s3_path(httpd: Httpd, key: str) -> None:
    page = httpd.root / "htdocs" / "page"
    page.write_text(f'[<!--#include virtual="/media/{encoded(key)}" -->]')
    assert httpd.fetch("/page").body.decode() == f"[this is {key}]"


# mod_rewrite rejects an encoded "?" (UnsafeAllow3F).
@pytest.mark.parametrize("key", [key for key in KEYS if "?" not in key])
def test_rewrite(httpd: Httpd, key: str) -> None:
    assert httpd.fetch("/old/" + encoded(key)).body.decode() == f"this is {key}"


@pytest.mark.parametrize("key", KEYS)
def test_internal_redirect(httpd: Httpd, key: str) -> None:
    """A local ErrorDocument is an internal redirect: REQUEST_URI stays that of the first URL."""
    reply = httpd.fetch(f"/moved/{KEYS.index(key)}")
    assert (reply.status, reply.body.decode()) == (404, f"this is {key}")


def test_an_error_document_in_the_bucket_ignores_the_clients_range_and_conditions(httpd: Httpd) -> None:
    """It is sent complete, with 404, and never as 206, 304 or 412."""
    etag = httpd.fetch("/media/plain.txt").headers["ETag"]
    for headers in ({"range": "bytes=0-3"}, {"if_none_match": etag}, {"if_match": '"x"'}):
        reply = httpd.fetch("/moved/0", **headers)
        assert (reply.status, reply.body) == (404, b"this is plain.txt")
        assert httpd.fetch("/moved/0", method="HEAD", **headers).status == 404
