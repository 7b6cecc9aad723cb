"""No secret key, session token, signature or presigned query is logged or returned, whatever happens, in any mode."""

from __future__ import annotations

import gc
import logging
import re
from pathlib import Path
from urllib.parse import parse_qs, quote

import pytest

from tests.faults.server import Request, ScriptedS3, Step, answer, close, error, first, reset, stall
from tests.leaks import leaks
from tests.wsgi import MODES, SECRET_KEY, TOKEN, begin, call, environ, s3_settings
from usp_s3_wsgi.gateway import fetcher
from usp_s3_wsgi.proxy import callbacks
from usp_s3_wsgi.signing import sigv2, sigv4
from usp_s3_wsgi.signing.types import Pairs

HELLO = answer(200, b"hello")
BROKEN_HEADER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon here\r\nETag: x\r\n\r\nhi"
SCENARIOS: dict[str, list[Step]] = {
    "200": [HELLO],
    "206": [answer(206, b"el", ("Content-Range", "bytes 1-2/5"))],
    "304": [answer(304)],
    "403": [error(403, "AccessDenied")],
    "signature refused": [error(403, "SignatureDoesNotMatch")],
    "redirect": [error(307, "TemporaryRedirect", ("Location", "/elsewhere"))],
    "retried": [error(503, "SlowDown"), close, HELLO],
    "busy": [error(503, "SlowDown")] * 3,
    "closed": [close] * 3,
    "reset": [reset] * 3,
    "stalled": [stall],
    "cut short": [first(answer(200, b"hello", length=50), close)],
    "garbage": [first(b"garbage\r\n", close)],
    "broken header": [BROKEN_HEADER],
    "two lengths": [answer(200, b"hello", ("Content-Length", "4"))],
}


def signatures(request: Request) -> list[str]:
    """The signature of a request as it was sent, and decoded."""
    found = re.findall(r"Signature=([0-9a-f]{64})|^AWS [^:]+:(.+)$", request.headers.get("authorization", ""))
    query = parse_qs(request.target.partition("?")[2])
    texts = [part for pair in found for part in pair if part]
    texts += query.get("X-Amz-Signature", []) + query.get("Signature", [])
    assert len(texts) == 1
    return [texts[0], quote(texts[0], safe="")]


def secrets(s3: ScriptedS3) -> set[str]:
    """All that must not be seen."""
    known = {SECRET_KEY, TOKEN, quote(SECRET_KEY, safe=""), quote(TOKEN, safe="")}
    return known.union(*(signatures(request) for request in s3.requests))


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_it_is_seen(
    mode: str,
    scenario: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    caplog.set_level(logging.DEBUG)
    with ScriptedS3(*SCENARIOS[scenario]) as s3:
        more = {
            "S3SecurityToken": TOKEN,
            "S3Retries": "2",
            "S3ProxySet": f"timeout={'60ms' if scenario == 'stalled' else 30}",
        }
        reply = call(environ("/media/film.mp4", s3_settings(s3.url, mode, **more)))
    assert s3.requests
    seen = [caplog.text, *map(str, capfd.readouterr()), repr(reply), reply.log, reply.body.decode("latin-1")]
    for secret in secrets(s3):
        assert secret not in "\n".join(seen)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_seen_of_what_fails_before_it_is_sent(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedS3() as s3:
        pass
    reply = call(environ("/media/film.mp4", s3_settings(s3.url, mode, S3SecurityToken=TOKEN)))
    seen = caplog.text + reply.log + repr(reply)
    assert reply.status == 502
    assert not re.search(r"Signature|X-Amz|AWSAccessKeyId|\?", seen)
    assert SECRET_KEY not in seen and TOKEN not in seen


@pytest.mark.parametrize("mode", MODES)
def test_an_unexpected_exception_is_one_line_without_its_words(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*given: object) -> None:
        raise RuntimeError(f"it failed with\n{given}, {SECRET_KEY}, {TOKEN}")

    monkeypatch.setattr(fetcher, "sign", explode)
    reply = call(environ("/media/film.mp4", s3_settings("http://127.0.0.1:9", mode, S3SecurityToken=TOKEN)))
    assert reply.status == 500
    assert reply.body == b"500 Internal Server Error\n"
    assert reply.log.count("\n") == 1
    assert "internal error: RuntimeError in explode" in reply.log
    assert SECRET_KEY not in reply.log and TOKEN not in reply.log and "it failed" not in reply.log


def test_the_error_of_a_cut_body_holds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    # mod_wsgi logs its traceback, and those of the exceptions it came from.
    with ScriptedS3(first(answer(200, b"hello", length=50), close)) as s3:
        begun = begin(environ("/media/film.mp4", s3_settings(s3.url, "v4-query")))
        with pytest.raises(Exception) as caught:
            list(begun.pieces)
        begun.close()
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    for secret in secrets(s3):
        assert secret not in str(caught.value)


def test_of_a_file_of_keys_only_the_setting_is_named(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET_KEY} {TOKEN}")  # a space: not a key
    settings = s3_settings("http://127.0.0.1:9", S3SecretKeyFile=str(file))
    del settings["S3SecretKey"]
    reply = call(environ("/media/film.mp4", settings))
    assert reply.status == 500
    assert "S3SecretKeyFile" in reply.log and str(file) not in reply.log
    assert SECRET_KEY not in reply.log and TOKEN not in reply.log


def test_cached_signing_keys_cannot_be_read_in_a_repr() -> None:
    assert SECRET_KEY not in repr(sigv4.signing_key)
    assert "secret" not in repr(sigv2.signature).lower()


@pytest.mark.parametrize("mode", MODES)
def test_no_object_of_the_package_prints_a_secret(mode: str) -> None:
    """What a debugger, a crash report or a stray log line would show of a gateway at work."""
    with ScriptedS3(error(503, "SlowDown"), answer(200, b"x" * 100_000, ("ETag", '"e"')), HELLO) as s3:
        settings = s3_settings(s3.url, mode, S3SecurityToken=TOKEN, S3Retries="2", S3FallbackURL=f"{s3.url}/other/")
        begun = begin(environ("/media/film.mp4", settings))
        signed = callbacks.sign_request(
            (s3.url + "/bucket/", access_pairs(mode), "GET", f"{s3.url}/bucket/a", "/a", False, None)
        )
        ours = [thing for thing in gc.get_objects() if str(type(thing).__module__).startswith("usp_s3_wsgi")]
        kinds = {type(thing).__name__ for thing in ours}
        assert {
            "Settings",
            "Credentials",
            "S3Request",
            "Fetcher",
            "Body",
            "HostPool",
            "SignedRequest",
            "_Signature",
        } <= kinds
        printed = "\n".join([*map(repr, ours), *map(str, ours), repr(signed)])
        begun.close()
        s3.forget()
        assert not leaks(printed)
        for secret in secrets(s3):
            assert secret not in printed


def access_pairs(mode: str) -> Pairs:
    given = s3_settings("http://127.0.0.1", mode, S3SecurityToken=TOKEN)
    return tuple(pair for pair in given.items() if pair[0] not in {"S3BucketURL", "S3Retries"})
