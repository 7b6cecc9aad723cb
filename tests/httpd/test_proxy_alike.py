"""``<Proxy>``: requests of one second, of which Python signs the first and ``signing_template.c`` the next ones."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

import pytest

from tests.httpd.conftest import BUCKET, MODES, ONE_CHILD, proxy_section
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

#: Answers how often Python has signed since it was asked for the first time.
COUNTER = """
from usp_s3_wsgi.proxy import callbacks

signed = []
sign = callbacks.sign

def count(*given):
    signed.append(1)
    return sign(*given)

callbacks.sign = count

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % len(signed)]
"""
PLAIN = [f"film-{number}/a_b~c.{number}.m4s" for number in range(60)]
#: What Python has to judge, or to encode.
OTHERS = ["seg ment/1+2.m4s", "a//b", "ü.m4s", ".hidden/x", "a/..x", "end/"]
ANOTHER = "another-bucket"


@pytest.fixture(scope="module")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=(BUCKET, ANOTHER)) as server:
        yield server


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    lines = [
        ONE_CHILD,
        "MergeSlashes Off",
        "WSGIScriptAlias /count ${ROOT}/htdocs/count.wsgi application-group=%{GLOBAL}",
    ]
    for mode in MODES:
        for bucket in (BUCKET, ANOTHER):
            url = f"{s3.url}/{bucket}/{mode}"
            lines += [
                f"ProxyPass /{mode}/{bucket} {url}",
                proxy_section(url + "/", s3, "ProxySet enablereuse=on", mode=mode),
            ]
            for key in [*PLAIN, *OTHERS]:
                s3.put(bucket, f"{mode}/{key}", f"{bucket} {mode} {key}".encode())
    url = f"{s3.url}/{BUCKET}/v4-header"
    lines += [f"ProxyPass /versions {s3.url.replace('127.0.0.1', 'localhost')}/{BUCKET}/v4-header"]
    lines += [proxy_section(url.replace("127.0.0.1", "localhost") + "/", s3, "SetEnv S3PassQuery versionId")]
    with Httpd("\n".join(lines)) as running:
        (running.root / "htdocs" / "count.wsgi").write_text(COUNTER)
        running.fetch("/count")
        yield running


def signed_by_python(httpd: Httpd) -> int:
    return int(httpd.fetch("/count").body)


Ask = Callable[..., tuple[int, bytes]]


@contextmanager
def client(httpd: Httpd) -> Iterator[Ask]:
    """A client with one connection: a function that asks for a target, by GET or another method."""
    connection = http.client.HTTPConnection("127.0.0.1", httpd.port, timeout=30)

    def ask(target: str, method: str = "GET") -> tuple[int, bytes]:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read()

    with closing(connection):
        yield ask


def test_most_requests_of_a_second_are_not_signed_by_python(httpd: Httpd) -> None:
    for mode in MODES:
        before = signed_by_python(httpd)
        with client(httpd) as ask:
            for key in PLAIN:
                assert ask(f"/{mode}/{BUCKET}/{key}") == (200, f"{BUCKET} {mode} {key}".encode())
            for key in PLAIN[:20]:
                assert ask(f"/{mode}/{BUCKET}/{key}", "HEAD") == (200, b"")
                assert ask(f"/{mode}/{BUCKET}/{key}?a=%2F..&X-Amz-Date=1")[0] == 200
        python = signed_by_python(httpd) - before
        assert python == 100 if mode.startswith("v2") else 1 <= python < 50


@pytest.mark.parametrize("mode", MODES)
def test_what_python_must_see_is_right_among_the_others(httpd: Httpd, mode: str) -> None:
    with client(httpd) as ask:
        for key in OTHERS:
            for bucket in (BUCKET, ANOTHER):
                assert ask(f"/{mode}/{bucket}/{PLAIN[0]}")[0] == 200
                assert ask(f"/{mode}/{bucket}/{quote(key)}") == (200, f"{bucket} {mode} {key}".encode())
        for target, status in ((f"/{mode}/{BUCKET}/", 404), (f"/{mode}/{BUCKET}/missing", 404)):
            assert ask(target)[0] == status
        assert ask(f"/{mode}/{BUCKET}/{PLAIN[0]}", "DELETE")[0] == 405


@pytest.mark.parametrize("segment", ["..", "%2e%2e", "."])
def test_dots_that_the_client_sent_are_refused_as_ever(httpd: Httpd, segment: str) -> None:
    with client(httpd) as ask:
        assert ask(f"/v4-header/{BUCKET}/{PLAIN[0]}")[0] == 200
        assert ask(f"/v4-header/{BUCKET}/x/{segment}/{PLAIN[0]}")[0] == 400


def test_a_query_that_is_passed_is_signed(httpd: Httpd) -> None:
    with client(httpd) as ask:
        for query in ("", "?versionId=null", "?x=y", "?versionId=null"):
            assert ask(f"/versions/{PLAIN[0]}{query}")[0] == 200


def test_many_at_once_each_get_their_own(httpd: Httpd) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        bucket, mode = (BUCKET, ANOTHER)[number % 2], list(MODES)[number % 4]
        with client(httpd) as ask:
            for key in PLAIN:
                answer = ask(f"/{mode}/{bucket}/{key}")
                if answer != (200, f"{bucket} {mode} {key}".encode()):
                    wrong.append((mode, bucket, key, answer))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
