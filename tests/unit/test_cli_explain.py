"""usp-s3 explain: codes, where the status page is, and what is printed of a failed request."""

from __future__ import annotations

import dataclasses
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificate
from tests.configurations import configtest_input
from tests.httpd.machine import free_port, serving
from tests.status import examples
from usp_s3_wsgi.cli import apache_config
from usp_s3_wsgi.cli.explain import status_client, status_url
from usp_s3_wsgi.cli.explain.codes import Codes
from usp_s3_wsgi.cli.main import main
from usp_s3_wsgi.cli.server import httpd_config
from usp_s3_wsgi.configtest import parsed_config
from usp_s3_wsgi.configtest.parsed_config import Configuration

ROOT = Path(__file__).parents[2]
STATUS = "UspS3Metrics On\nWSGIScriptAlias /usp-s3/status /opt/share/usp_s3_status.wsgi\n"


@pytest.fixture(autouse=True)
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installed explanations are those of this source tree."""
    (tmp_path / "errors.md").write_bytes((ROOT / "docs" / "errors.md").read_bytes())
    monkeypatch.setattr(apache_config, "share_directory", lambda: tmp_path)
    monkeypatch.setattr(httpd_config, "run_configuration", lambda httpd: "")
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def one_line(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------- codes


@pytest.mark.parametrize("word", ["USPS30305", "usps30305", " USPS30305 ", "USPS30305:", "(USPS30305),"])
def test_a_code_of_this_package(word: str, capsys: pytest.CaptureFixture[str], share: Path) -> None:
    assert main(["explain", word]) == 0
    out, err = capsys.readouterr()
    text = one_line(out)
    assert text.startswith("USPS30305: S3 rejects the request, because of this server Why ")
    assert "What to do " in text and text.endswith(f" Read more {share}/errors.md")
    assert err == "" and max(map(len, out.splitlines()[:-1])) <= 80


def test_a_code_that_is_explained_by_another_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "USPS30810"]) == 0
    text = one_line(capsys.readouterr().out)
    assert "Why As USPS30809, and " in text and " USPS30809: " in text
    assert Codes().explanations.by_code["USPS30809"].why in text


def test_the_pages_of_the_installation(share: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (share / "troubleshooting.md").touch()
    assert main(["explain", "USPS30305"]) == 0
    assert one_line(capsys.readouterr().out).endswith(f" Read more {share}/errors.md, {share}/troubleshooting.md")


@pytest.mark.parametrize("word", ["SignatureDoesNotMatch", "signaturedoesnotmatch"])
def test_a_code_of_s3(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", word]) == 0
    text = one_line(capsys.readouterr().out)
    assert text.startswith("SignatureDoesNotMatch: S3 computes another signature") and "Set access key and" in text


def test_each_code_is_explained_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    for code, explanation in Codes().explanations.by_code.items():
        assert main(["explain", code]) == 0
        out = capsys.readouterr().out
        assert explanation.what_to_do in one_line(out) or code == "USPS30301"
        assert all(len(line) <= 80 for line in out.splitlines() if "/" not in line)


def test_all_codes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    titles = re.findall(r"^### ([A-Za-z0-9]+): (.*)$", (ROOT / "docs" / "errors.md").read_text("utf-8"), re.MULTILINE)
    assert len(titles) > 60
    for code, title in titles:
        assert f"{code} {title.replace('`', '')}" in one_line(out)
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("word", "suggestion"),
    [
        ("USPS30306", "USPS30306 is not a code: did you mean USPS30"),
        ("USPS99", "USPS99 is not a code ("),
        ("SignatureDoesntMatch", "did you mean SignatureDoesNotMatch?"),
        ("slowdowm", "did you mean SlowDown?"),
        ("30305", "30305: did you mean USPS30305?"),
        ("30306,", "30306: did you mean USPS30"),
        ("403", "403 is a status, not a code: see docs/responses.md"),
        ("AH00898:", "AH00898: AH... codes are httpd's own"),
    ],
)
def test_a_code_that_is_none(word: str, suggestion: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", word]) == 1
    out, err = capsys.readouterr()
    assert out == "" and suggestion in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "word", ["4442587FB7D0A2F9", "tx00000d3f-006747-31", "8f1c2a3b4c5d6e7f-AMS", "A1B2C3D4E5F6G7H8"]
)
def test_request_ids_are_no_misspelt_codes(word: str) -> None:
    assert Codes().similar(word) == []


def test_explanations_that_are_not_installed(share: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (share / "errors.md").unlink()
    assert main(["explain", "USPS30305"]) == 1
    assert f"{share}/errors.md is missing or empty" in capsys.readouterr().err


# ---------------------------------------------------------------- where the status page is


def configuration(text: str) -> Configuration:
    return parsed_config.parse(configtest_input(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Listen 8080\n" + STATUS, ["http://127.0.0.1:8080/usp-s3/status"]),
        ("Listen 127.0.0.2:81\nListen [::1]:82\n" + STATUS, ["http://127.0.0.2:81/usp-s3/status", "http://[::1]:82/usp-s3/status"]),
        ("Listen [::]:80\nListen 192.0.2.1:81\n" + STATUS, ["http://127.0.0.1:80/usp-s3/status"]),
        ("Listen 443\n" + STATUS, ["https://127.0.0.1:443/usp-s3/status"]),
        (
            f"Listen 80\nListen 81\n<VirtualHost 192.0.2.1:81>\n{STATUS}</VirtualHost>\n"
            f"<VirtualHost 127.0.0.1:80>\n{STATUS}</VirtualHost>\n",
            ["http://127.0.0.1:80/usp-s3/status"],
        ),
        ("Listen 443 https\n" + STATUS, ["https://127.0.0.1:443/usp-s3/status"]),
        ("Listen 8443\nSSLEngine on\n" + STATUS, ["https://127.0.0.1:8443/usp-s3/status"]),
        (
            "Listen 80\nListen 443\n<VirtualHost *:443>\nSSLEngine On\n</VirtualHost>\n" + STATUS,
            ["http://127.0.0.1:80/usp-s3/status", "https://127.0.0.1:443/usp-s3/status"],
        ),
        (
            f"Listen 80\nListen 81\n<VirtualHost *:81>\n{STATUS}</VirtualHost>\n"
            "<VirtualHost _default_>\n</VirtualHost>\n",
            ["http://127.0.0.1:81/usp-s3/status"],
        ),
        (
            'Listen 80\nListen 8081\n<VirtualHost *:8081>\nRewriteRule "^/status(/.*)?$" '
            '"/opt/share/usp_s3_status.wsgi$1" [H=wsgi-script,L]\n</VirtualHost>\n',
            ["http://127.0.0.1:8081/status"],
        ),
        ("Listen 192.0.2.1:80\n" + STATUS, []),
        ("Listen 80\nWSGIScriptAlias /usp-s3/metrics /opt/share/usp_s3_metrics.wsgi\n", []),
    ],
)  # fmt: skip
def test_the_page_is_found_in_the_configuration(text: str, expected: list[str]) -> None:
    assert [str(url) for url in status_url.find(configuration(text))] == expected
    assert status_url.is_configured(configuration(text)) is ("usp_s3_status" in text)


def test_error_logs() -> None:
    text = (
        "ErrorLog logs/error.log\n<VirtualHost *:80>\nErrorLog /var/log/one.log\n</VirtualHost>\n"
        '<VirtualHost *:81>\nErrorLog "|/usr/bin/rotatelogs x"\n</VirtualHost>\n'
        "<VirtualHost *:82>\nErrorLog syslog:local1\n</VirtualHost>\n"
    )
    assert status_url.error_logs(configuration(text), "") == ["logs/error.log", "/var/log/one.log"]
    dump = 'ServerRoot: "/etc/apache2"\nMain ErrorLog: "/etc/apache2/logs/error.log"\n'
    expected = ["/etc/apache2/logs/error.log", "/var/log/one.log"]
    assert status_url.error_logs(configuration(text), dump) == expected
    assert status_url.error_logs(configuration("Listen 80\n"), dump) == expected[:1]  # httpd's default


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8000/usp-s3/status/", "http://127.0.0.1:8000/usp-s3/status"),
        ("http://localhost/usp-s3/status/json", "http://127.0.0.1:80/usp-s3/status"),
        ("https://[::1]/status?format=json", "https://[::1]:443/status"),
        ("http://127.0.0.9", "http://127.0.0.9:80"),
    ],
)
def test_the_url_of_the_option(text: str, expected: str) -> None:
    assert str(status_url.parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "http://192.0.2.1/status", "http://media.example/status", "ftp://127.0.0.1/", "127.0.0.1", "http://[::1/",
        "http://me:hidden@127.0.0.1/status", "http://127.0.0.1:x/",
    ],
)  # fmt: skip
def test_only_loopback_is_asked(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--status", text, "4442"]) == 2
    err = capsys.readouterr().err
    assert "Invalid value for '--status': must be" in err and "hidden" not in err


# ---------------------------------------------------------------- a failed request


class Answers:
    """What a status page answers, and the requests that it has got."""

    def __init__(self) -> None:
        self.status, self.body, self.requests = 200, b"", list[tuple[str, str]]()


@contextmanager
def status_page(answers: Answers, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.requests.append((self.path, self.headers["Host"]))
            self.send_response(answers.status)
            self.end_headers()
            self.wfile.write(answers.body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with serving(server) as port:
        yield port


def document(snapshot: Any) -> bytes:
    return json.dumps(dataclasses.asdict(snapshot)).encode()


@pytest.fixture
def page() -> Iterator[tuple[Answers, int]]:
    answers = Answers()
    answers.body = document(examples.night())
    with status_page(answers) as port:
        yield answers, port


def ask(port: int, request_id: str) -> int:
    return main(["explain", "--status", f"http://127.0.0.1:{port}/usp-s3/status", request_id])


def test_a_failed_request(page: tuple[Answers, int], capsys: pytest.CaptureFixture[str]) -> None:
    answers, port = page
    assert ask(port, "TX0384A") == 0
    out, err = capsys.readouterr()
    assert err == "" and answers.requests == [("/usp-s3/status/json", f"127.0.0.1:{port}")]
    labels = [label.strip() for label in re.findall(r"^(\S.{9})  \S", out, re.MULTILINE)]
    assert labels[:-4] == [
        "Bucket", "When", "Requested", "Client", "Attempt 1", "Attempt 2", "S3 said", "Message", "Signed",
    ]  # fmt: skip
    assert labels[-4:] == ["Difference", "Why", "What to do", "Page"]
    text = one_line(out)
    assert "USPS30305: S3 computes another signature, usually because the secret key is wrong" in text
    assert "Requested GET /films/nosferatu%201922/video_1080p/seg-00412.m4s of " in text
    assert "Range: bytes=0-1048575" in text
    assert "S3 answered 403; request id TX0384A" in text
    assert text.count("SignatureDoesNotMatch") == 1 and "Message the secret key may be wrong" in text
    assert "S3 said 403 SignatureDoesNotMatch: The request signature we calculated does not match" in text
    assert "Difference Canonical request, line 2: S3 has computed something else signed /films/nosferatu%201922" in text
    assert "S3 has /films/nosferatu%25201922" in text
    assert re.search(rf"Page +http://127\.0\.0\.1:{port}/usp-s3/status/failures/\S+/900$", out, re.MULTILINE)
    assert "2026-11-28T02:13:06Z (" in text
    assert ask(port, "TX0383A") == 0
    assert "Difference none, apart from masked values: the secret key is not the one" in one_line(
        capsys.readouterr().out
    )


@pytest.mark.parametrize("request_id", ["4442", "host", "4442, x-amz-id-2 host"])
def test_each_id_of_a_response_is_known(request_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    answers = Answers()
    failure = examples.failure(1, 1.0, "USPS30405", 503, "SlowDown", "/b/a", "x", request_id="4442, x-amz-id-2 host")
    snapshot = examples.quiet()
    bucket = dataclasses.replace(snapshot.buckets[0], failures=(failure, dataclasses.replace(failure, id="2")))
    answers.body = document(dataclasses.replace(snapshot, buckets=(bucket,)))
    with status_page(answers) as port:
        assert ask(port, request_id) == 0
        assert capsys.readouterr().out.count("USPS30405: S3 asks for fewer requests") == 2  # both have it
        assert ask(port, "444") == 1


def test_hostile_texts_are_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    answers = Answers()
    snapshot = examples.hostile()
    answers.body = document(snapshot)
    ids = {failure.request_id for bucket in snapshot.buckets for failure in bucket.failures}
    with status_page(answers) as port:
        for request_id in ids:
            ask(port, request_id)
    out = capsys.readouterr().out
    assert out and "\x1b" not in out and "\u202e" not in out


def test_what_other_versions_know(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields that are missing, or new ones, are no error."""
    answers = Answers()
    answers.body = b'{"buckets": [{}, {"failures": [{"request_id": "4442", "new": [1]}]}]}'
    with status_page(answers) as port:
        assert ask(port, "4442") == 0
    assert "Bucket" in capsys.readouterr().out


def test_an_id_that_is_not_kept(page: tuple[Answers, int], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(page[1], "4442587FB7D0A2F9") == 1
    out, err = capsys.readouterr()
    assert out == "" and "docs/logging.md" in err
    assert "the last 8 failures of each bucket; of equal failures within one second it keeps only the first" in err
    assert err.endswith("\n  grep -F -e 4442587FB7D0A2F9 /var/log/apache2/error.log\n")
    assert ask(page[1], "4442'; id") == 1
    assert """grep -F -e '4442'"'"'; id' /var""" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b"", "needs a password"),
        (403, b"", "the page is for other addresses (Require)"),
        (404, b"", "another virtual host may answer"),
        (500, b"", "jinja2 may be missing"),
        (503, b"", '"UspS3Metrics On" is missing'),
        (302, b"", "answered 302: this is not the status page"),
        (200, b"<html>", "this is not the status page"),
        (200, b"[]", "this is not the status page"),
        (200, b'{"buckets": 1}', "this is not the status page"),
    ],
)
def test_a_page_that_does_not_answer(
    page: tuple[Answers, int], capsys: pytest.CaptureFixture[str], status: int, body: bytes, message: str
) -> None:
    answers, port = page
    answers.status, answers.body = status, body
    assert ask(port, "4442") == 1
    err = capsys.readouterr().err
    assert message in err and f"http://127.0.0.1:{port}/usp-s3/status" in err


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(free_port(), "4442") == 1
    assert "Connection refused" in capsys.readouterr().err


def test_several_addresses_without_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = free_port(), free_port()
    found = configuration(f"Listen {first}\nListen {second}\n{STATUS}")
    monkeypatch.setattr(httpd_config, "read", lambda httpd: found)
    assert main(["explain", "4442"]) == 1
    err = capsys.readouterr().err
    assert err.count("Connection refused") == 1 and f":{first}/" in err and f":{second}/" in err


def test_time_limits(
    page: tuple[Answers, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status_client, "_TOTAL_TIMEOUT", -1.0)
    assert ask(page[1], "4442") == 1
    assert "no answer in time" in capsys.readouterr().err


def test_proxies_of_the_environment_are_not_used(
    page: tuple[Answers, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert ask(page[1], "TX0384A") == 0


def test_a_certificate_for_another_name(certificate: Certificate, capsys: pytest.CaptureFixture[str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    answers = Answers()
    answers.body = document(examples.night())
    with status_page(answers, context) as port:
        assert main(["explain", "--status", f"https://127.0.0.1:{port}/usp-s3/status", "TX0384A"]) == 0
    assert f"https://127.0.0.1:{port}/usp-s3/status/failures/" in capsys.readouterr().out


def test_the_page_of_the_configuration_is_asked(
    page: tuple[Answers, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = configuration(f'Listen {free_port()}\nListen {page[1]}\nErrorLog "/var/log/my errors.log"\n{STATUS}')
    monkeypatch.setattr(httpd_config, "read", lambda httpd: found)
    assert main(["explain", "TX0384A"]) == 0
    assert f"http://127.0.0.1:{page[1]}/usp-s3/status/failures/" in capsys.readouterr().out
    assert main(["explain", "4442"]) == 1
    assert "grep -F -e 4442 '/var/log/my errors.log'\n" in capsys.readouterr().err


def test_no_page_is_configured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(httpd_config, "read", lambda httpd: configuration("Listen 80\nErrorLog log/e.log\n"))
    assert main(["explain", "4442"]) == 1
    err = capsys.readouterr().err
    assert "  UspS3Metrics On\n  WSGIScriptAlias /usp-s3/status ${USP_S3_STATUS}\n" in err
    assert err.endswith("grep -F -e 4442 log/e.log  # in httpd's ServerRoot\n")
    monkeypatch.setattr(httpd_config, "read", lambda httpd: configuration(f"Listen 192.0.2.1:80\n{STATUS}"))
    assert main(["explain", "4442"]) == 1
    assert "listens on no address of loopback" in capsys.readouterr().err
