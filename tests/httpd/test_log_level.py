"""LogLevel debug: each answer of S3's that is no success is one line; else what is the client's own is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.server import ScriptedS3, Step, answer, error, head_of
from tests.httpd.conftest import BUCKET, ONE_CHILD, PAGES, proxy_section, section
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.httpd.ways import assert_told
from tests.leaks import SECRET_KEY
from tests.s3 import EmbeddedS3

ID = "4442587FB7D0A2F9"
HEADER = ("x-amz-request-id", ID)
#: Where each test puts its own S3.
PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"
KEYS = f"SetEnv S3AccessKey A\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r\nSetEnv S3Retries 0\n"
CONFIG = f"""
{ONE_CHILD}
ProxyPass /proxied {URL}/bucket
ProxyPass /overridden {URL}/bucket
<Location /overridden>
  ProxyErrorOverride On
</Location>
<Proxy "{URL}/bucket/">
  {KEYS.replace("SetEnv S3Retries 0", "")}
</Proxy>
WSGIScriptAlias /gateway ${{USP_S3_WSGI}}
<Location /gateway>
  SetEnv S3BucketURL {URL}/bucket/
  {KEYS}
</Location>
<Location /quiet>
  LogLevel usp_s3:info
</Location>
ProxyPass /quiet {URL}/bucket
ProxyPass /misspelt {URL}/misspelt
<Proxy "{URL}/misspelt/">
  {KEYS.replace("S3Retries 0", "S3UseHeader on")}
</Proxy>
"""
DEBUG = "LogLevel warn usp_s3:debug\n"

#: Answers of S3's, what is asked for them, and what the client gets.
ANSWERS: dict[str, tuple[Step, dict[str, Any], int, str]] = {
    "not modified": (answer(304, b"", HEADER, length=None), {"if_none_match": '"e"'}, 304, "304 (no code)"),
    "absent": (error(404, "NoSuchKey"), {}, 404, "404 NoSuchKey"),
    "condition": (error(412, "PreconditionFailed"), {"if_match": '"e"'}, 412, "412 PreconditionFailed"),
    "range": (error(416, "InvalidRange"), {"range": "bytes=9-"}, 416, "416 InvalidRange"),
    "denied": (error(403, "AccessDenied"), {}, 403, "403 AccessDenied"),
    "name": (error(400, "KeyTooLongError"), {}, 400, "400 KeyTooLongError"),
}
#: Those that have a line at any level, which is not to have a second one.
FAILURES: dict[str, tuple[Step, dict[str, Any], int, str]] = {
    "refused key": (error(403, "InvalidAccessKeyId"), {}, 502, "403 InvalidAccessKeyId"),
    "no bucket": (error(404, "NoSuchBucket"), {}, 502, "404 NoSuchBucket"),
    "slow down": (error(503, "SlowDown"), {}, 503, "503 SlowDown"),
    "internal": (error(500, "InternalError"), {}, 503, "500 InternalError"),
    "moved": (error(301, "PermanentRedirect"), {}, 502, "301 PermanentRedirect"),
    "elsewhere": (error(307, "TemporaryRedirect"), {}, 502, "307 TemporaryRedirect"),
    "nothing": (answer(204, b"", HEADER, length=None), {}, 502, "204 (no code)"),
    "login": (error(401, "Unauthorized"), {}, 502, "401 Unauthorized"),
}


@pytest.fixture(scope="module")
def at_debug() -> Iterator[Httpd]:
    with Httpd(CONFIG + DEBUG) as server:
        server.expect_error("usp_s3_wsgi: ")
        yield server
    assert "\n".join(server.unexpected) == ""


@pytest.fixture(scope="module")
def as_usual() -> Iterator[Httpd]:
    with Httpd(CONFIG) as server:
        assert_told(server, "S3UseHeader is not a setting")
        yield server
    assert "\n".join(server.unexpected) == ""


def scripted(*script: Step) -> ScriptedS3:
    return ScriptedS3(*script, port=PORT)


def lines(httpd: Httpd, begin: int) -> list[str]:
    """The lines of the error log from there on; S3's answers were written before the client's."""
    return [line for line in httpd.errors()[begin:] if "usp_s3_wsgi: " in line]


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
@pytest.mark.parametrize("name", [*ANSWERS, *FAILURES])
def test_each_answer_is_one_line(at_debug: Httpd, name: str, mount: str) -> None:
    step, headers, status, words = (ANSWERS | FAILURES)[name]
    before = len(at_debug.errors())
    with scripted(step):
        reply = at_debug.fetch(f"/{mount}/film.mp4?X-Amz-Signature=of-the-client", **headers)
    assert reply.status == status
    (line,) = lines(at_debug, before)
    where = re.escape(f"(GET {URL}/bucket/film.mp4, attempt 1, ")
    level, code = {502: ("error", "USPS30305"), 503: ("error", "USPS30405")}.get(status, ("debug", "USPS30301"))
    begin = rf"\[usp_s3:{level}\] {code}: usp_s3_wsgi: {'/gateway: ' if mount == 'gateway' else ''}"
    begin += re.escape(f"S3 answered {words}, request id {ID}")
    assert re.search(rf"{begin}(: [^(]*)? {where}[0-9.]+ s\)$", line), line
    assert "X-Amz" not in line and "Signature" not in line


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_the_clients_is_no_line_at_other_levels(as_usual: Httpd, name: str, mount: str) -> None:
    step, headers, status, _ = ANSWERS[name]
    before = len(as_usual.errors())
    with scripted(step):
        assert as_usual.fetch(f"/{mount}/film.mp4", **headers).status == status
    assert lines(as_usual, before) == []


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
def test_a_head(at_debug: Httpd, mount: str) -> None:
    before = len(at_debug.errors())
    with scripted(head_of(answer(404, b"x", HEADER))):
        assert at_debug.fetch(f"/{mount}/film.mp4", method="HEAD").status == 404
    (line,) = lines(at_debug, before)
    assert f"S3 answered 404 (no code), request id {ID} (HEAD {URL}/bucket/film.mp4, attempt 1, " in line


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
def test_a_line_is_one_and_holds_nothing_of_s3s_but_words(at_debug: Httpd, mount: str) -> None:
    document = b"<Code>Bad\n[core:error] forged</Code><RequestId>\x1b[31m</RequestId>"
    before = len(at_debug.errors())
    with scripted(answer(404, document, ("x-amz-request-id", "two words"))):
        assert at_debug.fetch(f"/{mount}/a%0Ab%1B.mp4").status == 404
    (line,) = lines(at_debug, before)
    assert f"S3 answered 404 (no code), request id (none) (GET {URL}/bucket/a%0Ab%1B.mp4, attempt 1, " in line
    assert len(at_debug.errors()) == before + 1


@pytest.mark.parametrize("mount", ["proxied", "gateway"])
def test_lines_on_request_are_not_limited(at_debug: Httpd, mount: str) -> None:
    """Where the error line is one too many, there is the other one."""
    count = 25
    for step in (error(404, "NoSuchKey"), error(503, "ServiceUnavailable")):
        before = len(at_debug.errors())
        with scripted(*[step] * count):
            for number in range(count):
                at_debug.fetch(f"/{mount}/{number}.ts")
        found = lines(at_debug, before)
        assert len(found) == count
        assert all(f"/{number}.ts, attempt 1" in line for number, line in enumerate(found))


def test_what_mod_proxy_overrides(at_debug: Httpd) -> None:
    before = len(at_debug.errors())
    with scripted(error(404, "NoSuchKey", HEADER)):
        assert at_debug.fetch("/overridden/film.mp4").status == 404
    (line,) = lines(at_debug, before)
    assert (
        f"[usp_s3:debug] USPS30301: usp_s3_wsgi: S3 answered 404 (no code), request id {ID} (GET {URL}/bucket/" in line
    )


@pytest.mark.parametrize("mount", ["proxied", "overridden", "gateway"])
def test_a_range_of_another_object(at_debug: Httpd, mount: str) -> None:
    """The whole is asked for then; the first answer is a line."""
    before = len(at_debug.errors())
    with scripted(error(416, "InvalidRange", ("ETag", '"new"'), HEADER), answer(200, b"all", ("ETag", '"new"'))):
        reply = at_debug.fetch(f"/{mount}/film.mp4", range="bytes=5000-", if_range='"old"')
    assert (reply.status, reply.body) == (200, b"all")
    (line,) = lines(at_debug, before)
    assert "S3 answered 416 " in line and f"request id {ID} (GET {URL}/bucket/film.mp4" in line


def test_the_level_of_a_location(at_debug: Httpd) -> None:
    before = len(at_debug.errors())
    with scripted(error(404, "NoSuchKey")):
        assert at_debug.fetch("/quiet/film.mp4").status == 404
    assert lines(at_debug, before) == []


@pytest.mark.parametrize("debug", [False, True])
def test_a_slash_too_many(debug: bool, s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """At the end of ProxyPass's target, or of the bucket's URL: a 404 that nothing else tells the reason of."""
    s3.put(BUCKET, "film.mp4", b"film")
    url = f"{s3.url}/{BUCKET}"
    gateway = section("/gateway", s3, f"SetEnv S3BucketURL {url}//")
    proxied = f"ProxyPass /proxied {url}/\n{proxy_section(f'{url}/', s3)}{PAGES}"
    httpd = Httpd(("LogLevel warn usp_s3:debug\n" if debug else "") + gateway + proxied)
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("debug.*S3 answered 404 NoSuchKey|unable to include")
    for mount in ("proxied", "gateway"):
        assert httpd.fetch(f"/{mount}/film.mp4").status == 404
        (httpd.root / "htdocs" / "page").write_text(f'<!--#include virtual="/{mount}/film.mp4" -->')
        httpd.fetch("/page")
        found = [line for line in httpd.errors() if "usp_s3_wsgi: " in line and f"(GET {url}//film.mp4, " in line]
        assert len(found) == (2 * (1 + (mount == "gateway")) if debug else 0)


def words(line: str) -> str:
    """A line without what differs from run to run."""
    message = line[line.index("usp_s3_wsgi: ") :]
    return re.sub(r"(GET) \S+?(, attempt|\))", r"\1 URL\2", re.sub(r"[0-9.]+ s\)", "SECONDS)", message))


def test_the_lines_of_the_documentation_are_real(at_debug: Httpd) -> None:
    text = Path(__file__).parents[2].joinpath("docs", "logging.md").read_text()
    # What <Proxy> learns is tried in test_proxy_learns.py.
    learned = re.compile("; the (next requests|URL of ProxyPass)")
    documented = [line for line in text.splitlines() if line.startswith("    [") and not learned.search(line)]
    before = len(at_debug.errors())
    steps = [ANSWERS["absent"][0], ANSWERS["not modified"][0], error(403, "SignatureDoesNotMatch")]
    with scripted(*steps, ANSWERS["absent"][0], FAILURES["slow down"][0]):
        for mount, count in (("proxied", len(steps)), ("gateway", 2)):
            for _ in range(count):
                at_debug.fetch(f"/{mount}/film.mp4")
    at_debug.fetch("/misspelt/film.mp4")
    at_debug.expect_error("AH00957|AH01114")
    at_debug.fetch("/proxied/film.mp4")
    printed = {words(line) for line in lines(at_debug, before)}
    assert {words(line) for line in documented} == printed
