"""The exit statuses of ``usp-s3``."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """``FAILED``: there is no result, or ``check`` has found that something is wrong.

    ``USAGE``: the command line is wrong, as click has it, or ``check`` could not check. ``NEEDS_CHANGES``: there is a
    result, but httpd cannot serve all buckets with it until it is changed.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    NEEDS_CHANGES = 3
