"""From the client's request to the request for S3: which object, which headers, nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BadPath, MethodNotAllowed, ObjectNotFound, SettingError
from usp_s3_wsgi.s3 import http_date
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.types import S3Request

#: What S3 needs to know of the client's headers: RFC 9110, sections 13 and 14. Never Authorization, Cookie, x-amz-*.
FORWARDED_HEADERS = {
    "HTTP_RANGE": "Range",
    "HTTP_IF_MATCH": "If-Match",
    "HTTP_IF_NONE_MATCH": "If-None-Match",
    "HTTP_IF_MODIFIED_SINCE": "If-Modified-Since",
    "HTTP_IF_UNMODIFIED_SINCE": "If-Unmodified-Since",
    "HTTP_IF_RANGE": "If-Range",
}
#: Ranges are defined for GET alone, and servers differ in what they make of them in a HEAD.
FORWARDED_BY_HEAD = {key: name for key, name in FORWARDED_HEADERS.items() if name not in {"Range", "If-Range"}}
#: Conditions are about the page that the client asked for. (A range too, but the Origin asks for ranges of its own.)
_FORWARDED_BY_SUBREQUEST = {"HTTP_RANGE": "Range"}
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html
_REQUESTER_PAYS = ("x-amz-request-payer", "requester")
#: Conditions that are dates; what is no date is as if it were not there: RFC 9110, sections 13.1.3 and 13.1.4.
_DATED = frozenset({"If-Modified-Since", "If-Unmodified-Since"})
#: A coding and its weight, which is empty where none is given.
_CODING = re.compile(r"(?:\A|,)[ \t]*([^\s,;]+)[ \t]*(?:;[ \t]*q=([0-9.]*))?")
_LONGEST_KEY = 1024
_DOTS = frozenset({b".", b".."})
_SLASH = ord("/")
_SEGMENT = re.compile(rb"(/+)([^/]*)")
#: What can become "//" when it is decoded; most paths have nothing of it.
_MAYBE_MERGED = re.compile("//|%2f", re.IGNORECASE)
_MAYBE_DOTS = re.compile(r"(?:/|%2f)(?:\.|%2e)", re.IGNORECASE)
#: A path that decodes and encodes to itself, as most do; dots at a segment's begin are for others to judge.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def from_environ(
    environ: Mapping[str, Any], settings: Settings, served_path: str | None = None, error_status: int | None = None
) -> S3Request:
    """Return the unsigned request for S3 of a WSGI environ.

    ``served_path``: the decoded URL that is served, where the operator says it; REQUEST_URI may be that of another one.
    ``error_status``: of the error that the request is the ErrorDocument of, None where it is none.

    Raises:
        MethodNotAllowed: neither GET nor HEAD.
        BadPath: the path cannot be a key.
        ObjectNotFound: the key is empty, which would be the bucket itself.
    """
    method = environ["REQUEST_METHOD"]
    _check_method(method)
    path = settings.bucket_url.prefix + (
        _plain_key(environ, served_path) or percent_encode(object_key(environ, served_path))
    )
    names = FORWARDED_HEADERS if method == "GET" else FORWARDED_BY_HEAD
    if is_subrequest(environ):
        names = _FORWARDED_BY_SUBREQUEST
    elif error_status:
        names = {}  # they are about what the client asked for
    headers = tuple(
        [(name, value) for variable, name in names.items() if (value := _forwarded(name, environ.get(variable)))]
    )
    unsigned = _for_object(method, path, environ.get("QUERY_STRING", ""), headers, settings)
    if settings.pass_accept_encoding and not is_subrequest(environ):  # a part of a page is not for the client to decode
        return unsigned._replace(accept_encoding=accepted_coding(environ.get("HTTP_ACCEPT_ENCODING", "")))
    return unsigned


def _forwarded(name: str, value: str | None) -> str | None:
    """Return what S3 is to see of a header, nothing where it is to be as if it were not there."""
    if value and name in _DATED:
        return http_date.canonical(value)
    if value and name == "Range":  # of another unit: https://www.rfc-editor.org/rfc/rfc9110#section-14.2
        unit, equals, ranges = value.partition("=")
        return f"bytes={ranges}" if equals and unit.lower() == "bytes" else None
    return value


def is_unusual(path: str, has_query: bool, settings: Settings) -> bool:
    """Whether S3 may refuse a request for what the client chose: parameters, or a key that is longer than S3's limit.

    ``path``: percent-encoded.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
    """
    return has_query or len(unquote_to_bytes(path[len(settings.bucket_url.prefix) :])) > _LONGEST_KEY


def accepted_coding(accept_encoding: str) -> str:
    """Return the coding of stored objects that a client accepts: ``gzip``, else ``identity``.

    https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
    """
    weights = dict(_CODING.findall(accept_encoding.lower()))
    weight = next((weights[name] for name in ("gzip", "x-gzip", "*") if name in weights), "0")
    return "gzip" if weight.strip("0.") or not weight else "identity"


def from_proxy(
    method: str,
    path: str,
    query: str,
    client_uri: str | None,
    undecoded_slash: bool,
    merged_after: str | None,
    settings: Settings,
) -> S3Request:
    """Return the unsigned request for S3 of one that mod_proxy is about to send; the headers are mod_proxy's.

    ``path``: percent-encoded. ``query``: the client's. ``client_uri``: the client's request target, None in a
    subrequest. ``undecoded_slash``: httpd left a ``%2F`` in the path that it checked. ``merged_after``: where
    httpd makes ``/`` of ``//`` in the client's path, the path of the ProxyPass that made the URL, empty for another
    rule; else None.

    Raises:
        MethodNotAllowed, BadPath, ObjectNotFound: as :func:`from_environ`.
        SettingError: the path is not below the bucket's URL.
    """
    _check_method(method)
    if undecoded_slash:
        raise BadPath("an encoded slash that httpd did not decode")
    if client_uri is not None and _MAYBE_DOTS.search(client_uri):
        _decoded(_raw_path(client_uri))
    encoded = path if _PLAIN.fullmatch(path) else percent_encode(_decoded(path))
    prefix = settings.bucket_url.prefix
    if not f"{encoded}/".startswith(prefix):
        raise SettingError("the URL of the proxied request is not below that of the section's bucket")
    if merged_after is not None and client_uri is not None and _MAYBE_MERGED.search(client_uri):
        key = unquote_to_bytes(encoded[len(prefix) :])
        encoded = prefix + percent_encode(_unmerged(unquote_to_bytes(prefix), key, client_uri, merged_after))
    return _for_object(method, encoded, query, (), settings)


def _unmerged(prefix: bytes, key: bytes, client_uri: str, mount: str) -> bytes:
    """Return the key with the slashes that the client's URL has below the mount: without them it is another key.

    ``prefix``: the path before the key, from ``/`` to ``/``. ``mount``: empty where it is not known.

    Raises:
        BadPath: a rule of the operator made another path of the client's, and nobody knows which slashes are the key's.

    >>> _unmerged(b"/bucket/", b"public/a/b", "//media//a//b", "/media")
    b'public//a//b'
    """
    raw = _decoded(_raw_path(client_uri))
    if b"//" not in raw or not key:
        return key
    path, mounted = _SEGMENT.findall(raw), _SEGMENT.findall(unquote_to_bytes(mount.rstrip("/").encode("latin-1")))
    asked, below = path[len(mounted) :], _SEGMENT.findall(b"/" + key)
    names = [name for _, name in (*_SEGMENT.findall(prefix[:-1]), *below)]
    is_mapped = bool(mount) and _names(path[: len(mounted)]) == _names(mounted)
    if not is_mapped or _names(asked) != names[len(names) - len(asked) :]:
        raise BadPath("slashes that httpd has merged before a rule made the URL: MergeSlashes Off")
    count = min(len(asked), len(below))
    pairs = zip(below[len(below) - count :], asked[len(asked) - count :], strict=True)
    # The longer ones: a target that ends with a slash brings one of its own.
    merged = [(max(own, theirs), name) for (own, name), (theirs, _) in pairs]
    return b"".join(slashes + name for slashes, name in (*below[: len(below) - count], *merged))[1:]


def _names(segments: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [name for _, name in segments]


def _check_method(method: str) -> None:
    if method not in {"GET", "HEAD"}:
        raise MethodNotAllowed(method)


def _for_object(
    method: str, path: str, query: str, headers: tuple[tuple[str, str], ...], settings: Settings
) -> S3Request:
    url = settings.bucket_url
    if len(path) <= len(url.prefix):
        raise ObjectNotFound("the bucket itself")
    passed = passed_query(query, settings.pass_query) if settings.pass_query else ()
    if settings.requester_pays:
        headers = (*headers, _REQUESTER_PAYS)
    return S3Request(method, url.scheme, url.authority, path, passed, headers)


def is_subrequest(environ: Mapping[str, Any]) -> bool:
    """Whether httpd itself asks, for a part of another answer: INCLUDED is what it calls the protocol then."""
    return environ.get("SERVER_PROTOCOL") == "INCLUDED"


def is_direct(environ: Mapping[str, Any]) -> bool:
    """Whether a client asks for this very URL: no subrequest, no internal redirect, fast or not, and no rewritten URL.

    httpd itself sets what this goes by when the handler begins, so no page can write it.

    Raises:
        BadPath: as :func:`object_key`.
    """
    mount = environ.get("SCRIPT_NAME", "")
    alias = environ.get("CONTEXT_PREFIX", "")
    if is_subrequest(environ) or "REDIRECT_URL" in environ:
        return False
    if alias and not f"{mount}/".startswith(f"{alias.rstrip('/')}/"):
        return False  # an Alias below the mount has led to the folder that a fast redirect comes from
    raw = _raw_path(environ.get("REQUEST_URI", ""))
    _decoded(raw)
    # The mount is in the URL as it is: with AllowEncodedSlashes NoDecode, /media%2Fx is no path of /media.
    segments = [name for name in mount.split("/") if name]
    match = re.match("/+([^/]+)" * len(segments) + "(?P<below>.*)", raw, re.DOTALL)
    if match is None or [unquote_to_bytes(name) for name in match.groups()[:-1]] != [
        name.encode("latin-1") for name in segments
    ]:
        return False
    below = match["below"]
    # And there it leaves %2F as it is.
    paths = _decoded(below), _decoded(re.sub("%(?=2f)", "%25", below, flags=re.IGNORECASE))
    return _folded(environ.get("PATH_INFO", "").encode("latin-1")) in {_folded(path) for path in paths}


def _plain_key(environ: Mapping[str, Any], served_path: str | None) -> str:
    """Return what :func:`object_key` would, encoded, where that takes a glance only; else nothing."""
    path: str = environ.get("REQUEST_URI", "").partition("?")[0]
    key: str = environ.get("PATH_INFO", "")
    is_plain = path.endswith(key) and key[:1] == "/" and _PLAIN.fullmatch(path)
    return key[1:] if is_plain and served_path is None and not is_subrequest(environ) else ""


def object_key(environ: Mapping[str, Any], served_path: str | None = None) -> bytes:
    """Return the key that the request asks for, in bytes, decoded once. Raises: BadPath.

    REQUEST_URI tells it exactly, but belongs to another URL in a subrequest and after a rewrite or an internal
    redirect; PATH_INFO always belongs to the URL that is served, but mod_wsgi folds its slashes. So the key is the end
    of REQUEST_URI that PATH_INFO confirms, else PATH_INFO itself. ``served_path`` belongs to the URL that is served,
    but httpd has merged its slashes, unless MergeSlashes is Off: of the same URL REQUEST_URI knows more.
    """
    confirmed: bytes = environ.get("PATH_INFO", "").encode("latin-1")
    paths = [served_path.encode("latin-1")] if served_path else []
    raw = _raw_path(environ.get("REQUEST_URI", ""))
    if not is_subrequest(environ):
        asked = _decoded(raw)
        is_served = not paths or _folded(asked) == _folded(paths[0])
        paths.insert(0 if is_served else 1, asked)
    key = next((tail for path in paths if (tail := _unfolded_tail(path, confirmed)) is not None), None)
    if key is None:
        key = confirmed
        if b"%2F" in confirmed.upper() and "%2F" in raw.upper():
            # Access rules of httpd have seen another path than the key would be: AllowEncodedSlashes NoDecode.
            raise BadPath("an encoded slash that httpd did not decode")
    key = key[1:]  # the slash that ends the mount
    if _DOTS & set(key.split(b"/")) or b"\0" in key:
        raise BadPath("a dot segment or NUL")
    return key


def _raw_path(uri: str) -> str:
    """Return the path of a request target in origin or absolute form, without the query."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?]*", "", uri).partition("?")[0]


def _decoded(raw: str) -> bytes:
    if re.search(r"%(?![0-9A-Fa-f]{2})", raw):
        raise BadPath("broken percent-encoding")
    path = unquote_to_bytes(raw.encode("latin-1"))
    if b"\0" in path:
        raise BadPath("NUL")
    # httpd has resolved them in PATH_INFO already; the client asked for something else than it would get.
    if _DOTS & set(path.split(b"/")):
        raise BadPath("a dot segment")
    return path


def _folded(path: bytes) -> bytes:
    return re.sub(rb"/+", b"/", path)


def _unfolded_tail(path: bytes, folded: bytes) -> bytes | None:
    """Return the end of ``path`` that is ``folded`` but for repeated slashes, with all the slashes before it.

    >>> _unfolded_tail(b"/media//a//b", b"/a/b")
    b'//a//b'
    """
    if not folded.startswith(b"/"):
        return None
    end = len(path)
    for part in reversed(folded.split(b"/")[1:]):
        start = end - len(part)
        if start < 1 or path[start:end] != part or path[start - 1] != _SLASH:
            return None
        end = start
        while end and path[end - 1] == _SLASH:
            end -= 1
    return path[end:]


def passed_query(query: str, names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the client's parameters that the operator lets through, percent-encoded once, in the client's order.

    Raises:
        BadPath: broken percent-encoding or a control character in one of them, or one that comes twice.
    """
    passed: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name in names:
            if re.search(r"%(?![0-9A-Fa-f]{2})", value):
                raise BadPath("broken percent-encoding in the query")
            raw = unquote_to_bytes(value.replace("+", " ").encode("latin-1"))
            # Some servers write the value into the answer's header as it is: the client would write S3's answer.
            if name in passed or re.search(rb"[\x00-\x1f\x7f]", raw):
                raise BadPath("a query parameter twice, or with a control character")
            passed[name] = percent_encode(raw, safe="")
    return tuple(passed.items())
