"""What the name of an endpoint's host shows: a region, a bucket's name."""

from __future__ import annotations

import itertools
import re

from usp_s3_wsgi.cli.server.own_url import is_address

_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-?[0-9]{1,3}")
#: A region after one of these labels may be as short as "gra" and "fr-par".
_BEFORE_REGION = frozenset({"s3", "dualstack", "objectstorage"})
_SHORT_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)*(?:-?[0-9]{1,3})?")
_AMAZON = re.compile(r"(?:.+\.)?amazonaws\.com(?:\.cn)?")


def is_amazon(host: str) -> bool:
    """Whether the host is one of AWS, which names the region of a bucket in its answers."""
    return bool(_AMAZON.fullmatch(host))


def first_label(host: str) -> str:
    """Return the first label of the host, which may be a bucket's name; empty if it cannot be one."""
    label, _, domain = host.partition(".")
    return label if domain and not is_address(host) and label not in {"s3", "www"} else ""


def region_in_host(host: str) -> str:
    """Return the region that the name of an endpoint's host shows; empty if it shows none."""
    if host.endswith((".r2.cloudflarestorage.com", "storage.googleapis.com")):
        return "auto"  # https://developers.cloudflare.com/r2/api/s3/api/
    labels = host.split(".")
    for label, following in itertools.pairwise(labels[:-2]):
        if label in _BEFORE_REGION and _SHORT_REGION.fullmatch(following):
            return following
    for label in labels:
        if _REGION.fullmatch(name := label.removeprefix("s3-")):
            return name
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html#deprecated-global-endpoint
    return "us-east-1" if is_amazon(host) and "s3" in labels else ""
