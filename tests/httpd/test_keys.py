"""Awkward keys, asked for in each way that httpd comes to serve a URL: each must be the very object."""

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
#: As any_key.conf has it.
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
    # What a wrong mapping would find instead of an error.
    for key in ("a/b.txt", "a b", "lead.txt", "two.txt", "a/b", "what"):
        s3.put(BUCKET, key, b"another object")
    moved = [
        f'<Location /moved/{KEYS.index(key)}>\nErrorDocument 404 "/exact/{encoded(key)}"\n</Location>' for key in KEYS
    ]
    with Httpd("\n".join([ANY_KEY, section("/media", s3), section("/exact", s3), CONFIG, PAGES, *moved])) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


@pytest.fixture(scope="module")
def as_it_comes(httpd: Httpd, s3: EmbeddedS3) -> Iterator[Httpd]:
    """An httpd with its own default of MergeSlashes; its AllowEncodedSlashes would only refuse keys."""
    with Httpd("AllowEncodedSlashes On\n" + section("/media", s3) + section("/exact", s3) + CONFIG) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


def encoded(key: str) -> str:
    """As browsers and players write it; some leave more characters as they are."""
    return quote(key, safe="/~")


@pytest.mark.parametrize("key", KEYS)
def test_main_request(httpd: Httpd, key: str) -> None:
    reply = httpd.fetch("/media/" + encoded(key))
    assert (reply.status, reply.body.decode()) == (200, f"this is {key}")


@pytest.mark.parametrize("mount", ["/media", "/exact", "//exact"])
@pytest.mark.parametrize("key", KEYS)
def test_main_request_to_an_httpd_as_it_comes(as_it_comes: Httpd, mount: str, key: str) -> None:
    reply = as_it_comes.fetch(f"{mount}/{encoded(key)}")
    assert (reply.status, reply.body.decode()) == (200, f"this is {key}")


@pytest.mark.parametrize("mount", ["/media", "/exact"])
@pytest.mark.parametrize("written", ["a%2F%2Fb.txt", "a/%2Fb.txt", "a%2F/b.txt", "a//b.txt"])
def test_encoded_slashes_that_httpd_merges_too(as_it_comes: Httpd, mount: str, written: str) -> None:
    assert as_it_comes.fetch(f"{mount}/{written}").body == b"this is a//b.txt"


@pytest.mark.parametrize("key", ["a+b.txt", "=&:;,@$.txt", "(parens).txt", "~tilde.txt", "*!.txt"])
def test_characters_that_need_no_encoding(httpd: Httpd, key: str) -> None:
    assert httpd.fetch("/media/" + key).body.decode() == f"this is {key}"


@pytest.mark.parametrize("key", ["a//b.txt", "/lead.txt", "a b.txt"])
def test_everything_encoded(httpd: Httpd, key: str) -> None:
    target = "/media/" + "".join(f"%{byte:02x}" for byte in key.encode())
    assert httpd.fetch(target).body.decode() == f"this is {key}"


@pytest.mark.parametrize("key", KEYS)
def test_subrequest(httpd: Httpd, key: str) -> None:
    page = httpd.root / "htdocs" / "page"
    page.write_text(f'[<!--#include virtual="/exact/{encoded(key)}" -->]')
    assert httpd.fetch("/page").body.decode() == f"[this is {key}]"


@pytest.mark.parametrize("key", [key for key in KEYS if "//" not in key and not key.startswith("/")])
def test_subrequest_without_the_served_path(httpd: Httpd, key: str) -> None:
    page = httpd.root / "htdocs" / "page"
    page.write_text(f'[<!--#include virtual="/media/{encoded(key)}" -->]')
    assert httpd.fetch("/page").body.decode() == f"[this is {key}]"


# mod_rewrite itself refuses a "?" that comes out of an encoded one (UnsafeAllow3F).
@pytest.mark.parametrize("key", [key for key in KEYS if "?" not in key])
def test_rewrite(httpd: Httpd, key: str) -> None:
    assert httpd.fetch("/old/" + encoded(key)).body.decode() == f"this is {key}"


@pytest.mark.parametrize("key", KEYS)
def test_internal_redirect(httpd: Httpd, key: str) -> None:
    """A local ErrorDocument is an internal redirect: REQUEST_URI stays that of the URL that was not found."""
    reply = httpd.fetch(f"/moved/{KEYS.index(key)}")
    assert (reply.status, reply.body.decode()) == (404, f"this is {key}")


def test_an_error_document_in_the_bucket_is_none_of_what_the_client_asked_for(httpd: Httpd) -> None:
    """Neither a part of it, nor found, nor "not modified"."""
    etag = httpd.fetch("/media/plain.txt").headers["ETag"]
    for asked in ({"range": "bytes=0-3"}, {"if_none_match": etag}, {"if_match": '"x"'}):
        reply = httpd.fetch("/moved/0", **asked)
        assert (reply.status, reply.body) == (404, b"this is plain.txt")
        assert httpd.fetch("/moved/0", method="HEAD", **asked).status == 404
