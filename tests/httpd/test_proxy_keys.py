"""``<Proxy>``: awkward keys in each way that a URL comes to mod_proxy: each must be the very object."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.httpd.conftest import BUCKET, PAGES, proxy_section
from tests.httpd.server import Httpd
from tests.httpd.test_keys import ANY_KEY, KEYS, encoded
from tests.s3 import EmbeddedS3

MOUNTS = ["pass", "nocanon", "encoded", "match", "rewrite", "rewrite-ne", "location", "balancer"]
CONFIG = """
ProxyPass      /pass              {url}
ProxyPass      /nocanon           {url} nocanon
ProxyPass      /folder            {url}/folder
ProxyPass      /deep/folder       {url}/folder
ProxyPass      /encoded           {url} mapping=encoded
ProxyPassMatch ^/match/(.*)$      {url}/$1
RewriteEngine On
RewriteRule    ^/rewrite/(.*)$    {url}/$1 [P]
RewriteRule    ^/rewrite-ne/(.*)$ {url}/$1 [P,NE,B,BNP]
<Location /location>
  ProxyPass {url}
</Location>
<Proxy "balancer://one">
  BalancerMember {url}
</Proxy>
ProxyPass      /balancer          balancer://one
"""


#: Where a pattern makes the URL.
PATTERNS = {"match", "rewrite", "rewrite-ne"}


def reaches_s3(mount: str, key: str) -> bool:
    """Whether stock httpd itself can carry the key there."""
    if key.startswith("/") and mount in PATTERNS:
        return False  # httpd folds slashes after a literal one of a pattern
    return not is_lost(mount, key)


def is_lost(mount: str, key: str) -> bool:
    """mod_rewrite refuses a "?" that comes out of an encoded one (UnsafeAllow3F)."""
    return mount.startswith("rewrite") and "?" in key


CASES = [(mount, key) for mount in MOUNTS for key in KEYS if reaches_s3(mount, key)]


@pytest.fixture(scope="module", params=["v4-header", "v2-query"])
def httpd(request: pytest.FixtureRequest, s3: EmbeddedS3) -> Iterator[Httpd]:
    for key in KEYS:
        s3.put(BUCKET, key, f"this is {key}".encode())
    # What a wrong mapping would find instead of an error.
    for key in ("a/b.txt", "a b", "lead.txt", "two.txt", "a/b", "what"):
        s3.put(BUCKET, key, b"another object")
    url = f"{s3.url}/{BUCKET}"
    moved = [
        f'<Location /moved/{KEYS.index(key)}>\nErrorDocument 404 "/pass/{encoded(key)}"\n</Location>' for key in KEYS
    ]
    bucket = proxy_section(f"{url}/", s3, mode=request.param)
    with Httpd("\n".join([ANY_KEY, CONFIG.format(url=url), PAGES, bucket, *moved])) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


@pytest.fixture(scope="module")
def as_it_comes(httpd: Httpd, s3: EmbeddedS3) -> Iterator[Httpd]:
    """An httpd with its own default of MergeSlashes; its AllowEncodedSlashes would only refuse keys."""
    url = f"{s3.url}/{BUCKET}"
    config = "AllowEncodedSlashes On\n" + CONFIG.format(url=url)
    with Httpd(config + proxy_section(f"{url}/", s3)) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


@pytest.mark.parametrize(("mount", "key"), CASES)
def test_main_request(httpd: Httpd, mount: str, key: str) -> None:
    reply = httpd.fetch(f"/{mount}/{encoded(key)}")
    assert (reply.status, reply.body.decode()) == (200, f"this is {key}")


def is_merged(mount: str, key: str) -> bool:
    """Where a pattern makes the URL, nobody but httpd knows which slashes of the client's are the key's."""
    return mount in PATTERNS and ("//" in key or key.startswith("/"))


AS_IT_COMES = [
    (mount, key) for mount in MOUNTS for key in KEYS if not is_lost(mount, key) and not is_merged(mount, key)
]


@pytest.mark.parametrize(("mount", "key"), AS_IT_COMES)
def test_main_request_to_an_httpd_as_it_comes(as_it_comes: Httpd, mount: str, key: str) -> None:
    """The slashes that it merges are those of the key all the same."""
    reply = as_it_comes.fetch(f"/{mount}/{encoded(key)}")
    assert (reply.status, reply.body.decode()) == (200, f"this is {key}")


@pytest.mark.parametrize("mount", ["/folder", "//folder", "/deep//folder", "//deep/folder"])
@pytest.mark.parametrize("key", ["a.txt", "a//b.txt", "/lead.txt", "a b//c/", "folder//x.txt"])
def test_a_folder_of_the_bucket_in_an_httpd_as_it_comes(
    as_it_comes: Httpd, s3: EmbeddedS3, mount: str, key: str
) -> None:
    """Slashes before the mount and in it are none of the key's, though the key begins as the mount ends."""
    for other in ("a/b.txt", "lead.txt", "a b/c/", "folder/x.txt", "folder//x.txt", "a/a.txt"):
        s3.put(BUCKET, f"folder/{other}", b"another object")
        s3.put(BUCKET, f"/folder/{other}", b"another object")
    s3.put(BUCKET, f"folder/{key}", f"this is {key}".encode())
    assert as_it_comes.fetch(f"{mount}/{encoded(key)}").body.decode() == f"this is {key}"


@pytest.mark.parametrize("mount", sorted(PATTERNS))
@pytest.mark.parametrize("key", [key for key in KEYS if is_merged("match", key)])
def test_slashes_that_are_lost_in_a_pattern_are_refused(as_it_comes: Httpd, mount: str, key: str) -> None:
    """What the pattern makes of them may be another object."""
    assert as_it_comes.fetch(f"/{mount}/{encoded(key)}").status == 400


@pytest.mark.parametrize("mount", ["pass", "nocanon", "location", "balancer"])
@pytest.mark.parametrize("written", ["a%2F%2Fb.txt", "a/%2Fb.txt", "a%2F/b.txt", "a//b.txt"])
def test_encoded_slashes_that_httpd_merges_too(as_it_comes: Httpd, mount: str, written: str) -> None:
    assert as_it_comes.fetch(f"/{mount}/{written}").body == b"this is a//b.txt"


@pytest.mark.parametrize("mount", ["pass", "nocanon", "rewrite"])
@pytest.mark.parametrize("key", ["a+b.txt", "=&:;,@$.txt", "(parens).txt", "~tilde.txt", "*!.txt"])
def test_characters_that_need_no_encoding(httpd: Httpd, mount: str, key: str) -> None:
    assert httpd.fetch(f"/{mount}/{key}").body.decode() == f"this is {key}"


@pytest.mark.parametrize(("mount", "key"), [case for case in CASES if case[0] in {"pass", "nocanon", "balancer"}])
def test_subrequest(httpd: Httpd, mount: str, key: str) -> None:
    (httpd.root / "htdocs" / "page").write_text(f'[<!--#include virtual="/{mount}/{encoded(key)}" -->]')
    assert httpd.fetch("/page").body.decode() == f"[this is {key}]"


@pytest.mark.parametrize("key", [key for key in KEYS if not key.startswith("/")])
def test_internal_redirect(httpd: Httpd, key: str) -> None:
    """A local ErrorDocument is an internal redirect."""
    reply = httpd.fetch(f"/moved/{KEYS.index(key)}")
    assert (reply.status, reply.body.decode()) == (404, f"this is {key}")
