"""The comparison of signed texts: its lines, what the first difference means, and how a terminal shows it."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from usp_s3_wsgi.cli.check.rejected_signature.comparison_view import ComparisonView
from usp_s3_wsgi.cli.check.rejected_signature.computed_texts import ComputedTexts, compare_texts, explain
from usp_s3_wsgi.observability.flight_recorder import Mask, SignedWith
from usp_s3_wsgi.signing.signer import signed_text
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
TOKEN = "FwoGZXIvYXdzEL//session+token/abc=="
V4, V2 = SigningContext("eu-central-1", True), SigningContext(None, True)


def signed_with(context: SigningContext = V4, token: str | None = None) -> SignedWith:
    request = S3Request("GET", "https", "s3.example:8080", "/films/a%2Bb//c.mp4", (), (("Range", "bytes=0-0"),))
    return SignedWith(request, context, Credentials("AKIAIOSFODNN7EXAMPLE", "secret", token), NOW)


def document(canonical_request: str, string_to_sign: str) -> str:
    texts = {"CanonicalRequest": canonical_request, "StringToSign": string_to_sign}
    elements = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in texts.items() if text)
    return f"<Error><Code>SignatureDoesNotMatch</Code>{elements}</Error>"


def compared(old: str = "", new: str = "", context: SigningContext = V4, token: str | None = None) -> ComputedTexts:
    """The comparison with an S3 that has replaced a part of the texts."""
    signed = signed_with(context, token)
    texts = signed_text(signed.request, signed.context, signed.credentials, signed.signed_at)
    if old:
        assert any(old in text for text in texts)
    return compare_texts(signed, document(*[text.replace(old, new) if old else text for text in texts]))


def shown(texts: ComputedTexts, width: int = 80, **options: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False, **options)
    console.print(ComparisonView(texts.masked(Mask(None))))
    return file.getvalue()


@pytest.mark.parametrize("context", [V4, V2, V4._replace(use_headers=False), V2._replace(use_headers=False)])
def test_equal_texts(context: SigningContext) -> None:
    texts = compared(context=context)
    assert texts.has_theirs and texts.first is None
    assert all(line.ours == line.theirs and line.is_compared for line in texts.lines)


def test_the_labels_are_those_of_the_specification() -> None:
    assert [line.label for line in compared(token=TOKEN).lines] == [
        "method", "path", "query string", "header host", "header x-amz-content-sha256", "header x-amz-date",
        "header x-amz-security-token", "signed headers", "hash of the body", "algorithm", "time", "scope",
        "hash of the canonical request",
    ]  # fmt: skip
    assert [line.label for line in compared(context=V2, token=TOKEN).lines] == [
        "method", "Content-MD5", "Content-Type", "Date or Expires", "header x-amz-security-token", "resource",
    ]  # fmt: skip


DIFFERENCES = {
    "host": ("host:s3.example:8080", "host:backend", "header host", "the header host: this server signed s3"),
    "decoded": ("a%2Bb", "a+b", "path", "the path: percent-encoding is decoded or changed: "),
    "merged": ("b//c", "b/c", "path", "the path: repeated slashes are merged: "),
    "removed": ("/films/a", "/a", "path", "the path: its beginning is removed or added: "),
    "other": ("c.mp4", "d.mp4", "path", "the path: this server signed /films/a%2Bb//c.mp4, S3 got /films/a%2Bb//d.mp4"),
    "method": ("GET", "PUT", "method", "the method: this server signed GET, S3 got PUT"),
    "dropped": ("x-amz-date:20261128T120000Z\n", "", "header x-amz-date", "the header x-amz-date does not arrive"),
    "added": ("x-amz-date:", "x-added:1\nx-amz-date:", "only S3 has this", "S3 got more than this server signed: x"),
    "scope": ("eu-central-1/s3", "us-east-1/s3", "scope", "the day, the region or the service: this server signed"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_first_difference(name: str) -> None:
    old, new, label, words = DIFFERENCES[name]
    first = compared(old, new).first
    assert first is not None and first.label == label
    assert explain(first).startswith(words)


def test_a_header_that_is_dropped_does_not_shift_the_others() -> None:
    lines = compared("x-amz-content-sha256:", "x-other:").lines
    differing = [line.label for line in lines if line.ours != line.theirs]
    assert differing == ["header x-amz-content-sha256", "only S3 has this", "signed headers"] or differing == [
        "header x-amz-content-sha256", "only S3 has this",
    ]  # fmt: skip


@pytest.mark.parametrize("context", [V4, V2])
def test_a_token_that_was_changed_is_a_difference_and_is_masked(context: SigningContext) -> None:
    texts = compared(TOKEN, TOKEN.replace("+", " "), context, TOKEN)
    assert texts.first is not None
    assert explain(texts.first) == "the header x-amz-security-token arrives with another value"
    masked = texts.masked(Mask(signed_with(context, TOKEN)))
    (first,) = [line for line in masked if line.is_first_difference]
    assert first.ours == "x-amz-security-token:(masked)"
    assert "session" not in str(first)
    assert "session" not in repr(texts)


def test_only_the_string_to_sign() -> None:
    """Some servers do not send the canonical request."""
    signed = signed_with()
    _, string_to_sign = signed_text(signed.request, signed.context, signed.credentials, signed.signed_at)
    texts = compare_texts(signed, document("", string_to_sign[:-1] + "z"))
    assert texts.first is not None
    assert "(S3 does not say which)" in explain(texts.first)
    assert [line.is_compared for line in texts.lines] == [False] * 8 + [True] * 4


def test_nothing_was_sent_by_s3() -> None:
    texts = compare_texts(signed_with(), "<Error><Code>SignatureDoesNotMatch</Code></Error>")
    assert not texts.has_theirs and texts.first is None
    output = shown(texts)
    assert output.startswith("What this server has signed (S3 does not say what it has computed):\n")
    assert "host:s3.example:8080" in output


@given(st.text(max_size=300), st.text(max_size=100))
def test_any_text_of_s3(canonical_request: str, string_to_sign: str) -> None:
    for context in (V4, V2):
        texts = compare_texts(signed_with(context), document(canonical_request, string_to_sign))
        assert sum(line.is_first_difference for line in texts.lines) == (texts.first is not None)
        if texts.first is not None:
            assert explain(texts.first)
        assert all(len(row) <= 80 for row in shown(texts).splitlines())


def test_80_columns() -> None:
    output = shown(compared("host:s3.example:8080", "host:s3.example"))
    assert all(len(line) <= 80 for line in output.splitlines())
    rows = [" ".join(line.split()) for line in output.splitlines()]
    assert rows[0] == "- this server has signed + S3 says that it has computed"
    place = rows.index("- header host host:s3.example:8080")
    assert rows[place + 1 : place + 3] == ["+ header host host:s3.example", "^ the first difference"]
    assert "method GET" in rows


def test_a_wide_terminal_has_two_columns() -> None:
    output = shown(compared("host:s3.example:8080", "host:s3.example"), width=200)
    row = next(line for line in output.splitlines() if "<- first" in line)
    assert row.split() == ["header", "host", "host:s3.example:8080", "host:s3.example", "<-", "first"]


def test_colors_and_control_characters() -> None:
    output = shown(
        compared("host:s3.example:8080", "host:\x1b]0;x\x07\x9b1m"),
        force_terminal=True,
        color_system="standard",
        no_color=False,
    )
    assert "\x1b]0;" not in output and "\x07" not in output and "\x9b" not in output
    assert "\\x1b]0;x\\x07\\x9b1m" in output.replace("\x1b[0m", "").replace("\x1b[1;32m", "")
    assert "\x1b[1;31m" in output  # the part that differs
    assert "\x1b[" not in shown(compared("GET", "PUT"))
