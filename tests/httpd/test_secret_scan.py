"""The output of a running server at the highest log level holds no key, no token and no signature.

(Every other test searches its servers' logs and responses as well.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from http.client import IncompleteRead
from pathlib import Path

import pytest

from tests.faults.named import FAULTS, TIMEOUT, WHOLE
from tests.faults.server import ScriptedS3
from tests.httpd.conftest import BUCKET, MODES, PAGES, proxy_section, section
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.httpd.test_truncation import TRACEBACK
from tests.leaks import SECRET_KEY, TOKEN, leaks
from tests.s3 import EmbeddedS3

PORT = free_port()
SERVER_CONFIG = """
# mod_dumpio and ssl:trace7 write all bytes of connections; docs/logging.md warns of them.
LogLevel trace6
ExtendedStatus On
<Location /server-status>
  SetHandler server-status
</Location>
<Location /server-info>
  SetHandler server-info
</Location>
LogFormat "%r %f %q %U %{Authorization}i %{x-amz-security-token}i %{X-Amz-Date}i %{S3SecretKeyFile}e %{Location}o" all
CustomLog access.log all
ErrorDocument 502 /page
"""
FILES = "SetEnv S3SecretKeyFile ${ROOT}/secret\nSetEnv S3SecurityTokenFile ${ROOT}/token"


def without_secret_key(text: str) -> str:
    """The section without the secret itself, which is in a file, so that mod_info cannot show it."""
    return "\n".join(line for line in text.splitlines() if "SetEnv S3SecretKey " not in line) + "\n"


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Httpd]:
    assert s3.secret_key == SECRET_KEY
    s3.put(BUCKET, "a.ts", b"an object")
    parts = [SERVER_CONFIG, PAGES]
    url = f"{s3.url}/{BUCKET}"
    for mode in MODES:
        parts.append(without_secret_key(section(f"/gateway-{mode}", s3, FILES, mode=mode)))
        parts.append(f"ProxyPass /proxied-{mode} {url}/{mode}\n")
        parts.append(without_secret_key(proxy_section(f"{url}/{mode}/", s3, FILES, mode=mode)))
        faulty = without_secret_key(section(f"/faulty-{mode}", s3, FILES, f'SetEnv S3ProxySet "{TIMEOUT}"', mode=mode))
        parts.append(faulty.replace(s3.host, f"127.0.0.1:{PORT}"))
        parts.append(f"ProxyPass /broken-{mode} http://127.0.0.1:{PORT}/{mode}\n")
        parts.append(without_secret_key(proxy_section(f"http://127.0.0.1:{PORT}/{mode}/", s3, FILES, mode=mode)))
    server = Httpd("\n".join(parts))
    server.start()
    for name, text in (("secret", SECRET_KEY), ("token", TOKEN)):
        (server.root / name).write_text(text)
        (server.root / name).chmod(0o644)
    (server.root / "htdocs" / "page").write_text(
        'sorry <!--#printenv --> <!--#include virtual="/gateway-v4-query/a.ts" -->'
    )
    yield server
    server.stop()  # searches all files that it wrote


def visible_output(httpd: Httpd) -> str:
    """What other programs and pages can see of the server."""
    # What "ps e" lists.
    processes = [
        Path(f"/proc/{pid}/{file}").read_text("utf-8", "replace")
        for pid in httpd.children()
        for file in ("cmdline", "environ")
    ]
    pages = [httpd.fetch(page).body.decode("utf-8", "replace") for page in ("/server-status", "/server-info")]
    assert all(pages) and processes and all(processes)
    return "\n".join([*processes, *pages])


@pytest.mark.parametrize("mode", MODES)
def test_no_secret_is_visible_while_s3_handles_a_request(httpd: Httpd, mode: str) -> None:
    """server-status shows each thread's request: the client's, not the one that was sent to S3."""
    outputs: list[str] = []

    def record_output(connection: object, request: object) -> None:
        outputs.append(visible_output(httpd))
        connection.send(WHOLE)  # type: ignore[attr-defined]

    with ScriptedS3(record_output, record_output, port=PORT):
        assert httpd.fetch(f"/faulty-{mode}/film.mp4?x=1").status in {200, 504}
        assert httpd.fetch(f"/broken-{mode}/film.mp4?x=1").status in {200, 504}
    assert len(outputs) == 2
    assert f"/broken-{mode}/film.mp4" in outputs[1]
    assert not leaks("\n".join(outputs))


@pytest.mark.parametrize("mode", MODES)
def test_no_secret_is_logged_whatever_fails(httpd: Httpd, mode: str) -> None:
    """``fetch`` searches the responses, and the logs are searched when the server stops."""
    httpd.expect_error(f"usp_s3_wsgi|{TRACEBACK}")
    for name in ("closed each time", "wrong keys", "412: changed meanwhile", "not HTTP", "a redirect to nowhere",
                 "garbage in the header", "the token has expired", "InternalError without end"):  # fmt: skip
        for mount in ("faulty", "broken"):
            with ScriptedS3(*FAULTS[name].script, port=PORT, then=WHOLE) as s3:
                with suppress(OSError, IncompleteRead):  # a truncated body
                    httpd.fetch(f"/{mount}-{mode}/film.mp4")
                s3.forget()
    for mount in ("gateway", "proxied"):
        for method in ("GET", "HEAD", "PUT"):
            for key in ("a.ts", "missing", "", "a.ts?X-Amz-Signature=1&acl"):
                httpd.fetch(f"/{mount}-{mode}/{key}", method=method)
    assert not leaks(visible_output(httpd))


def test_leaks_are_found() -> None:
    for text in (
        f"key={SECRET_KEY}",
        "AWS4-HMAC-SHA256 Credential=A/20261124/r/s3/aws4_request, SignedHeaders=host, Signature=" + "1f" * 32,
        "GET /a?X-Amz-Signature=" + "0a" * 32,
        "Authorization: AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=",
        "/a?AWSAccessKeyId=A&Expires=1&Signature=frJIUN8DYpKDtOLCwo%2F%2FyllqDzg%3D",
        f"x-amz-security-token: {TOKEN}",
    ):
        assert leaks(f"before {text} after")
    assert not leaks("GET /media/film.mp4?X-Amz-Signature=1 HTTP/1.1")
