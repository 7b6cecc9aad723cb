"""Unusual keys: each must lead to its own object."""

from __future__ import annotations

import unicodedata

from tests.servers.battery.case import Case, Object
from tests.servers.response import Expected

KEYS: dict[str, bytes] = {
    "spaces": b"a b  c.txt",
    "plus": b"a+b.txt",
    "percent": b"100%.txt",
    "a literal %2F": b"a%2Fb.txt",
    "a literal %252F": b"a%252Fb.txt",
    "percent without hexadecimal digits": b"%zz.txt",
    "unicode, composed": unicodedata.normalize("NFC", "café.txt").encode(),
    "unicode, decomposed": unicodedata.normalize("NFD", "café.txt").encode(),
    "emoji": "日本 ☕ 🎬.txt".encode(),
    "invalid UTF-8": b"a\xffb.txt",
    "quotes": b"'single' \"double\" `back`.txt",
    "& = ; , $": b"a&b=c;d,e$.txt",
    "( ) * ! ~ '": b"(a)*!~'.txt",
    "< > | ^ [ ] { }": b"<a>|^[b]{c}.txt",
    "#": b"a#b.txt",
    "?": b"what?a=b.txt",
    ": @": b"http:user@host:1.txt",
    "backslash": b"a\\b.txt",
    "a tab": b"a\tb.txt",
    "control characters": b"a\x01\x1b\x7fb.txt",
    "a leading slash": b"/front.txt",
    "double slashes": b"a//b///c.txt",
    "a trailing slash": b"folder/",
    "a leading dot": b".hidden",
    "dots within segments": b"..a/...b/c..",
    "1,024 bytes": b"/".join([b"x" * 204] * 5),
}
#: Objects that wrongly decoded keys would lead to.
OTHERS = [b"a/b.txt", b"a b.txt", b"front.txt", b"a/b/c.txt", b"what", b"a", b"hidden", b"a%b.txt"]
OBJECTS = [Object(key, b"this is " + key, kind="keys") for key in KEYS.values()]
OBJECTS += [Object(key, b"another object", kind="keys") for key in OTHERS]
SUBJECT = f"{len(KEYS)} unusual keys"
CASES = [Case(SUBJECT, name, key, (Expected((200,), b"this is " + key),), kind="keys") for name, key in KEYS.items()]
assert all(len(key) <= 1024 for key in KEYS.values())
