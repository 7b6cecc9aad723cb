"""What usp_s3_module keeps in shared memory, read by whichever process handles the request."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from usp_s3_wsgi.config.configured_bucket import ConfiguredBucket
from usp_s3_wsgi.status.snapshot import Identity, Minute, Process, Totals

WAYS = ("gateway", "proxy")
#: The name of all buckets for which usp_s3_module has no entry.
OTHER = "(other)"


class Key(NamedTuple):
    """A bucket with one way in."""

    way: str
    host: str
    bucket: str


class Configuration(NamedTuple):
    """The configured buckets. ``is_known``: False if there is no list. ``omitted``: how many it has no space for."""

    buckets: tuple[ConfiguredBucket, ...]
    omitted: int
    is_known: bool

    def mounts(self) -> dict[Key, list[ConfiguredBucket]]:
        """Return the places of each bucket. One whose settings are not valid has no name but that of its place."""
        found: dict[Key, list[ConfiguredBucket]] = {}
        for bucket in self.buckets:
            key = Key(bucket.way, "", bucket.path) if bucket.error else Key(bucket.way, bucket.host, bucket.bucket)
            found.setdefault(key, []).append(bucket)
        return found


class MinuteValues(NamedTuple):
    """One minute, as ``_httpd.read_last_hour`` returns it.

    ``first_byte_us``: the sum of the times to the first byte.
    """

    successes: int
    faults: int
    denials: int
    client_errors: int
    body_bytes: int
    attempts: int
    clock_corrections: int
    region_corrections: int
    first_bytes: int
    first_byte_us: int


class RecordedExchanges(NamedTuple):
    """The exchanges with a bucket. ``hour``: its minutes, the last one is this minute."""

    totals: Totals
    hour: tuple[MinuteValues, ...]


class Recorded(NamedTuple):
    """Everything but the failures, which are read on their own."""

    started_at: float
    gateway_requests: int
    exchanges: dict[Key, RecordedExchanges]
    identities: tuple[Identity, ...]
    processes: tuple[Process, ...]


def read(module: ModuleType) -> Recorded:
    """Return what is recorded. ``module``: usp_s3_module, as ``recorder.load_module`` returns it."""
    metrics = module.read_metrics()
    return Recorded(
        float(metrics["started_at"]),
        metrics["requests"],
        dict(_exchanges(module, metrics)),
        read_identities(metrics),
        tuple(
            Process(pid, "daemon" if is_daemon else "httpd", float(started_at), is_current)
            for pid, is_daemon, started_at, is_current in module.read_processes()
        ),
    )


def _exchanges(module: ModuleType, metrics: dict[str, Any]) -> Iterator[tuple[Key, RecordedExchanges]]:
    for entry in metrics["buckets"]:
        yield _key(entry), _recorded_exchanges(module, metrics, entry)


def read_exchanges(module: ModuleType, metrics: dict[str, Any], key: Key) -> RecordedExchanges | None:
    """Return the exchanges with one bucket. ``metrics``: what ``_httpd.read_metrics`` returned."""
    found = next((entry for entry in metrics["buckets"] if _key(entry) == key), None)
    return None if found is None else _recorded_exchanges(module, metrics, found)


def _key(entry: tuple[Any, ...]) -> Key:
    host, bucket, way, *_ = entry
    return Key(way, host, OTHER if bucket is None else bucket)


def _recorded_exchanges(module: ModuleType, metrics: dict[str, Any], entry: tuple[Any, ...]) -> RecordedExchanges:
    _, _, way, _, counters, _, _, number, faults = entry
    named = dict(zip(metrics["counters"], counters, strict=True))
    totals = Totals(
        sum(faults),
        faults[1],
        faults[2] + faults[3],
        named["attempts"],
        named["resumes"],
        named["clock_corrections"] + named["region_corrections"] + named["credential_corrections"],
        named["fallbacks"],
        named["body_bytes"],
        named["new_connections"],
        named["reused_connections"],
    )
    hour = tuple(MinuteValues(*values) for values in module.read_last_hour(number, WAYS.index(way)))
    return RecordedExchanges(totals, hour)


def read_identities(metrics: dict[str, Any]) -> tuple[Identity, ...]:
    """Return the temporary credentials in what ``_httpd.read_metrics`` returned."""
    return tuple(
        Identity(name, float(expires), float(refreshed), float(failed), successes, failures, is_failing, is_current)
        for name, expires, successes, failures, refreshed, failed, is_failing, is_current in metrics["credentials"]
    )


def minutes(hour: tuple[MinuteValues, ...], now: float) -> tuple[Minute, ...]:
    """Return the minutes of an hour with their times. ``now``: unix time. usp_s3_module's clock is never set."""
    start = now - time.monotonic() % 60
    return tuple(
        Minute(
            start - 60 * (len(hour) - 1 - index),
            values.successes + values.faults + values.denials + values.client_errors,
            values.faults,
            values.denials + values.client_errors,
            values.body_bytes,
            values.first_byte_us / values.first_bytes / 1e6 if values.first_bytes else None,
        )
        for index, values in enumerate(hour)
    )


#: The last list, as text and parsed: with thousands of buckets, parsing takes as long as all else.
_last: tuple[str, Configuration] = ("", Configuration((), 0, False))


def read_configuration(module: ModuleType) -> Configuration:
    """Return the configured buckets."""
    global _last
    text = module.read_configured_buckets()
    if text is None:
        return Configuration((), 0, False)
    if text != _last[0]:
        _last = (text, _parse(text))
    return _last[1]


def _parse(text: str) -> Configuration:
    """Return the list. After a restart it may be that of another version of this package until the check has ended."""
    buckets = []
    try:
        document = json.loads(text)
        for fields in document["buckets"]:
            fields["settings"] = tuple((name, value) for name, value in fields["settings"])
            fields["files"] = tuple((name, path) for name, path in fields["files"])
            buckets.append(ConfiguredBucket(**fields))
        return Configuration(tuple(buckets), document["omitted"], True)
    except (ValueError, TypeError, KeyError):
        return Configuration((), 0, False)


def read_failures(module: ModuleType) -> Iterator[tuple[Key, str, dict[str, Any]]]:
    """Yield the bucket, the id and the fields of each failed exchange that is kept."""
    for host, bucket, way, bucket_number, number, data in module.read_failures():
        try:
            fields = json.loads(data)
        except ValueError:
            continue  # of another version of this package, from before a restart
        yield Key(WAYS[way], host, OTHER if bucket is None else bucket), f"{bucket_number}-{number}", fields
