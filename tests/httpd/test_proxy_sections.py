"""``<Proxy>``: what stands around a bucket's section must neither hide it nor find a way past it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.httpd.conftest import BUCKET, PAGES, proxy_section, settings
from tests.httpd.server import Httpd, Reply
from tests.s3 import EmbeddedS3

#: What operators write beside a section: each of these makes mod_proxy forget which section it was in.
BESIDE = {
    "location-host": "<Location /location-host>\nProxyPreserveHost On\n</Location>",
    "location-headers": "<Location /location-headers>\nProxyAddHeaders Off\n</Location>",
    "location-override": "<Location /location-override>\nProxyErrorOverride Off\n</Location>",
    "location-reverse": "<Location /location-reverse>\nProxyPassReverse http://elsewhere.example/\n</Location>",
    "around": '<Proxy "@HOST@/">\nProxySet timeout=20\n</Proxy>',
    "everything": '<Proxy "*">\nRequire all granted\n</Proxy>',
    "pattern": '<ProxyMatch "^http:.*">\nRequire all granted\n</ProxyMatch>',
}
#: Error pages in the bucket itself, one that is there and one that is not.
PAGE = b"<h1>This film is gone</h1>"
ERRORS = "\n".join(
    f"ProxyPass /{name}-{there} @HOST@/{BUCKET}\n<Location /{name}-{there}>\n{more}\n"
    f"ErrorDocument 404 /{name}-{there}/errors/{there}.html\n</Location>"
    for name, more in (("errors", ""), ("overridden", "ProxyErrorOverride On"))
    for there in ("there", "missing")
)
#: What mod_mime makes of names, where the object's own headers say something else.
MIME = """
AddEncoding x-gzip .gz
AddLanguage de .de
AddType text/x-wrong .ts
ProxyPass /media @HOST@/@BUCKET@
"""


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    s3.put(BUCKET, "errors/there.html", PAGE, content_type="text/html")
    s3.put(BUCKET, "film.gz", b"a film", content_type="video/mp4")
    s3.put(BUCKET, "film.de.html", b"ein Film", content_type="video/mp4", headers={"Content-Encoding": "br"})
    parts = [PAGES, ERRORS, MIME, proxy_section(f"{s3.url}/{BUCKET}/", s3)]
    for name, lines in BESIDE.items():
        s3.put(BUCKET, f"{name}/a.ts", name.encode())
        parts += [f"ProxyPass /{name} @HOST@/{BUCKET}/{name}", proxy_section(f"{s3.url}/{BUCKET}/{name}/", s3), lines]
    # Without a section of its own: the Location's settings, and the URL of its ProxyPass.
    body = "\n".join([f"ProxyPass @HOST@/{BUCKET}/everything", *settings(s3), "ProxyPreserveHost On"])
    parts.append(f"<Location /alone>\n{body}\n</Location>")
    text = "\n".join(parts).replace("@HOST@", s3.url).replace("@BUCKET@", BUCKET)
    with Httpd(text) as server:
        yield server
    assert "\n".join(server.unexpected) == ""


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_a_section_does_not_hide_it(httpd: Httpd, name: str) -> None:
    assert httpd.fetch(f"/{name}/a.ts").body == name.encode()


def test_a_location_alone(httpd: Httpd) -> None:
    assert httpd.fetch("/alone/a.ts").body == b"everything"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("query", ["", "?", "?acl", "?list-type=2", "?uploads&x=/"])
@pytest.mark.parametrize("mount", ["/media", "/media/", "/everything", "/alone"])
def test_the_mount_itself_never_reaches_the_bucket(
    httpd: Httpd, s3: EmbeddedS3, mount: str, query: str, method: str
) -> None:
    s3.clear()
    reply = httpd.fetch(mount + query, method=method, x_amz_acl="public-read")
    assert reply.status == (404 if method in {"GET", "HEAD"} else 405)
    assert b"<Error" not in reply.body and b"<List" not in reply.body
    assert s3.requests() == []


ASKED: tuple[dict[str, str], ...] = ({}, {"range": "bytes=0-9"}, {"if_none_match": "*"}, {"if_match": '"other"'})


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ["errors", "overridden"])
def test_an_error_page_in_the_bucket(
    httpd: Httpd, s3: EmbeddedS3, name: str, method: str, asked: dict[str, str]
) -> None:
    """It is none of what the client asked for: neither found, nor a part, nor "not modified"."""
    s3.clear()
    reply: Reply = httpd.fetch(f"/{name}-there/missing.ts", method=method, timeout=30.0, **asked)
    assert (reply.status, reply.body) == (404, PAGE if method == "GET" else b"")
    assert reply.headers["Content-Type"].startswith("text/html") and reply.headers["Content-Range"] is None
    assert len(s3.requests()) == 2


@pytest.mark.parametrize("name", ["errors", "overridden"])
def test_an_error_page_that_is_missing_too(httpd: Httpd, s3: EmbeddedS3, name: str) -> None:
    s3.clear()
    reply = httpd.fetch(f"/{name}-missing/missing.ts")
    assert reply.status == 404
    assert len(s3.requests()) == 2


def test_what_s3_says_of_the_object_is_what_the_client_hears(httpd: Httpd) -> None:
    film = httpd.fetch("/media/film.gz")
    assert (film.headers["Content-Type"], film.headers["Content-Encoding"]) == ("video/mp4", None)
    page = httpd.fetch("/media/film.de.html")
    assert (page.headers["Content-Type"], page.headers["Content-Encoding"]) == ("video/mp4", "br")
    assert page.headers["Content-Language"] is None


@pytest.mark.parametrize("target", ["/media/\xe9.ts", "/media/none.ts?x=\xe9", "/media/\xe2\x98\x95/.x"])
def test_raw_bytes_in_the_request_target(httpd: Httpd, s3: EmbeddedS3, target: str) -> None:
    """As the gateway has them; nothing of it is an error of this server."""
    s3.clear()
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=20) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
