"""Empty objects: the response to a HEAD has Content-Length 0, as that to a GET has (RFC 9110, 8.6)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.httpd import http2
from tests.httpd.conftest import BUCKET, proxy_section, section
from tests.httpd.machine import has_module
from tests.httpd.server import Httpd, WithoutModule
from tests.httpd.test_request_bodies import Client, connected
from tests.s3 import EmbeddedS3

DAEMON = "process-group=s3 application-group=%{GLOBAL}"
WAYS = ("embedded", "daemon", "proxy")
FILTERED = [f"{way}-filtered" for way in WAYS]
NEEDS_HTTP2 = pytest.mark.skipif(not has_module("http2"), reason="this httpd has no mod_http2")


def config(s3: EmbeddedS3) -> str:
    parts = ["WSGIDaemonProcess s3 python-home=${USP_S3_PYTHON_HOME}", "Protocols h2c http/1.1"]
    for end in ("", "-filtered"):
        parts.append(section(f"/embedded{end}", s3))
        parts.append(section(f"/daemon{end}", s3).replace("${USP_S3_WSGI}", f"${{USP_S3_WSGI}} {DAEMON}"))
        parts.append(f"ProxyPass /proxy{end} {s3.url}/{BUCKET}")
    for way in FILTERED:
        # They make a body of an empty one, but not for a HEAD.
        filters = "SetOutputFilter INCLUDES;DEFLATE\nOptions +Includes\n"
        parts.append(f"<Location /{way}>\n{filters}</Location>")
    for way in WAYS:
        parts.append(f"<Location /closed-{way}>\nRequire all denied\nErrorDocument 403 /{way}/empty\n</Location>")
    return "\n".join([*parts, proxy_section(f"{s3.url}/{BUCKET}/", s3)])


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    s3.put(BUCKET, "empty", b"", content_type="text/plain")
    s3.put(BUCKET, "full", b"full", content_type="text/plain")
    with Httpd(config(s3)) as server:
        server.expect_error("AH01630")
        yield server
    assert "\n".join(server.unexpected) == ""


def assert_next_response(client: Client, way: str) -> None:
    client.send(f"/{way}/full")
    response = client.read_response()
    assert response and (response.status, response.body) == (200, b"full")


@pytest.mark.parametrize("way", WAYS)
def test_a_head_says_that_an_object_is_empty(httpd: Httpd, way: str) -> None:
    with connected(httpd.port) as client:
        for method in ("HEAD", "GET", "HEAD"):
            client.send(f"/{way}/empty", method)
            response = client.read_response(method)
            assert response and (response.status, response.body) == (200, b"")
            assert response.head.lower().count(b"\r\ncontent-length: 0\r\n") == 1
            assert b"chunked" not in response.head and not response.closes
        client.send(f"/{way}/full", "HEAD")
        full = client.read_response("HEAD")
        assert full and b"Content-Length: 4\r\n" in full.head
        assert_next_response(client, way)


@pytest.mark.parametrize("way", [*WAYS, *FILTERED])
def test_no_head_has_a_body(httpd: Httpd, way: str) -> None:
    """Neither an error nor a filter adds one, and the next response belongs to the next request."""
    with connected(httpd.port) as client:
        for path in (f"/{way}/empty", f"/{way}/missing", f"/{way}/full", f"/closed-{way.partition('-')[0]}/x"):
            for headers in (
                "",
                "Accept-Encoding: gzip\r\n",
                "Range: bytes=0-3\r\n",
                "Range: bytes=-1\r\n",
                "If-None-Match: *\r\n",
            ):
                client.send(path, "HEAD", headers=headers)
                assert client.read_response("HEAD")
                assert_next_response(client, way.partition("-")[0])


@NEEDS_HTTP2
@pytest.mark.parametrize("way", WAYS)
def test_empty_objects_in_http2(httpd: Httpd, way: str) -> None:
    requests = [
        {"path": f"/{way}/empty", "method": "HEAD"}, {"path": f"/{way}/full", "method": "HEAD"},
        {"path": f"/{way}/full"}, {"path": f"/{way}/empty"},
    ]  # fmt: skip
    streams = http2.ask(httpd.port, *requests)
    lengths = [stream.headers.get("content-length") for stream in streams]
    assert lengths == ["0", "4", "4", "0"]
    assert [stream.body for stream in streams] == [b"", b"", b"full", b""]
    assert all(stream.status == 200 and stream.ended and not stream.reset for stream in streams)


def test_without_the_module_httpd_omits_content_length(s3: EmbeddedS3, httpd: Httpd) -> None:
    """As docs/responses.md says. (A later httpd may have a directive for it.)"""
    with WithoutModule(section("/embedded", s3)) as httpd_without_module:
        assert httpd_without_module.fetch("/embedded/empty").headers["Content-Length"] == "0"
        head = httpd_without_module.fetch("/embedded/empty", method="HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, None)
    assert "\n".join(httpd_without_module.unexpected) == ""
