"""The texts of httpd's configuration: each byte is a character (Latin-1), because httpd knows no encoding."""

from __future__ import annotations

import os
from contextlib import suppress

from usp_s3_wsgi.status.words import visible


def to_shown(text: str) -> str:
    """Return a text of the configuration for a person: UTF-8 if it is that; what does not show is escaped."""
    with suppress(UnicodeError):  # it is of another encoding, or was decoded before
        text = text.encode("latin-1").decode("utf-8")
    return visible(text)


def from_argument(text: str) -> str:
    """Return an argument of the command line, such as of ``--from``, as the configuration has the same bytes."""
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError:  # it is no argument: the locale cannot write it
        data = text.encode("utf-8", "surrogateescape")
    return data.decode("latin-1")
