"""The URL of S3 that is signed: percent-encoded as the gateway does it, whichever way the user writes it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import click

from usp_s3_wsgi.cli.server.buckets import UsedBucket
from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.configtest.bucket_use import Place
from usp_s3_wsgi.configtest.proxy_directives import ProxyDirectives
from usp_s3_wsgi.errors import BadRequestTarget
from usp_s3_wsgi.s3.object_request import decode_path
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
    _check_fragment(text)
    match = _URL.fullmatch(text)
    if match is None:
        raise click.UsageError("the URL must begin with https:// or http://; a key or a path needs --from")
    scheme, authority, path, query = match.groups()
    encoded = encode_path(path or "/")
    try:
        url = bucket_url.parse(f"{scheme.lower()}://{authority}{encoded}")
    except ValueError as error:
        raise click.UsageError(f"the URL {error}") from None
    return Target(url, encoded, parameters(query or ""))


def in_bucket(text: str, used: UsedBucket) -> Target:
    """Return the target of a key, of a path on this server, or of a URL of S3, in a bucket of the configuration.

    Raises: click.UsageError.
    """
    place, url = used.place, used.settings.bucket_url
    if _IS_URL.match(text):
        target = from_url(text)
        found = target.bucket_url
        if (found.scheme, found.host, found.port) != (url.scheme, url.host, url.port):
            # The keys of the section are not for other hosts.
            raise click.UsageError(f"the URL is not at the host of this bucket, {url.scheme}://{url.authority}")
        return target._replace(bucket_url=url)
    _check_fragment(text)
    path, _, query = text.partition("?")
    proxied = _URL.fullmatch(place.url)
    # httpd's configuration is Latin-1 here; what mod_proxy sends instead of the mount's path is not normalised.
    base = percent_encode(unquote_to_bytes(proxied[3].encode("latin-1"))) if proxied else url.prefix
    if not path.startswith("/"):
        encoded = f"{base.rstrip('/')}/{encode_path(path)}"
        is_empty = not path
    elif place.path is None or (proxied and not _is_mapped_by_prefix(place)):
        raise click.UsageError("it is not known here which key a path of this server leads to: write a key")
    else:
        below = _below(encode_path(path), place.path, is_exact=proxied is not None)
        encoded, is_empty = f"{base}{below}", not below.strip("/")
    if is_empty:
        raise click.UsageError("there is no key: that is the bucket itself")
    return Target(url, encoded, parameters(query))


def _is_mapped_by_prefix(place: Place) -> bool:
    """Whether a ProxyPass maps the paths to URLs, and no pattern, whose matches only httpd knows."""
    return any(
        one.kind == "proxypass"
        and one.is_literal
        and (place.path or "").startswith(one.path or "/")
        and place.url.startswith(one.canonical)
        for server in place.server.merge_order
        for one in ProxyDirectives(server).all
    )


def _below(path: str, mount: str, is_exact: bool) -> str:
    """Return what follows the path of a mount; ``is_exact``: as mod_proxy does it, with a slash between if there is."""
    above = percent_encode(mount.encode("latin-1", "replace"))
    top = above.rstrip("/")
    if not f"{path}/".startswith(f"{top}/"):
        raise click.UsageError(f"this path is not below {mount}: write a key without the slash at its begin, or a path")
    return path[len(above) :] if is_exact else path[len(top) + 1 :]


def encode_path(path: str) -> str:
    """Return a path percent-encoded once, however much of it is percent-encoded already. Raises: click.UsageError."""
    data = path.encode("utf-8", "surrogateescape")  # the bytes of the command line
    try:
        return percent_encode(decode_path(data.decode("latin-1")))
    except BadRequestTarget as error:
        hint = "; a percent sign in a key is written %25" if "percent" in str(error) else ""
        raise click.UsageError(f"this path cannot be signed: {error}{hint}") from None


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


def _check_fragment(text: str) -> None:
    if "#" in text:
        raise click.UsageError("a # begins a part of a URL that is not sent: in a key it is written %23")
