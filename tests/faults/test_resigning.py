"""Rejected requests that are signed again: with S3's clock, with the bucket's region, with replaced keys."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, error, head_of, reset
from tests.wsgi import MODES, SECRET_KEY, Reply, call, environ, s3_settings
from usp_s3_wsgi.s3 import endpoint_state

HELLO = answer(200, b"hello")


def fetch(s3: ScriptedS3, method: str = "GET", mode: str = "v4-header", **changes: str) -> Reply:
    return call(environ("/media/film.mp4", s3_settings(s3.url, mode, **changes), method=method))


# --- the clock


class Clocked:
    """An S3 whose clock is ``ahead`` of this server's; it rejects signatures that are invalid by its clock."""

    def __init__(self, ahead: timedelta, code: str = "RequestTimeTooSkewed", status: int = 403) -> None:
        self.ahead, self._code, self._status = ahead, code, status
        self.granted = HELLO

    def __call__(self, connection: Connection, request: Request) -> None:
        now = datetime.now(UTC) + self.ahead
        far = abs((signed_at(request) - now).total_seconds()) > 60
        date = ("Date", format_datetime(now, usegmt=True))
        extra = "<ServerTime>x</ServerTime>" if self._code == "RequestExpired" else ""
        code = "AccessDenied" + "</Code>" + extra + "<Code>" if extra else self._code
        whole = error(self._status, code, date) if far else self.granted
        connection.send(head_of(whole) if request.method == "HEAD" else whole)


def signed_at(request: Request) -> datetime:
    """When a request was signed, in any signing mode."""
    _, _, query = request.target.partition("?")
    parameters = dict(pair.split("=") for pair in query.split("&")) if query else {}
    if "Expires" in parameters:
        return datetime.fromtimestamp(int(parameters["Expires"]) - 300, UTC)
    if date := request.headers.get("date"):
        return datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    text = request.headers.get("x-amz-date") or parameters["X-Amz-Date"]
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=400)])
@pytest.mark.parametrize("mode", MODES)
def test_requests_are_signed_with_s3s_clock_after_one_rejection(mode: str, ahead: timedelta) -> None:
    with ScriptedS3(then=Clocked(ahead)) as s3:
        replies = [fetch(s3, mode=mode) for _ in range(3)]
        assert len(s3.requests) == 4
    assert [reply.body for reply in replies] == [b"hello"] * 3
    # Logged once, with what to do.
    assert "correct it" in replies[0].log and replies[0].log.count("\n") == 1
    assert not replies[1].log and not replies[2].log


def test_the_clock_is_corrected_without_s3retries() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1))) as s3:
        assert fetch(s3, S3Retries="0").status == 200


def test_a_head_gets_the_error_code_by_a_get() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1))) as s3:
        assert fetch(s3, "HEAD").status == 200
        assert [request.method for request in s3.requests] == ["HEAD", "GET", "HEAD"]


def test_amazons_error_for_an_expired_query_signature() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1), "RequestExpired")) as s3:
        assert fetch(s3, mode="v4-query").status == 200


#: Errors for a signature that is invalid by the server's clock, which do not name the clock: Swift, Ceph, MinIO,
#: SeaweedFS, Google, Garage and Ozone send them for query signatures, rclone also for header signatures.
WITHOUT_A_REASON = [
    (403, "AccessDenied"),
    (400, "AccessDenied"),
    (400, "ExpiredToken"),
    (400, "InvalidRequest"),
    (400, "MalformedHeader"),
]
#: How far S3's clock is ahead. A v2 query signed by a clock that is ahead of S3's is valid: it only expires later.
OUT_OF_TIME = [
    (mode, timedelta(hours=hours)) for mode in MODES for hours in (1, 10_000, -1) if hours > 0 or mode != "v2-query"
]
FAR_FUTURE = "Thu, 01 Jan 2099 00:00:00 GMT"


def dated(date: timedelta | str) -> tuple[str, str]:
    text = date if isinstance(date, str) else format_datetime(datetime.now(UTC) + date, usegmt=True)
    return ("Date", text)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("mode", "ahead"), OUT_OF_TIME)
@pytest.mark.parametrize(("status", "code"), WITHOUT_A_REASON)
def test_an_error_that_does_not_name_the_clock(
    status: int, code: str, mode: str, ahead: timedelta, method: str
) -> None:
    with ScriptedS3(then=Clocked(ahead, code, status)) as s3:
        replies = [fetch(s3, method, mode, S3DeniedStatus="404") for _ in range(3)]
        assert len(s3.requests) == (4 if method == "GET" else 5)
    assert [reply.status for reply in replies] == [200] * 3
    # Logged once, with what to do.
    assert f"S3 answered {status} {code}, " in replies[0].log and "correct it" in replies[0].log
    assert re.search(r" clock is \d+ s (behind|ahead of) S3's.* attempt 1, .*; retrying\n$", replies[0].log)
    assert replies[0].log.count("\n") == 1
    assert not replies[1].log and not replies[2].log


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "date",
    [timedelta(0), timedelta(hours=1), timedelta(hours=-1), "", "never", FAR_FUTURE, "Fri, 31 Dec 9999 23:59:59 GMT"],
    ids=str,
)
@pytest.mark.parametrize("mode", MODES)
def test_a_denied_object_is_a_403_for_any_date(mode: str, date: timedelta | str, method: str) -> None:
    """The Date may be that of a cache or device: it is not recorded, nothing is logged, other objects are served."""

    def respond(connection: Connection, request: Request) -> None:
        whole = HELLO
        if abs((signed_at(request) - datetime.now(UTC)).total_seconds()) > 60:
            whole = error(403, "RequestTimeTooSkewed", dated(timedelta(0)))
        elif "denied" in request.target:
            whole = error(403, "AccessDenied", dated(date))
        connection.send(head_of(whole) if request.method == "HEAD" else whole)

    with ScriptedS3(then=respond) as s3:
        settings = s3_settings(s3.url, mode)
        for _ in range(3):
            denied = call(environ("/media/denied.mp4", settings, method=method))
            assert (denied.status, denied.log) == (403, "")
            before = len(s3.requests)
            assert (fetch(s3, method, mode).status, len(s3.requests)) == (200, before + 1)


@pytest.mark.parametrize("date", [timedelta(hours=1), FAR_FUTURE, "", timedelta(0)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_an_object_that_is_denied_with_any_clock(mode: str, date: timedelta | str) -> None:
    with ScriptedS3(then=lambda connection, _: connection.send(error(403, "AccessDenied", dated(date)))) as s3:
        for status in ("403", "404"):
            reply = fetch(s3, mode=mode, S3DeniedStatus=status, S3Retries="3")
            assert (reply.status, reply.log) == (int(status), "")
        assert len(s3.requests) <= 4


@pytest.mark.parametrize(
    ("mode", "seconds", "is_clock"),
    [
        ("v4-query", 330, True), ("v4-query", 270, False), ("v4-query", -870, False), ("v4-query", -930, True),
        ("v2-query", 330, True), ("v2-query", 270, False), ("v2-query", -90_000, False),
        ("v4-header", 870, False), ("v4-header", 930, True), ("v4-header", -870, False), ("v4-header", -930, True),
        ("v2-header", 870, False), ("v2-header", 930, True), ("v2-header", -870, False), ("v2-header", -930, True),
    ],
)  # fmt: skip
def test_s3s_clock_is_tried_only_outside_of_the_signatures_validity(mode: str, seconds: int, is_clock: bool) -> None:
    response = error(403, "AccessDenied", dated(timedelta(seconds=seconds)))
    with ScriptedS3(response, then=HELLO) as s3:
        assert fetch(s3, mode=mode).status == (200 if is_clock else 403)
        assert len(s3.requests) == 1 + is_clock


@pytest.mark.parametrize("mode", MODES)
def test_the_age_of_a_cached_denial_is_added_to_its_date(mode: str) -> None:
    """Its Date is as old as its Age: https://www.rfc-editor.org/rfc/rfc9111#section-5.1."""
    cached = error(403, "AccessDenied", dated(timedelta(hours=-1)), ("Age", "3600"))
    with ScriptedS3(cached) as s3:
        assert fetch(s3, mode=mode).status == 403
    late = error(403, "AccessDenied", dated(timedelta(minutes=50)), ("Age", "600"))
    with ScriptedS3(late, HELLO) as s3:
        reply = fetch(s3, mode=mode)
    assert reply.status == 200 and re.search(r"clock is (359\d|360\d) s behind", reply.log)


@pytest.mark.parametrize("age", ["0", "", "x", "-1", "9" * 30, "1, 2"])
def test_an_invalid_age_is_ignored(age: str) -> None:
    with ScriptedS3(error(403, "AccessDenied", dated(timedelta(hours=1)), ("Age", age)), HELLO) as s3:
        assert fetch(s3, mode="v4-query").status == 200


def test_the_validity_of_a_query_is_s3expires() -> None:
    response = error(403, "AccessDenied", dated(timedelta(seconds=30)))
    with ScriptedS3(response, HELLO, response) as s3:
        assert fetch(s3, mode="v4-query", S3Expires="10").status == 200
        assert fetch(s3, mode="v4-query", S3Expires="604800").status == 403


@pytest.mark.parametrize("last", [error(404, "NoSuchKey"), answer(304), answer(416), answer(412)])
def test_any_other_response_confirms_the_clock(last: bytes) -> None:
    clock = Clocked(timedelta(hours=1), "AccessDenied")
    clock.granted = last
    with ScriptedS3(then=clock) as s3:
        replies = [fetch(s3, mode="v4-query") for _ in range(2)]
        assert len(s3.requests) == 3
    assert "correct it" in replies[0].log and not replies[1].log


def test_failures_while_a_clock_is_tried() -> None:
    clock = Clocked(timedelta(hours=1), "AccessDenied")
    with ScriptedS3(clock, error(503, "SlowDown"), reset, then=clock) as s3:
        reply = fetch(s3, mode="v4-query", S3Retries="2")
        assert (reply.status, fetch(s3, mode="v4-query").status, len(s3.requests)) == (200, 200, 5)
    assert reply.log.count("\n") == 3 and reply.log.count("correct it") == 1


def test_an_expired_signature_with_a_wrong_key() -> None:
    """MinIO checks the expiry before the key."""
    with ScriptedS3(error(403, "AccessDenied", dated(timedelta(hours=1))), error(403, "SignatureDoesNotMatch")) as s3:
        reply = fetch(s3, mode="v4-query")
    assert reply.status == 502 and "403 SignatureDoesNotMatch" in reply.log


def test_the_fallback_is_not_used_for_a_clock_error() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1), "AccessDenied")) as s3, ScriptedS3() as second:
        more = {"S3FallbackURL": f"{second.url}/bucket/", "S3FallbackOn404": "on", "S3DeniedStatus": "404"}
        assert fetch(s3, mode="v4-query", **more).body == b"hello"
    with ScriptedS3(then=error(403, "AccessDenied", dated(timedelta(hours=1)))) as s3, ScriptedS3(HELLO) as second:
        more |= {"S3FallbackURL": f"{second.url}/bucket/"}
        assert fetch(s3, mode="v4-query", **more).body == b"hello"
        assert len(s3.requests) == 2


def test_an_expired_token_is_replaced_if_the_clock_is_right(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    def replace_token(connection: Connection, request: Request) -> None:
        token.write_text("new")
        connection.send(error(400, "ExpiredToken", dated(timedelta(0))))

    with ScriptedS3(replace_token, HELLO) as s3:
        assert fetch(s3, mode="v4-query", S3SecurityTokenFile=str(token)).status == 200


def test_a_clock_that_does_not_help_is_not_kept() -> None:
    """The Date is not from the server that checks signatures: a corrected clock of this server is used at once."""
    skewed = error(403, "RequestTimeTooSkewed", dated(timedelta(hours=5)))
    with ScriptedS3(skewed, skewed, then=Clocked(timedelta(0))) as s3:
        assert fetch(s3).status == 502
        assert (fetch(s3).status, len(s3.requests)) == (200, 3)


def test_a_denial_that_another_clock_confirms_is_logged_with_its_own_attempt() -> None:
    denied = error(400, "InvalidRequest", dated(timedelta(hours=1)))
    skewed = error(403, "RequestTimeTooSkewed", dated(timedelta(hours=1)))
    with ScriptedS3(denied, skewed) as s3:
        reply = fetch(s3)
        assert len(s3.requests) == 2
    assert reply.status == 502
    assert re.search(r"S3 answered 400 InvalidRequest, .*, attempt 1, [0-9.]+ s\)\n\Z", reply.log)
    assert reply.log.count("\n") == 1


def test_concurrent_requests_correct_the_clock() -> None:
    replies: list[Reply] = []
    with ScriptedS3(then=Clocked(timedelta(hours=-1), "AccessDenied")) as s3:
        threads = [threading.Thread(target=lambda: replies.append(fetch(s3, mode="v4-query"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [reply.status for reply in replies] == [200] * 8
        before = len(s3.requests)
        assert fetch(s3, mode="v4-query").status == 200 and len(s3.requests) == before + 1


def test_the_clock_is_recorded_per_host() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1))) as late, ScriptedS3(then=Clocked(timedelta(0))) as right:
        assert [fetch(s3).status for s3 in (late, right, late, right)] == [200] * 4
        assert (len(late.requests), len(right.requests)) == (3, 2)


def test_a_corrected_clock_of_s3_is_followed() -> None:
    clock = Clocked(timedelta(hours=1))
    with ScriptedS3(then=clock) as s3:
        assert fetch(s3).status == 200
        clock.ahead = timedelta(0)
        assert [fetch(s3).status for _ in range(2)] == [200, 200]
        assert len(s3.requests) == 5


def test_a_corrected_clock_of_this_server_needs_no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator corrects it, as the log says: the recorded time of S3 stays valid."""
    jump = timedelta(0)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + jump

    monkeypatch.setattr(endpoint_state, "datetime", Jumping)
    with ScriptedS3(then=Clocked(timedelta(hours=1))) as s3:
        assert fetch(s3).status == 200
        jump = timedelta(hours=1)
        assert fetch(s3).status == 200
        assert len(s3.requests) == 3


@pytest.mark.parametrize("date", ["", "never", "now"])
def test_a_clock_error_without_another_time_is_not_retried(date: str) -> None:
    if date == "now":
        date = format_datetime(datetime.now(UTC), usegmt=True)
    with ScriptedS3(error(403, "RequestTimeTooSkewed", ("Date", date))) as s3:
        assert fetch(s3, S3Retries="3").status == 502


def test_a_clock_that_does_not_help_is_tried_once() -> None:
    never = error(403, "RequestTimeTooSkewed", ("Date", "Thu, 01 Jan 2015 00:00:00 GMT"))
    with ScriptedS3(never, never) as s3:
        assert fetch(s3, S3Retries="3").status == 502


# --- the region


def in_region(region: str, response: Callable[[], bytes]) -> Step:
    def check_region(connection: Connection, request: Request) -> None:
        valid = f"/{region}/s3/" in request.headers.get("authorization", "") + request.target.replace("%2F", "/")
        whole = HELLO if valid else response()
        connection.send(head_of(whole) if request.method == "HEAD" else whole)

    return check_region


REFUSALS = [
    error(400, "AuthorizationHeaderMalformed", region="eu-west-3"),
    error(400, "AuthorizationQueryParametersError", region="eu-west-3"),
    error(301, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3")),
    error(308, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3")),
    error(307, "TemporaryRedirect", ("x-amz-bucket-region", "eu-west-3"), ("Location", "https://evil.example/")),
]


@pytest.mark.parametrize("response", REFUSALS)
@pytest.mark.parametrize("mode", ["v4-header", "v4-query"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_requests_are_signed_for_the_region_that_s3_names(method: str, mode: str, response: bytes) -> None:
    with ScriptedS3(then=in_region("eu-west-3", lambda: response)) as s3:
        replies = [fetch(s3, method, mode) for _ in range(3)]
        assert len(s3.requests) == (4 if method == "GET" else 5)  # a HEAD is followed by a GET for the error code
    assert [reply.status for reply in replies] == [200] * 3
    assert "the bucket is in region eu-west-3: set S3Region to it" in replies[0].log
    assert replies[0].log.count("\n") == 1 and not replies[1].log + replies[2].log


def test_a_region_that_s3_names_twice_is_tried_once() -> None:
    with ScriptedS3(*[REFUSALS[0]] * 2) as s3:
        assert fetch(s3, S3Retries="3").status == 502


def test_the_configured_region_is_not_retried() -> None:
    with ScriptedS3(REFUSALS[0]) as s3:
        assert fetch(s3, S3Region="eu-west-3").status == 502


@pytest.mark.parametrize("mode", ["v2-header", "v2-query"])
def test_signature_v2_has_no_region(mode: str) -> None:
    with ScriptedS3(REFUSALS[2]) as s3:
        assert fetch(s3, mode=mode).status == 502


def test_the_region_is_recorded_per_bucket() -> None:
    with ScriptedS3(then=in_region("eu-west-3", lambda: REFUSALS[0])) as s3:
        assert [fetch(s3, S3BucketURL=f"{s3.url}/{name}/").status for name in ("one", "two", "one")] == [200] * 3
        assert len(s3.requests) == 5


# --- keys


def test_replaced_keys_are_read_again(tmp_path: Path) -> None:
    """The pair was read while it was written: the access key is new, the secret key still old."""
    secret = tmp_path / "secret"
    secret.write_text("old")
    settings = {"S3SecretKey": "", "S3SecretKeyFile": str(secret)}

    def replace_secret(connection: Connection, request: Request) -> None:
        secret.write_text(SECRET_KEY)
        connection.send(error(403, "SignatureDoesNotMatch"))

    with ScriptedS3(replace_secret, HELLO) as s3:
        assert fetch(s3, **settings).status == 200
        first, second = (request.headers["authorization"][-64:] for request in s3.requests)
    assert first != second


KEY_ERRORS = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"]


@pytest.mark.parametrize("code", KEY_ERRORS)
def test_a_replaced_token_is_read_again(tmp_path: Path, code: str) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    def replace_token(connection: Connection, request: Request) -> None:
        token.write_text("new")
        connection.send(error(400, code))

    with ScriptedS3(replace_token, HELLO) as s3:
        reply = fetch(s3, S3SecurityTokenFile=str(token))
    assert (reply.status, reply.body) == (200, b"hello")
    assert [request.headers["x-amz-security-token"] for request in s3.requests] == ["old", "new"]
    assert f"400 {code}" in reply.log and reply.log.endswith("; retrying\n")


@pytest.mark.parametrize("code", KEY_ERRORS)
def test_unchanged_keys_are_not_retried(code: str) -> None:
    with ScriptedS3(error(403, code)) as s3:
        reply = fetch(s3, S3Retries="3")
    assert reply.status == 502
    assert code in reply.log and SECRET_KEY not in reply.log


# --- at most one retry each for clock, region and keys per client request


def skewed(ahead: timedelta) -> bytes:
    """The error response of an S3 with that clock."""
    now = datetime.now(UTC) + ahead
    return error(403, "RequestTimeTooSkewed", ("Date", format_datetime(now, usegmt=True)))


def redirect_to(region: str) -> bytes:
    return error(301, "PermanentRedirect", region=region)


class Rotated:
    """An S3 that rejects every key, and a key file that changes with each request."""

    def __init__(self, secret: Path) -> None:
        self._secret = secret
        secret.write_text("0")

    def __call__(self, connection: Connection, request: Request) -> None:
        self._secret.write_text(self._secret.read_text() + "0")
        connection.send(error(403, "SignatureDoesNotMatch"))


@pytest.mark.parametrize(
    "responses",
    [
        [redirect_to("eu-west-3"), redirect_to("eu-west-1")],
        [skewed(timedelta(hours=1)), skewed(timedelta(hours=-1))],
        [redirect_to("eu-west-3"), skewed(timedelta(hours=1)), redirect_to("eu-west-1")],
        [skewed(timedelta(hours=1)), redirect_to("eu-west-3"), skewed(timedelta(hours=-1))],
    ],
    ids=["regions", "clocks", "region, clock, region", "clock, region, clock"],
)
def test_regions_and_clocks_that_change_are_followed_once(responses: list[Step]) -> None:
    with ScriptedS3(*responses) as s3:
        reply = fetch(s3, S3Retries="3")
    assert (reply.status, reply.body) == (502, b"502 Bad Gateway\n")
    assert len(s3.requests) == len(responses)
    *followed, last = reply.log.splitlines()
    assert len(followed) == len(responses) - 1
    assert all(line.endswith("; retrying") for line in followed) and not last.endswith("; retrying")


@pytest.mark.parametrize(
    "before", [[], [redirect_to("eu-west-3")], [skewed(timedelta(hours=1)), redirect_to("eu-west-3")]]
)
def test_keys_that_change_each_time_are_read_again_once(tmp_path: Path, before: list[Step]) -> None:
    rotated = Rotated(tmp_path / "secret")
    with ScriptedS3(*before, rotated, rotated) as s3:
        reply = fetch(s3, S3Retries="3", S3SecretKey="", S3SecretKeyFile=str(tmp_path / "secret"))
    assert reply.status == 502
    assert len(s3.requests) == len(before) + 2


def test_each_correction_has_its_own_retry(tmp_path: Path) -> None:
    """Region, keys and clock are wrong, and S3 also fails."""
    steps: list[Step] = [
        redirect_to("eu-west-3"),
        Rotated(tmp_path / "secret"),
        error(503, "SlowDown"),
        skewed(timedelta(hours=1)),
        HELLO,
    ]
    with ScriptedS3(*steps) as s3:
        reply = fetch(s3, S3Retries="1", S3SecretKey="", S3SecretKeyFile=str(tmp_path / "secret"))
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.log.count("; retrying\n") == 4
