"""The order of the steps, and what ends each: answers that need no S3, and lines in the error log."""

from __future__ import annotations

import re
import time

import pytest

from tests.faults.server import ScriptedS3, answer
from tests.wsgi import SECRET_KEY, call, environ, s3_settings
from usp_s3_wsgi.application import application
from usp_s3_wsgi.errors import BadUpstreamResponse
from usp_s3_wsgi.gateway import client_connection, client_response

NOWHERE = s3_settings("http://127.0.0.1:9")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_405_names_what_is_allowed(method: str) -> None:
    reply = call(environ(settings=NOWHERE, method=method))
    assert (reply.status, reply.headers["Allow"], reply.log) == (405, "GET, HEAD", "")
    assert reply.body == b"405 Method Not Allowed\n"


@pytest.mark.parametrize(("url", "status"), [("/media/", 404), ("/media", 404), ("/media/a/../b", 400)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_never_reaches_s3(url: str, status: int, method: str) -> None:
    with ScriptedS3() as s3:
        reply = call(environ(url, s3_settings(s3.url), method=method))
        assert not s3.connections
    assert (reply.status, reply.log) == (status, "")
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert bool(reply.body) == (method == "GET")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"S3Expires": SECRET_KEY}, "S3Expires must be a whole number from 1 to 604800"),
        ({"S3UseHeaders": SECRET_KEY}, "S3UseHeaders must be on or off"),
        ({"S3Secretkey": SECRET_KEY}, "S3Secretkey is not a setting: did you mean S3SecretKey?"),
        ({"S3RoleARN": SECRET_KEY}, "S3RoleARN must be the ARN of a role"),
        ({"S3BucketURL": "https://s3.amazonaws.com/"}, "S3BucketURL shows no bucket"),
    ],
)
def test_a_bad_setting_is_a_500_and_one_line(changes: dict[str, str], named: str) -> None:
    reply = call(environ(settings={**NOWHERE, **changes}))
    assert (reply.status, reply.body) == (500, b"500 Internal Server Error\n")
    assert reply.log.startswith("USPS30101: usp_s3_wsgi: /media: ") and reply.log.count("\n") == 1
    assert named in reply.log
    assert SECRET_KEY not in reply.log


def test_no_settings_at_all() -> None:
    reply = call(environ(settings={}))
    assert reply.status == 500
    assert "S3BucketURL is not set" in reply.log


def test_settings_come_before_the_request() -> None:
    # A broken section must not look healthy to a check that asks for the bucket itself.
    assert call(environ("/media/", {**NOWHERE, "S3Expires": "x"})).status == 500


def test_the_log_names_the_object_without_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)  # a busy machine takes long to refuse a connection
    reply = call(environ("/media/a%20b?secret=1", s3_settings("http://127.0.0.1:9", "v4-query")))
    assert reply.log.count("\n") == 1
    assert "(GET http://127.0.0.1:9/bucket/a%20b, attempt 1, 0.000 s)" in reply.log
    assert "secret=1" not in reply.log and "X-Amz" not in reply.log


@pytest.mark.parametrize("mount", ["/a\nforged: line", "/\x1b[31mred", "/caf\xc3\xa9", "/nul\x7f"])
def test_no_request_can_forge_a_line_of_the_error_log(mount: str) -> None:
    # In a subrequest SCRIPT_NAME is the whole URL, decoded.
    reply = call({**environ(settings=NOWHERE), "SCRIPT_NAME": mount})
    assert re.fullmatch(r"[ -~]+\n", reply.log)


def test_the_root_mount_has_a_name_in_the_log() -> None:
    reply = call(environ("/film.mp4", NOWHERE, mount=""))
    assert reply.log.startswith("USPS30402: usp_s3_wsgi: /: ")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unexpected_exception(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*given: object) -> None:
        raise ZeroDivisionError("words that may hold a key")

    monkeypatch.setattr(client_response, "object_headers", explode)
    with ScriptedS3(answer(200, b"hello" if method == "GET" else b"", length=5)) as s3:
        reply = call(environ(settings=s3_settings(s3.url), method=method))
    assert reply.status == 500
    assert reply.body == (b"500 Internal Server Error\n" if method == "GET" else b"")
    assert re.fullmatch(
        r"USPS30001: usp_s3_wsgi: /media: internal error: ZeroDivisionError in explode, .+/test_handler\.py:\d+\n",
        reply.log,
    )


def test_an_unexpected_exception_uses_up_no_connection_of_max(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedS3(answer(200, b"hello"), answer(200, b"next")) as s3:
        settings = s3_settings(s3.url, S3ProxySet="max=1 acquire=1")
        with monkeypatch.context() as patched:
            patched.setattr(client_response, "object_headers", lambda *given: 1 // 0)
            assert call(environ(settings=settings)).status == 500
        assert call(environ(settings=settings)).body == b"next"


def test_an_answer_that_is_refused_late_uses_up_no_connection_of_max(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise BadUpstreamResponse("no")

    with ScriptedS3(answer(200, b"hello"), answer(200, b"next")) as s3:
        settings = s3_settings(s3.url, S3ProxySet="max=1 acquire=1")
        with monkeypatch.context() as patched:
            patched.setattr(client_response, "forwarded_headers", refuse)
            assert call(environ(settings=settings)).status == 502
        assert call(environ(settings=settings)).body == b"next"


def test_each_request_reads_its_own_section() -> None:
    with ScriptedS3(answer(200, b"one")) as one, ScriptedS3(answer(200, b"two")) as two:
        assert call(environ(settings=s3_settings(one.url))).body == b"one"
        assert call(environ(settings=s3_settings(two.url))).body == b"two"


def test_the_client_of_another_connection_is_left_alone() -> None:
    place = {"mod_wsgi.process_group": "", "REMOTE_PORT": "1", "SERVER_ADDR": "127.0.0.1", "SERVER_PORT": "80"}
    assert not client_connection.reset(place)
    assert not client_connection.reset({**place, "mod_wsgi.process_group": "daemons"})
    assert not client_connection.reset({})


def test_a_search_for_the_client_leaves_no_file_open() -> None:
    place = {"mod_wsgi.process_group": "", "REMOTE_PORT": "1", "SERVER_ADDR": "127.0.0.1", "SERVER_PORT": "80"}
    before = client_connection._open_fds()
    assert not client_connection.reset(place)
    assert len(client_connection._open_fds()) == len(before)


def test_what_apache_loads() -> None:
    assert callable(application)
