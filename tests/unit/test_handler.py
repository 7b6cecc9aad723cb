"""The steps of a request in the gateway: errors that end it before S3 is contacted, and their log lines."""

from __future__ import annotations

import os
import re
import time

import pytest

from tests.faults.server import ScriptedS3, answer
from tests.wsgi import SECRET_KEY, call, environ, s3_settings
from usp_s3_wsgi.application import application
from usp_s3_wsgi.errors import BadUpstreamResponse
from usp_s3_wsgi.gateway import client_connection, client_response

#: A bucket at a port where no server listens.
UNREACHABLE = s3_settings("http://127.0.0.1:9")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_405_has_an_allow_header(method: str) -> None:
    reply = call(environ(settings=UNREACHABLE, method=method))
    assert (reply.status, reply.headers["Allow"], reply.log) == (405, "GET, HEAD", "")
    assert reply.body == b"405 Method Not Allowed\n"


@pytest.mark.parametrize(("url", "status"), [("/media/", 404), ("/media", 404), ("/media/a/../b", 400)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_requests_that_are_rejected_before_s3_is_contacted(url: str, status: int, method: str) -> None:
    with ScriptedS3() as s3:
        reply = call(environ(url, s3_settings(s3.url), method=method))
        assert not s3.connections
    assert (reply.status, reply.log) == (status, "")
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert bool(reply.body) == (method == "GET")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"S3Expires": SECRET_KEY}, "S3Expires must be a whole number from 1 to 604800"),
        ({"S3UseHeaders": SECRET_KEY}, "S3UseHeaders must be on or off"),
        ({"S3Secretkey": SECRET_KEY}, "S3Secretkey is not a setting: did you mean S3SecretKey?"),
        ({"S3RoleARN": SECRET_KEY}, "S3RoleARN must be the ARN of a role"),
        ({"S3BucketURL": "https://s3.amazonaws.com/"}, "S3BucketURL shows no bucket"),
    ],
)
def test_an_invalid_setting_is_a_500_and_one_log_line(changes: dict[str, str], message: str) -> None:
    reply = call(environ(settings={**UNREACHABLE, **changes}))
    assert (reply.status, reply.body) == (500, b"500 Internal Server Error\n")
    assert reply.log.startswith("USPS30101: usp_s3_wsgi: /media: ") and reply.log.count("\n") == 1
    assert message in reply.log
    assert SECRET_KEY not in reply.log


def test_no_settings_at_all() -> None:
    reply = call(environ(settings={}))
    assert reply.status == 500
    assert "S3BucketURL is not set" in reply.log


def test_settings_are_checked_before_the_request() -> None:
    # A health check that requests the bucket itself must not succeed with invalid settings.
    assert call(environ("/media/", {**UNREACHABLE, "S3Expires": "x"})).status == 500


def test_the_log_names_the_object_without_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)  # on a busy machine the attempt takes longer
    reply = call(environ("/media/a%20b?secret=1", s3_settings("http://127.0.0.1:9", "v4-query")))
    assert reply.log.count("\n") == 1
    assert "(GET http://127.0.0.1:9/bucket/a%20b, attempt 1, 0.000 s)" in reply.log
    assert "secret=1" not in reply.log and "X-Amz" not in reply.log


@pytest.mark.parametrize("mount", ["/a\nforged: line", "/\x1b[31mred", "/caf\xc3\xa9", "/nul\x7f"])
def test_no_request_can_forge_a_log_line(mount: str) -> None:
    # In a subrequest SCRIPT_NAME is the whole URL, decoded.
    reply = call({**environ(settings=UNREACHABLE), "SCRIPT_NAME": mount})
    assert re.fullmatch(r"[ -~]+\n", reply.log)


def test_the_root_mount_is_a_slash_in_the_log() -> None:
    reply = call(environ("/film.mp4", UNREACHABLE, mount=""))
    assert reply.log.startswith("USPS30402: usp_s3_wsgi: /: ")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unexpected_exception(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*arguments: object) -> None:
        raise ZeroDivisionError("a message that may hold a key")

    monkeypatch.setattr(client_response, "object_headers", explode)
    with ScriptedS3(answer(200, b"hello" if method == "GET" else b"", length=5)) as s3:
        reply = call(environ(settings=s3_settings(s3.url), method=method))
    assert reply.status == 500
    assert reply.body == (b"500 Internal Server Error\n" if method == "GET" else b"")
    assert re.fullmatch(
        r"USPS30001: usp_s3_wsgi: /media: internal error: ZeroDivisionError in explode, .+/test_handler\.py:\d+\n",
        reply.log,
    )


def test_an_unexpected_exception_releases_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedS3(answer(200, b"hello"), answer(200, b"next")) as s3:
        settings = s3_settings(s3.url, S3ProxySet="max=1 acquire=1")
        with monkeypatch.context() as patched:
            patched.setattr(client_response, "object_headers", lambda *arguments: 1 // 0)
            assert call(environ(settings=settings)).status == 500
        assert call(environ(settings=settings)).body == b"next"


def test_a_rejected_response_releases_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*arguments: object) -> None:
        raise BadUpstreamResponse("no")

    with ScriptedS3(answer(200, b"hello"), answer(200, b"next")) as s3:
        settings = s3_settings(s3.url, S3ProxySet="max=1 acquire=1")
        with monkeypatch.context() as patched:
            patched.setattr(client_response, "forwarded_headers", reject)
            assert call(environ(settings=settings)).status == 502
        assert call(environ(settings=settings)).body == b"next"


def test_each_request_uses_its_own_settings() -> None:
    with ScriptedS3(answer(200, b"one")) as one, ScriptedS3(answer(200, b"two")) as two:
        assert call(environ(settings=s3_settings(one.url))).body == b"one"
        assert call(environ(settings=s3_settings(two.url))).body == b"two"


def test_the_connection_of_another_client_is_not_reset() -> None:
    connection = {"mod_wsgi.process_group": "", "REMOTE_PORT": "1", "SERVER_ADDR": "127.0.0.1", "SERVER_PORT": "80"}
    assert not client_connection.reset(connection)
    assert not client_connection.reset({**connection, "mod_wsgi.process_group": "daemons"})
    assert not client_connection.reset({})


def test_the_search_for_the_clients_connection_leaves_no_file_open() -> None:
    connection = {"mod_wsgi.process_group": "", "REMOTE_PORT": "1", "SERVER_ADDR": "127.0.0.1", "SERVER_PORT": "80"}
    before = os.listdir("/proc/self/fd")
    assert not client_connection.reset(connection)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_mod_wsgi_finds_the_application() -> None:
    assert callable(application)
