"""The levels of log lines, for the gateway and for ``<Proxy>``.

error: failures; warn: frequent retries, a wrong clock or region, the fallback bucket; info: retries; debug: each other
error response of S3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.server import ScriptedS3, Step, answer, close, error, first, head_of, reset
from tests.httpd.conftest import BUCKET, ONE_CHILD, PAGES, proxy_section, section
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.httpd.ways import assert_configtest_reports
from tests.leaks import SECRET_KEY
from tests.s3 import EmbeddedS3

REQUEST_ID = "4442587FB7D0A2F9"
REQUEST_ID_HEADER = ("x-amz-request-id", REQUEST_ID)
#: The port of each test's own S3.
PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"
KEYS = f"SetEnv S3AccessKey A\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r"
DAEMON = "process-group=s3 application-group=%{GLOBAL}"


def gateway(mount: str, host: str = "127.0.0.1", retries: int = 0, *lines: str, options: str = "") -> str:
    """The configuration of a gateway at ``/mount``; ``lines``: further ones; ``options``: of WSGIScriptAlias."""
    further = "\n  ".join(lines)
    return f"""
WSGIScriptAlias /{mount} ${{USP_S3_WSGI}} {options}
<Location /{mount}>
  SetEnv S3BucketURL http://{host}:{PORT}/bucket/
  {KEYS}
  SetEnv S3Retries {retries}
  {further}
</Location>
"""


#: Log lines are limited, and retries are counted, by host: the tests of retries use one host each.
RETRY_HOSTS = {
    f"{test}-{level}": f"127.0.0.{number}"
    for number, (test, level) in enumerate(
        [(test, level) for test in ("retry", "frequent", "errors") for level in ("warn", "info")], 2
    )
}
RETRY_GATEWAYS = "".join(
    gateway(mount, host, 1, f"LogLevel usp_s3:{mount.rpartition('-')[2]}") for mount, host in RETRY_HOSTS.items()
)
CONFIG = f"""
{ONE_CHILD}
WSGIDaemonProcess s3 python-home=${{USP_S3_PYTHON_HOME}} threads=4
ProxyPass /proxied {URL}/bucket
ProxyPass /overridden {URL}/bucket
<Location /overridden>
  ProxyErrorOverride On
</Location>
<Proxy "{URL}/bucket/">
  {KEYS}
</Proxy>
{gateway("gateway")}
{gateway("daemon", "127.0.0.20", 1, options=DAEMON)}
{gateway("region", "127.0.0.21")}
{gateway("fallback", "127.0.0.22", 0, f"SetEnv S3FallbackURL http://127.0.0.23:{PORT}/copy/")}
{RETRY_GATEWAYS}
<Location /quiet>
  LogLevel usp_s3:info
</Location>
ProxyPass /quiet {URL}/bucket
ProxyPass /misspelt {URL}/misspelt
<Proxy "{URL}/misspelt/">
  {KEYS}
  SetEnv S3UseHeader on
</Proxy>
"""
DEBUG = "LogLevel warn usp_s3:debug\n"

#: Error responses about the client's request: S3's response, the request's headers, the client's status, S3's words.
CLIENT_ERRORS: dict[str, tuple[Step, dict[str, Any], int, str]] = {
    "not modified": (answer(304, b"", REQUEST_ID_HEADER, length=None), {"if_none_match": '"e"'}, 304, "304 (no code)"),
    "not found": (error(404, "NoSuchKey"), {}, 404, "404 NoSuchKey"),
    "condition": (error(412, "PreconditionFailed"), {"if_match": '"e"'}, 412, "412 PreconditionFailed"),
    "range": (error(416, "InvalidRange"), {"range": "bytes=9-"}, 416, "416 InvalidRange"),
    "denied": (error(403, "AccessDenied"), {}, 403, "403 AccessDenied"),
    "long key": (error(400, "KeyTooLongError"), {}, 400, "400 KeyTooLongError"),
}
#: Failures, which are logged at any level, and once.
FAILURES: dict[str, tuple[Step, dict[str, Any], int, str]] = {
    "unknown key": (error(403, "InvalidAccessKeyId"), {}, 502, "403 InvalidAccessKeyId"),
    "no bucket": (error(404, "NoSuchBucket"), {}, 502, "404 NoSuchBucket"),
    "slow down": (error(503, "SlowDown"), {}, 503, "503 SlowDown"),
    "internal": (error(500, "InternalError"), {}, 503, "500 InternalError"),
    "moved": (error(301, "PermanentRedirect"), {}, 502, "301 PermanentRedirect"),
    "redirect": (error(307, "TemporaryRedirect"), {}, 502, "307 TemporaryRedirect"),
    "no content": (answer(204, b"", REQUEST_ID_HEADER, length=None), {}, 502, "204 (no code)"),
    "unauthorized": (error(401, "Unauthorized"), {}, 502, "401 Unauthorized"),
}
#: Level and code by the client's status; of any other one debug and USPS30301.
FAILURE_LEVELS = {502: ("error", "USPS30305"), 503: ("error", "USPS30405")}
HELLO = answer(200, b"hello")
SLOW_DOWN = error(503, "SlowDown")


@pytest.fixture(scope="module")
def debug_httpd() -> Iterator[Httpd]:
    with Httpd(CONFIG + DEBUG) as server:
        server.expect_error("usp_s3_wsgi: ")
        yield server
    assert "\n".join(server.unexpected) == ""


@pytest.fixture(scope="module")
def warn_httpd() -> Iterator[Httpd]:
    """An httpd with LogLevel warn, as most servers have it."""
    with Httpd(CONFIG) as server:
        assert_configtest_reports(server, "S3UseHeader is not a setting")
        yield server
    assert "\n".join(server.unexpected) == ""


def scripted(*script: Step) -> ScriptedS3:
    return ScriptedS3(*script, port=PORT)


def scripted_on_all_hosts(*script: Step) -> ScriptedS3:
    return ScriptedS3(*script, port=PORT, host="0.0.0.0")


def lines_since(httpd: Httpd, begin: int) -> list[str]:
    """This package's lines of the error log from a line on; they are written before the client gets its response."""
    return [line for line in httpd.errors()[begin:] if "usp_s3_wsgi: " in line]


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
@pytest.mark.parametrize("name", [*CLIENT_ERRORS, *FAILURES])
def test_each_error_response_is_one_line_at_level_debug(debug_httpd: Httpd, name: str, mount: str) -> None:
    step, headers, status, words = (CLIENT_ERRORS | FAILURES)[name]
    before = len(debug_httpd.errors())
    with scripted(step):
        reply = debug_httpd.fetch(f"/{mount}/film.mp4?X-Amz-Signature=of-the-client", **headers)
    assert reply.status == status
    (line,) = lines_since(debug_httpd, before)
    attempt = re.escape(f"(GET {URL}/bucket/film.mp4, attempt 1, ")
    level, code = FAILURE_LEVELS.get(status, ("debug", "USPS30301"))
    begin = rf"\[usp_s3:{level}\] {code}: usp_s3_wsgi: {'/gateway: ' if mount == 'gateway' else ''}"
    begin += re.escape(f"S3 answered {words}, request id {REQUEST_ID}")
    assert re.search(rf"{begin}(: [^(]*)? {attempt}[0-9.]+ s\)$", line), line
    assert "X-Amz" not in line and "Signature" not in line


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
@pytest.mark.parametrize("name", CLIENT_ERRORS)
def test_client_errors_are_not_logged_at_level_warn(warn_httpd: Httpd, name: str, mount: str) -> None:
    step, headers, status, _ = CLIENT_ERRORS[name]
    before = len(warn_httpd.errors())
    with scripted(step):
        assert warn_httpd.fetch(f"/{mount}/film.mp4", **headers).status == status
    assert lines_since(warn_httpd, before) == []


def test_mod_wsgi_writes_the_lines_of_daemon_mode(debug_httpd: Httpd) -> None:
    """At level error: mod_wsgi has no other one. Lines of level debug say so."""
    before = len(debug_httpd.errors())
    with scripted_on_all_hosts(error(404, "NoSuchKey"), SLOW_DOWN, HELLO):
        assert [debug_httpd.fetch("/daemon/film.mp4").status for _ in range(2)] == [404, 200]
    not_found, retried = lines_since(debug_httpd, before)
    assert "[wsgi:error]" in not_found and "USPS30301: usp_s3_wsgi: /daemon: debug: S3 answered 404 No" in not_found
    assert "[wsgi:error]" in retried and "USPS30405: usp_s3_wsgi: /daemon: S3 answered 503 SlowDown" in retried
    assert retried.endswith("; retrying")


# --- retries of the gateway

ETAG = ("ETag", '"e"')
#: What S3 does, until the retry succeeds; the line's code and words.
RETRIED: dict[str, tuple[tuple[Step, ...], str, str]] = {
    "slow down": ((SLOW_DOWN, HELLO), "USPS30405", "S3 answered 503 SlowDown, request id"),
    "reset": ((reset, HELLO), "USPS30402", ""),
    "truncated": (
        (
            first(answer(200, b"he", ETAG, length=5), close),
            answer(206, b"llo", ETAG, ("Content-Range", "bytes 2-4/5")),
        ),
        "USPS30501",
        "response body truncated: 3 bytes are missing",
    ),
}


def lines_of_a_retry(httpd: Httpd, name: str, mount: str) -> list[str]:
    """Fetch an object with that failure and a retry, and return the lines about it."""
    before = len(httpd.errors())
    with scripted_on_all_hosts(*RETRIED[name][0]):
        assert httpd.fetch(f"/{mount}/film.mp4").body == b"hello"
    return lines_since(httpd, before)


@pytest.mark.parametrize("name", RETRIED)
def test_a_retried_failure_is_logged_at_level_info(warn_httpd: Httpd, name: str) -> None:
    _, code, words = RETRIED[name]
    (line,) = lines_of_a_retry(warn_httpd, name, "retry-info")
    assert f"[usp_s3:info] {code}: usp_s3_wsgi: /retry-info: {words}" in line
    assert re.search(r" \(GET http://127\.0\.0\.\d+:\d+/bucket/film\.mp4, attempt 1, [0-9.]+ s\); retrying$", line)
    warn_httpd.expect_error(re.escape(line))


@pytest.mark.parametrize("name", RETRIED)
def test_a_retried_failure_is_not_logged_at_level_warn(warn_httpd: Httpd, name: str) -> None:
    assert lines_of_a_retry(warn_httpd, name, "retry-warn") == []


@pytest.mark.parametrize("level", ["warn", "info"])
def test_ten_retries_within_a_minute_are_one_line_at_level_warn(warn_httpd: Httpd, level: str) -> None:
    mount = f"frequent-{level}"
    warn_httpd.expect_error(f"usp_s3_wsgi: /{mount}: ")
    before = len(warn_httpd.errors())

    def fetch(count: int) -> list[str]:
        """Send requests that are retried once each; return the levels of all lines so far."""
        with scripted_on_all_hosts(*[SLOW_DOWN, HELLO] * count):
            assert [warn_httpd.fetch(f"/{mount}/film.mp4").status for _ in range(count)] == [200] * count
        lines = lines_since(warn_httpd, before)
        return [match[1] for line in lines if (match := re.search(r"\[usp_s3:([a-z]+)\] USPS3", line))]

    retries = ["info"] * 9 if level == "info" else []
    assert fetch(9) == retries
    retries += ["info"] if level == "info" else []
    assert fetch(1) == [*retries, "warn"]
    assert fetch(10)[: len(retries) + 1] == [*retries, "warn"]
    frequent = [line for line in lines_since(warn_httpd, before) if "USPS30409" in line]
    host = f"{RETRY_HOSTS[mount]}:{PORT}"
    assert [line.partition("] ")[2] for line in frequent] == [
        f"[usp_s3:warn] USPS30409: usp_s3_wsgi: /{mount}: 10 attempts to {host} failed and were retried within 60 s; "
        f"the last failure: S3 answered 503 SlowDown, request id {REQUEST_ID} (LogLevel usp_s3:info shows each)"
    ]


@pytest.mark.parametrize("level", ["warn", "info"])
def test_retries_do_not_count_for_the_limit_of_failures(warn_httpd: Httpd, level: str) -> None:
    """After many retried failures, the first one that reaches the client is logged."""
    mount, count = f"errors-{level}", 15
    warn_httpd.expect_error(f"usp_s3_wsgi: /{mount}: ")
    with scripted_on_all_hosts(*[SLOW_DOWN, HELLO] * count, SLOW_DOWN, SLOW_DOWN):
        assert [warn_httpd.fetch(f"/{mount}/film.mp4").status for _ in range(count)] == [200] * count
        before = len(warn_httpd.errors())
        assert warn_httpd.fetch(f"/{mount}/film.mp4").status == 503
    (line,) = [line for line in lines_since(warn_httpd, before) if "[usp_s3:error]" in line]
    assert f"USPS30405: usp_s3_wsgi: /{mount}: S3 answered 503 SlowDown" in line
    assert re.search(r", attempt 2, [0-9.]+ s\)$", line), line


WARNINGS: dict[str, tuple[Step, str]] = {
    "region": (
        error(400, "AuthorizationHeaderMalformed", region="eu-west-3"),
        f"USPS30305: usp_s3_wsgi: /region: S3 answered 400 AuthorizationHeaderMalformed, request id {REQUEST_ID}, "
        "the bucket is in region eu-west-3: set S3Region to it ATTEMPT; retrying",
    ),
    "fallback": (
        SLOW_DOWN,
        f"USPS30405: usp_s3_wsgi: /fallback: S3 answered 503 SlowDown, request id {REQUEST_ID} ATTEMPT; "
        "using S3FallbackURL",
    ),
}


@pytest.mark.parametrize("mount", WARNINGS)
def test_a_wrong_region_and_the_fallback_are_logged_at_level_warn(warn_httpd: Httpd, mount: str) -> None:
    """test_wrong_clock.py tests the line about a wrong clock."""
    step, text = WARNINGS[mount]
    before = len(warn_httpd.errors())
    with scripted_on_all_hosts(step, HELLO):
        assert warn_httpd.fetch(f"/{mount}/film.mp4").body == b"hello"
    (line,) = lines_since(warn_httpd, before)
    shown = re.sub(r"\(GET http://[0-9.:]+/bucket/film\.mp4, attempt 1, [0-9.]+ s\)", "ATTEMPT", line)
    assert shown.partition("] ")[2] == f"[usp_s3:warn] {text}"
    warn_httpd.expect_error(re.escape(line))


# --- level debug


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
def test_a_404_to_a_head_is_logged_without_a_code(debug_httpd: Httpd, mount: str) -> None:
    before = len(debug_httpd.errors())
    with scripted(head_of(answer(404, b"x", REQUEST_ID_HEADER))):
        assert debug_httpd.fetch(f"/{mount}/film.mp4", method="HEAD").status == 404
    (line,) = lines_since(debug_httpd, before)
    assert f"S3 answered 404 (no code), request id {REQUEST_ID} (HEAD {URL}/bucket/film.mp4, attempt 1, " in line


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
def test_control_characters_of_s3_and_the_client_make_no_second_line(debug_httpd: Httpd, mount: str) -> None:
    document = b"<Code>Bad\n[core:error] forged</Code><RequestId>\x1b[31m</RequestId>"
    before = len(debug_httpd.errors())
    with scripted(answer(404, document, ("x-amz-request-id", "two words"))):
        assert debug_httpd.fetch(f"/{mount}/a%0Ab%1B.mp4").status == 404
    (line,) = lines_since(debug_httpd, before)
    assert f"S3 answered 404 (no code), request id (none) (GET {URL}/bucket/a%0Ab%1B.mp4, attempt 1, " in line
    assert len(debug_httpd.errors()) == before + 1


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
def test_the_number_of_debug_lines_is_not_limited(debug_httpd: Httpd, mount: str) -> None:
    """A failure over the limit of error lines is logged at level debug."""
    count = 25
    for step in (error(404, "NoSuchKey"), error(503, "ServiceUnavailable")):
        before = len(debug_httpd.errors())
        with scripted(*[step] * count):
            for number in range(count):
                debug_httpd.fetch(f"/{mount}/{number}.ts")
        lines = lines_since(debug_httpd, before)
        assert len(lines) == count
        assert all(f"/{number}.ts, attempt 1" in line for number, line in enumerate(lines))


def test_an_error_that_mod_proxy_overrides_is_logged_without_a_code(debug_httpd: Httpd) -> None:
    before = len(debug_httpd.errors())
    with scripted(error(404, "NoSuchKey", REQUEST_ID_HEADER)):
        assert debug_httpd.fetch("/overridden/film.mp4").status == 404
    (line,) = lines_since(debug_httpd, before)
    s3_words = f"S3 answered 404 (no code), request id {REQUEST_ID} (GET {URL}/bucket/"
    assert f"[usp_s3:debug] USPS30301: usp_s3_wsgi: {s3_words}" in line


@pytest.mark.parametrize("mount", ["proxied", "overridden", "gateway"])
def test_a_416_before_the_whole_object_is_requested_is_logged(debug_httpd: Httpd, mount: str) -> None:
    """If-Range names another object than the current one: the whole of the current one is requested."""
    before = len(debug_httpd.errors())
    range_error = error(416, "InvalidRange", ("ETag", '"new"'), REQUEST_ID_HEADER)
    with scripted(range_error, answer(200, b"all", ("ETag", '"new"'))):
        reply = debug_httpd.fetch(f"/{mount}/film.mp4", range="bytes=5000-", if_range='"old"')
    assert (reply.status, reply.body) == (200, b"all")
    (line,) = lines_since(debug_httpd, before)
    assert "S3 answered 416 " in line and f"request id {REQUEST_ID} (GET {URL}/bucket/film.mp4" in line


def test_the_level_of_a_location_applies(debug_httpd: Httpd) -> None:
    before = len(debug_httpd.errors())
    with scripted(error(404, "NoSuchKey")):
        assert debug_httpd.fetch("/quiet/film.mp4").status == 404
    assert lines_since(debug_httpd, before) == []


@pytest.mark.parametrize("debug", [False, True])
def test_a_404_for_an_extra_slash_is_logged_at_level_debug_only(
    debug: bool, s3: EmbeddedS3, checked: list[Httpd]
) -> None:
    """A slash too many at the end of ProxyPass's target, or of the bucket's URL: no other line shows the reason."""
    s3.put(BUCKET, "film.mp4", b"film")
    url = f"{s3.url}/{BUCKET}"
    gateway_section = section("/gateway", s3, f"SetEnv S3BucketURL {url}//")
    proxied = f"ProxyPass /proxied {url}/\n{proxy_section(f'{url}/', s3)}{PAGES}"
    httpd = Httpd(("LogLevel warn usp_s3:debug\n" if debug else "") + gateway_section + proxied)
    checked.append(httpd)
    httpd.start()
    httpd.expect_error(r"\[usp_s3:debug\] USPS30301: .*S3 answered 404 NoSuchKey|unable to include")
    for mount in ("proxied", "gateway"):
        assert httpd.fetch(f"/{mount}/film.mp4").status == 404
        (httpd.root / "htdocs" / "page").write_text(f'<!--#include virtual="/{mount}/film.mp4" -->')
        httpd.fetch("/page")
        found = [line for line in httpd.errors() if "usp_s3_wsgi: " in line and f"(GET {url}//film.mp4, " in line]
        assert len(found) == (2 * (1 + (mount == "gateway")) if debug else 0)


# --- the documentation


def level_and_text(line: str) -> tuple[str, str]:
    """Return the module with its level, and the text without what differs between runs."""
    module_and_level = re.findall(r"\[([a-z0-9_]+:[a-z]+)\]", line)[0]
    text = line[line.index("USPS3") :]
    text = re.sub(r"usp_s3_wsgi: /[a-z-]+: ", "usp_s3_wsgi: /MOUNT: ", text)
    text = re.sub(r"attempts to \S+ failed", "attempts to HOST failed", text)
    return module_and_level, re.sub(r"(GET) \S+?(, attempt|\))", r"\1 URL\2", re.sub(r"[0-9.]+ s\)", "SECONDS)", text))


def test_the_lines_of_the_documentation_are_real(debug_httpd: Httpd) -> None:
    text = Path(__file__).parents[2].joinpath("docs", "logging.md").read_text()
    blocks = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    documented = [line for block in blocks for line in block.splitlines() if line.startswith("[")]
    before = len(debug_httpd.errors())
    not_found = CLIENT_ERRORS["not found"][0]
    steps = [not_found, CLIENT_ERRORS["not modified"][0], error(403, "SignatureDoesNotMatch")]
    with scripted(*steps, not_found, SLOW_DOWN):
        for mount, count in (("proxied", len(steps)), ("gateway", 2)):
            for _ in range(count):
                debug_httpd.fetch(f"/{mount}/film.mp4")
    debug_httpd.fetch("/misspelt/film.mp4")
    debug_httpd.expect_error("AH00957|AH01114")
    debug_httpd.fetch("/proxied/film.mp4")
    with scripted_on_all_hosts(*[SLOW_DOWN, HELLO] * 10):
        for _ in range(10):
            debug_httpd.fetch("/frequent-warn/film.mp4")
    printed = {level_and_text(line) for line in lines_since(debug_httpd, before)}
    assert {level_and_text(line) for line in documented} == printed
