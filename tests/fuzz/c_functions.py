"""Functions of usp_s3_module that are also written in Python: both must return the same.

They are compiled for this test, without httpd. A crash in C ends the process: libFuzzer then keeps the input as well.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import re
import tempfile
from functools import cache
from pathlib import Path

from tests.fuzz.target import Target, fields, join
from tests.httpd.machine import compile_module, compile_shared, has_openssl
from tests.unit.test_native_signature import native_signature, parts
from usp_s3_wsgi.s3 import http_date
from usp_s3_wsgi.signing import sigv4

_SOURCES = Path(__file__).parents[2] / "usp_s3_wsgi" / "proxy" / "mod_usp_s3"
_MAX_LENGTH = 4_096


class CFunctions:
    """The functions, with the types of Python. ``signature``: the library of the signer, if OpenSSL is there."""

    def __init__(self) -> None:
        for name in ("apr-1", "aprutil-1"):
            ctypes.CDLL(ctypes.util.find_library(name), mode=ctypes.RTLD_GLOBAL)
        with tempfile.TemporaryDirectory() as folder:
            self._date = ctypes.CDLL(str(compile_module(_SOURCES / "http_date.c", Path(folder))))
            self.signature: ctypes.CDLL | None = None
            if has_openssl():
                self.signature = ctypes.CDLL(str(compile_shared(_SOURCES / "signature.c", Path(folder), "-lcrypto")))
                assert self.signature.usp_s3_load_algorithms()
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
    date, method, path, after_path, prefix, key = fields(data.replace(b"\0", b""), 6)  # C strings
    _check_date(date)
    if (library := c_functions().signature) is not None:
        _check_signature(library, method.decode("latin-1"), path.decode("latin-1"), after_path, prefix, key)


def _check_signature(
    library: ctypes.CDLL, method: str, path: str, after_path: bytes, prefix: bytes, key: bytes
) -> None:
    """Signing in C is the last step of Signature v4, for text in ASCII, as all of it is in a request."""
    texts = [
        re.sub("[^\n -~]", "", text) for text in (method, path, after_path.decode("latin-1"), prefix.decode("latin-1"))
    ]
    method, path, rest, string_to_sign_prefix = texts
    signing_key = key[:32].ljust(32, b"\0")
    string_to_sign = string_to_sign_prefix + hashlib.sha256(f"{method}\n{path}{rest}".encode()).hexdigest()
    signed = native_signature(library, parts(rest, string_to_sign_prefix, signing_key), method, path)
    assert signed == sigv4.signature(signing_key, string_to_sign)


def _check_date(text: bytes) -> None:
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
        join(b"", b"GET", b"/b/a%20b", b"\n\nhost:h\n\nhost\nUNSIGNED-PAYLOAD", b"AWS4-HMAC-SHA256\nt\ns\n", b"k" * 32),
        join(b"", b"HEAD", b"/" + b"%20" * 1_000, b"\n" * 500, b"", b"\xff" * 32),
        b" " * 4_000,
        b"," * 4_000,
        b"Sun, " * 800,
    ),
    _MAX_LENGTH,
)
