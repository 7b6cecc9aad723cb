"""Parsers of settings: from text in the Apache configuration to validated, typed values.

Each parser returns the value or raises ``ValueError`` with the allowed values ("must be on or off"). The message never
repeats the text: it may be a secret on the wrong line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

#: Query parameters of GetObject that select a version, a part or response headers. Others (acl, list-type) may return
#: more than objects.
OBJECT_PARAMETERS = re.compile(
    r"versionId|partNumber|response-(?:cache-control|content-disposition|content-encoding|content-language|content-type|expires)"
)


def on_off(text: str) -> bool:
    """Parse ``on`` or ``off``, in any case."""
    try:
        return {"on": True, "off": False}[text.lower()]
    except KeyError:
        raise ValueError("must be on or off") from None


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of decimal integers from ``low`` to ``high``, both included."""

    def parse(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,9}", text) and low <= int(text) <= high:
            return int(text)
        raise ValueError(f"must be a whole number from {low} to {high}")

    return parse


def denied_status(text: str) -> int:
    """Parse 403 or 404."""
    if text not in {"403", "404"}:
        raise ValueError("must be 403 or 404")
    return int(text)


def credential_source(text: str) -> str:
    """Parse ``static`` (configured keys) or ``aws`` (credentials from botocore's provider chain)."""
    if text not in {"static", "aws"}:
        raise ValueError("must be static or aws")
    return text


def matching(pattern: str, expected: str) -> Callable[[str], str]:
    """Return a parser of text that fully matches a regular expression (ASCII); ``expected`` describes it."""
    compiled = re.compile(pattern, re.ASCII)

    def parse(text: str) -> str:
        if compiled.fullmatch(text):
            return text
        raise ValueError(f"must be {expected}")

    return parse


#: A key, a token or a bucket's name.
token = matching(r"[!-~]+", "printable ASCII characters without spaces, at least one")
region = matching(r"[A-Za-z0-9_-]{1,64}", "a region's name such as eu-central-1: letters, digits, - and _")
#: Section headers of AWS's shared files hold it in brackets.
profile = matching(r"[^\x00-\x1f\x7f\[\]]{1,256}", "the name of a profile: no control characters, no brackets")
#: Of AWS or a compatible server: the account in ARNs of Ceph is empty or a tenant.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns
role_arn = matching(
    r"arn:[a-z0-9-]+:iam::[^:\s]*:role/[\w+=,.@/-]{1,1024}",
    "the ARN of a role, such as arn:aws:iam::123456789012:role/reader",
)
#: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
role_session_name = matching(r"[\w+=,.@-]{2,64}", "2 to 64 letters, digits or characters of +=,.@-_")
external_id = matching(r"[\w+=,.@:/-]{2,1224}", "2 to 1224 letters, digits or characters of +=,.@:/-_")
endpoint = matching(r"https?://[A-Za-z0-9.\[\]:_-]+/?", "a URL such as https://sts.example.com")


def file(text: str) -> str:
    """Parse the absolute path of a file. The file is not opened here: it may change while httpd runs."""
    if not os.path.isabs(text) or "\0" in text:
        raise ValueError("must be the absolute path of a file")
    return text


def header_prefixes(text: str) -> tuple[str, ...]:
    """Parse prefixes of ``x-amz-*`` response headers, separated by spaces or commas, to lowercase."""
    prefixes = tuple(re.split(r"[\s,]+", text.strip().lower()))
    if not all(re.fullmatch(r"x-amz-[a-z0-9-]*", prefix) for prefix in prefixes):
        raise ValueError("must be names or prefixes that begin with x-amz-, separated by spaces or commas")
    return prefixes


def query_names(text: str) -> frozenset[str]:
    """Parse names of query parameters of GetObject, separated by spaces or commas.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html#API_GetObject_RequestSyntax
    """
    names = frozenset(re.split(r"[\s,]+", text.strip()))
    if not all(OBJECT_PARAMETERS.fullmatch(name) for name in names):
        raise ValueError(
            "must be object parameters (versionId, partNumber, response-content-type...), separated by spaces"
        )
    return names
