"""usp-s3 check: what it says of each planted fault, without httpd; tests/httpd/test_cli_check.py runs the command."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.certificates import make_certificate
from tests.configurations import configtest_input
from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, close, error, head_of
from tests.httpd.conftest import BUCKET, MODES, section
from tests.httpd.machine import readable_folder
from tests.httpd.planted import PLANTS, configuration
from tests.s3 import EmbeddedS3
from usp_s3_wsgi import configtest
from usp_s3_wsgi.cli import console
from usp_s3_wsgi.cli.check import command, network, permissions, separate_user, tls_settings
from usp_s3_wsgi.cli.check.bucket_checks import Options
from usp_s3_wsgi.cli.check.result import BucketReport, Verdict
from usp_s3_wsgi.cli.check.s3_requests import BucketRequests
from usp_s3_wsgi.cli.main import main
from usp_s3_wsgi.cli.server import httpd_config
from usp_s3_wsgi.cli.server.proxy_tls import ProxyTLS
from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest import parsed_config
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.status.explanations import Explanations
from usp_s3_wsgi.transport.pool import pool_manager

ERRORS = Explanations.from_file(Path(__file__).parents[2] / "docs" / "errors.md")


@pytest.fixture(scope="module")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3([BUCKET]) as server:
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    with readable_folder() as path:
        yield path


class Named(NamedTuple):
    """What names a fault: the check, words of its text, words of what to change."""

    check: str
    text: str
    action: str


#: For each fault: what names it at a mount of the gateway, and in a <Proxy> section if that is something else.
FAULTS: dict[str, tuple[Named, ...]] = {
    "wrong key": (Named("signed request", "SignatureDoesNotMatch", "secret key"),),
    "wrong region": (Named("signed request", "S3 accepts eu-central-1", "Set S3Region to eu-central-1"),),
    "slow clock": (Named("clock", " s behind S3's: signatures are not valid", "correct this server's clock"),),
    "missing permission": (Named("signed request", "accepted, but S3 denies", "s3:GetObject"),),
    "unreadable secret": (Named("files", "missing: the file cannot be read: No such", "Give Apache's group access"),),
    "closed port": (Named("connection", "Connection refused", "firewall"),),
    "expired certificate": (Named("TLS", "the certificate expired on", "renew it"),),
    "throttling": (Named("signed request", "SlowDown, twice: S3 throttles", "cache in front"),),
    "unknown access key": (Named("signed request", "S3 answered 403 SignatureDoesNotMatch", "access key"),),
    "missing bucket": (Named("signed request", "has no bucket nosuch", "Correct the bucket"),),
    "unknown name": (Named("name", "no-such-host.invalid has no address", "DNS"),),
    "certificate for another name": (Named("TLS", "is not for localhost: it is for films.example", "write a name"),),
    "unknown authority": (
        Named("TLS", "an authority that is not trusted: Test Intermediate 2", "set S3CAFile"),
        Named("TLS", "an authority that is not trusted: Test Intermediate 2", "SSLProxyCACertificateFile"),
    ),
    "http to a TLS port": (Named("signed request", "speaks TLS", "write https://"),),
    "https to a plain port": (Named("TLS", "does not speak TLS", "write http://"),),
    "page of a proxy": (Named("signed request", "with a page that is not S3's", "proxy or firewall"),),
    "expired token": (Named("signed request", "ExpiredToken", "token"),),
    "another endpoint": (Named("signed request", "the bucket is in region eu-west-3", "set S3Region eu-west-3"),),
    "no answer": (Named("signed request", "no response within 1 s", "S3"),),
    "reset": (Named("signed request", "Connection reset by peer", ""),),
}


def reports(config: str, *names: str, **options: Any) -> list[BucketReport]:
    """Check the buckets of a configuration in this process."""
    parsed = parsed_config.parse(configtest_input(config))
    values = list(command.check_all(names, Options(parsed, ERRORS, **options)))
    assert "configuration" in values[0]
    return [BucketReport.from_dict(value) for value in values[1:]]


#: All but what needs another clock, and a setting of the gateway.
CASES = [(name, mount) for name in FAULTS if name != "slow clock" for mount in ("/embedded", "/proxied")]
CASES.remove(("no answer", "/proxied"))


@pytest.mark.parametrize(("name", "mount"), CASES)
def test_a_planted_fault_is_named(s3: EmbeddedS3, folder: Path, name: str, mount: str) -> None:
    named = FAULTS[name][-1 if mount == "/proxied" else 0]
    with PLANTS[name](s3, folder) as bucket:
        (report,) = reports(configuration(bucket, s3, mount))
    (result,) = [one for one in report.results if one.check == named.check]
    assert named.text in result.text and named.action in result.action, result
    assert report.verdict is (Verdict.LOOK if name == "missing permission" else Verdict.WRONG)


# --- what is fine, and what should be looked at


def results(report: BucketReport) -> dict[str, tuple[Verdict, str]]:
    return {one.check: (one.verdict, one.text) for one in report.results}


def bucket(url: str, *lines: str) -> str:
    body = "\n".join([f"SetEnv S3BucketURL {url}/{BUCKET}/", "SetEnv S3AccessKey AK", "SetEnv S3SecretKey SK", *lines])
    return f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\n{body}\nSetEnv S3Region r\n</Location>\n"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", ["", "film/1 ü+%25.mp4"])
def test_a_bucket_without_faults(s3: EmbeddedS3, mode: str, key: str) -> None:
    s3.put(BUCKET, "film/1 ü+%.mp4", b"film")
    before = len(s3.requests())
    (report,) = reports(section("/media", s3, mode=mode), key=key)
    found = results(report)
    assert found["signed request"] == (
        Verdict.FINE, "accepted" if key else "accepted (404 for a key that no object has; --key names one)"
    )  # fmt: skip
    assert found["kept connection"][0] is found["clock"][0] is found["HEAD"][0] is Verdict.FINE
    # The embedded S3's keys may do all: they should not.
    assert found["may list"][0] is Verdict.FINE and found["may write"][0] is Verdict.LOOK
    assert report.verdict is Verdict.LOOK
    methods = [request["method"] for request in s3.requests()[before:]]
    assert methods.count("PUT") <= 2 and set(methods) <= {"GET", "HEAD", "PUT"}


def test_trying_to_write_stores_nothing(s3: EmbeddedS3) -> None:
    configuration = parsed_config.parse(configtest_input(section("/media", s3)))
    chosen = configtest.check(configuration).buckets[0].settings
    assert isinstance(chosen, Settings)
    settings = chosen
    requests = BucketRequests(settings, resolver.resolve(settings))

    def listing() -> bytes:
        request = requests.bucket_request("GET", ())
        signed = sign(request, settings.signing, requests.credentials, datetime.now(UTC))
        response = pool_manager.pool_for(settings).send(signed)
        return b"".join(iter(lambda: response.read1(65_536), b""))

    before = listing()
    assert b"<ListBucketResult" in before
    assert permissions.check_write(requests).verdict is Verdict.LOOK
    assert listing() == before


def http_date(seconds: float) -> str:
    """The date of a clock that is ahead by that."""
    return formatdate(time.time() + seconds, usegmt=True)


def dated(seconds: float) -> Step:
    """Answer with the date of a clock that is ahead by that, when the request comes."""

    def step(connection: Connection, request: Request) -> None:
        connection.send(answer(206, b"x", ("Content-Range", "bytes 0-0/5"), ("Date", http_date(seconds))))

    return step


OBJECT = answer(206, b"x", ("Content-Range", "bytes 0-0/5"))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def is_for(request: Request) -> str:
    """What the request of a check is for."""
    if request.method == "GET":
        return "list" if "list-type=2" in request.target else "object"
    return {"HEAD": "head", "PUT": "write"}[request.method]


def s3_that(**steps: Step) -> ScriptedS3:
    """An S3 with these answers, and those of one without faults for all else."""
    return _scripted(steps, checks_signatures=True)


def _scripted(steps: dict[str, Step], checks_signatures: bool) -> ScriptedS3:
    usual: dict[str, Step] = {
        "object": OBJECT, "head": head_of(answer(200, b"12345")), "list": error(403, "AccessDenied"),
        "write": error(403, "AccessDenied"),
    }  # fmt: skip

    accepted: list[str] = []

    def step(connection: Connection, request: Request) -> None:
        chosen = (usual | steps)[is_for(request)]
        if is_for(request) == "object" and isinstance(chosen, bytes) and chosen[9:12] in {b"200", b"206", b"416"}:
            # The second request is signed with a wrong secret key.
            chosen = error(403, "SignatureDoesNotMatch") if accepted and checks_signatures else chosen
            accepted.append(request.target)
        if isinstance(chosen, bytes):
            connection.send(chosen)
        else:
            chosen(connection, request)

    return ScriptedS3(then=step)


def rejects_wrong_signatures(connection: Connection, request: Request) -> None:
    """Ask for a body after the first signature only: as a server that knows it is the right one."""
    seen.append(request.headers["authorization"].rpartition("=")[2])
    connection.send(CONTINUE if len(seen) == 1 else error(403, "SignatureDoesNotMatch"))


seen: list[str] = []

#: Steps of S3, and the result of a check.
LOOKED_AT: dict[str, tuple[dict[str, Step], str, Verdict, str]] = {
    "may write": ({"write": rejects_wrong_signatures}, "may write", Verdict.LOOK, "yes, which this server never needs"),
    "may not write": ({}, "may write", Verdict.FINE, "no"),
    "asks for any body": ({"write": CONTINUE}, "may write", Verdict.NOT_TESTED, "asks for a body before it checks"),
    "no upload": ({"write": error(501, "NotImplemented")}, "may write", Verdict.NOT_TESTED, "S3 answered 501"),
    "closes at an upload": ({"write": close}, "may write", Verdict.NOT_TESTED, "no answer to the header of an upload"),
    "may not list": ({}, "may list", Verdict.FINE, "no"),
    "may list": ({"list": answer(200, b"<ListBucketResult/>")}, "may list", Verdict.FINE, "missing objects get 404"),
    "no listing": ({"list": error(501, "NotImplemented")}, "may list", Verdict.NOT_TESTED, "501 to a listing"),
    "broken listing": ({"list": close}, "may list", Verdict.NOT_TESTED, "closed the connection"),
    "no range": ({"object": answer(200, b"12345")}, "signed request", Verdict.LOOK, "ignores Range"),
    "empty object": ({"object": error(416, "InvalidRange")}, "signed request", Verdict.FINE, "accepted"),
    "no HEAD": ({"head": head_of(error(405, "MethodNotAllowed"))}, "HEAD", Verdict.WRONG, "405 to HEAD, and 206"),
    "broken HEAD": ({"head": close}, "HEAD", Verdict.WRONG, "closed the connection"),
    "no keep-alive": (
        {"object": answer(206, b"x", ("Content-Range", "bytes 0-0/5"), ("Connection", "close"))},
        "kept connection", Verdict.LOOK, "closes the connection",
    ),
    "no date": ({}, "clock", Verdict.NOT_TESTED, "no date"),
    "clock": (
        {"object": dated(+100)},
        "clock", Verdict.LOOK, "s behind S3's: signatures are still valid",
    ),
    "fast clock": (
        {"object": dated(-1200)},
        "clock", Verdict.WRONG, "s ahead of S3's: signatures are not valid",
    ),
    "no object": ({"object": error(404, "NoSuchKey")}, "signed request", Verdict.WRONG, "there is no object http://"),
    "denied": ({"object": error(403, "AccessDenied")}, "signed request", Verdict.WRONG, "wrong, or have no permission"),
    "page of a failing proxy": (
        {"object": answer(502, b"<html>Bad Gateway</html>")}, "signed request", Verdict.WRONG, "twice, with a page",
    ),
    "no text": ({"object": answer(404, b"")}, "signed request", Verdict.LOOK, "without a code or a request id"),
    "range with status 200": (
        {"object": answer(200, b"x", ("Content-Range", "bytes 0-0/5"))},
        "signed request", Verdict.FINE, "accepted",
    ),
    "page": ({"object": answer(404, b"<html>")}, "signed request", Verdict.WRONG, "a page that is not S3's"),
    "failing": ({"object": error(500, "InternalError")}, "signed request", Verdict.WRONG, "twice: S3 fails"),
    "redirect": ({"object": error(307, "TemporaryRedirect")}, "signed request", Verdict.WRONG, "at another endpoint"),
    "other error": ({"object": error(400, "Strange")}, "signed request", Verdict.WRONG, "400 Strange: S3 rejects"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOKED_AT)
def test_what_a_server_does(name: str) -> None:
    steps, check, verdict, text = LOOKED_AT[name]
    seen.clear()
    with s3_that(**steps) as server:
        (report,) = reports(bucket(server.url), key="film.mp4")
    found = results(report)[check]
    assert found[0] is verdict and text in found[1]
    assert all("Signature" not in one.text or "SignatureDoes" in one.text or one.check == "settings"
               for one in report.results)  # fmt: skip
    assert len(set(seen)) == len(seen)


def test_the_body_of_an_upload_is_never_sent() -> None:
    with s3_that(write=rejects_wrong_signatures) as server:
        seen.clear()
        reports(bucket(server.url))
    (first, second) = [request for request in server.requests if request.method == "PUT"]
    assert first.headers["expect"] == "100-continue" and int(first.headers["content-length"]) > 0
    # The hash of a body that nobody has: an empty or a truncated one does not match.
    assert len(first.headers["x-amz-content-sha256"]) == 64 and first.headers["content-md5"]
    assert first.headers["x-amz-content-sha256"] != hashlib.sha256(b"").hexdigest()
    assert first.target == second.target and "usp-s3-check-" in first.target


def test_connections_that_are_never_reused() -> None:
    with s3_that() as server:
        (report,) = reports(bucket(server.url, 'SetEnv S3ProxySet "enablereuse=off"'))
    assert results(report)["kept connection"] == (
        Verdict.NOT_TESTED, "enablereuse=off in S3ProxySet: each request makes a new connection"
    )  # fmt: skip


@pytest.mark.parametrize(("days", "verdict"), [(30, Verdict.FINE), (5, Verdict.LOOK)])
def test_the_days_that_a_certificate_is_valid(s3: EmbeddedS3, folder: Path, days: int, verdict: Verdict) -> None:
    certificate = make_certificate(folder, days=days)
    with EmbeddedS3([BUCKET], tls=certificate) as s3_tls:
        (report,) = reports(section("/media", s3_tls, f"SetEnv S3CAFile {certificate.root}"))
    found = results(report)["TLS"]
    assert found[0] is verdict and f"valid for {days - 1} days" in found[1] and "TLSv1.3" in found[1]


SSL_PROXY = {
    "": "SSLProxyEngine is off",
    "SSLProxyEngine on": "mod_ssl accepts a certificate of any authority",
    "SSLProxyEngine on\nSSLProxyVerify require": "SSLProxyVerifyDepth 1 rejects",
    "SSLProxyEngine on\nSSLProxyVerify require\nSSLProxyVerifyDepth 10": "mod_ssl trusts no authority",
}


@pytest.mark.parametrize("place", ["server", "section"])
@pytest.mark.parametrize("lines", SSL_PROXY)
def test_the_directives_of_mod_ssl(lines: str, place: str) -> None:
    inner, outer = (lines, "") if place == "section" else ("", lines)
    keys = "SetEnv S3AccessKey AK\nSetEnv S3SecretKey SK\nSetEnv S3Region r"
    config = f"{outer}\nProxyPass /p https://127.0.0.1:1/b\n<Proxy https://127.0.0.1:1/b/>\n{keys}\n{inner}\n</Proxy>\n"
    parsed = parsed_config.parse(configtest_input(config))
    (use,) = configtest.check(parsed).buckets
    assert isinstance(use.settings, Settings)
    found = list(tls_settings.check(ProxyTLS(parsed, use.place), use.settings.bucket_url))
    assert any(SSL_PROXY[lines] in one.text for one in found)
    if lines:
        assert any("does not compare the addresses" in one.text for one in found)


def test_the_fallback_bucket_is_checked(s3: EmbeddedS3) -> None:
    primary, fallback = reports(section("/media", s3, f"SetEnv S3FallbackURL {s3.url}/nosuch/"))
    assert (primary.is_fallback, fallback.is_fallback) == (False, True)
    assert (primary.verdict, fallback.verdict) == (Verdict.LOOK, Verdict.WRONG)
    assert "has no bucket nosuch" in results(fallback)["signed request"][1]


def test_the_setting_that_names_the_authority_of_the_fallback_bucket(s3: EmbeddedS3, folder: Path) -> None:
    with ScriptedS3(tls=make_certificate(folder)) as copy:
        _, fallback = reports(section("/media", s3, f"SetEnv S3FallbackURL https://localhost:{copy.port}/b/"))
    (found,) = [one for one in fallback.results if one.check == "TLS"]
    assert "set S3FallbackCAFile to the PEM file" in found.action


def test_the_root_is_no_part_of_each_finding() -> None:
    unused = "<Proxy http://127.0.0.1:2/b/>\nSetEnv S3Region r\n</Proxy>\n"
    config = bucket("http://127.0.0.1:1").replace("/media", "/") + unused
    options = Options(parsed_config.parse(configtest_input(config)), ERRORS)
    first, report = command.check_all(("/",), options)
    assert first == {"configuration": []} and BucketReport.from_dict(report).place == "/"
    (first, _) = command.check_all((), options)
    assert "no request matches this section" in first["configuration"][0]["text"]


def test_settings_that_are_not_valid_are_not_tried() -> None:
    (report,) = reports(bucket("http://127.0.0.1:1", "SetEnv S3Retries many"))
    assert report.verdict is Verdict.WRONG and [one.check for one in report.results] == ["settings"]
    (report,) = reports("WSGIScriptAlias /m ${USP_S3_WSGI}\n<Location /m>\nSetEnv S3Region r\n</Location>\n")
    assert "S3BucketURL is not set" in report.results[0].text


def test_what_is_wrong_with_the_configuration_itself() -> None:
    config = bucket("http://127.0.0.1:1") + "<Location /unused>\nSetEnv S3Region r\n</Location>\n"
    values = list(command.check_all((), Options(parsed_config.parse(configtest_input(config)), ERRORS)))
    (finding,) = values[0]["configuration"]
    assert finding["verdict"] == "look" and "not used" in finding["text"] and finding["details"]
    # Not, if one bucket is named.
    values = list(command.check_all(("/media",), Options(parsed_config.parse(configtest_input(config)), ERRORS)))
    assert values[0]["configuration"] == []


@pytest.mark.parametrize("name", ["/media", "/media/", BUCKET, "127.0.0.1:1", f"http://127.0.0.1:1/{BUCKET}"])
def test_a_bucket_is_named(name: str) -> None:
    other = bucket("http://127.0.0.2:1").replace("/media", "/other").replace(BUCKET, "else")
    (report,) = reports(bucket("http://127.0.0.1:1") + other, name)
    assert report.place == "/media"


def test_a_name_that_no_bucket_has() -> None:
    options = Options(parsed_config.parse(configtest_input(bucket("http://127.0.0.1:1"))), ERRORS)
    (value,) = command.check_all(("/elsewhere",), options)
    assert value["error"].endswith("there are:\n  /media")


def test_a_server_that_checks_no_signature() -> None:
    with _scripted({}, checks_signatures=False) as server:
        (report,) = reports(bucket(server.url), key="film.mp4")
    verdict, text = results(report)["signed request"]
    assert verdict is Verdict.LOOK and "a wrong signature gets the same answer" in text
    targets = [request.target for request in server.requests if is_for(request) == "object"]
    assert len(targets) == 2


def test_keys_that_may_not_list_deny_missing_objects() -> None:
    with s3_that(object=error(403, "AccessDenied")) as server:
        (report,) = reports(bucket(server.url))
    # This server denies everything, so that nothing is known of the permission to list.
    assert results(report)["signed request"][0] is Verdict.WRONG
    with ScriptedS3(then=error(403, "AccessDenied")) as server:
        parsed = parsed_config.parse(configtest_input(bucket(server.url)))
        chosen = configtest.check(parsed).buckets[0].settings
        assert isinstance(chosen, Settings)
        requests = BucketRequests(chosen, resolver.resolve(chosen))
        found = permissions.check_list(requests, is_missing_denied=True)
    assert found.verdict is Verdict.LOOK and "403 also for objects that do not exist" in found.text


def test_keys_below_a_prefix_are_listed_there() -> None:
    with s3_that() as server:
        reports(bucket(f"{server.url}").replace(f"/{BUCKET}/", f"/{BUCKET}/films 1/a/".replace(" ", "%20")))
    (request,) = [one for one in server.requests if "list-type" in one.target]
    assert request.target.startswith(f"/{BUCKET}?") and "prefix=films%201%2Fa%2F" in request.target


def test_a_key_of_another_bucket_is_no_error() -> None:
    with s3_that(object=error(404, "NoSuchKey")) as server:
        other = bucket(server.url).replace("/media", "/other").replace(f"/{BUCKET}/", "/else/")
        both = reports(bucket(server.url) + other, key="film.mp4")
        (one,) = reports(bucket(server.url) + other, "/other", key="film.mp4")
    assert [results(report)["signed request"][0] for report in both] == [Verdict.LOOK, Verdict.LOOK]
    assert results(one)["signed request"][0] is Verdict.WRONG


def test_an_object_of_the_fallback_bucket() -> None:
    with s3_that(object=error(404, "NoSuchKey")) as server, ScriptedS3(then=answer(206, b"x")) as httpd:
        lines = f"SetEnv S3FallbackURL {server.url}/copy/", "SetEnv S3FallbackOn404 on"
        config = f"Listen 127.0.0.1:{httpd.port}\n{bucket(server.url, *lines)}"
        primary, _ = reports(config, key="film.mp4")
    assert results(primary)["signed request"][0] is Verdict.LOOK
    assert results(primary)["through httpd"] == (
        Verdict.FINE, f"http://127.0.0.1:{httpd.port}/media: 206, from the fallback bucket"
    )  # fmt: skip


def test_addresses_of_a_family_that_this_machine_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        usable = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        # Documentation addresses: RFC 3849 and RFC 5737. There is no route to the first one.
        other = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [other, usable])
        real = socket.socket.connect

        def connect(self: socket.socket, address: tuple[object, ...]) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(errno.ENETUNREACH, "Network is unreachable")
            real(self, address)

        monkeypatch.setattr(socket.socket, "connect", connect)
        _, connection = network.check(bucket_url.parse(f"http://host.example:{port}/b/"), 1.0)
    assert connection.verdict is Verdict.FINE


@pytest.mark.parametrize(
    ("path", "url", "is_wrong"),
    [("/p", "/b/", True), ("/p/", "/b", True), ("/p", "/b", False), ("/p/", "/b/", False)],
)
def test_a_slash_at_one_end_of_proxypass_only(path: str, url: str, is_wrong: bool) -> None:
    keys = "SetEnv S3AccessKey AK\nSetEnv S3SecretKey SK\nSetEnv S3Region r"
    config = f'ProxyPass "{path}" "http://127.0.0.1:1{url}"\n<Proxy "http://127.0.0.1:1/b/">\n{keys}\n</Proxy>\n'
    (report,) = reports(config)
    assert any("a slash at one end only" in one.text for one in report.results) is is_wrong
    assert report.place == path


def test_a_section_that_no_request_matches() -> None:
    keys = "SetEnv S3AccessKey AK\nSetEnv S3SecretKey SK\nSetEnv S3Region r"
    config = f"ProxyPass /p http://localhost:1/b\n<Proxy http://127.0.0.1:1/b/>\n{keys}\n</Proxy>\n"
    options = Options(parsed_config.parse(configtest_input(config + "ProxyPass /q http://localhost:1/b\n")), ERRORS)
    values = list(command.check_all((), options))
    assert [one["verdict"] for one in values[0]["configuration"]] in (["wrong"], ["look"])


def test_only_root_can_say_what_httpds_children_can_read(
    s3: EmbeddedS3, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "secret").write_text(s3.secret_key)
    config = section("/media", s3).replace(f"S3SecretKey {s3.secret_key}", f"S3SecretKeyFile {folder}/secret")
    parsed = parsed_config.parse(configtest_input(config))
    parsed.is_test = True
    monkeypatch.setattr(os, "getuid", lambda: parsed.uid + 1)
    _, value = command.check_all((), Options(parsed, ERRORS))
    found = results(BucketReport.from_dict(value))
    assert found["files"] == (Verdict.NOT_TESTED, "only root can become the user of httpd's children: run it as root")


# --- through httpd


def test_a_missing_object_proves_nothing_of_httpd() -> None:
    """httpd answers 404 to paths that it does not have, too, but not with the gateway's text."""
    for body, headers, verdict in (
        (b"<html>Not Found</html>", ("Content-Type", "text/html"), Verdict.NOT_TESTED),
        (b"404 Not Found\n", ("Content-Type", "text/plain; charset=utf-8"), Verdict.FINE),
    ):
        with s3_that(object=error(404, "NoSuchKey")) as server, ScriptedS3(then=answer(404, body, headers)) as httpd:
            (report,) = reports(f"Listen 127.0.0.1:{httpd.port}\n{bucket(server.url)}")
        assert results(report)["through httpd"][0] is verdict


def test_through_httpd() -> None:
    """Another server is in httpd's place, and answers as one of its directives would."""
    for status, verdict, words in (
        (206, Verdict.FINE, "206, as S3 itself"),
        (404, Verdict.WRONG, "404, but S3 has the object"),
        (401, Verdict.LOOK, "401, but S3 itself answers 206"),
        (302, Verdict.LOOK, "redirects"),
        (502, Verdict.WRONG, "502, but S3 itself answers 206"),
    ):
        with s3_that() as server, ScriptedS3(then=answer(status, b"x")) as httpd:
            config = f"Listen 127.0.0.1:{httpd.port}\nServerName films.example\n{bucket(server.url)}"
            (report,) = reports(config, key="film 1.mp4")
        found = results(report)["through httpd"]
        assert found[0] is verdict and words in found[1], found
        (request,) = httpd.requests
        assert (request.method, request.target) == ("GET", "/media/film%201.mp4")
        assert request.headers["host"] == f"films.example:{httpd.port}" and request.headers["range"] == "bytes=0-0"


def test_through_httpd_with_tls(folder: Path) -> None:
    certificate = make_certificate(folder, "DNS:other.example")
    with s3_that() as server, ScriptedS3(then=answer(206, b"x"), tls=certificate) as httpd:
        listen = f"Listen 127.0.0.1:{httpd.port} https\nServerName films.example\n"
        (report,) = reports(listen + bucket(server.url), key="film.mp4")
    assert results(report)["through httpd"] == (
        Verdict.FINE,
        f"https://films.example:{httpd.port}/media: 206, as S3 itself",
    )
    assert httpd.server_names == ["films.example"]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(206, Verdict.FINE), (404, Verdict.LOOK), (403, Verdict.LOOK), (500, Verdict.WRONG), (0, Verdict.NOT_TESTED)],
)
def test_a_path_whose_bucket_a_map_names(status: int, verdict: Verdict) -> None:
    step = answer(status, b"x") if status else close
    config = "SetEnvIf Host x S3BucketURL=http://x/y/\nWSGIScriptAlias /many ${USP_S3_WSGI}\n"
    with ScriptedS3(then=step) as httpd:
        (report,) = reports(f"Listen 127.0.0.1:{httpd.port}\n{config}", paths=("/many/a/1.ts",))
    assert results(report)["through httpd"][0] is verdict
    assert {request.target for request in httpd.requests} == {"/many/a/1.ts"}


def test_a_server_that_listens_nowhere() -> None:
    with s3_that() as server:
        (report,) = reports(bucket(server.url))
    assert results(report)["through httpd"][0] is Verdict.NOT_TESTED


# --- the command, without another process


RunCheck = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCheck:
    def run(config: str, *arguments: str) -> tuple[int, str, str]:
        parsed = parsed_config.parse(configtest_input(config))
        monkeypatch.setattr(httpd_config, "read", lambda httpd: parsed)
        monkeypatch.setattr(separate_user, "run", lambda configuration, function: function())
        console.output.cache_clear()
        status = main(["check", *arguments])
        console.output.cache_clear()
        return status, *capsys.readouterr()

    return run


def test_the_table(run_check: RunCheck, s3: EmbeddedS3) -> None:
    wrong = section("/wrong", s3).replace(s3.secret_key, "wrong")
    fallback = f"SetEnv S3FallbackURL {s3.url}/nosuch/"
    unused = "<Location /unused>\nSetEnv S3Region r\n</Location>\n"
    status, out, err = run_check(section("/media", s3, fallback) + wrong + unused)
    assert (status, err) == (1, "")
    assert f"/media -> {s3.url}/{BUCKET}/\n  gateway, " in out and "/media, fallback bucket -> " in out
    assert "configuration\n  settings  look" in out
    assert "  signed request  WRONG  S3 answered 403" in out and "-> " in out
    assert out.endswith("configuration: look; 3 buckets: 1 look, 2 wrong\n")


def test_the_comparison_of_what_was_signed(run_check: RunCheck) -> None:
    texts = (
        "<CanonicalRequest>GET\n/private/other\n\nhost:else\n\nhost\nx</CanonicalRequest><StringToSign>x</StringToSign>"
    )
    document = f"<Error><Code>SignatureDoesNotMatch</Code>{texts}</Error>".encode()
    with ScriptedS3(then=answer(403, document)) as server:
        status, out, _ = run_check(bucket(server.url))
        _, as_json, _ = run_check(bucket(server.url), "--json")
    assert status == 1 and "- this server has signed    + S3 says that it has computed" in out
    assert "^ the first difference" in out and max(map(len, out.splitlines())) <= 80
    (found,) = [one for one in json.loads(as_json)["buckets"][0]["results"] if one["check"] == "signed request"]
    assert any(line["is_first_difference"] for line in found["comparison"])


def test_nothing_to_check(run_check: RunCheck) -> None:
    assert run_check("") == (2, "", "usp-s3: no bucket is configured\n")
    status, _, err = run_check(bucket("http://127.0.0.1:1"), "--bucket", "/x")
    assert (status, err) == (2, "usp-s3: no bucket is configured at /x; there are:\n  /media\n")


def test_an_internal_error_of_one_bucket_hides_no_other(monkeypatch: pytest.MonkeyPatch, run_check: RunCheck) -> None:
    def fail(url: object, timeout: float) -> list[object]:
        raise RuntimeError("a secret")

    monkeypatch.setattr(network, "check", fail)
    status, out, err = run_check(bucket("http://127.0.0.1:1"))
    assert (
        status == 2
        and "RuntimeError in fail" in out
        and out.endswith("1 bucket: 1 look\n")
        and "a secret" not in out + err
    )


def test_the_values_of_a_separate_process() -> None:
    configuration = parsed_config.parse(configtest_input(""))
    configuration.uid, configuration.gid = os.getuid(), os.getgid()
    assert list(separate_user.run(configuration, lambda: iter([{"a": 1}, "b"]))) == [{"a": 1}, "b"]

    def fails() -> Iterator[str]:
        yield "first"
        raise RuntimeError("a secret")

    with pytest.raises(separate_user.SeparateProcessError):
        list(separate_user.run(configuration, fails))
