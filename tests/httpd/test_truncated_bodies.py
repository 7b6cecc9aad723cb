"""S3 truncates a body, and it cannot be resumed: no client accepts it as complete, whatever filters httpd has.

Processes (embedded, daemon) times protocols (HTTP/1.1, 1.0, 2) times what httpd does with the body (nothing, a filter
that removes its length or buffers it, a page that includes it); with usp_s3_module, which counts the bytes, and
without it.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException

import pytest

from tests.faults.server import Connection, Request, ScriptedS3, answer
from tests.httpd import http2
from tests.httpd.conftest import ONE_CHILD
from tests.httpd.machine import free_port, has_module, mod_security, modules_directory
from tests.httpd.server import Httpd, WithoutModule
from tests.httpd.test_truncation import TRACEBACK
from tests.leaks import SECRET_KEY

PORT = free_port()
BODY = b"0123456789abcdef" * 20_000
GATEWAY_MOUNTS = {"embedded": "", "daemon": "process-group=s3 application-group=%{GLOBAL}"}
MOUNTS = [*GATEWAY_MOUNTS, "proxy"]
FILTERS = {
    "plain": "",
    "substituted": "SetOutputFilter SUBSTITUTE\nSubstitute s/never/there/n",
    "deflated": "SetOutputFilter DEFLATE",
    "edited": 'SetOutputFilter Sed\nOutputSed "s/never/there/"',  # which forwards no errors
}
#: mod_security buffers a body until it has inspected all of it.
INSPECTED = (
    "SecRuleEngine On\nSecResponseBodyAccess On\nSecResponseBodyMimeType binary/octet-stream text/plain text/html"
)
SECURITY = mod_security()
#: Filters that forward nothing, not even a flush, before the end; or that wait for more after it.
BUFFERING_FILTERS: dict[str, tuple[str, str]] = {
    "limited": ("ratelimit", "SetOutputFilter RATE_LIMIT\nSetEnv rate-limit 40000"),
    "buffered": ("buffer", "SetOutputFilter BUFFER\nBufferSize 1048576"),
    "sorted": ("ext_filter", "SetOutputFilter sort"),
}
FILTERS |= {way: lines for way, (module, lines) in BUFFERING_FILTERS.items() if has_module(module)}
if SECURITY:
    FILTERS |= {
        "inspected": INSPECTED,
        "inspected-deflated": f"{INSPECTED}\nSetOutputFilter DEFLATE",
        "inspected-error-page": f"{INSPECTED}\nErrorDocument 502 /error-page.html",
    }
PAGES = {"page": ""} | ({"inspected-page": INSPECTED} if SECURITY else {})
WAYS = [*FILTERS, *PAGES]
KEYS = ["whole", "cut", "cut-chunks"]
PROTOCOLS = ["1.1", "1.0", "1.0 kept", "0.9", "2"]
NEEDS_HTTP2 = pytest.mark.skipif(not has_module("http2"), reason="this httpd has no mod_http2")


def config() -> str:
    sections = [SECURITY, "WSGIDaemonProcess s3 python-home=${USP_S3_PYTHON_HOME} threads=8"]
    for module in {module for module, _ in BUFFERING_FILTERS.values() if has_module(module)}:
        sections.append(f'LoadModule {module}_module "{modules_directory()}/mod_{module}.so"')
        if module == "ext_filter":
            sections.append('ExtFilterDefine sort mode=output cmd="/usr/bin/sort"')
    for name, lines in FILTERS.items():
        sections.append(f"""
ProxyPass /proxy-{name} http://127.0.0.1:{PORT}/bucket
<Location /proxy-{name}>
  {lines}
</Location>""")
        for mount, options in GATEWAY_MOUNTS.items():
            sections.append(f"""
WSGIScriptAlias /{mount}-{name} ${{USP_S3_WSGI}} {options}
<Location /{mount}-{name}>
  SetEnv S3BucketURL http://127.0.0.1:{PORT}/bucket/
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region r
  {lines}
</Location>""")
    sections.append(f"""
<Proxy "http://127.0.0.1:{PORT}/bucket/">
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region r
</Proxy>""")
    for page, headers in PAGES.items():
        sections.append(f"""
<Location /{page}>
  SetHandler default-handler
  Options +Includes
  SetOutputFilter INCLUDES
  {headers}
</Location>""")
    if has_module("brotli"):
        sections.append(f"""
LoadModule brotli_module "{modules_directory()}/mod_brotli.so"
<Location /compressed>
  SetHandler default-handler
  Options +Includes
  SetOutputFilter INCLUDES;BROTLI_COMPRESS
  ForceType text/html
</Location>""")
    h2c = "Protocols h2c http/1.1\nLogLevel http2:crit" if has_module("http2") else ""
    # Longer than any wait below: a client that only httpd's timeout frees would fail the test.
    return "\n".join([*sections, h2c, ONE_CHILD, "KeepAliveTimeout 300"])


#: Server, process, way. In daemon mode without the module, truncation behind a filter is not detected: docs/gateway.md
CASES = [
    *[("counted", mount, way) for mount in MOUNTS for way in WAYS],
    *[("bare", "embedded", way) for way in WAYS],
    *[("bare", "daemon", way) for way in ("plain", "page")],
]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Httpd]]:
    """With the module, which counts the bytes, and without it."""
    running = {"counted": Httpd(config()), "bare": WithoutModule(config())}
    for server in running.values():
        server.expect_error(f"usp_s3_wsgi: |{TRACEBACK}|unable to include|AH01110|security2:notice")
        server.start()
        (server.root / "htdocs" / "error-page.html").write_text("<title>the operator's error page</title>")
        for page in (*PAGES, "compressed"):
            folder = server.root / "htdocs" / page
            folder.mkdir()
            for mount in MOUNTS:
                for key in KEYS:
                    part = f'[<!--#include virtual="/{mount}-plain/{key}.ts" -->]'
                    (folder / f"{mount}-{key}").write_text(part + "x" * 9000 * (page == "compressed"))
    yield running
    for server in running.values():
        server.stop()
        assert "\n".join(server.unexpected) == ""


def truncate_response(connection: Connection, request: Request) -> None:
    """Truncate the body, or not, as the key says; without ETag, so that nothing can be resumed."""
    if "chunks" in request.target:
        head = answer(200, b"", ("Transfer-Encoding", "chunked"), length=None)
        connection.send(head + b"%x\r\n%s\r\n" % (250_000, BODY[:250_000]))
        connection.close()
    elif "cut" in request.target:
        connection.send(answer(200, BODY[:250_000], length=len(BODY)))
        connection.close()
    else:
        connection.send(answer(200, BODY))


def target(mount: str, way: str, key: str) -> str:
    return f"/{way}/{mount}-{key}" if way in PAGES else f"/{mount}-{way}/{key}.ts"


def fetch(port: int, path: str, protocol: str) -> tuple[int, bytes, bool]:
    """Send a request; return the status, the received body, and whether the client would accept it as complete."""
    if protocol == "2":
        [stream] = http2.ask(port, {"path": path, "accept-encoding": "gzip"})
        return stream.status, stream.body, stream.ended
    version, _, keep_alive = protocol.partition(" ")
    headers = "Connection: keep-alive\r\n" if keep_alive else "" if version == "1.0" else "Connection: close\r\n"
    request = f"GET {path} HTTP/{version}\r\nHost: x\r\nAccept-Encoding: gzip\r\n{headers}\r\n"
    if version == "0.9":
        request = f"GET {path}\r\n"
    received, is_closed_orderly = b"", True
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request.encode())
        try:
            while data := client.recv(1 << 16):
                received += data
                head, _, body = received.partition(b"\r\n\r\n")
                if keep_alive and (length := _content_length(head)) is not None and len(body) >= length:
                    break  # the connection stays open
        except ConnectionResetError:
            is_closed_orderly = False
    if version == "0.9":  # a body and nothing else
        return 200 if b"0123" in received else 502, received, is_closed_orderly
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    if (length := _content_length(head)) is not None:
        return status, body, len(body) == length
    if b"Transfer-Encoding: chunked" in head:
        chunks = re.split(rb"(?:^|\r\n)[0-9a-f]+\r\n", body)
        return status, b"".join(chunks).removesuffix(b"\r\n"), body.endswith(b"\r\n0\r\n\r\n")
    return status, body, is_closed_orderly


def _content_length(head: bytes) -> int | None:
    match = re.search(rb"\r\nContent-Length: (\d+)", head)
    return int(match[1]) if match else None


@pytest.mark.parametrize("mount", GATEWAY_MOUNTS)
def test_a_truncated_body_has_one_log_line(servers: dict[str, Httpd], mount: str) -> None:
    """There is no traceback: the application does not raise."""
    httpd = servers["counted"]
    before = len(httpd.errors())
    with ScriptedS3(then=truncate_response, port=PORT):
        fetch(httpd.port, target(mount, "plain", "cut"), "1.1")
        httpd.wait_for_error(f"usp_s3_wsgi: /{mount}-plain: response body truncated: 70000 bytes are missing")
    assert len(httpd.errors()) == before + 1


@NEEDS_HTTP2
@pytest.mark.parametrize("key", ["cut", "cut-chunks"])
@pytest.mark.parametrize("mount", MOUNTS)
def test_other_streams_of_the_connection_continue(servers: dict[str, Httpd], mount: str, key: str) -> None:
    paths = [target(mount, "plain", name) for name in ("whole", key, "whole", key, "whole")]
    with ScriptedS3(then=truncate_response, port=PORT):
        streams = http2.ask(servers["counted"].port, *({"path": path} for path in paths))
    assert [(stream.status, stream.body == BODY, stream.ended) for stream in streams[::2]] == [(200, True, True)] * 3
    for stream in streams[1::2]:
        if mount == "daemon" and key == "cut-chunks":  # rejected before it began
            assert (stream.status, stream.ended) == (502, True)
        else:
            assert stream.reset and not stream.ended and BODY.startswith(stream.body)


@NEEDS_HTTP2
def test_without_the_module_the_connection_ends_with_all_streams(servers: dict[str, Httpd]) -> None:
    """As docs/gateway.md says; and no truncated stream looks complete."""
    paths = [target("embedded", "plain", name) for name in ("whole", "cut", "whole")]
    with ScriptedS3(then=truncate_response, port=PORT):
        streams = http2.ask(servers["bare"].port, *({"path": path} for path in paths))
    assert not streams[1].ended and BODY.startswith(streams[1].body)
    assert all(stream.body == BODY for stream in streams if stream.ended)


@pytest.mark.skipif(not has_module("brotli"), reason="this httpd has no mod_brotli")
@pytest.mark.parametrize("mount", MOUNTS)
def test_a_compressed_page_continues_after_a_truncated_subrequest(servers: dict[str, Httpd], mount: str) -> None:
    """mod_brotli has ended by then: data that the page writes afterwards must not reach it, or the child crashes."""
    httpd = servers["counted"]
    children = httpd.children()
    with (
        ScriptedS3(then=truncate_response, port=PORT),
        contextlib.closing(HTTPConnection("127.0.0.1", httpd.port, timeout=20)) as client,
    ):
        for key in ("cut", "whole", "cut"):
            with contextlib.suppress(HTTPException, ConnectionError):
                client.request("GET", f"/compressed/{mount}-{key}", headers={"Accept-Encoding": "br"})
                client.getresponse().read()
            client.close()
        assert fetch(httpd.port, target(mount, "plain", "whole"), "1.1") == (200, BODY, True)
    assert set(children) <= set(httpd.children())  # httpd may have started another one


@pytest.mark.skipif(not SECURITY, reason="Debian's mod_security is not here, or not for this httpd")
@pytest.mark.parametrize("mount", MOUNTS)
def test_an_inspected_body_becomes_one_error_page(servers: dict[str, Httpd], mount: str) -> None:
    """The connection stays open: no byte of the object, and no second error page, precedes the next response."""
    httpd = servers["counted"]
    with (
        ScriptedS3(then=truncate_response, port=PORT),
        contextlib.closing(HTTPConnection("127.0.0.1", httpd.port, timeout=20)) as client,
    ):
        for key, status in (("cut", 502), ("whole", 200), ("cut", 502), ("whole", 200)):
            client.request("GET", target(mount, "inspected", key))
            with client.getresponse() as response:
                body = response.read()
            assert response.status == status
            assert body == BODY if status == 200 else body.count(b"<title>502 ") == 1 and b"0123" not in body


@pytest.mark.parametrize("protocol", [pytest.param("2", marks=NEEDS_HTTP2), *PROTOCOLS[:-1]])
@pytest.mark.parametrize(("server", "mount", "way"), CASES)
def test_a_truncated_body_never_looks_complete(
    servers: dict[str, Httpd], server: str, mount: str, way: str, protocol: str
) -> None:
    httpd = servers[server]
    # Rejected without the module: subrequests, whose settings might be the page's, and HTTP/0.9 in daemon mode.
    is_rejected = server == "bare" and (way in PAGES or (mount == "daemon" and protocol == "0.9"))
    with ScriptedS3(then=truncate_response, port=PORT):
        status, body, is_complete = fetch(httpd.port, target(mount, way, "whole"), protocol)
        if is_rejected:  # with 500, within the page
            assert b"0123" not in body
        else:
            assert (status, is_complete) == (200, True)
            data = gzip.decompress(body) if way.endswith("deflated") and protocol != "0.9" else body
            if way in {"edited", "sorted"}:
                data = data.removesuffix(b"\n")  # added by the filter
            assert data == (b"[" + BODY + b"]" if way in PAGES else BODY)
        # A chunked body is rejected where its truncation could not be detected, within a page too.
        for key in ("cut", "cut-chunks"):
            status, body, is_complete = fetch(httpd.port, target(mount, way, key), protocol)
            if key == "cut-chunks" and way in PAGES and b"0123" not in body:
                continue
            assert_truncated(status, body, is_complete and not is_rejected)


def assert_truncated(status: int, body: bytes, is_complete: bool) -> None:
    # If no header was sent yet, the response is httpd's error page.
    assert not is_complete or status == 502, (status, len(body))
    assert BODY not in body and (status != 502 or b"0123" not in body)
    # No second page follows it, and no page follows the received part of the object.
    assert body.count(b"<title>") <= (status == 502)
