"""Which object a KEY and ``--from`` name: the path of S3's URL, and the path of this server's own URL.

A KEY is written as in a client's URL (docs/url-to-key.md), but characters that no URL can have may be written as they
are.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

import click

from usp_s3_wsgi.cli.server import buckets
from usp_s3_wsgi.cli.server.buckets import UsedBucket
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest import gateway_mounts
from usp_s3_wsgi.configtest.bucket_use import Place
from usp_s3_wsgi.configtest.parsed_config import Configuration
from usp_s3_wsgi.configtest.proxy_directives import ProxyDirectives
from usp_s3_wsgi.configtest.urls import is_path_below
from usp_s3_wsgi.errors import BadRequestTarget, GatewayError, ObjectNotFound
from usp_s3_wsgi.s3 import object_request
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import Pairs, S3Request

#: What no URL can have, but a shell's argument can: it is encoded as a browser does.
_NOT_IN_A_URL = re.compile(rb"[^!-~]|[\"<>\\^`{|}]")


class ServedObject(NamedTuple):
    """An object: ``key`` in S3's bucket and ``own_path`` of this server's URL, None if that is not known.

    ``used``: the bucket with its settings and place. ``key`` and ``own_path`` are percent-encoded. ``s3_path``: the
    path of S3's URL where it is not the key below S3BucketURL; empty for the gateway. ``query``: of the client's URL.
    """

    used: UsedBucket
    key: str
    own_path: str | None
    s3_path: str
    query: str

    def request(self, settings: Settings, headers: Pairs = ()) -> S3Request:
        """Return the unsigned request to a bucket. Raises: GatewayError."""
        prefix = settings.bucket_url.prefix
        path = self.s3_path or prefix + self.key
        if not f"{path}/".startswith(prefix):
            raise BadRequestTarget(f"the URL that mod_proxy would request is not below {prefix}")
        return object_request.for_object("GET", path, self.query, headers, settings)

    @property
    def own_target(self) -> str | None:
        """The request target of this server's own URL, with the query."""
        return self.own_path and self.own_path + (f"?{self.query}" if self.query else "")

    @property
    def file_name(self) -> str:
        """The last part of the key, as the name of a file; empty for a key that ends with a slash."""
        return os.fsdecode(unquote_to_bytes((self.s3_path or self.key).rpartition("/")[2]))


def find(configuration: Configuration, key: str, name: str) -> ServedObject:
    """Return the object that a command line names; ``name``: of ``--from``, empty if KEY is a whole path.

    Raises: click.ClickException.
    """
    path, _, query = as_in_url(key).partition("?")
    is_whole = path.startswith("/")
    if not is_whole and not name:
        raise click.UsageError(
            "--from says which bucket is meant, such as --from /media; or write a whole path: /media/KEY"
        )
    written = key.partition("?")[0]
    try:
        if name and not name.startswith("/"):
            found = _below_url(buckets.find(configuration, name), name, path, query)
        else:
            mount = name.rstrip("/")
            own_path = path if is_whole else below(mount.encode("utf-8", "surrogateescape"), path)
            decoded = object_request.decode_path(own_path).decode("utf-8", "surrogateescape")
            if is_whole and not is_path_below(decoded, mount):
                raise click.UsageError(
                    f"{written} is not below {name}. A KEY that begins with a slash is a whole path: write"
                    f" {written.lstrip('/')}, or {mount}/{written} for a key that begins with a slash"
                )
            found = _below_path(buckets.find(configuration, mount or decoded), own_path, query)
        found.request(found.used.settings)
    except GatewayError as error:
        raise _unusable(written, error) from None
    return found


def at_place(used: UsedBucket, key: str) -> ServedObject:
    """Return the object of a KEY that follows the path of a bucket's place.

    Raises: click.UsageError: it is not known here which object that is, or no object can have the key.
    """
    path, _, query = as_in_url(key).partition("?")
    try:
        if used.place.path is None:
            return _below_url(used, used.place.name, path, query)
        return _below_path(used, below(used.place.path.encode("latin-1"), path), query)
    except GatewayError as error:
        raise _unusable(key, error) from None


def as_in_url(text: str) -> str:
    """Return what the command line has as a URL has it: percent-encoded only where it must be, in ASCII.

    Raises: click.UsageError.
    """
    reject_fragment(text)
    return _encode_what_no_url_has(text.encode("utf-8", "surrogateescape"))  # the bytes of the command line


def reject_fragment(text: str) -> None:
    """Raises: click.UsageError: the text has a # that would not be sent."""
    if "#" in text:
        raise click.UsageError("a # begins a part of a URL that is not sent: in a key it is written %23")


def encode_path(path: str) -> str:
    """Return a path of S3's URL, percent-encoded once, however much of it is encoded already.

    Raises: click.UsageError.
    """
    try:
        return percent_encode(object_request.decode_path(as_in_url(path)))
    except BadRequestTarget as error:
        raise _unusable(path, error) from None


def below(mount: bytes, rest: str) -> str:
    """Return the percent-encoded path of this server for what follows a mount, which is percent-encoded already."""
    return f"{percent_encode(mount.rstrip(b'/'))}/{rest}"


def _below_path(used: UsedBucket, own_path: str, query: str) -> ServedObject:
    """Return the object at a path of this server."""
    place = used.place
    decoded = object_request.decode_path(own_path).decode("latin-1")
    if place.way == "gateway":
        mount = _mount(place, decoded)
        key = _rest(own_path, mount)
        return ServedObject(used, percent_encode(object_request.decode_path(key[1:])), own_path, "", query)
    if place.path is None or not is_path_below(decoded, place.path) or not is_mapped_by_prefix(place):
        raise click.UsageError(
            f"only httpd knows which object a path leads to here: write --from {place.name}, and the KEY below it"
        )
    rest = _rest(own_path, place.path)
    path = urlsplit(place.url).path
    # As mod_proxy does: what follows the path of the ProxyPass follows its URL.
    s3_path = percent_encode(object_request.decode_path(f"{path}{rest}" or "/"))
    return ServedObject(used, "", own_path, s3_path, query)


def _below_url(used: UsedBucket, name: str, path: str, query: str) -> ServedObject:
    """Return the object below the URL of a ``<Proxy>`` section."""
    if path.startswith("/"):
        raise click.UsageError(f"with --from {name}, KEY is what follows that URL: without a slash at its begin")
    url, place = f"{as_in_url(name).rstrip('/')}/{path}", used.place
    s3_path = percent_encode(object_request.decode_path(urlsplit(url).path))
    own_path = None
    proxied = _encode_what_no_url_has(place.url.encode("latin-1"))
    if place.path is not None and url.startswith(proxied) and is_mapped_by_prefix(place):
        rest = url[len(proxied) :]
        if rest.startswith("/") or place.path.endswith("/"):
            own_path = percent_encode(place.path.encode("latin-1")) + rest
    return ServedObject(used, "", own_path, s3_path, query)


def is_mapped_by_prefix(place: Place) -> bool:
    """Whether a ProxyPass maps the paths to URLs, and no pattern, whose matches only httpd knows."""
    return any(
        one.kind == "proxypass"
        and one.is_literal
        and (place.path or "").startswith(one.path or "/")
        and place.url.startswith(one.canonical)
        for server in place.server.merge_order
        for one in ProxyDirectives(server).all
    )


def _mount(place: Place, path: str) -> str:
    """Return the path of the gateway's WSGIScriptAlias: that of a ``<Location>`` may be deeper."""
    assert place.path is not None
    mounts = [
        mount.path
        for server in place.server.merge_order
        for mount in gateway_mounts.mounts(server)
        if mount.is_gateway and mount.is_exact and mount.path is not None and is_path_below(path, mount.path)
    ]
    return max(mounts, key=len, default=place.path).rstrip("/")


def _rest(own_path: str, mount: str) -> str:
    """Return what follows a mount in a percent-encoded path, as it is: its slashes belong to the key."""
    segments = len(mount.rstrip("/").split("/"))
    match = re.match(rf"(?:/+[^/]*){{{segments - 1}}}", own_path)
    rest = own_path[match.end() :] if match else own_path
    return rest[1:] if mount.endswith("/") else rest


def _encode_what_no_url_has(data: bytes) -> str:
    return _NOT_IN_A_URL.sub(lambda match: percent_encode(match[0]).encode(), data).decode("ascii")


def _unusable(written: str, error: GatewayError) -> click.UsageError:
    """Return why a KEY or a path, as it is written, is none of an object."""
    if isinstance(error, ObjectNotFound):
        return click.UsageError("there is no key: that is the bucket itself")
    hint = "; a percent sign is written %25" if "percent-encoding" in str(error) else ""
    return click.UsageError(f"{written} cannot be requested: {error}{hint}")
