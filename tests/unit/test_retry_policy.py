"""The table: which failures are asked again, how, and which send the request to the second bucket."""

from __future__ import annotations

import pytest

from usp_s3_wsgi import errors
from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.s3.error_response import S3Error
from usp_s3_wsgi.s3.retry_policy import RULES, Remedy, may_ask_elsewhere, rule_for

SETTINGS = Settings(bucket_url("https://b.s3.amazonaws.com/"))


def of_s3(status: int, code: str = "") -> errors.GatewayError:
    return error_response.refusal(S3Error(status, code), SETTINGS)


#: Failure, remedy, whether the second bucket is asked: never, whenever there is one, or with S3FallbackOn404.
CASES = [
    (errors.UpstreamUnreachable("x"), Remedy.LATER, "yes"),
    (errors.UpstreamUntrusted("x"), Remedy.NONE, "yes"),
    (errors.UpstreamTimeout("x"), Remedy.NONE, "yes"),
    (errors.HostResting("x", 9), Remedy.NONE, "yes"),
    (errors.NoFreeConnection("x"), Remedy.NONE, "no"),
    (errors.UpstreamRefused("x"), Remedy.NONE, "no"),
    (of_s3(500, "InternalError"), Remedy.LATER, "yes"),
    (of_s3(502), Remedy.LATER, "yes"),
    (of_s3(503, "SlowDown"), Remedy.LATER, "yes"),
    (of_s3(504), Remedy.LATER, "yes"),
    (of_s3(507, "InsufficientStorage"), Remedy.NONE, "yes"),
    (of_s3(501, "NotImplemented"), Remedy.NONE, "no"),
    (of_s3(505), Remedy.NONE, "no"),
    (of_s3(408), Remedy.LATER, "yes"),
    (of_s3(425), Remedy.LATER, "yes"),
    (of_s3(429, "TooManyRequests"), Remedy.LATER, "yes"),
    (of_s3(400, "RequestTimeout"), Remedy.LATER, "yes"),
    (of_s3(409, "OperationAborted"), Remedy.LATER, "yes"),
    (of_s3(507, "SlowDown"), Remedy.LATER, "yes"),
    (of_s3(403, "RequestTimeTooSkewed"), Remedy.CLOCK, "no"),
    (of_s3(403, "RequestExpired"), Remedy.CLOCK, "no"),
    (of_s3(400, "ExpiredRequest"), Remedy.CLOCK, "no"),
    (of_s3(400, "AuthorizationHeaderMalformed"), Remedy.REGION, "no"),
    (of_s3(301, "PermanentRedirect"), Remedy.REGION, "no"),
    (of_s3(307, "TemporaryRedirect"), Remedy.REGION, "no"),
    (of_s3(308, "PermanentRedirect"), Remedy.REGION, "no"),
    (of_s3(400, "ExpiredToken"), Remedy.KEYS, "no"),
    (of_s3(400, "InvalidToken"), Remedy.KEYS, "no"),
    (of_s3(400, "TokenRefreshRequired"), Remedy.KEYS, "no"),
    (of_s3(403, "InvalidAccessKeyId"), Remedy.KEYS, "no"),
    (of_s3(403, "SignatureDoesNotMatch"), Remedy.KEYS, "no"),
    (of_s3(403, "AccessDenied"), Remedy.NONE, "no"),
    (of_s3(404, "NoSuchKey"), Remedy.NONE, "on 404"),
    (of_s3(404, "NoSuchBucket"), Remedy.NONE, "no"),
    (of_s3(400, "KeyTooLongError"), Remedy.NONE, "no"),
    (of_s3(409), Remedy.NONE, "no"),
    (errors.ObjectNotFound("the bucket itself"), Remedy.NONE, "on 404"),
    (errors.BadPath("x"), Remedy.NONE, "no"),
    (errors.MethodNotAllowed("PUT"), Remedy.NONE, "no"),
    (errors.SettingError("x"), Remedy.NONE, "no"),
    (errors.BodyTruncated("x"), Remedy.LATER, "no"),
    (errors.BodyUnusable("x"), Remedy.NONE, "no"),
]


@pytest.mark.parametrize(("failure", "remedy", "elsewhere"), CASES, ids=lambda value: getattr(value, "kind", None))
def test_rule(failure: errors.GatewayError, remedy: Remedy, elsewhere: str) -> None:
    assert rule_for(failure).remedy is remedy
    assert may_ask_elsewhere(failure, False) == (elsewhere == "yes")
    assert may_ask_elsewhere(failure, True) == (elsewhere in {"yes", "on 404"})


def test_each_row_is_of_use() -> None:
    assert {rule_for(failure) for failure, *_ in CASES} >= set(RULES)
