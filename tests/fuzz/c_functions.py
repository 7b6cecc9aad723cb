"""Functions of usp_s3_module that are also written in Python: both must return the same.

They are compiled for this test, without httpd. A crash in C ends the process: libFuzzer then keeps the input as well.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import tempfile
from functools import cache
from pathlib import Path

from tests.fuzz.target import Target
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
            self._date = ctypes.CDLL(str(compile_module(_SOURCES / "http_date.c", Path(folder))))
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


@cache
def c_functions() -> CFunctions:
    """Compile them, once."""
    return CFunctions()


def check(data: bytes) -> None:
    text = data.replace(b"\0", b"")  # a C string
    normalized = c_functions().normalize_http_date(text)
    expected = http_date.canonical(text.decode("latin-1"))
    assert (None if normalized is None else normalized.decode("latin-1")) == expected, (text, normalized, expected)


TARGET = Target(
    check,
    (
        b"",
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Sun Nov 06 08:49:37 1994",
        b"Sun Nov  0 08:49:37 1994",
        b"Sun Feb 29 08:49:60 1600",
        b"Thu, 29 Feb 2024 23:59:60 GMT",
        b"Thu, 29 Feb 1900 00:00:00 GMT",
        b"Mon, 01 Jan 0000 00:00:00 GMT",
        b"Fri, 31 Dec 9999 23:59:61 GMT",
        b"Sunday, 31-Dec-69 24:00:00 GMT",
        b"Wednesday, 29-Feb-00 12:00:60 GMT",
        b", 06-Nov-94 08:49:37 GMT",
        b" Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT ",
        b"Sun, 06 Nov 1994 08:49:37 gmt",
        b" " * 4_000,
        b"," * 4_000,
        b"Sun, " * 800,
    ),
    _MAX_LENGTH,
)
