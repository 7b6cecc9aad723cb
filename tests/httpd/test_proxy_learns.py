"""``<Proxy>``: S3's clock and a bucket's region, once told, count for the next requests; what looks alike does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, error, head_of
from tests.faults.test_resigning import OUT_OF_TIME, REFUSALS, WITHOUT_A_REASON, Clocked, dated, in_region, signed_at
from tests.httpd.conftest import BUCKET, MODES, ONE_CHILD, proxy_section
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.leaks import SECRET_KEY
from tests.s3 import EmbeddedS3

HOUR = timedelta(hours=1)
HELLO = answer(200, b"hello")
#: What S3 says where its clock is another one: without a word of that, and with.
CODES = [*WITHOUT_A_REASON, (403, "RequestTimeTooSkewed"), (403, "RequestExpired"), (400, "ExpiredRequest")]
PORT = free_port()
#: More buckets of each mode than there are tests, each at a host of its own, of which nothing is known yet.
BUCKETS = 60
HOSTS = {mode: [f"127.0.{number}.{bucket + 1}" for bucket in range(BUCKETS)] for number, mode in enumerate(MODES, 1)}


def section(host: str, mode: str, path: str = "bucket") -> str:
    region, headers = MODES[mode]
    return f"""
ProxyPass /{host}/{path} http://{host}:{PORT}/{path}
ProxyPass /overridden/{host}/{path} http://{host}:{PORT}/{path}
<Proxy "http://{host}:{PORT}/{path}/">
  SetEnv S3AccessKey A
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3UseHeaders {"on" if headers else "off"}
  {"SetEnv S3Region eu-central-1" if region else ""}
  SetEnv S3DeniedStatus 404
  ProxySet enablereuse=on retry=0
</Proxy>
"""


SECTIONS = [section(host, mode) for mode, hosts in HOSTS.items() for host in hosts]
SECTIONS += [section(host, "v4-header", "other") for host in HOSTS["v4-header"]]
CONFIG = "\n".join(SECTIONS) + "<Location /overridden>\nProxyErrorOverride On\n</Location>\n" + ONE_CHILD


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    with Httpd(CONFIG) as server:
        server.expect_error("usp_s3_wsgi: S3 answered")
        yield server
    assert "\n".join(server.unexpected) == ""


class Bucket:
    """A bucket that nothing is known of, and what its S3 answers."""

    _unused = {mode: iter(hosts) for mode, hosts in HOSTS.items()}  # noqa: RUF012

    def __init__(self, httpd: Httpd, mode: str) -> None:
        self.host = next(self._unused[mode])
        self._httpd = httpd

    def get(self, count: int, name: str = "a.ts", method: str = "GET", bucket: str = "bucket") -> list[int]:
        return [self._httpd.fetch(f"/{self.host}/{bucket}/{name}", method=method).status for _ in range(count)]

    @property
    def lines(self) -> list[str]:
        """What the error log says of it."""
        return [line for line in self._httpd.errors() if f"http://{self.host}:" in line]


def s3_of(bucket: Bucket, *script: Step, then: Step | None = None) -> ScriptedS3:
    return ScriptedS3(*script, then=then, host=bucket.host, port=PORT)


def is_far(request: Request) -> bool:
    """Whether it is signed for another time than this server's."""
    return abs((signed_at(request) - datetime.now(UTC)).total_seconds()) > 60


# --- the clock


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("mode", "ahead"), [case for case in OUT_OF_TIME if abs(case[1]) == HOUR])
@pytest.mark.parametrize(("status", "code"), CODES)
def test_s3s_clock_in_the_words_of_each_server(
    httpd: Httpd, status: int, code: str, mode: str, ahead: timedelta, method: str
) -> None:
    bucket = Bucket(httpd, mode)
    with s3_of(bucket, then=Clocked(ahead, code, status)):
        assert bucket.get(4, method=method) == [502, 200, 200, 200]
    said = code if method == "GET" else r"\(no code\)"
    [line] = bucket.lines
    side = "behind" if ahead > timedelta(0) else "ahead of"
    assert re.search(rf"S3 answered {status} {said}, .* clock is (359\d|360\d) s {side} S3's: correct it", line)
    assert line.endswith("; the next requests are signed with S3's clock")


@pytest.mark.parametrize("mode", ["v4-header", "v4-query"])
def test_what_was_signed_before_serves_no_other_request(httpd: Httpd, mode: str) -> None:
    """Neither the signature of the same second, nor what was true of S3's clock before."""
    bucket, clock = Bucket(httpd, mode), Clocked(HOUR)
    with s3_of(bucket, then=clock):
        for ahead in (HOUR, -HOUR, timedelta(0), 2 * HOUR, -2 * HOUR) * 3:
            clock.ahead = ahead
            assert bucket.get(3) == [502, 200, 200]


@pytest.mark.parametrize("mode", MODES)
def test_one_denied_object_is_no_clock(httpd: Httpd, mode: str) -> None:
    """Its denial is dated by another device; the others go on, and nothing is logged."""

    def judge(connection: Connection, request: Request) -> None:
        whole = error(403, "RequestTimeTooSkewed", dated(timedelta(0))) if is_far(request) else HELLO
        whole = error(403, "AccessDenied", dated(HOUR)) if "denied" in request.target else whole
        connection.send(head_of(whole) if request.method == "HEAD" else whole)

    bucket = Bucket(httpd, mode)
    with s3_of(bucket, then=judge):
        assert bucket.get(1) == [200]
        for method in ("GET", "HEAD"):
            for _ in range(3):
                assert bucket.get(1, "denied.ts", method) == [404]
                assert bucket.get(2) == [200, 200]
    assert bucket.lines == []


@pytest.mark.parametrize("date", [timedelta(0), "Fri, 31 Dec 9999 23:59:59 GMT", "never", ""], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_denial_that_is_dated_right_or_not_at_all(httpd: Httpd, mode: str, date: timedelta | str) -> None:
    bucket = Bucket(httpd, mode)
    headers = [dated(date)] if date else []
    with s3_of(bucket, then=lambda connection, _: connection.send(error(403, "AccessDenied", *headers))):
        assert bucket.get(6) == [404] * 6
    assert bucket.lines == []


@pytest.mark.parametrize("mode", ["v4-query", "v2-header"])
def test_a_cached_denial_is_as_old_as_it_says(httpd: Httpd, mode: str) -> None:
    bucket, cached = Bucket(httpd, mode), error(403, "AccessDenied", dated(-HOUR), ("Age", "3600"))
    with s3_of(bucket, then=lambda connection, _: connection.send(cached)):
        assert bucket.get(3) == [404] * 3
    assert bucket.lines == []


def test_a_device_on_the_way_tells_no_time(httpd: Httpd) -> None:
    bucket, page = Bucket(httpd, "v4-query"), answer(403, b"<html>Blocked</html>", dated(HOUR))
    with s3_of(bucket, page, page, then=HELLO) as s3:
        assert bucket.get(3) == [403, 403, 200]
        assert not is_far(s3.requests[-1])


def test_a_date_that_was_wrong_is_given_up(httpd: Httpd) -> None:
    """The bucket is right by this server's clock, and its first answer was dated by another one."""

    def judge(connection: Connection, request: Request) -> None:
        denied = is_far(request) or "denied" in request.target
        connection.send(error(403, "AccessDenied", dated(HOUR)) if denied else HELLO)

    bucket = Bucket(httpd, "v4-query")
    with s3_of(bucket, then=judge):
        assert bucket.get(1, "denied.ts") == [502]
        assert 200 in bucket.get(6)
        for _ in range(10):
            assert bucket.get(1, "denied.ts") + bucket.get(1) == [404, 200]
    assert len(bucket.lines) == 1


def test_a_clock_that_does_not_help_is_not_kept_for_good(httpd: Httpd) -> None:
    """S3 is dated by another server than the one that judges; once this server's clock is right, all is well."""
    bucket, wrong = Bucket(httpd, "v4-header"), error(403, "RequestTimeTooSkewed", dated(5 * HOUR))
    with s3_of(bucket, wrong, wrong, then=Clocked(timedelta(0))):
        assert bucket.get(4) == [502, 502, 200, 200]
    assert [line.rpartition("; ")[2] for line in bucket.lines] == [
        "the next requests are signed with S3's clock",
        "the next requests are signed with this server's clock",
    ]


def test_where_mod_proxy_hides_s3s_reason(httpd: Httpd) -> None:
    bucket = Bucket(httpd, "v4-query")
    with s3_of(bucket, then=Clocked(HOUR, "AccessDenied")):
        target = f"/overridden/{bucket.host}/bucket/a.ts"
        assert [httpd.fetch(target).status for _ in range(2)] == [502, 200]
    [line] = bucket.lines
    assert "403 (no code)" in line and line.endswith("signed with S3's clock")


# --- the region


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("mode", ["v4-header", "v4-query"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_region_that_s3_names(httpd: Httpd, method: str, mode: str, refusal: bytes) -> None:
    bucket = Bucket(httpd, mode)
    with s3_of(bucket, then=in_region("eu-west-3", lambda: refusal)):
        if method == "GET" or b"x-amz-bucket-region" in refusal:
            assert bucket.get(1, method=method) == [502]
            [line] = bucket.lines
            assert re.search(
                "in region eu-west-3: set S3Region to it .*; the next requests are signed for eu-west-3$", line
            )
        else:  # a HEAD that names none
            assert bucket.get(2, method=method) == [502] * 2
            assert bucket.get(1) == [502]
        assert bucket.get(2, method=method) == [200] * 2


@pytest.mark.parametrize("mode", ["v4-header", "v4-query"])
def test_the_region_of_a_real_s3(s3: EmbeddedS3, checked: list[Httpd], mode: str) -> None:
    s3.put(BUCKET, "a.ts", b"an object")
    url = f"{s3.url}/{BUCKET}"
    lines = proxy_section(f"{url}/", s3, mode=mode).replace(s3.region, "us-west-2")
    httpd = Httpd(f"ProxyPass /proxied {url}\n{lines}{ONE_CHILD}")
    checked.append(httpd)
    httpd.start()
    assert [httpd.fetch("/proxied/a.ts").status for _ in range(3)] == [502, 200, 200]
    httpd.wait_for_error(f"set S3Region to it .*; the next requests are signed for {s3.region}$")
    assert httpd.fetch("/proxied/a.ts", method="HEAD").status == 200
    assert len(httpd.errors()) == 1


def test_the_region_is_that_of_a_bucket(httpd: Httpd) -> None:
    bucket = Bucket(httpd, "v4-header")
    with s3_of(bucket, then=in_region("eu-west-3", lambda: REFUSALS[0])):
        assert bucket.get(2) == [502, 200]
        assert bucket.get(2, bucket="other") == [502, 200]
        assert bucket.get(1) == [200]
