"""Keys and tokens that were copied with something around them, or in another encoding, and their corrected text.

White space around a key cannot come from a setting or a key file: ``config/parsers.py`` and
``credentials/key_files.py`` strip or reject it. The variables and files that botocore reads may have it.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from usp_s3_wsgi.signing.types import Credentials

#: White space, and the invisible characters of editors and web pages: byte order mark, no-break and zero-width space.
_INVISIBLE = " \t\r\n\v\f\ufeff\xa0\u200b"
_QUOTES = "\"'`"
#: What stands around a value in JSON, YAML, PHP and shell scripts.
_PUNCTUATION = ",;"
#: ``aws_secret_access_key = ``, ``S3SecretKey: `` and the like.
_NAME = re.compile(
    r"(?:export\s+|SetEnv\s+)?[\"']?[A-Za-z0-9_.-]*(?:key|secret|token)[A-Za-z0-9_.-]*[\"']?\s*[=:]\s*", re.I
)
_LINE_END_IN_WORDS = re.compile(r"(?:\\[rnt])+$")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}){4,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_PRINTABLE = re.compile(r"[!-~]{8,}")
#: Access keys of Amazon, Ceph, Google (``GOOG1E...``); of Cloudflare and Oracle, which have hexadecimal digits.
_ACCESS_KEY = re.compile(r"[A-Z0-9]{16,128}|[0-9a-f]{32}|[0-9a-f]{40}")
#: Secret keys are longer than the access keys of most providers, and are letters of both cases, or hexadecimal.
_SECRET_KEY = re.compile(r"(?=.*[a-z/+=])[!-~]{30,}")
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
_LONG_LIVED, _TEMPORARY = "AKIA", "ASIA"
_AMAZONS_SECRET_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Copy:
    """``text``: the corrected key, which is never shown; ``words``: how it differs, as in "without the quotes"."""

    text: str = field(repr=False)
    words: str


def corrected(key: str) -> Iterator[Copy]:
    """Return the texts that a key may have had before it was copied, the most usual mistake first; often none."""
    seen = {key, ""}
    for text, words in _variants(key):
        if text not in seen:
            seen.add(text)
            yield Copy(text, words)


def corrected_secret(key: str) -> Iterator[Copy]:
    """Return the same for a secret key, which may also be the second part of a line of passwd-s3fs.

    Not for an access key: the secret key would be sent as the access key, which everybody on the way can read.
    """
    if secret := secret_of_s3fs(key):
        yield Copy(secret, "without the access key and the colon in front of it (passwd-s3fs has both)")
    yield from corrected(key)


def secret_of_s3fs(text: str) -> str:
    """Return the secret key of ACCESS:SECRET or BUCKET:ACCESS:SECRET, which s3fs reads; empty if it is neither."""
    before, _, secret = text.strip(_INVISIBLE + _QUOTES).rpartition(":")
    return secret if _ACCESS_KEY.fullmatch(before.rpartition(":")[2]) else ""


def _variants(key: str) -> Iterator[tuple[str, str]]:
    yield key.strip(_INVISIBLE), "without the white space around it"
    yield _unwrapped(key)
    yield _LINE_END_IN_WORDS.sub("", key), r"without the \n or \r at its end"
    if "\\" in key:
        yield re.sub(r"\\(.)", r"\1", _LINE_END_IN_WORDS.sub("", key)), "without the backslashes (JSON writes / as \\/)"
    if "%" in key:
        yield unquote(key), "percent-decoded (%2F is /, %2B is +)"
    if "&" in key:
        yield html.unescape(key), "without HTML's character references"
    if decoded := _base64_decoded(key):
        yield decoded, "decoded from Base64 (Kubernetes writes secrets so)"
    if len(key) % 2 == 0 and key[: len(key) // 2] == key[len(key) // 2 :]:
        yield key[: len(key) // 2], "once: it is there twice"
    if " " in key.strip(_INVISIBLE):
        yield key.strip(_INVISIBLE).replace(" ", "+"), "with + in place of its spaces"


def _unwrapped(key: str) -> tuple[str, str]:
    """Return the key without a name, quotes and punctuation, and in words which of these it had."""
    removed = []
    text = key.strip(_INVISIBLE)
    if match := _NAME.match(text):
        text = text[match.end() :]
        removed.append("the name in front of it")
    if (stripped := text.rstrip(_PUNCTUATION)) != text:
        text = stripped
        removed.append("the punctuation at its end")
    if (stripped := text.strip(_QUOTES)) != text:
        text = stripped
        removed.insert(0, "the quotes around it")
    return text, f"without {' and '.join(removed)}"


def _base64_decoded(key: str) -> str:
    if not _BASE64.fullmatch(key):
        return ""
    try:
        text = base64.b64decode(key, validate=True).decode("ascii").strip()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return text if _PRINTABLE.fullmatch(text) else ""


def may_be_swapped(credentials: Credentials) -> bool:
    """Whether the access key looks like a secret key, and the secret key like an access key.

    Only then may they be tried the other way round: a request shows its access key to everybody on the way.
    """
    access_key, secret_key = credentials.access_key, credentials.secret_key
    return bool(
        _ACCESS_KEY.fullmatch(secret_key)
        and _SECRET_KEY.fullmatch(access_key)
        and (not _ACCESS_KEY.fullmatch(access_key) or len(access_key) > len(secret_key))
    )


def is_temporary(credentials: Credentials) -> bool:
    """Whether the access key is a temporary one of AWS, which is never valid without its session token."""
    return credentials.access_key.startswith(_TEMPORARY) and bool(_ACCESS_KEY.fullmatch(credentials.access_key))


def length_remark(credentials: Credentials) -> str:
    """Return a remark if Amazon's keys have another length, else nothing. What is lost cannot be found by trying."""
    access_key, length = credentials.access_key, len(credentials.secret_key)
    is_amazons = access_key.startswith((_LONG_LIVED, _TEMPORARY)) and _ACCESS_KEY.fullmatch(access_key)
    if not is_amazons or length == _AMAZONS_SECRET_LENGTH:
        return ""
    is_short = length < _AMAZONS_SECRET_LENGTH
    question = "was all of it copied?" if is_short else "is something else in it, such as ACCESS:SECRET?"
    return f" It has {length} characters, those of Amazon have {_AMAZONS_SECRET_LENGTH}: {question}"
