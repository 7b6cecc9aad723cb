"""docs/subrequests.md: pages and a stand-in for Unified Origin read from the buckets of its blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks_of
from tests.docs.completion import completed
from tests.docs.names import Names
from tests.docs.pages import ROOT
from tests.httpd.conftest import NEEDS_SSL, ONE_CHILD
from tests.httpd.conftest import checked as checked
from tests.httpd.machine import compile_module
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

BLOCKS = [block for block in blocks_of(ROOT / "docs" / "subrequests.md") if block.language == "apache"]
BANNER = b"<b>private</b>"

pytestmark = NEEDS_SSL


def block(words: str) -> Block:
    """The only block with these words."""
    (found,) = (one for one in BLOCKS if words in one.text)
    return found


PAGES, ONLY_SUBREQUESTS = block("IncludesNoExec"), block("IS_SUBREQ")
ORIGIN, ORIGIN_AND_GATEWAY = block("IsmProxyPass https:"), block("IsmProxyPass http:")


@pytest.fixture
def start(names: Names, checked: list[Httpd], servers: dict[str, EmbeddedS3]) -> Callable[[str], Httpd]:
    """A function that starts an httpd with a configuration of the documentation, and a page."""

    def started(text: str) -> Httpd:
        httpd = Httpd(names.localized(text) + ONE_CHILD + "\nDocumentRoot ${ROOT}/htdocs\n")
        checked.append(httpd)
        httpd.start()
        for bucket in names.buckets.values():
            names.s3(bucket.url).put(bucket.name, "banner.html", BANNER)
        return httpd

    return started


@pytest.mark.parametrize("way", ["gateway", "proxy"])
@pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
def test_pages(start: Callable[[str], Httpd], way: str, private: bool) -> None:
    rule = next(line for line in ONLY_SUBREQUESTS.text.splitlines() if "IS_SUBREQ" in line)
    section = f"<Location /media>\n{rule}\n</Location>\n" if private else ""
    folder = PAGES.text.replace("/var/www/site", "${ROOT}/htdocs")
    httpd = start(completed(replace(PAGES, text=folder + section, keys={"with": way})))
    include = '<!--#include virtual="/media/{}.html" -->'
    (httpd.root / "htdocs" / "page.shtml").write_text(f"[{include.format('banner')}{include.format('none')}]")
    httpd.expect_error("unable to include|AH01630")
    error = b"404 Not Found\n" if way == "gateway" else b"[an error occurred while processing this directive]"
    for headers in ({}, {"range": "bytes=0-3"}, {"if_none_match": "*"}):
        reply = httpd.fetch("/page.shtml", method="GET", timeout=30.0, **headers)
        assert (reply.status, reply.body) == (200, b"[" + BANNER + error + b"]")
    assert httpd.fetch("/media/banner.html").status == (403 if private else 200)


def test_the_block_of_a_bucket_for_subrequests(start: Callable[[str], Httpd]) -> None:
    folder = PAGES.text.replace("/var/www/site", "${ROOT}/htdocs")
    httpd = start(ONLY_SUBREQUESTS.text + folder + "ErrorDocument 404 /media/banner.html\n")
    (httpd.root / "htdocs" / "page.shtml").write_text('<!--#include virtual="/media/banner.html" -->')
    assert httpd.fetch("/page.shtml").body == BANNER
    reply = httpd.fetch("/none")
    assert (reply.status, reply.body) == (404, BANNER)
    httpd.expect_error("AH01630: client denied")
    assert httpd.fetch("/media/banner.html").status == 403


@pytest.mark.parametrize("origin", [ORIGIN, ORIGIN_AND_GATEWAY], ids=["proxy", "gateway"])
def test_an_origin(start: Callable[[str], Httpd], names: Names, tmp_path: Path, origin: Block) -> None:
    """``origin.c`` has the directives of Unified Origin and reads by subrequests, as it does."""
    module = compile_module(ROOT / "tests" / "httpd" / "origin.c", tmp_path)
    text = origin.text.replace("smooth_streaming_module", "origin_module")
    text = text.replace('<Location "/media">', '<Location "/media/">')  # the stand-in only appends the rest of the path
    httpd = start(f'LoadModule origin_module "{module}"\n{text}')
    s3 = names.servers["https"]
    assert isinstance(s3, EmbeddedS3)
    s3.clear()
    for _ in range(3):
        assert httpd.fetch("/media/banner.html").body == BANNER
    requests = s3.requests()
    assert [entry["status"] for entry in requests] == [200] * 3
    assert len({entry["port"] for entry in requests}) == 1  # one connection
