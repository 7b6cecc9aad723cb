"""Finds the settings of a bucket in httpd's configuration, for an option such as ``--from /media``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import click

from usp_s3_wsgi.cli.server.httpd_text import from_argument, to_shown
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest import check
from usp_s3_wsgi.configtest.bucket_use import BucketUse, Place
from usp_s3_wsgi.configtest.parsed_config import Configuration
from usp_s3_wsgi.configtest.urls import without_secrets
from usp_s3_wsgi.status.words import visible

_MAX_SHOWN = 20


class UsedBucket(NamedTuple):
    """A bucket of the configuration: its valid settings, and where it is used."""

    place: Place
    settings: Settings


def find(configuration: Configuration, name: str) -> UsedBucket:
    """Return the bucket that is used at a path of this server, or by the ``<Proxy>`` section of a URL.

    ``name``: as the command line has it. Raises: click.ClickException: there is no such bucket, or its settings are not
    valid.
    """
    uses = check(configuration).buckets
    use = select(uses, from_argument(name))
    if use is None:
        places = sorted({to_shown(without_secrets(use.place.name)) for use in uses})
        known = "\n  ".join(places[:_MAX_SHOWN]) or "(none)"
        raise click.ClickException(
            f"no bucket is configured at {visible(without_secrets(name))}. Configured are:\n  {known}"
        )
    if use.settings is None:
        raise click.ClickException(
            f"rules compute the settings of {visible(name)} for each request: they are not known here"
        )
    if isinstance(use.settings, str):
        raise click.ClickException(f"{to_shown(use.directive.location)}: {use.settings}")
    return UsedBucket(use.place, use.settings)


def select(uses: Sequence[BucketUse], name: str) -> BucketUse | None:
    """Return the bucket whose mount, path or section is ``name``, as the configuration has it, or the closest above."""
    wanted, found = name.rstrip("/"), None
    longest = -1
    for use in uses:
        for one in (use.place.name, use.place.path or "", use.place.url):
            own = one.rstrip("/")
            if one and (wanted == own or wanted.startswith(f"{own}/")) and len(own) > longest:
                found, longest = use, len(own)
    return found
