"""``usp-s3 get``: its command line, and its output. tests/faults has failures."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.configurations import configtest_input
from usp_s3_wsgi.cli.get import checksums, progress, report
from usp_s3_wsgi.cli.get.apache_source import parse_url
from usp_s3_wsgi.cli.get.checksums import Digests
from usp_s3_wsgi.cli.get.download import Download, DownloadError, Exchange, Times
from usp_s3_wsgi.cli.main import main
from usp_s3_wsgi.cli.server import httpd_config
from usp_s3_wsgi.cli.server.httpd_config import HttpdCommand
from usp_s3_wsgi.configtest import parsed_config
from usp_s3_wsgi.configtest.parsed_config import Configuration

CONFIG = """
Listen 80
WSGIScriptAlias /media /share/usp_s3.wsgi
<Location /media>
  SetEnv S3BucketURL http://s3.example/bucket/films/
  SetEnv S3AccessKey A
  SetEnv S3SecretKey S
</Location>
<Proxy http://s3.example/tv/>
  SetEnv S3AccessKey A
  SetEnv S3SecretKey S
</Proxy>
ProxyPass /tv http://s3.example/tv/deep
"""


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return parsed_config.parse(configtest_input(CONFIG))


# ---------------------------------------------------------------- the command line


@pytest.fixture
def run(configuration: Configuration, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run commands in an empty folder, with the configuration."""

    def read(httpd: HttpdCommand) -> Configuration:
        return configuration

    monkeypatch.setattr(httpd_config, "read", read)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'KEY'"),
        (["a"], "--from says which bucket is meant"),
        (["/media/a", "--range", "9-1"], "write 0-999, 1000- (to the end), or -500"),
        (["/media/a", "--range", "1-2,5-6"], "write 0-999"),
        (["/media/a", "--range", "x"], "write 0-999"),
        (["/media/a", "--repeat", "0"], "0 is not in the range"),
        (["/media/a", "-o", "-", "--json"], "-o - writes the object to standard output"),
        (["/media/a", "-o", "-", "--continue"], "-o - writes the object to standard output"),
        (["/media/a", "-o", "-", "--compare"], "-o - writes the object to standard output"),
        (["/media/a", "-o", "/dev/null", "--continue"], "--continue needs a file"),
        (["/media/a", "--compare", "--continue"], "--continue is for one download"),
        (["/media/a", "--compare", "--through-apache"], "--compare is both ways"),
        (["/media/a", "--insecure"], "S3CAFile is about S3's"),
        (["/media/a/"], "the key ends with a slash: name the file with -o"),
        (["x", "--from", "http://s3.example/tv/", "--through-apache"], "name its URL with --url"),
        (["/media/a", "--url", "ftp://a/"], "--url must begin with http:// or https://"),
        (["/media/a", "--url", "http://a:x/"], "--url is not a URL"),
        (["/media/a", "--url", "http://user:word@a/"], "--url must have no user and password"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in " ".join(err.split()) and "user:word" not in err


def test_a_configuration_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "--httpd", "/no/httpd", "/media/a"]) == 2
    assert capsys.readouterr().err == "usp-s3: /no/httpd cannot be run: No such file or directory\n"


@pytest.mark.parametrize(
    ("text", "url", "target"),
    [
        ("http://a.example", "http://a.example", ""),
        ("http://a.example/", "http://a.example", ""),
        ("https://a.example:8443/x/y?z", "https://a.example:8443", "/x/y?z"),
        ("http://[::1]:81/?x", "http://[::1]:81", "/?x"),
    ],
)
def test_a_url(text: str, url: str, target: str) -> None:
    own, found = parse_url(text)
    assert (own.url, found) == (url, target)


def test_the_help_names_exit_statuses_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "--help"]) == 0
    text = capsys.readouterr().out
    assert "usp-s3 get --compare --repeat 5 /media/film/1.mp4" in text
    for status in ("0  the object is complete", "1  it is not, or differs", "2  wrong command line"):
        assert status in text


def test_the_help_of_the_command_loads_no_library_of_get() -> None:
    program = "import sys; import usp_s3_wsgi.cli.main; print(*(set(sys.modules) & {'urllib3', 'rich', 'httptools'}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


# ---------------------------------------------------------------- checksums that no server of the tests has


OBJECT = b"an object"
OTHER_MD5 = f'"{hashlib.md5(b"another").hexdigest()}"'
S3_HOST = "https://bucket.s3.eu-central-1.amazonaws.com/a"


@pytest.mark.parametrize(
    ("url", "headers", "result"),
    [
        (S3_HOST, {}, "different"),
        ("https://s3.eu-central-1.amazonaws.com/bucket/a", {}, "different"),
        (S3_HOST, {"x-amz-server-side-encryption": "AES256"}, "different"),
        # What may have another ETag than the MD5 gives no alarm.
        (S3_HOST, {"x-amz-server-side-encryption": "aws:kms"}, "not checked"),
        (S3_HOST, {"x-amz-server-side-encryption": "aws:kms:dsse"}, "not checked"),
        (S3_HOST, {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, "not checked"),
        (S3_HOST, {"server": "cache"}, "not checked"),
        ("https://b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/a", {}, "not checked"),
        ("https://ap-1.s3-object-lambda.eu-central-1.amazonaws.com/a", {}, "not checked"),
        ("https://s3.example/bucket/a", {}, "not checked"),
    ],
)
def test_when_an_etag_must_be_the_md5(url: str, headers: dict[str, str], result: str) -> None:
    headers = {"server": "AmazonS3", "etag": OTHER_MD5, **headers}
    digests = Digests(headers)
    digests.update(OBJECT)
    (check,) = checksums.check(headers, digests, url)
    assert check.result == result


# ---------------------------------------------------------------- the summary


def test_hostile_words_of_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    headers = {"etag": '"\x1b[2J"', "cache-control": "[bold]a[/bold]"}
    download = Download("S3", "http://s3.example/a", Exchange(), 200, headers)
    download.failure = DownloadError("\x1b[31mred")
    report.show_table(report.Result("a", [[download]]))
    report.show_failures(report.Result("a", [[download]]))
    err = capsys.readouterr().err
    assert "\x1b" not in err and "[bold]a[/bold]" in err


def test_a_summary_is_not_wider_than_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    headers = {"etag": f'"{"a" * 64}"', "content-type": "x" * 100}
    runs = [[Download(name, f"http://{'x' * 60}.example/a", Exchange(), 200, headers)] for name in ("S3", "Apache")]
    report.show_table(report.Result("a", runs))
    assert max(map(len, capsys.readouterr().err.splitlines())) <= 80


def test_times(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [Download("S3", "http://s3.example/a", Exchange(Times(download=value, total=value)), 200, {"a": "b"})
            for value in (3.0, 0.001, 0.25)]  # fmt: skip
    runs[0].length = 3_000_000
    report.show_table(report.Result("a", [runs]))
    assert "250.0 ms (1.0 ms to 3.00 s, 3 times)" in capsys.readouterr().err
    report.show_table(report.Result("a", [runs[:1]]))
    assert "3.00 s, 1.0 MB/s" in capsys.readouterr().err
    assert report.to_json(report.Result("a", [runs]))["downloads"][0]["medians"]["download"] == 0.25


def test_explanations_may_be_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> Path:
        raise FileNotFoundError

    monkeypatch.setattr("usp_s3_wsgi.cli.apache_config.share_directory", missing)
    download = Download("S3", "http://s3.example/a", Exchange(), failure=DownloadError("failed", "USPS30305"))
    report.show_failures(report.Result("a", [[download]]))
    assert capsys.readouterr().err == "usp-s3: S3: failed\n"


def test_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=80, legacy_windows=False)
    monkeypatch.setattr("usp_s3_wsgi.cli.console.messages", lambda: terminal)
    assert isinstance(progress.make(True), progress.Hidden)
    bar = progress.make(False)
    bar.begin("S3", 1_000_000, 4_000_000)
    bar.advance(1_000_000)
    bar.end()
    assert "2.0/4.0 MB" in shown.getvalue()


def test_no_bar_where_standard_error_is_no_terminal() -> None:
    assert isinstance(progress.make(False), progress.Hidden)
