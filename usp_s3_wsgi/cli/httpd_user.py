"""Whether the user of httpd's children can read this installation: what they cannot read, they cannot run."""

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

#: Debian's apache2ctl knows the variables that its configuration needs; elsewhere it is apachectl, or httpd itself.
_PROGRAMS = ("apache2ctl", "apachectl", "httpd")
_FOLDERS = ":/usr/sbin:/usr/local/apache2/bin"
_TIMEOUT = 30


def warnings(share: Path) -> list[str]:
    """Return what the operator must hear, a line each; ``share``: the folder of what httpd includes."""
    path = os.environ.get("PATH", os.defpath) + _FOLDERS
    programs = [found for name in _PROGRAMS if (found := shutil.which(name, path=path))]
    uid = user_id(programs)
    if uid is None:
        return [
            f"not checked whether Apache's user can read this: {program} -t -D DUMP_RUN_CFG does not name it"
            for program in programs[:1]
        ]
    unreadable = first_unreadable(uid, files(share))
    if unreadable is None:
        return []
    return [
        f"the user of Apache's children ({_name(uid)}) cannot read {unreadable}: they will answer 500. "
        "Install where every user can read, with umask 022 (chmod -R go+rX mends an installation)"
    ]


def user_id(programs: Iterable[str]) -> int | None:
    """Return the user of httpd's children, as its configuration says; None where httpd does not tell."""
    for program in programs:
        with suppress(OSError, subprocess.TimeoutExpired):
            dump = subprocess.run(
                [program, "-t", "-D", "DUMP_RUN_CFG"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False,
            ).stdout  # fmt: skip
            if (uid := user_in(dump)) is not None:
                return uid
    return _of_running()


def user_in(dump: str) -> int | None:
    """Return the user that httpd's ``-D DUMP_RUN_CFG`` names; None where only an httpd of root's would change to it."""
    match = re.search(r'^User: name="[^"]*" id=(\d+)( not_used)?', dump, re.MULTILINE)
    return int(match[1]) if match and not match[2] else None


def _of_running() -> int | None:
    """The user of an httpd that runs: where its configuration is being changed just now, it may not tell."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
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
    """Return what a child of httpd reads: Python's own library, this package, what it needs, and the scripts."""
    yield Path(os.__file__).resolve()
    for package in ("usp_s3_wsgi", "urllib3"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            yield from sorted(Path(folder).resolve().rglob("*"))
    yield from sorted(share.iterdir())


def first_unreadable(uid: int, paths: Iterable[Path]) -> Path | None:
    """Return the first of the paths, or of the folders above it, that the user cannot read; by the permission bits."""
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
    """Whether the user can read a file, or pass through a folder. The first class that fits counts."""
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
