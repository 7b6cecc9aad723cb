"""How a bucket is doing: from its readiness, its last hour and its last failures to one sentence, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from usp_s3_wsgi.errors import LogCode
from usp_s3_wsgi.status.recorded import MinuteValues
from usp_s3_wsgi.status.snapshot import Failure, Health, Readiness

#: Minutes that decide how a bucket is doing, and the last of them, which show whether it was mended.
RECENT, LATEST = 5, 2
#: What error_codes.py writes if S3 names the region.
_REGION = re.compile(r"the bucket is in region ([A-Za-z0-9_-]+)")
_CLOCK = "This server's clock, or S3's, is wrong: requests are signed with S3's time."
_SET_CLOCK = "Set the clock of this server, and keep it right with NTP."
_SET_REGION = "Set S3Region to the region of the bucket."


class Assessment(NamedTuple):
    """``summary``: one sentence about what is wrong, empty if nothing is. ``cause``: the failure that it is about.

    ``action``: what to do, empty for what the explanation of the cause says.
    """

    health: Health
    summary: str = ""
    action: str = ""
    cause: Failure | None = None


def assess(
    ready: Readiness, hour: Sequence[MinuteValues], failures: Sequence[Failure], is_configured: bool
) -> Assessment:
    """Return how a bucket is doing.

    ``failures``: the latest first. ``is_configured``: False if the configuration does not name the bucket.
    """
    if not ready.is_ready:
        return Assessment(Health.FAILING, f"Requests cannot be signed. {ready.reason}.", ready.action)
    recent, latest = _sum(hour[-RECENT:]), _sum(hour[-LATEST:])
    if recent.faults:
        return _of_faults(recent, latest, _last(failures))
    if recent.denials and recent.denials == _exchanges(recent):
        cause = next((failure for failure in failures if failure.error == LogCode.ACCESS_DENIED), None)
        text = f"S3 denied all requests of the last {RECENT} minutes{_reason(cause)}."
        return Assessment(Health.DEGRADED, text, cause=cause)
    if is_configured and (silent := _minutes_since_faults(hour)):
        cause = _last(failures)
        text = f"The last requests failed, {silent} minutes ago, and there was none since{_reason(cause)}."
        return Assessment(Health.DEGRADED, text, cause=cause)
    whole = _sum(hour)
    if whole.clock_corrections:
        return Assessment(Health.DEGRADED, _CLOCK, _SET_CLOCK)
    if whole.region_corrections:
        return _of_region(failures)
    if ready.reason:
        return Assessment(Health.DEGRADED, f"{ready.reason}.", ready.action)
    return Assessment(Health.OK if _exchanges(whole) else Health.IDLE)


def _of_faults(recent: MinuteValues, latest: MinuteValues, cause: Failure | None) -> Assessment:
    exchanges = _exchanges(recent)
    if recent.faults == exchanges:
        return Assessment(
            Health.FAILING, f"All requests of the last {RECENT} minutes failed{_reason(cause)}.", cause=cause
        )
    text = f"{recent.faults:,} of {exchanges:,} requests of the last {RECENT} minutes failed{_reason(cause)}."
    if _exchanges(latest) and not latest.faults:
        text += f" None of the last {LATEST} minutes did."
    elif latest.faults and latest.faults == _exchanges(latest):
        return Assessment(Health.FAILING, f"{text} None of the last {LATEST} minutes succeeded.", cause=cause)
    return Assessment(Health.DEGRADED, text, cause=cause)


def _of_region(failures: Sequence[Failure]) -> Assessment:
    text = "S3Region is wrong: requests are signed for the region that S3 named."
    for failure in failures:
        if match := _REGION.search(failure.message):
            return Assessment(Health.DEGRADED, text, f"Set S3Region to {match[1]}.", failure)
    return Assessment(Health.DEGRADED, text, _SET_REGION)


def _minutes_since_faults(hour: Sequence[MinuteValues]) -> int:
    """Return how many minutes ago the last requests were, if all of that minute failed; else 0."""
    for ago, minute in enumerate(reversed(hour)):
        if _exchanges(minute):
            return ago if minute.faults == _exchanges(minute) else 0
    return 0


def _sum(minutes: Sequence[MinuteValues]) -> MinuteValues:
    return MinuteValues(*[sum(values) for values in zip(*minutes, strict=True)])


def _exchanges(values: MinuteValues) -> int:
    return values.successes + values.faults + values.denials + values.client_errors


def _last(failures: Sequence[Failure]) -> Failure | None:
    return next((failure for failure in failures if not failure.is_client_error), None)


def _reason(failure: Failure | None) -> str:
    if failure is None:
        return ""
    if failure.s3_code and failure.explanation.title:
        return f": {failure.explanation.title} ({failure.s3_code})"
    return f": {failure.message}"
