"""Balancers of buckets: each attempt is signed for the member that gets it, with the member's keys and region."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.faults.server import ScriptedS3, answer, close, error
from tests.faults.server import first as send_first
from tests.httpd.conftest import MODES, NEEDS_SSL, PAGES, proxy_section
from tests.httpd.server import Httpd
from tests.httpd.test_examples import example
from tests.s3 import EmbeddedS3, User

EU = User("EUACCESSKEY", "eu-secret", ("films-eu",))
US = User("USACCESSKEY", "us-secret", ("films-us",))


@pytest.fixture
def eu() -> Iterator[EmbeddedS3]:
    with EmbeddedS3((), users=(EU,)) as server:
        server.put("films-eu", "a b.mp4", b"from europe")
        yield server


@pytest.fixture
def us(certificate: Certificate) -> Iterator[EmbeddedS3]:
    with EmbeddedS3((), users=(US,), region="us-west-2", tls=certificate) as server:
        server.put("films-us", "a b.mp4", b"from america")
        yield server


@pytest.fixture
def example_config(eu: EmbeddedS3, us: EmbeddedS3, certificate: Certificate) -> str:
    """proxy_balancer.conf, with one member over http and the other over https."""
    names = {
        "https://films-eu.s3.eu-central-1.amazonaws.com": f"{eu.url}/films-eu",
        "https://films-us.s3.us-west-2.amazonaws.com": f"https://localhost:{us.port}/films-us",
        "/etc/ssl/certs/ca-certificates.crt": str(certificate.root),
        "EU_ACCESS_KEY": EU.access_key,
        "EU_SECRET_KEY": EU.secret_key,
        "US_ACCESS_KEY": US.access_key,
        "US_SECRET_KEY": US.secret_key,
    }
    return example("proxy_balancer.conf", eu, **names)


@NEEDS_SSL
def test_a_request_is_sent_to_the_other_member_if_one_is_down(
    example_config: str, checked: list[Httpd], eu: EmbeddedS3, us: EmbeddedS3
) -> None:
    httpd = Httpd(example_config)
    checked.append(httpd)
    httpd.start()
    for _ in range(3):
        assert httpd.fetch("/films/a%20b.mp4").body == b"from europe"
    assert eu.requests()[-1]["headers"]["authorization"] == "AWS4-HMAC-SHA256"
    eu.stop()
    httpd.expect_error("AH00957|AH00959|AH01114|AH01102")
    for _ in range(3):
        reply = httpd.fetch("/films/a%20b.mp4")
        assert (reply.status, reply.body) == (200, b"from america")
    assert "Signature=" in us.requests()[-1]["target"]


@NEEDS_SSL
def test_a_member_that_rejects_the_key_is_not_used_for_the_next_request(
    example_config: str, checked: list[Httpd], eu: EmbeddedS3
) -> None:
    httpd = Httpd(example_config.replace(EU.secret_key, "revoked"))
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/films/a%20b.mp4").status == 502
    httpd.wait_for_error(
        r"usp_s3_wsgi: S3 answered 403 SignatureDoesNotMatch.* \(GET .*/films-eu/a%20b.mp4, attempt 1, "
    )
    httpd.expect_error("AH01174.*due to status code 502")
    for _ in range(3):
        assert httpd.fetch("/films/a%20b.mp4").body == b"from america"


@NEEDS_SSL
def test_errors_of_clients_do_not_disable_a_member(example_config: str, checked: list[Httpd], eu: EmbeddedS3) -> None:
    httpd = Httpd(example_config.replace("502,503,504", "400,404,405,502,503,504"))
    checked.append(httpd)
    httpd.start()
    for target, method, status in (
        ("/films/x/../a", "GET", 400),
        ("/films/", "GET", 404),
        ("/films", "GET", 404),
        ("/films/a%20b.mp4", "PUT", 405),
    ):
        assert httpd.fetch(target, method=method).status == status
    assert httpd.fetch("/films/a%20b.mp4").body == b"from europe"


@pytest.mark.parametrize("style", ["path", "host"])
def test_members_with_different_signing_modes(
    style: str, s3: EmbeddedS3, localhost_names: Path, checked: list[Httpd], us: EmbeddedS3, eu: EmbeddedS3
) -> None:
    """Main requests and subrequests, for each pair of modes."""
    lines, members = [PAGES], []
    for number, (first, second) in enumerate(product(MODES, repeat=2)):
        urls = [f"{eu.url}/films-eu/{number}", f"{s3.url}/private/{number}"]
        if style == "host":
            urls = [f"http://films-eu.{eu.domain}:{eu.port}/{number}", f"http://private.{s3.domain}:{s3.port}/{number}"]
        names = ["SetEnv S3Bucket films-eu", "SetEnv S3Bucket private"] if style == "host" else ["", ""]
        keys = [f"SetEnv S3AccessKey {EU.access_key}\nSetEnv S3SecretKey {EU.secret_key}", ""]
        for url, server, mode, name, key in zip(urls, (eu, s3), (first, second), names, keys, strict=True):
            lines.append(proxy_section(f"{url}/", server, key, name, mode=mode))
        members = [f"BalancerMember {url}" for url in urls]
        lines += [f'<Proxy "balancer://b{number}">', *members, "</Proxy>", f"ProxyPass /b{number} balancer://b{number}"]
        eu.put("films-eu", f"{number}/a b+c", b"shared")
        s3.put("private", f"{number}/a b+c", b"shared")
    httpd = Httpd("\n".join(lines), preload=localhost_names)
    checked.append(httpd)
    httpd.start()
    for number in range(len(MODES) ** 2):
        include = f'<!--#include virtual="/b{number}/a%20b+c" -->'
        (httpd.root / "htdocs" / "page").write_text(include * 2)
        for server in (eu, s3):
            server.clear()
        assert [httpd.fetch(f"/b{number}/a%20b%2Bc").body for _ in range(4)] == [b"shared"] * 4
        assert httpd.fetch("/page").body == b"sharedshared"
        assert len(eu.requests()) and len(s3.requests())


def balancer_name(statuses: str) -> str:
    return "on-" + statuses.replace(",", "-")


def fail_on(statuses: str, first: str, second: str) -> str:
    """A balancer with failonstatus, at its own path, which uses the first member and then the second."""
    name = balancer_name(statuses)
    members = f"BalancerMember {first} retry=600\nBalancerMember {second}"
    return (
        f'<Proxy "balancer://{name}">\n{members}\nProxySet failonstatus={statuses}\n</Proxy>\n'
        f"ProxyPass /{name} balancer://{name}\n"
    )


def four_statuses(httpd: Httpd, statuses: str, key: str = "a") -> list[int]:
    """The statuses of four requests to the balancer, one after the other."""
    return [httpd.fetch(f"/{balancer_name(statuses)}/{key}").status for _ in range(4)]


@pytest.mark.parametrize("key", ["a b.mp4", "only-in-the-second.mp4"])
def test_failonstatus_matches_s3s_status_and_the_clients(
    key: str, eu: EmbeddedS3, s3: EmbeddedS3, checked: list[Httpd]
) -> None:
    first, second = f"{eu.url}/films-eu", f"{s3.url}/private"
    s3.put("private", key, b"from the second")
    lists = {"403": True, "502": True, "403,404": True, "403,502": True, "404,500,503": False}
    keys = f"SetEnv S3AccessKey {EU.access_key}\nSetEnv S3SecretKey revoked"
    sections = proxy_section(f"{first}/", eu, keys) + proxy_section(second, s3)
    httpd = Httpd(sections + "".join(fail_on(statuses, first, second) for statuses in lists))
    checked.append(httpd)
    httpd.start()
    httpd.expect_error("usp_s3_wsgi: S3 answered 403 SignatureDoesNotMatch|AH01174")
    for statuses, is_disabled in lists.items():
        got = four_statuses(httpd, statuses, key.replace(" ", "%20"))
        assert got == ([502, 200, 200, 200] if is_disabled else [502, 200] * 2), statuses


def test_a_missing_object_does_not_disable_a_member(eu: EmbeddedS3, s3: EmbeddedS3, checked: list[Httpd]) -> None:
    first, second = f"{eu.url}/films-eu", f"{s3.url}/private"
    s3.put("private", "absent", b"from the second")
    keys = f"SetEnv S3AccessKey {EU.access_key}\nSetEnv S3SecretKey {EU.secret_key}"
    sections = proxy_section(f"{first}/", eu, keys) + proxy_section(second, s3)
    httpd = Httpd(sections + "".join(fail_on(statuses, first, second) for statuses in ("403,502", "404")))
    checked.append(httpd)
    httpd.start()
    assert four_statuses(httpd, "403,502", "absent") == [404, 200] * 2
    assert four_statuses(httpd, "404", "absent") == [404, 200, 200, 200]
    httpd.wait_for_error("AH01174.*due to status code 404")


@pytest.mark.parametrize("denied_as_404", [False, True])
@pytest.mark.parametrize(("statuses", "is_disabled"), [("502", False), ("500,502,503,504", False), ("403", True)])
def test_a_denied_object_disables_a_member_by_its_own_status_only(
    statuses: str, is_disabled: bool, denied_as_404: bool, s3: EmbeddedS3, checked: list[Httpd]
) -> None:
    """failonstatus=403 disables the member, except with S3DeniedStatus 404."""
    second = f"{s3.url}/private"
    s3.put("private", "a", b"from the second")
    with ScriptedS3(then=error(403, "AccessDenied")) as denying:
        first = f"{denying.url}/bucket"
        line = "SetEnv S3DeniedStatus 404" if denied_as_404 else ""
        sections = proxy_section(f"{first}/", s3, line) + proxy_section(second, s3)
        httpd = Httpd(sections + fail_on(statuses, first, second))
        checked.append(httpd)
        httpd.start()
        status = 404 if denied_as_404 else 403
        alternating = denied_as_404 or not is_disabled
        assert four_statuses(httpd, statuses) == ([status, 200] * 2 if alternating else [status, 200, 200, 200])
    httpd.expect_error("AH01174.*due to status code 403")


LONG = b"<Error><Code>SignatureDoesNotMatch</Code></Error>" + b" " * 100_000
FAILURES = {
    "internal": (error(500, "InternalError"), "500", 503),
    "internal, the client's status": (error(500, "InternalError"), "503", 503),
    "expired token": (error(400, "ExpiredToken"), "400", 502),
    "expired token, as 403": (error(400, "ExpiredToken"), "403", 502),
    "expired token, the client's status": (error(400, "ExpiredToken"), "502", 502),
    "long": (answer(403, LONG), "502", 502),
    "long, S3's status": (answer(403, LONG), "403", 502),
    "not http": (send_first(b"SSH-2.0-OpenSSH_9.2\r\n", close), "502", 502),
    "no length": (send_first(answer(200, b"part", length=None), close), "502", 502),
}


@pytest.mark.parametrize("name", FAILURES)
def test_other_failures_disable_a_member(name: str, s3: EmbeddedS3, checked: list[Httpd]) -> None:
    step, statuses, status = FAILURES[name]
    second = f"{s3.url}/private"
    s3.put("private", "a", b"from the second")
    with ScriptedS3(step) as member:
        sections = proxy_section(f"{member.url}/bucket/", s3) + proxy_section(second, s3)
        httpd = Httpd(sections + fail_on(statuses, f"{member.url}/bucket", second))
        checked.append(httpd)
        httpd.start()
        httpd.expect_error(f"usp_s3_wsgi: |AH01174.*due to status code {statuses}|AH01110|AH01102")
        assert four_statuses(httpd, statuses) == [status, 200, 200, 200]
