"""A bucket that the configuration names, for the status page and the health checks; without a secret.

The check of the settings writes the list of them (:mod:`usp_s3_wsgi.configtest.configured_buckets`), and httpd keeps it
in memory that its processes share. :mod:`usp_s3_wsgi.status.recorded` reads it.
"""

from __future__ import annotations

from typing import NamedTuple


class ConfiguredBucket(NamedTuple):
    """A bucket with the place where it is used.

    ``way``: "gateway" or "proxy". ``path``: the path of the gateway's mount, or the URL of the ``<Proxy>`` section.
    ``host``, ``bucket``: as metrics have them; empty if a setting is not valid, and then ``error`` says why.
    ``identity``: the AWS identity or role that signs, empty for keys. ``settings``: names and values. ``files``: those
    of its settings that are needed to sign, and their paths. ``reads_files``: False if the gateway may run as another
    user than httpd's children. ``is_fallback``: the bucket of S3FallbackURL.
    """

    way: str
    path: str
    file: str
    line: int
    host: str
    bucket: str
    identity: str
    settings: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    reads_files: bool
    is_fallback: bool
    error: str
