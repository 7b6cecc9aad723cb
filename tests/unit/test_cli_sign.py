"""usp-s3 sign: the same requests as botocore signs, one line for wrong input, no secret where it does not belong."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from unittest import mock
from urllib.parse import quote, unquote, urlsplit

import pytest
from botocore import auth
from hypothesis import example, given
from hypothesis import strategies as st

from tests.configurations import configtest_input
from tests.leaks import ACCESS_KEY, SECRET_KEY, TOKEN, leaks
from tests.unit.test_signing_botocore import Scenario, credentials, keys, parameters
from usp_s3_wsgi.cli.main import main
from usp_s3_wsgi.cli.server import httpd_config
from usp_s3_wsgi.cli.sign import output
from usp_s3_wsgi.configtest import parsed_config
from usp_s3_wsgi.signing.types import Credentials, S3Request

URL = "https://mybucket.s3.eu-central-1.amazonaws.com/film/film.mp4"
REGION = "eu-central-1"
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
V4, V2 = ("--region", REGION), ("--signature", "v2")


class Run(NamedTuple):
    """What a command has printed."""

    status: int
    out: str
    err: str


def sign(*arguments: str, environment: dict[str, str] | None = None) -> Run:
    """Run the command with only these variables of AWS. Nothing that is printed beside the request is a secret."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    variables = KEYS if environment is None else environment
    with (
        mock.patch.dict(os.environ, {**kept, **variables}, clear=True),
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        status = main(["sign", *arguments])
    secrets = [variables.get("AWS_SECRET_ACCESS_KEY", ""), variables.get("AWS_SESSION_TOKEN", "")]
    assert not any(secret in err.getvalue() for secret in secrets if len(secret) > 8)
    assert not [leak for leak in leaks(err.getvalue()) if b"Signature" not in leak]
    return Run(status, out.getvalue(), err.getvalue())


def header_lines(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines())


# ---------------------------------------------------------------- against botocore

BUCKETS = st.sampled_from(
    [
        ("https://mybucket.s3.eu-central-1.amazonaws.com/", "mybucket"),
        ("https://s3.amazonaws.com/my-bucket/", None),
        ("http://127.0.0.1:9000/my-bucket/", None),
        ("https://[::1]:8443/my-bucket/", None),
    ]
)
QUERIES = st.sampled_from(
    [(), (("versionId", "a+b/c=&d"),), (("response-content-disposition", 'attachment; filename="é+.mp4"'),)]
)


def is_a_key(key: bytes) -> bool:
    return b"\0" not in key and not {b".", b".."} & set(key.split(b"/"))


def as_written(key: bytes, is_encoded: bool) -> str:
    """A key in a URL: percent-encoded, or only as far as the user must do it."""
    text = quote(key) if is_encoded else re.sub(b"[%?#]", lambda match: b"%%%02X" % match[0][0], key)
    return text if isinstance(text, str) else os.fsdecode(text)


scenarios = st.builds(
    Scenario,
    method=st.sampled_from(["GET", "HEAD", "DELETE"]),
    bucket=BUCKETS,
    key=keys.filter(is_a_key),
    query=QUERIES,
    unsigned=st.sampled_from([(), (("Range", "bytes=0-"),)]),
    signed=st.sampled_from([(), (("x-amz-request-payer", "requester"),), (("X-Amz-Meta-B", "two  words"),)]),
    moment=st.just(datetime(2026, 1, 1, tzinfo=UTC)),  # replaced by that of the signature
    credentials=credentials,
    region=st.just(None),
    expires=st.sampled_from([1, 300, 604_800]),
)
UNUSUAL = Scenario(
    "GET", ("https://s3.amazonaws.com/my-bucket/", None), "//a b+é%2F/".encode(), (), (), (),
    datetime(2026, 1, 1, tzinfo=UTC), Credentials(ACCESS_KEY, SECRET_KEY, TOKEN), None, 300,
)  # fmt: skip


def run(scenario: Scenario, is_encoded: bool, *options: str) -> Run:
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in scenario.query)
    url = scenario.bucket[0] + as_written(scenario.key, is_encoded) + (f"?{query}" if query else "")
    arguments = ["--method", scenario.method, *options, url]
    for name, value in (*scenario.unsigned, *scenario.signed):
        arguments += ["--header", f"{name}: {value}"]
    keys_of = scenario.credentials
    environment = {"AWS_ACCESS_KEY_ID": keys_of.access_key, "AWS_SECRET_ACCESS_KEY": keys_of.secret_key}
    token = {"AWS_SESSION_TOKEN": keys_of.security_token} if keys_of.security_token else {}
    found = sign(*arguments, environment=environment | token)
    assert found.status == 0, found.err
    return found


def expected_target(scenario: Scenario) -> str:
    """The URL without a signature, encoded by Python's own function."""
    return scenario.bucket[0] + quote(scenario.key, safe="/~")


def at(scenario: Scenario, moment: datetime, region: str | None = None) -> Scenario:
    return replace(scenario, moment=moment, region=region)


def v4_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@given(scenarios, st.booleans())
@example(UNUSUAL, False)
def test_v4_headers(scenario: Scenario, is_encoded: bool) -> None:
    found = run(scenario, is_encoded, *V4, "--in", "headers")
    lines = header_lines(found.out)
    scenario = at(scenario, v4_time(lines["x-amz-date"]), REGION)
    signed = scenario.boto_sign(auth.S3SigV4Auth(scenario.boto_credentials(), "s3", REGION))
    assert lines["Authorization"] == signed.headers["Authorization"]
    assert lines.get("x-amz-security-token") == scenario.credentials.security_token
    assert {name: lines[name] for name, _ in scenario.unsigned} == dict(scenario.unsigned)
    assert f" {expected_target(scenario)}" in found.err or as_written(scenario.key, is_encoded) == quote(scenario.key)


@given(scenarios, st.booleans())
@example(UNUSUAL, False)
def test_v4_query(scenario: Scenario, is_encoded: bool) -> None:
    found = run(scenario, is_encoded, *V4, "--in", "query", "--expires", str(scenario.expires))
    path, _, query = found.out.strip().partition("?")
    moment = v4_time(re.search("X-Amz-Date=([^&]*)", query)[1])  # type: ignore[index]
    scenario = at(scenario, moment, REGION)
    signer = auth.S3SigV4QueryAuth(scenario.boto_credentials(), "s3", REGION, expires=scenario.expires)
    assert path == expected_target(scenario)
    assert parameters(query) == parameters(scenario.boto_sign(signer).url.partition("?")[2])


@given(scenarios, st.booleans())
@example(UNUSUAL, False)
def test_v2_headers(scenario: Scenario, is_encoded: bool) -> None:
    lines = header_lines(run(scenario, is_encoded, *V2, "--output", "headers").out)
    scenario = at(scenario, parsedate_to_datetime(lines["Date"]))
    signed = scenario.boto_sign(auth.HmacV1Auth(scenario.boto_credentials()))
    assert lines["Authorization"] == signed.headers["Authorization"]


@given(scenarios, st.booleans())
@example(UNUSUAL, False)
def test_v2_query(scenario: Scenario, is_encoded: bool) -> None:
    found = run(scenario, is_encoded, *V2, "--expires", str(scenario.expires))
    path, _, query = found.out.strip().partition("?")
    expires = int(re.search("Expires=([0-9]+)", query)[1])  # type: ignore[index]
    scenario = at(scenario, datetime.fromtimestamp(expires - scenario.expires, UTC))
    signed = scenario.boto_sign(auth.HmacV1QueryAuth(scenario.boto_credentials(), expires=scenario.expires))
    signature = re.search("Signature=([^&]*)", signed.url)
    assert path == expected_target(scenario)
    assert signature and unquote(signature[1]) == unquote(re.search("Signature=([^&]*)", query)[1])  # type: ignore[index]


def test_a_body_is_not_signed() -> None:
    for method in ("PUT", "POST"):
        lines = header_lines(sign(*V4, "--in", "headers", "--method", method, URL).out)
        assert lines["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


# ---------------------------------------------------------------- the output


def test_the_default_form_is_that_of_the_place() -> None:
    assert sign(*V4, URL).out.startswith(f"{URL}?X-Amz-Algorithm=")
    assert sign(*V4, "--in", "headers", URL).out.startswith("x-amz-content-sha256: ")
    assert sign(*V4, "--output", "headers", URL).out.startswith("x-amz-content-sha256: ")
    assert sign(*V4, "--output", "curl", URL).out.startswith(f"curl --config - <<'EOF'\nurl = \"{URL}?X-Amz-")


def test_headers_that_a_url_needs_are_named() -> None:
    found = sign(*V4, "--requester-pays", "--header", "Range: bytes=0-1", URL)
    assert "X-Amz-SignedHeaders=host%3Bx-amz-request-payer" in found.out
    assert found.err == "usp-s3: send these headers with the URL: Range, x-amz-request-payer (--output curl has them)\n"
    twice = sign(*V4, "--requester-pays", "--header", "X-Amz-Request-Payer: requester", "--output", "curl", URL)
    assert twice.out.lower().count("request-payer: requester") == 1


def test_the_url_of_headers_is_named_if_it_is_another_than_the_given_one() -> None:
    assert sign(*V4, "--in", "headers", URL).err == ""
    found = sign(*V4, "--in", "headers", "--method", "head", "https://s3.example/b/a b")
    assert found.err == "usp-s3: these headers are for HEAD https://s3.example/b/a%20b\n"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.just("\t")))
def test_curl_reads_each_value_as_it_is(value: str) -> None:
    """As curl unescapes it; tests/httpd/test_cli_sign.py has curl itself."""
    request = S3Request("PUT", "http", "127.0.0.1:9", "/a", (), (("X-A", value.strip()),))
    text = output.curl(request)
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("curl --config - <<'EOF'", "EOF")
    # https://curl.se/docs/manpage.html#-K
    quoted = next(line for line in lines if line.startswith("header = "))[len('header = "') : -1]
    unescaped = re.sub(r"\\(.)", lambda match: {"t": "\t"}.get(match[1], match[1]), quoted)
    assert unescaped == (f"X-A: {value.strip()}" if value.strip() else "X-A;")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/b/film/1.mp4", "1.mp4"),
        ("/b/a%20%22b%5C.mp4", r"a \"b\\.mp4"),
        ("/b/%C3%A9.mp4", "é.mp4"),
        ("/b/a%2Fb%0Ac%FF", "a_b_c_"),
        ("/b/folder/", "object"),
        ("/b/..%2F..", ".._.."),
        ("/b/%2D", "object"),
        ("/b/%2E%2E", "object"),
    ],
)
def test_a_pasted_curl_command_names_a_file(path: str, name: str) -> None:
    request = S3Request("GET", "http", "127.0.0.1:9", path, (), ())
    assert f'\noutput = "{name}"\nwrite-out = ' in output.curl(request, is_pasted=True)
    assert f'\n# output = "{name}"\nEOF' in output.curl(request)
    assert "output" not in output.curl(request._replace(method="HEAD"), is_pasted=True)


# ---------------------------------------------------------------- keys


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_keys_from_files(tmp_path: Path) -> None:
    options = (
        "--access-key-file", write(tmp_path, "id", f"{ACCESS_KEY}\n"), "--secret-key-file",
        write(tmp_path, "secret", f"{SECRET_KEY}\n"), "--security-token-file", write(tmp_path, "token", TOKEN),
    )  # fmt: skip
    # The environment's are not mixed with them.
    found = sign(*V4, *options, URL, environment={"AWS_ACCESS_KEY_ID": "OTHER", "AWS_SESSION_TOKEN": "other"})
    assert f"X-Amz-Credential={ACCESS_KEY}%2F" in found.out and quote(TOKEN, safe="") in found.out
    same = sign(*V4, URL, environment={**KEYS, "AWS_SESSION_TOKEN": TOKEN})
    assert same.out[: len(URL) + 60] == found.out[: len(URL) + 60]


def test_a_secret_key_from_standard_input() -> None:
    arguments = ["sign", *V4, "--access-key", ACCESS_KEY, "--secret-key-file", "-", URL]
    program = f"import sys; from usp_s3_wsgi.cli.main import main; sys.exit(main({arguments!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], input=f"{SECRET_KEY}\n", capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stdout.startswith(f"{URL}?X-Amz-Algorithm=") and done.stderr == ""


def test_a_secret_key_is_typed_without_an_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", mock.Mock(isatty=lambda: True))
    prompts = []

    def hidden(prompt: str) -> str:
        prompts.append(prompt)
        return SECRET_KEY

    monkeypatch.setattr("click.termui.hidden_prompt_func", hidden)
    found = sign(*V4, "--access-key", ACCESS_KEY, "--secret-key-file", "-", URL, environment={})
    assert "Secret key (not shown):" in found.err + "".join(prompts)
    assert found.out.startswith(f"{URL}?X-Amz-Algorithm=") and SECRET_KEY not in found.out + found.err


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_of_the_environment(name: str) -> None:
    assert "%2Feu-west-9%2Fs3" in sign(URL, environment={**KEYS, name: "eu-west-9"}).out
    assert "%2Feu-central-1%2Fs3" in sign(*V4, URL, environment={**KEYS, name: "eu-west-9"}).out


def test_virtual_host_buckets_of_version_2() -> None:
    def resource(*arguments: str) -> str:
        found = sign(*V2, "--in", "headers", "--explain", *arguments)
        assert found.status == 0, found.err
        return re.search(r"CanonicalizedResource  +(\S+)", found.err)[1]  # type: ignore[index]

    assert resource(URL) == "/mybucket/film/film.mp4"
    assert resource("https://s3.example/mybucket/a") == "/mybucket/a"
    assert resource("--virtual-host-bucket", "films", "https://films.s3.example/films/a") == "/films/films/a"
    assert resource("--virtual-host-bucket", "films.example", "http://films.example/a") == "/films.example/a"
    assert resource("https://films.s3.example/films/a") == "/films/a"
    warning = sign(*V2, "https://films.s3.example/films/a").err
    assert "the first part of the path, films; if the host begins with it, add --virtual-host-bucket" in warning
    assert sign(*V2, "https://s3.example/films/a").err == ""


# ---------------------------------------------------------------- wrong input

#: Arguments, and what the message says. The keys are in the environment.
WRONG = [
    ((URL,), "there is no region"),
    ((*V4, "film.mp4"), "a key or a path needs --from"),
    ((*V4, "ftp://s3.example/b/a"), "must begin with https"),
    ((*V4, "https://user:pass@s3.example/b/a"), "without user"),
    ((*V4, "https://bücket.example/b/a"), "host name in ASCII"),
    ((*V4, "https://s3.example:x/b/a"), "must be a URL"),
    ((*V4, "https://s3.example/b/100%.mp4"), "a percent sign is written %25"),
    ((*V4, "https://s3.example/b/../a"), "dot segment"),
    ((*V4, "https://s3.example/b/%2e%2e/a"), "dot segment"),
    ((*V4, "https://s3.example/b/a%00"), "NUL"),
    ((*V4, "https://s3.example/b/a#b"), "written %23"),
    ((*V4, "https://s3.example/b/a?x=%"), "the query has broken percent-encoding"),
    ((*V4, f"{URL}?X-Amz-Signature=abc"), "has a signature already"),
    ((*V4, "--in", "headers", "--output", "url", URL), "--output url has no place for a signature in the headers"),
    ((*V4, "--in", "query", "--output", "headers", URL), "--output headers has no place"),
    ((*V4, "--in", "headers", "--expires", "5", URL), "--expires is for a signature in the query"),
    ((*V4, "--output", "headers", "--expires", "5", URL), "--expires is for a signature in the query"),
    ((*V4, "--expires", "604801", URL), "604801"),
    ((*V4, *V2, URL), "--region is for Signature v4"),
    ((*V4, "--virtual-host-bucket", "mybucket", URL), "add --signature v2"),
    ((*V4, "--signature", "v4", "--virtual-host-bucket", "mybucket", URL), "--signature is v4"),
    ((*V2, "--virtual-host-bucket", "other", URL), "does not begin with this name"),
    ((*V2, "https://s3.example/"), "add --virtual-host-bucket"),
    (("--region", "eu west", URL), "must be a region's name"),
    ((*V4, "--header", "Range", URL), "a header is 'Name: value'"),
    ((*V4, "--header", "A: b\r\nC: d", URL), "a header is 'Name: value'"),
    ((*V4, "--header", "X-Amz-Security-Token: abc", URL), "x-amz-security-token is set by the signer"),
    ((*V4, "--header", "Host: other", URL), "host is set by the signer"),
    ((*V4, "--header", "x-amz-server-side-encryption-customer-key: abc", URL), "is a secret"),
    ((*V4, "-f", "/etc/httpd.conf", URL), "only for --from"),
    ((*V4, "--from", "/media", "--access-key", "AK", URL), "--from has the keys"),
    ((*V4, "--access-key", "AK", URL), "there is no secret key"),
    ((*V4, "--secret-key-file", "/dev/null", URL), "there is no access key"),
    ((*V4, "--access-key", "AK", "--access-key-file", "x", URL), "use one of them"),
    ((*V4, "--access-key", "A K", "--secret-key-file", "/dev/null", URL), "--access-key must be printable"),
    ((*V4, "--access-key-file", "-", "--secret-key-file", "-", URL), "only one of the files can be -"),
    ((*V4, "--access-key", "AK", "--secret-key-file", "/dev/null", URL), "the content of the file must be"),
    ((*V4, "--secret-key", SECRET_KEY, URL), "No such option"),
    ((*V4,), "Missing argument"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_input(arguments: tuple[str, ...], message: str) -> None:
    found = sign(*arguments)
    assert (found.status, found.out) == (2, "")
    (line,) = [line for line in found.err.splitlines() if line.startswith("Error: ")]
    assert message in found.err, line
    assert "pass@" not in found.err and "abc" not in found.err


def test_a_secret_key_in_the_place_of_its_file_is_not_shown() -> None:
    found = sign(*V4, "--access-key", "AK", "--secret-key-file", SECRET_KEY, URL)
    assert (found.status, found.err.splitlines()[-1]) == (
        2,
        "Error: --secret-key-file: the file cannot be read: No such file or directory",
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "there are no keys: use --from"),
        ({"AWS_ACCESS_KEY_ID": "AK"}, "AWS_SECRET_ACCESS_KEY is not set"),
        ({"AWS_SECRET_ACCESS_KEY": SECRET_KEY}, "AWS_ACCESS_KEY_ID is not set"),
        ({"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": f"{SECRET_KEY} "}, "AWS_SECRET_ACCESS_KEY must be"),
        ({**KEYS, "AWS_REGION": "a b"}, "AWS_REGION must be a region's name"),
    ],
)
def test_wrong_variables(environment: dict[str, str], message: str) -> None:
    region = () if "AWS_REGION" in environment else V4
    found = sign(*region, URL, environment=environment)
    assert (found.status, found.out) == (2, "")
    assert message in found.err.splitlines()[-1]


# ---------------------------------------------------------------- from httpd's configuration

SETTINGS = f"SetEnv S3AccessKey {ACCESS_KEY}\nSetEnv S3SecretKey {SECRET_KEY}\n"
CONFIG = f"""
WSGIScriptAlias /media ${{USP_S3_WSGI}}
<Location /media>
SetEnv S3BucketURL https://s3.example:9000/films/2026
SetEnv S3Region eu-west-3
SetEnv S3UseHeaders on
SetEnv S3RequesterPays on
{SETTINGS}</Location>
WSGIScriptAlias "/old films" ${{USP_S3_WSGI}}
<Location "/old films">
SetEnv S3BucketURL https://old.s3.amazonaws.com/
SetEnv S3Expires 77
{SETTINGS}</Location>
WSGIScriptAlias /host ${{USP_S3_WSGI}}
<Location /host>
SetEnv S3BucketURL https://films.ceph.s3.example/
SetEnv S3Region r
{SETTINGS}</Location>
WSGIScriptAlias /file ${{USP_S3_WSGI}}
<Location /file>
SetEnv S3BucketURL https://s3.example/b/
SetEnv S3AccessKey AK
SetEnv S3SecretKeyFile /none/secret
</Location>
ProxyPass /tv https://s3.example/tv/deep/
<Proxy "https://s3.example/tv/">
SetEnv S3Region r
{SETTINGS}</Proxy>
ProxyPassMatch "^/any/(a|b)/(.*)$" "https://s3.example/any/$1"
<Proxy "https://s3.example/any/">
SetEnv S3Region r
{SETTINGS}</Proxy>
"""


@pytest.fixture
def httpd(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = parsed_config.parse(configtest_input(CONFIG))
    monkeypatch.setattr(httpd_config, "read", lambda httpd: configuration)


def presigned(*arguments: str) -> str:
    """The URL without its signature."""
    found = sign("--output", "url", *arguments, environment={"AWS_ACCESS_KEY_ID": "OTHER", "AWS_REGION": "other"})
    assert found.status == 0, found.err
    return found.out.split("X-Amz-Algorithm")[0].split("AWSAccessKeyId")[0].strip("?&\n")


@pytest.mark.usefixtures("httpd")
@pytest.mark.parametrize(
    ("section", "url", "expected"),
    [
        ("/media", "a b.mp4", "https://s3.example:9000/films/2026/a%20b.mp4"),
        ("/media", "/media/a%20b.mp4", "https://s3.example:9000/films/2026/a%20b.mp4"),
        ("/media", "/media//a", "https://s3.example:9000/films/2026//a"),
        ("/media", "a?versionId=1", "https://s3.example:9000/films/2026/a?versionId=1"),
        ("/media", "https://s3.example:9000/films/2027/é", "https://s3.example:9000/films/2027/%C3%A9"),
        ("/media/film", "a.mp4", "https://s3.example:9000/films/2026/film/a.mp4"),
        ("/old films", "/old%20films/x", "https://old.s3.amazonaws.com/x"),
        ("/tv", "/tv/1.ts", "https://s3.example/tv/deep//1.ts"),  # as mod_proxy sends it
        ("/tv", "1.ts", "https://s3.example/tv/deep//1.ts"),
        ("https://s3.example/tv/", "1.ts", "https://s3.example/tv/1.ts"),
    ],
)
def test_a_key_or_a_path_of_a_section(section: str, url: str, expected: str) -> None:
    assert presigned("--from", section, url) == expected


@pytest.mark.usefixtures("httpd")
def test_the_defaults_are_those_of_the_section() -> None:
    lines = header_lines(sign("--from", "/media", "a", environment={"AWS_REGION": "other"}).out)
    assert f"Credential={ACCESS_KEY}/" in lines["Authorization"] and "/eu-west-3/s3/" in lines["Authorization"]
    assert lines["x-amz-request-payer"] == "requester"
    old = sign("--from", "/old films", "--explain", "a", environment={"AWS_REGION": "other"})
    assert "AWSAccessKeyId=" in old.out and "/old/a" in old.err and "valid for 77 s" in old.err
    assert f"access key {ACCESS_KEY} of the settings of /old films" in old.err
    assert "X-Amz-Expires=300" in sign("--from", "/tv", "a").out
    # The options replace them.
    assert "/r2/s3/" in sign("--from", "/media", "--region", "r2", "a").out
    assert "X-Amz-Expires=5&" in sign("--from", "/media", "--in", "query", "--expires", "5", "a").out
    assert sign("--from", "/media", *V2, "a").out.count("AWS ") == 1
    assert "%2Fr2%2Fs3" in sign("--from", "/old films", "--region", "r2", "a").out


@pytest.mark.usefixtures("httpd")
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--from", "/none", "a"), 1, "no bucket is configured at /none"),
        (("--from", "/media", "/other/a"), 2, "not below /media"),
        (("--from", "/media", "/mediax"), 2, "not below /media"),
        (("--from", "/media", "/media/"), 2, "there is no key"),
        (("--from", "/media", ""), 2, "there is no key"),
        (("--from", "/media", "a#"), 2, "%23"),
        (("--from", "/media", "https://evil.example/a"), 2, "not at the host of this bucket, https://s3.example:9000"),
        (("--from", "/media", "http://s3.example:9000/a"), 2, "not at the host of this bucket"),
        (("--from", "/media", "--expires", "9", "a"), 2, "add --in query"),
        (("--from", "/media", "--virtual-host-bucket", "x", "a"), 2, "add --signature v2"),
        (("--from", "/old films", "--signature", "v4", "a"), 2, "S3Region is not set"),
        (("--from", "/host", *V2, "a"), 2, "add --virtual-host-bucket"),
        (("--from", "/file", "a"), 1, "S3SecretKeyFile: the file cannot be read"),
        (("--from", "/any/", "/any/a/x"), 2, "write --from https://s3.example/any/, and the KEY below it"),
    ],
)
def test_wrong_input_with_a_section(arguments: tuple[str, ...], status: int, message: str) -> None:
    found = sign(*arguments)
    assert (found.status, found.out) == (status, "")
    assert message in found.err
    # The usage is only shown for a wrong command line.
    assert found.err.startswith("usp-s3: " if status == 1 else "Usage: usp-s3 sign ")


@pytest.mark.usefixtures("httpd")
def test_a_bucket_in_the_host_that_only_the_user_knows() -> None:
    found = sign("--from", "/host", *V2, "--virtual-host-bucket", "films", "--explain", "a")
    assert "/films/a" in found.err and found.status == 0


# ---------------------------------------------------------------- the explanation


@pytest.mark.parametrize("place", ["headers", "query"])
def test_the_steps_of_version_4(place: str) -> None:
    found = sign(*V4, "--in", place, "--explain", URL, environment={**KEYS, "AWS_SESSION_TOKEN": TOKEN})
    headings = re.findall(r"^\d\. (.*)\n   (https://docs\.aws\.amazon\.com/\S+)$", found.err, re.MULTILINE)
    assert [name for name, _ in headings] == [
        "Canonical request", "Hashed canonical request", "Credential scope", "String to sign", "Signing key",
        "Signature",
    ]  # fmt: skip
    signature = found.err.rstrip().rpartition("\n")[2].strip()
    assert re.fullmatch("[0-9a-f]{64}", signature)
    assert f"Signature={signature}" in found.out
    assert "kDate, kRegion, kService, kSigning: derived from the secret key, not shown" in found.err
    masked = "x-amz-security-token:(masked)" if place == "headers" else "X-Amz-Security-Token=(masked)&"
    assert found.err.count(masked) == 2
    assert TOKEN not in found.err and quote(TOKEN, safe="") not in found.err
    assert TOKEN in unquote(found.out)


@pytest.mark.parametrize("place", ["headers", "query"])
def test_the_hash_is_that_of_the_canonical_request(place: str) -> None:
    text = sign(*V4, "--in", place, "--explain", f"{URL}?versionId=1").err
    block = re.search(r"HashedPayload .*\n\n((?: {5}.*\n|\n)*?)\n2\. Hashed", text)
    assert block
    canonical = "\n".join(line.removeprefix("     ") for line in block[1].splitlines())
    assert re.findall("^ {5}([0-9a-f]{64})$", text, re.MULTILINE)[-3] == sha256(canonical.encode()).hexdigest()
    assert "CanonicalURI          /film/film.mp4\n" in text


@pytest.mark.parametrize("place", ["headers", "query"])
def test_the_steps_of_version_2(place: str) -> None:
    environment = {**KEYS, "AWS_SESSION_TOKEN": TOKEN}
    found = sign(*V2, "--in", place, "--explain", f"{URL}?versionId=1", environment=environment)
    names = re.findall(r"^\d\. (.*)\n   https://docs\.aws\.amazon\.com/\S+$", found.err, re.MULTILINE)
    assert names == ["CanonicalizedAmzHeaders", "CanonicalizedResource", "StringToSign", "Signature"]
    assert "     /mybucket/film/film.mp4?versionId=1\n" in found.err
    assert "     x-amz-security-token:(masked)\n" in found.err and TOKEN not in found.err
    assert found.err.rstrip().rpartition("\n")[2].strip() in unquote(found.out)
    assert "(empty)" in sign(*V2, "--explain", URL).err


def test_the_output_is_the_same_with_and_without_an_explanation() -> None:
    plain, explained = sign(*V4, URL).out, sign(*V4, "--explain", URL).out
    assert urlsplit(plain).path == urlsplit(explained).path
    assert explained.count("\n") == 1


def test_the_examples_of_the_help(tmp_path: Path) -> None:
    with redirect_stdout(io.StringIO()) as out:
        assert main(["sign", "--help"]) == 0
    examples = re.findall(r"^ +(usp-s3 sign .*)$", out.getvalue(), re.MULTILINE)
    assert len(examples) == 4
    for line in examples:
        if "--from" not in line:
            arguments = shlex.split(line)[2:]
            if "--secret-key-file" in arguments:
                arguments[arguments.index("key")] = write(tmp_path, "key", "SK")
            assert sign(*arguments).status == 0
