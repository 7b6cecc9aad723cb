"""The request that mod_proxy is about to send: from its URL to the request for an object."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BadRequestTarget, SettingError
from usp_s3_wsgi.s3 import object_request
from usp_s3_wsgi.s3.object_request import PLAIN_PATH, decode_path, path_of
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import Pairs, S3Request

_PATH_SEGMENT = re.compile(rb"(/+)([^/]*)")
#: What can become "//" when it is decoded: most paths have none of it.
_MAY_HAVE_DOUBLE_SLASH = re.compile("//|%2f", re.IGNORECASE)
_MAY_HAVE_DOT_SEGMENT = re.compile(r"(?:/|%2f)(?:\.|%2e)", re.IGNORECASE)
_URL = re.compile(r"(https?://[^/?]*)([^?]*)(?:\?(.*))?", re.DOTALL)


class ProxiedRequest(NamedTuple):
    """A request that mod_proxy is about to send, as the C module passes it.

    ``section_url``: the URL that names the bucket, of the ``<Proxy>`` section or the ProxyPass; None if the section
    is a pattern. ``variables``: the S3 settings of the request's sections. ``url``: what mod_proxy would request,
    percent-encoded once, with the client's query. ``client_target``: the client's request target, None in a
    subrequest. ``has_encoded_slash``: httpd did not decode a ``%2F`` in the path that it checked. ``merging_mount``:
    where httpd merges slashes in the client's path (MergeSlashes), the path of the ProxyPass that made the URL, empty
    for another directive; else None. ``rejection``: why it must not be signed whatever the settings are, or None.
    """

    section_url: str | None
    variables: Pairs
    method: str
    url: str
    client_target: str | None
    has_encoded_slash: bool
    merging_mount: str | None
    rejection: str | None = None

    def __repr__(self) -> str:
        # The variables hold keys, and the queries may hold the client's secrets.
        return f"ProxiedRequest({self.method} {self.url.partition('?')[0]})"

    def for_bucket(self, path: str, query: str, settings: Settings) -> S3Request:
        """Return the unsigned request to the bucket; its headers are mod_proxy's.

        ``path`` and ``query``: of ``url``, as :func:`split_url` returns them.

        Raises:
            MethodNotAllowed, BadRequestTarget, ObjectNotFound: as for the gateway.
            SettingError: the URL is not below the bucket's.
        """
        object_request.check_method(self.method)
        if self.has_encoded_slash:
            raise BadRequestTarget("encoded slash that httpd did not decode")
        target = self.client_target
        if target is not None and _MAY_HAVE_DOT_SEGMENT.search(target):
            decode_path(path_of(target))
        encoded = path if PLAIN_PATH.fullmatch(path) else percent_encode(decode_path(path))
        prefix = settings.bucket_url.prefix
        if not f"{encoded}/".startswith(prefix):
            raise SettingError("the URL of the proxied request is not below that of the section's bucket")
        if self.merging_mount is not None and target is not None and _MAY_HAVE_DOUBLE_SLASH.search(target):
            key = unquote_to_bytes(encoded[len(prefix) :])
            encoded = prefix + percent_encode(_unmerge(unquote_to_bytes(prefix), key, target, self.merging_mount))
        return object_request.for_object(self.method, encoded, query, (), settings)


def split_url(url: str) -> tuple[str, str, str]:
    """Return scheme and authority (``https://host``), path and query. Raises: SettingError."""
    match = _URL.fullmatch(url)
    if match is None:
        raise SettingError("only http:// and https:// URLs can be signed")
    origin, path, query = match.groups()
    return origin, path or "/", query or ""


def _unmerge(prefix: bytes, key: bytes, client_target: str, mount: str) -> bytes:
    """Return the key with the slashes that the client's URL has below the mount: without them it is another key.

    ``prefix``: the path before the key, from ``/`` to ``/``. ``mount``: empty if it is not known.

    Raises:
        BadRequestTarget: a directive changed the client's path, and it is not known which slashes belong to the key.

    >>> _unmerge(b"/bucket/", b"public/a/b", "//media//a//b", "/media")
    b'public//a//b'
    """
    path = decode_path(path_of(client_target))
    if b"//" not in path or not key:
        return key
    client_segments = _PATH_SEGMENT.findall(path)
    mount_segments = _PATH_SEGMENT.findall(unquote_to_bytes(mount.rstrip("/").encode("latin-1")))
    below_mount, key_segments = client_segments[len(mount_segments) :], _PATH_SEGMENT.findall(b"/" + key)
    names = [name for _, name in (*_PATH_SEGMENT.findall(prefix[:-1]), *key_segments)]
    is_below_mount = bool(mount) and _names(client_segments[: len(mount_segments)]) == _names(mount_segments)
    if not is_below_mount or _names(below_mount) != names[len(names) - len(below_mount) :]:
        raise BadRequestTarget("httpd merged slashes before a directive changed the path: set MergeSlashes Off")
    count = min(len(below_mount), len(key_segments))
    pairs = zip(key_segments[len(key_segments) - count :], below_mount[len(below_mount) - count :], strict=True)
    # The longer run of slashes: a ProxyPass URL that ends with a slash adds one.
    unmerged = [(max(own, client), name) for (own, name), (client, _) in pairs]
    return b"".join(slashes + name for slashes, name in (*key_segments[: len(key_segments) - count], *unmerged))[1:]


def _names(segments: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [name for _, name in segments]
