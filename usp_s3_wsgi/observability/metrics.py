"""Metrics for Prometheus: what all processes of httpd have recorded of their exchanges with S3 ("UspS3Metrics On").

usp_s3_module counts in memory that httpd's processes share (``proxy/mod_usp_s3/shared_metrics.c``). Here it is read at
each scrape, by whichever process handles that. docs/metrics.md describes each metric.

https://prometheus.io/docs/instrumenting/writing_clientlibs/ and https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

try:
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector
except ImportError:
    raise ImportError(
        "the metrics need prometheus_client for httpd's Python: pip install 'usp_s3_wsgi[metrics]'"
    ) from None

from usp_s3_wsgi import __version__
from usp_s3_wsgi.observability import recorder

_LABELS = ("way", "bucket", "host")
#: The value of a label where usp_s3_module has counted what it has no entry of its own for.
OTHER = "(other)"
#: The counters of usp_s3_module: the metric, the value of its label, and what it counts.
_COUNTERS = {
    "attempts": ("attempts", None, "Requests to S3, retries included"),
    "resumes": ("resumes", None, "Bodies of which the rest was requested after S3 had broken off"),
    "clock_corrections": ("corrections", "clock", ""),
    "region_corrections": ("corrections", "region", ""),
    "credential_corrections": ("corrections", "credentials", ""),
    "fallbacks": ("fallbacks", None, "Exchanges with the bucket of S3FallbackURL"),
    "body_bytes": ("body_bytes", None, "Bytes of objects that were forwarded to clients"),
    "new_connections": ("connections", "new", ""),
    "reused_connections": ("connections", "reused", ""),
}
_LABELLED_COUNTERS = {
    "corrections": ("subject", "Requests that were repeated after a correction of what this server had wrong"),
    "connections": ("state", "Requests to S3 that were answered, by whether their connection was new or reused"),
}


class Histogram(NamedTuple):
    """Observed times.

    ``counts``: how many were above the bound before and up to this one; the last has no bound. ``total``: microseconds.
    """

    counts: tuple[int, ...]
    total: int


class BucketMetrics(NamedTuple):
    """What is recorded for one bucket and one way in, as ``_httpd.read_metrics`` returns it.

    ``bucket``: None for all that have no entry of their own. ``outcomes``: class of S3's status (0: no response), S3's
    code, code of the failure, and count; both codes are None for all that have no entry of their own.
    """

    host: str
    bucket: str | None
    way: str
    outcomes: list[tuple[int, str | None, str | None, int]]
    counters: tuple[int, ...]
    first_byte: Histogram
    duration: Histogram


class ExchangeCollector(Collector):
    """Turns what usp_s3_module has recorded into metrics of prometheus_client."""

    def __init__(self, read_metrics: Callable[[], dict[str, Any]]) -> None:
        self._read_metrics = read_metrics

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        recorded = self._read_metrics()
        buckets = [
            BucketMetrics(host, bucket, way, outcomes, counters, Histogram(*first_byte), Histogram(*duration))
            for host, bucket, way, outcomes, counters, first_byte, duration, *_ in recorded["buckets"]
        ]
        yield _build_info()
        yield GaugeMetricFamily(
            "usp_s3_gateway_requests", "Requests that the gateway handles now", recorded["requests"]
        )
        yield _exchanges(buckets)
        yield from _counters(buckets, recorded["counters"])
        yield from _credentials(recorded["credentials"])
        bounds = recorded["time_bounds"]
        text = "Seconds from the beginning of an exchange to the header of S3's response, with retries"
        yield _histogram("first_byte", text, bounds, [(each, each.first_byte) for each in buckets])
        text = "Seconds from the beginning of an exchange to its end, which a slow client delays"
        yield _histogram("exchange_duration", text, bounds, [(each, each.duration) for each in buckets])


def _labels(bucket: BucketMetrics) -> list[str]:
    return [bucket.way, OTHER if bucket.bucket is None else bucket.bucket, bucket.host]


def _build_info() -> Metric:
    versions = {"version": __version__, "python": platform.python_version()}
    return InfoMetricFamily("usp_s3_build", "Versions of usp_s3_wsgi and of its Python", versions)


def _exchanges(buckets: Iterable[BucketMetrics]) -> Metric:
    text = "Requests of clients and subrequests, by the class of S3's status, S3's error code, and the failure's code"
    family = CounterMetricFamily("usp_s3_exchanges", text, labels=(*_LABELS, "status", "s3_code", "error"))
    for bucket in buckets:
        for status_class, s3_code, error, count in bucket.outcomes:
            if s3_code is None or error is None:
                result = [OTHER, OTHER, OTHER]
            else:
                result = [f"{status_class}xx" if status_class else "none", s3_code, error]
            family.add_metric([*_labels(bucket), *result], count)
    return family


def _counters(buckets: Iterable[BucketMetrics], names: Iterable[str]) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily] = {}
    for index, name in enumerate(names):
        metric, value, text = _COUNTERS[name]
        label, text = _LABELLED_COUNTERS.get(metric, (None, text))
        labels = _LABELS if label is None else (*_LABELS, label)
        family = families.setdefault(metric, CounterMetricFamily(f"usp_s3_{metric}", text, labels=labels))
        for bucket in buckets:
            family.add_metric(_labels(bucket) if value is None else [*_labels(bucket), value], bucket.counters[index])
    yield from families.values()


def _credentials(identities: Iterable[tuple[Any, ...]]) -> Iterator[Metric]:
    text = "When the temporary credentials that were obtained last expire, in unix time"
    expiration = GaugeMetricFamily("usp_s3_credentials_expiration_timestamp_seconds", text, labels=("identity",))
    text = "Refreshes of temporary credentials, by each process on its own"
    refreshes = CounterMetricFamily("usp_s3_credentials_refreshes", text, labels=("identity", "result"))
    for identity, expires, successes, failures, *_ in identities:
        if expires:
            expiration.add_metric([identity], expires)
        refreshes.add_metric([identity, "success"], successes)
        refreshes.add_metric([identity, "failure"], failures)
    yield expiration
    yield refreshes


def _histogram(
    name: str, text: str, bounds: Iterable[int], observed: Iterable[tuple[BucketMetrics, Histogram]]
) -> Metric:
    family = HistogramMetricFamily(f"usp_s3_{name}_seconds", text, labels=_LABELS)
    limits = [*[str(bound / 1e6) for bound in bounds], "+Inf"]
    for bucket, histogram in observed:
        cumulative, total = [], 0
        for limit, count in zip(limits, histogram.counts, strict=True):
            total += count
            cumulative.append((limit, total))
        family.add_metric(_labels(bucket), cumulative, histogram.total / 1e6)
    return family


def _not_recorded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    text = b"Nothing is recorded: httpd has not loaded usp_s3_module, or UspS3Metrics is not On.\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    start_response("503 Service Unavailable", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]


def _make_application() -> Callable[..., Iterable[bytes]]:
    module = recorder.load_module()
    if module is None:
        return _not_recorded
    registry = CollectorRegistry()
    registry.register(ExchangeCollector(module.read_metrics))
    return make_wsgi_app(registry)


#: Serves the metrics in Prometheus' text format, or in that of OpenMetrics if the Accept header asks for it: PEP 3333.
application = _make_application()
