"""No secret key, session token, signature or presigned query is logged or returned, in any mode, after any failure."""

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
from usp_s3_wsgi.proxy.proxied_request import ProxiedRequest
from usp_s3_wsgi.signing import sigv2, sigv4
from usp_s3_wsgi.signing.types import Pairs

HELLO = answer(200, b"hello")
INVALID_HEADER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon here\r\nETag: x\r\n\r\nhi"
SCENARIOS: dict[str, list[Step]] = {
    "200": [HELLO],
    "206": [answer(206, b"el", ("Content-Range", "bytes 1-2/5"))],
    "304": [answer(304)],
    "403": [error(403, "AccessDenied")],
    "signature rejected": [error(403, "SignatureDoesNotMatch")],
    "redirect": [error(307, "TemporaryRedirect", ("Location", "/elsewhere"))],
    "retried": [error(503, "SlowDown"), close, HELLO],
    "busy": [error(503, "SlowDown")] * 3,
    "closed": [close] * 3,
    "reset": [reset] * 3,
    "stalled": [stall],
    "truncated": [first(answer(200, b"hello", length=50), close)],
    "invalid response": [first(b"garbage\r\n", close)],
    "invalid header": [INVALID_HEADER],
    "two lengths": [answer(200, b"hello", ("Content-Length", "4"))],
}


def signatures(request: Request) -> list[str]:
    """Return the signature of a request, decoded and percent-encoded."""
    found = re.findall(r"Signature=([0-9a-f]{64})|^AWS [^:]+:(.+)$", request.headers.get("authorization", ""))
    query = parse_qs(request.target.partition("?")[2])
    texts = [part for pair in found for part in pair if part]
    texts += query.get("X-Amz-Signature", []) + query.get("Signature", [])
    assert len(texts) == 1
    return [texts[0], quote(texts[0], safe="")]


def secrets(s3: ScriptedS3) -> set[str]:
    """Return the secrets of the settings and the signatures of all requests."""
    fixed = {SECRET_KEY, TOKEN, quote(SECRET_KEY, safe=""), quote(TOKEN, safe="")}
    return fixed.union(*(signatures(request) for request in s3.requests))


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("mode", MODES)
def test_no_secret_is_logged_or_returned(
    mode: str,
    scenario: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fetcher, "backoff_delay", lambda retry: 0.0)
    caplog.set_level(logging.DEBUG)
    with ScriptedS3(*SCENARIOS[scenario]) as s3:
        changes = {
            "S3SecurityToken": TOKEN,
            "S3Retries": "2",
            "S3ProxySet": f"timeout={'60ms' if scenario == 'stalled' else 30}",
        }
        reply = call(environ("/media/film.mp4", s3_settings(s3.url, mode, **changes)))
    assert s3.requests
    output = [caplog.text, *map(str, capfd.readouterr()), repr(reply), reply.log, reply.body.decode("latin-1")]
    for secret in secrets(s3):
        assert secret not in "\n".join(output)


@pytest.mark.parametrize("mode", MODES)
def test_no_secret_is_logged_if_connecting_fails(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedS3() as s3:
        pass
    reply = call(environ("/media/film.mp4", s3_settings(s3.url, mode, S3SecurityToken=TOKEN)))
    output = caplog.text + reply.log + repr(reply)
    assert reply.status == 502
    assert not re.search(r"Signature|X-Amz|AWSAccessKeyId|\?", output)
    assert SECRET_KEY not in output and TOKEN not in output


@pytest.mark.parametrize("mode", MODES)
def test_an_unexpected_exception_is_one_line_without_its_message(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*arguments: object) -> None:
        raise RuntimeError(f"it failed with\n{arguments}, {SECRET_KEY}, {TOKEN}")

    monkeypatch.setattr(fetcher, "sign", explode)
    reply = call(environ("/media/film.mp4", s3_settings("http://127.0.0.1:9", mode, S3SecurityToken=TOKEN)))
    assert reply.status == 500
    assert reply.body == b"500 Internal Server Error\n"
    assert reply.log.count("\n") == 1
    assert "internal error: RuntimeError in explode" in reply.log
    assert SECRET_KEY not in reply.log and TOKEN not in reply.log and "it failed" not in reply.log


def test_the_exception_of_a_truncated_body_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    # mod_wsgi logs its traceback and those of its causes.
    with ScriptedS3(first(answer(200, b"hello", length=50), close)) as s3:
        begun = begin(environ("/media/film.mp4", s3_settings(s3.url, "v4-query")))
        with pytest.raises(Exception) as caught:
            list(begun.pieces)
        begun.close()
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    for secret in secrets(s3):
        assert secret not in str(caught.value)


def test_an_error_about_a_key_file_names_only_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET_KEY} {TOKEN}")  # a key has no space
    settings = s3_settings("http://127.0.0.1:9", S3SecretKeyFile=str(file))
    del settings["S3SecretKey"]
    reply = call(environ("/media/film.mp4", settings))
    assert reply.status == 500
    assert "S3SecretKeyFile" in reply.log and str(file) not in reply.log
    assert SECRET_KEY not in reply.log and TOKEN not in reply.log


def test_the_repr_of_a_cached_function_shows_no_key() -> None:
    assert SECRET_KEY not in repr(sigv4.signing_key)
    assert "secret" not in repr(sigv2.signature).lower()


@pytest.mark.parametrize("mode", MODES)
def test_the_repr_of_no_object_shows_a_secret(mode: str) -> None:
    """A debugger, a crash report or a log line may show any object of the package."""
    with ScriptedS3(error(503, "SlowDown"), answer(200, b"x" * 100_000, ("ETag", '"e"')), HELLO) as s3:
        settings = s3_settings(s3.url, mode, S3SecurityToken=TOKEN, S3Retries="2", S3FallbackURL=f"{s3.url}/other/")
        begun = begin(environ("/media/film.mp4", settings))
        proxied = ProxiedRequest(
            *(s3.url + "/bucket/", section_pairs(mode), "GET", f"{s3.url}/bucket/a?{QUERY}", f"/a?{QUERY}", False, None)
        )
        signed = callbacks.sign_request(tuple(proxied))
        objects = [one for one in gc.get_objects() if str(type(one).__module__).startswith("usp_s3_wsgi")]
        class_names = {type(one).__name__ for one in objects}
        assert {
            "Settings",
            "Credentials",
            "S3Request",
            "Fetcher",
            "Body",
            "HostPool",
            "SignedRequest",
            "_Signature",
        } <= class_names
        printed = "\n".join([*map(repr, objects), *map(str, objects), repr(signed), repr(proxied)])
        begun.close()
        s3.forget()
        assert not leaks(printed)
        for secret in (*secrets(s3), QUERY):
            assert secret not in printed


#: A client's query, which may hold what only the client must know.
QUERY = "session=of-the-client"


def section_pairs(mode: str) -> Pairs:
    variables = s3_settings("http://127.0.0.1", mode, S3SecurityToken=TOKEN)
    return tuple(pair for pair in variables.items() if pair[0] not in {"S3BucketURL", "S3Retries"})
