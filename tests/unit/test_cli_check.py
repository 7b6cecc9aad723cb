"""usp-s3 check: what it says of each planted fault, without httpd; tests/httpd/test_cli_check.py runs the command."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.configurations import configtest_input
from tests.httpd.conftest import BUCKET
from tests.httpd.planted import PLANTS, configuration
from tests.s3 import EmbeddedS3
from usp_s3_wsgi.cli.check import command
from usp_s3_wsgi.cli.check.bucket_checks import Options
from usp_s3_wsgi.cli.check.result import BucketReport, Verdict
from usp_s3_wsgi.configtest import parsed_config
from usp_s3_wsgi.status.explanations import Explanations

ERRORS = Explanations.from_file(Path(__file__).parents[2] / "docs" / "errors.md")


@pytest.fixture(scope="module")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3([BUCKET]) as server:
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


class Named(NamedTuple):
    """What names a fault: the check, words of its text, words of what to change."""

    check: str
    text: str
    action: str


#: For each fault: what names it at a mount of the gateway, and in a <Proxy> section if that is something else.
FAULTS: dict[str, tuple[Named, ...]] = {
    "wrong key": (Named("signed request", "SignatureDoesNotMatch", "secret key"),),
    "wrong region": (Named("signed request", "the bucket is in region eu-central-1", "set S3Region eu-central-1"),),
    "slow clock": (Named("clock", " s behind S3's: signatures are not valid", "correct this server's clock"),),
    "missing permission": (Named("signed request", "accepted, but S3 denies", "s3:GetObject"),),
    "unreadable secret": (Named("files", "missing: the file cannot be read: No such", "give Apache's user access"),),
    "closed port": (Named("connection", "Connection refused", "firewall"),),
    "expired certificate": (Named("TLS", "the certificate expired on", "renew it"),),
    "throttling": (Named("signed request", "SlowDown, twice: S3 throttles", "cache in front"),),
    "unknown access key": (Named("signed request", "S3 answered 403 SignatureDoesNotMatch", "access key"),),
    "missing bucket": (Named("signed request", "there is no bucket nosuch at", "bucket's name"),),
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


@pytest.mark.parametrize("mount", ["/embedded", "/proxied"])
@pytest.mark.parametrize("name", sorted(set(FAULTS) - {"slow clock"}))
def test_a_planted_fault_is_named(s3: EmbeddedS3, folder: Path, name: str, mount: str) -> None:
    named = FAULTS[name][-1 if mount == "/proxied" else 0]
    with PLANTS[name](s3, folder) as bucket:
        if mount == "/proxied" and "S3ProxySet" in bucket.settings:
            pytest.skip("the gateway's setting")
        (report,) = reports(configuration(bucket, s3, mount))
    (result,) = [one for one in report.results if one.check == named.check]
    assert named.text in result.text and named.action in result.action, result
    assert report.verdict is (Verdict.LOOK if name == "missing permission" else Verdict.WRONG)
