"""``<Proxy>``: what becomes of the process: memory after many requests, other MPMs, and a server without the signer."""

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
#: One of each way through the signer: header and query, object, HEAD, part, refusal, own refusal, subrequests.
TURN = [
    "GET /header/k1", "GET /query/k1", "HEAD /header/k1", "GET /query/missing", "GET /header/", "GET /page",
    "PUT /query/k1", "GET /header/k1?versionId=1",
]  # fmt: skip


class WithoutSigner(Unsigned):
    lacks = r'Include ".*proxy.conf"'


def resident(pid: int) -> int:
    """Bytes of memory that the process really holds now."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def ask(port: int, requests: list[str]) -> int:
    """Send requests one behind the other on one connection; returns the number of answers."""
    sent = "".join(f"{request} HTTP/1.1\r\nHost: x\r\n\r\n" for request in requests)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(sent.encode() + b"GET /header/k1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: client.recv(1 << 20), b""))
    return len(re.findall(rb"HTTP/1\.1 [0-9]{3} ", answers)) - 1


def test_20000_requests_through_one_child(checked: list[Httpd]) -> None:
    """The bucket is a plain httpd here: it is fast, and what it does not check is checked elsewhere."""
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
    batch = TURN * 25

    def round_of(requests: int) -> int:
        assert sum(ask(httpd.port, batch) for _ in range(requests // len(batch))) == requests
        (child,) = httpd.children()
        return resident(child)

    warm = round_of(4_000)
    assert round_of(16_000) - warm < 2 << 20


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
def test_under_debians_own_mod_wsgi(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a//b%2F.ts", b"an object")
    url = f"{s3.url}/{BUCKET}"
    httpd = Httpd(f"ProxyPass /media {url}\n{proxy_section(f'{url}/', s3)}", mod_wsgi=DEBIAN_MOD_WSGI)
    checked.append(httpd)
    httpd.start()
    reply = httpd.fetch("/media/a//b%252F.ts")
    assert (reply.status, reply.body) == (200, b"an object")
    assert loaded_mod_wsgi(httpd) == {DEBIAN_MOD_WSGI.resolve()}


def test_a_process_without_signer_sends_nothing(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    url = f"{s3.url}/{BUCKET}"
    httpd = WithoutSigner(f"ProxyPass /media {url}\n{proxy_section(f'{url}/', s3)}")
    checked.append(httpd)
    httpd.start()
    s3.clear()
    assert httpd.fetch("/media/a.ts").status == 500
    httpd.wait_for_error("usp_s3_wsgi: this process has no signer: proxy.conf is not included")
    assert s3.requests() == []


def test_a_server_without_the_module_sends_nothing(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """Where the section says so: nothing of this package has a say in such a server but WSGIAccessScript."""
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


def test_the_guard_lets_signed_requests_through(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a.ts", b"an object")
    url = f"{s3.url}/{BUCKET}"
    guard = "WSGIPassApacheRequest On\nWSGIAccessScript ${USP_S3_ACCESS}"
    httpd = Httpd(f"ProxyPass /media {url}\n{proxy_section(f'{url}/', s3, guard)}")
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/media/a.ts").body == b"an object"
