"""The access log of a real httpd arrives at a log server, through a real rsyslog with the file that operators copy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd import metrics
from tests.httpd.conftest import section
from tests.httpd.server import Httpd
from tests.monitoring.programs import NEEDS_RSYSLOG
from tests.monitoring.rsyslog import WAIT, LogServer, Rsyslog
from tests.s3 import EmbeddedS3

pytestmark = NEEDS_RSYSLOG

HOSTILE = 'he"llo\\ {"s3_error": 1}\t\xe9<script>\', $!x %msg%'


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    with EmbeddedS3() as s3:
        s3.put("private", "a.ts", b"0123456789")
        with Httpd(metrics.CONFIG + section("/media", s3)) as server:
            yield server


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    with LogServer() as server, Rsyslog(tmp_path / "access.json", server.port) as rsyslog:
        checked = rsyslog.check()
    assert checked.returncode == 0, checked.stdout
    assert len(checked.stdout.splitlines()) == 2, checked.stdout  # the version, and the end


def test_each_request_arrives_with_each_of_its_fields(httpd: Httpd) -> None:
    with LogServer() as server, Rsyslog(httpd.root / "json.log", server.port):
        assert httpd.fetch("/media/a.ts").status == 200
        assert httpd.fetch("/media/%22%7d%0a%5c%e2%82%ac", user_agent=HOSTILE, referer=HOSTILE).status == 404
        assert httpd.fetch("/media/x", user_agent="\xe9" * 8000, referer='\\"' * 4000).status == 404
        sent = metrics.log_lines(httpd, 3)
        arrived = server.objects(3)
    assert [{name: value for name, value in each.items() if name != "server"} for each in arrived] == sent
    assert all(each["server"] for each in arrived)
    assert (sent[1]["user_agent"], sent[1]["s3_error"], sent[0]["s3_error"]) == (HOSTILE, "USPS30302", None)
    assert len(sent[2]["user_agent"]) == 8000


def test_lines_that_are_not_json_are_kept_apart(tmp_path: Path) -> None:
    log = tmp_path / "access.json"
    log.write_text('{"a":1}\nGET / HTTP/1.1\n{"a":2} {"a":3}\n{"a":4}\n')
    with LogServer() as server, Rsyslog(log, server.port) as rsyslog:
        assert [each["a"] for each in server.objects(2)] == [1, 4]
        deadline = time.monotonic() + WAIT
        while not rsyslog.invalid.exists() or rsyslog.invalid.read_text().count("\n") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert rsyslog.invalid.read_text() == 'GET / HTTP/1.1\n{"a":2} {"a":3}\n'


def test_a_restart_sends_nothing_twice(tmp_path: Path) -> None:
    log = tmp_path / "access.json"
    log.write_text('{"a":1}\n')
    with LogServer() as server, Rsyslog(log, server.port) as rsyslog:
        server.objects(1)
        rsyslog.stop()
        with log.open("a") as file:
            file.write('{"a":2}\n')
        rsyslog.start()
        assert [each["a"] for each in server.objects(2)] == [1, 2]


def test_a_log_that_is_rotated_is_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "access.json"
    log.write_text('{"a":1}\n')
    with LogServer() as server, Rsyslog(log, server.port):
        server.objects(1)
        log.rename(tmp_path / "access.json.1")
        with (tmp_path / "access.json.1").open("a") as file:  # httpd writes there until it is reloaded
            file.write('{"a":2}\n')
        server.objects(2)
        log.write_text('{"a":3}\n')
        assert [each["a"] for each in server.objects(3)] == [1, 2, 3]


def test_lines_wait_for_a_log_server_that_is_away(tmp_path: Path) -> None:
    log = tmp_path / "access.json"
    log.write_text('{"a":1}\n')
    server = LogServer()
    server.start()
    with Rsyslog(log, server.port):
        server.objects(1)
        server.stop()
        lines = "".join(f'{{"a":{number}}}\n' for number in range(2, 500))
        with log.open("a") as file:
            file.write(lines)
        time.sleep(1)
        server.start()
        # The first lines may be missing: TCP does not tell that what was sent to a closed connection is lost.
        deadline = time.monotonic() + WAIT
        while b'"a":499' not in server.received.replace(b" ", b""):
            assert time.monotonic() < deadline, server.received[-500:]
            time.sleep(0.05)
        numbers = [each["a"] for each in server.objects(1)]
        assert len(numbers) > 400 and numbers == sorted(numbers)
    server.stop()
