"""``<Proxy>``: unusual keys, in each way in which mod_proxy gets a URL."""

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


#: The mounts whose URL is made by a pattern.
PATTERNS = {"match", "rewrite", "rewrite-ne"}


def reaches_s3(mount: str, key: str) -> bool:
    """Whether httpd itself can proxy the key with this mount."""
    if key.startswith("/") and mount in PATTERNS:
        return False  # httpd merges slashes after a literal slash of a pattern
    return not is_rejected_by_mod_rewrite(mount, key)


def is_rejected_by_mod_rewrite(mount: str, key: str) -> bool:
    """mod_rewrite rejects an encoded "?" (UnsafeAllow3F)."""
    return mount.startswith("rewrite") and "?" in key


CASES = [(mount, key) for mount in MOUNTS for key in KEYS if reaches_s3(mount, key)]


@pytest.fixture(scope="module", params=["v4-header", "v2-query"])
def httpd(request: pytest.FixtureRequest, s3: EmbeddedS3) -> Iterator[Httpd]:
    for key in KEYS:
        s3.put(BUCKET, key, f"this is {key}".encode())
    # Objects that a wrong mapping would find.
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
def default_httpd(httpd: Httpd, s3: EmbeddedS3) -> Iterator[Httpd]:
    """An httpd with the default of MergeSlashes. The default of AllowEncodedSlashes would only reject keys."""
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
    """Whether httpd merges slashes before it applies the mount's pattern: the key's slashes are lost."""
    return mount in PATTERNS and ("//" in key or key.startswith("/"))


DEFAULT_CASES = [
    (mount, key)
    for mount in MOUNTS
    for key in KEYS
    if not is_rejected_by_mod_rewrite(mount, key) and not is_merged(mount, key)
]


@pytest.mark.parametrize(("mount", "key"), DEFAULT_CASES)
def test_merged_slashes_are_restored(default_httpd: Httpd, mount: str, key: str) -> None:
    """httpd merges slashes of the path; the key keeps them."""
    reply = default_httpd.fetch(f"/{mount}/{encoded(key)}")
    assert (reply.status, reply.body.decode()) == (200, f"this is {key}")


@pytest.mark.parametrize("mount", ["/folder", "//folder", "/deep//folder", "//deep/folder"])
@pytest.mark.parametrize("key", ["a.txt", "a//b.txt", "/lead.txt", "a b//c/", "folder//x.txt"])
def test_merged_slashes_are_restored_below_a_folder_of_the_bucket(
    default_httpd: Httpd, s3: EmbeddedS3, mount: str, key: str
) -> None:
    """Slashes before and in the mount do not belong to the key, also if the key begins like the end of the mount."""
    for other in ("a/b.txt", "lead.txt", "a b/c/", "folder/x.txt", "folder//x.txt", "a/a.txt"):
        s3.put(BUCKET, f"folder/{other}", b"another object")
        s3.put(BUCKET, f"/folder/{other}", b"another object")
    s3.put(BUCKET, f"folder/{key}", f"this is {key}".encode())
    assert default_httpd.fetch(f"{mount}/{encoded(key)}").body.decode() == f"this is {key}"


@pytest.mark.parametrize("mount", sorted(PATTERNS))
@pytest.mark.parametrize("key", [key for key in KEYS if is_merged("match", key)])
def test_slashes_that_are_merged_before_a_pattern_are_rejected(default_httpd: Httpd, mount: str, key: str) -> None:
    """The URL that the pattern makes may be another object's."""
    assert default_httpd.fetch(f"/{mount}/{encoded(key)}").status == 400


@pytest.mark.parametrize("mount", ["pass", "nocanon", "location", "balancer"])
@pytest.mark.parametrize("target", ["a%2F%2Fb.txt", "a/%2Fb.txt", "a%2F/b.txt", "a//b.txt"])
def test_encoded_slashes_that_httpd_merges_are_restored(default_httpd: Httpd, mount: str, target: str) -> None:
    assert default_httpd.fetch(f"/{mount}/{target}").body == b"this is a//b.txt"


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
