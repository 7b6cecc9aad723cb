"""Faults as operators meet them: each is seen on the status page, in a metric and in the access log, both ways in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.httpd import metrics
from tests.httpd.conftest import BUCKET, ONE_CHILD
from tests.httpd.machine import has_module
from tests.httpd.planted import PLANTS, configuration
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

MOUNTS = {"/embedded": "gateway", "/daemon": "gateway", "/proxied": "proxy"}
#: One, so that a correction is made once.
DAEMON = "WSGIDaemonProcess media processes=1 threads=4\n"
REQUESTS = 3


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


#: For each fault: what is seen of it in the gateway, and in a <Proxy> section if that is something else.
FAULTS: dict[str, tuple[Seen, ...]] = {
    "wrong key": (Seen("the secret key is wrong", "USPS30305", "SignatureDoesNotMatch"),),
    "wrong region": (
        Seen("Set S3Region to eu-central-1.", health="degraded", corrections="region"),
        Seen("the request is signed for another region", "USPS30305", "AuthorizationHeaderMalformed", "degraded"),
    ),
    "slow clock": (
        Seen("This server's clock, or S3's, is wrong", health="degraded", corrections="clock"),
        Seen("the clock of this server is wrong", "USPS30305", "RequestTimeTooSkewed", "degraded"),
    ),
    "missing permission": (Seen("these keys lack a permission", "USPS30303", "AccessDenied", "degraded"),),
    "unreadable secret": (Seen("S3SecretKeyFile: the file cannot be read", "USPS30101"),),
    "closed port": (
        Seen("Connection refused", "USPS30402"),
        Seen("Connection refused", "USPS30408"),
    ),
    "expired certificate": (
        Seen("certificate has expired", "USPS30403"),
        Seen("certificate has expired", "USPS30408"),
    ),
    "throttling": (Seen("S3 asks for fewer requests", "USPS30405", "SlowDown"),),
}


def visible_text(html: str) -> str:
    """The text of a page, in one line."""
    html = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("&#39;", "'").split())


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
    seen, way = FAULTS[name][-1 if mount == "/proxied" else 0], MOUNTS[mount]
    if name == "expired certificate" and way == "proxy" and not has_module("ssl"):
        pytest.skip("this httpd has no mod_ssl")
    s3.put(BUCKET, "film.ts", b"film")
    monkeypatch.setenv("CLOCK_SHIFT", "-3600")
    with PLANTS[name](s3, readable_folder) as bucket:
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
