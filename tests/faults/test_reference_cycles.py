"""A request leaves no reference cycles, however it ends.

A cycle would keep the environ, the connection and the buffers of its request until Python's garbage collector runs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.named import OBJECT, rest, truncated
from tests.faults.server import ScriptedS3, Step, answer, close, error, first, reset, stall
from tests.wsgi import call, environ, s3_settings

WHOLE = answer(200, OBJECT)
TRUNCATED = first(answer(200, b"hello", length=50), close)
#: The steps of S3, and S3Retries.
SCRIPTS: dict[str, tuple[list[Step], int]] = {
    "success": ([WHOLE], 0),
    "closed, then success": ([close, WHOLE], 1),
    "reset, then success": ([reset, WHOLE], 1),
    "503, then success": ([error(503, "SlowDown"), WHOLE], 1),
    "a truncated header, then success": ([first(b"HTTP/1.1 200 OK\r\nETag", close), WHOLE], 1),
    "closed": ([close], 0),
    "503": ([error(503, "SlowDown"), error(503, "SlowDown")], 1),
    "a wrong key": ([error(403, "SignatureDoesNotMatch")], 0),
    "not found": ([error(404, "NoSuchKey")], 0),
    "not HTTP": ([first(b"SSH-2.0-OpenSSH_9.2\r\n", close)], 0),
    "stalled": ([stall], 0),
    "a truncated body": ([TRUNCATED], 0),
    "a resumed body": ([first(truncated(9), close), rest(9)], 1),
    "a body whose rest fails": ([first(truncated(9), close), error(503, "SlowDown")], 1),
}


@contextmanager
def reference_cycles() -> Iterator[list[object]]:
    """Yield a list; after the block it has the types of the gateway's objects that only the garbage collector frees."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += [type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("usp_s3_wsgi")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_cycles(name: str) -> None:
    steps, retries = SCRIPTS[name]
    with ScriptedS3(*steps) as s3:
        settings = s3_settings(s3.url, S3Retries=str(retries), S3ProxySet="timeout=300ms retry=0")
        with reference_cycles() as left:
            reply = call(environ("/media/film.mp4", settings))
            if reply.truncated is not None:  # mod_wsgi drops the exception after logging it
                reply.truncated.__traceback__ = None
    assert left == []


def test_no_cycles_with_the_fallback_bucket() -> None:
    with ScriptedS3(close) as s3, ScriptedS3(WHOLE) as other:
        settings = s3_settings(s3.url, S3FallbackURL=f"{other.url}/bucket/", S3ProxySet="retry=0")
        with reference_cycles() as left:
            assert call(environ("/media/film.mp4", settings)).status == 200
    assert left == []


def test_no_cycles_if_the_request_cannot_be_signed() -> None:
    with reference_cycles() as left:
        assert call(environ("/media/film.mp4", s3_settings("http://127.0.0.1:1", S3UseHeaders="maybe"))).status == 500
    assert left == []
