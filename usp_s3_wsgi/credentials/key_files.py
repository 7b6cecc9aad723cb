"""Keys and tokens in files. A file may change while httpd runs."""

from __future__ import annotations

import os
import threading
import time
from pathlib import PurePath

from usp_s3_wsgi.config import parsers
from usp_s3_wsgi.errors import LogCode, SettingError
from usp_s3_wsgi.observability import error_log

#: Bytes. More than any key or token has: a wrong path must not read a whole film into memory.
_MAX_SIZE = 65_536
#: A file that was modified less than this many seconds ago may still be written.
SETTLE_SECONDS = 1.0


class KeyFileCache:
    """The contents of key files, per process. A file is read again when its inode, size or times change.

    A file that was modified just now may be incomplete, and the other file of a key pair may still be the old one: the
    cached value is used until the file has settled, and for as long as the file holds no valid key.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[tuple[int, ...], str]] = {}

    def read(self, name: str, path: str | None, allow_unsettled: bool) -> str:
        """Return the text of the file without surrounding white space.

        ``name``: the setting, for error messages. ``allow_unsettled``: read the file even if it was modified just now.

        Raises:
            SettingError: the file holds no valid key, and none is cached.
        """
        if path is None:
            raise SettingError(f"{name} is not set")
        with self._lock:
            cached = self._cache.get(path)
        try:
            status = os.stat(path)
            version = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if cached is None or (
                cached[0] != version and (allow_unsettled or not 0 <= time.time() - status.st_mtime < SETTLE_SECONDS)
            ):
                cached = (version, read_key(path))
                with self._lock:
                    self._cache[path] = cached
            return cached[1]
        except OSError as error:
            reason = ": ".join([f"{name}: the file cannot be read", error.strerror or "", *shown_path(path)])
        except ValueError as error:
            reason = f"{name}: the content of the file {error}"
        if cached is None:
            raise SettingError(reason)
        error_log.write_to_stderr(LogCode.KEY_FILE_UNREADABLE, f"{reason}; using the value read earlier")
        return cached[1]


def shown_path(path: str) -> list[str]:
    """Return the path for a message, or an empty list if it may be a secret that was written on the wrong line.

    Such a secret may begin with a slash, but its first segment is not an existing directory.
    """
    parts = PurePath(path).parts
    return [path] if len(parts) > 2 and os.path.isdir(f"/{parts[1]}") else []


def read_key(path: str) -> str:
    """Return the key or token in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file holds no valid key.
    """
    with open(path, "rb") as file:
        return parsers.token(file.read(_MAX_SIZE).decode("ascii", "replace").strip())


key_files = KeyFileCache()
