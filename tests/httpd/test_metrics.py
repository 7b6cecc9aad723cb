"""``UspS3Metrics``: the access log and the metrics of real requests, both ways in, with a real S3 and its faults."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.faults.server import ScriptedS3, answer, error
from tests.httpd import metrics
from tests.httpd.conftest import BUCKET, PAGES, proxy_section, section
from tests.httpd.machine import free_port
from tests.httpd.server import WAIT, Httpd, WithoutModule
from tests.leaks import SECRET_KEY
from tests.s3 import EmbeddedS3

DATA = b"0123456789" * 100
#: The mount, and the value of the label "way".
MOUNTS = {"/embedded": "gateway", "/daemon": "gateway", "/proxied": "proxy"}
TEXT = re.compile(
    r"s3_way=(\S+) s3_bucket=(\S+) s3_host=(\S+) s3_status=(\S+) s3_code=(\S+) s3_error=(\S+) s3_exchanges=(\S+) "
    r's3_attempts=(\S+) .* s3_request_id="([^"]*)"$'
)


def mounts(s3: EmbeddedS3, **names: str) -> str:
    """The configuration of the three mounts; ``names``: a text in it, and what it is replaced with."""
    url = f"{s3.url}/{BUCKET}"
    text = (
        section("/embedded", s3)
        + section("/daemon", s3, "WSGIProcessGroup media")
        + f"ProxyPass /proxied {url}\n"
        + proxy_section(f"{url}/", s3)
    )
    for old, new in names.items():
        text = text.replace(getattr(s3, old), new)
    return text


@pytest.fixture
def start(checked: list[Httpd]) -> Callable[[str], Httpd]:
    """Starts an httpd that records."""
    return metrics.starter(checked)


@pytest.fixture
def httpd(start: Callable[[str], Httpd], s3: EmbeddedS3) -> Httpd:
    s3.put(BUCKET, "a.ts", DATA)
    return start(mounts(s3) + PAGES + '<Directory "${ROOT}/htdocs">\nAllowOverride FileInfo\n</Directory>\n')


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_request(httpd: Httpd, s3: EmbeddedS3, mount: str) -> None:
    assert httpd.fetch(f"{mount}/a.ts", user_agent="test").body == DATA
    (line,) = metrics.log_lines(httpd, 1)
    assert line["s3_request_id"].startswith("tx")
    assert 0 < line["s3_first_byte_us"] <= line["s3_duration_us"] < line["duration_us"]
    expected = {
        "request": f"GET {mount}/a.ts HTTP/1.1", "uri": f"{mount}/a.ts", "status": 200,
        "user_agent": "test", "referer": None,
        "s3_way": MOUNTS[mount], "s3_bucket": BUCKET, "s3_host": s3.host,
        "s3_status": 200, "s3_code": None, "s3_error": None,
        "s3_exchanges": 1, "s3_attempts": 1, "s3_resumes": 0, "s3_corrections": 0, "s3_fallbacks": 0,
        "s3_bytes": len(DATA), "s3_connection": "new",
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected
    labels = {"way": MOUNTS[mount], "bucket": BUCKET, "host": s3.host}
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 1, {**labels, "status": "2xx", "s3_code": "", "error": ""})
    samples = metrics.scrape(httpd)
    key = frozenset(labels.items())
    assert samples["usp_s3_attempts_total"] == {key: 1}
    assert samples["usp_s3_body_bytes_total"] == {key: len(DATA)}
    assert samples["usp_s3_exchange_duration_seconds_count"] == samples["usp_s3_first_byte_seconds_count"] == {key: 1}
    assert samples["usp_s3_exchange_duration_seconds_sum"][key] == pytest.approx(line["s3_duration_us"] / 1e6)
    assert samples["usp_s3_exchange_duration_seconds_bucket"][key | {("le", "+Inf")}] == 1
    assert samples["usp_s3_gateway_requests"] == {frozenset(): 0}


@pytest.mark.parametrize("mount", MOUNTS)
def test_responses_without_a_body(httpd: Httpd, mount: str) -> None:
    etag = httpd.fetch(f"{mount}/a.ts").headers["ETag"]
    assert httpd.fetch(f"{mount}/a.ts", method="HEAD").status == 200
    assert httpd.fetch(f"{mount}/a.ts", if_none_match=etag).status == 304
    assert httpd.fetch(f"{mount}/a.ts", range="bytes=5000-").status == 416
    assert httpd.fetch(f"{mount}/a.ts", range="bytes=0-9").status == 206
    lines = metrics.log_lines(httpd, 5)
    assert [(line["s3_status"], line["s3_bytes"]) for line in lines] == [
        (200, len(DATA)), (200, 0), (304, 0), (416, 0), (206, 10),
    ]  # fmt: skip
    assert all(line["s3_error"] is None and line["s3_exchanges"] == 1 for line in lines)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_missing_object(httpd: Httpd, mount: str) -> None:
    assert httpd.fetch(f"{mount}/missing").status == 404
    (line,) = metrics.log_lines(httpd, 1)
    assert (line["s3_status"], line["s3_code"], line["s3_error"]) == (404, "NoSuchKey", "USPS30302")
    labels = {"status": "4xx", "s3_code": "NoSuchKey", "error": "USPS30302", "way": MOUNTS[mount]}
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 1, labels)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_rejected_key(start: Callable[[str], Httpd], s3: EmbeddedS3, mount: str) -> None:
    httpd = start(mounts(s3, secret_key="wrong"))
    assert httpd.fetch(f"{mount}/a.ts").status == 502
    httpd.wait_for_error("SignatureDoesNotMatch")
    (line,) = metrics.log_lines(httpd, 1)
    assert (line["s3_status"], line["s3_code"], line["s3_error"]) == (403, "SignatureDoesNotMatch", "USPS30305")
    text = TEXT.search((httpd.root / "text.log").read_text().strip())
    assert text
    assert text.groups() == (
        MOUNTS[mount], BUCKET, s3.host, "403", "SignatureDoesNotMatch", "USPS30305", "1", "1", line["s3_request_id"],
    )  # fmt: skip
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 1, {"s3_code": "SignatureDoesNotMatch"})


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_closed_port(start: Callable[[str], Httpd], s3: EmbeddedS3, mount: str) -> None:
    host = f"127.0.0.1:{free_port()}"
    httpd = start(mounts(s3, host=host))
    httpd.expect_error("Connection refused|AH00957|AH01114|no response from S3")
    assert httpd.fetch(f"{mount}/a.ts").status in {502, 503}
    (line,) = metrics.log_lines(httpd, 1)
    assert (line["s3_host"], line["s3_status"]) == (host, None)
    assert line["s3_error"] == ("USPS30408" if MOUNTS[mount] == "proxy" else "USPS30402")
    assert line["s3_first_byte_us"] is None
    assert line["s3_attempts"] >= 1
    labels = {"status": "none", "error": line["s3_error"], "host": host}
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 1, labels)
    assert not metrics.total(httpd, "usp_s3_first_byte_seconds_count")


@pytest.mark.parametrize("mount", MOUNTS)
def test_an_unreadable_secret(start: Callable[[str], Httpd], s3: EmbeddedS3, mount: str) -> None:
    config = re.sub(r"SetEnv S3SecretKey \S+", "SetEnv S3SecretKeyFile /nonexistent/secret", mounts(s3))
    httpd = start(config)
    httpd.expect_error("S3SecretKeyFile: ")
    assert httpd.fetch(f"{mount}/a.ts").status == 500
    (line,) = metrics.log_lines(httpd, 1)
    assert (line["s3_bucket"], line["s3_error"], line["s3_status"]) == (BUCKET, "USPS30101", None)
    assert line["s3_attempts"] == 0
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 1, {"bucket": BUCKET, "error": "USPS30101"})


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_subrequests_of_a_page_count_for_it(httpd: Httpd, s3: EmbeddedS3, mount: str) -> None:
    s3.put(BUCKET, "b.ts", DATA * 2)
    names = ["a.ts", "b.ts", "missing", "a.ts"]
    includes = "".join(f'<!--#include virtual="{mount}/{name}" -->' for name in names)
    (httpd.root / "htdocs" / "page").write_text(includes)
    httpd.expect_error("AH01381|unable to include")
    assert httpd.fetch("/page").status == 200
    (line,) = metrics.log_lines(httpd, 1)
    assert (line["uri"], line["s3_exchanges"], line["s3_attempts"], line["s3_bytes"]) == ("/page", 4, 4, 4 * len(DATA))
    # Of the exchange that failed, though others succeeded after it.
    assert (line["s3_way"], line["s3_status"], line["s3_error"]) == (MOUNTS[mount], 404, "USPS30302")
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 4)


def scripted(s3: ScriptedS3, mount: str, *lines: str) -> str:
    """The configuration of a mount for a scripted S3."""
    keys = f"SetEnv S3AccessKey A\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r\nSetEnv S3UseHeaders on\n"
    body = keys + "\n".join(lines)
    if MOUNTS[mount] == "proxy":
        return f'ProxyPass {mount} {s3.url}/bucket\n<Proxy "{s3.url}/bucket/">\n{body}\n</Proxy>\n'
    body += "\nWSGIProcessGroup media" if mount == "/daemon" else ""
    return (
        f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}}\n<Location {mount}>\nSetEnv S3BucketURL {s3.url}/bucket/\n{body}\n"
        "</Location>\n"
    )


GATEWAY_MOUNTS = [mount for mount, way in MOUNTS.items() if way == "gateway"]


@pytest.mark.parametrize("mount", GATEWAY_MOUNTS)
def test_retries_and_resumes(start: Callable[[str], Httpd], mount: str) -> None:
    etag, half = ("ETag", '"1"'), len(DATA) // 2

    def broken_off(connection: Any, request: Any) -> None:
        connection.send(answer(200, DATA, etag)[:-half])
        connection.close()

    rest = answer(206, DATA[-half:], etag, ("Content-Range", f"bytes {half}-{len(DATA) - 1}/{len(DATA)}"))
    with ScriptedS3(error(503, "SlowDown"), broken_off, rest) as s3:
        httpd = start(scripted(s3, mount))
        assert httpd.fetch(f"{mount}/a.ts").body == DATA
    httpd.expect_error("SlowDown|truncated")
    (line,) = metrics.log_lines(httpd, 1)
    assert (line["s3_attempts"], line["s3_resumes"], line["s3_bytes"]) == (3, 1, len(DATA))
    assert (line["s3_error"], line["s3_status"], line["s3_code"]) == (None, 206, None)
    metrics.wait_for_total(httpd, "usp_s3_attempts_total", 3)
    assert metrics.total(httpd, "usp_s3_resumes_total") == 1


def test_a_failed_member_of_a_balancer(start: Callable[[str], Httpd], s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    down, up = f"127.0.0.1:{free_port()}", s3.host
    members = "".join(
        f"BalancerMember http://{host}/{BUCKET} {more}\n" for host, more in ((down, ""), (up, "status=+H"))
    )
    httpd = start(
        f'<Proxy "balancer://b">\n{members}</Proxy>\nProxyPass /balanced balancer://b\n'
        + "".join(proxy_section(f"http://{host}/{BUCKET}/", s3) for host in (down, up))
    )
    httpd.expect_error("AH00957|AH00959|AH01114|no response from S3")
    assert httpd.fetch("/balanced/a.ts").body == DATA
    (line,) = metrics.log_lines(httpd, 1)
    assert (line["s3_exchanges"], line["s3_attempts"], line["s3_bytes"]) == (2, 2, len(DATA))
    assert (line["s3_host"], line["s3_status"], line["s3_error"]) == (down, None, "USPS30408")
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 1, {"host": up, "status": "2xx", "error": ""})
    assert metrics.total(httpd, "usp_s3_exchanges_total", {"host": down, "status": "none", "error": "USPS30408"}) == 1


def test_an_htaccess_file_cannot_set_the_fields(httpd: Httpd) -> None:
    """mod_headers can write notes: they must not pass for ours, also on a page that is in no bucket."""
    (httpd.root / "htdocs" / "page.txt").write_text("x")
    forged = "films s3_status=403 s3_error=USPS30305"
    lines = f'Header set X "{forged}"\nHeader note X usp_s3_bucket\nHeader note X usp_s3_code\n'
    (httpd.root / "htdocs" / ".htaccess").write_text(lines)
    assert httpd.fetch("/page.txt").headers["X"] == forged
    deadline = time.monotonic() + WAIT
    while not (text := (httpd.root / "text.log").read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "USPS30305" not in text and " s3_bucket=- " in text


@pytest.mark.parametrize("mount", GATEWAY_MOUNTS)
def test_a_fallback_bucket(start: Callable[[str], Httpd], s3: EmbeddedS3, mount: str) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    with ScriptedS3(error(500, "InternalError")) as primary:
        fallback = [
            f"SetEnv S3FallbackURL {s3.url}/{BUCKET}/", f"SetEnv S3FallbackAccessKey {s3.access_key}",
            f"SetEnv S3FallbackSecretKey {s3.secret_key}", f"SetEnv S3FallbackRegion {s3.region}", "SetEnv S3Retries 0",
        ]  # fmt: skip
        httpd = start(scripted(primary, mount, *fallback))
        assert httpd.fetch(f"{mount}/a.ts").body == DATA
    httpd.expect_error("using S3FallbackURL")
    (line,) = metrics.log_lines(httpd, 1)
    assert (line["s3_exchanges"], line["s3_fallbacks"], line["s3_bytes"]) == (2, 1, len(DATA))
    assert (line["s3_bucket"], line["s3_status"], line["s3_error"]) == (
        "bucket",
        500,
        "USPS30405",
    )  # the one that failed
    metrics.wait_for_total(httpd, "usp_s3_fallbacks_total", 1, {"bucket": BUCKET})
    assert metrics.total(httpd, "usp_s3_exchanges_total", {"bucket": "bucket", "s3_code": "InternalError"}) == 1


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_truncated_body(start: Callable[[str], Httpd], mount: str) -> None:
    cut = answer(200, DATA)[:-10]

    def broken_off(connection: Any, request: Any) -> None:
        connection.send(cut)
        connection.close()

    with ScriptedS3(broken_off) as s3:
        httpd = start(scripted(s3, mount, *(["SetEnv S3Retries 0"] if MOUNTS[mount] == "gateway" else [])))
        httpd.expect_error("truncated|AH01102|AH01110|AH10260")
        with suppress(OSError, Exception):
            httpd.fetch(f"{mount}/a.ts")
    (line,) = metrics.log_lines(httpd, 1)
    assert line["s3_error"] in {"USPS30501", "USPS30502"}
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 1, {"status": "2xx", "error": line["s3_error"]})


HOSTILE = 'he"llo\\ {"s3_error": 1}\t\xe9<script>'


@pytest.mark.parametrize("mount", MOUNTS)
def test_hostile_values_in_the_log(httpd: Httpd, mount: str) -> None:
    target = f"{mount}/%22%7d%0a%5c%e2%82%ac"
    assert httpd.fetch(target, user_agent=HOSTILE, referer=HOSTILE).status == 404
    (line,) = metrics.log_lines(httpd, 1)
    assert (line["user_agent"], line["referer"]) == (HOSTILE, HOSTILE)
    assert line["uri"] == f'{mount}/"}}\n\\' + "\u20ac".encode().decode("latin-1")
    assert line["s3_error"] == "USPS30302"
    for name in ("json.log", "text.log"):
        assert len((httpd.root / name).read_text("ascii").splitlines()) == 1


@pytest.mark.parametrize("mount", MOUNTS)
def test_codes_that_s3_makes_up_are_limited(start: Callable[[str], Httpd], mount: str) -> None:
    numbers = iter(range(1_000))

    def made_up(connection: Any, request: Any) -> None:
        connection.send(error(400, f"Code{next(numbers)}"))

    with ScriptedS3(then=made_up) as s3:
        httpd = start(scripted(s3, mount) + "LogLevel crit")
        for _ in range(50):
            httpd.fetch(f"{mount}/a.ts")
        metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 50)
    samples = metrics.scrape(httpd)["usp_s3_exchanges_total"]
    assert len(samples) == 25
    others = {labels: value for labels, value in samples.items() if ("s3_code", "(other)") in labels}
    assert list(others.values()) == [26]
    assert all({("status", "4xx"), ("error", "USPS30305")} <= labels for labels in others)


def test_300_buckets(start: Callable[[str], Httpd]) -> None:
    with ScriptedS3(then=answer(200, b"x")) as s3:
        keys = f"SetEnv S3AccessKey A\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r\n"
        sections = "".join(
            f"WSGIScriptAlias /m{number} ${{USP_S3_WSGI}}\n<Location /m{number}>\n"
            f"SetEnv S3BucketURL {s3.url}/bucket{number}/\n{keys}</Location>\n"
            for number in range(300)
        )
        httpd = start(sections)
        for number in range(300):
            assert httpd.fetch(f"/m{number}/a").body == b"x"
        metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 300)
    samples = metrics.scrape(httpd)["usp_s3_exchanges_total"]
    assert len(samples) == 257
    assert [value for labels, value in samples.items() if ("bucket", "(other)") in labels] == [44]


def test_metrics_survive_a_graceful_restart(httpd: Httpd) -> None:
    for mount in MOUNTS:
        assert httpd.fetch(f"{mount}/a.ts").status == 200
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 3)
    httpd.reload()
    for mount in MOUNTS:
        assert httpd.fetch(f"{mount}/a.ts").status == 200
    metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 6)


@pytest.mark.parametrize("mount", ["/embedded", "/proxied"])  # mod_wsgi ends its daemons at a restart
def test_a_request_that_ends_after_a_graceful_restart(start: Callable[[str], Httpd], mount: str) -> None:
    def slow(connection: Any, request: Any) -> None:
        connection.send(answer(200, DATA)[:-10])
        connection.wait()
        connection.send(DATA[-10:])

    with ScriptedS3(slow) as s3:
        httpd = start(scripted(s3, mount))
        with socket.create_connection(("127.0.0.1", httpd.port), timeout=WAIT) as client:
            client.sendall(f"GET {mount}/a.ts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            received = client.recv(65_536)
            httpd.begin_reload()
            time.sleep(0.5)  # the new children start
            s3.release()
            while data := client.recv(65_536):
                received += data
        assert received.endswith(DATA)
        metrics.wait_for_total(httpd, "usp_s3_body_bytes_total", len(DATA))


@pytest.mark.parametrize("victim", ["child", "daemon"])
def test_a_killed_process_leaves_no_request(start: Callable[[str], Httpd], victim: str) -> None:
    """Its place in shared memory is used again, whether the child of httpd or mod_wsgi's daemon is killed."""
    mount = "/embedded" if victim == "child" else "/daemon"

    def never(connection: Any, request: Any) -> None:
        connection.send(answer(200, DATA)[:-10])
        connection.wait()

    with ScriptedS3(never) as s3:
        httpd = start(scripted(s3, mount, "WSGIProcessGroup media" if victim == "daemon" else ""))
        httpd.expect_error("AH00051|AH00052|AH10392|exit signal|Truncated or oversized|truncated|daemon")
        with socket.create_connection(("127.0.0.1", httpd.port), timeout=WAIT) as client:
            client.sendall(f"GET {mount}/a.ts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            client.recv(65_536)
            assert metrics.total(httpd, "usp_s3_gateway_requests") == 1
            for child in httpd.children():
                os.kill(child, signal.SIGKILL)
        s3.release()
        deadline = time.monotonic() + 2 * WAIT
        while True:
            with suppress(OSError):
                if metrics.total(httpd, "usp_s3_gateway_requests") == 0:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_without_the_directive_nothing_is_recorded(checked: list[Httpd], s3: EmbeddedS3) -> None:
    httpd = Httpd(metrics.CONFIG.replace("UspS3Metrics On", "") + metrics.DAEMON + mounts(s3))
    httpd.start()
    checked.append(httpd)
    for mount in MOUNTS:
        assert httpd.fetch(f"{mount}/a.ts").status == 200
    lines = metrics.log_lines(httpd, 3)
    assert {value for line in lines for name, value in line.items() if name.startswith("s3_")} == {None}
    reply = httpd.fetch("/usp-s3/metrics")
    assert (reply.status, reply.body.decode()) == (
        503,
        "Nothing is recorded: httpd has not loaded usp_s3_module, or UspS3Metrics is not On.\n",
    )


@pytest.mark.parametrize("where", ["<VirtualHost *:1>\n{}\n</VirtualHost>", "<Directory />\n{}\n</Directory>"])
def test_the_directive_belongs_to_the_whole_server(where: str) -> None:
    checked = Httpd(where.format("UspS3Metrics On")).configtest()
    assert checked.returncode == 1
    assert "UspS3Metrics not allowed" in checked.stdout or "UspS3Metrics cannot occur within" in checked.stdout


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_the_format_follows_the_accept_header(httpd: Httpd, accept: str) -> None:
    reply = httpd.fetch("/usp-s3/metrics", accept=accept)
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith(accept.partition(";")[0])
    assert reply.body.endswith(b"# EOF\n") == accept.startswith("application/")


def test_no_secret_and_no_key_is_in_the_metrics(httpd: Httpd, s3: EmbeddedS3) -> None:
    for mount in MOUNTS:
        httpd.fetch(f"{mount}/a.ts?token=hidden")
    text = httpd.fetch("/usp-s3/metrics").body.decode()
    for secret in (s3.secret_key, s3.access_key, "a.ts", "hidden", "Signature"):
        assert secret not in text


def test_without_the_module_the_script_says_so() -> None:
    with WithoutModule("WSGIScriptAlias /usp-s3/metrics ${USP_S3_METRICS}") as httpd:
        reply = httpd.fetch("/usp-s3/metrics")
    assert (reply.status, reply.body[:49]) == (503, b"Nothing is recorded: httpd has not loaded usp_s3_")
