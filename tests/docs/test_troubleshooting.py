"""The symptoms of docs/troubleshooting.md: each configuration gives the client this status, and the log this code.

The log lines in the documentation are those that httpd wrote here. Only names, times and processes are replaced.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, close, error, first, reset, stall
from tests.httpd import http2
from tests.httpd.conftest import ONE_CHILD
from tests.httpd.machine import free_port, has_module
from tests.httpd.server import Httpd, Unsigned, WithoutModule
from tests.leaks import SECRET_KEY

DOCS = Path(__file__).parents[2] / "docs"
#: The port of every S3 here. Each symptom has an address of its own: log limits, clock and region are kept by host.
PORT = free_port()
#: The bucket of the documentation, in the place of the tests' own.
BUCKET_HOST = "mybucket.s3.eu-central-1.amazonaws.com"
KEYS = f"SetEnv S3AccessKey A\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region eu-central-1\nSetEnv S3UseHeaders on"
KEY_AND_FILE = "SetEnv S3AccessKey A\nSetEnv S3SecretKeyFile {}"
NO_RETRY = "SetEnv S3Retries 0"
DEBUG, INFO = "LogLevel usp_s3:debug", "LogLevel usp_s3:info"
#: The status of a response whose body ends early.
TRUNCATED = 0

ETAG = ("ETag", '"e"')
REQUEST_ID = ("x-amz-request-id", "4442587FB7D0A2F9")
FILM = answer(200, b"a film", ETAG)
REST_OF_FILM = answer(206, b"film", ETAG, ("Content-Range", "bytes 2-5/6"))
TRUNCATED_FILM = first(answer(200, b"a ", ETAG, REQUEST_ID, length=6), close)
TRUNCATED_FILM_WITHOUT_ETAG = first(answer(200, b"a ", REQUEST_ID, length=6), close)
DENIED, NO_SUCH_KEY = error(403, "AccessDenied"), error(404, "NoSuchKey")
SLOW_DOWN = error(503, "SlowDown", REQUEST_ID, ("Retry-After", "7"))
SLOW_DOWN_BRIEFLY = error(503, "SlowDown", REQUEST_ID)
OTHER_REGION = error(400, "AuthorizationHeaderMalformed", region="eu-west-3")
FIREWALL_PAGE = answer(403, b"<html>blocked</html>", ("Content-Type", "text/html"))


def an_hour_ahead(step: str) -> Step:
    """An S3 whose clock is an hour ahead of this server's: it rejects the request, or sends the film."""

    def send(connection: Connection, request: Request) -> None:
        date = ("Date", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
        connection.send(error(403, "RequestTimeTooSkewed", date) if step == "reject" else answer(200, b"a film", date))

    return send


def gateway(*lines: str, keys: str = KEYS, url: str = "@URL@", mount: str = "/@NAME@") -> str:
    """A bucket of the gateway. ``@NAME@`` and ``@URL@`` are replaced later."""
    settings = "\n".join([f"SetEnv S3BucketURL {url}/", keys, *lines])
    return f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}}\n<Location /@NAME@>\n{settings}\n</Location>\n"


def proxy(*lines: str, slash: str = "") -> str:
    """A bucket in a ``<Proxy>`` section; ``slash``: after the URL of ProxyPass."""
    settings = "\n".join([KEYS, "ProxySet retry=0 enablereuse=on", *lines])
    return f'ProxyPass /@NAME@ @URL@{slash}\n<Proxy "@URL@/">\n{settings}\n</Proxy>\n'


@dataclass(frozen=True)
class Symptom:
    """``script``: what S3 answers; None: nothing listens at its address.

    ``statuses``: the client's, one for each request. ``codes``: of the lines of the error log, in their order.
    """

    config: str
    script: tuple[Step, ...] | None
    statuses: tuple[int, ...]
    codes: tuple[str, ...]
    path: str = "/film/film.mp4"
    tls: bool = False


SYMPTOMS = {
    # 403 for everything
    "denied by httpd": Symptom(gateway("Require ip 192.0.2.1"), (), (403,), ("AH01630",)),
    "denied by S3": Symptom(gateway(), (DENIED,), (403,), ()),
    "denied by S3, debug": Symptom(gateway(DEBUG), (DENIED,), (403,), ("USPS30301",)),
    "a firewall": Symptom(gateway(), (FIREWALL_PAGE,), (403,), ("USPS30304",)),
    # 404 for everything
    "no mount": Symptom("", (), (404,), ("AH00128",)),
    "a mount with a slash": Symptom(gateway(mount="/@NAME@/"), (), (404,), ("not found or unable to stat",)),
    "no such object": Symptom(gateway(DEBUG), (NO_SUCH_KEY,), (404,), ("USPS30301",)),
    "a slash too many": Symptom(proxy(DEBUG, slash="/"), (NO_SUCH_KEY,), (404,), ("USPS30301",)),
    "a denied object as 404": Symptom(
        gateway(DEBUG, "SetEnv S3DeniedStatus 404"), (DENIED,), (404,), ("USPS30301",), path="/film/none.mp4"
    ),
    # 502 for everything
    "a wrong secret key": Symptom(gateway(), (error(403, "SignatureDoesNotMatch"),), (502,), ("USPS30305",)),
    "a wrong secret key, <Proxy>": Symptom(proxy(), (error(403, "SignatureDoesNotMatch"),), (502,), ("USPS30305",)),
    "an unknown access key": Symptom(gateway(), (error(403, "InvalidAccessKeyId"),), (502,), ("USPS30305",)),
    "an expired token": Symptom(gateway(), (error(400, "ExpiredToken"),), (502,), ("USPS30305",)),
    "no such bucket": Symptom(gateway(), (error(404, "NoSuchBucket"),), (502,), ("USPS30305",)),
    "nothing listens": Symptom(gateway(NO_RETRY), None, (502,), ("USPS30402",)),
    "nothing listens, <Proxy>": Symptom(proxy(), None, (503,), ("AH00957", "AH01114", "USPS30408")),
    "no such name": Symptom(
        gateway(NO_RETRY, "SetEnv S3Bucket b", url="http://b.s3.invalid"), None, (502,), ("USPS30402",)
    ),
    "an unknown authority": Symptom(gateway(), (), (502,), ("USPS30403",), tls=True),
    "an unknown authority, <Proxy>": Symptom(
        proxy(
            "SSLProxyEngine on", "SSLProxyVerify require", "SSLProxyVerifyDepth 10",
            "SSLProxyCACertificateFile /etc/ssl/certs/ca-certificates.crt",
        ),
        (), (500,), ("AH02039", "AH01084", "AH00898", "USPS30408"), tls=True,
    ),
    "a depth of 1, <Proxy>": Symptom(
        proxy(
            "SSLProxyEngine on", "SSLProxyVerify require",
            "SSLProxyCACertificateFile /etc/ssl/certs/ca-certificates.crt",
        ),
        (), (500,), ("AH02039", "AH02040", "AH01084", "AH00898", "USPS30408"), tls=True,
    ),
    "not an S3": Symptom(gateway(), (first(b"SSH-2.0-OpenSSH_9.2\r\n", close),), (502,), ("USPS30401",)),
    # other statuses
    "a connection that S3 closed, <Proxy>": Symptom(
        proxy(), (FILM, close), (200, 502), ("AH01102", "AH00898", "USPS30408")
    ),
    "no response in time": Symptom(
        gateway('SetEnv S3ProxySet "timeout=1"'), (stall,), (504,), ("USPS30404",)
    ),
    "a misspelt setting": Symptom(gateway("SetEnv S3UseHeader on"), (), (500,), ("USPS30101",)),
    "a missing setting": Symptom(gateway(keys="SetEnv S3AccessKey A"), (), (500,), ("USPS30101",)),
    "a missing file": Symptom(
        gateway(keys=KEY_AND_FILE.format("/etc/apache2/s3/none.secret")),
        (), (500,), ("USPS30101",),
    ),
    "a file for root only": Symptom(
        gateway(keys=KEY_AND_FILE.format("${ROOT}/root.secret")), (), (500,), ("USPS30101",)
    ),
    "no credentials of a role": Symptom(
        gateway("SetEnv S3RoleARN arn:aws:iam::123456789012:role/reader", "SetEnv S3STSEndpoint https://127.0.0.1:9"),
        (), (503,), ("USPS30601",),
    ),
    "S3 is busy": Symptom(gateway(NO_RETRY), (SLOW_DOWN,), (503,), ("USPS30405",)),
    "S3 was busy": Symptom(gateway(INFO), (SLOW_DOWN_BRIEFLY, FILM), (200,), ("USPS30405",)),
    "S3 reset the connection": Symptom(gateway(INFO), (reset, FILM), (200,), ("USPS30402",)),
    "a host in error state": Symptom(
        gateway(NO_RETRY, 'SetEnv S3ProxySet "retry=60"'), None, (502, 503), ("USPS30402", "USPS30406")
    ),
    # region and clock
    "another region": Symptom(gateway(), (OTHER_REGION, FILM), (200,), ("USPS30305",)),
    "another region, <Proxy>": Symptom(proxy(), (OTHER_REGION, FILM), (502, 200), ("USPS30305",)),
    "a slow clock": Symptom(gateway(), (an_hour_ahead("reject"), an_hour_ahead("send")), (200,), ("USPS30305",)),
    "a slow clock, <Proxy>": Symptom(
        proxy(), (an_hour_ahead("reject"), an_hour_ahead("send")), (502, 200), ("USPS30305",)
    ),
    # bodies
    "a truncated body is resumed": Symptom(gateway(INFO), (TRUNCATED_FILM, REST_OF_FILM), (200,), ("USPS30501",)),
    "a truncated body": Symptom(gateway(NO_RETRY), (TRUNCATED_FILM,), (TRUNCATED,), ("USPS30501",)),
    "a truncated body without ETag": Symptom(
        gateway(), (TRUNCATED_FILM_WITHOUT_ETAG,), (TRUNCATED,), ("USPS30502",)
    ),
    "a truncated body, <Proxy>": Symptom(proxy(), (TRUNCATED_FILM,), (TRUNCATED,), ("AH01110", "USPS30501")),
    # keys
    "an encoded slash": Symptom(gateway(), (), (404,), ("AH00026",), path="/film%2Ffilm.mp4"),
    "space, plus, accent, percent sign": Symptom(
        gateway(DEBUG), (NO_SUCH_KEY,), (404,), ("USPS30301",), path="/a%20b+c/caf%C3%A9%2525.mp4"
    ),
    "two slashes": Symptom(gateway(DEBUG), (NO_SUCH_KEY,), (404,), ("USPS30301",), path="/film//film.mp4"),
    # balancers
    "keys in the section of a balancer": Symptom(
        f'<Proxy "balancer://@NAME@">\nBalancerMember @URL@\n{KEYS}\n</Proxy>\nProxyPass /@NAME@ balancer://@NAME@\n',
        (), (500,), ("USPS30101",),
    ),
}  # fmt: skip
#: "no mount" and the like are lines of httpd at level info, which troubleshooting needs.
LEVEL = "LogLevel info usp_s3:warn ssl:warn\n"


class DefaultFormat(Httpd):
    """An httpd whose error log has httpd's own format."""

    def _whole_config(self) -> str:
        return re.sub("^ErrorLogFormat.*\n", "", super()._whole_config(), flags=re.MULTILINE)


def mount(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


HOSTS = {name: f"127.0.2.{number}" for number, name in enumerate(SYMPTOMS, 1)}


def config(name: str) -> str:
    """The configuration of a symptom, with the address of its S3."""
    symptom = SYMPTOMS[name]
    url = f"{'https' if symptom.tls else 'http'}://{HOSTS[name]}:{PORT}/bucket"
    return symptom.config.replace("@NAME@", mount(name)).replace("@URL@", url)


Results = dict[str, tuple[list[int], list[str]]]


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    with DefaultFormat("".join(map(config, SYMPTOMS)) + LEVEL + ONE_CHILD) as server:
        (server.root / "root.secret").write_text(SECRET_KEY)
        (server.root / "root.secret").chmod(0)  # httpd's children may be this user
        server.expect_error("")
        yield server


def status(httpd: Httpd, target: str) -> int:
    try:
        return httpd.fetch(target).status
    except http.client.IncompleteRead:
        return TRUNCATED


@pytest.fixture(scope="module")
def results(httpd: Httpd, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of each symptom the statuses, and the lines of the error log."""
    found: Results = {}
    certificate = make_certificate(tmp_path_factory.mktemp("authority"))
    for name, symptom in SYMPTOMS.items():
        before = len(httpd.errors())
        with ExitStack() as stack:
            if symptom.script is not None:
                tls = certificate if symptom.tls else None
                stack.enter_context(ScriptedS3(*symptom.script, host=HOSTS[name], port=PORT, tls=tls))
            statuses = [status(httpd, f"/{mount(name)}{symptom.path}") for _ in symptom.statuses]
        lines = [line for line in httpd.errors()[before:] if not re.search(r"\[(wsgi:info|mpm_\w+:\w+)\]", line)]
        found[name] = statuses, lines
    return found


@pytest.mark.parametrize("name", SYMPTOMS)
def test_status_and_code(name: str, results: Results) -> None:
    """The codes of this package exactly; httpd's own ones may have further lines with them."""
    statuses, lines = results[name]
    assert tuple(statuses) == SYMPTOMS[name].statuses
    codes = [code for code in SYMPTOMS[name].codes if code.startswith("USPS")]
    assert re.findall(r"USPS3\d{4}(?=: usp_s3_wsgi: )", "\n".join(lines)) == codes
    for code in SYMPTOMS[name].codes:
        assert any(code in line for line in lines), (code, lines)


# --- symptoms that need an httpd of their own


def bucket(text: str) -> str:
    """A configuration for /media; its bucket is that of the first address."""
    return text.replace("@NAME@", "media").replace("@URL@", f"http://127.0.2.250:{PORT}/bucket") + ONE_CHILD


def scripted(*script: Step) -> ScriptedS3:
    return ScriptedS3(*script, host="127.0.2.250", port=PORT)


class WithoutSigner(DefaultFormat, Unsigned):
    lacks = r'Include ".*proxy.conf"'


class WithoutModuleAndFormat(DefaultFormat, WithoutModule):
    pass


@contextmanager
def started(httpd: Httpd, *expected: str) -> Iterator[Httpd]:
    """A started httpd; ``expected``: patterns of lines, besides those that the test waits for."""
    for pattern in expected:
        httpd.expect_error(pattern)
    with httpd:
        yield httpd
    assert httpd.unexpected == []


def test_a_proxy_section_without_usp_s3_module_sends_requests_unsigned() -> None:
    """The client gets S3's own error document, and nothing is logged."""
    with started(WithoutModuleAndFormat(bucket(proxy()))) as httpd, scripted(DENIED) as s3:
        reply = httpd.fetch("/media/film/film.mp4")
        assert "authorization" not in s3.requests[0].headers
        assert (reply.status, b"<Code>AccessDenied</Code>" in reply.body) == (403, True)


def test_a_proxy_section_without_the_signer() -> None:
    with started(WithoutSigner(bucket(proxy()))) as httpd:
        assert httpd.fetch("/media/film/film.mp4").status == 500
        assert_documented(httpd.wait_for_error("USPS30701"))


def test_a_graceful_restart_in_daemon_mode_interrupts_requests() -> None:
    """The line is that of mod_wsgi 6; older versions have other words."""
    lines = ("WSGIProcessGroup s3", "WSGIApplicationGroup %{GLOBAL}")
    config = "WSGIDaemonProcess s3 processes=1 threads=4 python-home=${USP_S3_PYTHON_HOME}\n" + bucket(gateway(*lines))
    with started(DefaultFormat(config), "daemon process 's3'") as httpd, ThreadPoolExecutor(1) as pool:
        with scripted(stall) as s3:
            interrupted = pool.submit(httpd.fetch, "/media/film/film.mp4")
            while not s3.requests:
                time.sleep(0.01)
            httpd.reload()
            assert interrupted.result().status in {502, 503}
        interrupted_lines = [line for line in httpd.errors() if "Error reading response headers" in line]
        assert interrupted_lines
        for line in interrupted_lines:
            assert_documented(line)


def test_mod_wsgi_is_loaded_twice() -> None:
    """httpd ignores the second one: configtest passes."""
    done = DefaultFormat("LoadModule wsgi_module modules/mod_wsgi.so\n").configtest()
    assert done.returncode == 0
    assert_documented(next(line for line in done.stdout.splitlines() if "AH01574" in line))


def test_a_key_file_is_removed() -> None:
    """The value that was read earlier is used."""
    keys = KEY_AND_FILE.format("${ROOT}/root.secret")
    with started(DefaultFormat(bucket(gateway(keys=keys))), "USPS30805") as httpd:  # at the start there is no file
        secret = httpd.root / "root.secret"
        secret.write_text(SECRET_KEY)
        secret.chmod(0o644)
        with scripted(FILM, FILM):
            assert httpd.fetch("/media/film/film.mp4").status == 200
            secret.unlink()
            time.sleep(1.2)  # a file is looked at once a second
            assert httpd.fetch("/media/film/film.mp4").status == 200
        assert_documented(httpd.wait_for_error("USPS30604"))


@pytest.mark.skipif(not has_module("http2"), reason="this httpd has no mod_http2")
def test_a_truncated_body_resets_an_http2_stream() -> None:
    with started(DefaultFormat(bucket(gateway()) + "Protocols h2c http/1.1\n"), "USPS30502") as httpd:
        with scripted(TRUNCATED_FILM_WITHOUT_ETAG):
            (stream,) = http2.ask(httpd.port, {"path": "/media/film/film.mp4"})
    assert (stream.reset, stream.ended) == (True, False)  # perhaps before the header was sent


CHECKED = bucket(
    gateway("SetEnv S3UseHeader on")
    + gateway(keys=KEY_AND_FILE.format("/etc/apache2/s3/none.secret")).replace("@NAME@", "films")
)


def test_configtest() -> None:
    done = DefaultFormat(CHECKED).configtest()
    assert done.returncode == 1
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    for line in done.stdout.splitlines():
        text = re.sub(r"^.*httpd\.conf:\d+: ", "", line)
        assert text.replace("none.secret", "films.secret") in page, line


# --- the lines in the documentation

#: Shown, and compared by the tests above.
OTHER_LINES = ("USPS30701", "USPS30604", "AH01574", "from daemon process")
#: What differs between the tests' lines and those of the documentation, or between two runs.
MASKS = (
    (r"^\[\w{3} \w{3} \d\d [0-9:.]+ \d{4}\]", "[TIME]"),
    (r"\[pid \d+(:tid \d+)?\]", "[PID]"),
    (r"\[(client|remote) [0-9.:]+\]", r"[\1]"),
    (r"python_callbacks\.c\(\d+\)", "python_callbacks.c"),
    (r"NameResolutionError: [\w ]+", "NameResolutionError"),  # another text without a name server
    (r"connect to \S+ \(\S+\) failed", "connect to HOST failed"),
    (r"(body failed to) \S+ \(\S+\)( from \S+)?", r"\1 HOST"),
    (r"https?://(127\.0\.2\.\d+:\d+/bucket|b\.s3\.invalid)", f"https://{BUCKET_HOST}"),
    (r"127\.0\.2\.\d+:\d+", f"{BUCKET_HOST}:443"),
    (r"127\.0\.2\.\d+", BUCKET_HOST),
    (r"\d\.\d{3} s\)", "SECONDS)"),
    (r"\d+ bytes are missing", "BYTES are missing"),
    (r"clock is \d+ s", "clock is SECONDS"),
    (r"/\S+/root\.secret|/etc/apache2/s3/none\.secret", "/etc/apache2/s3/mybucket.secret"),
    (r"/\S+/usp_s3\.wsgi", "/opt/usp_s3_wsgi/share/usp_s3_wsgi/usp_s3.wsgi"),
    (r"/\S+/htdocs", "/var/www/html"),
    (r"WSGI\d{4}: ", ""),  # older versions of mod_wsgi have no codes
)
MOUNTS = re.compile(rf"/({'|'.join(sorted(map(mount, SYMPTOMS), key=len, reverse=True))})(?=[:/])")


def masked(line: str) -> str:
    """A line without what differs; the mount is /media."""
    for pattern, replacement in MASKS:
        line = re.sub(pattern, replacement, line)
    return MOUNTS.sub("/media", line)


def documented(page: str) -> list[str]:
    """The log lines in the ``text`` blocks of a page."""
    blocks = re.findall(r"^```text\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.startswith("[")]


def assert_documented(line: str) -> None:
    assert masked(line) in map(masked, documented("troubleshooting.md")), masked(line)


def test_the_log_lines_of_the_documentation_are_real(results: Results) -> None:
    printed = {masked(line) for _, lines in results.values() for line in lines}
    shown = [line for line in documented("troubleshooting.md") if not any(text in line for text in OTHER_LINES)]
    assert len(shown) > 20
    assert [line for line in map(masked, shown) if line not in printed] == []


def from_code(line: str) -> str:
    """A masked line from its code on. The object is the same in all lines."""
    return re.sub(r"^.*?(?=(?:AH\d{5}|USPS3\d{4}): )|(?<=/film/)[\w.]+", "", masked(line))


@pytest.mark.parametrize("page", ["responses.md", "retries.md", "tls.md"])
def test_the_log_lines_of_other_pages_are_real(page: str, results: Results) -> None:
    printed = {from_code(line) for _, lines in results.values() for line in lines}
    text = (DOCS / page).read_text("utf-8")
    shown = re.findall(r"^(?:\[\w+:\w+\] )?(?:AH\d{5}|USPS3\d{4}): .*", text, re.MULTILINE)
    assert shown
    assert [line for line in map(from_code, shown) if line not in printed] == []
