"""``S3BucketURL``: the endpoint of a bucket, in virtual-hosted style or path style."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes, urlsplit

from usp_s3_wsgi.signing.percent_encoding import percent_encode

#: https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4: 255 bytes, less the first length byte and the root label.
_MAX_HOST_LENGTH = 253
DEFAULT_PORTS = {"http": 80, "https": 443}
#: Endpoints whose virtual hosts are known to begin with the bucket's name. Other hosts without a path need S3Bucket.
_ENDPOINT = r"(?:s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?|storage\.googleapis\.com)(?<!\.vpce\.amazonaws\.com)"
_VIRTUAL_HOST = re.compile(rf"(?P<bucket>.+)\.{_ENDPOINT}")
_SERVICE_HOST = re.compile(_ENDPOINT)
#: Hosts below a label s3 or s3-...: films.s3.example is the host of a bucket, s3.example that of the whole service.
_BELOW_S3 = re.compile(r"(?!s3[.-])(?:[^.]+\.)+s3(?:-[^.]+)?(?:\..+)?")
#: Exceptions, which are hosts of a whole service: Amazon's VPC endpoints, and services in a Kubernetes namespace s3.
_NO_BUCKET_HOST = re.compile(r".+\.(?:amazonaws\.com(?:\.cn)?|svc(?:\.cluster\.local)?)")
#: Amazon's regional endpoints, and the old ones without a region. They return the region of a bucket elsewhere.
_REGIONAL_ENDPOINT = re.compile(
    r"(?P<before>(?:.+\.)?s3(?:\.dualstack)?)(?:[.-][a-z]{2,3}(?:-[a-z]+)+-[0-9])?(?P<after>\.amazonaws\.com(?:\.cn)?)"
)


@dataclass(frozen=True, slots=True)
class BucketURL:
    """The parsed URL of a bucket.

    ``host`` and ``port`` are those to connect to; ``host`` is lowercase, IPv6 without brackets.
    ``prefix`` is the path before each key: percent-encoded once, begins and ends with ``/``.
    ``bucket`` is the bucket's name, empty if the URL does not show it. ``path_style``: it is the first segment of the
    path, else it is part of the host name.
    """

    scheme: str
    host: str
    port: int
    prefix: str
    bucket: str
    path_style: bool

    @property
    def authority(self) -> str:
        """The Host header: without the port if it is the default port of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if DEFAULT_PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    @property
    def virtual_host_bucket(self) -> str | None:
        """The bucket's name if the host has it, which Signature v2 adds to the path; None if the path has it."""
        return None if self.path_style else self.bucket

    @property
    def host_includes_bucket(self) -> bool:
        """Whether the host begins with a bucket's name, even if the length of that name is unknown.

        Any other host may be that of a whole service, where the client's path would select the bucket.
        """
        return bool(_BELOW_S3.fullmatch(self.host)) and not _NO_BUCKET_HOST.fullmatch(self.host)

    def with_bucket(self, bucket: str) -> BucketURL:
        """Return the same URL with the bucket's name from ``S3Bucket``.

        Raises:
            ValueError: neither host nor path begins with it, so that the client's path would select the bucket.
        """
        if self.prefix.startswith(f"/{percent_encode(bucket.encode(), safe='')}/"):
            return replace(self, bucket=bucket, path_style=True)
        if f"{self.host}.".startswith(f"{bucket.lower()}.") and not _SERVICE_HOST.fullmatch(self.host):
            return replace(self, bucket=bucket, path_style=False)
        raise ValueError("must be the bucket that S3BucketURL names: its path or its host begins with it")

    def in_region(self, region: str) -> BucketURL:
        """Return the URL of the bucket at Amazon's endpoint of a region, unchanged if the host is not such an endpoint.

        https://docs.aws.amazon.com/general/latest/gr/s3.html
        """
        match = _REGIONAL_ENDPOINT.fullmatch(self.host)
        if not match or not re.fullmatch(r"[a-z0-9-]+", region):
            return self
        return replace(self, host=f"{match['before']}.{region}{match['after']}")


def parse(text: str) -> BucketURL:
    """Parse the URL of a bucket, virtual-hosted or path style, with an optional key prefix. Raises: ValueError."""
    try:
        url = urlsplit(text)
        host, port = (url.hostname or "").rstrip("."), url.port
        path = _prefix(url.path)
    except ValueError:  # its message may hold a password of the URL
        raise ValueError("must be a URL such as https://bucket.s3.eu-central-1.amazonaws.com/") from None
    if (
        url.scheme not in DEFAULT_PORTS
        or port == 0
        or len(host) > _MAX_HOST_LENGTH
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
    """Return the bucket's name and whether it is in the path. An empty name must be set with S3Bucket."""
    if match := _VIRTUAL_HOST.fullmatch(host):
        return match["bucket"], False
    first = unquote_to_bytes(path.split("/")[1]).decode("utf-8", "replace")
    return first, True
