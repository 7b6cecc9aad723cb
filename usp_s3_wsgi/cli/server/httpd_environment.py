"""What the operator's shell has, and httpd's children do not: with it, another AWS identity than theirs could sign."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

from usp_s3_wsgi.configtest.parsed_config import Configuration

_NOT_INHERITED = ("AWS_", "BOTO_", "HOME", "USP_S3_")


@contextmanager
def environment_of(configuration: Configuration) -> Iterator[None]:
    """Hide the operator's variables meanwhile. botocore looks for ``~/.aws`` in the home of httpd's user."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(_NOT_INHERITED)}
    for name in hidden:
        del os.environ[name]
    os.environ["HOME"] = _home(configuration.uid)
    try:
        yield
    finally:
        os.environ.pop("HOME", None)
        os.environ.update(hidden)


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/nonexistent"  # as Debian's policy has it for users without one
