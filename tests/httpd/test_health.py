"""The health checks of apache/include/health.conf, beside a bucket that is mounted on the whole server."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd.conftest import BUCKET, proxy_section, section
from tests.httpd.machine import free_port
from tests.httpd.server import WAIT, Httpd
from tests.s3 import EmbeddedS3
from usp_s3_wsgi.cli import apache_config

ACCESS_LOG = 'CustomLog "${ROOT}/access.log" "%U"\n'


def health_checks(port: int) -> str:
    return f"""
Define USP_S3_HEALTH_PORT {port}
Define USP_S3_DRAIN_FILE  "${{ROOT}}/drain"
Include "{apache_config.share_directory()}/health.conf"
"""


@pytest.fixture(params=["gateway", "proxy"])
def server(request: pytest.FixtureRequest, s3: EmbeddedS3) -> Iterator[tuple[Httpd, int]]:
    """A server that serves the bucket at ``/``, and the port of its health checks."""
    s3.put(BUCKET, "health/ready", b"an object")
    url = f"{s3.url}/{BUCKET}/"
    proxied = f'ProxyPass "/" "{url}"\n{proxy_section(url, s3)}'
    bucket = section("/", s3) if request.param == "gateway" else proxied
    port = free_port()
    with Httpd(ACCESS_LOG + bucket + health_checks(port)) as httpd:
        yield httpd, port


#: Error pages of the whole server. httpd answers a URL with a redirect.
ERROR_PAGES = "ErrorDocument 503 https://www.example.com/sorry\nErrorDocument 404 /film.mp4\n"


def status(port: int, path: str, method: str = "GET") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_health_checks_have_their_own_port(server: tuple[Httpd, int]) -> None:
    httpd, health_port = server
    for method in ("GET", "HEAD", "OPTIONS"):
        assert status(health_port, "/health/live", method) == 204
        assert status(health_port, "/health/ready", method) == 204
    assert httpd.fetch("/health/ready").body == b"an object"
    for path in ("/", "/film.mp4", "/health", "/health/", "/health/ready/x", "/health/live/..", "//health/ready/x"):
        assert status(health_port, path) == 404
    assert (httpd.root / "access.log").read_text() == "/health/ready\n"  # only the client's request


def test_a_server_that_drains_is_live_but_not_ready(server: tuple[Httpd, int]) -> None:
    httpd, health_port = server
    drain = httpd.root / "drain"
    drain.touch()
    assert (status(health_port, "/health/ready"), status(health_port, "/health/live")) == (503, 204)
    assert httpd.fetch("/health/ready").status == 200  # clients that come nevertheless are served
    drain.unlink()
    assert status(health_port, "/health/ready") == 204


def test_error_pages_of_the_whole_server_do_not_apply() -> None:
    port = free_port()
    with Httpd(ERROR_PAGES + health_checks(port)) as httpd:
        (httpd.root / "drain").touch()
        assert (status(port, "/health/ready"), status(port, "/"), status(port, "/film.mp4")) == (503, 404, 404)
    assert httpd.unexpected == []


# ---------------------------------------------------------------- what health checks know of buckets

BUCKETS = "UspS3Metrics On\nDefine USP_S3_HEALTH_CHECKS_BUCKETS\n"


def fetch(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def wait_for(port: int, path: str, status: int) -> str:
    """Results are up to a second old."""
    deadline = time.monotonic() + WAIT
    while (found := fetch(port, path))[0] != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found[1]


@pytest.fixture(params=["gateway", "proxy"])
def two_buckets(request: pytest.FixtureRequest, s3: EmbeddedS3) -> Iterator[tuple[Httpd, int, Path]]:
    """The bucket "films" has its secret key in a file, the other one in the configuration."""
    url, films = f"{s3.url}/{BUCKET}", f"{s3.url}/films"
    keys = "SetEnv S3AccessKey A\nSetEnv S3SecretKeyFile ${ROOT}/secret\nSetEnv S3Region r"
    if request.param == "gateway":
        body = f"SetEnv S3BucketURL {films}/\n{keys}"
        config = section("/media", s3)
        config += f"WSGIScriptAlias /films ${{USP_S3_WSGI}}\n<Location /films>\n{body}\n</Location>\n"
    else:
        config = f'ProxyPass /media {url}\nProxyPass /films {films}\n<Proxy "{films}/">\n{keys}\n</Proxy>\n'
        config += proxy_section(f"{url}/", s3)
    port = free_port()
    # One of both has the details, which names and reasons are.
    details = 'Define USP_S3_STATUS_REQUIRE "local"\n' if request.param == "gateway" else ""
    with Httpd(BUCKETS + details + config + health_checks(port)) as httpd:
        secret = httpd.root / "secret"
        write_secret(secret)
        yield httpd, port, secret


def write_secret(path: Path, text: str = "key") -> None:
    """Write a key file as it is when it has settled."""
    path.write_text(text)
    path.chmod(0o644)
    os.utime(path, (time.time() - 60, time.time() - 60))


def test_a_server_is_ready_if_requests_can_be_signed(two_buckets: tuple[Httpd, int, Path]) -> None:
    httpd, port, secret = two_buckets
    has_details = "USP_S3_STATUS_REQUIRE" in httpd.config
    assert wait_for(port, "/health/buckets", 200) == "ready: 2 of 2 buckets\n"
    assert fetch(port, "/health/ready") == (204, "")
    assert [fetch(port, f"/health/buckets/{name}")[0] for name in ("films", BUCKET, "other")] == [200, 200, 404]
    secret.unlink()
    text = wait_for(port, "/health/buckets", 503)
    assert ("films: S3SecretKeyFile: the file cannot be read" in text) == has_details
    assert ("films" in text) == has_details
    wait_for(port, "/health/buckets/films", 503)
    assert fetch(port, f"/health/buckets/{BUCKET}")[0] == 200
    assert fetch(port, "/health/ready") == (204, "")  # the other bucket is served
    document = json.loads(wait_for(port, "/health/buckets?format=json", 503))
    assert document["ready"] is False
    # Names are for those whom USP_S3_STATUS_REQUIRE names.
    details = {bucket["bucket"]: bucket["ready"] for bucket in document["buckets"]}
    assert details == ({"films": False, BUCKET: True} if has_details else {})
    write_secret(secret)
    wait_for(port, "/health/buckets", 200)


def test_a_key_file_that_is_being_written_changes_nothing(two_buckets: tuple[Httpd, int, Path]) -> None:
    """A rotation that is not atomic must not take the server out of service."""
    _, port, secret = two_buckets
    wait_for(port, "/health/buckets", 200)
    for _ in range(12):
        secret.write_text("")
        time.sleep(0.1)
        assert fetch(port, "/health/buckets")[0] == 200
    write_secret(secret)


def test_draining_is_stronger_than_ready_buckets(two_buckets: tuple[Httpd, int, Path]) -> None:
    httpd, port, _ = two_buckets
    wait_for(port, "/health/buckets", 200)
    (httpd.root / "drain").touch()
    for path in ("/health/ready", "/health/ready?any", "/health/buckets", "/health/buckets/films"):
        assert status(port, path) == 503
    assert status(port, "/health/live") == 204


def test_a_server_that_can_sign_for_no_bucket_is_not_ready(s3: EmbeddedS3) -> None:
    config = section("/media", s3).replace("S3SecretKey ", "S3SecretKeyFile /missing/")
    port = free_port()
    with Httpd(BUCKETS + config + health_checks(port)) as httpd:
        assert fetch(port, "/health/ready") == (503, "not ready: 0 of 1 buckets\n")  # without names and reasons
        assert fetch(port, "/health/ready?format=json") == (503, "not ready: 0 of 1 buckets\n")
        assert status(port, "/health/live") == 204
        assert [status(port, "/health/ready", method) for method in ("OPTIONS", "HEAD")] == [503, 503]
        httpd.reload()
        assert status(port, "/health/ready") == 503


def test_without_metrics_nothing_is_known_of_buckets(s3: EmbeddedS3) -> None:
    port = free_port()
    with Httpd(BUCKETS.replace("On", "Off") + section("/media", s3) + health_checks(port)):
        assert fetch(port, "/health/ready") == (204, "")
        assert fetch(port, "/health/buckets") == (200, "ready: the buckets are not known\n")


def test_the_status_page_on_the_port_of_the_health_checks(s3: EmbeddedS3) -> None:
    port = free_port()
    with Httpd(f'{BUCKETS}Define USP_S3_STATUS_REQUIRE "ip 127.0.0.1"\n' + section("/", s3) + health_checks(port)):
        for path in ("/status", "/status/json", "/status/errors", "/metrics"):
            assert status(port, path) == 200
        assert status(port, "/statuses") == 404
    with Httpd(f'{BUCKETS}Define USP_S3_STATUS_REQUIRE "ip 192.0.2.1"\n' + section("/", s3) + health_checks(port)):
        assert [status(port, path) for path in ("/status", "/status/json", "/metrics")] == [403, 403, 403]
    with Httpd(BUCKETS + section("/", s3) + health_checks(port)):
        assert [status(port, path) for path in ("/status", "/status/json", "/metrics")] == [404, 404, 404]


#: What the whole server does with each URL, also with those of the health checks.
WHOLE_SERVER = {
    "the gateway": lambda s3: section("/", s3),
    "mod_proxy": lambda s3: f"ProxyPass / {s3.url}/{BUCKET}/\n" + proxy_section(f"{s3.url}/{BUCKET}/", s3),
    "a redirect": lambda s3: "RedirectMatch ^/ https://www.example.com/\n" + section("/media", s3),
    "an alias": lambda s3: 'Alias /health "${ROOT}/htdocs"\nAlias /status "${ROOT}/htdocs"\n' + section("/media", s3),
}


@pytest.mark.parametrize("name", WHOLE_SERVER)
def test_nothing_of_the_whole_server_answers_instead(s3: EmbeddedS3, name: str) -> None:
    s3.put(BUCKET, "health/ready", b"an object")
    port = free_port()
    config = f'{BUCKETS}Define USP_S3_STATUS_REQUIRE "local"\n' + WHOLE_SERVER[name](s3) + health_checks(port)
    with Httpd(config):
        assert fetch(port, "/health/ready") == (204, "")
        assert fetch(port, "/health/buckets") == (200, "ready: 1 of 1 buckets\n")
        assert [status(port, path) for path in ("/status", "/status/errors", "/metrics")] == [200] * 3
        assert [status(port, path) for path in ("/", "/health", "/film.mp4")] == [404] * 3


def test_the_last_bucket_is_removed(s3: EmbeddedS3) -> None:
    """What is not in the configuration any more makes no server unready."""
    port = free_port()
    broken = section("/media", s3, "SetEnv S3Retries x")
    with Httpd(BUCKETS + broken + health_checks(port)) as httpd:
        assert status(port, "/health/ready") == 503
        httpd.config = httpd.config.replace(broken, "")
        httpd.reload()
        assert wait_for(port, "/health/buckets", 200) == "ready: 0 of 0 buckets\n"
        assert status(port, "/health/ready") == 204
