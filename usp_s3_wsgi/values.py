"""The values of settings: text from the Apache configuration to checked, typed values.

Each parser takes the text and returns the value or raises ``ValueError`` with what is allowed ("must be on or off").
The message never repeats the text: a secret may have been written on the wrong line.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from usp_s3_wsgi.signing.encoding import percent_encode

#: Query parameters of S3 that select something of an object; every other subresource shows metadata of the bucket.
OBJECT_PARAMETERS = re.compile(r"versionId|partNumber|response-[a-z-]+")
SUBRESOURCES = frozenset(
    "accelerate acl analytics attributes continuation-token cors delete delimiter encoding-type encryption "
    "fetch-owner intelligent-tiering inventory legal-hold lifecycle list-type location logging marker max-keys "
    "metrics notification object-lock ownershipControls policy policyStatus prefix publicAccessBlock "
    "replication requestPayment restore retention select start-after tagging torrent uploadId uploads "
    "versioning versions website".split()
)
DEFAULT_PORTS = {"http": 80, "https": 443}
#: Endpoints that are known to hold no bucket name in the host, and virtual-host style names under them.
_ENDPOINT = r"(?:s3[.-][a-z0-9.-]*amazonaws\.com(?:\.cn)?|storage\.googleapis\.com)"
_PATH_STYLE_HOST = re.compile(_ENDPOINT)
_VIRTUAL_HOST = re.compile(rf"(?P<bucket>.+)\.{_ENDPOINT}")


def on_off(text: str) -> bool:
    """``on`` or ``off`` in any case."""
    try:
        return {"on": True, "off": False}[text.lower()]
    except KeyError:
        raise ValueError("must be on or off") from None


def integer(low: int, high: int) -> Callable[[str], int]:
    """A decimal integer from ``low`` to ``high``, both included."""

    def parse(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,9}", text) and low <= int(text) <= high:
            return int(text)
        raise ValueError(f"must be a whole number from {low} to {high}")

    return parse


def denied_status(text: str) -> int:
    """403 or 404."""
    if text not in {"403", "404"}:
        raise ValueError("must be 403 or 404")
    return int(text)


def credential_source(text: str) -> str:
    """``static``: the keys of the settings."""
    if text != "static":
        raise ValueError("must be static (aws is not supported by this version)")
    return text


def token(text: str) -> str:
    """Printable ASCII without spaces: a key, a token, a bucket name."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be printable ASCII characters without spaces, at least one")
    return text


def region(text: str) -> str:
    """A region's name: letters, digits, ``-`` and ``_``."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError("must be a region's name such as eu-central-1: letters, digits, - and _")
    return text


def file(text: str) -> str:
    """The absolute path of a file. That it can be read is seen when it is read: it may change while httpd runs."""
    if not os.path.isabs(text) or "\0" in text:
        raise ValueError("must be the absolute path of a file")
    return text


def header_prefixes(text: str) -> tuple[str, ...]:
    """Prefixes of ``x-amz-*`` response headers, divided by spaces or commas; lowercase."""
    prefixes = tuple(re.split(r"[\s,]+", text.strip().lower()))
    if not all(re.fullmatch(r"x-amz-[a-z0-9-]*", prefix) for prefix in prefixes):
        raise ValueError("must be names or prefixes that begin with x-amz-, divided by spaces or commas")
    return prefixes


def query_names(text: str) -> frozenset[str]:
    """Names of query parameters, divided by spaces or commas."""
    names = frozenset(re.split(r"[\s,]+", text.strip()))
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9._~-]+", name):
            raise ValueError("must be names of query parameters, divided by spaces or commas")
        if name.lower().startswith("x-amz-") or name in {"AWSAccessKeyId", "Signature", "Expires"}:
            raise ValueError("must not name a parameter of the signature")
        if name in SUBRESOURCES and not OBJECT_PARAMETERS.fullmatch(name):
            raise ValueError("must not name a parameter that shows more than an object (such as acl or list-type)")
    return names


@dataclass(frozen=True, slots=True)
class BucketURL:
    """Where a bucket is.

    ``host`` is the name to connect to, lowercase, IPv6 without brackets; ``port`` the one to connect to.
    ``prefix`` is the path before each key: percent-encoded once, begins and ends with ``/``.
    ``bucket`` is the bucket's name as far as the URL shows it, else empty; ``path_style`` says whether it is the
    first segment of the path (else it is in the host's name).
    """

    scheme: str
    host: str
    port: int
    prefix: str
    bucket: str
    path_style: bool

    @property
    def authority(self) -> str:
        """The Host header: the port is left out where it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if DEFAULT_PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    def named(self, bucket: str) -> BucketURL:
        """The same place, for the bucket that the operator named (``S3Bucket``)."""
        path_style = not self.host.startswith(bucket.lower() + ".") and self.prefix.startswith(f"/{bucket}/")
        return replace(self, bucket=bucket, path_style=path_style)


def bucket_url(text: str) -> BucketURL:
    """The base URL of a bucket, virtual-host or path style, with an optional key prefix."""
    try:
        url = urlsplit(text)
        host, port = (url.hostname or "").rstrip("."), url.port
        path = _prefix(url.path)
    except ValueError as error:
        raise ValueError("must be a URL such as https://bucket.s3.eu-central-1.amazonaws.com/") from error
    if url.scheme not in DEFAULT_PORTS or not re.fullmatch(r"[a-z0-9._:-]+", host) or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be an http:// or https:// URL with a host name in ASCII")
    if "@" in url.netloc or "?" in text or "#" in text:
        raise ValueError("must be a URL without user, query and fragment")
    bucket, path_style = _bucket(host, path)
    return BucketURL(url.scheme, host, port or DEFAULT_PORTS[url.scheme], path, bucket, path_style)


def _prefix(path: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        raise ValueError("broken percent-encoding")
    raw = unquote_to_bytes(path if path.endswith("/") else path + "/")
    if {b".", b".."} & set(raw.split(b"/")) or b"\0" in raw:
        raise ValueError("dot segments")
    return percent_encode(raw)


def _bucket(host: str, path: str) -> tuple[str, bool]:
    if match := _VIRTUAL_HOST.fullmatch(host):
        return match["bucket"], False
    first = unquote_to_bytes(path.split("/")[1]).decode("utf-8", "replace")
    if first:
        return first, True
    if _PATH_STYLE_HOST.fullmatch(host) or "." not in host or _is_address(host):
        # Such a URL names the whole service: the first part of each client's path would choose the bucket.
        return "", True
    return host.split(".")[0], False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ProxySet:
    """mod_proxy's parameters of a worker, with its names and meanings; times in seconds.

    The defaults are those of the line in mod_unified_s3_auth's documentation. ``max`` 0 sets no limit;
    ``acquire`` 0 is ``timeout``: to wait without end, as mod_proxy does there, helps nobody.
    https://httpd.apache.org/docs/2.4/mod/mod_proxy.html#proxypass
    """

    connectiontimeout: float = 5.0
    timeout: float = 30.0
    ttl: float = 300.0
    retry: float = 0.0
    keepalive: bool = True
    enablereuse: bool = True
    max: int = 0
    acquire: float = 0.0


_UNITS = {"ms": 0.001, "s": 1.0, "mi": 60.0, "h": 3600.0}


def _duration(unit: str, low: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        match = re.fullmatch(r"([0-9]{1,9})(ms|s|mi|h)?", text)
        if not match or (seconds := int(match[1]) * _UNITS[match[2] or unit]) < low:
            least = f"{low:g} s" if low >= 1 else "1 ms" if low else "0"
            raise ValueError(f"must be a time such as 500ms, 5 ({unit}) or 2mi, at least {least}")
        return seconds

    return parse


_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "connectiontimeout": _duration("s", 0.001),
    "timeout": _duration("s", 0.001),
    "ttl": _duration("s", 1),
    "retry": _duration("s", 0),
    "keepalive": on_off,
    "enablereuse": on_off,
    "disablereuse": on_off,
    "max": integer(1, 100_000),
    "acquire": _duration("ms", 0.001),
}


def proxy_set(text: str) -> ProxySet:
    """mod_proxy's ``ProxySet`` line: ``name=value`` divided by spaces; a name not given keeps its default."""
    values: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if name not in _PARAMETERS or not equals:
            raise ValueError("must be name=value with the names " + " ".join(_PARAMETERS))
        try:
            values[name] = _PARAMETERS[name](value)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    if "disablereuse" in values:
        if "enablereuse" in values:
            raise ValueError("must not have both enablereuse and disablereuse")
        values["enablereuse"] = not values.pop("disablereuse")
    return ProxySet(**values)
