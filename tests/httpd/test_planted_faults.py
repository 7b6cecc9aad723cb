"""Faults as operators meet them: each is seen on the status page, in a metric and in the access log, both ways in."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.faults.server import ScriptedS3, error
from tests.httpd import metrics
from tests.httpd.conftest import BUCKET, ONE_CHILD
from tests.httpd.machine import compile_shared, free_port, has_module
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

MOUNTS = {"/embedded": "gateway", "/daemon": "gateway", "/proxied": "proxy"}
#: One, so that a correction is made once.
DAEMON = "WSGIDaemonProcess media processes=1 threads=4\n"
REQUESTS = 3


@dataclass
class Bucket:
    """The bucket's URL without a slash at the end, settings instead of the right ones, and the CA to trust."""

    url: str
    settings: dict[str, str] = field(default_factory=dict)
    root: Path | None = None


@dataclass
class Seen:
    """What an operator sees. ``error``, ``s3_code``: of the last request that failed, if one did.

    ``page``: in the sentence about the bucket, or in its last failure. ``health``: of the bucket. ``corrections``: the
    subject of the metric, where the request succeeds after one.
    """

    page: str
    error: str = ""
    s3_code: str = ""
    health: str = "failing"
    corrections: str = ""


Plant = Callable[[EmbeddedS3, Path], AbstractContextManager[Bucket]]
#: For each fault: how it is planted, and what is seen of it in the gateway and in a <Proxy> section.
FAULTS: dict[str, tuple[Plant, Seen, Seen]] = {}


def fault(name: str, gateway: Seen, proxy: Seen | None = None) -> Callable[[Callable[..., Iterator[Bucket]]], None]:
    """Add a fault to the table."""

    def add(plant: Callable[..., Iterator[Bucket]]) -> None:
        FAULTS[name] = (contextmanager(plant), gateway, proxy or gateway)

    return add


@fault("wrong key", Seen("the secret key is wrong", "USPS30305", "SignatureDoesNotMatch"))
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}", {"S3SecretKey": "wrong"})


@fault(
    "wrong region",
    Seen("Set S3Region to eu-central-1.", health="degraded", corrections="region"),
    Seen("the request is signed for another region", "USPS30305", "AuthorizationHeaderMalformed", "degraded"),
)
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}", {"S3Region": "eu-west-9"})


@fault(
    "slow clock",
    Seen("This server's clock, or S3's, is wrong", health="degraded", corrections="clock"),
    Seen("the clock of this server is wrong", "USPS30305", "RequestTimeTooSkewed", "degraded"),
)
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}")  # with a shifted clock


@fault("missing permission", Seen("these keys lack a permission", "USPS30303", "AccessDenied", "degraded"))
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=error(403, "AccessDenied")) as denying:
        yield Bucket(f"{denying.url}/{BUCKET}")


@fault("unreadable secret", Seen("S3SecretKeyFile: the file cannot be read", "USPS30101"))
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}", {"S3SecretKey": "", "S3SecretKeyFile": str(folder / "missing")})


@fault("closed port", Seen("Connection refused", "USPS30402"), Seen("Connection refused", "USPS30408"))
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"http://127.0.0.1:{free_port()}/{BUCKET}")


@fault(
    "expired certificate",
    Seen("certificate has expired", "USPS30403"),
    Seen("certificate has expired", "USPS30408"),
)
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    certificate = make_certificate(folder, days=-1)
    with EmbeddedS3([BUCKET], tls=certificate) as s3_tls:
        yield Bucket(f"{s3_tls.url}/{BUCKET}", root=certificate.root)


@fault("throttling", Seen("S3 asks for fewer requests", "USPS30405", "SlowDown"))
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=error(503, "SlowDown")) as busy:
        yield Bucket(f"{busy.url}/{BUCKET}")


def configuration(bucket: Bucket, s3: EmbeddedS3, mount: str) -> str:
    values = {
        "S3AccessKey": s3.access_key, "S3SecretKey": s3.secret_key, "S3Region": s3.region, "S3UseHeaders": "on",
    } | bucket.settings  # fmt: skip
    if mount != "/proxied":
        values |= {"S3BucketURL": f"{bucket.url}/", "S3Retries": "1", "S3ProxySet": "retry=0"}
        values |= {"S3CAFile": str(bucket.root)} if bucket.root else {}
    body = "\n".join(f"SetEnv {name} {value}" for name, value in values.items() if value)
    if mount == "/proxied":
        trust = f"SSLProxyEngine on\nSSLProxyVerify require\nSSLProxyCACertificateFile {bucket.root}\n"
        trust = f"{trust}SSLProxyVerifyDepth 10\n" if bucket.root else ""
        return f'{trust}ProxyPass {mount} {bucket.url} retry=0\n<Proxy "{bucket.url}/">\n{body}\n</Proxy>\n'
    group = "\nWSGIProcessGroup media" if mount == "/daemon" else ""
    return f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}}\n<Location {mount}>\n{body}{group}\n</Location>\n"


def visible_text(html: str) -> str:
    """The text of a page, in one line."""
    html = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("&#39;", "'").split())


@pytest.fixture(scope="module")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shared(Path(__file__).with_name("shifted_clock.c"), tmp_path_factory.mktemp("clock"))


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    """A folder that httpd's children can read, as they cannot read those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault(
    checked: list[Httpd],
    s3: EmbeddedS3,
    shifted_clock: Path,
    readable_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    mount: str,
) -> None:
    plant, in_gateway, in_proxy = FAULTS[name]
    seen, way = (in_proxy if mount == "/proxied" else in_gateway), MOUNTS[mount]
    if name == "expired certificate" and way == "proxy" and not has_module("ssl"):
        pytest.skip("this httpd has no mod_ssl")
    s3.put(BUCKET, "film.ts", b"film")
    monkeypatch.setenv("CLOCK_SHIFT", "-3600")
    with plant(s3, readable_folder) as bucket:
        preload = shifted_clock if name == "slow clock" else None
        httpd = Httpd(metrics.CONFIG + ONE_CHILD + DAEMON + configuration(bucket, s3, mount), preload=preload)
        httpd.start()
        checked.append(httpd)
        httpd.expect_error(r"USPS30\d+|AH\d+|SSL Library Error")
        # In <Proxy>, mod_ssl says from the second connection on what is wrong with a certificate.
        statuses = [httpd.fetch(f"{mount}/film.ts").status for _ in range(REQUESTS)]
    assert statuses[0] == 200 if seen.corrections else statuses[0] >= 400
    # Two threads may write their lines in another order.
    lines = sorted(metrics.log_lines(httpd, REQUESTS, mount), key=lambda line: -line["s3_corrections"])
    first = next((line for line in lines if line["s3_error"]), lines[0])
    if seen.corrections:
        assert (first["s3_corrections"], first["s3_error"]) == (1, None)
        metrics.wait_for_total(httpd, "usp_s3_corrections_total", 1, {"subject": seen.corrections, "way": way})
    else:
        assert (first["s3_error"], first["s3_code"]) == (seen.error, seen.s3_code or None)
        count = statuses.count(statuses[0])
        labels = {"error": seen.error, "s3_code": seen.s3_code, "way": way, "bucket": BUCKET}
        metrics.wait_for_total(httpd, "usp_s3_exchanges_total", count, labels)
    assert all((line["s3_way"], line["s3_bucket"]) == (way, BUCKET) for line in lines)
    status = json.loads(httpd.fetch("/usp-s3/status/json").body)
    (shown,) = [one for one in status["buckets"] if one["name"] == BUCKET]
    assert shown["health"] == seen.health, shown["summary"]
    page = httpd.fetch("/usp-s3/status")
    assert page.status == 200
    text = visible_text(page.body.decode())
    assert seen.page in text, text
    assert "What to do: " in text or seen.corrections
    assert seen.error in text
