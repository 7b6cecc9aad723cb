"""docs/logging.md: its expressions parse the lines of a real httpd, and its access log has S3's request ids."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.docs.test_troubleshooting import (
    DEBUG,
    DENIED,
    DOCS,
    FILM,
    INFO,
    NO_RETRY,
    PORT,
    REQUEST_ID,
    SLOW_DOWN_BRIEFLY,
    DefaultFormat,
    bucket,
    gateway,
    proxy,
    scripted,
)
from tests.faults.server import answer, error
from tests.httpd import http2
from tests.httpd.machine import has_module
from tests.httpd.server import WAIT, Httpd

HOST_ID = ("x-amz-id-2", "Uuag1LuByRx9e6j5Onimru9pO4ZVKnJ2Qz7/C1NPcfTWAtRPfTaOFg==")
URL = f"http://127.0.2.250:{PORT}/bucket"
CONFIG = f"""
WSGIDaemonProcess s3 processes=1 threads=4 python-home=${{USP_S3_PYTHON_HOME}}
Protocols h2c http/1.1
{gateway(NO_RETRY, DEBUG)}
{gateway(INFO).replace("@NAME@", "retried")}
{gateway("SetEnv S3UseHeader on").replace("@NAME@", "misspelt")}
{gateway(NO_RETRY, "WSGIProcessGroup s3", "WSGIApplicationGroup %{GLOBAL}").replace("@NAME@", "daemon")}
{proxy().replace("@NAME@", "proxied")}
<If "-R '127.0.0.1' && %{{REQUEST_URI}} =~ m#^/proxied/debug#">
  LogLevel usp_s3:debug
</If>
"""


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    with DefaultFormat(bucket(CONFIG)) as server:
        server.expect_error("USPS3")
        yield server
    assert server.unexpected == []


def expressions() -> list[re.Pattern[str]]:
    """The regular expressions of the page."""
    page = (DOCS / "logging.md").read_text("utf-8")
    return [re.compile(line) for line in re.findall(r"^```text\n(\S.*)\n```", page, re.MULTILINE) if "(?P<" in line]


def parsed(httpd: Httpd, since: int) -> dict[str, str | None]:
    """The fields of the only line of this package since then."""
    (line,) = [line for line in httpd.errors()[since:] if "USPS3" in line]
    whole, answered, request = expressions()
    match = whole.search(line)
    assert match, line
    fields = match.groupdict()
    for expression in (answered, request):
        detail = expression.search(match["text"])
        fields |= detail.groupdict() if detail else {}
    return fields


def test_a_failure(httpd: Httpd) -> None:
    """With both of Amazon's ids, and the client's Referer."""
    since = len(httpd.errors())
    with scripted(error(503, "SlowDown", REQUEST_ID, HOST_ID)):
        httpd.fetch("/media/film/film.mp4", referer="https://player.example/")
    fields = parsed(httpd, since)
    assert re.fullmatch(r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d\.\d{6} \d{4}", fields.pop("time") or "")
    assert re.fullmatch(r"\d+", fields.pop("pid") or "") and re.fullmatch(
        r"127\.0\.0\.1:\d+", fields.pop("client") or ""
    )
    assert re.fullmatch(r"\d\.\d{3}", fields.pop("seconds") or "")
    assert (fields.pop("text") or "").startswith("S3 answered 503 SlowDown, request id ")
    assert fields == {
        "module": "usp_s3", "level": "error", "code": "USPS30405", "mount": "/media", "referer": "https://player.example/",
        "status": "503", "s3_code": "SlowDown", "request_id": REQUEST_ID[1], "host_id": HOST_ID[1],
        "method": "GET", "url": f"{URL}/film/film.mp4", "attempt": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/media/none", {"level": "debug", "code": "USPS30301", "mount": "/media", "s3_code": "AccessDenied"}),
        ("/proxied/film", {}),
        ("/proxied/debug", {"level": "debug", "code": "USPS30301", "mount": None, "s3_code": "AccessDenied"}),
    ],
)
def test_debug(httpd: Httpd, path: str, expected: dict[str, str | None]) -> None:
    """An <If> can set the level."""
    since = len(httpd.errors())
    with scripted(DENIED):
        assert httpd.fetch(path).status == 403
    if expected:
        assert expected.items() <= parsed(httpd, since).items()
    else:
        assert httpd.errors()[since:] == []


def test_a_retry(httpd: Httpd) -> None:
    since = len(httpd.errors())
    with scripted(SLOW_DOWN_BRIEFLY, FILM):
        assert httpd.fetch("/retried/film.mp4").status == 200
    fields = parsed(httpd, since)
    assert (fields["level"], fields["attempt"]) == ("info", "1") and (fields["text"] or "").endswith("; retrying")


def test_a_proxy_section(httpd: Httpd) -> None:
    since = len(httpd.errors())
    with scripted(error(403, "SignatureDoesNotMatch")):
        assert httpd.fetch("/proxied/film.mp4").status == 502
    fields = parsed(httpd, since)
    assert (fields["mount"], fields["code"], fields["s3_code"]) == (None, "USPS30305", "SignatureDoesNotMatch")


def test_a_setting(httpd: Httpd) -> None:
    """A line without a request; the line of the start has no client."""
    since = len(httpd.errors())
    assert httpd.fetch("/misspelt/film.mp4").status == 500
    fields = parsed(httpd, since)
    assert (fields["code"], fields["mount"]) == ("USPS30101", "/misspelt") and "url" not in fields
    (start,) = [line for line in httpd.errors() if "USPS30802" in line]
    match = expressions()[0].search(start)
    assert match and (match["code"], match["client"], match["mount"]) == ("USPS30802", None, None)


def test_daemon_mode(httpd: Httpd) -> None:
    since = len(httpd.errors())
    with scripted(error(403, "InvalidAccessKeyId")):
        assert httpd.fetch("/daemon/film.mp4").status == 502
    fields = parsed(httpd, since)
    assert (fields["module"], fields["level"], fields["mount"]) == ("wsgi", "error", "/daemon")
    assert (fields["client"] or "").startswith("127.0.0.1")


@pytest.mark.skipif(not has_module("http2"), reason="this httpd has no mod_http2")
def test_http2(httpd: Httpd) -> None:
    since = len(httpd.errors())
    with scripted(error(403, "InvalidAccessKeyId")):
        http2.ask(httpd.port, {"path": "/media/film.mp4"})
    fields = parsed(httpd, since)
    assert (fields["client"] or "").startswith("127.0.0.1") and fields["s3_code"] == "InvalidAccessKeyId"


def test_the_access_log_has_s3s_request_ids() -> None:
    """The lines of the troubleshooting page."""
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    log_format, custom_log = re.findall(r"^(LogFormat .*|CustomLog .*)$", page, re.MULTILINE)
    (passed,) = re.findall(r"^SetEnv S3PassHeaders .*$", page, re.MULTILINE)
    config = f"{gateway(passed)}{log_format}\n{custom_log.replace('${APACHE_LOG_DIR}/', '')}\n"
    with DefaultFormat(bucket(config)) as httpd:
        with scripted(answer(200, b"a film", REQUEST_ID, HOST_ID)):
            assert httpd.fetch("/media/film/film.mp4").headers["x-amz-request-id"] == REQUEST_ID[1]
        log, deadline = httpd.root / "media.log", time.monotonic() + WAIT
        while not (text := log.read_text()) and time.monotonic() < deadline:  # written after the response
            time.sleep(0.01)
    ids = f"{REQUEST_ID[1]} {re.escape(HOST_ID[1])}"
    assert re.search(rf'"GET /media/film/film.mp4 HTTP/1.1" 200 6 \d+ [+-] {ids}\n$', text), text
