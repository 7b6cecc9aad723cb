"""From settings to the key pair that signs, read from the settings themselves or from files that may change."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from usp_s3_wsgi import values
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.settings import Settings

#: Larger than any key or token: a wrong path must not read a whole film into memory.
_LARGEST = 65_536


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair, with the session token of temporary ones. The repr shows neither secret nor token."""

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)


def resolve(settings: Settings) -> Credentials:
    """Return the credentials of a section.

    Raises:
        SettingError: a file cannot be read or does not hold a key.
    """
    access_key = settings.access_key or _files.read("S3AccessKeyFile", settings.access_key_file)
    secret_key = settings.secret_key or _files.read("S3SecretKeyFile", settings.secret_key_file)
    token = settings.security_token
    if settings.security_token_file:
        token = _files.read("S3SecurityTokenFile", settings.security_token_file)
    return Credentials(access_key, secret_key, token)


class _SecretFiles:
    """The contents of secret files, per process; a file is read again when its inode, size or times changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    def read(self, name: str, path: str | None) -> str:
        """Return the text of the file without the white space around it. Raises: SettingError."""
        if path is None:
            raise SettingError(f"{name} is not set")
        try:
            status = os.stat(path)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            with self._lock:
                known = self._known.get(path)
            if known is None or known[0] != stamp:
                known = (stamp, _text(path))
                with self._lock:
                    self._known[path] = known
        # Without the path: it may be the secret itself, written on the wrong line.
        except OSError as error:
            raise SettingError(f"{name}: the file cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise SettingError(f"{name}: the content of the file {error}") from None
        return known[1]


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return values.token(file.read(_LARGEST).decode("ascii", "replace").strip())


_files = _SecretFiles()
