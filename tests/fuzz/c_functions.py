"""Functions of usp_s3_module that are also written in Python: both must return the same.

They are compiled for this test, without httpd. A crash in C ends the process: libFuzzer then keeps the input as well.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hmac
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

from tests.fuzz.target import Target, fields, join
from tests.httpd.machine import compile_module
from usp_s3_wsgi.s3 import http_date

_SOURCES = Path(__file__).parents[2] / "usp_s3_wsgi" / "proxy" / "mod_usp_s3"
_MAX_LENGTH = 4_096


class CFunctions:
    """The functions, with the types of Python."""

    def __init__(self) -> None:
        for name in ("apr-1", "aprutil-1"):
            ctypes.CDLL(ctypes.util.find_library(name), mode=ctypes.RTLD_GLOBAL)
        with tempfile.TemporaryDirectory() as folder:
            self._date, self._hash = (
                ctypes.CDLL(str(compile_module(_SOURCES / name, Path(folder)))) for name in ("http_date.c", "sha256.c")
            )
        self._apr = ctypes.CDLL(None)
        self._apr.apr_initialize()
        self._date.usp_s3_normalize_http_date.restype = ctypes.c_char_p

    def normalize_http_date(self, text: bytes) -> bytes | None:
        """``text``: without NUL."""
        pool = ctypes.c_void_p()
        self._apr.apr_pool_create_ex(ctypes.byref(pool), None, None, None)
        try:
            result: bytes | None = self._date.usp_s3_normalize_http_date(pool, text)
            return result
        finally:
            self._apr.apr_pool_destroy(pool)

    def sha256(self, text: bytes) -> bytes:
        digest = ctypes.create_string_buffer(32)
        self._hash.usp_s3_sha256(text, ctypes.c_size_t(len(text)), digest)
        return digest.raw

    def hmac_sha256(self, key: bytes, text: bytes) -> bytes:
        """``key``: 32 bytes."""
        code = ctypes.create_string_buffer(32)
        self._hash.usp_s3_hmac_sha256(key, text, ctypes.c_size_t(len(text)), code)
        return code.raw


@cache
def c_functions() -> CFunctions:
    """Compile them, once."""
    return CFunctions()


def check(data: bytes) -> None:
    date, key, text = fields(data, 3)
    functions = c_functions()
    date = date.replace(b"\0", b"")  # a C string
    normalized = functions.normalize_http_date(date)
    expected = http_date.canonical(date.decode("latin-1"))
    assert (normalized is None) == (expected is None), (date, normalized, expected)
    assert normalized is None or normalized.decode() == expected, (date, normalized, expected)
    key = key[:32].ljust(32, b"\0")
    assert functions.sha256(text) == sha256(text).digest()
    assert functions.hmac_sha256(key, text) == hmac.digest(key, text, "sha256")


_DATES = (
    b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994",
    b"Thu, 29 Feb 2024 23:59:60 GMT", b"Thu, 29 Feb 1900 00:00:00 GMT", b"Sunday, 31-Dec-69 24:00:00 GMT",
    b"Mon, 01 Jan 0000 00:00:00 GMT", b"Fri, 31 Dec 9999 23:59:61 GMT", b"Sun Nov 06 08:49:37 1994",
    b"Sun Nov  0 08:49:37 1994",
    b" Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:37 GMT ", b"Sun, 06 Nov 1994 08:49:37 gmt",
    b", 06-Nov-94 08:49:37 GMT",
    b"Wednesday, 29-Feb-00 12:00:60 GMT", b"Sun Feb 29 08:49:60 1600", b" " * 4_000, b"," * 4_000, b"Sun, " * 800,
)  # fmt: skip
TARGET = Target(
    check,
    (b"", *(join(date, b"k" * 32, date * 3) for date in _DATES), join(b"", b"\xff" * 32, b" " * 4_000)),
    _MAX_LENGTH,
)
