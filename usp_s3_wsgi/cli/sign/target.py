"""The URL of S3 that is signed: percent-encoded as the gateway does it, whichever way the user writes it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import click

from usp_s3_wsgi.cli.server import buckets, objects
from usp_s3_wsgi.cli.server.buckets import UsedBucket
from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.configtest.parsed_config import Configuration
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import Pairs

_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.IGNORECASE | re.DOTALL)
_IS_URL = re.compile("https?://", re.IGNORECASE)
_BROKEN_PERCENT_ENCODING = re.compile(r"%(?![0-9A-Fa-f]{2})")
#: Query parameters of a signature, in lowercase: a URL with one of them is signed already.
_SIGNATURE_PARAMETERS = frozenset(
    "x-amz-algorithm x-amz-credential x-amz-date x-amz-expires x-amz-signedheaders x-amz-security-token "
    "x-amz-signature awsaccesskeyid expires signature".split()
)


class Target(NamedTuple):
    """What is requested of S3.

    ``bucket_url``: scheme, host and bucket. ``path``: with the bucket if the URL has it there. ``path`` and ``query``
    are percent-encoded once.
    """

    bucket_url: BucketURL
    path: str
    query: Pairs


def from_url(text: str) -> Target:
    """Return the target of a URL of S3. Raises: click.UsageError."""
    objects.reject_fragment(text)
    match = _URL.fullmatch(text)
    if match is None:
        raise click.UsageError("the URL must begin with https:// or http://; a key or a path needs --from")
    scheme, authority, path, query = match.groups()
    encoded = objects.encode_path(path or "/")
    try:
        url = bucket_url.parse(f"{scheme.lower()}://{authority}{encoded}")
    except ValueError as error:
        raise click.UsageError(f"the URL {error}") from None
    return Target(url, encoded, parameters(query or ""))


def in_bucket(configuration: Configuration, text: str, section: str) -> tuple[Target, UsedBucket]:
    """Return the target of a KEY, or of a URL of S3, in a bucket of the configuration, and the bucket.

    Raises: click.ClickException.
    """
    if _IS_URL.match(text):
        used = buckets.find(configuration, section)
        url = used.settings.bucket_url
        target = from_url(text)
        found = target.bucket_url
        if (found.scheme, found.host, found.port) != (url.scheme, url.host, url.port):
            # The keys of the section are not for other hosts.
            raise click.UsageError(f"the URL is not at the host of this bucket, {url.scheme}://{url.authority}")
        return target._replace(bucket_url=url), used
    served = objects.find(configuration, text, section)
    settings = served.used.settings
    return Target(settings.bucket_url, served.request(settings).path, parameters(served.query)), served.used


def parameters(query: str) -> Pairs:
    """Return the query parameters, each percent-encoded once; a plus is a space. Raises: click.UsageError."""
    if _BROKEN_PERCENT_ENCODING.search(query):
        raise click.UsageError("the query has broken percent-encoding; a percent sign is written %25")
    pairs = [part.partition("=") for part in query.split("&") if part]
    if any(name.lower() in _SIGNATURE_PARAMETERS for name, _, _ in pairs):
        raise click.UsageError("the URL has a signature already: write it without the parameters of the signature")
    return tuple((_component(name), _component(value)) for name, _, value in pairs)


def _component(text: str) -> str:
    return percent_encode(unquote_to_bytes(text.replace("+", " ").encode("utf-8", "surrogateescape")), safe="")
