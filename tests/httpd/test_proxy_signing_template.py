"""``<Proxy>``: Python signs the first request of a second, and ``signing_template.c`` the next ones."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.httpd.conftest import BUCKET, MODES, NEEDS_OPENSSL, ONE_CHILD, proxy_section
from tests.httpd.machine import compile_shared
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

#: An application that returns how many requests Python has signed since its first request.
COUNTER = """
from usp_s3_wsgi.proxy import callbacks

signed = []
sign = callbacks.sign

def count(*arguments):
    signed.append(1)
    return sign(*arguments)

callbacks.sign = count

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % len(signed)]
"""
COUNT = "WSGIScriptAlias /count ${ROOT}/htdocs/count.wsgi application-group=%{GLOBAL}"
SIMPLE_KEYS = [f"film-{number}/a_b~c.{number}.m4s" for number in range(60)]
#: Keys that Python must validate or percent-encode.
UNUSUAL_KEYS = ["seg ment/1+2.m4s", "a//b", "ü.m4s", ".hidden/x", "a/..x", "end/"]
OTHER_BUCKET = "another-bucket"


pytestmark = NEEDS_OPENSSL


@pytest.fixture(scope="module")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=(BUCKET, OTHER_BUCKET)) as server:
        yield server


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    lines = [
        ONE_CHILD,
        "MergeSlashes Off",
        COUNT,
    ]
    for mode in MODES:
        for bucket in (BUCKET, OTHER_BUCKET):
            url = f"{s3.url}/{bucket}/{mode}"
            lines += [
                f"ProxyPass /{mode}/{bucket} {url}",
                proxy_section(url + "/", s3, "ProxySet enablereuse=on", mode=mode),
            ]
            for key in [*SIMPLE_KEYS, *UNUSUAL_KEYS]:
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


Fetch = Callable[..., tuple[int, bytes]]


@contextmanager
def client(httpd: Httpd) -> Iterator[Fetch]:
    """A client with one connection: a function that requests a target, by GET or another method."""
    connection = http.client.HTTPConnection("127.0.0.1", httpd.port, timeout=30)

    def fetch(target: str, method: str = "GET") -> tuple[int, bytes]:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read()

    with closing(connection):
        yield fetch


def test_python_signs_few_requests_of_a_second(httpd: Httpd) -> None:
    for mode in MODES:
        before = signed_by_python(httpd)
        with client(httpd) as fetch:
            for key in SIMPLE_KEYS:
                assert fetch(f"/{mode}/{BUCKET}/{key}") == (200, f"{BUCKET} {mode} {key}".encode())
            for key in SIMPLE_KEYS[:20]:
                assert fetch(f"/{mode}/{BUCKET}/{key}", "HEAD") == (200, b"")
                assert fetch(f"/{mode}/{BUCKET}/{key}?a=%2F..&X-Amz-Date=1")[0] == 200
        python = signed_by_python(httpd) - before
        assert python == 100 if mode.startswith("v2") else 1 <= python < 50


@pytest.mark.parametrize("mode", MODES)
def test_unusual_keys_between_simple_ones_are_signed(httpd: Httpd, mode: str) -> None:
    with client(httpd) as fetch:
        for key in UNUSUAL_KEYS:
            for bucket in (BUCKET, OTHER_BUCKET):
                assert fetch(f"/{mode}/{bucket}/{SIMPLE_KEYS[0]}")[0] == 200
                assert fetch(f"/{mode}/{bucket}/{quote(key)}") == (200, f"{bucket} {mode} {key}".encode())
        for target, status in ((f"/{mode}/{BUCKET}/", 404), (f"/{mode}/{BUCKET}/missing", 404)):
            assert fetch(target)[0] == status
        assert fetch(f"/{mode}/{BUCKET}/{SIMPLE_KEYS[0]}", "DELETE")[0] == 405


@pytest.mark.parametrize("segment", ["..", "%2e%2e", "."])
def test_dot_segments_of_the_client_are_rejected(httpd: Httpd, segment: str) -> None:
    with client(httpd) as fetch:
        assert fetch(f"/v4-header/{BUCKET}/{SIMPLE_KEYS[0]}")[0] == 200
        assert fetch(f"/v4-header/{BUCKET}/x/{segment}/{SIMPLE_KEYS[0]}")[0] == 400


def test_a_forwarded_query_is_signed(httpd: Httpd) -> None:
    with client(httpd) as fetch:
        for query in ("", "?versionId=null", "?x=y", "?versionId=null"):
            assert fetch(f"/versions/{SIMPLE_KEYS[0]}{query}")[0] == 200


def test_if_openssl_fails_python_signs_each_request(s3: EmbeddedS3, tmp_path: Path) -> None:
    source = tmp_path / "failure.c"
    source.write_text("void *EVP_MAC_CTX_dup(const void *context) { return 0; }")  # only this module calls it
    url = f"{s3.url}/{BUCKET}/v4-header"
    s3.put(BUCKET, "v4-header/a", b"hello")
    lines = [ONE_CHILD, COUNT, f"ProxyPass /bucket {url}", proxy_section(url + "/", s3)]
    with Httpd("\n".join(lines), preload=compile_shared(source, tmp_path)) as httpd:
        (httpd.root / "htdocs" / "count.wsgi").write_text(COUNTER)
        httpd.fetch("/count")
        for _ in range(20):
            assert httpd.fetch("/bucket/a").body == b"hello"
        assert signed_by_python(httpd) == 20


def test_a_line_says_that_openssl_has_no_hmac(s3: EmbeddedS3, tmp_path: Path, checked: list[Httpd]) -> None:
    """Python's hmac module uses the same OpenSSL, so requests fail."""
    source = tmp_path / "failure.c"
    source.write_text("void *EVP_MAC_fetch(void *library, const char *name, const char *properties) { return 0; }")
    httpd = Httpd(ONE_CHILD, preload=compile_shared(source, tmp_path))
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("USPS30706: usp_s3_wsgi: OpenSSL has no SHA-256 or HMAC: Python signs each request")
    httpd.wait_for_error("USPS30706")


def test_requests_are_signed_without_python_after_each_graceful_restart(s3: EmbeddedS3) -> None:
    url = f"{s3.url}/{BUCKET}/v4-header"
    s3.put(BUCKET, "v4-header/a", b"hello")
    lines = [ONE_CHILD, COUNT, f"ProxyPass /bucket {url}", proxy_section(url + "/", s3)]
    with Httpd("\n".join(lines)) as httpd:
        (httpd.root / "htdocs" / "count.wsgi").write_text(COUNTER)
        for _ in range(4):
            httpd.fetch("/count")
            for _ in range(20):
                assert httpd.fetch("/bucket/a").body == b"hello"
            assert signed_by_python(httpd) < 20
            httpd.reload()


def test_concurrent_requests_get_their_own_objects(httpd: Httpd) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        bucket, mode = (BUCKET, OTHER_BUCKET)[number % 2], list(MODES)[number % 4]
        with client(httpd) as fetch:
            for key in SIMPLE_KEYS:
                response = fetch(f"/{mode}/{bucket}/{key}")
                if response != (200, f"{bucket} {mode} {key}".encode()):
                    wrong.append((mode, bucket, key, response))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
