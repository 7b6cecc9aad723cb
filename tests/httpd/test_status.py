"""The status page's data in a running httpd: configuration, last hour, flight recorder, processes; nothing secret."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest

from tests.faults.server import ScriptedS3, answer, error
from tests.httpd import metrics
from tests.httpd.conftest import BUCKET, MODES, ONE_CHILD, proxy_section, section
from tests.httpd.machine import free_port
from tests.httpd.server import WAIT, Httpd, WithoutModule
from tests.leaks import ACCESS_KEY, SECRET_KEY, TOKEN
from tests.s3 import EmbeddedS3

MOUNTS = ("/embedded", "/daemon", "/proxied")


@pytest.fixture
def start(checked: list[Httpd]) -> Callable[[str], Httpd]:
    """Starts an httpd that records."""
    return metrics.starter(checked)


def status(httpd: Httpd) -> dict[str, Any]:
    """The page's data, and the page itself must show them."""
    page = httpd.fetch("/usp-s3/status")
    assert page.status == 200, page
    reply = httpd.fetch("/usp-s3/status/json")
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    found: dict[str, Any] = json.loads(reply.body)
    for bucket in found["buckets"]:
        assert escape(bucket["name"]) in page.body.decode()
    return found


def bucket(httpd: Httpd, name: str = BUCKET) -> dict[str, Any]:
    (found,) = [one for one in status(httpd)["buckets"] if one["name"] == name]
    assert isinstance(found, dict)
    return found


def failures(httpd: Httpd, count: int) -> list[dict[str, Any]]:
    """The failures of the bucket, when there are so many."""
    deadline = time.monotonic() + WAIT
    while len(found := bucket(httpd)["failures"]) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    assert len(found) == count
    return list(found)


def lines(*more: str, mode: str = "v4-header") -> str:
    region, headers = MODES[mode]
    texts = [f"SetEnv S3AccessKey {ACCESS_KEY}", f"SetEnv S3SecretKey {SECRET_KEY}", f"SetEnv S3SecurityToken {TOKEN}"]
    texts += [f"SetEnv S3UseHeaders {'on' if headers else 'off'}"] + (["SetEnv S3Region r"] if region else [])
    return "\n".join([*texts, *more])


def mount(url: str, path: str, *more: str, mode: str = "v4-header") -> str:
    """The configuration of one bucket with a session token."""
    body = lines(*more, mode=mode)
    if path == "/proxied":
        return f'ProxyPass {path} {url}\n<Proxy "{url}/">\n{body}\n</Proxy>\n'
    body += "\nWSGIProcessGroup media" if path == "/daemon" else ""
    body = f"SetEnv S3BucketURL {url}/\nSetEnv S3Retries 0\n{body}"
    return f"WSGIScriptAlias {path} ${{USP_S3_WSGI}}\n<Location {path}>\n{body}\n</Location>\n"


def test_configured_buckets_are_shown_before_the_first_request(start: Callable[[str], Httpd], s3: EmbeddedS3) -> None:
    url = f"{s3.url}/{BUCKET}"
    fallback = "SetEnv S3FallbackURL https://copy.example/other/"
    config = section("/films", s3, fallback) + f"ProxyPass /tv {url}\n" + proxy_section(f"{url}/", s3)
    httpd = start(config)
    found = status(httpd)
    assert found["is_complete"]
    assert found["health"] == "idle"
    shown = {(one["way"], one["name"], one["host"]): one for one in found["buckets"]}
    assert set(shown) == {
        ("gateway", BUCKET, s3.host), ("gateway", "other", "copy.example"), ("proxy", BUCKET, s3.host),
    }  # fmt: skip
    (place,) = shown["gateway", BUCKET, s3.host]["mounts"]
    assert place["path"] == "/films"
    assert place["location"].startswith(f"{httpd.root}/httpd.conf:")
    values = dict(place["settings"])
    assert values["S3AccessKey"] == values["S3SecretKey"] == "(set)"
    assert values["S3BucketURL"] == f"{s3.url}/{BUCKET}/"
    assert [one["path"] for one in shown["proxy", BUCKET, s3.host]["mounts"]] == [f"{url}/"]
    assert [one["path"] for one in shown["gateway", "other", "copy.example"]["mounts"]] == ["/films (S3FallbackURL)"]


def test_processes_are_listed_as_what_they_are(start: Callable[[str], Httpd], s3: EmbeddedS3) -> None:
    httpd = start(ONE_CHILD + section("/daemon", s3, "WSGIProcessGroup media"))
    httpd.fetch("/daemon/missing")  # daemons load their application at the first request
    kinds = [process["kind"] for process in status(httpd)["processes"]]
    assert kinds.count("httpd") == 1
    assert kinds.count("daemon") in {1, 2}
    old = set(httpd.children())
    httpd.reload()
    processes = status(httpd)["processes"]
    assert not old & {process["pid"] for process in processes}
    assert all(process["is_current"] for process in processes)


@pytest.mark.parametrize("path", MOUNTS)
@pytest.mark.parametrize("mode", MODES)
def test_the_flight_recorder(start: Callable[[str], Httpd], path: str, mode: str) -> None:
    """What was signed, without the token and the signature, also where S3 repeats them."""
    echo = (
        "<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code><Message>The signatures differ: &lt;b&gt; "
        f"{TOKEN}</Message><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId>"
        "<StringToSign>AWS4-HMAC-SHA256&#10;20261128T000000Z&#10;20261128/other/s3/aws4_request&#10;00</StringToSign>"
        "<SignatureProvided>{signature}</SignatureProvided>"
        f"<CanonicalRequest>GET&#10;/{BUCKET}/film.ts&#10;&#10;x-amz-security-token:{TOKEN}&#10;</CanonicalRequest></Error>"
    )
    with ScriptedS3(answer(403, echo.encode(), ("x-amz-request-id", "4442"), ("x-amz-id-2", "host"))) as s3:
        httpd = start(mount(f"{s3.url}/{BUCKET}", path, mode=mode))
        httpd.expect_error("SignatureDoesNotMatch")
        assert httpd.fetch(f"{path}/film.ts?X-Amz-Signature=1", range="bytes=0-99").status == 502
        (request,) = s3.requests
    (found,) = failures(httpd, 1)
    assert (found["error"], found["s3_code"], found["s3_status"]) == ("USPS30305", "SignatureDoesNotMatch", 403)
    assert (found["method"], found["path"], found["range"]) == ("GET", f"/{BUCKET}/film.ts", "bytes=0-99")
    assert found["request_id"] == "4442, x-amz-id-2 host"
    assert found["s3_message"] == "The signatures differ: <b> (masked)"
    assert found["s3_canonical_request"] == f"GET\n/{BUCKET}/film.ts\n\nx-amz-security-token:(masked)"
    assert found["s3_string_to_sign"].startswith("AWS4-HMAC-SHA256\n20261128T000000Z\n")
    assert found["access_key"] == "AKIA...MPLE"
    if mode.startswith("v4"):
        assert f"GET\n/{BUCKET}/film.ts\n" in found["canonical_request"]
        assert "ecurity" in found["canonical_request"] and "(masked)" in found["canonical_request"]
        assert found["string_to_sign"].startswith("AWS4-HMAC-SHA256\n")
        if mode == "v4-header":
            assert request.headers["x-amz-date"] in found["string_to_sign"]
    else:
        assert found["canonical_request"] == ""
        assert found["string_to_sign"].startswith("GET\n\n\n")
        assert found["string_to_sign"].endswith(f"x-amz-security-token:(masked)\n/{BUCKET}/film.ts")
    (attempt,) = found["attempts"]
    assert (attempt["status"], attempt["s3_code"]) == (403, "SignatureDoesNotMatch")
    detail = httpd.fetch(f"/usp-s3/status/failures/{bucket(httpd)['id']}/{found['id']}")
    assert detail.status == 200
    assert b"&lt;b&gt; (masked)" in detail.body
    for text in (json.dumps(found), detail.body.decode()):
        assert TOKEN not in text and ACCESS_KEY not in text


def test_each_attempt_is_kept(start: Callable[[str], Httpd]) -> None:
    with ScriptedS3(error(503, "SlowDown"), error(500, "InternalError"), error(503, "SlowDown")) as s3:
        config = mount(f"{s3.url}/{BUCKET}", "/embedded").replace("S3Retries 0", "S3Retries 2")
        httpd = start(ONE_CHILD + config)
        httpd.expect_error("SlowDown")
        assert httpd.fetch("/embedded/film.ts").status == 503
    (found,) = failures(httpd, 1)
    assert [(one["status"], one["s3_code"]) for one in found["attempts"]] == [
        (503, "SlowDown"), (500, "InternalError"), (503, "SlowDown"),
    ]  # fmt: skip
    assert found["attempts"][0]["connection"] == "new"
    starts = [one["started_after"] for one in found["attempts"]]
    assert starts == sorted(starts)


@pytest.mark.parametrize("path", MOUNTS)
def test_hostile_keys_and_words_are_text(start: Callable[[str], Httpd], path: str) -> None:
    document = "<Error><Code>NoSuchBucket</Code><Message>&lt;script&gt;alert(1)&lt;/script&gt;\u202e</Message></Error>"
    with ScriptedS3(then=answer(404, document.encode())) as s3:
        httpd = start(mount(f"{s3.url}/{BUCKET}", path))
        httpd.expect_error("NoSuchBucket")
        httpd.fetch(f"{path}/%3Cscript%3Ealert(1)%3C/script%3E%22%27&{'x' * 600}")
    (found,) = failures(httpd, 1)
    for page in ("/usp-s3/status", f"/usp-s3/status/failures/{bucket(httpd)['id']}/{found['id']}"):
        reply = httpd.fetch(page)
        assert b"<script>alert" not in reply.body
        assert "\u202e" not in reply.body.decode()
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert reply.headers["Cache-Control"] == "no-store"


def test_a_frequent_failure_does_not_hide_others(start: Callable[[str], Httpd]) -> None:
    with ScriptedS3(error(403, "InvalidAccessKeyId"), then=error(404, "NoSuchKey")) as s3:
        httpd = start(ONE_CHILD + mount(f"{s3.url}/{BUCKET}", "/embedded"))
        httpd.expect_error("InvalidAccessKeyId")
        httpd.fetch("/embedded/film.ts")
        begin = time.monotonic()
        while time.monotonic() - begin < 2.5:  # one of a kind is kept each second
            httpd.fetch("/embedded/missing")
    found = bucket(httpd)["failures"]
    assert {one["s3_code"] for one in found} == {"InvalidAccessKeyId", "NoSuchKey"}
    assert 3 <= len(found) <= 5
    assert found[-1]["s3_code"] == "InvalidAccessKeyId"
    assert bucket(httpd)["health"] == "degraded"


@pytest.mark.parametrize("path", MOUNTS)
def test_what_is_kept_survives_restarts_and_killed_processes(start: Callable[[str], Httpd], path: str) -> None:
    with ScriptedS3(then=error(403, "InvalidAccessKeyId")) as s3:
        httpd = start(mount(f"{s3.url}/{BUCKET}", path))
        httpd.expect_error("InvalidAccessKeyId|AH00052|AH10392|mod_wsgi")
        httpd.fetch(f"{path}/film.ts")
        (before,) = failures(httpd, 1)
        httpd.reload()
        assert failures(httpd, 1) == [before]
        for process in status(httpd)["processes"]:
            os.kill(process["pid"], signal.SIGKILL)
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            try:
                if httpd.fetch(f"{path}/film.ts").status == 502:
                    break
            except OSError:
                pass
            time.sleep(0.05)
    found = bucket(httpd)
    assert before in found["failures"]
    assert found["totals"]["exchanges"] >= 2
    assert sum(minute["exchanges"] for minute in found["minutes"]) == found["totals"]["exchanges"]


def test_the_last_hour(start: Callable[[str], Httpd], s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "a.ts", b"0123456789")
    httpd = start(section("/embedded", s3))
    for _ in range(5):
        httpd.fetch("/embedded/a.ts")
    httpd.fetch("/embedded/missing")
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 6)
    found = bucket(httpd)
    minutes = found["minutes"]
    assert len(minutes) == 60
    names = ("exchanges", "failures", "client_errors", "body_bytes")
    assert [sum(minute[name] for minute in minutes) for name in names] == [6, 0, 1, 50]
    assert all(minute["exchanges"] == 0 for minute in minutes[:-2])
    assert 0 <= time.time() - minutes[-1]["start"] < 61
    assert found["health"] == "ok"
    used = [minute["first_byte_seconds"] for minute in minutes if minute["exchanges"]]
    assert all(0 < seconds < 5 for seconds in used)


def test_ten_thousand_buckets(start: Callable[[str], Httpd], s3: EmbeddedS3) -> None:
    """All are known to the health check; the page shows those in trouble first, and says how many it omits."""
    sections = "".join(
        f"<Location /b/{number}/>\nSetEnv S3BucketURL https://s3.example/bucket-{number}/\n</Location>\n"
        for number in range(10_000)
    )
    keys = "\n".join(line for line in section("/x", s3).splitlines() if "Key" in line or "Region" in line)
    httpd = start(f"WSGIScriptAlias /b ${{USP_S3_WSGI}}\n{keys}\n{sections}")
    reply = httpd.fetch("/usp-s3/health/ready?format=json", timeout=60)
    found = json.loads(reply.body)
    assert (reply.status, found["ready"]) == (200, True)
    page = httpd.fetch("/usp-s3/status", timeout=60)
    assert page.status == 200
    assert len(page.body) < 1_500_000
    shown = json.loads(httpd.fetch("/usp-s3/status/json", timeout=60).body)
    assert len(shown["buckets"]) + shown["omitted_buckets"] == len(found["buckets"])
    assert len(found["buckets"]) in range(9_900, 10_002)


def test_other_paths_and_methods(start: Callable[[str], Httpd], s3: EmbeddedS3) -> None:
    httpd = start(section("/embedded", s3))
    for path in ("/usp-s3/status/x", "/usp-s3/status/failures/a/b", "/usp-s3/health", "/usp-s3/health/ready/unknown"):
        assert httpd.fetch(path).status == 404
    errors = httpd.fetch("/usp-s3/status/errors")
    assert b"USPS30305" in errors.body and b"SignatureDoesNotMatch" in errors.body
    for path in ("/usp-s3/status", "/usp-s3/health/live"):
        assert httpd.fetch(path, method="POST").status == 405
        assert httpd.fetch(path, method="HEAD").body == b""


def test_without_the_module_nothing_is_recorded() -> None:
    scripts = "WSGIScriptAlias /status ${USP_S3_STATUS}\nWSGIScriptAlias /health ${USP_S3_HEALTH}\n"
    with WithoutModule(scripts) as httpd:
        assert httpd.fetch("/status").status == 503
        assert httpd.fetch("/health/live").status == 200
        reply = httpd.fetch("/health/ready")
        assert (reply.status, reply.body) == (200, b"ready: the buckets are not known\n")


def test_a_closed_port_is_only_kept_once_a_second(start: Callable[[str], Httpd]) -> None:
    httpd = start(
        ONE_CHILD + mount(f"http://127.0.0.1:{free_port()}/{BUCKET}", "/embedded", "SetEnv S3ProxySet retry=0")
    )
    httpd.expect_error("USPS30402")
    for _ in range(20):
        httpd.fetch("/embedded/film.ts")
    assert 1 <= len(bucket(httpd)["failures"]) <= 4
    assert bucket(httpd)["totals"]["failures"] == 20


def test_a_failed_member_of_a_balancer(start: Callable[[str], Httpd], s3: EmbeddedS3) -> None:
    """The request succeeds, and the page says what is wrong with the member."""
    s3.put(BUCKET, "a.ts", b"0123456789")
    down = f"127.0.0.1:{free_port()}"
    members = f"BalancerMember http://{down}/{BUCKET}\nBalancerMember http://{s3.host}/{BUCKET} status=+H\n"
    sections = "".join(proxy_section(f"http://{host}/{BUCKET}/", s3) for host in (down, s3.host))
    httpd = start(f'<Proxy "balancer://b">\n{members}</Proxy>\nProxyPass /balanced balancer://b\n{sections}')
    httpd.expect_error("AH00957|AH00959|AH01114")
    assert httpd.fetch("/balanced/a.ts").body == b"0123456789"
    shown = {one["host"]: one for one in status(httpd)["buckets"]}
    assert (shown[s3.host]["health"], shown[down]["health"]) == ("ok", "failing")
    assert "Connection refused" in shown[down]["summary"]
    assert not [line for line in httpd.errors() if "usp_s3_wsgi" in line]


@pytest.mark.parametrize("way", ["gateway", "proxy"])
def test_a_key_file_that_is_gone_while_requests_succeed(
    start: Callable[[str], Httpd], s3: EmbeddedS3, way: str
) -> None:
    """Processes use the key that they have read: the server stays in service, and the page warns."""
    s3.put(BUCKET, "a.ts", b"0123456789")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        secret = Path(folder, "secret")
        secret.write_text(s3.secret_key)
        secret.chmod(0o644)
        os.utime(secret, (time.time() - 60, time.time() - 60))
        url = f"{s3.url}/{BUCKET}"
        config = section("/b", s3) if way == "gateway" else f"ProxyPass /b {url}\n" + proxy_section(f"{url}/", s3)
        httpd = start(ONE_CHILD + config.replace(f"S3SecretKey {s3.secret_key}", f"S3SecretKeyFile {secret}"))
        httpd.expect_error("USPS30604")
        assert httpd.fetch("/b/a.ts").body == b"0123456789"
        metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 1)
        secret.unlink()
        deadline = time.monotonic() + WAIT
        while (found := bucket(httpd))["health"] != "degraded":
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        assert found["readiness"]["is_ready"]
        assert found["summary"].startswith("new processes cannot sign; running ones use the credentials that they have")
        assert str(secret) in found["action"]
        assert httpd.fetch("/usp-s3/health/ready").status == 200
        assert httpd.fetch("/b/a.ts").body == b"0123456789"
