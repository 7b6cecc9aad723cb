"""Creates the file with a secret key, which root owns and Apache's group can read, and never replaces one."""

from __future__ import annotations

import grp
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from usp_s3_wsgi.cli import httpd_user, trusted_path
from usp_s3_wsgi.cli.trusted_path import UntrustedPathError

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o640


class KeyFileError(Exception):
    """The file was not created. The message says why."""


def apache_group(name: str) -> int:
    """Return the number of a group, or, without a name, that of httpd's children. Raises: KeyFileError."""
    if name:
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            raise KeyFileError(f"there is no group {name!r} on this machine") from None
    group = httpd_user.group_id(httpd_user.programs())
    if group is None:
        raise KeyFileError("the group of Apache's children is not known: name it with --apache-group")
    return group


def usual_group() -> str | None:
    """Return Debian's name of Apache's group, None if this machine does not have it."""
    try:
        return grp.getgrnam("www-data").gr_name
    except KeyError:
        return None


def create(path: str, secret: str, group: int) -> None:
    """Create the file with its owner, group and mode, and then write the secret key into it.

    Directories that are missing are created. Raises: KeyFileError: nothing was written, and an existing file is as it
    was.
    """
    file = Path(path)
    try:
        _create_directories(file.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path} exists, and is not replaced") from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be created: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            os.fchown(descriptor, 0, group)
            os.fchmod(descriptor, _FILE_MODE)
            opened.write(f"{secret}\n")
            opened.flush()
            os.fsync(descriptor)
    except BaseException as error:  # KeyboardInterrupt too: an empty file would stop the next run
        file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise KeyFileError(f"{path} cannot be written: {error.strerror}") from None
        raise


def _create_directories(directory: Path) -> None:
    """Create what is missing, for all to enter. Raises: OSError; KeyFileError: other users could replace the file."""
    try:
        resolved = trusted_path.resolve(directory)
        missing = [one for one in (resolved, *resolved.parents) if not one.exists()]
        existing = missing[-1].parent if missing else resolved
        trusted_path.require_trusted_folder(existing)
    except UntrustedPathError as error:
        raise KeyFileError(f"{error}: use another directory") from None
    for one in reversed(missing):
        one.mkdir()
        one.chmod(_DIRECTORY_MODE)  # whatever the umask is
    if trusted_path.is_writable_by_others(resolved):
        raise KeyFileError(f"{directory} can be written by others than root: use another directory")


def commands(path: str, group: str = "www-data") -> Iterator[str]:
    """Yield the commands that create the file by hand, as docs/getting-started.md has them."""
    file = shlex.quote(path)
    yield f"mkdir -p -m 755 {shlex.quote(str(Path(path).parent))}"
    yield f"install -m 640 -o root -g {shlex.quote(group)} /dev/null {file}"
    yield "read -rs secret"
    yield f"printf '%s\\n' \"$secret\" > {file}"
    yield "unset secret"
