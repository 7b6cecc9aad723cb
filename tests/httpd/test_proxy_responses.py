"""``<Proxy>``: the client's response, the log lines, and that other modules of httpd see no signature."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.faults.server import ScriptedS3, answer
from tests.httpd.conftest import (
    BUCKET,
    ONE_CHILD,
    PAGES,
    assert_no_information_about_the_bucket,
    proxy_section,
    settings,
)
from tests.httpd.machine import free_port
from tests.httpd.server import WAIT, Httpd
from tests.httpd.ways import expect_etags_before_dates
from tests.s3 import EmbeddedS3

DATA = b"0123456789" * 100
OTHER_MODULES = """
AllowEncodedSlashes On
LogFormat "%>s %r | %f | %q | %{Host}i %V | %{User-Agent}i %{Authorization}i %{Cookie}i %{X-Forwarded-For}i" all
CustomLog access.log all
ErrorDocument 502 /errors/502
<Location /errors>
  SetHandler default-handler
</Location>
<Location /server-status>
  SetHandler server-status
</Location>
ExtendedStatus On
<Location /server-info>
  SetHandler server-info
</Location>
# Rules of other modules see the client's request, not the request to S3.
<Location /users>
  AuthType Basic
  AuthName members
  AuthBasicProvider file
  AuthUserFile ${ROOT}/users
  Require valid-user
</Location>
<Location /cdn>
  Require expr "%{HTTP:X-Cdn-Secret} == 'open' && %{QUERY_STRING} == 'from=cdn'"
</Location>
<Location /deflated>
  SetOutputFilter DEFLATE
</Location>
CacheRoot ${ROOT}/run/cache
CacheEnable disk /cached
CacheHeader on
# A rule of a <Location> is applied after mod_proxy has searched for the <Proxy> section.
<Location /rewritten>
  RewriteEngine On
  RewriteRule "^.*/(.*)$" @URL@/$1 [P]
</Location>
ProxyPass /users    @URL@
ProxyPass /cdn      @URL@
ProxyPass /deflated @URL@
ProxyPass /cached   @URL@
ProxyPass /media    @URL@
"""


def location_section(mount: str, url: str, lines: list[str]) -> str:
    """ProxyPass and settings in one ``<Location>``."""
    body = "\n".join(lines)
    return f"<Location {mount}>\nProxyPass {url}\n{body}\n</Location>"


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3, s3_tls: EmbeddedS3) -> Iterator[Httpd]:
    s3.put(BUCKET, "a.ts", DATA, headers={"Cache-Control": "max-age=600"})
    s3.put(BUCKET, "stale.ts", DATA, headers={"Cache-Control": "max-age=0"})
    s3.put(BUCKET, "list.m3u8", DATA, content_type="application/vnd.apple.mpegurl")
    url, valid = f"{s3.url}/{BUCKET}", settings(s3)
    secret = s3.secret_key
    no_secret = [*valid, 'SetEnv S3SecretKey ""']
    url_without_section = f"http://localhost:{s3.port}/{BUCKET}"  # no <Proxy> section is for this host
    sections = {
        "wrong-secret": (url, [line.replace(secret, "not" + secret) for line in valid]),
        "wrong-secret-v2": (url, [line.replace(secret, "not" + secret) for line in settings(s3, "v2-query")]),
        "wrong-region": (url, [line.replace(s3.region, "us-west-2") for line in valid]),
        "no-bucket": (f"{s3.url}/nobucket", valid),
        "misspelt": (url, [*valid, "SetEnv S3UseHeader on"]),
        "not-boolean": (url, [line.replace("S3UseHeaders on", "S3UseHeaders yes") for line in valid]),
        "role": (url, [*valid, "SetEnv S3RoleARN arn:aws:iam::1:user/x"]),
        "no-secret": (url, no_secret),
        "no-file": (url, [*no_secret, "SetEnv S3SecretKeyFile /nonexistent/secret"]),
        "gateway-setting": (url, [*valid, "SetEnv S3CAFile /etc/ssl/ca.pem"]),
        "other-host": (url, [*valid, "SetEnv S3BucketURL https://other.example/bucket/"]),
        "other-path": (url, [*valid, f"SetEnv S3BucketURL {s3.url}/other/"]),
        "no-bucket-name": (s3.url, valid),
        "no-keys": (url_without_section, ['SetEnv S3AccessKey ""', 'SetEnv S3SecretKey ""']),
        "wrong-case": (url_without_section, ["SetEnv s3accesskey x", "SetEnv s3secretkey y"]),
        "http2": (f"h2c://{s3.host}/{BUCKET}", valid),
        "unreachable": (f"http://127.0.0.1:{free_port()}/{BUCKET}", valid),
    }
    locations = [location_section(f"/{name}", target, lines) for name, (target, lines) in sections.items()]
    denied = location_section("/denied", url, [*valid, "SetEnv S3DeniedStatus 404"])
    overridden = location_section("/overridden", url, [*sections["wrong-secret"][1], "ProxyErrorOverride On"])
    parts = [OTHER_MODULES.replace("@URL@", url), PAGES, proxy_section(f"{url}/", s3), *locations, denied, overridden]
    with Httpd("\n".join(parts)) as server:
        (server.root / "run" / "cache").mkdir()
        (server.root / "run" / "cache").chmod(0o777)
        (server.root / "users").write_text("viewer:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")  # "password"
        (server.root / "htdocs" / "errors").mkdir()
        (server.root / "htdocs" / "errors" / "502").write_text("the operator's own page")
        yield server
    assert "\n".join(server.unexpected) == ""


def access_log_line(httpd: Httpd, request: str) -> str:
    """The line of the access log about a request. httpd writes it after the response."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        for line in (httpd.root / "access.log").read_text().splitlines():
            if request in line:
                return line
        time.sleep(0.02)
    raise AssertionError(f"{request} is not in the access log")


CONFIGURATION_ERRORS = {
    "wrong-secret": (502, r"S3 answered 403 SignatureDoesNotMatch, request id tx\w+"),
    "wrong-secret-v2": (502, r"S3 answered 403 SignatureDoesNotMatch"),
    "wrong-region": (502, r"S3 answered 400 AuthorizationHeaderMalformed.*eu-central-1"),
    "no-bucket": (502, r"S3 answered 404 NoSuchBucket"),
    "misspelt": (500, r"S3UseHeader is not a setting: did you mean S3UseHeaders\?"),
    "not-boolean": (500, r"S3UseHeaders must be on or off"),
    "role": (500, r"S3RoleARN must be the ARN of a role"),
    "no-secret": (500, r"S3SecretKey is not set"),
    "no-file": (500, r"S3SecretKeyFile: the file cannot be read: No such file"),
    "gateway-setting": (500, r"S3CAFile is for the gateway: in a <Proxy> section there is SSLProxyCACertificateFile"),
    "other-host": (500, r"the URL of the proxied request is not that of the section's bucket"),
    "other-path": (500, r"the URL of the proxied request is not below that of the section's bucket"),
    "no-bucket-name": (500, r"S3BucketURL shows no bucket"),
    "no-keys": (500, r"S3AccessKey is not set"),
    "wrong-case": (500, r"s3accesskey is not a setting: did you mean S3AccessKey\?"),
    "http2": (500, r"only http:// and https:// URLs can be signed"),
}
#: Those that are found before a request is sent.
UNSENT = [name for name, (status, _) in CONFIGURATION_ERRORS.items() if status == 500]


@pytest.mark.parametrize("name", CONFIGURATION_ERRORS)
def test_configuration_errors_are_logged(httpd: Httpd, s3: EmbeddedS3, name: str) -> None:
    status, reason = CONFIGURATION_ERRORS[name]
    s3.clear()
    reply = httpd.fetch(f"/{name}/a.ts")
    assert reply.status == status
    assert reply.body == b"the operator's own page" or status == 500
    line = httpd.wait_for_error(
        rf"\[usp_s3:error\] USPS3\d{{4}}: usp_s3_wsgi: .*{reason}.* \(GET (http|h2c)://[^ ]*/a\.ts[,)]"
    )
    assert s3.secret_key not in line and "Signature=" not in line
    assert len(s3.requests()) == (0 if name in UNSENT else 1)


def test_a_rejected_signature_with_proxyerroroverride_is_a_403(httpd: Httpd) -> None:
    """Without S3's error code it looks like a denied object."""
    assert httpd.fetch("/overridden/a.ts").status == 403


def test_an_unreachable_bucket_is_a_503(httpd: Httpd) -> None:
    httpd.expect_error("AH00957|AH01114")
    assert httpd.fetch("/unreachable/a.ts", host="www.example").status == 503
    # The request's server name was S3's while mod_proxy ran, for TLS; a log must not have it.
    assert "| www.example www.example |" in access_log_line(httpd, "GET /unreachable/a.ts ")


@pytest.mark.parametrize("name", ["wrong-secret", "wrong-secret-v2"])
def test_rejected_head_and_subrequest(httpd: Httpd, name: str) -> None:
    httpd.expect_error(rf"usp_s3_wsgi: .*S3 answered|unable to include \"/{name}/a.ts\"")
    head = httpd.fetch(f"/{name}/a.ts", method="HEAD")
    assert head.status in {403, 502}  # the response to a HEAD has no code
    assert head.body == b""
    (httpd.root / "htdocs" / "page").write_text(f'[<!--#include virtual="/{name}/a.ts" -->]')
    body = httpd.fetch("/page").body
    assert body.startswith(b"[[an error occurred") and b"<Error>" not in body


def test_the_client_gets_no_information_about_the_bucket(httpd: Httpd, s3: EmbeddedS3) -> None:
    httpd.expect_error("usp_s3_wsgi: ")
    assert_no_information_about_the_bucket(httpd, s3)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
def test_other_methods_than_get_and_head_are_rejected(httpd: Httpd, s3: EmbeddedS3, method: str) -> None:
    s3.clear()
    reply = httpd.fetch("/media/a.ts", method=method)
    assert reply.status == 405
    assert {"GET", "HEAD"} <= set(reply.headers["Allow"].split(",")) <= {"GET", "HEAD", "TRACE"}
    assert s3.requests() == []


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/media/x/../a.ts", 400),
        ("/media/x/%2e%2e/a.ts", 400),
        ("/media/x/.%2E/a.ts", 400),
        ("/media/./a.ts", 400),
        ("/media/x%2F..%2Fa.ts", 400),
        ("/media/%zz", 400),
        ("/media/%00", 404),
        ("/media/", 404),
        ("/media", 404),
        ("/media/?list-type=2", 404),
    ],
)
def test_paths_that_cannot_be_keys_are_rejected(httpd: Httpd, s3: EmbeddedS3, target: str, status: int) -> None:
    httpd.expect_error("AH10244: invalid URI path")
    s3.clear()
    assert httpd.fetch(target).status == status
    assert s3.requests() == []


def test_an_encoded_slash_does_not_bypass_an_access_rule(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    url = f"{s3.url}/{BUCKET}"
    s3.put(BUCKET, "secret/a.ts", DATA)
    rules = "AllowEncodedSlashes NoDecode\n<Location /media/secret/>\nRequire all denied\n</Location>"
    server = Httpd(f"{rules}\nProxyPass /media {url}\nProxyPass /raw {url} nocanon\n{proxy_section(url, s3)}")
    checked.append(server)
    server.start()
    for target in ("/media/secret%2Fa.ts", "/media/secret%2fa.ts", "/raw/secret%2Fa.ts", "/media/secret%252Fa.ts"):
        assert server.fetch(target).status == 400
    assert server.fetch("/media/secret/a.ts").status == 403
    server.expect_error("AH01630: client denied")


@pytest.mark.parametrize("slashes", ["", "AllowEncodedSlashes On", "AllowEncodedSlashes NoDecode"])
def test_an_encoded_slash_does_not_bypass_an_access_rule_with_mapping_encoded(
    slashes: str, s3: EmbeddedS3, checked: list[Httpd]
) -> None:
    url = f"{s3.url}/{BUCKET}"
    s3.put(BUCKET, "secret/a.ts", DATA)
    rules = f"{slashes}\n<Location /media/secret/>\nRequire all denied\n</Location>"
    server = Httpd(f"{rules}\nProxyPass /media {url} mapping=encoded\n{proxy_section(url, s3)}")
    checked.append(server)
    server.start()
    assert server.fetch("/media/secret%2Fa.ts").status == 400
    assert server.fetch("/media/secret/a.ts").status == 403
    server.expect_error("AH01630: client denied")


def test_a_section_of_an_ipv6_address_must_be_a_pattern(checked: list[Httpd]) -> None:
    """httpd parses its brackets as a pattern, which never matches: the log line suggests a ``<ProxyMatch>``."""
    keys = "SetEnv S3AccessKey x\nSetEnv S3SecretKey y\nSetEnv S3Region r\nSetEnv S3UseHeaders on\n"
    with ScriptedS3(answer(200, b"an object"), host="::1") as bucket:
        url = f"http://[::1]:{bucket.port}/bucket"
        rejected = Httpd(f'ProxyPass /media {url}\n<Proxy "{url}/">\n{keys}</Proxy>\n')
        checked.append(rejected)
        rejected.start()
        assert rejected.fetch("/media/a.ts").status == 500
        rejected.expect_error("mod_proxy does not apply this section to the requests of .* write <ProxyMatch")
        line = rejected.wait_for_error("mod_proxy does not apply <Proxy")
        assert bucket.requests == []
        suggested = line.partition(": write ")[2].partition(" (GET")[0]
        assert suggested == f'<ProxyMatch "^http://[[]::1]:{bucket.port}/bucket/">'
        served = Httpd(f"ProxyPass /media {url}\n{suggested}\n{keys}SetEnv S3BucketURL {url}/\n</ProxyMatch>\n")
        checked.append(served)
        served.start()
        assert served.fetch("/media/a.ts").body == b"an object"
    assert bucket.requests[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 ")


@pytest.mark.parametrize("framing", ["Content-Length: 57", "Transfer-Encoding: chunked"])
def test_the_clients_request_body_is_discarded(httpd: Httpd, s3: EmbeddedS3, framing: str) -> None:
    """It is not sent to S3, and not parsed as another request by httpd."""
    smuggled = b"GET /media/list.m3u8 HTTP/1.1\r\nHost: x\r\nX-Padding: xx\r\n\r\n"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(smuggled), smuggled) if "chunked" in framing else smuggled
    s3.clear()
    with socket.create_connection(("127.0.0.1", httpd.port), timeout=10) as client:
        for _ in range(2):
            client.sendall(b"GET /media/a.ts HTTP/1.1\r\nHost: x\r\n" + framing.encode() + b"\r\n\r\n" + body)
        client.sendall(b"GET /media/missing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200", b"404"]
    assert [entry["target"].rpartition("/")[2] for entry in s3.requests()] == ["a.ts", "a.ts", "missing"]
    assert not any({"content-length", "transfer-encoding"} & set(entry["headers"]) for entry in s3.requests())


def test_an_etag_takes_precedence_over_a_date(httpd: Httpd) -> None:
    expect_etags_before_dates(httpd, "/media/a.ts")


def test_conditional_and_range_requests(httpd: Httpd, s3: EmbeddedS3) -> None:
    whole = httpd.fetch("/media/a.ts")
    assert httpd.fetch("/media/a.ts", if_match=whole.headers["ETag"]).status == 200
    assert httpd.fetch("/media/a.ts", if_match='"other"').status == 412
    assert httpd.fetch("/media/a.ts", if_modified_since=whole.headers["Last-Modified"]).status == 304
    assert httpd.fetch("/media/a.ts", if_unmodified_since="Fri, 01 Jan 2010 00:00:00 GMT").status == 412
    wrong = httpd.fetch("/media/a.ts", range="bytes=5000-6000")
    assert wrong.status == 416 and b"<Error>" not in wrong.body
    s3.clear()
    etag = whole.headers["ETag"]
    assert httpd.fetch("/media/a.ts", range="bytes=10-19", if_range=etag).body == DATA[10:20]
    stale = httpd.fetch("/media/a.ts?x=1", range="bytes=10-19", if_range='"of another time"')
    assert (stale.status, stale.body) == (200, DATA)
    assert ["range" in entry["headers"] for entry in s3.requests()] == [True, True, False]


def test_access_rules_see_the_clients_request(httpd: Httpd, s3: EmbeddedS3) -> None:
    httpd.expect_error("AH01617|AH01618|AH01630|AH01631")
    s3.clear()
    basic = "Basic " + b64encode(b"viewer:password").decode()
    assert httpd.fetch("/users/a.ts").status == 401
    assert httpd.fetch("/users/a.ts", authorization=basic).body == DATA
    assert httpd.fetch("/cdn/a.ts?from=cdn").status == 403
    assert httpd.fetch("/cdn/a.ts?from=cdn", x_cdn_secret="open").body == DATA
    assert [entry["headers"]["authorization"] for entry in s3.requests()] == ["AWS4-HMAC-SHA256"] * 2


def test_a_rewriterule_in_a_location_is_signed(httpd: Httpd) -> None:
    assert httpd.fetch("/rewritten/a.ts").body == DATA


def test_filters_and_caches_see_the_clients_request(httpd: Httpd, s3: EmbeddedS3) -> None:
    compressed = httpd.fetch("/deflated/list.m3u8", accept_encoding="gzip")
    assert compressed.headers["Content-Encoding"] == "gzip"
    for target, word, statuses in (("/cached/a.ts", "HIT", []), ("/cached/stale.ts", "REVALIDATE", [304])):
        for _ in range(100):  # mod_cache stores an object after its client has got it
            s3.clear()
            reply = httpd.fetch(target)
            assert (reply.status, reply.body) == (200, DATA)
            if reply.headers["X-Cache"].startswith(word):
                break
        assert [entry["status"] for entry in s3.requests()] == statuses


def test_logs_and_status_pages_show_no_signature(httpd: Httpd, s3: EmbeddedS3) -> None:
    httpd.expect_error("usp_s3_wsgi: ")
    client = {"user_agent": "player/1", "cookie": "a=b", "authorization": "Basic eDp5", "x_forwarded_for": "192.0.2.7"}
    for name in ("media", "wrong-secret", "wrong-secret-v2", "overridden"):
        httpd.fetch(f"/{name}/a.ts?client=query", method="GET", timeout=30.0, **client)
    pages = "".join(httpd.fetch(f"/{page}").body.decode() for page in ("server-status", "server-status?auto"))
    last = access_log_line(httpd, "GET /overridden/a.ts?client=query ")
    log = (httpd.root / "access.log").read_text()
    for text in (log, pages, "\n".join(httpd.errors())):
        assert s3.secret_key not in text
        assert not re.search(r"Signature=|Credential=|AWS4-HMAC|AWS " + s3.access_key, text)
    assert "| ?client=query | 127.0.0.1:" in last
    assert last.endswith("| player/1 Basic eDp5 a=b 192.0.2.7")
    with urllib.request.urlopen(f"{httpd.url}/server-info", timeout=20) as page:
        assert s3.secret_key.encode() in page.read()  # docs/security.md warns of it


@pytest.mark.parametrize("mode", ["v4-query", "v2-query", "v4-header"])
def test_mod_proxy_logs_no_signature_at_level_trace(s3: EmbeddedS3, mode: str) -> None:
    url = f"{s3.url}/{BUCKET}"
    levels = "LogLevel trace6"
    text = f"{levels}\n{PAGES}ProxyPass /media {url}\n{proxy_section(f'{url}/', s3, mode=mode)}"
    with Httpd(text) as server:
        (server.root / "htdocs" / "page").write_text('<!--#include virtual="/media/a.ts" -->')
        for target in ("/media/a.ts?client=query", "/page", "/media/missing"):
            server.fetch(target)
        log = "\n".join(server.errors())
        assert "AH00944: connecting" in log or "AH02545" in log or "[proxy:debug]" in log
        for secret in ("Signature=", "Credential=", "AWSAccessKeyId", s3.secret_key):
            assert secret not in log


def test_connections_are_reused(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """By main requests, HEAD, errors and subrequests; with the ProxySet line of mod_unified_s3_auth."""
    url = f"{s3.url}/{BUCKET}"
    line = "ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300"
    server = Httpd(f"{ONE_CHILD}{PAGES}ProxyPass /media {url}\n{proxy_section(f'{url}/', s3, line)}")
    checked.append(server)
    server.start()
    include = '<!--#include virtual="/media/a.ts" -->'
    (server.root / "htdocs" / "page").write_text(include * 3)
    s3.clear()
    for _ in range(5):
        assert server.fetch("/media/a.ts").status == 200
        assert server.fetch("/media/a.ts", method="HEAD").status == 200
        assert server.fetch("/media/missing").status == 404
        assert server.fetch("/media/a.ts", range="bytes=1-2").status == 206
        assert server.fetch("/page").body == DATA * 3
    requests = s3.requests()
    assert len(requests) == 35
    assert len({entry["port"] for entry in requests}) == 1
    assert all(
        first["headers"]["connection"] == second["headers"]["connection"] for first, second in pairwise(requests)
    )


def test_the_body_of_a_posted_page_is_not_read_by_its_subrequests(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    url = f"{s3.url}/{BUCKET}"
    server = Httpd(f"{PAGES}ProxyPass /media {url}\n{proxy_section(f'{url}/', s3)}")
    checked.append(server)
    server.start()
    (server.root / "htdocs" / "page").write_text('[<!--#include virtual="/media/a.ts" -->]')
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        body = b"GET /media/missing HTTP/1.1\r\nHost: x\r\n\r\n"
        head = b"Host: x\r\nContent-Length: %d\r\n" % len(body)
        client.sendall(b"GET /page HTTP/1.1\r\n" + head + b"\r\n" + body)
        client.sendall(b"GET /media/list.m3u8 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert DATA in received
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200"]
