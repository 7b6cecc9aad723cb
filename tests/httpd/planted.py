"""Faults of buckets and settings as operators meet them, for each test that must see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.certificates import make_certificate
from tests.faults.server import Connection, Request, ScriptedS3, answer, error, reset
from tests.httpd.conftest import BUCKET
from tests.httpd.machine import free_port
from tests.s3 import EmbeddedS3
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext


@dataclass
class Bucket:
    """The bucket's URL without a slash at the end, settings instead of the right ones, and the CA to trust."""

    url: str
    settings: dict[str, str] = field(default_factory=dict)
    root: Path | None = None


Plant = Callable[[EmbeddedS3, Path], AbstractContextManager[Bucket]]
#: Each is a context manager, for a running S3 and a folder that httpd's children can read.
PLANTS: dict[str, Plant] = {}


def plant(name: str) -> Callable[[Callable[[EmbeddedS3, Path], Iterator[Bucket]]], None]:
    """Add a fault to the table."""

    def add(function: Callable[[EmbeddedS3, Path], Iterator[Bucket]]) -> None:
        PLANTS[name] = contextmanager(function)

    return add


@plant("wrong key")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}", {"S3SecretKey": "wrong"})


@plant("wrong region")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}", {"S3Region": "eu-west-9"})


@plant("slow clock")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}")  # with a shifted clock


@plant("missing permission")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    def deny(connection: Connection, request: Request) -> None:
        """Deny what is signed with these keys, as a server that checks the signature first."""
        code = "AccessDenied" if is_signed(request, s3) else "SignatureDoesNotMatch"
        connection.send(error(403, code))

    with ScriptedS3(then=deny) as denying:
        yield Bucket(f"{denying.url}/{BUCKET}")


def is_signed(request: Request, s3: EmbeddedS3) -> bool:
    """Whether a request is signed with S3's keys: Signature v4 in headers."""
    signed_at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    path, _, query = request.target.partition("?")
    pairs = tuple((name, value) for name, _, value in (part.partition("=") for part in query.split("&") if part))
    unsigned = S3Request(request.method, "http", request.headers["host"], path, pairs)
    context, credentials = SigningContext(s3.region, True), Credentials(s3.access_key, s3.secret_key)
    expected = sign(unsigned, context, credentials, signed_at, request.headers["x-amz-content-sha256"])
    return expected.header("Authorization") == request.headers["authorization"]


@plant("unreadable secret")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}", {"S3SecretKey": "", "S3SecretKeyFile": str(folder / "missing")})


@plant("closed port")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"http://127.0.0.1:{free_port()}/{BUCKET}")


@plant("expired certificate")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    certificate = make_certificate(folder, days=-1)
    with EmbeddedS3([BUCKET], tls=certificate) as s3_tls:
        yield Bucket(f"{s3_tls.url}/{BUCKET}", root=certificate.root)


@plant("throttling")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=error(503, "SlowDown")) as busy:
        yield Bucket(f"{busy.url}/{BUCKET}")


@plant("unknown access key")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/{BUCKET}", {"S3AccessKey": "AKIAUNKNOWN000000000"})


@plant("missing bucket")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"{s3.url}/nosuch")


@plant("unknown name")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"http://no-such-host.invalid/{BUCKET}")


@plant("certificate for another name")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    certificate = make_certificate(folder, "DNS:films.example")
    with ScriptedS3(tls=certificate) as other:
        yield Bucket(f"https://localhost:{other.port}/{BUCKET}", root=certificate.root)


@plant("unknown authority")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    for name in ("one", "other"):
        (folder / name).mkdir()
    trusted, used = make_certificate(folder / "one"), make_certificate(folder / "other")
    with ScriptedS3(tls=used) as other:
        yield Bucket(f"https://localhost:{other.port}/{BUCKET}", root=trusted.root)


@plant("http to a TLS port")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with EmbeddedS3([BUCKET], tls=make_certificate(folder)) as s3_tls:
        yield Bucket(f"http://{s3_tls.host}/{BUCKET}")


@plant("https to a plain port")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    yield Bucket(f"https://localhost:{s3.port}/{BUCKET}", root=make_certificate(folder).root)


@plant("page of a proxy")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=answer(403, b"<html>Blocked by policy</html>", ("Content-Type", "text/html"))) as between:
        yield Bucket(f"{between.url}/{BUCKET}")


@plant("expired token")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=error(400, "ExpiredToken")) as other:
        yield Bucket(f"{other.url}/{BUCKET}", {"S3SecurityToken": "a-token-that-has-expired"})


@plant("another endpoint")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=error(301, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3"))) as other:
        yield Bucket(f"{other.url}/{BUCKET}")


@plant("no answer")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=lambda connection, request: connection.wait()) as other:
        yield Bucket(f"{other.url}/{BUCKET}", {"S3ProxySet": "timeout=1"})


@plant("reset")
def _(s3: EmbeddedS3, folder: Path) -> Iterator[Bucket]:
    with ScriptedS3(then=reset) as other:
        yield Bucket(f"{other.url}/{BUCKET}")


def configuration(bucket: Bucket, s3: EmbeddedS3, mount: str) -> str:
    """Return the configuration of a bucket at /embedded, /daemon or /proxied."""
    values = {
        "S3AccessKey": s3.access_key, "S3SecretKey": s3.secret_key, "S3Region": s3.region, "S3UseHeaders": "on",
    } | bucket.settings  # fmt: skip
    if mount != "/proxied":
        values = {"S3BucketURL": f"{bucket.url}/", "S3Retries": "1", "S3ProxySet": "retry=0"} | values
        values |= {"S3CAFile": str(bucket.root)} if bucket.root else {}
    body = "\n".join(f"SetEnv {name} {value}" for name, value in values.items() if value)
    if mount == "/proxied":
        trust = f"SSLProxyEngine on\nSSLProxyVerify require\nSSLProxyCACertificateFile {bucket.root}\n"
        trust = f"{trust}SSLProxyVerifyDepth 10\n" if bucket.root else ""
        return f'{trust}ProxyPass {mount} {bucket.url} retry=0\n<Proxy "{bucket.url}/">\n{body}\n</Proxy>\n'
    group = "\nWSGIProcessGroup media" if mount == "/daemon" else ""
    return f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}}\n<Location {mount}>\n{body}{group}\n</Location>\n"
