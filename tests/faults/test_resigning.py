"""What S3 refuses for a reason that can be mended: its clock, its region, keys that were exchanged just now."""

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


def ask(s3: ScriptedS3, method: str = "GET", mode: str = "v4-header", **changes: str) -> Reply:
    return call(environ("/media/film.mp4", s3_settings(s3.url, mode, **changes), method=method))


# --- the clock


class Clocked:
    """An S3 whose clock is ``ahead`` of this server's; it refuses signatures that are not of its own time."""

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
    """When a request was signed, in any mode."""
    _, _, query = request.target.partition("?")
    given = dict(pair.split("=") for pair in query.split("&")) if query else {}
    if "Expires" in given:
        return datetime.fromtimestamp(int(given["Expires"]) - 300, UTC)
    if date := request.headers.get("date"):
        return datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    text = request.headers.get("x-amz-date") or given["X-Amz-Date"]
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=400)])
@pytest.mark.parametrize("mode", MODES)
def test_signed_with_s3s_clock_and_so_from_then_on(mode: str, ahead: timedelta) -> None:
    with ScriptedS3(then=Clocked(ahead)) as s3:
        replies = [ask(s3, mode=mode) for _ in range(3)]
        assert len(s3.requests) == 4
    assert [reply.body for reply in replies] == [b"hello"] * 3
    # Once for all, and what to do about it.
    assert "correct it" in replies[0].log and replies[0].log.count("\n") == 1
    assert not replies[1].log and not replies[2].log


def test_without_retries_as_well() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1))) as s3:
        assert ask(s3, S3Retries="0").status == 200


def test_a_head_learns_it_from_a_get() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1))) as s3:
        assert ask(s3, "HEAD").status == 200
        assert [request.method for request in s3.requests] == ["HEAD", "GET", "HEAD"]


def test_amazons_words_for_a_query_signature_of_the_past() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1), "RequestExpired")) as s3:
        assert ask(s3, mode="v4-query").status == 200


#: What servers say of a signature that was not valid by their clock, without a word of that: Swift, Ceph, MinIO and
#: SeaweedFS of a query; rclone of both; Google, Garage and Ozone of a query.
WITHOUT_A_REASON = [
    (403, "AccessDenied"),
    (400, "AccessDenied"),
    (400, "ExpiredToken"),
    (400, "InvalidRequest"),
    (400, "MalformedHeader"),
]
#: How far S3's clock is ahead. A query of v2 that is signed too late only ends later.
OUT_OF_TIME = [
    (mode, timedelta(hours=hours)) for mode in MODES for hours in (1, 10_000, -1) if hours > 0 or mode != "v2-query"
]
NEVER = "Thu, 01 Jan 2099 00:00:00 GMT"


def dated(date: timedelta | str) -> tuple[str, str]:
    text = date if isinstance(date, str) else format_datetime(datetime.now(UTC) + date, usegmt=True)
    return ("Date", text)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("mode", "ahead"), OUT_OF_TIME)
@pytest.mark.parametrize(("status", "code"), WITHOUT_A_REASON)
def test_a_refusal_without_a_reason_of_what_was_not_valid_by_s3s_clock(
    status: int, code: str, mode: str, ahead: timedelta, method: str
) -> None:
    with ScriptedS3(then=Clocked(ahead, code, status)) as s3:
        replies = [ask(s3, method, mode, S3DeniedStatus="404") for _ in range(3)]
        assert len(s3.requests) == (4 if method == "GET" else 5)
    assert [reply.status for reply in replies] == [200] * 3
    # Once for all, and what to do about it.
    assert f"S3 answered {status} {code}, " in replies[0].log and "correct it" in replies[0].log
    assert re.search(r" clock is \d+ s (behind|ahead of) S3's.* attempt 1, .*; retrying\n$", replies[0].log)
    assert replies[0].log.count("\n") == 1
    assert not replies[1].log and not replies[2].log


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "date",
    [timedelta(0), timedelta(hours=1), timedelta(hours=-1), "", "never", NEVER, "Fri, 31 Dec 9999 23:59:59 GMT"],
    ids=str,
)
@pytest.mark.parametrize("mode", MODES)
def test_a_denied_object_stays_one_whatever_the_date_says(mode: str, date: timedelta | str, method: str) -> None:
    """A cache's Date, or a device's: nothing is learned, nothing is logged, and the other objects go on."""

    def judge(connection: Connection, request: Request) -> None:
        whole = HELLO
        if abs((signed_at(request) - datetime.now(UTC)).total_seconds()) > 60:
            whole = error(403, "RequestTimeTooSkewed", dated(timedelta(0)))
        elif "denied" in request.target:
            whole = error(403, "AccessDenied", dated(date))
        connection.send(head_of(whole) if request.method == "HEAD" else whole)

    with ScriptedS3(then=judge) as s3:
        settings = s3_settings(s3.url, mode)
        for _ in range(3):
            denied = call(environ("/media/denied.mp4", settings, method=method))
            assert (denied.status, denied.log) == (403, "")
            before = len(s3.requests)
            assert (ask(s3, method, mode).status, len(s3.requests)) == (200, before + 1)


@pytest.mark.parametrize("date", [timedelta(hours=1), NEVER, "", timedelta(0)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_denied_by_every_clock(mode: str, date: timedelta | str) -> None:
    with ScriptedS3(then=lambda connection, _: connection.send(error(403, "AccessDenied", dated(date)))) as s3:
        for status in ("403", "404"):
            reply = ask(s3, mode=mode, S3DeniedStatus=status, S3Retries="3")
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
def test_only_outside_of_the_signatures_own_time(mode: str, seconds: int, is_clock: bool) -> None:
    refusal = error(403, "AccessDenied", dated(timedelta(seconds=seconds)))
    with ScriptedS3(refusal, then=HELLO) as s3:
        assert ask(s3, mode=mode).status == (200 if is_clock else 403)
        assert len(s3.requests) == 1 + is_clock


@pytest.mark.parametrize("mode", MODES)
def test_a_cached_denial_is_as_old_as_it_says(mode: str) -> None:
    """Its Date is not what S3's clock shows now: https://www.rfc-editor.org/rfc/rfc9111#section-5.1."""
    cached = error(403, "AccessDenied", dated(timedelta(hours=-1)), ("Age", "3600"))
    with ScriptedS3(cached) as s3:
        assert ask(s3, mode=mode).status == 403
    late = error(403, "AccessDenied", dated(timedelta(minutes=50)), ("Age", "600"))
    with ScriptedS3(late, HELLO) as s3:
        reply = ask(s3, mode=mode)
    assert reply.status == 200 and re.search(r"clock is (359\d|360\d) s behind", reply.log)


@pytest.mark.parametrize("age", ["0", "", "x", "-1", "9" * 30, "1, 2"])
def test_an_age_that_tells_nothing(age: str) -> None:
    with ScriptedS3(error(403, "AccessDenied", dated(timedelta(hours=1)), ("Age", age)), HELLO) as s3:
        assert ask(s3, mode="v4-query").status == 200


def test_the_time_of_a_query_is_that_of_the_settings() -> None:
    refusal = error(403, "AccessDenied", dated(timedelta(seconds=30)))
    with ScriptedS3(refusal, HELLO, refusal) as s3:
        assert ask(s3, mode="v4-query", S3Expires="10").status == 200
        assert ask(s3, mode="v4-query", S3Expires="604800").status == 403


@pytest.mark.parametrize("last", [error(404, "NoSuchKey"), answer(304), answer(416), answer(412)])
def test_any_answer_to_the_right_clock_proves_it(last: bytes) -> None:
    clock = Clocked(timedelta(hours=1), "AccessDenied")
    clock.granted = last
    with ScriptedS3(then=clock) as s3:
        replies = [ask(s3, mode="v4-query") for _ in range(2)]
        assert len(s3.requests) == 3
    assert "correct it" in replies[0].log and not replies[1].log


def test_a_clock_that_is_tried_meets_a_failure_on_the_way() -> None:
    clock = Clocked(timedelta(hours=1), "AccessDenied")
    with ScriptedS3(clock, error(503, "SlowDown"), reset, then=clock) as s3:
        reply = ask(s3, mode="v4-query", S3Retries="2")
        assert (reply.status, ask(s3, mode="v4-query").status, len(s3.requests)) == (200, 200, 5)
    assert reply.log.count("\n") == 3 and reply.log.count("correct it") == 1


def test_a_denial_that_has_expired_and_a_wrong_key() -> None:
    """The order of MinIO's checks."""
    with ScriptedS3(error(403, "AccessDenied", dated(timedelta(hours=1))), error(403, "SignatureDoesNotMatch")) as s3:
        reply = ask(s3, mode="v4-query")
    assert reply.status == 502 and "403 SignatureDoesNotMatch" in reply.log


def test_no_second_bucket_is_asked_for_what_the_clock_denies() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1), "AccessDenied")) as s3, ScriptedS3() as second:
        more = {"S3FallbackURL": f"{second.url}/bucket/", "S3FallbackOn404": "on", "S3DeniedStatus": "404"}
        assert ask(s3, mode="v4-query", **more).body == b"hello"
    with ScriptedS3(then=error(403, "AccessDenied", dated(timedelta(hours=1)))) as s3, ScriptedS3(HELLO) as second:
        more |= {"S3FallbackURL": f"{second.url}/bucket/"}
        assert ask(s3, mode="v4-query", **more).body == b"hello"
        assert len(s3.requests) == 2


def test_a_tokens_end_is_one_where_the_clock_is_right(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    def replaced(connection: Connection, request: Request) -> None:
        token.write_text("new")
        connection.send(error(400, "ExpiredToken", dated(timedelta(0))))

    with ScriptedS3(replaced, HELLO) as s3:
        assert ask(s3, mode="v4-query", S3SecurityTokenFile=str(token)).status == 200


def test_a_clock_that_does_not_help_is_not_kept() -> None:
    """S3 is dated by another server than the one that judges: once this server's clock is set right, all is well."""
    skewed = error(403, "RequestTimeTooSkewed", dated(timedelta(hours=5)))
    with ScriptedS3(skewed, skewed, then=Clocked(timedelta(0))) as s3:
        assert ask(s3).status == 502
        assert (ask(s3).status, len(s3.requests)) == (200, 3)


def test_several_at_once_learn_it() -> None:
    replies: list[Reply] = []
    with ScriptedS3(then=Clocked(timedelta(hours=-1), "AccessDenied")) as s3:
        threads = [threading.Thread(target=lambda: replies.append(ask(s3, mode="v4-query"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [reply.status for reply in replies] == [200] * 8
        asked = len(s3.requests)
        assert ask(s3, mode="v4-query").status == 200 and len(s3.requests) == asked + 1


def test_the_clock_is_that_of_a_host() -> None:
    with ScriptedS3(then=Clocked(timedelta(hours=1))) as late, ScriptedS3(then=Clocked(timedelta(0))) as right:
        assert [ask(s3).status for s3 in (late, right, late, right)] == [200] * 4
        assert (len(late.requests), len(right.requests)) == (3, 2)


def test_a_clock_that_is_set_right_is_followed() -> None:
    clock = Clocked(timedelta(hours=1))
    with ScriptedS3(then=clock) as s3:
        assert ask(s3).status == 200
        clock.ahead = timedelta(0)
        assert [ask(s3).status for _ in range(2)] == [200, 200]
        assert len(s3.requests) == 5


def test_this_servers_clock_may_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sets it right, as the log says: what was learned of S3's stays true."""
    jump = timedelta(0)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + jump

    monkeypatch.setattr(endpoint_state, "datetime", Jumping)
    with ScriptedS3(then=Clocked(timedelta(hours=1))) as s3:
        assert ask(s3).status == 200
        jump = timedelta(hours=1)
        assert ask(s3).status == 200
        assert len(s3.requests) == 3


@pytest.mark.parametrize("date", ["", "never", "now"])
def test_without_another_time_it_is_not_asked_again(date: str) -> None:
    if date == "now":
        date = format_datetime(datetime.now(UTC), usegmt=True)
    with ScriptedS3(error(403, "RequestTimeTooSkewed", ("Date", date))) as s3:
        assert ask(s3, S3Retries="3").status == 502


def test_a_clock_that_does_not_help_is_tried_once() -> None:
    never = error(403, "RequestTimeTooSkewed", ("Date", "Thu, 01 Jan 2015 00:00:00 GMT"))
    with ScriptedS3(never, never) as s3:
        assert ask(s3, S3Retries="3").status == 502


# --- the region


def in_region(region: str, refusal: Callable[[], bytes]) -> Step:
    def judge(connection: Connection, request: Request) -> None:
        mine = f"/{region}/s3/" in request.headers.get("authorization", "") + request.target.replace("%2F", "/")
        whole = HELLO if mine else refusal()
        connection.send(head_of(whole) if request.method == "HEAD" else whole)

    return judge


REFUSALS = [
    error(400, "AuthorizationHeaderMalformed", region="eu-west-3"),
    error(400, "AuthorizationQueryParametersError", region="eu-west-3"),
    error(301, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3")),
    error(308, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3")),
    error(307, "TemporaryRedirect", ("x-amz-bucket-region", "eu-west-3"), ("Location", "https://evil.example/")),
]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("mode", ["v4-header", "v4-query"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_signed_for_the_region_that_s3_names_and_so_from_then_on(method: str, mode: str, refusal: bytes) -> None:
    with ScriptedS3(then=in_region("eu-west-3", lambda: refusal)) as s3:
        replies = [ask(s3, method, mode) for _ in range(3)]
        assert len(s3.requests) == (4 if method == "GET" else 5)  # a HEAD asks for the reason
    assert [reply.status for reply in replies] == [200] * 3
    assert "the bucket is in region eu-west-3: set S3Region to it" in replies[0].log
    assert replies[0].log.count("\n") == 1 and not replies[1].log + replies[2].log


def test_a_region_that_s3_names_twice_is_tried_once() -> None:
    with ScriptedS3(*[REFUSALS[0]] * 2) as s3:
        assert ask(s3, S3Retries="3").status == 502


def test_the_region_that_is_set_already_changes_nothing() -> None:
    with ScriptedS3(REFUSALS[0]) as s3:
        assert ask(s3, S3Region="eu-west-3").status == 502


@pytest.mark.parametrize("mode", ["v2-header", "v2-query"])
def test_signature_v2_knows_no_region(mode: str) -> None:
    with ScriptedS3(REFUSALS[2]) as s3:
        assert ask(s3, mode=mode).status == 502


def test_the_region_is_that_of_a_bucket() -> None:
    with ScriptedS3(then=in_region("eu-west-3", lambda: REFUSALS[0])) as s3:
        assert [ask(s3, S3BucketURL=f"{s3.url}/{name}/").status for name in ("one", "two", "one")] == [200] * 3
        assert len(s3.requests) == 5


# --- keys


def test_keys_that_were_exchanged_meanwhile_are_taken(tmp_path: Path) -> None:
    """The pair was read while it was being written: the access key is the new one, the secret still the old one."""
    secret = tmp_path / "secret"
    secret.write_text("old")
    settings = {"S3SecretKey": "", "S3SecretKeyFile": str(secret)}

    def exchange(connection: Connection, request: Request) -> None:
        secret.write_text(SECRET_KEY)
        connection.send(error(403, "SignatureDoesNotMatch"))

    with ScriptedS3(exchange, HELLO) as s3:
        assert ask(s3, **settings).status == 200
        first, second = (request.headers["authorization"][-64:] for request in s3.requests)
    assert first != second


CODES = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"]


@pytest.mark.parametrize("code", CODES)
def test_a_token_that_was_replaced_meanwhile_is_taken(tmp_path: Path, code: str) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    def replaced(connection: Connection, request: Request) -> None:
        token.write_text("new")
        connection.send(error(400, code))

    with ScriptedS3(replaced, HELLO) as s3:
        reply = ask(s3, S3SecurityTokenFile=str(token))
    assert (reply.status, reply.body) == (200, b"hello")
    assert [request.headers["x-amz-security-token"] for request in s3.requests] == ["old", "new"]
    assert f"400 {code}" in reply.log and reply.log.endswith("; retrying\n")


@pytest.mark.parametrize("code", CODES)
def test_the_same_keys_are_not_tried_again(code: str) -> None:
    with ScriptedS3(error(403, code)) as s3:
        reply = ask(s3, S3Retries="3")
    assert reply.status == 502
    assert code in reply.log and SECRET_KEY not in reply.log


# --- each of the three once for a client's request, however S3 goes on


def at(date: timedelta) -> bytes:
    """A refusal by an S3 with that clock."""
    now = datetime.now(UTC) + date
    return error(403, "RequestTimeTooSkewed", ("Date", format_datetime(now, usegmt=True)))


def of(region: str) -> bytes:
    return error(301, "PermanentRedirect", region=region)


class Rotated:
    """Keys that are others after each request, and each of them refused."""

    def __init__(self, secret: Path) -> None:
        self._secret = secret
        secret.write_text("0")

    def __call__(self, connection: Connection, request: Request) -> None:
        self._secret.write_text(self._secret.read_text() + "0")
        connection.send(error(403, "SignatureDoesNotMatch"))


@pytest.mark.parametrize(
    "refusals",
    [
        [of("eu-west-3"), of("eu-west-1")],
        [at(timedelta(hours=1)), at(timedelta(hours=-1))],
        [of("eu-west-3"), at(timedelta(hours=1)), of("eu-west-1")],
        [at(timedelta(hours=1)), of("eu-west-3"), at(timedelta(hours=-1))],
    ],
    ids=["regions", "clocks", "region, clock, region", "clock, region, clock"],
)
def test_what_s3_says_differently_each_time_is_followed_once(refusals: list[Step]) -> None:
    with ScriptedS3(*refusals) as s3:
        reply = ask(s3, S3Retries="3")
    assert (reply.status, reply.body) == (502, b"502 Bad Gateway\n")
    assert len(s3.requests) == len(refusals)
    *followed, last = reply.log.splitlines()
    assert len(followed) == len(refusals) - 1
    assert all(line.endswith("; retrying") for line in followed) and not last.endswith("again")


@pytest.mark.parametrize("before", [[], [of("eu-west-3")], [at(timedelta(hours=1)), of("eu-west-3")]])
def test_keys_that_are_replaced_all_the_time_are_taken_once(tmp_path: Path, before: list[Step]) -> None:
    rotated = Rotated(tmp_path / "secret")
    with ScriptedS3(*before, rotated, rotated) as s3:
        reply = ask(s3, S3Retries="3", S3SecretKey="", S3SecretKeyFile=str(tmp_path / "secret"))
    assert reply.status == 502
    assert len(s3.requests) == len(before) + 2


def test_each_remedy_has_its_own_try(tmp_path: Path) -> None:
    """A server that is wrong in every way, and an S3 that fails on top of it."""
    steps: list[Step] = [
        of("eu-west-3"),
        Rotated(tmp_path / "secret"),
        error(503, "SlowDown"),
        at(timedelta(hours=1)),
        HELLO,
    ]
    with ScriptedS3(*steps) as s3:
        reply = ask(s3, S3Retries="1", S3SecretKey="", S3SecretKeyFile=str(tmp_path / "secret"))
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.log.count("; retrying\n") == 4
