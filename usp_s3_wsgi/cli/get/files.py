"""Where the bytes of a download go: a file that is complete or does not exist, standard output, a device, nowhere."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import click

from usp_s3_wsgi.cli import trusted_path
from usp_s3_wsgi.cli.get.download import Headers
from usp_s3_wsgi.cli.trusted_path import UntrustedPathError
from usp_s3_wsgi.s3.byte_range import ContentRange

_BLOCK = 1 << 20
#: Headers of the first response that the rest lacks: they are kept for the checks at the end.
_KEPT_HEADERS = ("etag", "content-type", "last-modified", "cache-control", "server", "content-encoding")
_KEPT_PREFIXES = ("x-amz-checksum-", "x-amz-server-side-encryption")


class StoredPart:
    """The beginning of an interrupted download: ``position`` is the next byte of the object."""

    def __init__(self, file: IO[bytes], first: int, etag: str, total: int, headers: Headers) -> None:
        self._file, self._first = file, first
        self.etag, self.total, self.headers = etag, total, headers
        # The last byte is requested again, so that something is requested if all bytes are there.
        self._length = max(0, os.fstat(file.fileno()).st_size - 1)
        self.position = first + self._length

    def stored(self) -> Iterator[bytes]:
        """Yield the bytes before the position."""
        position = 0
        while data := os.pread(self._file.fileno(), min(_BLOCK, self._length - position), position):
            position += len(data)
            yield data

    def cut(self) -> None:
        """Let the file end at the position."""
        self._file.truncate(self._length)
        self._file.seek(self._length)


class PartFile:
    """``FILE.part``, which becomes FILE when it is complete. ``FILE.part.json`` says of which object it is."""

    def __init__(self, path: Path, url: str, range_header: str | None, *, force: bool, must_continue: bool) -> None:
        """``url``: of the object. Raises: click.ClickException: the file exists, or cannot be continued."""
        self.path, self._force = path, force
        self.part, self._note = Path(f"{path}.part"), Path(f"{path}.part.json")
        self._object = {"url": url, "range": range_header or ""}
        self._file: IO[bytes] | None = None
        if not path.parent.is_dir():
            raise click.ClickException(f"the folder {path.parent} does not exist")
        if os.path.lexists(path) and not force:
            raise click.ClickException(f"{path} exists: --force overwrites it")
        has_part = os.path.lexists(self.part)
        if has_part and not force and not must_continue:
            raise click.ClickException(
                f"{self.part} is the beginning of an earlier download: --continue gets the rest, --force starts again"
            )
        try:
            self.resume = self._stored_part() if must_continue and has_part else None
        except BaseException:
            self.close()
            raise

    def _stored_part(self) -> StoredPart:
        """Open the file and its note, which must be the caller's own: the bytes of others are not the object's."""
        try:
            with _own_file(self._note, os.O_RDONLY) as note_file:
                note = json.loads(note_file.read())
            known = {name: note[name] for name in self._object}
            self._file = self._locked(_own_file(self.part, os.O_RDWR))
            stored = StoredPart(self._file, int(note["first"]), note["etag"], int(note["total"]), dict(note["headers"]))
        except _NotOwnError as error:
            raise click.ClickException(f"{error}: --force starts again") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise click.ClickException(
                f"{self.part} cannot be continued, because it is not known of which object it is: --force starts again"
            ) from None
        if known != self._object or stored.position >= stored.total:
            raise click.ClickException(f"{self.part} is of another object or range: --force starts again")
        return stored

    def _locked(self, file: IO[bytes]) -> IO[bytes]:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise click.ClickException(f"{self.part} is being written by another process") from None
        return file

    def begin(self, headers: Headers, content_range: ContentRange) -> None:
        """Make the file, or let the one that is continued end where the rest begins."""
        if self.resume is not None:
            self.resume.cut()
            return
        if self._force:
            self._remove_part()
        with suppress(FileNotFoundError):
            self._note.unlink()
        # Never what somebody else has put into a folder for all: a link, or a file that is then theirs.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = self._locked(os.fdopen(os.open(self.part, flags, 0o666), "wb"))
        etag = headers.get("etag", "")
        if etag.startswith('"') and content_range.total is not None:  # a strong one
            kept = {name: value for name, value in headers.items() if _is_kept(name)}
            note = {**self._object, "etag": etag, "first": content_range.first, "total": content_range.total}
            with self._note.open("x", encoding="utf-8") as file:
                json.dump({**note, "headers": kept}, file)

    def _remove_part(self) -> None:
        """Raises: click.ClickException: another process writes it; OSError."""
        try:
            old = _own_file(self.part, os.O_RDWR)
        except (OSError, _NotOwnError):
            with suppress(FileNotFoundError):
                self.part.unlink()
        else:
            with self._locked(old):
                self.part.unlink()

    @property
    def has_begun(self) -> bool:
        """Whether ``FILE.part`` is of this download."""
        return self._file is not None

    def write(self, data: bytes) -> None:
        """Store the next bytes. Raises: OSError."""
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as error:
            raise _named(error, self.part) from None

    def complete(self) -> None:
        """Give the file its name. Raises: OSError."""
        assert self._file is not None
        if not _is_same(self._file, self.part):
            raise click.ClickException(f"{self.part} has been replaced meanwhile")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            if self._force:
                self.part.replace(self.path)
            else:
                _rename_without_overwriting(self.part, self.path)
        except FileExistsError:
            raise click.ClickException(f"{self.path} exists meanwhile; the object is in {self.part}") from None
        except OSError as error:
            raise _named(error, self.part) from None
        self._file.close()
        with suppress(FileNotFoundError):
            self._note.unlink()

    def give_up(self) -> None:
        """Close the file, whose bytes are not the object's: it cannot be continued."""
        self.close()
        with suppress(FileNotFoundError):
            self._note.unlink()

    def close(self) -> None:
        """Close the file; what there is of it stays."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise _named(error, self.part) from None

    @property
    def can_be_continued(self) -> bool:
        """Whether ``--continue`` can get the rest."""
        return self.part.exists() and self._note.exists()

    def read(self) -> IO[bytes]:
        """Return the complete file, to be read."""
        return self.path.open("rb")


class Stream:
    """Standard output, or a device such as /dev/null: it cannot be continued, and has no other name meanwhile."""

    resume = None

    def __init__(self, path: Path | None) -> None:
        """``path``: None for standard output. Raises: click.ClickException: it is another user's; OSError."""
        self._path = path
        self._file: IO[bytes] = sys.stdout.buffer if path is None else _open_device(path)

    def begin(self, headers: Headers, content_range: ContentRange) -> None:
        """Do nothing."""

    def write(self, data: bytes) -> None:
        """Write the next bytes. Raises: OSError."""
        try:
            self._file.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _named(error, self._path or Path("standard output")) from None

    def complete(self) -> None:
        """Flush the bytes, and close the device."""
        self._file.flush()
        self.close()

    def close(self) -> None:
        """Close the device."""
        if self._path is not None:
            self._file.close()

    give_up = close


class Temporary:
    """A file without a name, for a comparison."""

    resume = None

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()

    def begin(self, headers: Headers, content_range: ContentRange) -> None:
        """Do nothing."""

    def write(self, data: bytes) -> None:
        """Store the next bytes. Raises: OSError."""
        try:
            self._file.write(data)
        except OSError as error:
            raise _named(error, Path(tempfile.gettempdir())) from None

    def complete(self) -> None:
        """Store what is still in memory."""
        self._file.flush()

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    give_up = close

    def read(self) -> IO[bytes]:
        """Return the file, to be read."""
        self._file.seek(0)
        return self._file


class Discarded:
    """Nowhere: only the time and the checksum matter."""

    resume = None

    def begin(self, headers: Headers, content_range: ContentRange) -> None:
        """Do nothing."""

    def write(self, data: bytes) -> None:
        """Do nothing."""


class Compared:
    """The bytes of a second download are compared with those of the first one.

    ``difference``: how many bytes are the same before the first one that is not, None if all are.
    """

    resume = None

    def __init__(self, other: IO[bytes]) -> None:
        self._other, self._length = other, 0
        self.difference: int | None = None

    def begin(self, headers: Headers, content_range: ContentRange) -> None:
        """Do nothing."""

    def write(self, data: bytes) -> None:
        """Compare the next bytes."""
        if self.difference is None:
            other = self._other.read(len(data))
            if other != data:
                same = next((i for i, (a, b) in enumerate(zip(data, other, strict=False)) if a != b), len(other))
                self.difference = self._length + same
        self._length += len(data)

    def finish(self) -> None:
        """Notice that the first download has more bytes."""
        if self.difference is None and self._other.read(1):
            self.difference = self._length


def is_stream(path: Path) -> bool:
    """Whether a path is that of a device or a pipe."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _open_device(path: Path) -> IO[bytes]:
    """Open a device or a pipe: one of /dev, or the caller's own.

    In a folder that others can write, theirs may have the name of the file: they would get the object.

    Raises: click.ClickException; OSError.
    """
    try:
        resolved = trusted_path.resolve(path)
    except UntrustedPathError as error:
        raise click.ClickException(f"{path} is not written: {error}") from None
    is_open_already = trusted_path.is_own_descriptor(resolved)
    # Without a side effect, and without waiting for a reader of a pipe.
    descriptor = os.open(resolved, os.O_PATH | os.O_CLOEXEC | (0 if is_open_already else os.O_NOFOLLOW))
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
            raise click.ClickException(f"{path} has been replaced meanwhile")
        if not is_open_already and not _is_system_device(resolved) and status.st_uid != os.geteuid():
            raise click.ClickException(f"{path} is not written: it is a device or a pipe of another user")
        return open(f"/proc/self/fd/{descriptor}", "wb", buffering=0)
    finally:
        os.close(descriptor)


def _is_system_device(path: Path) -> bool:
    folders = path.parents
    return Path("/dev") in folders and not any(trusted_path.is_writable_by_others(one) for one in folders)


class _NotOwnError(Exception):
    """A file is not what this command has left here."""


def _own_file(path: Path, flags: int) -> IO[bytes]:
    """Open a regular file of the caller that has no other name. Raises: _NotOwnError; OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
        os.close(descriptor)
        raise _NotOwnError(f"{path} is not a file of yours alone")
    return os.fdopen(descriptor, "rb" if flags == os.O_RDONLY else "r+b")


def _is_kept(name: str) -> bool:
    return name in _KEPT_HEADERS or name.startswith(_KEPT_PREFIXES)


def _is_same(file: IO[bytes], path: Path) -> bool:
    """Whether a path is still that of an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _named(error: OSError, path: Path) -> OSError:
    """Return the error with the name of the file."""
    return OSError(error.errno, error.strerror, str(path))


def _rename_without_overwriting(old: Path, new: Path) -> None:
    """Raises: FileExistsError."""
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if new.exists():
            raise FileExistsError(str(new)) from None
        old.rename(new)
    else:
        old.unlink()
