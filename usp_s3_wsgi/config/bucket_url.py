"""``S3BucketURL``: where a bucket is, and in which style its URL names it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes, urlsplit

from usp_s3_wsgi.signing.percent_encoding import percent_encode

#: https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4, without the length's byte and the root's.
_LONGEST_NAME = 253
DEFAULT_PORTS = {"http": 80, "https": 443}
#: Hosts that are known to begin with the bucket's name. Of any other one that has no path only the operator can know.
_ENDPOINT = r"(?:s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?|storage\.googleapis\.com)(?<!\.vpce\.amazonaws\.com)"
_VIRTUAL_HOST = re.compile(rf"(?P<bucket>.+)\.{_ENDPOINT}")
_SERVICE = re.compile(_ENDPOINT)
#: Hosts below one that is called s3 or s3-...: films.s3.example is a bucket's, and s3.example the whole service's.
_BELOW_S3 = re.compile(r"(?!s3[.-])(?:[^.]+\.)+s3(?:-[^.]+)?(?:\..+)?")
#: Hosts of whole services all the same: Amazon's endpoints in a VPC, and services of a Kubernetes namespace called s3.
_NO_BUCKETS = re.compile(r".+\.(?:amazonaws\.com(?:\.cn)?|svc(?:\.cluster\.local)?)")
#: Amazon's endpoints of a region (or, the old ones, of none), which say of a bucket elsewhere where it is.
_REGIONAL = re.compile(
    r"(?P<before>(?:.+\.)?s3(?:\.dualstack)?)(?:[.-][a-z]{2,3}(?:-[a-z]+)+-[0-9])?(?P<after>\.amazonaws\.com(?:\.cn)?)"
)


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

    @property
    def is_buckets_host(self) -> bool:
        """Whether the host's name begins with a bucket's, though nobody can tell where that ends.

        Any other host may be that of a whole service, where the client's path would choose the bucket.
        """
        return bool(_BELOW_S3.fullmatch(self.host)) and not _NO_BUCKETS.fullmatch(self.host)

    def named(self, bucket: str) -> BucketURL:
        """Return the same place, with the bucket that the operator named (``S3Bucket``).

        Raises:
            ValueError: the URL holds it neither in the host nor in the path; the client's path would choose a bucket.
        """
        if self.prefix.startswith(f"/{percent_encode(bucket.encode(), safe='')}/"):
            return replace(self, bucket=bucket, path_style=True)
        if f"{self.host}.".startswith(f"{bucket.lower()}.") and not _SERVICE.fullmatch(self.host):
            return replace(self, bucket=bucket, path_style=False)
        raise ValueError("must be the bucket that S3BucketURL names: its path or its host begins with it")

    def in_region(self, region: str) -> BucketURL:
        """Return the bucket at Amazon's endpoint of that region; where the host is no such endpoint, as it is.

        https://docs.aws.amazon.com/general/latest/gr/s3.html
        """
        match = _REGIONAL.fullmatch(self.host)
        if not match or not re.fullmatch(r"[a-z0-9-]+", region):
            return self
        return replace(self, host=f"{match['before']}.{region}{match['after']}")


def parse(text: str) -> BucketURL:
    """The base URL of a bucket, virtual-host or path style, with an optional key prefix."""
    try:
        url = urlsplit(text)
        host, port = (url.hostname or "").rstrip("."), url.port
        path = _prefix(url.path)
    except ValueError as error:
        raise ValueError("must be a URL such as https://bucket.s3.eu-central-1.amazonaws.com/") from error
    if (
        url.scheme not in DEFAULT_PORTS
        or port == 0
        or len(host) > _LONGEST_NAME
        or not re.fullmatch(r"[a-z0-9._:-]+", host)
        or not re.fullmatch(r"[!-~]+", text)
    ):
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
    """Return the bucket's name and whether it is in the path; an empty name is for the operator to say."""
    if match := _VIRTUAL_HOST.fullmatch(host):
        return match["bucket"], False
    first = unquote_to_bytes(path.split("/")[1]).decode("utf-8", "replace")
    return first, True
