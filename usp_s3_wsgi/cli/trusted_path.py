"""Follows links as root may: never one that another user has made, or could replace."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: As Linux has it: https://man7.org/linux/man-pages/man7/path_resolution.7.html
_MAX_LINKS = 40
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UntrustedPathError(Exception):
    """Another user decides where a path leads. The message says why."""


def resolve(path: Path) -> Path:
    """Return the path without links. What does not exist is kept as it is.

    A link of /proc to an open file of this process, such as /dev/stdout, is returned as it is.

    Raises: UntrustedPathError: a link is neither root's nor the caller's, or others could replace it; OSError.
    """
    pending = list(reversed(path.absolute().parts[1:]))
    current, links = Path("/"), 0
    while pending:
        name = pending.pop()
        if name == "..":
            current = current.parent
            continue
        entry = current / name
        try:
            status = entry.lstat()
        except FileNotFoundError:
            current = entry
            continue
        if not stat.S_ISLNK(status.st_mode):
            current = entry
            continue
        if not _is_trusted(status):
            raise UntrustedPathError(f"{entry} is a link of another user")
        require_trusted_folder(current)
        if is_own_descriptor(entry) and not pending:
            return entry
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = Path(os.readlink(entry))
        if target.is_absolute():
            current = Path("/")
        pending += reversed([part for part in target.parts if part != target.anchor])
    return current


def is_own_descriptor(path: Path) -> bool:
    """Whether a path without links is that of an open file of this process."""
    return path.parent == Path(f"/proc/{os.getpid()}/fd")


def require_trusted_folder(folder: Path) -> None:
    """Check a folder without links and all above it: only root and the caller may replace what is theirs in it.

    Raises: UntrustedPathError; OSError.
    """
    for one in (folder, *folder.parents):
        status = one.stat()
        # With the sticky bit, as in /tmp, others cannot rename or remove what is not theirs.
        is_sticky = status.st_mode & stat.S_ISVTX
        if not _is_trusted(status) or (status.st_mode & _WRITABLE_BY_OTHERS and not is_sticky):
            who = "root" if os.geteuid() == 0 else "root and you"
            raise UntrustedPathError(f"{one} can be written by others than {who}")


def is_writable_by_others(folder: Path) -> bool:
    """Whether others than root and the caller can add files to a folder."""
    status = folder.stat()
    return not _is_trusted(status) or bool(status.st_mode & _WRITABLE_BY_OTHERS)


def _is_trusted(status: os.stat_result) -> bool:
    return status.st_uid in {0, os.geteuid()}
