"""``_httpd.register`` raises if Python hands over tables of a wrong shape; requests are signed with the right ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.httpd.conftest import BUCKET, ONE_CHILD, proxy_section
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

#: An application that registers the shared tables again, with the changes in the query.
APP = """
from usp_s3_wsgi import _httpd
from usp_s3_wsgi.proxy.shared_tables import SHARED_TABLES
from urllib.parse import unquote

def application(environ, start_response):
    changes = eval("dict(" + unquote(environ["QUERY_STRING"]) + ")")
    tables = changes.pop("tables", None)
    try:
        body = repr(_httpd.register(*[None] * 5, tables or tuple(SHARED_TABLES._replace(**changes))))
    except Exception as error:
        body = f"{type(error).__name__}: {error}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
"""


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    url = f"{s3.url}/{BUCKET}"
    s3.put(BUCKET, "a", b"hello")
    lines = [ONE_CHILD, "WSGIScriptAlias /app ${ROOT}/htdocs/app.wsgi application-group=%{GLOBAL}"]
    lines += [f"ProxyPass /bucket {url}", proxy_section(url + "/", s3)]
    with Httpd("\n".join(lines)) as running:
        (running.root / "htdocs" / "app.wsgi").write_text(APP)
        yield running


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("", "None"),
        ("request_headers={1:()}", "TypeError: text expected"),
        ("request_headers={'GET':'Range'}", "TypeError: a tuple of names expected"),
        ("request_headers={'GET':(1,)}", "TypeError: text expected"),
        ("request_headers=()", "TypeError: "),
        ("response_headers={'200':()}", "TypeError: "),
        ("response_headers={200:['ETag']}", "TypeError: a tuple of names expected"),
        ("dated_conditions='If-Modified-Since'", "TypeError: "),
        ("etag_conditions=('If-Match',)", "ValueError: as many conditions with ETags as with dates expected"),
        ("gzip_codings=(b'gzip',)", "TypeError: text expected"),
        ("upload_coding=None", "TypeError: "),
        ("default_content_type=b'a/b'", "TypeError: "),
        ("unreserved='abc/'", "ValueError: unreserved characters of a path expected"),
        ("unreserved='ab c'", "ValueError: unreserved characters of a path expected"),
        ("unreserved='\\xe9'", "ValueError: unreserved characters of a path expected"),
        ("max_header_size=0", "ValueError: sizes of more than 0 bytes expected"),
        ("max_error_document_size=-1", "ValueError: sizes of more than 0 bytes expected"),
        ("max_header_size='1'", "TypeError: "),
        ("tables=({},)", "TypeError: "),
        ("tables={1:2}", "TypeError: "),
    ],
)
def test_tables_of_a_wrong_shape(httpd: Httpd, changes: str, expected: str) -> None:
    body = httpd.fetch(f"/app?{changes.replace(' ', '%20')}").body.decode()
    assert body == expected if expected[-2:] != ": " else body.startswith(expected) and len(body) > len(expected)
    assert httpd.fetch("/bucket/a").body == b"hello"
