"""``_httpd.log`` writes a line to the error log for the request of a response body, if LogLevel of usp_s3 allows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.httpd.server import Httpd

APP = """
from usp_s3_wsgi import _httpd

def application(environ, start_response):
    level = int(environ["QUERY_STRING"])
    try:
        body = "done" if _httpd.log(_httpd.guarded_body(), level, f"a line of level {level}, 100%s") is None else "?"
    except ValueError as error:
        body = str(error)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
"""
CONFIG = """
LogLevel warn
WSGIScriptAlias /app ${ROOT}/htdocs/app.wsgi application-group=%{GLOBAL}
<Location /app>
  SetEnv S3BucketURL http://127.0.0.1:1/bucket/
</Location>
<Location /app/info>
  LogLevel usp_s3:info
</Location>
"""


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    with Httpd(CONFIG) as server:
        server.expect_error("a line of level ")
        (server.root / "htdocs" / "app.wsgi").write_text(APP)
        yield server
    assert "\n".join(server.unexpected) == ""


@pytest.mark.parametrize(
    ("path", "level", "name"),
    [
        ("/app", 3, "error"),
        ("/app", 4, "warn"),
        ("/app", 6, None),
        ("/app/info", 6, "info"),
        ("/app/info", 7, None),
    ],
)
def test_a_line_is_written_at_its_level(httpd: Httpd, path: str, level: int, name: str | None) -> None:
    before = len(httpd.errors())
    assert httpd.fetch(f"{path}?{level}").body == b"done"
    lines = [line for line in httpd.errors()[before:] if "a line of level" in line]
    if name is None:
        assert lines == []
    else:
        (line,) = lines
        assert f"[usp_s3:{name}]" in line and line.endswith(f"a line of level {level}, 100%s")


@pytest.mark.parametrize("level", [-1, 16])
def test_other_levels_are_rejected(httpd: Httpd, level: int) -> None:
    assert httpd.fetch(f"/app?{level}").body == b"a level from 0 to 15 expected"
