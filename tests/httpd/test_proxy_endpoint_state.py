"""``<Proxy>``: the clock and the region in S3's error responses are used for the next requests.

Errors that only look like a wrong clock change nothing.
"""

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
#: Status and code of S3 where the clocks differ: codes that do not name the clock, and codes that do.
CODES = [*WITHOUT_A_REASON, (403, "RequestTimeTooSkewed"), (403, "RequestExpired"), (400, "ExpiredRequest")]
PORT = free_port()
#: More buckets of each mode than tests, each at its own host, so that each test has one without recorded state.
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
    """A bucket without recorded clock and region."""

    _unused = {mode: iter(hosts) for mode, hosts in HOSTS.items()}  # noqa: RUF012

    def __init__(self, httpd: Httpd, mode: str) -> None:
        self.host = next(self._unused[mode])
        self._httpd = httpd

    def get(self, count: int, name: str = "a.ts", method: str = "GET", bucket: str = "bucket") -> list[int]:
        return [self._httpd.fetch(f"/{self.host}/{bucket}/{name}", method=method).status for _ in range(count)]

    @property
    def lines(self) -> list[str]:
        """The lines of the error log about it."""
        return [line for line in self._httpd.errors() if f"http://{self.host}:" in line]


def s3_of(bucket: Bucket, *script: Step, then: Step | None = None) -> ScriptedS3:
    return ScriptedS3(*script, then=then, host=bucket.host, port=PORT)


def is_skewed(request: Request) -> bool:
    """Whether a request is signed with another time than this server's."""
    return abs((signed_at(request) - datetime.now(UTC)).total_seconds()) > 60


# --- the clock


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("mode", "ahead"), [case for case in OUT_OF_TIME if abs(case[1]) == HOUR])
@pytest.mark.parametrize(("status", "code"), CODES)
def test_requests_after_a_clock_error_are_signed_with_s3s_clock(
    httpd: Httpd, status: int, code: str, mode: str, ahead: timedelta, method: str
) -> None:
    bucket = Bucket(httpd, mode)
    with s3_of(bucket, then=Clocked(ahead, code, status)):
        assert bucket.get(4, method=method) == [502, 200, 200, 200]
    logged_code = code if method == "GET" else r"\(no code\)"
    [line] = bucket.lines
    side = "behind" if ahead > timedelta(0) else "ahead of"
    assert re.search(rf"S3 answered {status} {logged_code}, .* clock is (359\d|360\d) s {side} S3's: correct it", line)
    assert line.endswith("; the next requests are signed with S3's clock")


@pytest.mark.parametrize("mode", ["v4-header", "v4-query"])
def test_templates_of_an_old_clock_are_not_used(httpd: Httpd, mode: str) -> None:
    """A change of the recorded clock invalidates the signing templates of the same second."""
    bucket, clock = Bucket(httpd, mode), Clocked(HOUR)
    with s3_of(bucket, then=clock):
        for ahead in (HOUR, -HOUR, timedelta(0), 2 * HOUR, -2 * HOUR) * 3:
            clock.ahead = ahead
            assert bucket.get(3) == [502, 200, 200]


@pytest.mark.parametrize("mode", MODES)
def test_a_denied_object_with_another_date_changes_no_clock(httpd: Httpd, mode: str) -> None:
    """Another device dates its response. Other objects are served, and nothing is logged."""

    def respond(connection: Connection, request: Request) -> None:
        response = error(403, "RequestTimeTooSkewed", dated(timedelta(0))) if is_skewed(request) else HELLO
        response = error(403, "AccessDenied", dated(HOUR)) if "denied" in request.target else response
        connection.send(head_of(response) if request.method == "HEAD" else response)

    bucket = Bucket(httpd, mode)
    with s3_of(bucket, then=respond):
        assert bucket.get(1) == [200]
        for method in ("GET", "HEAD"):
            for _ in range(3):
                assert bucket.get(1, "denied.ts", method) == [404]
                assert bucket.get(2) == [200, 200]
    assert bucket.lines == []


@pytest.mark.parametrize("date", [timedelta(0), "Fri, 31 Dec 9999 23:59:59 GMT", "never", ""], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_denial_with_the_right_date_or_none_is_a_denial(httpd: Httpd, mode: str, date: timedelta | str) -> None:
    bucket = Bucket(httpd, mode)
    headers = [dated(date)] if date else []
    with s3_of(bucket, then=lambda connection, _: connection.send(error(403, "AccessDenied", *headers))):
        assert bucket.get(6) == [404] * 6
    assert bucket.lines == []


@pytest.mark.parametrize("mode", ["v4-query", "v2-header"])
def test_the_age_of_a_cached_denial_is_added_to_its_date(httpd: Httpd, mode: str) -> None:
    bucket, cached = Bucket(httpd, mode), error(403, "AccessDenied", dated(-HOUR), ("Age", "3600"))
    with s3_of(bucket, then=lambda connection, _: connection.send(cached)):
        assert bucket.get(3) == [404] * 3
    assert bucket.lines == []


def test_the_date_of_an_intermediary_is_not_used(httpd: Httpd) -> None:
    bucket, page = Bucket(httpd, "v4-query"), answer(403, b"<html>Blocked</html>", dated(HOUR))
    with s3_of(bucket, page, page, then=HELLO) as s3:
        assert bucket.get(3) == [403, 403, 200]
        assert not is_skewed(s3.requests[-1])


def test_a_wrong_clock_is_dropped(httpd: Httpd) -> None:
    """S3 accepts this server's clock, and the date of its first response is wrong."""

    def respond(connection: Connection, request: Request) -> None:
        is_denied = is_skewed(request) or "denied" in request.target
        connection.send(error(403, "AccessDenied", dated(HOUR)) if is_denied else HELLO)

    bucket = Bucket(httpd, "v4-query")
    with s3_of(bucket, then=respond):
        assert bucket.get(1, "denied.ts") == [502]
        assert 200 in bucket.get(6)
        for _ in range(10):
            assert bucket.get(1, "denied.ts") + bucket.get(1) == [404, 200]
    assert len(bucket.lines) == 1


def test_a_clock_that_does_not_help_is_dropped(httpd: Httpd) -> None:
    """Another server than the one that verifies the signature sets the Date."""
    bucket, wrong = Bucket(httpd, "v4-header"), error(403, "RequestTimeTooSkewed", dated(5 * HOUR))
    with s3_of(bucket, wrong, wrong, then=Clocked(timedelta(0))):
        assert bucket.get(4) == [502, 502, 200, 200]
    assert [line.rpartition("; ")[2] for line in bucket.lines] == [
        "the next requests are signed with S3's clock",
        "the next requests are signed with this server's clock",
    ]


def test_the_clock_is_corrected_with_proxyerroroverride(httpd: Httpd) -> None:
    bucket = Bucket(httpd, "v4-query")
    with s3_of(bucket, then=Clocked(HOUR, "AccessDenied")):
        target = f"/overridden/{bucket.host}/bucket/a.ts"
        assert [httpd.fetch(target).status for _ in range(2)] == [502, 200]
    [line] = bucket.lines
    assert "403 (no code)" in line and line.endswith("signed with S3's clock")


# --- the region


@pytest.mark.parametrize("response", REFUSALS)
@pytest.mark.parametrize("mode", ["v4-header", "v4-query"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_requests_are_signed_for_the_region_that_s3_names(
    httpd: Httpd, method: str, mode: str, response: bytes
) -> None:
    bucket = Bucket(httpd, mode)
    with s3_of(bucket, then=in_region("eu-west-3", lambda: response)):
        if method == "GET" or b"x-amz-bucket-region" in response:
            assert bucket.get(1, method=method) == [502]
            [line] = bucket.lines
            assert re.search(
                "in region eu-west-3: set S3Region to it .*; the next requests are signed for eu-west-3$", line
            )
        else:  # the response to a HEAD does not name it
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


def test_the_region_is_recorded_per_bucket(httpd: Httpd) -> None:
    bucket = Bucket(httpd, "v4-header")
    with s3_of(bucket, then=in_region("eu-west-3", lambda: REFUSALS[0])):
        assert bucket.get(2) == [502, 200]
        assert bucket.get(2, bucket="other") == [502, 200]
        assert bucket.get(1) == [200]
