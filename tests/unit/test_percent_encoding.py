"""Percent-encoding: S3 must decode it to the key, and must get the same text when it encodes the key itself."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usp_s3_wsgi.signing.percent_encoding import percent_encode

Safe = Literal["/", ""]
SAFE: st.SearchStrategy[Safe] = st.sampled_from(("/", ""))


@given(st.binary(), SAFE)
def test_decoding_gives_the_bytes_back(data: bytes, safe: Safe) -> None:
    assert unquote_to_bytes(percent_encode(data, safe)) == data


@given(st.binary(), SAFE)
def test_only_unreserved_characters_and_uppercase_hex(data: bytes, safe: Safe) -> None:
    assert re.fullmatch(rf"(?:[A-Za-z0-9._~{safe}-]|%[0-9A-F]{{2}})*", percent_encode(data, safe))


@given(st.one_of(st.binary(), st.text().map(lambda text: text.encode())), SAFE)
def test_equal_to_the_standard_library(data: bytes, safe: Safe) -> None:
    assert percent_encode(data, safe) == quote(data, safe=safe)


@given(st.binary(), SAFE)
def test_only_unreserved_text_is_unchanged_by_another_encoding(data: bytes, safe: Safe) -> None:
    # Encoded text is encoded again, and so becomes another key.
    once = percent_encode(data, safe)
    assert (percent_encode(once.encode(), safe) == once) == ("%" not in once)


def test_each_byte() -> None:
    unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    expected = [chr(byte) if chr(byte) in unreserved else f"%{byte:02X}" for byte in range(256)]
    assert [percent_encode(bytes([byte]), "") for byte in range(256)] == expected
    expected[ord("/")] = "/"
    assert [percent_encode(bytes([byte])) for byte in range(256)] == expected


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a b+c%20d", "a%20b%2Bc%2520d"),
        ("//a//b/", "//a//b/"),
        ("préfère/ሴ/🎬.ts", "pr%C3%A9f%C3%A8re/%E1%88%B4/%F0%9F%8E%AC.ts"),
        ("~user/(1)*'!;:@&=$,?#[]", "~user/%281%29%2A%27%21%3B%3A%40%26%3D%24%2C%3F%23%5B%5D"),
    ],
)
def test_unusual_keys(key: str, path: str) -> None:
    assert percent_encode(key.encode()) == path
    assert percent_encode(key.encode(), "") == path.replace("/", "%2F")
