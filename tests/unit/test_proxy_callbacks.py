"""What the callbacks return to usp_s3_module: a signed request or an error; never an exception, never a secret."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

import usp_s3_wsgi
from usp_s3_wsgi.config import settings
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.observability import flight_recorder, recorder
from usp_s3_wsgi.proxy import callbacks, section_settings, startup
from usp_s3_wsgi.proxy.callbacks import ClientResponse, SignedRequest, explain_error, sign_request
from usp_s3_wsgi.proxy.proxied_request import ProxiedRequest
from usp_s3_wsgi.s3.endpoint_state import endpoint_state
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Pairs, S3Request

HOST = "films.s3.eu-central-1.amazonaws.com"
SECTION = f"https://{HOST}/"
KEYS = (("S3AccessKey", "AKIAEXAMPLE"), ("S3SecretKey", "a+secret/key"))
V4 = (*KEYS, ("S3Region", "eu-central-1"))
USE_HEADERS = ("S3UseHeaders", "on")


def signed(
    url: str, pairs: Pairs = (*V4, USE_HEADERS), section: str | None = SECTION, method: str = "GET"
) -> SignedRequest:
    request = sign_request((section, pairs, method, url, None, False, None))
    assert isinstance(request, SignedRequest), request
    return request


def rejected(
    url: str, pairs: Pairs = (*V4, USE_HEADERS), section: str | None = SECTION, **changes: object
) -> ClientResponse:
    arguments = {"method": "GET", "client_target": None, "has_encoded_slash": False, "merging_mount": None, **changes}
    request = ProxiedRequest(section_url=section, variables=pairs, url=url, **arguments)  # type: ignore[arg-type]
    response = sign_request(request)
    assert isinstance(response, ClientResponse), response
    return response


def test_signature_v4_in_headers() -> None:
    request = signed(f"https://{HOST}/a%20b+c//d.mp4?versionId=1")
    assert (request.url, request.host) == (f"https://{HOST}/a%20b%2Bc//d.mp4", HOST)
    names = [name for name, _ in request.headers]
    assert names == ["x-amz-content-sha256", "x-amz-date", "Authorization"]


@pytest.mark.parametrize("pairs", [(*V4, USE_HEADERS), V4, (*KEYS, USE_HEADERS), KEYS])
@given(key=st.binary(min_size=1, max_size=40).filter(lambda key: not re.search(rb"\0|(^|/)\.\.?(/|$)", key)))
def test_the_signature_is_that_of_the_gateway(pairs: Pairs, key: bytes) -> None:
    request = signed(f"https://{HOST}/{quote(key, safe='/~')}", pairs)
    parsed = settings.parse((*pairs, ("S3BucketURL", SECTION)))
    path = request.url.removeprefix(f"https://{HOST}").partition("?")[0]
    assert unquote_to_bytes(path) == b"/" + key
    # It was signed in this second or in the one before.
    for seconds_ago in (0, 1):
        now = datetime.fromtimestamp(int(datetime.now(UTC).timestamp()) - seconds_ago, UTC)
        credentials = resolver.resolve(parsed)
        expected = sign(S3Request("GET", "https", HOST, path), parsed.signing, credentials, now)
        if (request.url, request.headers) == (f"https://{HOST}{expected.target}", expected.headers):
            return
    raise AssertionError("another signature")


@pytest.mark.parametrize(
    ("section", "extra", "url"),
    [
        ("https://ceph.example/films", (), "https://ceph.example/films/a"),
        ("https://ceph.example/films/2026/", (), "https://ceph.example/films/2026/a"),
        (None, (), f"https://{HOST}/a"),
        (None, (("S3BucketURL", "http://ceph.example:8080/films/"),), "http://ceph.example:8080/films/a"),
        ("https://films.ceph.example/", (("S3Bucket", "films"),), "https://films.ceph.example/a"),
        ("http://films.s3.example:9000/", (), "http://films.s3.example:9000/a"),
        ("http://films.s3.example:9000", (), "http://films.s3.example:9000/a"),
        ("http://films.s3.example/", (("S3Bucket", "films"),), "http://films.s3.example/a"),
        (None, (("S3BucketURL", "http://films.s3.example/"),), "http://films.s3.example/a"),
        ("HTTPS://Films.S3.eu-central-1.AmazonAWS.com:443", (), f"https://{HOST}/a"),
    ],
)
def test_the_bucket_is_that_of_the_section(section: str | None, extra: Pairs, url: str) -> None:
    assert signed(url, (*V4, USE_HEADERS, *extra), section).url == url


@pytest.mark.parametrize(
    ("section", "url", "reason"),
    [
        ("https://ceph.example/", "https://ceph.example/films/a", "S3BucketURL shows no bucket"),
        (None, "https://ceph.example/films/a", "S3BucketURL shows no bucket"),
        (None, "https://films.s3.example/a", "the URL shows no bucket: set S3BucketURL"),
        ("https://s3.example/", "https://s3.example/films/a", "S3BucketURL shows no bucket"),
        ("https://ceph.example/films", "https://ceph.example/films2/a", "is not below that of the section's bucket"),
        ("https://ceph.example/films", "http://ceph.example/films/a", "is not that of the section's bucket"),
        ("https://ceph.example/films", "https://ceph.example:444/films/a", "is not that of the section's bucket"),
        ("https://ceph.example/films", "https://other.example/films/a", "is not that of the section's bucket"),
        ("https://ceph.example/films", "balancer://ceph.example/films/a", "only http:// and https://"),
        ("https://ceph.example/films", "https://user:pw@ceph.example/films/a", "without user"),
    ],
)
def test_urls_outside_of_the_sections_bucket_are_not_signed(section: str | None, url: str, reason: str) -> None:
    response = rejected(url, section=section)
    assert response.status == 500
    assert response.log_line and reason in response.log_line


@pytest.mark.parametrize("pairs", [KEYS, (*KEYS, USE_HEADERS)])
def test_signature_v2_needs_s3bucket_in_virtual_host_style(pairs: Pairs) -> None:
    section = "http://films.s3.example:9000/"
    response = rejected(f"{section}a", pairs, section)
    assert response.status == 500 and response.log_line
    assert "S3Bucket is not set: Signature v2 signs the bucket's name" in response.log_line
    assert signed(f"{section}a", (*pairs, ("S3Bucket", "films")), section)


@pytest.mark.parametrize("path", ["", "/", "/?list-type=2", "?list-type=2"])
def test_a_bucket_in_virtual_host_style_is_never_listed(path: str) -> None:
    response = rejected(f"http://films.s3.example:9000{path}", section="http://films.s3.example:9000/")
    assert response.status == 404


def test_requests_that_are_rejected() -> None:
    for client_target in ("//media", "/media//", "//media//"):
        assert rejected(SECTION, client_target=client_target, merging_mount="/media").status == 404
    assert rejected(SECTION).status == 404
    assert rejected(f"https://{HOST}").status == 404
    assert rejected(f"{SECTION}a", method="PUT")[:3] == (405, None, (("Allow", "GET, HEAD"),))
    assert rejected(f"{SECTION}a/%2e%2e/b").status == 400
    assert rejected(f"{SECTION}b", client_target="/media/a/../b").status == 400
    assert rejected(f"{SECTION}b", client_target="/media/a%2F%2E%2E%2Fb").status == 400
    assert rejected(f"{SECTION}a%zz").status == 400
    assert rejected(f"{SECTION}a", has_encoded_slash=True).status == 400


@pytest.mark.parametrize(
    ("client_target", "mount", "url", "key"),
    [
        ("/media/a//b", "/media", "a/b", "a//b"),
        ("/media//a/b", "/media", "a/b", "/a/b"),
        ("//media///a//b?x=//", "/media", "a/b", "//a//b"),
        ("http://h//media/a//b", "/media/", "a/b", "a//b"),
        ("/media/a%2F%2Fb", "/media", "a/b", "a//b"),  # AllowEncodedSlashes On: httpd merges those too
        ("/media/%2Fa", "/media", "a", "/a"),
        ("/media/a//b%20c", "/media", "a/b%20c", "a//b%20c"),
        ("/media//a//b", "/media", "public/a/b", "public//a//b"),  # ProxyPass "/media" ".../public"
        ("/media/a//", "/media", "a/", "a//"),
        ("//a//b", "/", "a/b", "/a//b"),
        ("//favicon.ico", "/favicon.ico", "icons/favicon.ico", "icons/favicon.ico"),  # ProxyPass of one file
        ("/tr//file", "/tr/file", "file", "file"),
        ("/slash/b//a", "/slash", "/b/a", "/b//a"),  # a target that ends with a slash
        ("/slash//a", "/slash", "/a", "/a"),
        # Slashes before the mount and in it do not belong to the key, also if the key begins like the mount.
        ("//public/a", "/public", "public/a", "public/a"),
        ("/media//film/a", "/media/film", "film/a", "film/a"),
        ("/media//film//a", "/media/film", "media/film/a", "media/film//a"),
    ],
)
def test_slashes_that_httpd_merged_are_restored_in_the_key(client_target: str, mount: str, url: str, key: str) -> None:
    arguments = (SECTION, (*V4, USE_HEADERS), "GET", f"{SECTION}{url}", client_target, False)
    request = sign_request((*arguments, mount))
    assert isinstance(request, SignedRequest) and request.url == f"{SECTION}{key}"
    unmerged = sign_request((*arguments, None))
    assert isinstance(unmerged, SignedRequest) and unmerged.url == f"{SECTION}{url}"


@pytest.mark.parametrize(
    ("client_target", "mount", "url"),
    [
        ("/films//today", "/films", "2026/a.mp4"),
        ("/play/foo//foo", "/play", "foo"),
        ("/rewrite/a//b", "", "a/b"),
        ("/f//a/x", "/deep/media", "a/x"),  # RewriteRule "^/f/(.*)$" "/deep/media/$1" [PT]
    ],
)
def test_merged_slashes_before_a_rewrite_are_rejected(client_target: str, mount: str, url: str) -> None:
    """The key may be another than the requested one."""
    assert rejected(f"{SECTION}{url}", client_target=client_target, merging_mount=mount).status == 400
    single_slashes = re.sub("//", "/", client_target)
    request = sign_request((SECTION, (*V4, USE_HEADERS), "GET", f"{SECTION}{url}", single_slashes, False, mount))
    assert isinstance(request, SignedRequest) and request.url == f"{SECTION}{url}"


@pytest.mark.parametrize(
    ("client_target", "key"),
    [("/m/films/a//b", "a//b"), ("/m/films//a", "/a"), ("/m//films/a//b", "a//b")],
)
def test_slashes_before_the_sections_prefix_do_not_belong_to_the_key(client_target: str, key: str) -> None:
    """The target of ProxyPass "/m" is the bucket, and the section's URL is a folder in it."""
    section = "https://ceph.example/bucket/films/"
    url = re.sub("(?<!:)/+", "/", f"https://ceph.example/bucket{client_target.removeprefix('/m')}")
    request = sign_request((section, (*V4, USE_HEADERS), "GET", url, client_target, False, "/m"))
    assert isinstance(request, SignedRequest) and request.url == f"{section}{key}"


@pytest.mark.parametrize("name", ["S3ProxySet", "S3CAFile", "S3Retries", "S3FallbackURL", "S3FallbackOn404"])
def test_settings_of_the_gateway_are_rejected(name: str) -> None:
    response = rejected(f"{SECTION}a", (*V4, (name, "1")))
    assert response.status == 500
    assert response.log_line and response.log_line.startswith(
        f"USPS30101: usp_s3_wsgi: {name} is for the gateway: in a <Proxy> section there is "
    )
    assert signed(f"{SECTION}a", (*V4, (name, "")))  # an empty value unsets it


@pytest.mark.parametrize(
    "name", ["S3FallbackSecretKey=SECRET", "S3FallbackSecretKey:SECRET", "S3FallbackSecretKey\nSECRET"]
)
def test_a_secret_in_the_name_of_a_variable_is_not_logged(name: str) -> None:
    response = rejected(f"{SECTION}a", (*V4, (name, "on")))
    assert response.log_line and "SECRET" not in response.log_line and "\n" not in response.log_line
    assert "did you mean S3FallbackSecretKey?" in response.log_line


def test_s3passquery() -> None:
    pairs = (*V4, USE_HEADERS, ("S3PassQuery", "versionId"))
    assert signed(f"{SECTION}a?acl&versionId=x%2By&uploads", pairs).url == f"{SECTION}a?versionId=x%2By"


def test_an_internal_error_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("a+secret/key")

    monkeypatch.setattr(callbacks, "sign", broken)
    response = rejected(f"{SECTION}a?X=1")
    assert response.status == 500
    line = rf"internal error: ValueError in broken, .*test_proxy_callbacks.py:\d+ \(GET {SECTION}a\)"
    assert response.log_line and re.fullmatch(f"USPS30001: usp_s3_wsgi: {line}", response.log_line)


def test_explain_error() -> None:
    body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
    headers = {"x-amz-request-id": "REQ1"}
    signature = (int(datetime.now(UTC).timestamp()), 0, -1)
    response = explain_error(
        (SECTION, V4, "GET", f"{SECTION}a?X-Amz-Signature=1"), (403, body, headers), (2, 0.25), signature
    )
    line = f"S3 answered 403 RequestTimeTooSkewed, request id REQ1 (GET {SECTION}a, attempt 2, 0.250 s)"
    facts = ("USPS30305", "films", "RequestTimeTooSkewed", "REQ1")
    assert response == ClientResponse(502, f"USPS30305: usp_s3_wsgi: {line}", (), 0, *facts)
    busy = explain_error((SECTION, V4, "GET", f"{SECTION}a"), (503, b"", {"retry-after": "7"}), (1, 0.1), signature)
    assert (busy.status, busy.headers) == (503, (("Retry-After", "7"),))
    denied = (*V4, ("S3DeniedStatus", "404"))
    hidden = explain_error((SECTION, denied, "GET", f"{SECTION}a"), (403, b"", {}), (1, 0.1), signature)
    assert hidden == ClientResponse(404, None, (), 0, "USPS30303", "films")


def logged_action(
    pairs: Pairs, status: int, code: str, region: str, section: str = SECTION, method: str = "GET"
) -> str:
    """Return the end of the log line, after the request."""
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    signature = (int(datetime.now(UTC).timestamp()), 0, -1)
    headers = {"x-amz-bucket-region": region}
    response = explain_error((section, pairs, method, f"{section}a"), (status, body, headers), (1, 0.1), signature)
    assert response.status == 502 and response.log_line is not None
    return response.log_line.rpartition(" s)")[2]


def signing_region(request: SignedRequest) -> str:
    return dict(request.headers)["Authorization"].split("/")[2]


@pytest.mark.parametrize(("status", "code"), [(301, "PermanentRedirect"), (307, "TemporaryRedirect"), (301, "")])
def test_another_host_is_logged_and_not_used(status: int, code: str) -> None:
    """It has no section, no worker and no TLS settings."""
    line_end = "; the URL of ProxyPass and <Proxy> must be https://films.s3.eu-west-3.amazonaws.com/"
    for _ in range(2):
        assert logged_action((*V4, USE_HEADERS), status, code, "eu-west-3") == line_end
        request = signed(f"{SECTION}a")
        assert (request.host, request.server_name, signing_region(request)) == (HOST, HOST, "eu-central-1")


def test_the_signing_region_is_recorded_and_updated() -> None:
    for region in ("eu-west-3", "us-east-1", "eu-central-1"):
        assert logged_action((*V4, USE_HEADERS), 400, "AuthorizationHeaderMalformed", region) == (
            f"; the next requests are signed for {region}"
        )
        request = signed(f"{SECTION}a")
        assert (request.host, signing_region(request)) == (HOST, region)
    assert logged_action((*V4, USE_HEADERS), 400, "AuthorizationHeaderMalformed", "eu-central-1") == ""


def test_a_host_that_is_not_amazons_serves_any_region() -> None:
    section = "https://ceph.example/films/"
    action = logged_action((*V4, USE_HEADERS), 301, "PermanentRedirect", "here", section)
    assert action == "; the next requests are signed for here"
    assert signing_region(signed(f"{section}a", section=section)) == "here"


def test_a_host_that_the_gateway_has_recorded_is_not_used() -> None:
    parsed = section_settings.parse((*V4, USE_HEADERS), SECTION)
    assert endpoint_state.record_region(parsed, parsed, "eu-west-3")
    assert signed(f"{SECTION}a").host == HOST


def test_signature_v2_records_no_region() -> None:
    section = "https://ceph.example/films/"
    assert logged_action((*KEYS, USE_HEADERS), 301, "PermanentRedirect", "here", section) == ""


@pytest.mark.parametrize("pairs", [(*V4, USE_HEADERS), V4, (*KEYS, USE_HEADERS), KEYS])
def test_s3s_clock_is_recorded_for_the_host(pairs: Pairs) -> None:
    now = datetime.now(UTC)
    date = format_datetime(now + timedelta(hours=2), usegmt=True)
    signature, body = (int(now.timestamp()), 0, -1), b"<Error><Code>AccessDenied</Code></Error>"
    response = explain_error((SECTION, pairs, "GET", f"{SECTION}a"), (403, body, {"date": date}), (1, 0.1), signature)
    assert response.status == 502 and response.state_version == 1 and response.log_line is not None
    assert re.search(
        r"clock is 7[12]\d\d s behind S3's: correct it \(GET .*\); the next requests are", response.log_line
    )
    after = signed(f"{SECTION}a", pairs)
    assert abs(after.signed_at - now.timestamp() - 7200) < 5 and after.state_version == 1
    if after.template is not None:  # templates are looked up by this server's clock
        assert abs(after.template.second - now.timestamp()) < 5
    other = "https://ceph.example/films/"
    assert abs(signed(f"{other}a", pairs, other).signed_at - now.timestamp()) < 5


def test_describe_response() -> None:
    body = b"<Error><Code>NoSuchKey</Code><RequestId>in the body</RequestId></Error>"
    url = f"{SECTION}a%0Ab\n\xe9?X-Amz-Signature=1"
    line = callbacks.describe_response(("GET", url), (404, body, {"x-amz-request-id": "R1"}), (2, 0.25))
    logged_url = SECTION + r"a%0Ab\x0a\xe9"
    message = f"S3 answered 404 NoSuchKey, request id R1 (GET {logged_url}, attempt 2, 0.250 s)"
    assert line == f"USPS30301: usp_s3_wsgi: {message}"


@pytest.mark.parametrize("error", [TypeError("function takes exactly 7 arguments (6 given)"), ValueError("x")])
def test_a_module_of_another_version_is_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an upgrade in place, a new child has the new Python files, and the module that httpd loaded before."""

    def register(*arguments: object) -> None:
        raise error

    module = ModuleType("usp_s3_wsgi._httpd")
    module.register = register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(usp_s3_wsgi, "_httpd", module, raising=False)
    startup.install()
    assert "usp_s3_module of another version of usp_s3_wsgi; restart httpd" in capsys.readouterr().err
    assert startup.allow_access({"wsgi.errors": io.StringIO()}, None) is False


def test_outside_of_httpd_no_signer_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    startup.install()
    assert "USPS30705: usp_s3_wsgi: <Proxy> sections cannot be signed in this process: " in capsys.readouterr().err
    log = io.StringIO()
    assert startup.allow_access({"wsgi.errors": log}, None) is False
    assert log.getvalue().count("\n") == 1


@pytest.mark.parametrize("pairs", [(*V4, USE_HEADERS), V4, (*KEYS, USE_HEADERS), KEYS])
def test_what_is_kept_of_a_rejected_request_is_what_was_signed(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rotation of the keys nothing is said about the signature: it was made with others."""
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(recorder, "record_failure", lambda *arguments: kept.append(json.loads(arguments[4])))
    document = b"<Error><Code>SignatureDoesNotMatch</Code><Message>a token</Message></Error>"
    request = signed(f"{SECTION}a", pairs)
    signature = (request.signed_at, request.state_version, -1)
    sent = (request.url, dict(request.headers).get("Authorization"), "bytes=0-9")
    for secret in ("a+secret/key", "changed"):
        flight_recorder._last_times.clear()
        variables = tuple((name, secret if name == "S3SecretKey" else value) for name, value in pairs)
        explain_error((SECTION, variables, "GET", f"{SECTION}a"), (403, document, {}), (1, 0.1), signature, sent)
    assert [bool(one["string_to_sign"]) for one in kept] == [True, False]
    assert [one["s3_message"] for one in kept] == ["a token", ""]
    assert kept[0]["range"] == "bytes=0-9"


def test_a_failure_is_kept_without_waiting_for_credentials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may have expired since the request was signed: a refresh may take seconds, or fail."""
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(recorder, "record_failure", lambda *arguments: kept.append(json.loads(arguments[4])))
    flight_recorder._last_times.clear()
    role = (("S3CredentialSource", "aws"), ("S3RoleARN", "arn:aws:iam::123456789012:role/x"), ("S3Region", "r"))
    document = b"<Error><Code>ExpiredToken</Code></Error>"
    begun = time.monotonic()
    explain_error(
        (SECTION, role, "GET", f"{SECTION}a"),
        (400, document, {}),
        (1, 0.1),
        (1, 0, -1),
        (f"{SECTION}a?x=1", None, None),
    )
    assert time.monotonic() - begun < 2
    (found,) = kept
    assert (found["s3_code"], found["string_to_sign"]) == ("ExpiredToken", "")
    assert capsys.readouterr().err == ""
