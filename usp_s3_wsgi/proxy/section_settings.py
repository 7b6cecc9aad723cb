"""The settings of a request that mod_proxy sends: those of its ``<Proxy>`` section, or of the sections around it."""

from __future__ import annotations

from functools import lru_cache

from usp_s3_wsgi.config import bucket_url, settings
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.signing.types import Pairs

#: Settings of the gateway's own connections, and what mod_proxy and mod_ssl have instead. Only whole names: another one
#: that begins with S3Fallback may hold a secret.
GATEWAY_ONLY = {
    "S3ProxySet": "ProxySet",
    "S3CAFile": "SSLProxyCACertificateFile and SSLProxyVerify require",
    "S3Retries": "nothing: mod_proxy does not retry",
    **{
        name: "a balancer with a member for each bucket"
        for name in sorted(settings.NAMES)
        if name.startswith("S3Fallback")
    },
}


def for_request(section_url: str | None, variables: Pairs, origin: str) -> Settings:
    """Return the settings of a proxied request, whose bucket must be where mod_proxy would connect to.

    ``section_url``: the URL that names the bucket, None if the section is a pattern. ``variables``: the settings in
    the request's sections. ``origin``: scheme and authority of the proxied URL.

    Raises:
        SettingError: a setting is not allowed, or the bucket is elsewhere.
    """
    target = _parse_origin(origin)
    chosen = parse(variables, section_url or f"{target.scheme}://{target.authority}/")
    bucket = chosen.bucket_url
    has_bucket_url = any(name == "S3BucketURL" and value for name, value in variables)
    if section_url is None and not bucket.bucket and not has_bucket_url:
        # A pattern may match hosts that the operator did not think of.
        raise SettingError("the section is a pattern and the URL shows no bucket: set S3BucketURL")
    if (bucket.scheme, bucket.host, bucket.port) != (target.scheme, target.host, target.port):
        raise SettingError("the URL of the proxied request is not that of the section's bucket")
    return chosen


@lru_cache(maxsize=16_384)
def parse(variables: Pairs, section_url: str) -> Settings:
    """Return the settings of a section; ``section_url`` names the bucket unless S3BucketURL does.

    Raises:
        SettingError: as in :func:`settings.parse`, and for a setting of the gateway alone.
    """
    given = {name for name, value in variables if value}
    for name in sorted(given):
        if instead := GATEWAY_ONLY.get(name):
            raise SettingError(f"{name} is for the gateway: in a <Proxy> section there is {instead}")
    return settings.parse(variables if "S3BucketURL" in given else (*variables, ("S3BucketURL", section_url)))


@lru_cache(maxsize=16_384)
def _parse_origin(origin: str) -> BucketURL:
    try:
        return bucket_url.parse(origin)
    except ValueError as error:
        raise SettingError(f"the URL of the proxied request {error}") from None
