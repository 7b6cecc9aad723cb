"""A server with a wrong clock, and a real S3.

The gateway retries with S3's clock. In ``<Proxy>`` the next requests are signed with it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.httpd.conftest import BUCKET, MODES, NEEDS_OPENSSL, ONE_CHILD, PAGES, proxy_section, section
from tests.httpd.machine import compile_shared
from tests.httpd.server import Httpd
from tests.httpd.test_proxy_signing_template import COUNTER
from tests.s3 import EmbeddedS3

DATA = b"an object"
#: Mode and clock skew that Swift rejects. It accepts queries from the future; a query of v2 has only its end.
REJECTED = [(mode, shift) for mode in MODES for shift in (-3600, 3600) if mode.endswith("header") or shift < 0]
Start = Callable[[str, int], Httpd]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shared(Path(__file__).with_name("shifted_clock.c"), tmp_path_factory.mktemp("clock"))


@pytest.fixture
def start(library: Path, checked: list[Httpd], monkeypatch: pytest.MonkeyPatch) -> Start:
    """A function that starts an httpd whose clock is so many seconds ahead."""

    def start(config: str, shift: int) -> Httpd:
        monkeypatch.setenv("CLOCK_SHIFT", str(shift))
        httpd = Httpd(config + ONE_CHILD, preload=library)
        checked.append(httpd)
        httpd.start()
        return httpd

    return start


def proxied(s3: EmbeddedS3, mode: str, *lines: str, mount: str = "/proxied") -> str:
    url = f"{s3.url}/{BUCKET}"
    return f"ProxyPass {mount} {url}\n" + proxy_section(f"{url}/", s3, *lines, mode=mode)


def clock_error(mode: str, shift: int) -> str:
    """A pattern of the log line about Swift's error."""
    code = "AccessDenied" if mode.endswith("query") else "RequestTimeTooSkewed"
    side = "behind" if shift < 0 else "ahead of"
    return rf"S3 answered 403 {code}, .* this server's clock is (359\d|360\d) s {side} S3's: correct it \((GET|HEAD) .*"


@pytest.mark.parametrize(("mode", "shift"), REJECTED)
def test_the_gateway_retries_with_s3s_clock(s3: EmbeddedS3, start: Start, mode: str, shift: int) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(section("/media", s3, "SetEnv S3DeniedStatus 404", mode=mode), shift)
    assert httpd.fetch("/media/a.ts", method="HEAD").status == 200
    assert [httpd.fetch("/media/a.ts").body for _ in range(3)] == [DATA] * 3
    httpd.wait_for_error(rf"\[usp_s3:warn\] USPS30305: usp_s3_wsgi: /media: {clock_error(mode, shift)}; retrying$")
    assert len(httpd.errors()) == 1


@pytest.mark.parametrize(("mode", "shift"), REJECTED)
def test_the_next_request_of_a_proxy_section_is_signed_with_s3s_clock(
    s3: EmbeddedS3, start: Start, mode: str, shift: int
) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(proxied(s3, mode, "SetEnv S3DeniedStatus 404"), shift)
    assert httpd.fetch("/proxied/a.ts").status == 502  # not 404, which a cache would store
    httpd.wait_for_error(rf"{clock_error(mode, shift)}; the next requests are signed with S3's clock$")
    assert [httpd.fetch("/proxied/a.ts").body for _ in range(3)] == [DATA] * 3
    assert httpd.fetch("/proxied/a.ts", method="HEAD").status == 200
    assert httpd.fetch("/proxied/nothing-there").status == 404
    assert len(httpd.errors()) == 1


@pytest.mark.parametrize("mode", MODES)
def test_the_response_to_a_head_corrects_the_clock(s3: EmbeddedS3, start: Start, mode: str) -> None:
    """It has no error code."""
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(proxied(s3, mode), -3600)
    assert httpd.fetch("/proxied/a.ts", method="HEAD").status == 502
    httpd.wait_for_error(r"S3 answered 403 \(no code\), .* s behind S3's: correct it .* signed with S3's clock$")
    assert httpd.fetch("/proxied/a.ts", method="HEAD").status == 200
    assert httpd.fetch("/proxied/a.ts").body == DATA


@NEEDS_OPENSSL
@pytest.mark.parametrize("mode", ["v4-header", "v4-query"])
def test_the_signing_template_has_s3s_clock(s3: EmbeddedS3, start: Start, mode: str) -> None:
    """A template is valid for a second of this server's clock."""
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


def test_the_gateway_and_proxy_share_the_recorded_clock(s3: EmbeddedS3, start: Start) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(section("/media", s3, mode="v4-query") + proxied(s3, "v2-query"), -3600)
    httpd.expect_error("correct it")
    assert [httpd.fetch(f"{mount}/a.ts").status for mount in ("/media", "/proxied")] == [200, 200]
    assert len(httpd.errors()) == 1


@pytest.mark.parametrize("mode", ["v4-query", "v2-header"])
def test_concurrent_requests_correct_the_clock(s3: EmbeddedS3, start: Start, mode: str) -> None:
    """Requests that were sent before the first error fail, and no later ones."""
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(proxied(s3, mode), -3600)
    httpd.expect_error("correct it")

    def fetch_often(number: int) -> list[int]:
        return [httpd.fetch("/proxied/a.ts").status for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(fetch_often, range(8)))
    assert {statuses[0] for statuses in clients} <= {200, 502}
    assert [set(statuses[1:]) for statuses in clients] == [{200}] * 8


def test_subrequests_correct_the_clock(s3: EmbeddedS3, start: Start) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = start(proxied(s3, "v4-query") + PAGES, -3600)
    (httpd.root / "htdocs" / "page").write_text('[<!--#include virtual="/proxied/a.ts" -->]')
    httpd.expect_error("unable to include")
    assert httpd.fetch("/page").body.startswith(b"[[an error occurred")
    httpd.wait_for_error("signed with S3's clock$")
    assert [httpd.fetch("/page").body for _ in range(2)] == [b"[" + DATA + b"]"] * 2


def test_the_gateway_in_daemon_mode_retries(s3: EmbeddedS3, start: Start) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    mount = section("/media", s3, "WSGIProcessGroup s3", "WSGIApplicationGroup %{GLOBAL}", mode="v4-query")
    httpd = start(f"WSGIDaemonProcess s3 processes=1 threads=4\n{mount}", -3600)
    assert [httpd.fetch("/media/a.ts").body for _ in range(2)] == [DATA] * 2
    httpd.wait_for_error("correct it .*; retrying$")
    assert len(httpd.errors()) == 1
