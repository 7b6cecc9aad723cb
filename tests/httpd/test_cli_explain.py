"""usp-s3 explain with a real httpd: a planted failure is found by its request id, both ways in."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest

from tests.certificates import Certificate
from tests.faults.server import ScriptedS3, answer
from tests.httpd import commands, metrics
from tests.httpd.conftest import BUCKET, NEEDS_SSL
from tests.httpd.machine import free_port
from tests.httpd.server import WAIT, Httpd
from tests.httpd.test_status import MOUNTS, mount
from tests.leaks import ACCESS_KEY, TOKEN, leaks
from tests.s3 import EmbeddedS3
from usp_s3_wsgi.cli import apache_config

DOCUMENT = (
    "<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code><Message>The signatures differ.</Message>"
    "<CanonicalRequest>GET&#10;/other/film.ts&#10;</CanonicalRequest></Error>"
)


@pytest.fixture
def start(checked: list[Httpd]) -> Callable[[str], Httpd]:
    """Starts an httpd that records."""
    return metrics.starter(checked)


def wait_for_failure(httpd: Httpd) -> None:
    deadline = time.monotonic() + WAIT
    while not any(one["failures"] for one in json.loads(httpd.fetch("/usp-s3/status/json").body)["buckets"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def plant(httpd: Httpd, path: str) -> None:
    httpd.expect_error("SignatureDoesNotMatch")
    assert httpd.fetch(f"{path}/film.ts", range="bytes=0-99").status == 502
    wait_for_failure(httpd)


@pytest.mark.parametrize("path", MOUNTS)
def test_a_planted_failure(start: Callable[[str], Httpd], path: str) -> None:
    headers = ("x-amz-request-id", "4442587FB7D0A2F9"), ("x-amz-id-2", "Uuag1LuByRx9e6j5")
    with ScriptedS3(answer(403, DOCUMENT.encode(), *headers)) as s3:
        httpd = start(mount(f"{s3.url}/{BUCKET}", path))
        plant(httpd, path)
    for request_id in ("4442587FB7D0A2F9", "Uuag1LuByRx9e6j5"):
        done = commands.usp_s3("explain", *commands.of(httpd), request_id)
        assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    assert f"Requested GET /{BUCKET}/film.ts of {s3.url.removeprefix('http://')}, Range: bytes=0-99" in text
    assert "S3 said 403 SignatureDoesNotMatch: The signatures differ." in text
    assert "Difference Canonical request, line 2:" in text and "S3 has /other/film.ts" in text
    assert "Why S3SecretKey or the file of S3SecretKeyFile is not the secret" in text
    assert "Client got status 502" in text
    assert not leaks(done.stdout) and TOKEN not in done.stdout and ACCESS_KEY not in done.stdout
    page = re.search(r"^Page +(\S+)$", done.stdout, re.MULTILINE)
    assert page and page[1].startswith(httpd.url)
    assert b"4442587FB7D0A2F9" in httpd.fetch(page[1].removeprefix(httpd.url)).body


def test_an_id_that_is_not_kept_is_in_the_error_log(start: Callable[[str], Httpd], s3: EmbeddedS3) -> None:
    httpd = start(mount(f"{s3.url}/{BUCKET}", "/embedded"))
    done = commands.usp_s3("explain", *commands.of(httpd), "4442587FB7D0A2F9")
    assert done.returncode == 1
    assert f"grep -F -e 4442587FB7D0A2F9 {httpd.root}/error.log\n" in done.stderr


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "WSGIScriptAlias /usp-s3/status ${USP_S3_STATUS}"),
        ("WSGIScriptAlias /status ${USP_S3_STATUS}\n", '"UspS3Metrics On" is missing'),
        (f"{metrics.CONFIG}<Location /usp-s3/>\nRequire all denied\n</Location>\n", "(Require)"),
    ],
)
def test_a_page_that_is_missing_or_closed(checked: list[Httpd], lines: str, message: str) -> None:
    httpd = Httpd(lines)
    httpd.start()
    checked.append(httpd)
    httpd.expect_error("AH01630")
    done = commands.usp_s3("explain", *commands.of(httpd), "4442587FB7D0A2F9")
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


@NEEDS_SSL
def test_a_page_with_tls(checked: list[Httpd], certificate: Certificate) -> None:
    """The certificate of the tests is in no list of authorities."""
    port = free_port()
    tls = f"SSLEngine on\nSSLCertificateFile {certificate.chain}\nSSLCertificateKeyFile {certificate.key}\n"
    with ScriptedS3(answer(403, DOCUMENT.encode(), ("x-amz-request-id", "4442587FB7D0A2F9"))) as s3:
        httpd = Httpd(
            f"{metrics.CONFIG}{mount(f'{s3.url}/{BUCKET}', '/embedded')}"
            f"Listen 127.0.0.1:{port}\n<VirtualHost *:{port}>\nServerName media.example\n{tls}</VirtualHost>\n"
        )
        httpd.start()
        checked.append(httpd)
        httpd.expect_error("AH01909")
        plant(httpd, "/embedded")
        # Only the port with TLS is left in the configuration that the command reads.
        (httpd.root / "httpd.conf").write_text(
            (httpd.root / "httpd.conf").read_text().replace(f"Listen 127.0.0.1:{httpd.port}\n", "")
        )
        done = commands.usp_s3("explain", *commands.of(httpd), "4442587FB7D0A2F9")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Page +https://127\.0\.0\.1:", done.stdout, re.MULTILINE)


def test_the_page_of_the_health_checks(checked: list[Httpd]) -> None:
    port = free_port()
    lines = (
        f"Define USP_S3_HEALTH_PORT {port}\nDefine USP_S3_DRAIN_FILE /nonexistent/drain\n"
        'Define USP_S3_STATUS_REQUIRE "local"\nUspS3Metrics On\n'
    )
    with ScriptedS3(answer(403, DOCUMENT.encode(), ("x-amz-request-id", "4442587FB7D0A2F9"))) as s3:
        config = (
            f"{lines}Include {apache_config.share_directory()}/health.conf\n{mount(f'{s3.url}/{BUCKET}', '/embedded')}"
        )
        httpd = Httpd(config)
        httpd.start()
        checked.append(httpd)
        httpd.expect_error("SignatureDoesNotMatch")
        assert httpd.fetch("/embedded/film.ts").status == 502
        done = commands.usp_s3("explain", *commands.of(httpd), "4442587FB7D0A2F9")
    assert done.returncode == 0, done.stderr
    assert f"http://127.0.0.1:{port}/status/failures/" in done.stdout


def test_codes_of_the_installed_page() -> None:
    done = commands.usp_s3("explain", "USPS30305", environment={"COLUMNS": "60", "FORCE_COLOR": ""})
    assert done.returncode == 0 and done.stdout.startswith("USPS30305: S3 rejects the request")
    listed = commands.usp_s3("explain")
    assert "\nUSPS30101  a setting is wrong" in listed.stdout and "\nSignatureDoesNotMatch " in listed.stdout
