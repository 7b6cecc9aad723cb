"""Secrets in files, which change while httpd runs."""

from __future__ import annotations

import os
import threading
import time
from pathlib import PurePath

from usp_s3_wsgi.config import parsers
from usp_s3_wsgi.errors import LogCode, SettingError
from usp_s3_wsgi.observability import error_log

#: Larger than any key or token: a wrong path must not read a whole film into memory.
_LARGEST = 65_536
#: Seconds after which a file that was changed is taken to be written to its end.
_SETTLED = 1.0


class SecretFiles:
    """The contents of secret files, per process; a file is read again when its inode, size or times changed.

    A file that was written just now may be written still, and so may the other one of a pair: what was known of it
    counts until then, and for as long as there is no key in it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    def read(self, name: str, path: str | None, at_once: bool) -> str:
        """Return the text of the file without the white space around it; ``at_once``: however new it is.

        Raises:
            SettingError: there is no key in it, and never was.
        """
        if path is None:
            raise SettingError(f"{name} is not set")
        with self._lock:
            known = self._known.get(path)
        try:
            status = os.stat(path)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if known is None or (known[0] != stamp and (at_once or not 0 <= time.time() - status.st_mtime < _SETTLED)):
                known = (stamp, read_key(path))
                with self._lock:
                    self._known[path] = known
            return known[1]
        except OSError as error:
            reason = ": ".join([f"{name}: the file cannot be read", error.strerror or "", *shown_path(path)])
        except ValueError as error:
            reason = f"{name}: the content of the file {error}"
        if known is None:
            raise SettingError(reason)
        error_log.warn(LogCode.KEY_FILE_UNREADABLE, f"{reason}; what it held before is still used")
        return known[1]


def shown_path(path: str) -> list[str]:
    """Return a path for a message; none where it may be the secret itself, which was written on the wrong line.

    Such a secret may begin with a slash, but not with a folder that there is.
    """
    parts = PurePath(path).parts
    return [path] if len(parts) > 2 and os.path.isdir(f"/{parts[1]}") else []


def read_key(path: str) -> str:
    """Return the key or token that a file holds. Raises: OSError; ValueError: it holds none."""
    with open(path, "rb") as file:
        return parsers.token(file.read(_LARGEST).decode("ascii", "replace").strip())


files = SecretFiles()
