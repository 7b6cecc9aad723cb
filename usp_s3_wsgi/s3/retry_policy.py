"""What may be asked again after a failure, and how: one table of all conditions."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from usp_s3_wsgi.errors import (
    AccessDenied,
    BodyTruncated,
    BodyUnusable,
    GatewayError,
    HostResting,
    NoFreeConnection,
    ObjectNotFound,
    UpstreamBusy,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
    UpstreamUntrusted,
)
from usp_s3_wsgi.s3.error_response import BUSY_CODES, BUSY_STATUSES, CLOCK_CODES, KEY_CODES


class Remedy(Enum):
    """How the same is asked again. All but ``LATER`` are worth one try, and only if they change something."""

    NONE = "not at all"
    LATER = "after a pause, S3Retries times"
    CLOCK = "signed with S3's clock"
    REGION = "signed for the region that S3 names"
    KEYS = "signed with other credentials than those that S3 refused"


class Elsewhere(Enum):
    """Whether the second bucket (``S3FallbackURL``) is asked when the first has failed for good."""

    NO = "no"
    YES = "yes"
    IF_ON_404 = "with S3FallbackOn404 on"


class Rule(NamedTuple):
    """A row: failures of that class, with one of these of S3's statuses and codes (None: whatever they are)."""

    failure: type[GatewayError]
    remedy: Remedy
    elsewhere: Elsewhere
    statuses: frozenset[int] | None = None
    codes: frozenset[str] | None = None


_BUSY = frozenset({500, 502, 503, 504}) | BUSY_STATUSES
_NAMES_REGION = frozenset({301, 307, 308, 400})

#: The first row that fits counts; what fits none is final.
RULES = (
    Rule(UpstreamUnreachable, Remedy.LATER, Elsewhere.YES),
    Rule(UpstreamUntrusted, Remedy.NONE, Elsewhere.YES),
    # The client has waited long enough, and S3 may still be at work on the first.
    Rule(UpstreamTimeout, Remedy.NONE, Elsewhere.YES),
    Rule(HostResting, Remedy.NONE, Elsewhere.YES),
    # The operator's own limit: whoever waits longer, or asks elsewhere, goes around it.
    Rule(NoFreeConnection, Remedy.NONE, Elsewhere.NO),
    Rule(UpstreamBusy, Remedy.LATER, Elsewhere.YES, _BUSY),
    Rule(UpstreamBusy, Remedy.LATER, Elsewhere.YES, codes=BUSY_CODES),
    Rule(UpstreamBusy, Remedy.NONE, Elsewhere.YES),
    Rule(UpstreamRefused, Remedy.CLOCK, Elsewhere.NO, codes=CLOCK_CODES),
    Rule(UpstreamRefused, Remedy.KEYS, Elsewhere.NO, codes=KEY_CODES),
    Rule(UpstreamRefused, Remedy.REGION, Elsewhere.NO, _NAMES_REGION),
    Rule(ObjectNotFound, Remedy.NONE, Elsewhere.IF_ON_404),
    # Without the permission to list S3 denies what it has not got; S3DeniedStatus 404 says that it is to be taken so.
    Rule(AccessDenied, Remedy.NONE, Elsewhere.IF_ON_404),
    Rule(BodyUnusable, Remedy.NONE, Elsewhere.NO),
    Rule(BodyTruncated, Remedy.LATER, Elsewhere.NO),
)
_FINAL = Rule(GatewayError, Remedy.NONE, Elsewhere.NO)


def rule_for(failure: GatewayError) -> Rule:
    """Return the rule that counts for a failure."""
    return next((rule for rule in RULES if _fits(rule, failure)), _FINAL)


def may_ask_elsewhere(failure: GatewayError, on_404: bool) -> bool:
    """Whether the second bucket is to be asked after the first one's last failure; ``on_404``: S3FallbackOn404."""
    elsewhere = rule_for(failure).elsewhere
    return elsewhere is Elsewhere.YES or (elsewhere is Elsewhere.IF_ON_404 and on_404 and failure.status == 404)


def _fits(rule: Rule, failure: GatewayError) -> bool:
    told = failure.told
    return (
        isinstance(failure, rule.failure)
        and (rule.statuses is None or (told is not None and told.status in rule.statuses))
        and (rule.codes is None or (told is not None and told.code in rule.codes))
    )
