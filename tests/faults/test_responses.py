"""What the client gets for each response of S3: the tables of docs/responses.md, row by row."""

from __future__ import annotations

import pytest

from tests.faults.server import S3_WORDS, ScriptedS3, Step, answer, close, error, first, head_of, reset, stall
from tests.wsgi import Reply, call, environ, s3_settings

ETAG = '"9b2cf535f27731c974343645a3985328"'
HELLO = answer(200, b"hello")
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
VALIDATORS = (("ETag", ETAG), ("Last-Modified", DATE), ("Cache-Control", "max-age=60"), ("Expires", DATE))
CONTENT = (
    ("Content-Type", "video/mp4"),
    ("Content-Encoding", "gzip"),
    ("Content-Language", "en"),
    ("Content-Disposition", 'attachment; filename="f"'),
    ("Accept-Ranges", "bytes"),
)
#: Never forwarded: a cache would replay Set-Cookie and split its entries at Vary; the others concern only S3.
NOT_FORWARDED = (
    ("Set-Cookie", "a=b"),
    ("Vary", "Origin"),
    ("Content-Security-Policy", "default-src 'none'"),
    ("Strict-Transport-Security", "max-age=1"),
    ("Server", "AmazonS3"),
    ("x-amz-request-id", "4442587FB7D0A2F9"),
    ("x-amz-meta-owner", "me"),
    ("Access-Control-Allow-Origin", "*"),
)


def fetch(*script: Step, method: str = "GET", settings: dict[str, str] | None = None, **headers: str) -> Reply:
    """Send one request and check what holds for every reply."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with ScriptedS3(*script) as s3:
        bucket = s3_settings(s3.url, **(settings or {}))
        reply = call(environ("/media/film.mp4", bucket, method=method, headers=names))
    assert S3_WORDS.encode() not in reply.body
    assert not {name.lower() for name, _ in NOT_FORWARDED} & {name.lower() for name in reply.headers}
    if reply.status >= 400:
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert int(reply.headers["Content-Length"]) > 0
        assert bool(reply.body) == (method == "GET")
        assert method == "HEAD" or int(reply.headers["Content-Length"]) == len(reply.body)
    return reply


# --- forwarded responses


def test_200_forwards_only_the_listed_headers() -> None:
    reply = fetch(answer(200, b"hello", *CONTENT, *VALIDATORS, *NOT_FORWARDED))
    assert (reply.status, reply.body, reply.log) == (200, b"hello", "")
    assert reply.headers == {**dict(CONTENT), **dict(VALIDATORS), "Content-Length": "5"}


def test_200_without_body() -> None:
    reply = fetch(answer(200, b""))
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")


def test_200_without_content_type_gets_s3s_default() -> None:
    assert fetch(answer(200, b"x")).headers["Content-Type"] == "binary/octet-stream"


def test_a_stored_gzip_body_is_not_decoded() -> None:
    assert fetch(answer(200, b"\x1f\x8b not gzip", ("Content-Encoding", "gzip"))).body == b"\x1f\x8b not gzip"


def test_head_has_the_length_and_no_body() -> None:
    reply = fetch(answer(200, b"", *CONTENT, *VALIDATORS, length=6_000_000), method="HEAD")
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "6000000")
    assert reply.headers["ETag"] == ETAG


def test_206_with_its_range() -> None:
    part = answer(206, b"ell", ("Content-Range", "bytes 1-3/5"), *VALIDATORS)
    reply = fetch(part, Range="bytes=1-3")
    assert (reply.status, reply.body) == (206, b"ell")
    assert reply.headers["Content-Range"] == "bytes 1-3/5"
    assert reply.headers["Content-Length"] == "3"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_304_has_validators_and_no_content_length(method: str) -> None:
    # Swift sends Content-Length: 0, and a Content-Type.
    reply = fetch(answer(304, b"", ("Content-Type", "text/html"), *VALIDATORS), method=method, If_None_Match=ETAG)
    assert (reply.status, reply.body, reply.headers) == (304, b"", dict(VALIDATORS))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_412(method: str) -> None:
    whole = error(412, "PreconditionFailed", *VALIDATORS)
    reply = fetch(whole if method == "GET" else head_of(whole), method=method, If_Match='"other"')
    assert (reply.status, reply.headers["ETag"]) == (412, ETAG)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_416_keeps_its_content_range(method: str) -> None:
    whole = error(416, "InvalidRange", ("Content-Range", "bytes */5"), ("Accept-Ranges", "bytes"))
    reply = fetch(whole if method == "GET" else head_of(whole), method=method, Range="bytes=9-")
    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */5")


def test_x_amz_headers_of_s3passheaders_are_forwarded() -> None:
    stored = (("x-amz-meta-owner", "me"), ("x-amz-version-id", "3"), ("x-amz-id-2", "secret place"))
    with ScriptedS3(answer(200, b"x", *stored)) as s3:
        reply = call(environ("/media/a", s3_settings(s3.url, S3PassHeaders="x-amz-meta- x-amz-version-id")))
    assert {name for name in reply.headers if name.startswith("x-amz")} == {"x-amz-meta-owner", "x-amz-version-id"}


def test_control_characters_in_a_header_are_rejected() -> None:
    reply = fetch(answer(200, b"x", ("ETag", '"a\x01b"')))
    assert reply.status == 502
    assert "response header is not valid HTTP: Invalid header value char" in reply.log


# --- errors that concern the object


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchVersion"])
def test_404(code: str) -> None:
    reply = fetch(error(404, code))
    assert (reply.status, reply.log) == (404, "")


def test_404_for_head() -> None:
    reply = fetch(head_of(error(404, "NoSuchKey")), method="HEAD")
    assert (reply.status, reply.log) == (404, "")


@pytest.mark.parametrize("status", [403, 404])
def test_access_denied_gets_s3deniedstatus(status: int) -> None:
    assert fetch(error(403, "AccessDenied"), settings={"S3DeniedStatus": str(status)}).status == status


def test_access_denied_for_head_sends_a_get_for_the_error_code() -> None:
    whole = error(403, "AccessDenied")
    with ScriptedS3(head_of(whole), whole) as s3:
        settings = s3_settings(s3.url, S3DeniedStatus="404")
        reply = call(environ("/media/a", settings, method="HEAD", headers={"Range": "bytes=5-"}))
    assert reply.status == 404
    assert [(request.method, request.headers.get("range")) for request in s3.requests] == [
        ("HEAD", None),  # Range is defined for GET only
        ("GET", "bytes=0-0"),
    ]


def test_a_403_without_an_error_code_is_forwarded() -> None:
    assert fetch(answer(403, b"<html>")).status == 403


@pytest.mark.parametrize("code", ["KeyTooLongError", "InvalidURI", "XMinioInvalidObjectName"])
def test_a_key_that_s3_rejects_is_a_400(code: str) -> None:
    assert fetch(error(400, code)).status == 400


# --- errors that the operator must correct

OPERATOR_ERRORS = [
    (403, "SignatureDoesNotMatch"),
    (403, "InvalidAccessKeyId"),
    (403, "ExpiredToken"),
    (403, "RequestTimeTooSkewed"),
    (400, "AuthorizationHeaderMalformed"),
    (301, "PermanentRedirect"),
    (307, "TemporaryRedirect"),
    (404, "NoSuchBucket"),
]


@pytest.mark.parametrize(("status", "code"), OPERATOR_ERRORS)
def test_502_with_code_and_request_id_in_the_error_log(status: int, code: str) -> None:
    reply = fetch(error(status, code, ("Location", "https://elsewhere.example/")))
    assert reply.status == 502
    assert reply.log.count("\n") == 1
    assert f"S3 answered {status} {code}, request id 4442587FB7D0A2F9" in reply.log
    assert "Location" not in reply.headers


@pytest.mark.parametrize(("status", "code"), [row for row in OPERATOR_ERRORS if row[0] != 404])
def test_502_for_head_logs_the_error_code(status: int, code: str) -> None:
    whole = error(status, code)
    reply = fetch(head_of(whole), whole, method="HEAD")
    assert reply.status == 502
    assert f"S3 answered {status} {code}, request id 4442587FB7D0A2F9" in reply.log


@pytest.mark.parametrize(
    "response",
    [
        error(400, "AuthorizationHeaderMalformed", region="eu-west-3"),
        error(301, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3")),
        error(307, "TemporaryRedirect", ("x-amz-bucket-region", "eu-west-3")),
    ],
)
def test_the_buckets_region_is_logged(response: bytes) -> None:
    assert "the bucket is in region eu-west-3: set S3Region" in fetch(response, HELLO).log


def test_s3_cannot_forge_a_line_of_the_error_log() -> None:
    reply = fetch(error(403, "Forged\ncode", ("x-amz-request-id", "id with blanks")))
    assert reply.log.count("\n") <= 1
    assert "Forged" not in reply.log and "blanks" not in reply.log


@pytest.mark.parametrize("status", [201, 204, 300, 303, 401, 405, 409, 418])
def test_any_other_status_is_a_502(status: int) -> None:
    assert fetch(answer(status, b"", ("Location", "/"))).status == 502


# --- S3 is unavailable


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (502, "BadGateway"), (504, "GatewayTimeout")]
)
def test_503_with_retry_after_when_s3_stays_unavailable(
    status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usp_s3_wsgi.gateway.fetcher.backoff_delay", lambda retry: 0.0)
    reply = fetch(error(status, code), error(status, code), settings={"S3Retries": "1"})
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert f"S3 answered {status} {code}" in reply.log


def test_retry_after_of_s3_is_forwarded() -> None:
    assert fetch(error(503, "SlowDown", ("Retry-After", "7"))).headers["Retry-After"] == "7"


def test_an_invalid_retry_after_is_not_forwarded() -> None:
    assert fetch(error(503, "SlowDown", ("Retry-After", "soon"))).headers["Retry-After"] == "1"


def test_502_without_connection() -> None:
    with ScriptedS3() as s3:
        pass  # the port is free again
    reply = call(environ("/media/film.mp4", s3_settings(s3.url)))
    assert reply.status == 502
    assert "Connection refused" in reply.log and f"GET {s3.url}/bucket/film.mp4" in reply.log


@pytest.mark.parametrize("step", [close, reset])
def test_502_when_the_connection_ends_before_the_response(step: Step) -> None:
    assert fetch(step).status == 502


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 100 + b"\r\n"])
def test_502_for_an_invalid_response(garbage: bytes) -> None:
    assert fetch(first(garbage, close)).status == 502


def test_504_without_a_response_in_time() -> None:
    reply = fetch(stall, settings={"S3ProxySet": "timeout=60ms"})
    assert reply.status == 504
    assert "no response within 0.06 s" in reply.log
