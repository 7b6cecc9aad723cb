"""Roles and AWS identities in a real httpd: gateway and proxy, processes, daemons, interpreters, and the log."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.server import Connection, Request, ScriptedS3, answer, error
from tests.httpd import metrics
from tests.httpd.conftest import BUCKET, MODES, ONE_CHILD, proxy_section, section
from tests.httpd.conftest import checked as checked
from tests.httpd.conftest import s3 as s3
from tests.httpd.server import Httpd
from tests.httpd.test_process import load
from tests.identity.conftest import Aws
from tests.identity.endpoints import ACCESS_KEY, ROLE_ARN, SECRET_KEY, STS, Container, Issue, Metadata, Role
from tests.s3 import EmbeddedS3

DATA = b"segment" * 1000
WAIT = 20.0
BOTH = ("/media", "/proxied")
OWN_KEYS = (f"SetEnv S3AccessKey {ACCESS_KEY}", f"SetEnv S3SecretKey {SECRET_KEY}")
AWS = ("SetEnv S3CredentialSource aws",)


class Guard:
    """An S3 that accepts issued credentials with their token until they expire."""

    def __init__(self, issuer: Container | Metadata | STS) -> None:
        self.issuer = issuer
        self.used: set[int] = set()
        self.rejected: list[str] = []

    def __call__(self, connection: Connection, request: Request) -> None:
        key = request.headers["authorization"].partition("Credential=")[2].partition("/")[0]
        issue = self.issuer.issued_as(key)
        if self._is_valid(issue, request):
            assert issue is not None
            self.used.add(issue.number)
            connection.send(answer(200, DATA))
        else:
            self.rejected.append(key)
            connection.send(error(403, "AccessDenied"))

    @staticmethod
    def _is_valid(issue: Issue | None, request: Request) -> bool:
        if issue is None or request.headers.get("x-amz-security-token") != issue.token:
            return False
        return issue.expiration.timestamp() > time.time()


def both(s3: ScriptedS3, *lines: str, alias: str = "") -> str:
    """The gateway and a proxied section for the same bucket with the same identity."""
    body = "\n".join([*lines, "SetEnv S3Region eu-central-1", "SetEnv S3UseHeaders on"])
    return (
        f"WSGIScriptAlias /media ${{USP_S3_WSGI}} {alias}\n<Location /media>\nSetEnv S3BucketURL {s3.url}/b/\n{body}\n"
        f'</Location>\nProxyPass /proxied {s3.url}/b\n<Proxy "{s3.url}/b/">\n{body}\n</Proxy>\n'
    )


def role(sts: STS, *keys: str) -> tuple[str, ...]:
    return (*keys, f"SetEnv S3RoleARN {ROLE_ARN}", f"SetEnv S3STSEndpoint {sts.url}")


@pytest.fixture
def readable() -> Iterator[Path]:
    """A directory with files that httpd's children can read."""
    directory = Path(tempfile.mkdtemp(prefix="identity-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_a_role_with_the_configured_keys(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    """Gateway and proxy share the credentials: STS is called once per process."""
    with STS(Role()) as sts, ScriptedS3(then=Guard(sts)) as s3:
        httpd = servers(both(s3, *role(sts, *OWN_KEYS)) + ONE_CHILD)
        for mount in BOTH * 3:
            assert httpd.fetch(f"{mount}/a.ts").body == DATA
        assert len(sts.issued) == 1
        key = sts.issue(1).access_key
        line = httpd.wait_for_error("credentials refreshed from AssumeRole with static credentials")
    assert f"{ROLE_ARN} (S3CredentialSource static): " in line
    assert f"access key {key[:4]}...{key[-4:]}, expiration 20" in line and key not in line
    assert len([line for line in httpd.errors() if "credentials refreshed from" in line]) == 1


def test_metrics_of_credentials(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    with STS(Role()) as sts, ScriptedS3(then=Guard(sts)) as s3:
        httpd = servers(metrics.CONFIG + both(s3, *role(sts, *OWN_KEYS)) + ONE_CHILD)
        for mount in BOTH:
            assert httpd.fetch(f"{mount}/a.ts").body == DATA
        identity = frozenset({("identity", f"{ROLE_ARN} (S3CredentialSource static)")})
        samples = metrics.scrape(httpd)
        expiration = samples["usp_s3_credentials_expiration_timestamp_seconds"]
        assert expiration == {
            identity: pytest.approx(sts.issue(1).expiration.timestamp(), abs=1)
        }  # STS sends whole seconds
        assert samples["usp_s3_credentials_refreshes_total"] == {
            identity | {("result", "success")}: 1,
            identity | {("result", "failure")}: 0,
        }
        for secret in (SECRET_KEY, ACCESS_KEY, sts.issue(1).access_key, sts.issue(1).token):
            assert secret not in httpd.fetch("/usp-s3/metrics").body.decode()


def test_metrics_of_credentials_that_cannot_be_obtained(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    with STS(Role(), keys={}) as sts, ScriptedS3() as s3:
        httpd = servers(metrics.CONFIG + both(s3, *role(sts, *OWN_KEYS)) + ONE_CHILD)
        httpd.expect_error("USPS30601")
        for mount in BOTH:
            assert httpd.fetch(f"{mount}/a.ts").status == 503
        samples = metrics.scrape(httpd)
        assert samples.get("usp_s3_credentials_expiration_timestamp_seconds", {}) == {}
        assert metrics.total(httpd, "usp_s3_credentials_refreshes_total", {"result": "failure"}) >= 1
        assert metrics.total(httpd, "usp_s3_credentials_refreshes_total", {"result": "success"}) == 0
        metrics.wait_for_total(httpd, "usp_s3_exchanges_total", 2, {"error": "USPS30601", "status": "none"})


def test_a_role_with_the_identity_of_the_instance(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    """STS is Amazon's, of the region; botocore's variable points to another one."""
    with Metadata() as metadata, STS(sources=[metadata]) as sts, ScriptedS3(then=Guard(sts)) as s3:
        aws.set(metadata.environment(), {"AWS_ENDPOINT_URL_STS": sts.url})
        httpd = servers(both(s3, *AWS, f"SetEnv S3RoleARN {ROLE_ARN}"))
        assert httpd.fetch("/media/a.ts").body == DATA
        httpd.wait_for_error(
            r"\(S3CredentialSource aws\): credentials refreshed from AssumeRole with iam-role credentials, "
            r"access key ASIA\.\.\."
        )


def test_each_process_has_its_own_credentials(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    with STS(Role()) as sts, ScriptedS3(then=Guard(sts)) as s3:
        httpd = servers(
            both(s3, *role(sts, *OWN_KEYS))
            + "StartServers 3\nServerLimit 3\nThreadsPerChild 16\nMaxRequestWorkers 48\nMinSpareThreads 16\n"
        )
        for mount in BOTH * 20:
            assert httpd.fetch(f"{mount}/a.ts").body == DATA
        assert 1 <= len(sts.issued) <= 3


@pytest.mark.parametrize(
    "kind", ["instance", "ecs", "pod identity", "web identity", "a role with the instance's credentials"]
)
def test_the_aws_identity_of_the_process(aws: Aws, readable: Path, servers: Callable[[str], Httpd], kind: str) -> None:
    with Metadata() as metadata, Container() as container, STS(Role(), sources=[metadata]) as sts:
        lines: tuple[str, ...] = AWS
        issuer: Container | Metadata | STS = metadata
        if kind in {"ecs", "pod identity"}:
            issuer = container
            aws.set(container.environment(*([readable / "token"] if kind == "pod identity" else [])))
        elif kind == "web identity":
            issuer = sts
            aws.set(sts.environment(readable / "token"))
        else:
            aws.set(metadata.environment())
        if kind.startswith("a role"):
            lines, issuer = role(sts, *AWS), sts
        for file in readable.iterdir():
            file.chmod(0o644)
        with ScriptedS3(then=Guard(issuer)) as s3:
            httpd = servers(both(s3, *lines) + ONE_CHILD)
            for mount in BOTH:
                assert httpd.fetch(f"{mount}/a.ts").body == DATA
        assert len(issuer.issued) == 1


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_request_fails_while_credentials_are_refreshed(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    """They are valid for a few seconds, and the requests continue through several refreshes."""
    with STS(Role()) as sts, ScriptedS3(then=(guard := Guard(sts))) as s3:
        sts.lifetime = 4
        httpd = servers(both(s3, *role(sts, *OWN_KEYS)) + ONE_CHILD)
        with load(httpd, 16) as seen:
            until(lambda: len(guard.used) >= 4)
        assert seen == {(mount, 200, DATA) for mount in BOTH}
        assert guard.rejected == []


def test_an_sts_outage(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    """Credentials are used until they expire. Then no request is sent, and the client gets 503 with Retry-After."""
    with STS(Role()) as sts, ScriptedS3(then=Guard(sts)) as s3:
        sts.lifetime = 6
        httpd = servers(both(s3, *role(sts, *OWN_KEYS)) + ONE_CHILD)
        assert [httpd.fetch(f"{mount}/a.ts").status for mount in BOTH] == [200, 200]
        sts.fault = "500"
        with load(httpd) as seen:
            httpd.wait_for_error("refresh failed: STS answered 500 InternalFailure; using the current credentials")
            assert {status for _, status, _ in seen} == {200}
        httpd.expect_error("usp_s3_wsgi: .*STS answered 500 InternalFailure")
        until(lambda: httpd.fetch("/media/a.ts").status == 503)
        sent = len(s3.requests)
        for mount in BOTH:
            reply = httpd.fetch(f"{mount}/a.ts")
            assert reply.status == 503 and 1 <= int(reply.headers["Retry-After"]) <= 10
        assert len(s3.requests) == sent
        sts.fault = None
        for mount in BOTH:
            until(lambda path=f"{mount}/a.ts": httpd.fetch(path).status == 200)  # type: ignore[misc]


def test_timeout_limits_the_wait_for_a_slow_sts(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    with STS(Role()) as sts, ScriptedS3(then=Guard(sts)) as s3:
        sts.fault = "slow"
        gateway = both(s3, *role(sts, *OWN_KEYS), "SetEnv S3ProxySet timeout=300ms").partition("ProxyPass")[0]
        httpd = servers(gateway + ONE_CHILD)
        httpd.expect_error("timed out waiting for credentials")
        assert httpd.fetch("/media/a.ts").status == 503
        sts.released.set()
        until(lambda: httpd.fetch("/media/a.ts").status == 200)


def test_an_sts_that_hangs_does_not_affect_other_sections(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    """Requests that cannot be signed do not occupy all threads."""
    with STS(Role()) as sts, ScriptedS3(then=lambda connection, request: connection.send(answer(200, DATA))) as s3:
        sts.fault = "hang"
        httpd = servers(
            both(s3, *role(sts, *OWN_KEYS))
            + f"WSGIScriptAlias /own ${{USP_S3_WSGI}}\n<Location /own>\nSetEnv S3BucketURL {s3.url}/b/\n"
            + "\n".join([*OWN_KEYS, "SetEnv S3Region r"])
            + "\n</Location>\n"
            + ONE_CHILD
        )
        httpd.expect_error("timed out waiting for credentials|botocore: ")
        assert httpd.fetch("/media/a.ts").status == 503  # after 5 seconds; later ones immediately
        with ThreadPoolExecutor(40) as pool:
            refused = [pool.submit(httpd.fetch, f"{BOTH[number % 2]}/a.ts") for number in range(200)]
            for _ in range(20):
                assert httpd.fetch("/own/a.ts").body == DATA
            assert {each.result().status for each in refused} == {503}


def test_a_wrong_role_does_not_affect_other_sections(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    other = "arn:aws:iam::123456789012:role/other"
    with STS(Role()) as sts, ScriptedS3(then=Guard(sts)) as s3:
        bad = [*OWN_KEYS, f"SetEnv S3RoleARN {other}", f"SetEnv S3STSEndpoint {sts.url}"]
        config = both(s3, *role(sts, *OWN_KEYS))
        for mount, lines in (("/bad", bad), ("/no-credentials", AWS)):
            body = "\n".join([f"SetEnv S3BucketURL {s3.url}/b/", "SetEnv S3Region eu-central-1", *lines])
            config += f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}}\n<Location {mount}>\n{body}\n</Location>\n"
        httpd = servers(config + ONE_CHILD)
        httpd.expect_error("usp_s3_wsgi: /(bad|no-credentials): ")
        for _ in range(2):
            assert httpd.fetch("/bad/a.ts").status == 503
            assert httpd.fetch("/no-credentials/a.ts").status == 503
            for mount in BOTH:
                assert httpd.fetch(f"{mount}/a.ts").body == DATA
        httpd.wait_for_error(rf"{other} \(S3CredentialSource static\): STS answered 403 AccessDenied")
        httpd.wait_for_error("S3CredentialSource aws: no AWS credentials found")


def test_a_subinterpreter_is_refused(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    """Python aborts a process whose subinterpreter ends while one of its threads runs."""
    with STS(Role()) as sts, ScriptedS3(then=Guard(sts)) as s3:
        httpd = servers(both(s3, *role(sts, *OWN_KEYS), alias="application-group=another") + ONE_CHILD)
        assert httpd.fetch("/media/a.ts").status == 500
        httpd.wait_for_error("roles and the identities of AWS need WSGIApplicationGroup")
        assert httpd.fetch("/proxied/a.ts").body == DATA


def test_daemons(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    alias = "process-group=s3 application-group=%{GLOBAL}"
    daemon = "WSGIDaemonProcess s3 python-home=${USP_S3_PYTHON_HOME} threads=8\n"
    with STS(Role()) as sts, ScriptedS3(then=(guard := Guard(sts))) as s3:
        sts.lifetime = 4
        httpd = servers(daemon + both(s3, *role(sts, *OWN_KEYS), alias=alias) + ONE_CHILD)
        with load(httpd) as seen:
            until(lambda: len(guard.used) >= 4)
        assert seen == {(mount, 200, DATA) for mount in BOTH}


def test_a_graceful_restart_under_load(aws: Aws, servers: Callable[[str], Httpd]) -> None:
    with STS(Role()) as sts, ScriptedS3(then=Guard(sts)) as s3:
        httpd = servers(both(s3, *role(sts, *OWN_KEYS)))
        with load(httpd) as seen:
            for _ in range(2):
                httpd.reload()
        assert seen == {(mount, 200, DATA) for mount in BOTH}


@pytest.mark.parametrize("mode", MODES)
def test_requester_pays_is_signed_in_each_mode(s3: EmbeddedS3, checked: list[Httpd], mode: str) -> None:
    """Swift ignores the header, but it checks the signature of all signed headers."""
    s3.put(BUCKET, "a.ts", DATA)
    pays = "SetEnv S3RequesterPays on"
    url = f"{s3.scheme}://{s3.host}/{BUCKET}"
    proxied = f"ProxyPass /proxied {url}\n" + proxy_section(f"{url}/", s3, pays, mode=mode)
    httpd = Httpd(section("/media", s3, pays, mode=mode) + proxied)
    checked.append(httpd)
    httpd.start()
    s3.clear()
    for mount in BOTH:
        assert httpd.fetch(f"{mount}/a.ts").body == DATA
    assert [entry["headers"].get("x-amz-request-payer") for entry in s3.requests()] == ["requester"] * 2


def test_requester_pays_is_a_signed_header(servers: Callable[[str], Httpd]) -> None:
    seen = threading.Event()

    def judge(connection: Connection, request: Request) -> None:
        names = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        assert request.headers["x-amz-request-payer"] == "requester" and "x-amz-request-payer" in names
        seen.set()
        connection.send(answer(200, DATA))

    with ScriptedS3(then=judge) as s3:
        httpd = servers(both(s3, *OWN_KEYS, "SetEnv S3RequesterPays on"))
        for mount in BOTH:
            seen.clear()
            assert httpd.fetch(f"{mount}/a.ts").body == DATA
            assert seen.is_set()
