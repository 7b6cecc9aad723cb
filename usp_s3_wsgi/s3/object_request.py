"""A request for one object: which paths, methods and query parameters are allowed, the same for both ways in."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import BadRequestTarget, MethodNotAllowed, ObjectNotFound
from usp_s3_wsgi.s3.forwarded_headers import REQUEST_HEADERS
from usp_s3_wsgi.signing.percent_encoding import UNRESERVED, percent_encode
from usp_s3_wsgi.signing.types import S3Request

#: Bytes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_MAX_KEY_LENGTH = 1024
#: Segments that a URL resolves and S3 does not.
DOT_SEGMENTS = frozenset({b".", b".."})
#: A path that stays the same when it is decoded and encoded again, as most do. Segments that begin with a dot do not
#: match: they are checked elsewhere.
PLAIN_PATH = re.compile(rf"(?:/(?!\.)[{re.escape(UNRESERVED)}]+)+")
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html
REQUESTER_PAYS = ("x-amz-request-payer", "requester")
#: What allows gzip in an Accept-Encoding header: the first of these that it has decides.
GZIP_CODINGS = ("gzip", "x-gzip", "*")
#: A content coding and its weight, which is empty if there is none.
_CODING = re.compile(r"(?:\A|,)[ \t]*([^\s,;]+)[ \t]*(?:;[ \t]*q=([0-9.]*))?")
_BROKEN_PERCENT_ENCODING = re.compile(r"%(?![0-9A-Fa-f]{2})")


def for_object(
    method: str, path: str, query: str, headers: tuple[tuple[str, str], ...], settings: Settings
) -> S3Request:
    """Return the unsigned request for an object.

    ``path``: of S3's URL, percent-encoded once, below the bucket's prefix. ``query``: the client's query string.

    Raises:
        ObjectNotFound: the key is empty, which would be the bucket itself.
        BadRequestTarget: a query parameter is not valid.
    """
    url = settings.bucket_url
    if len(path) <= len(url.prefix):
        raise ObjectNotFound("the bucket itself")
    parameters = allowed_parameters(query, settings.pass_query) if settings.pass_query else ()
    if settings.requester_pays:
        headers = (*headers, REQUESTER_PAYS)
    return S3Request(method, url.scheme, url.authority, path, parameters, headers)


def check_method(method: str) -> None:
    """Raises: MethodNotAllowed: neither GET nor HEAD."""
    if method not in REQUEST_HEADERS:
        raise MethodNotAllowed(method)


def path_of(target: str) -> str:
    """Return the path of a request target in origin or absolute form, without the query."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?]*", "", target).partition("?")[0]


def decode_path(path: str) -> bytes:
    """Percent-decode a path once. Raises: BadRequestTarget: broken percent-encoding, NUL, or a dot segment."""
    if _BROKEN_PERCENT_ENCODING.search(path):
        raise BadRequestTarget("broken percent-encoding")
    decoded = unquote_to_bytes(path.encode("latin-1"))
    if b"\0" in decoded:
        raise BadRequestTarget("NUL in the path")
    # httpd resolves them in PATH_INFO: the client would get another object than it requested.
    if DOT_SEGMENTS & set(decoded.split(b"/")):
        raise BadRequestTarget("dot segment in the path")
    return decoded


def allowed_parameters(query: str, names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the query parameters that the operator allows, percent-encoded once, in the client's order.

    Raises:
        BadRequestTarget: one of them has broken percent-encoding or a control character, or is given twice.
    """
    allowed: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name in names:
            if _BROKEN_PERCENT_ENCODING.search(value):
                raise BadRequestTarget("broken percent-encoding in the query")
            raw = unquote_to_bytes(value.replace("+", " ").encode("latin-1"))
            # Some servers copy the value into a response header: the client could write a header of its own.
            if name in allowed or re.search(rb"[\x00-\x1f\x7f]", raw):
                raise BadRequestTarget("query parameter given twice, or with a control character")
            allowed[name] = percent_encode(raw, safe="")
    return tuple(allowed.items())


def accepted_coding(accept_encoding: str) -> str:
    """Return the content coding of stored objects that a client accepts: ``gzip``, else ``identity``.

    https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
    """
    weights = dict(_CODING.findall(accept_encoding.lower()))
    weight = next((weights[name] for name in GZIP_CODINGS if name in weights), "0")
    return "gzip" if weight.strip("0.") or not weight else "identity"


def may_be_client_error(path: str, has_query: bool, settings: Settings) -> bool:
    """Whether S3 may reject the request for what the client chose: query parameters, or a key over S3's limit.

    ``path``: of S3's URL, percent-encoded.
    """
    return has_query or len(unquote_to_bytes(path[len(settings.bucket_url.prefix) :])) > _MAX_KEY_LENGTH
