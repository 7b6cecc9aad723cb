"""What httpd is told before mod_proxy sends: the signed request, or a refusal; never an exception, never a secret."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.credentials import resolver
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
ON = ("S3UseHeaders", "on")


def signed(url: str, pairs: Pairs = (*V4, ON), section: str | None = SECTION, method: str = "GET") -> SignedRequest:
    answer = sign_request((section, pairs, method, url, None, False, None))
    assert isinstance(answer, SignedRequest), answer
    return answer


def refused(url: str, pairs: Pairs = (*V4, ON), section: str | None = SECTION, **more: object) -> ClientResponse:
    arguments = {"method": "GET", "client_target": None, "has_encoded_slash": False, "merging_mount": None, **more}
    request = ProxiedRequest(section_url=section, variables=pairs, url=url, **arguments)  # type: ignore[arg-type]
    answer = sign_request(request)
    assert isinstance(answer, ClientResponse), answer
    return answer


def test_headers_of_v4() -> None:
    answer = signed(f"https://{HOST}/a%20b+c//d.mp4?versionId=1")
    assert (answer.url, answer.host) == (f"https://{HOST}/a%20b%2Bc//d.mp4", HOST)
    names = [name for name, _ in answer.headers]
    assert names == ["x-amz-content-sha256", "x-amz-date", "Authorization"]


@pytest.mark.parametrize("pairs", [(*V4, ON), V4, (*KEYS, ON), KEYS])
@given(key=st.binary(min_size=1, max_size=40).filter(lambda key: not re.search(rb"\0|(^|/)\.\.?(/|$)", key)))
def test_what_is_sent_is_what_the_gateways_signer_signs(pairs: Pairs, key: bytes) -> None:
    answer = signed(f"https://{HOST}/{quote(key, safe='/~')}", pairs)
    chosen = settings.parse((*pairs, ("S3BucketURL", SECTION)))
    path = answer.url.removeprefix(f"https://{HOST}").partition("?")[0]
    assert unquote_to_bytes(path) == b"/" + key
    # The same second, unless it has just begun.
    for back in (0, 1):
        now = datetime.fromtimestamp(int(datetime.now(UTC).timestamp()) - back, UTC)
        whole = sign(S3Request("GET", "https", HOST, path), chosen.signing, resolver.resolve(chosen), now)
        if (answer.url, answer.headers) == (f"https://{HOST}{whole.target}", whole.headers):
            return
    raise AssertionError("another signature")


@pytest.mark.parametrize(
    ("section", "more", "url"),
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
def test_the_bucket_is_that_of_the_section(section: str | None, more: Pairs, url: str) -> None:
    assert signed(url, (*V4, ON, *more), section).url == url


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
def test_nothing_is_signed_for_another_place(section: str | None, url: str, reason: str) -> None:
    answer = refused(url, section=section)
    assert answer.status == 500
    assert answer.log_line and reason in answer.log_line


@pytest.mark.parametrize("pairs", [KEYS, (*KEYS, ON)])
def test_signature_v2_needs_the_bucket_by_name(pairs: Pairs) -> None:
    section = "http://films.s3.example:9000/"
    answer = refused(f"{section}a", pairs, section)
    assert answer.status == 500 and answer.log_line
    assert "S3Bucket is not set: Signature v2 signs the bucket's name" in answer.log_line
    assert signed(f"{section}a", (*pairs, ("S3Bucket", "films")), section)


@pytest.mark.parametrize("path", ["", "/", "/?list-type=2", "?list-type=2"])
def test_a_bucket_whose_name_only_the_host_knows_is_never_listed(path: str) -> None:
    answer = refused(f"http://films.s3.example:9000{path}", section="http://films.s3.example:9000/")
    assert answer.status == 404


def test_what_no_client_may_ask() -> None:
    for client_uri in ("//media", "/media//", "//media//"):
        assert refused(SECTION, client_target=client_uri, merging_mount="/media").status == 404
    assert refused(SECTION).status == 404
    assert refused(f"https://{HOST}").status == 404
    assert refused(f"{SECTION}a", method="PUT") == ClientResponse(405, None, (("Allow", "GET, HEAD"),))
    assert refused(f"{SECTION}a/%2e%2e/b").status == 400
    assert refused(f"{SECTION}b", client_target="/media/a/../b").status == 400
    assert refused(f"{SECTION}b", client_target="/media/a%2F%2E%2E%2Fb").status == 400
    assert refused(f"{SECTION}a%zz").status == 400
    assert refused(f"{SECTION}a", has_encoded_slash=True).status == 400


@pytest.mark.parametrize(
    ("client_uri", "mount", "url", "key"),
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
        # Slashes before the mount and in it are none of the key's, also where the key begins as the mount does.
        ("//public/a", "/public", "public/a", "public/a"),
        ("/media//film/a", "/media/film", "film/a", "film/a"),
        ("/media//film//a", "/media/film", "media/film/a", "media/film//a"),
    ],
)
def test_slashes_that_httpd_merged_are_those_of_the_key(client_uri: str, mount: str, url: str, key: str) -> None:
    arguments = (SECTION, (*V4, ON), "GET", f"{SECTION}{url}", client_uri, False)
    answer = sign_request((*arguments, mount))
    assert isinstance(answer, SignedRequest) and answer.url == f"{SECTION}{key}"
    as_it_is = sign_request((*arguments, None))
    assert isinstance(as_it_is, SignedRequest) and as_it_is.url == f"{SECTION}{url}"


@pytest.mark.parametrize(
    ("client_uri", "mount", "url"),
    [
        ("/films//today", "/films", "2026/a.mp4"),
        ("/play/foo//foo", "/play", "foo"),
        ("/rewrite/a//b", "", "a/b"),
        ("/f//a/x", "/deep/media", "a/x"),  # RewriteRule "^/f/(.*)$" "/deep/media/$1" [PT]
    ],
)
def test_merged_slashes_before_a_rule_are_refused(client_uri: str, mount: str, url: str) -> None:
    """Another key than the client asked for may be there."""
    assert refused(f"{SECTION}{url}", client_target=client_uri, merging_mount=mount).status == 400
    once = re.sub("//", "/", client_uri)
    answer = sign_request((SECTION, (*V4, ON), "GET", f"{SECTION}{url}", once, False, mount))
    assert isinstance(answer, SignedRequest) and answer.url == f"{SECTION}{url}"


@pytest.mark.parametrize(
    ("client_uri", "key"),
    [("/m/films/a//b", "a//b"), ("/m/films//a", "/a"), ("/m//films/a//b", "a//b")],
)
def test_slashes_before_the_sections_prefix_are_none_of_the_key(client_uri: str, key: str) -> None:
    """ProxyPass "/m" leads to the bucket, and its section is about a folder in it."""
    section = "https://ceph.example/bucket/films/"
    url = re.sub("(?<!:)/+", "/", f"https://ceph.example/bucket{client_uri.removeprefix('/m')}")
    answer = sign_request((section, (*V4, ON), "GET", url, client_uri, False, "/m"))
    assert isinstance(answer, SignedRequest) and answer.url == f"{section}{key}"


@pytest.mark.parametrize("name", ["S3ProxySet", "S3CAFile", "S3Retries"])
def test_settings_of_the_gateway_are_not_silently_ignored(name: str) -> None:
    answer = refused(f"{SECTION}a", (*V4, (name, "1")))
    assert answer.status == 500
    assert answer.log_line and answer.log_line.startswith(
        f"USPS30101: usp_s3_wsgi: {name} is for the gateway: in a <Proxy> section there is "
    )
    assert signed(f"{SECTION}a", (*V4, (name, "")))  # as if the line were not there


def test_the_query_that_may_pass() -> None:
    pairs = (*V4, ON, ("S3PassQuery", "versionId"))
    assert signed(f"{SECTION}a?acl&versionId=x%2By&uploads", pairs).url == f"{SECTION}a?versionId=x%2By"


def test_an_error_of_our_own_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("a+secret/key")

    monkeypatch.setattr(callbacks, "sign", broken)
    answer = refused(f"{SECTION}a?X=1")
    assert answer.status == 500
    line = rf"internal error: ValueError in broken, .*test_proxy_callbacks.py:\d+ \(GET {SECTION}a\)"
    assert answer.log_line and re.fullmatch(f"USPS30001: usp_s3_wsgi: {line}", answer.log_line)


def test_what_a_refusal_means() -> None:
    body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
    headers = {"x-amz-request-id": "REQ1"}
    by = (int(datetime.now(UTC).timestamp()), 0, -1)
    answer = explain_error((SECTION, V4, "GET", f"{SECTION}a?X-Amz-Signature=1"), (403, body, headers), (2, 0.25), by)
    line = f"S3 answered 403 RequestTimeTooSkewed, request id REQ1 (GET {SECTION}a, attempt 2, 0.250 s)"
    assert answer == ClientResponse(502, f"USPS30305: usp_s3_wsgi: {line}", ())
    busy = explain_error((SECTION, V4, "GET", f"{SECTION}a"), (503, b"", {"retry-after": "7"}), (1, 0.1), by)
    assert (busy.status, busy.headers) == (503, (("Retry-After", "7"),))
    denied = (*V4, ("S3DeniedStatus", "404"))
    hidden = explain_error((SECTION, denied, "GET", f"{SECTION}a"), (403, b"", {}), (1, 0.1), by)
    assert hidden == ClientResponse(404, None, ())


def explained(pairs: Pairs, status: int, code: str, region: str, section: str = SECTION, method: str = "GET") -> str:
    """The end of the line, after what was asked."""
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    by = (int(datetime.now(UTC).timestamp()), 0, -1)
    headers = {"x-amz-bucket-region": region}
    answer = explain_error((section, pairs, method, f"{section}a"), (status, body, headers), (1, 0.1), by)
    assert answer.status == 502 and answer.log_line is not None
    return answer.log_line.rpartition(" s)")[2]


def region_of(answer: SignedRequest) -> str:
    return dict(answer.headers)["Authorization"].split("/")[2]


@pytest.mark.parametrize(("status", "code"), [(301, "PermanentRedirect"), (307, "TemporaryRedirect"), (301, "")])
def test_another_host_is_told_and_not_asked(status: int, code: str) -> None:
    """It has no section, no worker and no TLS settings."""
    told = "; the URL of ProxyPass and <Proxy> must be https://films.s3.eu-west-3.amazonaws.com/"
    for _ in range(2):
        assert explained((*V4, ON), status, code, "eu-west-3") == told
        answer = signed(f"{SECTION}a")
        assert (answer.host, answer.server_name, region_of(answer)) == (HOST, HOST, "eu-central-1")


def test_the_region_of_a_signature_is_learned_and_another_one_as_well() -> None:
    for region in ("eu-west-3", "us-east-1", "eu-central-1"):
        assert explained((*V4, ON), 400, "AuthorizationHeaderMalformed", region) == (
            f"; the next requests are signed for {region}"
        )
        answer = signed(f"{SECTION}a")
        assert (answer.host, region_of(answer)) == (HOST, region)
    assert explained((*V4, ON), 400, "AuthorizationHeaderMalformed", "eu-central-1") == ""


def test_a_host_that_is_no_endpoint_of_amazon_is_every_regions() -> None:
    section = "https://ceph.example/films/"
    assert explained((*V4, ON), 301, "PermanentRedirect", "here", section) == "; the next requests are signed for here"
    assert region_of(signed(f"{section}a", section=section)) == "here"


def test_what_the_gateway_has_learned_of_another_host_is_not_asked() -> None:
    chosen = section_settings.parse((*V4, ON), SECTION)
    assert endpoint_state.record_region(chosen, chosen, "eu-west-3")
    assert signed(f"{SECTION}a").host == HOST


def test_signature_v2_learns_no_region() -> None:
    section = "https://ceph.example/films/"
    assert explained((*KEYS, ON), 301, "PermanentRedirect", "here", section) == ""


@pytest.mark.parametrize("pairs", [(*V4, ON), V4, (*KEYS, ON), KEYS])
def test_s3s_clock_is_that_of_the_host(pairs: Pairs) -> None:
    now = datetime.now(UTC)
    date = format_datetime(now + timedelta(hours=2), usegmt=True)
    by, body = (int(now.timestamp()), 0, -1), b"<Error><Code>AccessDenied</Code></Error>"
    answer = explain_error((SECTION, pairs, "GET", f"{SECTION}a"), (403, body, {"date": date}), (1, 0.1), by)
    assert answer.status == 502 and answer.state_version == 1 and answer.log_line is not None
    assert re.search(r"clock is 7[12]\d\d s behind S3's: correct it \(GET .*\); the next requests are", answer.log_line)
    after = signed(f"{SECTION}a", pairs)
    assert abs(after.signed_at - now.timestamp() - 7200) < 5 and after.state_version == 1
    if after.template is not None:  # it is found by this server's second
        assert abs(after.template.second - now.timestamp()) < 5
    other = "https://ceph.example/films/"
    assert abs(signed(f"{other}a", pairs, other).signed_at - now.timestamp()) < 5


def test_what_s3_answered_in_words() -> None:
    body = b"<Error><Code>NoSuchKey</Code><RequestId>in the body</RequestId></Error>"
    url = f"{SECTION}a%0Ab\n\xe9?X-Amz-Signature=1"
    line = callbacks.describe_response(("GET", url), (404, body, {"x-amz-request-id": "R1"}), (2, 0.25))
    place = SECTION + r"a%0Ab\x0a\xe9"
    assert line == f"USPS30301: usp_s3_wsgi: S3 answered 404 NoSuchKey, request id R1 (GET {place}, attempt 2, 0.250 s)"


def test_outside_of_httpd_there_is_no_signer(capsys: pytest.CaptureFixture[str]) -> None:
    startup.install()
    assert "USPS30705: usp_s3_wsgi: <Proxy> sections cannot be signed in this process: " in capsys.readouterr().err
    log = io.StringIO()
    assert startup.allow_access({"wsgi.errors": log}, None) is False
    assert log.getvalue().count("\n") == 1
