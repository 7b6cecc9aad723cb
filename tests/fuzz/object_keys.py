"""From the client's URL to the object's key: the gateway and ``<Proxy>`` find the same key, the one in the URL.

httpd stands between them: here a model of what it does with a request target, for each setting of MergeSlashes and
AllowEncodedSlashes. tests/httpd tests the same with a real httpd.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from tests.fuzz.target import Target, fields, join
from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BadRequestTarget, GatewayError, ObjectNotFound, SettingError
from usp_s3_wsgi.gateway import client_request
from usp_s3_wsgi.proxy.proxied_request import ProxiedRequest, split_url
from usp_s3_wsgi.s3 import object_request
from usp_s3_wsgi.signing.types import S3Request

#: LimitRequestLine.
_MAX_LENGTH = 8_190
_PREFIX = "/pre/fix/"
SETTINGS = Settings(
    bucket_url(f"https://b.s3.amazonaws.com{_PREFIX}"), pass_query=frozenset({"versionId", "partNumber"})
)
_MOUNTS = ("/media", "", "/a b/é".encode().decode("latin-1"))
#: What mod_proxy does not encode in a path (``ap_proxy_canonenc``).
_UNENCODED = "$-_.+!*'(),;:@&=/~"


class Served(NamedTuple):
    """What httpd makes of a request target: the decoded path, and whether a ``%2F`` may be left in it (NoDecode)."""

    path: bytes
    has_encoded_slash: bool


def check(data: bytes) -> None:
    options, target, query, path_info = fields(data, 4)
    mount = _MOUNTS[sum(options) % len(_MOUNTS)]
    merges_slashes, decodes_slashes = b"m" in options, b"n" not in options
    _check_any_environ(mount, target, query, path_info)
    if re.fullmatch(rb"/[!-~\x80-\xff]*", target) and b"?" not in target and b"#" not in target:
        _check_both_ways(mount, target.decode("latin-1"), query.decode("latin-1"), merges_slashes, decodes_slashes)


def _check_both_ways(mount: str, target: str, query: str, merges_slashes: bool, decodes_slashes: bool) -> None:
    served = _serve(target.encode("latin-1"), merges_slashes, decodes_slashes)
    mount_match = re.match(_slashes(mount.encode("latin-1")) + rb"(?=/)", served.path) if served else None
    if served is None or mount_match is None:
        return
    below = served.path[mount_match.end() :]
    expected = _requested_key(mount.encode("latin-1"), target.encode("latin-1"))
    uri = f"{target}?{query}" if query else target
    environ = {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": uri,
        "SCRIPT_NAME": mount,
        "PATH_INFO": re.sub(rb"/+", b"/", below).decode("latin-1"),
        "QUERY_STRING": query,
    }
    gateway = _request(lambda: client_request.from_environ(environ).for_bucket(SETTINGS))
    url = f"https://b.s3.amazonaws.com{_PREFIX.rstrip('/')}{_encode(below, decodes_slashes)}"
    proxied_request = ProxiedRequest(
        None, (), "GET", f"{url}?{query}" if query else url, uri, served.has_encoded_slash,
        mount or "/" if merges_slashes else None,
    )  # fmt: skip
    proxied = _request(lambda: proxied_request.for_bucket(*split_url(proxied_request.url)[1:], SETTINGS))
    for request in (gateway, proxied):
        if request is not None:
            assert _key(request) == expected, (request.path, expected)
    if not served.has_encoded_slash:
        is_valid = bool(expected) and _is_valid_query(query)
        assert (gateway is not None) == is_valid, (gateway, expected)
        # Of a key that has only slashes, merging leaves nothing: <Proxy> takes it for the bucket itself.
        assert (proxied is not None) == is_valid or (merges_slashes and not (expected or b"").strip(b"/")), expected
    if gateway and proxied:
        assert gateway._replace(headers=()) == proxied._replace(headers=()), (gateway, proxied)
    if not merges_slashes:
        # A subrequest of a page: only the path that httpd serves belongs to the object.
        page = environ | {"SERVER_PROTOCOL": "INCLUDED", "REQUEST_URI": "/page%zz"}
        subrequest = _request(
            lambda: client_request.from_environ(page, served.path.decode("latin-1")).for_bucket(SETTINGS)
        )
        if subrequest is not None and not served.has_encoded_slash and expected is not None:
            assert _key(subrequest) == expected, (subrequest.path, expected)


def _serve(target: bytes, merges_slashes: bool, decodes_slashes: bool) -> Served | None:
    """What httpd makes of a path; None if it rejects it. https://httpd.apache.org/docs/2.4/mod/core.html#mergeslashes"""
    if re.search(rb"%(?![0-9A-Fa-f]{2})|%00", target):
        return None
    path = unquote_to_bytes(target if decodes_slashes else re.sub(rb"(?i)%(?=2f)", b"%25", target))
    if merges_slashes:
        path = re.sub(rb"/+", b"/", path)
    segments: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            if not segments:
                return None
            segments.pop()
        elif segment != b".":
            segments.append(segment)
    if path.rpartition(b"/")[2] in {b".", b".."}:
        segments.append(b"")
    resolved = b"/" + b"/".join(segments)
    if merges_slashes:
        resolved = re.sub(rb"/+", b"/", resolved)
    return Served(resolved, not decodes_slashes and b"%2f" in resolved.lower())


def _requested_key(mount: bytes, target: bytes) -> bytes | None:
    """The key that a URL has below the mount, with all its slashes; None if it has dot segments."""
    path = unquote_to_bytes(target)
    if {b".", b".."} & set(path.split(b"/")):
        return None
    match = re.match(_slashes(mount) + rb"/", path)
    return path[match.end() :] if match else None


def _slashes(mount: bytes) -> bytes:
    """A pattern of the mount, with any number of slashes for each."""
    return b"".join(rb"/+" + re.escape(segment) for segment in mount.split(b"/")[1:])


def _encode(path: bytes, decodes_slashes: bool) -> str:
    encoded = quote(path, safe=_UNENCODED)
    return encoded if decodes_slashes else re.sub("(?i)%25(?=2f)", "%", encoded)


def _request(make: Any) -> S3Request | None:
    """Return the request for S3, None if it is rejected as the client's mistake."""
    try:
        request = make()
    except (BadRequestTarget, ObjectNotFound):
        return None
    assert isinstance(request, S3Request)
    _check_request(request)
    return request


def _check_request(request: S3Request) -> None:
    key = _key(request)
    assert re.fullmatch(r"(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})+", request.path), request.path
    assert key and b"\0" not in key and not {b".", b".."} & set(key.split(b"/")), key
    for name, value in request.query:
        assert name in SETTINGS.pass_query and re.fullmatch(r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})*", value)
        assert not re.search(rb"[\x00-\x1f\x7f]", unquote_to_bytes(value))


def _key(request: S3Request) -> bytes:
    assert request.path.startswith(_PREFIX) and request.host == "b.s3.amazonaws.com"
    return unquote_to_bytes(request.path[len(_PREFIX) :])


def _is_valid_query(query: str) -> bool:
    try:
        object_request.allowed_parameters(query, SETTINGS.pass_query)
    except BadRequestTarget:
        return False
    return True


def _check_any_environ(mount: str, target: bytes, query: bytes, path_info: bytes) -> None:
    """After a rewrite, REQUEST_URI and PATH_INFO have nothing in common; a module may send any URL to mod_proxy."""
    uri, path = target.decode("latin-1"), path_info.decode("latin-1")
    environ = {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": uri,
        "SCRIPT_NAME": mount,
        "PATH_INFO": path,
        "QUERY_STRING": query.decode("latin-1"),
    }
    for served_path in (None, mount + path, uri):
        _request(lambda served_path=served_path: client_request.from_environ(environ, served_path).for_bucket(SETTINGS))
    with suppress(BadRequestTarget):
        client_request.is_direct(environ)
    for merging_mount in (None, "", mount):
        request = ProxiedRequest(None, (), "GET", "", uri, False, merging_mount)
        with suppress(GatewayError):
            _, path_of_url, query_of_url = split_url(f"https://b.s3.amazonaws.com{path}")
            with suppress(SettingError, BadRequestTarget, ObjectNotFound):
                _check_request(request.for_bucket(path_of_url, query_of_url, SETTINGS))


def _seed(target: bytes, options: bytes = b"", query: bytes = b"", path_info: bytes = b"/a") -> bytes:
    return join(options, target, query, path_info)


_TARGETS = (
    b"/media/film.mp4", b"/media//a//b", b"//media//a", b"/media/a%2Fb", b"/media/a%2f%2fb", b"/media/a%252Fb",
    b"/media/a%20b+c", b"/media/\xc3\xa9/%C3%A9", b"/media/%E9%ff", b"/media/a%3Fb",
    b"/media/~a_b-c;d=e,f:g@h!$&'()*", b"/media/%00", b"/media/a/../b", b"/media/a/%2e%2E/b", b"/media/.%2e",
    b"/media/...", b"/media/a%2F..%2Fb", b"/media", b"/media/", b"/media//", b"/m%65dia/x", b"/media%2Fx",
    b"/media/%", b"/media/%zz", b"/%6dedia//./x", b"/a%20b/%c3%a9//k", b"/media/" + b"/" * 4_000 + b"a",
    b"/media/" + b"%2F" * 2_000, b"/media/" + b"a/" * 4_000, b"/media/" + b"%20" * 2_600,
    b"/media/" + b"\t" * 100, b"/media/" + b"%0A%0D%09%7F", b"/media/%5C..%5C", b"/media/a%25",
    b"/pre/fix/media/pre/fix/a",
)  # fmt: skip
TARGET = Target(
    check,
    (
        b"",
        *(_seed(target, options) for target in _TARGETS for options in (b"\0", b"mn", b"m\2", b"n\1")),
        _seed(b"/media/a", b"\0", b"versionId=a%2Fb+c&partNumber=2&acl&versionId"),
        _seed(b"/media/a", b"\0", b"versionId=%0d%0aSet-Cookie:x&x=" + b" " * 4_000),
        _seed(b"http://h/media/a//b?x", b"\0", b"", b"/a/b"),
        _seed(b"/media/x", b"\0", b"", b"/pre/fix/a%2F..%2Fb?versionId=%"),
        _seed(b"/media//x//y", b"\0", b"", b"/pre/fix/x/y"),
    ),
    _MAX_LENGTH,
)
