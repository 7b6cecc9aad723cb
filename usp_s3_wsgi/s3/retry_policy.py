"""Which failures are retried, and how, and after which the fallback bucket is used: one table."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from usp_s3_wsgi.errors import (
    AccessDenied,
    BodyNotResumable,
    BodyTruncated,
    CredentialsUnavailable,
    GatewayError,
    HostInErrorState,
    ObjectNotFound,
    PoolTimeout,
    RequestRejected,
    UpstreamConnectionError,
    UpstreamTimeout,
    UpstreamTLSError,
    UpstreamUnavailable,
)
from usp_s3_wsgi.s3.error_codes import CLOCK_SKEW_CODES, CREDENTIAL_CODES, TRANSIENT_CODES, TRANSIENT_STATUSES


class RetryAction(Enum):
    """What is done before a retry. A correction is tried once for a request, and only if it changes something."""

    NO_RETRY = "no retry"
    BACKOFF = "wait; at most S3Retries times"
    CORRECT_CLOCK_SKEW = "sign with S3's clock, or with this server's own again"
    FOLLOW_REGION = "sign for the region that S3 names"
    REFRESH_CREDENTIALS = "sign with other credentials than those that S3 rejected"


class Fallback(Enum):
    """Whether the fallback bucket (``S3FallbackURL``) is used after the last attempt has failed."""

    NEVER = "never"
    ALWAYS = "always"
    ON_404 = "with S3FallbackOn404 on, if the status is 404"


class Rule(NamedTuple):
    """A row: failures of that class, with one of these statuses and codes of S3 (None: any)."""

    failure: type[GatewayError]
    action: RetryAction
    fallback: Fallback
    statuses: frozenset[int] | None = None
    codes: frozenset[str] | None = None


_TRANSIENT = frozenset({500, 502, 503, 504}) | TRANSIENT_STATUSES
_REGION_REDIRECT_STATUSES = frozenset({301, 307, 308, 400})

#: The first row that matches is used; without one there is neither retry nor fallback.
RULES = (
    Rule(UpstreamConnectionError, RetryAction.BACKOFF, Fallback.ALWAYS),
    Rule(UpstreamTLSError, RetryAction.NO_RETRY, Fallback.ALWAYS),
    # The client has waited long enough, and S3 may still be working on the first request.
    Rule(UpstreamTimeout, RetryAction.NO_RETRY, Fallback.ALWAYS),
    Rule(HostInErrorState, RetryAction.NO_RETRY, Fallback.ALWAYS),
    # The operator's own limit on connections: a retry or another bucket would evade it.
    Rule(PoolTimeout, RetryAction.NO_RETRY, Fallback.NEVER),
    # The refresher has its own retries.
    Rule(CredentialsUnavailable, RetryAction.NO_RETRY, Fallback.ALWAYS),
    Rule(UpstreamUnavailable, RetryAction.BACKOFF, Fallback.ALWAYS, _TRANSIENT),
    Rule(UpstreamUnavailable, RetryAction.BACKOFF, Fallback.ALWAYS, codes=TRANSIENT_CODES),
    Rule(UpstreamUnavailable, RetryAction.NO_RETRY, Fallback.ALWAYS),
    Rule(RequestRejected, RetryAction.CORRECT_CLOCK_SKEW, Fallback.NEVER, codes=CLOCK_SKEW_CODES),
    Rule(RequestRejected, RetryAction.REFRESH_CREDENTIALS, Fallback.NEVER, codes=CREDENTIAL_CODES),
    Rule(RequestRejected, RetryAction.FOLLOW_REGION, Fallback.NEVER, _REGION_REDIRECT_STATUSES),
    Rule(ObjectNotFound, RetryAction.NO_RETRY, Fallback.ON_404),
    # Without the permission to list, S3 denies access to objects that do not exist: S3DeniedStatus 404 stands for that.
    Rule(AccessDenied, RetryAction.NO_RETRY, Fallback.ON_404),
    Rule(BodyNotResumable, RetryAction.NO_RETRY, Fallback.NEVER),
    Rule(BodyTruncated, RetryAction.BACKOFF, Fallback.NEVER),
)
_NO_RULE = Rule(GatewayError, RetryAction.NO_RETRY, Fallback.NEVER)


def rule_for(failure: GatewayError) -> Rule:
    """Return the rule that is used for a failure."""
    return next((rule for rule in RULES if _matches(rule, failure)), _NO_RULE)


def should_use_fallback(failure: GatewayError, on_404: bool) -> bool:
    """Whether the fallback bucket is used after this failure of the last attempt; ``on_404``: S3FallbackOn404."""
    fallback = rule_for(failure).fallback
    return fallback is Fallback.ALWAYS or (fallback is Fallback.ON_404 and on_404 and failure.status == 404)


def _matches(rule: Rule, failure: GatewayError) -> bool:
    s3_error = failure.s3_error
    return (
        isinstance(failure, rule.failure)
        and (rule.statuses is None or (s3_error is not None and s3_error.status in rule.statuses))
        and (rule.codes is None or (s3_error is not None and s3_error.code in rule.codes))
    )
