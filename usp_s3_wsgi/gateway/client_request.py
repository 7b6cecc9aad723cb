"""The client's request: from a WSGI environ to the key and the headers that S3 is to see, whichever the bucket.

https://peps.python.org/pep-3333/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BadRequestTarget
from usp_s3_wsgi.s3 import object_request
from usp_s3_wsgi.s3.forwarded_headers import (
    REQUEST_HEADERS,
    SUBREQUEST_HEADERS,
    forwarded_request_headers,
)
from usp_s3_wsgi.s3.object_request import DOT_SEGMENTS, PLAIN_PATH, decode_path, path_of
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import S3Request

_SLASH = ord("/")


class ClientRequest(NamedTuple):
    """What a client, or httpd in a subrequest, requests.

    ``key``: the object's key, percent-encoded once. ``headers``: those that S3 is to see. ``query``: the query string.
    ``accept_encoding``: that header. ``is_subrequest``: httpd requests it, for a part of another response.
    """

    method: str
    key: str
    headers: tuple[tuple[str, str], ...]
    query: str
    accept_encoding: str
    is_subrequest: bool

    def __repr__(self) -> str:
        return f"ClientRequest({self.method} {self.key})"  # without the query, which may hold the client's secrets

    def for_bucket(self, settings: Settings) -> S3Request:
        """Return the unsigned request to a bucket. Raises: ObjectNotFound, BadRequestTarget."""
        path = settings.bucket_url.prefix + self.key
        request = object_request.for_object(self.method, path, self.query, self.headers, settings)
        # httpd does not decode a part of a page for the client.
        if settings.pass_accept_encoding and not self.is_subrequest:
            return request._replace(accept_encoding=object_request.accepted_coding(self.accept_encoding))
        return request


def encoded_path(environ: Mapping[str, Any]) -> str:
    """Return the path of the URL that is served, percent-encoded."""
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    return percent_encode(path.encode("latin-1", "replace"))


def from_environ(
    environ: Mapping[str, Any], served_path: str | None = None, errordocument_status: int | None = None
) -> ClientRequest:
    """Return the request of a WSGI environ.

    ``served_path``: the decoded path that httpd serves, where the operator passes it (USP_S3_PATH); REQUEST_URI may be
    the path of another URL. ``errordocument_status``: of the error whose ErrorDocument this is, None for any other
    request.

    Raises:
        MethodNotAllowed: neither GET nor HEAD.
        BadRequestTarget: the path cannot be a key.
    """
    method = environ["REQUEST_METHOD"]
    object_request.check_method(method)
    is_sub = is_subrequest(environ)
    key = _plain_key(environ, served_path, is_sub) or percent_encode(object_key(environ, served_path))
    names = REQUEST_HEADERS[method]
    if is_sub:
        names = SUBREQUEST_HEADERS
    elif errordocument_status:
        names = {}  # they belong to the URL that failed
    headers = tuple(forwarded_request_headers(names, environ).items())
    query, accept_encoding = environ.get("QUERY_STRING", ""), environ.get("HTTP_ACCEPT_ENCODING", "")
    return ClientRequest(method, key, headers, query, accept_encoding, is_sub)


def is_subrequest(environ: Mapping[str, Any]) -> bool:
    """Whether httpd makes the request, for a part of another response: it sets the protocol INCLUDED then."""
    return environ.get("SERVER_PROTOCOL") == "INCLUDED"


def is_direct(environ: Mapping[str, Any]) -> bool:
    """Whether a client requests this very URL: no subrequest, no internal redirect, fast or not, no rewritten URL.

    httpd sets the variables that this reads when the handler begins, so no page can write them.

    Raises:
        BadRequestTarget: as :func:`object_key`.
    """
    mount = environ.get("SCRIPT_NAME", "")
    alias = environ.get("CONTEXT_PREFIX", "")
    if is_subrequest(environ) or "REDIRECT_URL" in environ:
        return False
    if alias and not f"{mount}/".startswith(f"{alias.rstrip('/')}/"):
        return False  # an Alias below the mount: a fast internal redirect came from its folder
    raw = path_of(environ.get("REQUEST_URI", ""))
    decode_path(raw)
    # The mount must be in the URL as it is: with AllowEncodedSlashes NoDecode, /media%2Fx is not a path of /media.
    segments = [name for name in mount.split("/") if name]
    match = re.match("/+([^/]+)" * len(segments) + "(?P<below>.*)", raw, re.DOTALL)
    if match is None or [unquote_to_bytes(name) for name in match.groups()[:-1]] != [
        name.encode("latin-1") for name in segments
    ]:
        return False
    below = match["below"]
    # With NoDecode, %2F is not decoded.
    paths = decode_path(below), decode_path(re.sub("%(?=2f)", "%25", below, flags=re.IGNORECASE))
    return _merge_slashes(environ.get("PATH_INFO", "").encode("latin-1")) in {_merge_slashes(path) for path in paths}


def object_key(environ: Mapping[str, Any], served_path: str | None = None) -> bytes:
    """Return the key of the requested object, in bytes, decoded once. Raises: BadRequestTarget.

    REQUEST_URI has the exact path, but belongs to another URL in a subrequest and after a rewrite or an internal
    redirect. PATH_INFO always belongs to the URL that is served, but mod_wsgi merges its slashes. So the key is the end
    of REQUEST_URI that matches PATH_INFO, else PATH_INFO. ``served_path`` belongs to the URL that is served, but httpd
    has merged its slashes unless MergeSlashes is Off: REQUEST_URI is preferred where it is the same URL.
    """
    path_info: bytes = environ.get("PATH_INFO", "").encode("latin-1")
    paths = [served_path.encode("latin-1")] if served_path else []
    raw = path_of(environ.get("REQUEST_URI", ""))
    if not is_subrequest(environ):
        requested = decode_path(raw)
        is_served = not paths or _merge_slashes(requested) == _merge_slashes(paths[0])
        paths.insert(0 if is_served else 1, requested)
    key = next((tail for path in paths if (tail := _tail_with_slashes(path, path_info)) is not None), None)
    if key is None:
        key = path_info
        if b"%2F" in path_info.upper() and "%2F" in raw.upper():
            # AllowEncodedSlashes NoDecode: httpd's access rules have checked another path than the key would be.
            raise BadRequestTarget("encoded slash that httpd did not decode")
    key = key[1:]  # the slash after the mount
    if DOT_SEGMENTS & set(key.split(b"/")) or b"\0" in key:
        raise BadRequestTarget("dot segment or NUL in the path")
    return key


def _plain_key(environ: Mapping[str, Any], served_path: str | None, is_sub: bool) -> str:
    """Return the same, percent-encoded, for a plain path, which most requests have; else nothing."""
    path: str = environ.get("REQUEST_URI", "").partition("?")[0]
    key: str = environ.get("PATH_INFO", "")
    is_plain = path.endswith(key) and key[:1] == "/" and PLAIN_PATH.fullmatch(path)
    return key[1:] if is_plain and served_path is None and not is_sub else ""


def _merge_slashes(path: bytes) -> bytes:
    return re.sub(rb"/+", b"/", path)


def _tail_with_slashes(path: bytes, merged: bytes) -> bytes | None:
    """Return the end of ``path`` that equals ``merged`` when its slashes are merged, with all slashes before it.

    >>> _tail_with_slashes(b"/media//a//b", b"/a/b")
    b'//a//b'
    """
    if not merged.startswith(b"/"):
        return None
    end = len(path)
    for segment in reversed(merged.split(b"/")[1:]):
        start = end - len(segment)
        if start < 1 or path[start:end] != segment or path[start - 1] != _SLASH:
            return None
        end = start
        while end and path[end - 1] == _SLASH:
            end -= 1
    return path[end:]
