"""The retry policy: which failures are retried, how, and after which the fallback bucket is used."""

from __future__ import annotations

import pytest

from usp_s3_wsgi import errors
from usp_s3_wsgi.errors import S3ErrorResponse
from usp_s3_wsgi.s3 import error_codes
from usp_s3_wsgi.s3.retry_policy import RULES, RetryAction, rule_for, should_use_fallback


def s3_failure(status: int, code: str = "") -> errors.GatewayError:
    return error_codes.to_exception(S3ErrorResponse(status, code), denied_status=403)


#: Failure, action, whether the fallback bucket is used: never, always, or with S3FallbackOn404.
CASES = [
    (errors.UpstreamConnectionError("x"), RetryAction.BACKOFF, "always"),
    (errors.UpstreamTLSError("x"), RetryAction.NO_RETRY, "always"),
    (errors.UpstreamTimeout("x"), RetryAction.NO_RETRY, "always"),
    (errors.HostInErrorState("x", 9), RetryAction.NO_RETRY, "always"),
    (errors.PoolTimeout("x"), RetryAction.NO_RETRY, "never"),
    (errors.CredentialsUnavailable("x"), RetryAction.NO_RETRY, "always"),
    (errors.BadUpstreamResponse("x"), RetryAction.NO_RETRY, "never"),
    (s3_failure(500, "InternalError"), RetryAction.BACKOFF, "always"),
    (s3_failure(502), RetryAction.BACKOFF, "always"),
    (s3_failure(503, "SlowDown"), RetryAction.BACKOFF, "always"),
    (s3_failure(504), RetryAction.BACKOFF, "always"),
    (s3_failure(507, "InsufficientStorage"), RetryAction.NO_RETRY, "always"),
    (s3_failure(501, "NotImplemented"), RetryAction.NO_RETRY, "never"),
    (s3_failure(505), RetryAction.NO_RETRY, "never"),
    (s3_failure(408), RetryAction.BACKOFF, "always"),
    (s3_failure(425), RetryAction.BACKOFF, "always"),
    (s3_failure(429, "TooManyRequests"), RetryAction.BACKOFF, "always"),
    (s3_failure(400, "RequestTimeout"), RetryAction.BACKOFF, "always"),
    (s3_failure(409, "OperationAborted"), RetryAction.BACKOFF, "always"),
    (s3_failure(507, "SlowDown"), RetryAction.BACKOFF, "always"),
    (s3_failure(403, "RequestTimeTooSkewed"), RetryAction.CORRECT_CLOCK_SKEW, "never"),
    (s3_failure(403, "RequestExpired"), RetryAction.CORRECT_CLOCK_SKEW, "never"),
    (s3_failure(400, "ExpiredRequest"), RetryAction.CORRECT_CLOCK_SKEW, "never"),
    (s3_failure(400, "AuthorizationHeaderMalformed"), RetryAction.FOLLOW_REGION, "never"),
    (s3_failure(301, "PermanentRedirect"), RetryAction.FOLLOW_REGION, "never"),
    (s3_failure(307, "TemporaryRedirect"), RetryAction.FOLLOW_REGION, "never"),
    (s3_failure(308, "PermanentRedirect"), RetryAction.FOLLOW_REGION, "never"),
    (s3_failure(400, "ExpiredToken"), RetryAction.REFRESH_CREDENTIALS, "never"),
    (s3_failure(400, "InvalidToken"), RetryAction.REFRESH_CREDENTIALS, "never"),
    (s3_failure(400, "TokenRefreshRequired"), RetryAction.REFRESH_CREDENTIALS, "never"),
    (s3_failure(403, "InvalidAccessKeyId"), RetryAction.REFRESH_CREDENTIALS, "never"),
    (s3_failure(403, "SignatureDoesNotMatch"), RetryAction.REFRESH_CREDENTIALS, "never"),
    (s3_failure(403, "AccessDenied"), RetryAction.NO_RETRY, "never"),
    (s3_failure(404, "NoSuchKey"), RetryAction.NO_RETRY, "on 404"),
    (s3_failure(404, "NoSuchBucket"), RetryAction.NO_RETRY, "never"),
    (s3_failure(400, "KeyTooLongError"), RetryAction.NO_RETRY, "never"),
    (s3_failure(409), RetryAction.NO_RETRY, "never"),
    (errors.ObjectNotFound("the bucket itself"), RetryAction.NO_RETRY, "on 404"),
    (errors.BadRequestTarget("x"), RetryAction.NO_RETRY, "never"),
    (errors.MethodNotAllowed("PUT"), RetryAction.NO_RETRY, "never"),
    (errors.SettingError("x"), RetryAction.NO_RETRY, "never"),
    (errors.BodyTruncated("x"), RetryAction.BACKOFF, "never"),
    (errors.BodyNotResumable("x"), RetryAction.NO_RETRY, "never"),
]


@pytest.mark.parametrize(
    ("failure", "action", "fallback"), CASES, ids=lambda value: getattr(value, "rate_limit_key", None)
)
def test_rule(failure: errors.GatewayError, action: RetryAction, fallback: str) -> None:
    assert rule_for(failure).action is action
    assert should_use_fallback(failure, False) == (fallback == "always")
    assert should_use_fallback(failure, True) == (fallback in {"always", "on 404"})


def test_each_rule_is_used() -> None:
    assert {rule_for(failure) for failure, *_ in CASES} >= set(RULES)
