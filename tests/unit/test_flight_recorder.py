"""The flight recorder: what is kept of failures, and that no secret is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usp_s3_wsgi.errors import GatewayError, ObjectNotFound, RequestRejected, UpstreamUnavailable
from usp_s3_wsgi.observability import flight_recorder, recorder
from usp_s3_wsgi.observability.flight_recorder import MASK, FailedRequest, Mask, SentAttempt, SignedWith
from usp_s3_wsgi.s3 import error_codes, error_response
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext

REQUEST = FailedRequest(flight_recorder.GATEWAY, "s3.example", "films", "GET", "/films/a.ts", "bytes=0-9")
NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
CONTEXTS = [SigningContext(region, use_headers) for region in ("r", None) for use_headers in (True, False)]
SECRET, TOKEN, ACCESS_KEY = "wJalr/UtnFEMI+K7MDENG", "AQoDYXdz//session+token==", "AKIAIOSFODNN7EXAMPLE"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What usp_s3_module is given to keep."""
    records: list[tuple[Any, ...]] = []
    monkeypatch.setattr(recorder, "record_failure", lambda *arguments: records.append(arguments))
    flight_recorder._last_times.clear()
    return records


def signed_with(context: SigningContext, secret: str = SECRET, token: str = TOKEN) -> SignedWith:
    request = S3Request("GET", "https", "s3.example", "/films/a.ts")
    return SignedWith(request, context, Credentials(ACCESS_KEY, secret, token), NOW)


def signature_of(sent: S3Request) -> str:
    """The signature in the request, as it is before percent-encoding."""
    values = {**dict(sent.headers), **dict(sent.query)}
    header = values.get("Authorization", "")
    if header.startswith("AWS "):
        return header.partition(":")[2]
    return header.rpartition("=")[2] or values.get("X-Amz-Signature") or unquote(values["Signature"])


def fields(kept: list[tuple[Any, ...]]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kept[-1][4])
    return found


def rejected(document: str) -> GatewayError:
    return error_codes.to_exception(error_response.parse(403, {}, document), denied_status=403)


def test_nothing_is_kept_if_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "record_failure", None)
    flight_recorder.record(GatewayError(), REQUEST)


@pytest.mark.parametrize("context", CONTEXTS)
def test_s3s_echo_of_secrets_is_masked(kept: list[tuple[Any, ...]], context: SigningContext) -> None:
    """AWS repeats the string to sign, the canonical request, and the signature; others repeat what they like."""
    signed = signed_with(context)
    sent = sign(signed.request, context, signed.credentials, NOW)
    signature = dict(sent.headers).get("Authorization", sent.target)
    forms = [form for secret in (SECRET, TOKEN) for form in (secret, quote(secret), quote(secret, safe=""))]
    forms += [quote(quote(TOKEN, safe=""), safe=""), TOKEN.encode().hex(), TOKEN.encode().hex(" "), signature]
    text = "&#10;".join(form.replace("&", "&amp;") for form in forms)
    document = (
        f"<Error><Code>SignatureDoesNotMatch</Code><Message>{text}</Message><StringToSign>{text}</StringToSign>"
        f"<CanonicalRequest>{text}</CanonicalRequest></Error>"
    )
    flight_recorder.record(rejected(document), REQUEST, [], signed)
    text = kept[-1][4].decode()
    for form in [*forms[:-1], ACCESS_KEY, signature_of(sent)]:
        assert form not in text
    assert fields(kept)["access_key"] == "AKIA...MPLE"
    assert MASK in fields(kept)["s3_string_to_sign"]


@given(st.sampled_from(CONTEXTS), st.text("abcXYZ019+/=-._ &<%", min_size=8, max_size=60), st.text(max_size=80))
def test_no_secret_passes_the_mask(context: SigningContext, token: str, around: str) -> None:
    mask = Mask(signed_with(context, token=token))
    for form in (token, quote(token, safe=""), quote(token)):
        assert form not in mask(f"{around}{form}{around}").replace(around, "") or form in (around * 2) + MASK


def test_what_is_signed_is_what_is_shown(kept: list[tuple[Any, ...]]) -> None:
    """The hash at the end of the string to sign is that of the canonical request before it was masked."""
    signed = signed_with(CONTEXTS[0], token="")
    flight_recorder.record(rejected("<Error><Code>SignatureDoesNotMatch</Code></Error>"), REQUEST, [], signed)
    found = fields(kept)
    assert found["string_to_sign"].endswith(sha256(found["canonical_request"].encode()).hexdigest())
    assert found["signed_at"] == "2026-11-28T12:00:00Z"


def test_one_failure_of_a_kind_is_kept_in_a_second(
    kept: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    for _ in range(5):
        flight_recorder.record(ObjectNotFound("x"), REQUEST)
        flight_recorder.record(UpstreamUnavailable("x"), REQUEST)
        flight_recorder.record(ObjectNotFound("x"), REQUEST._replace(bucket="other"))
    assert len(kept) == 3
    assert kept[0][3] != kept[1][3]
    now = 101.1
    flight_recorder.record(ObjectNotFound("x"), REQUEST)
    assert len(kept) == 4


def test_the_memory_of_kinds_is_bounded(kept: list[tuple[Any, ...]]) -> None:
    for number in range(3000):
        flight_recorder.record(ObjectNotFound("x"), REQUEST._replace(bucket=str(number)))
    assert len(flight_recorder._last_times) <= 1000
    assert len(kept) == 3000


def test_long_texts_are_cut_to_the_size_of_the_memory(kept: list[tuple[Any, ...]]) -> None:
    attempts = [SentAttempt("s3.example" * 20, 0.0) for _ in range(50)]
    for attempt in attempts:
        attempt.failure = "\u202e" * 5000
    failure = rejected(f"<Error><Code>SignatureDoesNotMatch</Code><Message>{'é' * 60_000}</Message></Error>")
    flight_recorder.record(failure, REQUEST._replace(path="/" + "%C3%A9" * 1024), attempts, signed_with(CONTEXTS[0]))
    assert len(kept[0][4]) <= flight_recorder.MAX_SIZE
    assert fields(kept)["path"].startswith("/%C3%A9")
    assert fields(kept)["attempts"]


def test_the_size_is_that_of_the_module() -> None:
    header = Path(__file__).parents[2] / "usp_s3_wsgi" / "proxy" / "mod_usp_s3" / "metrics.h"
    assert f"#define USP_S3_FAILURE_SIZE {flight_recorder.MAX_SIZE}" in header.read_text("utf-8")


def test_an_unexpected_exception_is_kept_without_its_message(kept: list[tuple[Any, ...]]) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        flight_recorder.record(error, REQUEST)
    assert fields(kept)["error"] == "USPS30001"
    assert SECRET not in kept[0][4].decode()


def test_a_fault_in_recording_does_not_fail_the_request(
    kept: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    flight_recorder.record(RequestRejected("x"), REQUEST, [None])  # type: ignore[list-item]
    assert kept == []
    assert "USPS30001" in capsys.readouterr().err


def test_a_broken_character_reference_is_kept_as_it_is(kept: list[tuple[Any, ...]]) -> None:
    document = f"<Error><Code>NoSuchBucket</Code><Message>&#{'9' * 5000};</Message></Error>"
    flight_recorder.record(rejected(document), REQUEST, [], signed_with(CONTEXTS[0]))
    assert fields(kept)["s3_message"].startswith("&#999")


def test_texts_of_any_size_fit(kept: list[tuple[Any, ...]]) -> None:
    attempts = []
    for name in ("host", "s3_code", "request_id", "connection", "failure"):
        attempts.append(SentAttempt("x", 0.0))
        setattr(attempts[-1], name, "\U0001f600" * 400)
    failure = rejected("<Error><Code>NoSuchBucket</Code></Error>")
    flight_recorder.record(failure, REQUEST._replace(path="\U0001f600" * 900), attempts, cause="\U0001f600" * 900)
    assert len(kept[0][4]) <= flight_recorder.MAX_SIZE


def test_a_cause_is_shown_and_is_no_reason_of_its_own(kept: list[tuple[Any, ...]]) -> None:
    for path in ("/a", "/b"):
        flight_recorder.record(UpstreamUnavailable("no response"), REQUEST, cause=f"DNS lookup failure {path}")
    assert len(kept) == 1
    assert fields(kept)["message"] == "no response: DNS lookup failure /a"


def test_without_the_credentials_of_the_request_s3s_words_are_not_kept(kept: list[tuple[Any, ...]]) -> None:
    """They may repeat a token that is not known any more."""
    flight_recorder.record(rejected(f"<Error><Code>InvalidToken</Code><Message>{TOKEN}</Message></Error>"), REQUEST)
    assert TOKEN not in kept[0][4].decode()
    assert fields(kept)["s3_code"] == "InvalidToken"


def test_what_was_signed_is_only_computed_for_what_is_kept(kept: list[tuple[Any, ...]]) -> None:
    calls: list[int] = []
    for _ in range(3):
        flight_recorder.record(ObjectNotFound("x"), REQUEST, (), lambda: calls.append(1))
    assert len(calls) == len(kept) == 1


@pytest.mark.parametrize(
    ("access_key", "shown"),
    [(ACCESS_KEY, "AKIA...MPLE"), ("test", "(not shown)"), ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "(not shown)")],
)
def test_a_secret_in_place_of_an_access_key_is_not_shown(access_key: str, shown: str) -> None:
    assert Credentials(access_key, "x").short_access_key == shown
