"""The health checks of apache/include/health.conf, beside a bucket that is mounted on the whole server."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from tests.httpd.conftest import BUCKET, proxy_section, section
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
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
