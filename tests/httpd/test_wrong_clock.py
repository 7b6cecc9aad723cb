"""A server whose clock is wrong, and a real S3: the gateway asks again, ``<Proxy>`` signs the next requests right."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.httpd.conftest import BUCKET, MODES, ONE_CHILD, PAGES, proxy_section, section
from tests.httpd.machine import compile_shared
from tests.httpd.server import Httpd
from tests.httpd.test_proxy_alike import COUNTER
from tests.s3 import EmbeddedS3

DATA = b"an object"
#: Swift takes a query signature of the future, and v2 knows no other.
REFUSED = [(mode, shift) for mode in MODES for shift in (-3600, 3600) if mode.endswith("header") or shift < 0]
Start = Callable[[str, int], Httpd]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shared(Path(__file__).with_name("shifted_clock.c"), tmp_path_factory.mktemp("clock"))


@pytest.fixture
def start(library: Path, checked: list[Httpd], monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start an httpd whose clock is so many seconds fast."""

    def start(config: str, shift: int) -> Httpd:
        monkeypatch.setenv("CLOCK_SHIFT", str(shift))
        httpd = Httpd(f"LogLevel warn usp_s3:info\n{config}{ONE_CHILD}", preload=library)
        checked.append(httpd)
        httpd.start()
        return httpd

    return start


def proxied(s3: EmbeddedS3, mode: str, *lines: str, mount: str = "/proxied") -> str:
    url = f"{s3.url}/{BUCKET}"
    return f"ProxyPass {mount} {url}\n" + proxy_section(f"{url}/", s3, *lines, mode=mode)


def told(mode: str, shift: int) -> str:
    """What the line says of Swift's refusal."""
    code = "AccessDenied" if mode.endswith("query") else "RequestTimeTooSkewed"
    side = "behind" if shift < 0 else "ahead of"
    return rf"S3 answered 403 {code}, .* this server's clock is (359\d|360\d) s {side} S3's: correct it \((GET|HEAD) .*"


@pytest.mark.parametrize(("mode", "shift"), REFUSED)
def test_the_gateway_asks_again(s3: EmbeddedS3, start: Start, mode: str, shift: int) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(section("/media", s3, "SetEnv S3DeniedStatus 404", mode=mode), shift)
    assert httpd.fetch("/media/a.ts", method="HEAD").status == 200
    assert [httpd.fetch("/media/a.ts").body for _ in range(3)] == [DATA] * 3
    httpd.wait_for_error(rf"\[usp_s3:info\] USPS30305: usp_s3_wsgi: /media: {told(mode, shift)}; retrying$")
    assert len(httpd.errors()) == 1


@pytest.mark.parametrize(("mode", "shift"), REFUSED)
def test_the_next_request_of_a_proxy_section_is_signed_right(
    s3: EmbeddedS3, start: Start, mode: str, shift: int
) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(proxied(s3, mode, "SetEnv S3DeniedStatus 404"), shift)
    assert httpd.fetch("/proxied/a.ts").status == 502  # no 404, which a cache would keep
    httpd.wait_for_error(rf"{told(mode, shift)}; the next requests are signed with S3's clock$")
    assert [httpd.fetch("/proxied/a.ts").body for _ in range(3)] == [DATA] * 3
    assert httpd.fetch("/proxied/a.ts", method="HEAD").status == 200
    assert httpd.fetch("/proxied/nothing-there").status == 404
    assert len(httpd.errors()) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_head_of_a_proxy_section_learns_it_too(s3: EmbeddedS3, start: Start, mode: str) -> None:
    """It brings no code of S3's."""
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(proxied(s3, mode), -3600)
    assert httpd.fetch("/proxied/a.ts", method="HEAD").status == 502
    httpd.wait_for_error(r"S3 answered 403 \(no code\), .* s behind S3's: correct it .* signed with S3's clock$")
    assert httpd.fetch("/proxied/a.ts", method="HEAD").status == 200
    assert httpd.fetch("/proxied/a.ts").body == DATA


@pytest.mark.parametrize("mode", ["v4-header", "v4-query"])
def test_requests_of_one_second_are_signed_alike_by_s3s_clock(s3: EmbeddedS3, start: Start, mode: str) -> None:
    """The second that they share is this server's."""
    s3.put(BUCKET, "a.ts", DATA)
    count = "WSGIScriptAlias /count ${ROOT}/htdocs/count.wsgi application-group=%{GLOBAL}\n"
    httpd = start(count + proxied(s3, mode), -3600)
    (httpd.root / "htdocs" / "count.wsgi").write_text(COUNTER)
    httpd.fetch("/count")
    httpd.expect_error("correct it")
    assert httpd.fetch("/proxied/a.ts").status == 502
    before = int(httpd.fetch("/count").body)
    assert [httpd.fetch("/proxied/a.ts").body for _ in range(100)] == [DATA] * 100
    assert 1 <= int(httpd.fetch("/count").body) - before < 50


def test_both_ways_in_share_what_is_learned(s3: EmbeddedS3, start: Start) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(section("/media", s3, mode="v4-query") + proxied(s3, "v2-query"), -3600)
    httpd.expect_error("correct it")
    assert [httpd.fetch(f"{mount}/a.ts").status for mount in ("/media", "/proxied")] == [200, 200]
    assert len(httpd.errors()) == 1


@pytest.mark.parametrize("mode", ["v4-query", "v2-header"])
def test_many_at_once(s3: EmbeddedS3, start: Start, mode: str) -> None:
    """Those that are on their way when it is learned fail; no later one does."""
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(proxied(s3, mode), -3600)
    httpd.expect_error("correct it")

    def work(number: int) -> list[int]:
        return [httpd.fetch("/proxied/a.ts").status for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        each = list(pool.map(work, range(8)))
    assert {statuses[0] for statuses in each} <= {200, 502}
    assert [set(statuses[1:]) for statuses in each] == [{200}] * 8


def test_subrequests_of_pages(s3: EmbeddedS3, start: Start) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(proxied(s3, "v4-query") + PAGES, -3600)
    (httpd.root / "htdocs" / "page").write_text('[<!--#include virtual="/proxied/a.ts" -->]')
    httpd.expect_error("unable to include")
    assert httpd.fetch("/page").body.startswith(b"[[an error occurred")
    httpd.wait_for_error("signed with S3's clock$")
    assert [httpd.fetch("/page").body for _ in range(2)] == [b"[" + DATA + b"]"] * 2


def test_in_daemon_mode(s3: EmbeddedS3, start: Start) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    mount = section("/media", s3, "WSGIProcessGroup s3", "WSGIApplicationGroup %{GLOBAL}", mode="v4-query")
    httpd = start(f"WSGIDaemonProcess s3 processes=1 threads=4\n{mount}", -3600)
    assert [httpd.fetch("/media/a.ts").body for _ in range(2)] == [DATA] * 2
    httpd.wait_for_error("correct it .*; retrying$")
    assert len(httpd.errors()) == 1
