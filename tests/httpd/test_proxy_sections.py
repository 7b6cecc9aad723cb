"""``<Proxy>``: other sections around a bucket's neither hide its settings nor bypass its checks."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.httpd.conftest import BUCKET, PAGES, proxy_section, settings
from tests.httpd.server import Httpd, Reply
from tests.s3 import EmbeddedS3

#: Other sections of an operator; with each of these, mod_proxy loses the settings of the bucket's section.
OTHER_SECTIONS = {
    "location-host": "<Location /location-host>\nProxyPreserveHost On\n</Location>",
    "location-headers": "<Location /location-headers>\nProxyAddHeaders Off\n</Location>",
    "location-override": "<Location /location-override>\nProxyErrorOverride Off\n</Location>",
    "location-reverse": "<Location /location-reverse>\nProxyPassReverse http://elsewhere.example/\n</Location>",
    "proxy": '<Proxy "@HOST@/">\nProxySet timeout=20\n</Proxy>',
    "any-url": '<Proxy "*">\nRequire all granted\n</Proxy>',
    "pattern": '<ProxyMatch "^http:.*">\nRequire all granted\n</ProxyMatch>',
}
#: Error documents in the bucket, one that exists and one that does not.
PAGE = b"<h1>This film is gone</h1>"
ERRORS = "\n".join(
    f"ProxyPass /{name}-{page} @HOST@/{BUCKET}\n<Location /{name}-{page}>\n{more}\n"
    f"ErrorDocument 404 /{name}-{page}/errors/{page}.html\n</Location>"
    for name, more in (("errors", ""), ("overridden", "ProxyErrorOverride On"))
    for page in ("existing", "missing")
)
#: mod_mime sets headers by the name of the object; S3's own headers must win.
MIME = """
AddEncoding x-gzip .gz
AddLanguage de .de
AddType text/x-wrong .ts
ProxyPass /media @HOST@/@BUCKET@
"""


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    s3.put(BUCKET, "errors/existing.html", PAGE, content_type="text/html")
    s3.put(BUCKET, "film.gz", b"a film", content_type="video/mp4")
    s3.put(BUCKET, "film.de.html", b"ein Film", content_type="video/mp4", headers={"Content-Encoding": "br"})
    parts = [PAGES, ERRORS, MIME, proxy_section(f"{s3.url}/{BUCKET}/", s3)]
    for name, lines in OTHER_SECTIONS.items():
        s3.put(BUCKET, f"{name}/a.ts", name.encode())
        parts += [f"ProxyPass /{name} @HOST@/{BUCKET}/{name}", proxy_section(f"{s3.url}/{BUCKET}/{name}/", s3), lines]
    # Without a section of its own: the Location's settings, and the URL of its ProxyPass.
    body = "\n".join([f"ProxyPass @HOST@/{BUCKET}/any-url", *settings(s3), "ProxyPreserveHost On"])
    parts.append(f"<Location /alone>\n{body}\n</Location>")
    text = "\n".join(parts).replace("@HOST@", s3.url).replace("@BUCKET@", BUCKET)
    with Httpd(text) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


@pytest.mark.parametrize("name", OTHER_SECTIONS)
def test_other_sections_do_not_hide_the_settings(httpd: Httpd, name: str) -> None:
    assert httpd.fetch(f"/{name}/a.ts").body == name.encode()


def test_a_location_without_a_proxy_section(httpd: Httpd) -> None:
    assert httpd.fetch("/alone/a.ts").body == b"any-url"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("query", ["", "?", "?acl", "?list-type=2", "?uploads&x=/"])
@pytest.mark.parametrize("mount", ["/media", "/media/", "/any-url", "/alone"])
def test_a_request_for_the_mount_is_not_sent_to_the_bucket(
    httpd: Httpd, s3: EmbeddedS3, mount: str, query: str, method: str
) -> None:
    s3.clear()
    reply = httpd.fetch(mount + query, method=method, x_amz_acl="public-read")
    assert reply.status == (404 if method in {"GET", "HEAD"} else 405)
    assert b"<Error" not in reply.body and b"<List" not in reply.body
    assert s3.requests() == []


HEADERS: tuple[dict[str, str], ...] = ({}, {"range": "bytes=0-9"}, {"if_none_match": "*"}, {"if_match": '"other"'})


@pytest.mark.parametrize("headers", HEADERS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ["errors", "overridden"])
def test_an_error_document_in_the_bucket(
    httpd: Httpd, s3: EmbeddedS3, name: str, method: str, headers: dict[str, str]
) -> None:
    """The client's Range and conditions do not apply to it, and the status is 404."""
    s3.clear()
    reply: Reply = httpd.fetch(f"/{name}-existing/missing.ts", method=method, timeout=30.0, **headers)
    assert (reply.status, reply.body) == (404, PAGE if method == "GET" else b"")
    assert reply.headers["Content-Type"].startswith("text/html") and reply.headers["Content-Range"] is None
    assert len(s3.requests()) == 2


@pytest.mark.parametrize("name", ["errors", "overridden"])
def test_an_error_document_that_does_not_exist(httpd: Httpd, s3: EmbeddedS3, name: str) -> None:
    s3.clear()
    reply = httpd.fetch(f"/{name}-missing/missing.ts")
    assert reply.status == 404
    assert len(s3.requests()) == 2


def test_s3s_headers_override_those_of_mod_mime(httpd: Httpd) -> None:
    film = httpd.fetch("/media/film.gz")
    assert (film.headers["Content-Type"], film.headers["Content-Encoding"]) == ("video/mp4", None)
    page = httpd.fetch("/media/film.de.html")
    assert (page.headers["Content-Type"], page.headers["Content-Encoding"]) == ("video/mp4", "br")
    assert page.headers["Content-Language"] is None


@pytest.mark.parametrize("target", ["/media/\xe9.ts", "/media/none.ts?x=\xe9", "/media/\xe2\x98\x95/.x"])
def test_raw_bytes_in_the_request_target(httpd: Httpd, s3: EmbeddedS3, target: str) -> None:
    """As in the gateway: they cause no internal error."""
    s3.clear()
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        received = b"".join(iter(lambda: client.recv(65_536), b""))
    assert received.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
