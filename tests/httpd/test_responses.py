"""The client's response and the error log, with a real httpd and a real S3."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.httpd.conftest import BUCKET, assert_no_information_about_the_bucket, section
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.httpd.ways import expect_etags_before_dates
from tests.s3 import EmbeddedS3

DATA = b"0123456789" * 100


def without_setting(text: str, setting: str) -> str:
    return re.sub(rf"SetEnv {setting} .*\n", "", text)


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3, s3_tls: EmbeddedS3) -> Iterator[Httpd]:
    s3.put(BUCKET, "a.ts", DATA, headers={"Cache-Control": "max-age=600"})
    s3.put(BUCKET, "stale.ts", DATA, headers={"Cache-Control": "max-age=0"})
    secret = s3.secret_key
    sections = [
        "AllowEncodedSlashes On",
        section("/media", s3),
        section("/wrong-secret", s3).replace(secret, "not" + secret),
        section("/wrong-secret-v2", s3, mode="v2-query").replace(secret, "not" + secret),
        section("/wrong-key", s3).replace(s3.access_key, "AKIANOBODY"),
        section("/wrong-region", s3).replace(s3.region, "us-west-2"),
        section("/no-bucket", s3, path="nobucket/"),
        section("/nobody-there", s3).replace(s3.host, f"127.0.0.1:{free_port()}"),
        section("/unknown-ca", s3_tls),
        section("/misspelt", s3, "SetEnv S3UseHeader on"),
        section("/not-on-off", s3).replace("S3UseHeaders on", "S3UseHeaders yes"),
        section("/role", s3, "SetEnv S3RoleARN arn:aws:iam::1:user/x"),
        without_setting(section("/no-secret", s3), "S3SecretKey"),
        without_setting(section("/no-file", s3, "SetEnv S3SecretKeyFile /nonexistent/secret"), "S3SecretKey"),
        section("/cached", s3),
        "LogLevel warn usp_s3:info",  # a retry is logged at level info
        "CacheRoot ${ROOT}/run/cache\nCacheEnable disk /cached\nCacheHeader on\n",
    ]
    with Httpd("\n".join(sections)) as server:
        for text in (
            "S3UseHeader is not",
            "S3UseHeaders must",
            "S3RoleARN must",
            "S3SecretKey is not",
            "S3SecretKeyFile: ",
        ):
            server.wait_for_error(rf"usp_s3_wsgi: \S+/httpd\.conf:\d+: {text}")  # configtest reports it at the start
        (server.root / "run" / "cache").mkdir(mode=0o777)
        (server.root / "run" / "cache").chmod(0o777)
        yield server
    assert "\n".join(server.unexpected) == ""


FAILURES = {
    "/wrong-secret": (502, r"S3 answered 403 SignatureDoesNotMatch, request id tx\w+"),
    "/wrong-secret-v2": (502, r"S3 answered 403 SignatureDoesNotMatch"),
    "/wrong-key": (502, r"S3 answered 403 SignatureDoesNotMatch"),  # Swift has no code of its own for it
    "/no-bucket": (502, r"S3 answered 404 NoSuchBucket"),
    "/nobody-there": (502, r"Connection refused"),
    "/unknown-ca": (
        502,
        r"TLS: certificate verification failed: unable to get local issuer certificate \(S3CAFile, or",
    ),
    "/misspelt": (500, r"S3UseHeader is not a setting: did you mean S3UseHeaders\?"),
    "/not-on-off": (500, r"S3UseHeaders must be on or off"),
    "/role": (500, r"S3RoleARN must be the ARN of a role"),
    "/no-secret": (500, r"S3SecretKey is not set"),
    "/no-file": (500, r"S3SecretKeyFile: the file cannot be read: No such file"),
}


@pytest.mark.parametrize("mount", FAILURES)
def test_failures_for_a_reason_on_this_server(httpd: Httpd, s3: EmbeddedS3, mount: str) -> None:
    status, reason = FAILURES[mount]
    reply = httpd.fetch(f"{mount}/a.ts")
    assert reply.status == status
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert reply.body in {b"500 Internal Server Error\n", b"502 Bad Gateway\n"}
    line = httpd.wait_for_error(rf"usp_s3_wsgi: {mount}: .*{reason}")
    assert s3.secret_key not in line and "Signature=" not in line


@pytest.mark.parametrize("mount", ["/wrong-secret", "/wrong-key"])
def test_head_gets_the_same_status(httpd: Httpd, mount: str) -> None:
    """S3's response to a HEAD has no error code. The client's status must not depend on the method all the same."""
    httpd.expect_error(rf"usp_s3_wsgi: {mount}: ")
    reply = httpd.fetch(f"{mount}/a.ts", method="HEAD")
    assert (reply.status, reply.body) == (502, b"")


def test_a_wrong_region_is_corrected_and_logged(httpd: Httpd, s3: EmbeddedS3) -> None:
    """Swift's error names its region: requests are signed for it from then on, and the log says what to set."""
    assert httpd.fetch("/wrong-region/a.ts", method="HEAD").status == 200
    assert [httpd.fetch("/wrong-region/a.ts").body for _ in range(3)] == [DATA] * 3
    line = httpd.wait_for_error("S3 answered 400 AuthorizationHeaderMalformed")
    assert f"the bucket is in region {s3.region}: set S3Region to it" in line and "; retrying" in line


def test_responses_say_nothing_about_the_bucket(httpd: Httpd, s3: EmbeddedS3) -> None:
    assert_no_information_about_the_bucket(httpd, s3)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
def test_other_methods_are_not_allowed(httpd: Httpd, s3: EmbeddedS3, method: str) -> None:
    s3.clear()
    reply = httpd.fetch("/media/a.ts", method=method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
    assert s3.requests() == []


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/media/../media/a.ts", 400),
        ("/media/x/%2e%2e/a.ts", 400),
        ("/media/x/.%2E/a.ts", 400),
        ("/media/./a.ts", 400),
        ("/media/x%2F..%2Fa.ts", 400),
        ("/media/%zz", 400),
        ("/media/%", 400),
        ("/media/%00", 404),  # httpd's own response: the request does not reach the gateway
        ("/media/", 404),
        ("/media", 404),
        ("/media/?list-type=2", 404),
    ],
)
def test_paths_that_are_not_keys(httpd: Httpd, s3: EmbeddedS3, target: str, status: int) -> None:
    httpd.expect_error("AH10244: invalid URI path")
    s3.clear()
    assert httpd.fetch(target).status == status
    assert s3.requests() == []


def test_the_query_does_not_reach_s3(httpd: Httpd, s3: EmbeddedS3) -> None:
    s3.clear()
    assert httpd.fetch("/media/a.ts?acl&uploads&versionId=x&X-Amz-Signature=1").body == DATA
    assert s3.requests()[0]["target"] == f"/{BUCKET}/a.ts"


def test_a_range_that_cannot_be_satisfied(httpd: Httpd) -> None:
    reply = httpd.fetch("/media/a.ts", range="bytes=5000-6000")
    assert (reply.status, reply.body) == (416, b"416 Range Not Satisfiable\n")


def test_if_range(httpd: Httpd) -> None:
    """Swift ignores If-Range. A client that resumes must not get the end of another object."""
    etag = httpd.fetch("/media/a.ts").headers["ETag"]
    assert httpd.fetch("/media/a.ts", range="bytes=10-19", if_range=etag).status == 206
    stale = httpd.fetch("/media/a.ts", range="bytes=10-19", if_range='"of another time"')
    assert (stale.status, stale.body) == (200, DATA)


def test_preconditions(httpd: Httpd) -> None:
    whole = httpd.fetch("/media/a.ts")
    assert httpd.fetch("/media/a.ts", if_match=whole.headers["ETag"]).status == 200
    assert httpd.fetch("/media/a.ts", if_match='"other"').status == 412
    assert httpd.fetch("/media/a.ts", if_modified_since=whole.headers["Last-Modified"]).status == 304
    assert httpd.fetch("/media/a.ts", if_unmodified_since="Fri, 01 Jan 2010 00:00:00 GMT").status == 412


def test_an_etag_takes_precedence_over_a_date(httpd: Httpd) -> None:
    expect_etags_before_dates(httpd, "/media/a.ts")


def fetch_until_cache_status(httpd: Httpd, target: str, cache: str) -> None:
    """Fetch until the cache has this status: it stores an object only after the client has got it."""
    for _ in range(100):
        reply = httpd.fetch(target)
        assert (reply.status, reply.body) == (200, DATA)
        if reply.headers["X-Cache"].startswith(cache):
            return
    raise AssertionError(f"never {cache}: {reply.headers}")


def test_a_cache_stores_and_revalidates(httpd: Httpd, s3: EmbeddedS3) -> None:
    fetch_until_cache_status(httpd, "/cached/a.ts", "HIT")
    s3.clear()
    httpd.fetch("/cached/a.ts")
    assert s3.requests() == []
    fetch_until_cache_status(httpd, "/cached/stale.ts", "REVALIDATE")
    assert s3.requests()[-1]["status"] == 304


def test_a_cache_behind_access_rules_is_asked_once(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """With CacheQuickHandler Off mod_cache is a handler. Run twice, it would store a stale body as a fresh one."""
    s3.put(BUCKET, "stale.ts", DATA, headers={"Cache-Control": "max-age=0"})
    server = Httpd(
        section("/media", s3)
        + "CacheRoot ${ROOT}/run/cache\nCacheEnable disk /media\nCacheHeader on\nCacheQuickHandler Off\n"
        + "LogLevel cache:debug\n"
    )
    checked.append(server)
    server.start()
    server.expect_error(r"\[cache:debug\]")
    (server.root / "run" / "cache").mkdir()
    (server.root / "run" / "cache").chmod(0o777)
    assert server.fetch("/media/stale.ts").body == DATA
    assert sum("AH00757: Adding CACHE_SAVE filter" in line for line in server.errors()) == 1
    fetch_until_cache_status(server, "/media/stale.ts", "REVALIDATE")


def test_a_secret_file_that_changes(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    text = without_setting(section("/media", s3, "SetEnv S3SecretKeyFile ${ROOT}/secret"), "S3SecretKey")
    server = Httpd(text)
    server.expect_error(r"httpd\.conf:\d+: S3SecretKeyFile: .* No such file or directory")  # not yet
    server.start()
    checked.append(server)
    secret = server.root / "secret"
    secret.write_text("old-and-wrong\n")
    assert server.fetch("/media/a.ts").status == 502
    server.wait_for_error("SignatureDoesNotMatch")
    secret.write_text(s3.secret_key + "\n")
    assert server.fetch("/media/a.ts").body == DATA
