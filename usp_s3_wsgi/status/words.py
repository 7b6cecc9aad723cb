"""Values in words, as the status page shows them: numbers, times, states. Nothing here knows HTML."""

from __future__ import annotations

from datetime import UTC, datetime

from usp_s3_wsgi.status.snapshot import Bucket, Failure, Health, Identity, Snapshot

#: Letters and marks that show nothing, although Unicode calls them printable: fillers, joiners, variation selectors.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {chr(c) for c in range(0xFE00, 0xFE10)}
HOUR = 3600.0


def visible(text: str) -> str:
    """Return a text in which each character shows: others, such as controls and bidi overrides, are ``\\u{202e}``."""
    if text.isprintable() and _INVISIBLE.isdisjoint(text):
        return text
    return "".join(c if c.isprintable() and c not in _INVISIBLE else f"\\u{{{ord(c):x}}}" for c in text)


def shorten(text: str, limit: int) -> str:
    """Return a visible text of at most ``limit`` characters: its begin and its end, which is what names a segment."""
    if len(text) > 2 * limit:
        text = text[:limit] + text[-limit:]  # what is between will not be shown, and takes time
    text = visible(text)
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def number(value: float) -> str:
    """Return a number with separators: 14,380."""
    return f"{value:,.0f}"


def count(value: int, one: str, many: str) -> str:
    """Return a number with its noun: 1 exchange, 14,380 exchanges."""
    return f"{value:,} {one if value == 1 else many}"


def size(octets: float) -> str:
    """Return bytes in a unit that is easy to read: 1.2 GB."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    index = 0
    while octets >= 1000 and index < len(units) - 1:
        octets, index = octets / 1000, index + 1
    return f"{octets:,.0f} {units[index]}" if index == 0 or octets >= 100 else f"{octets:,.1f} {units[index]}"


def duration(seconds: float) -> str:
    """Return a time in one or two units: 0.2 ms, 48 ms, 1.2 s, 14 min, 3 h 20 min, 2 days."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return _long_duration(seconds)


def _long_duration(seconds: float) -> str:
    """A time of at least a second, without fractions."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def ago(time: float, now: float) -> str:
    """Return how long ago a moment was: 3 min ago."""
    return f"{_long_duration(now - time)} ago" if now - time >= 1 else "now"


def utc(time: float) -> str:
    """Return a moment as in ISO 8601: 2026-11-28T02:13:20Z; empty if it is none."""
    moment = _moment(time)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else ""


def clock(time: float, now: float | None = None) -> str:
    """Return a moment for people: 02:13:20 UTC; with its date if that is not the date of ``now``."""
    moment, today = _moment(time), _moment(time if now is None else now)
    if moment is None:
        return "unknown"
    is_today = today is not None and moment.date() == today.date()
    return f"{moment:%H:%M:%S UTC}" if is_today else f"{moment:%Y-%m-%d %H:%M:%S UTC}"


def minute(time: float) -> str:
    """Return the minute of a moment: 02:13 UTC."""
    moment = _moment(time)
    return f"{moment:%H:%M UTC}" if moment else "unknown"


def _moment(time: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(time, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def health_of_identity(identity: Identity, now: float) -> Health:
    """Return how temporary credentials are doing: failing if they have expired after a failed refresh."""
    ends_in = identity.expires - now if identity.expires else HOUR
    if identity.is_failing:
        return Health.FAILING if ends_in <= 0 else Health.DEGRADED
    return Health.OK if ends_in > 0 else Health.IDLE


def expiry(identity: Identity, now: float) -> str:
    """Return when temporary credentials end: expires in 14 min."""
    if not identity.expires:
        return "no expiry is known"
    ends_in = identity.expires - now
    return f"expires in {_long_duration(ends_in)}" if ends_in > 0 else f"expired {ago(identity.expires, now)}"


def state_of_identity(identity: Identity, now: float) -> str:
    """Return in a few words how temporary credentials are doing."""
    match health_of_identity(identity, now):
        case Health.FAILING:
            return "Expired, cannot be refreshed"
        case Health.DEGRADED:
            return "Cannot be refreshed"
        case Health.IDLE:
            return "Not in use"
    return "OK"


def overall(snapshot: Snapshot) -> str:
    """Return the state of everything in one sentence, without a full stop."""
    total = len(snapshot.buckets) + snapshot.omitted_buckets
    failing, degraded, idle = (
        sum(bucket.health is health for bucket in snapshot.buckets)
        for health in (Health.FAILING, Health.DEGRADED, Health.IDLE)
    )
    if failing:
        return f"{_some(failing, total)} failing"
    if degraded:
        return f"{_some(degraded, total)} degraded"
    if any(health_of_identity(identity, snapshot.time) is Health.FAILING for identity in snapshot.identities):
        return "Temporary credentials have expired and cannot be refreshed"
    if any(identity.is_failing for identity in snapshot.identities):
        return "Temporary credentials cannot be refreshed"
    if snapshot.health in {Health.FAILING, Health.DEGRADED}:
        return "This server is failing" if snapshot.health is Health.FAILING else "This server needs attention"
    if not total:
        return "No bucket is configured" if snapshot.is_complete else "The configuration could not be read"
    ready = "The bucket is" if total == 1 else "Both buckets are" if total == 2 else f"All {total} buckets are"
    return f"{ready} ready, without requests in the last hour" if idle == len(snapshot.buckets) else f"{ready} OK"


def _some(some: int, total: int) -> str:
    if total == 1:
        return "The bucket is"
    if some == total:
        return "Both buckets are" if total == 2 else f"All {total} buckets are"
    return f"{some} of {total} buckets {'is' if some == 1 else 'are'}"


def further_states(snapshot: Snapshot) -> str:
    """Return the numbers of buckets in each state but those that ``overall`` names: 1 degraded, 2 OK."""
    numbers = {health: sum(bucket.health is health for bucket in snapshot.buckets) for health in Health}
    named = next((health for health in (Health.FAILING, Health.DEGRADED) if numbers[health]), None)
    if named is None and len({bucket.health for bucket in snapshot.buckets}) <= 1:
        return ""
    words = {Health.FAILING: "failing", Health.DEGRADED: "degraded", Health.OK: "OK", Health.IDLE: "without requests"}
    return ", ".join(f"{many} {words[health]}" for health, many in numbers.items() if many and health is not named)


def causes(bucket: Bucket, now: float) -> Failure | None:
    """Return the failure that shows best why a bucket is in trouble: its cause, or the last one of no client.

    None if there is none, or if it is so old that the trouble is another one.
    """
    if bucket.cause or bucket.action:
        return next((failure for failure in bucket.failures if failure.id == bucket.cause), None)
    failure = next((failure for failure in bucket.failures if not failure.is_client_error), None)
    is_old = failure is not None and now - failure.time > HOUR
    return None if is_old and bucket.health is not Health.FAILING else failure


def title_of(bucket: Bucket) -> str:
    """Return what an operator calls a bucket: its name, or its host."""
    return bucket.name or bucket.host or "(any bucket)"
