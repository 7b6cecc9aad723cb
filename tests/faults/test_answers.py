"""What the client gets for each of S3's answers: the table of the README, row by row."""

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
#: What a cache would replay, what would split its entries, what only S3's own pages need, and S3's own names.
NEVER = (
    ("Set-Cookie", "a=b"),
    ("Vary", "Origin"),
    ("Content-Security-Policy", "default-src 'none'"),
    ("Strict-Transport-Security", "max-age=1"),
    ("Server", "AmazonS3"),
    ("x-amz-request-id", "4442587FB7D0A2F9"),
    ("x-amz-meta-owner", "me"),
    ("Access-Control-Allow-Origin", "*"),
)


def ask(*script: Step, method: str = "GET", settings: dict[str, str] | None = None, **headers: str) -> Reply:
    """Ask once and check what holds for every answer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with ScriptedS3(*script) as s3:
        wanted = s3_settings(s3.url, **(settings or {}))
        reply = call(environ("/media/film.mp4", wanted, method=method, headers=names))
    assert S3_WORDS.encode() not in reply.body
    assert not {name.lower() for name, _ in NEVER} & {name.lower() for name in reply.headers}
    if reply.status >= 400:
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert int(reply.headers["Content-Length"]) > 0
        assert bool(reply.body) == (method == "GET")
        assert method == "HEAD" or int(reply.headers["Content-Length"]) == len(reply.body)
    return reply


# --- passed on


def test_200_with_its_headers_and_no_others() -> None:
    reply = ask(answer(200, b"hello", *CONTENT, *VALIDATORS, *NEVER))
    assert (reply.status, reply.body, reply.log) == (200, b"hello", "")
    assert reply.headers == {**dict(CONTENT), **dict(VALIDATORS), "Content-Length": "5"}


def test_200_without_body() -> None:
    reply = ask(answer(200, b""))
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")


def test_200_without_content_type_gets_s3s_default() -> None:
    assert ask(answer(200, b"x")).headers["Content-Type"] == "binary/octet-stream"


def test_a_stored_gzip_body_is_not_decoded() -> None:
    assert ask(answer(200, b"\x1f\x8b not gzip", ("Content-Encoding", "gzip"))).body == b"\x1f\x8b not gzip"


def test_head_has_the_length_and_no_body() -> None:
    reply = ask(answer(200, b"", *CONTENT, *VALIDATORS, length=6_000_000), method="HEAD")
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "6000000")
    assert reply.headers["ETag"] == ETAG


def test_206_with_its_range() -> None:
    part = answer(206, b"ell", ("Content-Range", "bytes 1-3/5"), *VALIDATORS)
    reply = ask(part, Range="bytes=1-3")
    assert (reply.status, reply.body) == (206, b"ell")
    assert reply.headers["Content-Range"] == "bytes 1-3/5"
    assert reply.headers["Content-Length"] == "3"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_304_has_validators_and_no_content_length(method: str) -> None:
    # Swift sends Content-Length: 0, and a Content-Type.
    reply = ask(answer(304, b"", ("Content-Type", "text/html"), *VALIDATORS), method=method, If_None_Match=ETAG)
    assert (reply.status, reply.body, reply.headers) == (304, b"", dict(VALIDATORS))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_412(method: str) -> None:
    whole = error(412, "PreconditionFailed", *VALIDATORS)
    reply = ask(whole if method == "GET" else head_of(whole), method=method, If_Match='"other"')
    assert (reply.status, reply.headers["ETag"]) == (412, ETAG)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_416_keeps_its_content_range(method: str) -> None:
    whole = error(416, "InvalidRange", ("Content-Range", "bytes */5"), ("Accept-Ranges", "bytes"))
    reply = ask(whole if method == "GET" else head_of(whole), method=method, Range="bytes=9-")
    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */5")


def test_x_amz_headers_that_the_operator_lets_through() -> None:
    passed = (("x-amz-meta-owner", "me"), ("x-amz-version-id", "3"), ("x-amz-id-2", "secret place"))
    with ScriptedS3(answer(200, b"x", *passed)) as s3:
        reply = call(environ("/media/a", s3_settings(s3.url, S3PassHeaders="x-amz-meta- x-amz-version-id")))
    assert {name for name in reply.headers if name.startswith("x-amz")} == {"x-amz-meta-owner", "x-amz-version-id"}


def test_a_header_with_control_characters_is_refused() -> None:
    reply = ask(answer(200, b"x", ("ETag", '"a\x01b"')))
    assert reply.status == 502
    assert "control characters: ETag" in reply.log


# --- the object


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchVersion"])
def test_404(code: str) -> None:
    reply = ask(error(404, code))
    assert (reply.status, reply.log) == (404, "")


def test_404_of_head() -> None:
    reply = ask(head_of(error(404, "NoSuchKey")), method="HEAD")
    assert (reply.status, reply.log) == (404, "")


@pytest.mark.parametrize("status", [403, 404])
def test_access_denied_is_what_the_operator_chose(status: int) -> None:
    assert ask(error(403, "AccessDenied"), settings={"S3DeniedStatus": str(status)}).status == status


def test_access_denied_of_head_asks_for_the_reason() -> None:
    whole = error(403, "AccessDenied")
    with ScriptedS3(head_of(whole), whole) as s3:
        settings = s3_settings(s3.url, S3DeniedStatus="404")
        reply = call(environ("/media/a", settings, method="HEAD", headers={"Range": "bytes=5-"}))
    assert reply.status == 404
    assert [(request.method, request.headers.get("range")) for request in s3.requests] == [
        ("HEAD", None),  # ranges are defined for GET alone
        ("GET", "bytes=0-0"),
    ]


def test_a_403_without_any_reason_is_about_the_object() -> None:
    assert ask(answer(403, b"<html>")).status == 403


@pytest.mark.parametrize("code", ["KeyTooLongError", "InvalidURI", "XMinioInvalidObjectName"])
def test_a_key_that_s3_does_not_take_is_the_clients_mistake(code: str) -> None:
    assert ask(error(400, code)).status == 400


# --- the gateway's own fault

OWN_FAULTS = [
    (403, "SignatureDoesNotMatch"),
    (403, "InvalidAccessKeyId"),
    (403, "ExpiredToken"),
    (403, "RequestTimeTooSkewed"),
    (400, "AuthorizationHeaderMalformed"),
    (301, "PermanentRedirect"),
    (307, "TemporaryRedirect"),
    (404, "NoSuchBucket"),
]


@pytest.mark.parametrize(("status", "code"), OWN_FAULTS)
def test_502_with_code_and_request_id_in_the_error_log(status: int, code: str) -> None:
    reply = ask(error(status, code, ("Location", "https://elsewhere.example/")))
    assert reply.status == 502
    assert reply.log.count("\n") == 1
    assert f"S3 answered {status} {code}, request id 4442587FB7D0A2F9" in reply.log
    assert "Location" not in reply.headers


@pytest.mark.parametrize(("status", "code"), [row for row in OWN_FAULTS if row[0] != 404])
def test_502_of_head_names_the_code_as_well(status: int, code: str) -> None:
    whole = error(status, code)
    reply = ask(head_of(whole), whole, method="HEAD")
    assert reply.status == 502
    assert f"S3 answered {status} {code}, request id 4442587FB7D0A2F9" in reply.log


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "AuthorizationHeaderMalformed", region="eu-west-3"),
        error(301, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3")),
        error(307, "TemporaryRedirect", ("x-amz-bucket-region", "eu-west-3")),
    ],
)
def test_the_error_log_names_the_buckets_region(refusal: bytes) -> None:
    assert "the bucket is in region eu-west-3: set S3Region" in ask(refusal, HELLO).log


def test_what_s3_says_cannot_forge_a_line_of_the_error_log() -> None:
    reply = ask(error(403, "Forged\ncode", ("x-amz-request-id", "id with blanks")))
    assert reply.log.count("\n") <= 1
    assert "Forged" not in reply.log and "blanks" not in reply.log


@pytest.mark.parametrize("status", [201, 204, 300, 303, 401, 405, 409, 418])
def test_any_other_status_is_a_502(status: int) -> None:
    assert ask(answer(status, b"", ("Location", "/"))).status == 502


# --- S3 is busy or away


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (502, "BadGateway"), (504, "GatewayTimeout")]
)
def test_503_with_retry_after_when_s3_stays_busy(status: int, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usp_s3_wsgi.gateway.fetcher.backoff_delay", lambda retry: 0.0)
    reply = ask(error(status, code), error(status, code), settings={"S3Retries": "1"})
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert f"S3 answered {status} {code}" in reply.log


def test_s3s_own_retry_after_goes_on() -> None:
    assert ask(error(503, "SlowDown", ("Retry-After", "7"))).headers["Retry-After"] == "7"


def test_a_retry_after_that_is_no_number_does_not_go_on() -> None:
    assert ask(error(503, "SlowDown", ("Retry-After", "soon"))).headers["Retry-After"] == "1"


def test_502_without_connection() -> None:
    with ScriptedS3() as s3:
        pass  # the port is free again
    reply = call(environ("/media/film.mp4", s3_settings(s3.url)))
    assert reply.status == 502
    assert "Connection refused" in reply.log and f"GET {s3.url}/bucket/film.mp4" in reply.log


@pytest.mark.parametrize("step", [close, reset])
def test_502_when_the_connection_ends_before_the_answer(step: Step) -> None:
    assert ask(step).status == 502


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 100 + b"\r\n"])
def test_502_for_what_is_not_http(garbage: bytes) -> None:
    assert ask(first(garbage, close)).status == 502


def test_504_without_an_answer_in_time() -> None:
    reply = ask(stall, settings={"S3ProxySet": "timeout=60ms"})
    assert reply.status == 504
    assert "no response within 0.06 s" in reply.log
