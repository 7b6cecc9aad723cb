"""Checks whether the user of httpd's children can read this installation."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

#: Debian's apache2ctl sets the variables that its configuration needs; other systems have apachectl, or httpd itself.
_WITHOUT_VARIABLES = "apache2"  # Debian's httpd itself, which then has no configuration
_PROGRAMS = ("apache2ctl", "apachectl", "httpd", _WITHOUT_VARIABLES)
_FOLDERS = ("/usr/sbin", "/usr/local/apache2/bin")
_TIMEOUT = 30


def warnings(share: Path) -> list[str]:
    """Return the warnings, a line each; ``share``: the directory of the files that httpd includes."""
    found = programs()
    uid = user_id(found)
    if uid is None:
        return [
            f"could not check whether Apache's user can read this installation: {program} -t -D DUMP_RUN_CFG does not "
            "print the user"
            for program in found[:1]
            if Path(program).name != _WITHOUT_VARIABLES  # Debian's Apache without a configuration
        ]
    unreadable = first_unreadable(uid, files(share))
    if unreadable is None:
        return []
    return [
        f"the user of Apache's children ({_name(uid)}) cannot read {unreadable}: they will answer 500. "
        "Install into a directory that all users can read, with umask 022 (chmod -R go+rX repairs an installation)"
    ]


def programs() -> list[str]:
    """Return the programs on this machine that run httpd."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_FOLDERS))
    return [found for name in _PROGRAMS if (found := shutil.which(name, path=path))]


def looked_for() -> str:
    """Return where ``programs`` has looked, for a message."""
    return f"neither {' nor '.join(_PROGRAMS)} is in PATH, {' or '.join(_FOLDERS)}"


def user_id(candidates: Iterable[str]) -> int | None:
    """Return the user of httpd's children according to its configuration; None if it cannot be found out."""
    for dump in _dumps(candidates):
        if (uid := user_in(dump)) is not None:
            return uid
    return _uid_of_running_httpd()


def group_id(candidates: Iterable[str]) -> int | None:
    """Return the group of httpd's children according to its configuration; None if it cannot be found out."""
    for dump in _dumps(candidates):
        if match := re.search(r'^Group: name="[^"]*" id=(\d+)$', dump, re.MULTILINE):
            return int(match[1])
    return None


def _dumps(candidates: Iterable[str]) -> Iterator[str]:
    """Yield what the programs print of the configuration."""
    for program in candidates:
        with suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                [program, "-t", "-D", "DUMP_RUN_CFG"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False,
            )  # fmt: skip
            yield done.stdout


def user_in(dump: str) -> int | None:
    """Return the user in the output of ``-D DUMP_RUN_CFG``; None if only an httpd that root starts changes to it."""
    match = re.search(r'^User: name="[^"]*" id=(\d+)( not_used)?', dump, re.MULTILINE)
    return int(match[1]) if match and not match[2] else None


def _uid_of_running_httpd() -> int | None:
    """Return the user of a running httpd, in case its configuration is incomplete at the moment."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            uid = process.stat().st_uid
            if uid and (process / "exe").readlink().name in {"apache2", "httpd"}:
                return uid
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def files(share: Path) -> Iterator[Path]:
    """Yield the files that a child of httpd reads: Python's library, this package, dependencies, and the scripts."""
    yield Path(os.__file__).resolve()
    for package in ("usp_s3_wsgi", "urllib3", "httptools"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            yield from sorted(Path(folder).resolve().rglob("*"))
    yield from sorted(share.iterdir())


def first_unreadable(uid: int, paths: Iterable[Path]) -> Path | None:
    """Return the first path, or directory above it, that the user cannot read, according to the permission bits."""
    try:
        user = pwd.getpwuid(uid)
        groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    except KeyError:
        groups = set()
    seen: set[Path] = set()
    for path in paths:
        for part in (*reversed(path.parents), path):
            if part not in seen and not is_readable(part, uid, groups):
                return part
            seen.add(part)
    return None


def is_readable(path: Path, uid: int, groups: set[int]) -> bool:
    """Whether the user can read a file or enter a directory: only the bits of owner, group or others apply."""
    try:
        status = path.stat()
    except OSError:
        return False
    bits = stat.S_IXOTH if stat.S_ISDIR(status.st_mode) else stat.S_IROTH
    if uid == 0:
        return True
    if status.st_uid == uid:
        bits <<= 6
    elif status.st_gid in groups:
        bits <<= 3
    return bool(status.st_mode & bits)
