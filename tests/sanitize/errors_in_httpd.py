"""Each of these tests makes an error in a child of httpd, so each must fail. ``test_reports.py`` runs them."""

from __future__ import annotations

import http.client
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.httpd.machine import compile_module
from tests.httpd.server import Httpd

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]
CALLS = {
    "read_behind": "errors.read_behind(b'text', 5)",  # a bytes object has a zero byte at its end
    "read_behind_pool_memory": "errors.read_behind_pool_memory(8)",
    "read_after_pool_end": "errors.read_after_pool_end()",
    "add": "errors.add(2**31 - 1, 1)",
}
APP = """
import ctypes

errors = ctypes.CDLL({library!r})

def application(environ, start_response):
    body = str({call}).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield compile_module(Path(__file__).with_name("errors.c"), Path(folder), *SANITIZERS)


@pytest.mark.parametrize("name", CALLS)
def test_error(library: Path, name: str) -> None:
    with Httpd("WSGIScriptAlias /app ${ROOT}/htdocs/app.wsgi application-group=%{GLOBAL}") as httpd:
        (httpd.root / "htdocs" / "app.wsgi").write_text(APP.format(library=str(library), call=CALLS[name]))
        with suppress(http.client.HTTPException, ConnectionError):  # the child has ended
            httpd.fetch("/app")
