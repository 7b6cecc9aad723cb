"""A stale If-Range gives the whole object, although Swift and Ceph answer with the range."""

from __future__ import annotations

import pytest

from tests.faults.server import ScriptedS3, answer, error
from tests.wsgi import call, environ, s3_settings

ETAG, OTHER = '"9b2cf535"', '"d41d8cd9"'
DATE, EARLIER = "Wed, 21 Oct 2015 07:28:00 GMT", "Tue, 20 Oct 2015 07:28:00 GMT"
VALIDATORS = (("ETag", ETAG), ("Last-Modified", DATE))
PART = answer(206, b"ell", ("Content-Range", "bytes 1-3/5"), *VALIDATORS)
WHOLE = answer(200, b"hello", *VALIDATORS)


@pytest.mark.parametrize("validator", [ETAG, DATE])
def test_a_matching_validator_gets_the_range(validator: str) -> None:
    with ScriptedS3(PART) as s3:
        headers = {"Range": "bytes=1-3", "If-Range": validator}
        reply = call(environ("/media/film.mp4", s3_settings(s3.url), headers=headers))
    assert (reply.status, reply.body) == (206, b"ell")
    assert s3.requests[0].headers["if-range"] == validator


# A weak validator never matches: https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
@pytest.mark.parametrize("validator", [OTHER, EARLIER, f"W/{ETAG}", "neither date nor tag"])
@pytest.mark.parametrize(
    "first", [PART, error(416, "InvalidRange", ("Content-Range", "bytes */5"), *VALIDATORS)], ids=["206", "416"]
)
def test_a_stale_validator_gets_the_whole_object(first: bytes, validator: str) -> None:
    with ScriptedS3(first, WHOLE) as s3:
        headers = {"Range": "bytes=1-3", "If-Range": validator, "If-Match": ETAG}
        reply = call(environ("/media/film.mp4", s3_settings(s3.url), headers=headers))
    assert (reply.status, reply.body) == (200, b"hello")
    assert "Content-Range" not in reply.headers
    retried = s3.requests[1].headers
    assert "range" not in retried and "if-range" not in retried
    assert retried["if-match"] == ETAG
    assert [request.connection for request in s3.requests] == [1, 1]


def test_a_range_without_validators_gets_the_whole_object() -> None:
    with ScriptedS3(answer(206, b"ell", ("Content-Range", "bytes 1-3/5")), answer(200, b"hello")) as s3:
        headers = {"Range": "bytes=1-3", "If-Range": ETAG}
        reply = call(environ("/media/film.mp4", s3_settings(s3.url), headers=headers))
    assert (reply.status, reply.body) == (200, b"hello")


def test_a_server_that_checks_if_range_gets_one_request() -> None:
    with ScriptedS3(WHOLE) as s3:
        headers = {"Range": "bytes=1-3", "If-Range": OTHER}
        reply = call(environ("/media/film.mp4", s3_settings(s3.url), headers=headers))
    assert (reply.status, reply.body) == (200, b"hello")
