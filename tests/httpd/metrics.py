"""Metrics and access log of an httpd, as a Prometheus and a log shipper read them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.httpd.server import WAIT, Httpd

CONFIG = """
UspS3Metrics On
WSGIScriptAlias /usp-s3/metrics ${USP_S3_METRICS}
WSGIScriptAlias /usp-s3/status ${USP_S3_STATUS}
WSGIScriptAlias /usp-s3/health ${USP_S3_HEALTH}
CustomLog json.log usp_s3_json
CustomLog text.log usp_s3
"""


#: For the mounts with "WSGIProcessGroup media".
DAEMON = "WSGIDaemonProcess media processes=2 threads=4\n"


def starter(checked: list[Httpd]) -> Callable[[str], Httpd]:
    """Return a function that starts an httpd with metrics, the status page and a configuration."""

    def start(config: str) -> Httpd:
        httpd = Httpd(CONFIG + DAEMON + config)
        httpd.start()
        checked.append(httpd)
        return httpd

    return start


def scrape(httpd: Httpd) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """The samples of all metrics by name and labels."""
    reply = httpd.fetch("/usp-s3/metrics")
    assert reply.status == 200, reply
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in samples.setdefault(sample.name, {}), sample
            samples[sample.name][labels] = sample.value
    return samples


def total(httpd: Httpd, metric: str, labels: Mapping[str, str] | None = None) -> float:
    """The sum of a metric's samples that have these labels."""
    wanted = set((labels or {}).items())
    return sum(value for found, value in scrape(httpd).get(metric, {}).items() if wanted <= found)


def wait_for_total(httpd: Httpd, metric: str, value: float, labels: Mapping[str, str] | None = None) -> None:
    """Wait until a sum has this value: an exchange is recorded when it ends, after the client has its last byte."""
    deadline = time.monotonic() + WAIT
    while (found := total(httpd, metric, labels)) != value:
        assert time.monotonic() < deadline, (found, scrape(httpd))
        time.sleep(0.02)


def log_lines(httpd: Httpd, count: int, path: str = "") -> list[dict[str, Any]]:
    """The first lines of the access log in JSON whose path begins with ``path``.

    httpd writes a line after the client has the response.
    """
    deadline = time.monotonic() + WAIT
    while True:
        text = (httpd.root / "json.log").read_text("ascii")
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        lines = [line for line in lines if line["uri"].startswith(path) and not line["uri"].startswith("/usp-s3/")]
        if len(lines) >= count:
            return lines[:count]
        assert time.monotonic() < deadline, text
        time.sleep(0.02)
