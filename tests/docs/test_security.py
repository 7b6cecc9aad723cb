"""docs/security.md: who sees a key in ``SetEnv``, and who sees one in a file. (Other rules: test_trust_*.py.)"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.docs.test_troubleshooting import FILM, bucket, gateway, proxy, scripted
from tests.httpd.server import WAIT, Httpd

#: Not one of the secrets that every response is searched for: some of these responses show it.
KEY = "a-key-in-setenv"
SETENV = f"SetEnv S3AccessKey A\nSetEnv S3SecretKey {KEY}\nSetEnv S3Region eu-central-1"
FILE = "SetEnv S3AccessKey A\nSetEnv S3SecretKeyFile ${ROOT}/the.secret\nSetEnv S3Region eu-central-1"
CONFIG = f"""
LogFormat "%U key=%{{S3SecretKey}}e" keys
CustomLog access.log keys
<Location /server-info>
  SetHandler server-info
</Location>
Alias /pages ${{ROOT}}/htdocs
<Location /pages>
  Options +Includes
  SetHandler default-handler
  SetOutputFilter INCLUDES
</Location>
<Location /pages/below>
  {SETENV}
</Location>
<Location /pages/file>
  {FILE}
</Location>
{gateway(keys=SETENV)}
{gateway(keys=FILE).replace("@NAME@", "film")}
{proxy().replace("@NAME@", "proxied")}
"""


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    with Httpd(bucket(CONFIG)) as server:
        server.expect_error("USPS308")  # the file is missing at the start, and some sections have no mount
        (server.root / "the.secret").write_text(KEY)
        for name in ("below", "file", "outside"):
            (server.root / "htdocs" / name).write_text("<!--#printenv -->")
        yield server
    assert server.unexpected == []


def body(httpd: Httpd, path: str) -> str:
    with urllib.request.urlopen(httpd.url + path, timeout=20) as reply:
        return str(reply.read(), "utf-8", "replace")


def test_server_info(httpd: Httpd) -> None:
    page = body(httpd, "/server-info")
    assert KEY in page and "the.secret" in page


@pytest.mark.parametrize(("name", "is_shown"), [("below", True), ("file", False), ("outside", False)])
def test_a_page_of_another_handler_below_the_section(httpd: Httpd, name: str, is_shown: bool) -> None:
    page = body(httpd, f"/pages/{name}")
    assert (KEY in page) == is_shown
    assert ("the.secret" in page) == (name == "file")


@pytest.mark.parametrize("mount", ["media", "film", "proxied"])
def test_the_access_log_of_a_request_to_a_bucket(httpd: Httpd, mount: str) -> None:
    with scripted(FILM):
        assert body(httpd, f"/{mount}/film.mp4") == "a film"
    deadline = time.monotonic() + WAIT
    while not (lines := logged(httpd, mount)) and time.monotonic() < deadline:  # written after the response
        time.sleep(0.01)
    assert lines == [f"/{mount}/film.mp4 key=-"]


def logged(httpd: Httpd, mount: str) -> list[str]:
    """The complete lines of the access log about a mount."""
    lines = (httpd.root / "access.log").read_text().splitlines(keepends=True)
    return [line.strip() for line in lines if line.startswith(f"/{mount}/") and line.endswith("\n")]


def test_a_key_outside_of_sections_is_shown_by_every_page() -> None:
    with Httpd(bucket(CONFIG + SETENV)) as httpd:
        httpd.expect_error("USPS308")
        (httpd.root / "htdocs" / "outside").write_text("<!--#printenv -->")
        assert KEY in body(httpd, "/pages/outside")
