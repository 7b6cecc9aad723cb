"""The exit statuses of ``usp-s3``; argparse exits with 2 for a wrong command line."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """``NEEDS_CHANGES``: there is a result, but httpd cannot serve all buckets with it until it is changed."""

    OK = 0
    FAILED = 1
    NEEDS_CHANGES = 3
