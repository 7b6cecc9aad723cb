"""The SHA-256 of the C module, compared with hashlib's."""

from __future__ import annotations

import ctypes
import hmac
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.httpd.machine import compile_shared

SOURCE = Path(__file__).parents[2] / "usp_s3_wsgi" / "proxy" / "mod_usp_s3" / "sha256.c"
#: Around the block sizes, and longer than any signed request.
LENGTHS = [*range(0, 260), 1023, 1024, 1025, 70_000]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(compile_shared(SOURCE, tmp_path_factory.mktemp("sha256"))))


def digest(library: ctypes.CDLL, text: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    library.usp_s3_sha256(text, ctypes.c_size_t(len(text)), out)
    return out.raw


def hmac_sha256(library: ctypes.CDLL, key: bytes, text: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    library.usp_s3_hmac_sha256(key, text, ctypes.c_size_t(len(text)), out)
    return out.raw


def test_every_length(library: ctypes.CDLL) -> None:
    for length in LENGTHS:
        text = bytes([position * 7 % 251 for position in range(length)])
        key = text[:32].ljust(32, b"k")
        assert digest(library, text) == sha256(text).digest(), length
        assert hmac_sha256(library, key, text) == hmac.digest(key, text, "sha256"), length


@given(key=st.binary(min_size=32, max_size=32), text=st.binary(max_size=500))
def test_any_text(library: ctypes.CDLL, key: bytes, text: bytes) -> None:
    assert digest(library, text) == sha256(text).digest()
    assert hmac_sha256(library, key, text) == hmac.digest(key, text, "sha256")
