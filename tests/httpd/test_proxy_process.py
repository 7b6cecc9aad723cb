"""``<Proxy>``: memory after many requests, other MPMs, other versions of mod_wsgi, and servers without the signer."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.httpd.conftest import BUCKET, ONE_CHILD, PAGES, proxy_section
from tests.httpd.machine import has_module
from tests.httpd.server import Httpd, Unsigned, WithoutModule
from tests.httpd.test_examples import DEBIAN_MOD_WSGI, NEEDS_DEBIAN_MOD_WSGI, loaded_mod_wsgi
from tests.leaks import SECRET_KEY
from tests.s3 import EmbeddedS3

KEEP_ALIVE = "MaxKeepAliveRequests 0\nKeepAliveTimeout 30\n"
#: One request for each branch of the signer: header and query, object, HEAD, errors of S3 and our own, subrequests.
REQUESTS = [
    "GET /header/k1", "GET /query/k1", "HEAD /header/k1", "GET /query/missing", "GET /header/", "GET /page",
    "PUT /query/k1", "GET /header/k1?versionId=1",
]  # fmt: skip


class WithoutSigner(Unsigned):
    lacks = r'Include ".*proxy.conf"'


def resident(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def send_pipelined(port: int, requests: list[str]) -> int:
    """Send requests on one connection without waiting; return the number of responses."""
    text = "".join(f"{request} HTTP/1.1\r\nHost: x\r\n\r\n" for request in requests)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(text.encode() + b"GET /header/k1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(1 << 20), b""))
    return len(re.findall(rb"HTTP/1\.1 [0-9]{3} ", received)) - 1


@pytest.mark.unsanitized
def test_20000_requests_through_one_child(checked: list[Httpd]) -> None:
    """The bucket is another httpd, which is fast and does not check signatures."""
    bucket = Httpd(KEEP_ALIVE)
    checked.append(bucket)
    bucket.start()
    for name in ("header", "query"):
        folder = bucket.root / "htdocs" / name
        folder.mkdir()
        (folder / "k1").write_bytes(b"x" * 1024)
    keys = f"SetEnv S3AccessKey KEY\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region us-east-1\nSetEnv S3UseHeaders"
    sections = [
        f'ProxyPass /{name} {bucket.url}/{name}\n<Proxy "{bucket.url}/{name}/">\n{keys} {on}\n</Proxy>'
        for name, on in (("header", "on"), ("query", "off"))
    ]
    httpd = Httpd("\n".join([ONE_CHILD, KEEP_ALIVE, PAGES, *sections]))
    checked.append(httpd)
    httpd.start()
    (httpd.root / "htdocs" / "page").write_text('<!--#include virtual="/header/k1" -->' * 2)
    batch = REQUESTS * 25

    def memory_after(requests: int) -> int:
        assert sum(send_pipelined(httpd.port, batch) for _ in range(requests // len(batch))) == requests
        (child,) = httpd.children()
        return resident(child)

    warmed_up = memory_after(4_000)
    assert memory_after(16_000) - warmed_up < 2 << 20


@pytest.mark.parametrize("mpm", ["prefork", "worker"])
def test_other_mpms(mpm: str, s3: EmbeddedS3, checked: list[Httpd], monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_module(f"mpm_{mpm}"):
        pytest.skip(f"this httpd has no mpm_{mpm}")
    monkeypatch.setattr("tests.httpd.server.MPM", mpm)
    s3.put(BUCKET, "a.ts", b"an object")
    url = f"{s3.url}/{BUCKET}"
    httpd = Httpd(f"ProxyPass /media {url}\n{proxy_section(f'{url}/', s3)}")
    checked.append(httpd)
    httpd.start()
    assert [httpd.fetch("/media/a.ts").body for _ in range(20)] == [b"an object"] * 20


@NEEDS_DEBIAN_MOD_WSGI
def test_debians_mod_wsgi(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a//b%2F.ts", b"an object")
    url = f"{s3.url}/{BUCKET}"
    httpd = Httpd(f"ProxyPass /media {url}\n{proxy_section(f'{url}/', s3)}", mod_wsgi=DEBIAN_MOD_WSGI)
    checked.append(httpd)
    httpd.start()
    reply = httpd.fetch("/media/a//b%252F.ts")
    assert (reply.status, reply.body) == (200, b"an object")
    assert loaded_mod_wsgi(httpd) == {DEBIAN_MOD_WSGI.resolve()}


def test_a_process_without_the_signer_sends_nothing(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    url = f"{s3.url}/{BUCKET}"
    httpd = WithoutSigner(f"ProxyPass /media {url}\n{proxy_section(f'{url}/', s3)}")
    checked.append(httpd)
    httpd.start()
    s3.clear()
    assert httpd.fetch("/media/a.ts").status == 500
    httpd.wait_for_error("usp_s3_wsgi: this process has no signer: proxy.conf is not included")
    assert s3.requests() == []


def test_a_server_without_the_module_sends_nothing(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """If the section has WSGIAccessScript, which is the only part of this package that runs in such a server."""
    url = f"{s3.url}/{BUCKET}"
    guarded = proxy_section(f"{url}/", s3, "WSGIAccessScript ${USP_S3_ACCESS}")
    httpd = WithoutModule(f"ProxyPass /media {url}\n{guarded}")
    checked.append(httpd)
    httpd.start()
    s3.clear()
    assert httpd.fetch("/media/a.ts").status == 403
    httpd.wait_for_error("usp_s3_wsgi: <Proxy> sections cannot be signed .*: httpd has not loaded usp_s3_module")
    httpd.expect_error("Client denied by server configuration")
    assert s3.requests() == []


def test_the_access_script_allows_signed_requests(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a.ts", b"an object")
    url = f"{s3.url}/{BUCKET}"
    guard = "WSGIPassApacheRequest On\nWSGIAccessScript ${USP_S3_ACCESS}"
    httpd = Httpd(f"ProxyPass /media {url}\n{proxy_section(f'{url}/', s3, guard)}")
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/media/a.ts").body == b"an object"
