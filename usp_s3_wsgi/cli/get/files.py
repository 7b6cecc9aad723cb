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

from usp_s3_wsgi.cli.get.download import Headers
from usp_s3_wsgi.s3.byte_range import ContentRange

_BLOCK = 1 << 20
#: Headers of the first response that the rest lacks: they are kept for the checks at the end.
_KEPT_HEADERS = ("etag", "content-type", "last-modified", "cache-control", "server", "content-encoding")
_KEPT_PREFIXES = ("x-amz-checksum-", "x-amz-server-side-encryption")


class StoredPart:
    """The beginning of an interrupted download: ``position`` is the next byte of the object."""

    def __init__(self, path: Path, first: int, etag: str, total: int, headers: Headers) -> None:
        self._path, self._first = path, first
        self.etag, self.total, self.headers = etag, total, headers
        # The last byte is requested again, so that something is requested if all bytes are there.
        self._length = max(0, path.stat().st_size - 1)
        self.position = first + self._length

    def stored(self) -> Iterator[bytes]:
        """Yield the bytes before the position."""
        left = self._length
        with self._path.open("rb") as file:
            while left and (data := file.read(min(_BLOCK, left))):
                left -= len(data)
                yield data

    def cut(self, file: IO[bytes]) -> None:
        """Let the file end at the position."""
        file.truncate(self._length)
        file.seek(self._length)


class PartFile:
    """``FILE.part``, which becomes FILE when it is complete. ``FILE.part.json`` says of which object it is."""

    def __init__(self, path: Path, url: str, range_header: str | None, *, force: bool, must_continue: bool) -> None:
        """``url``: of the object. Raises: click.ClickException: the file exists, or cannot be continued."""
        self.path, self._force = path, force
        self.part, self._note = Path(f"{path}.part"), Path(f"{path}.part.json")
        self._object = {"url": url, "range": range_header or ""}
        self._file: IO[bytes] | None = None
        if path.exists() and not force:
            raise click.ClickException(f"{path} exists: --force overwrites it")
        if self.part.exists() and not force and not must_continue:
            raise click.ClickException(
                f"{self.part} is the beginning of an earlier download: --continue gets the rest, --force starts again"
            )
        self.resume = self._stored_part() if must_continue and self.part.exists() else None
        if self.resume is not None:
            self._file = self._locked(os.fdopen(os.open(self.part, os.O_RDWR | os.O_NOFOLLOW), "r+b"))

    def _stored_part(self) -> StoredPart:
        try:
            note = json.loads(self._note.read_text("utf-8"))
            known = {name: note[name] for name in self._object}
            stored = StoredPart(self.part, int(note["first"]), note["etag"], int(note["total"]), dict(note["headers"]))
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
            assert self._file is not None
            self.resume.cut(self._file)
            return
        # Never through a link that somebody else has put into a folder for all.
        flags = os.O_WRONLY | os.O_CREAT | (os.O_NOFOLLOW if self._force else os.O_EXCL)
        self._file = self._locked(os.fdopen(os.open(self.part, flags, 0o666), "wb"))
        self._file.truncate()
        with suppress(FileNotFoundError):
            self._note.unlink()
        etag = headers.get("etag", "")
        if etag.startswith('"') and content_range.total is not None:  # a strong one
            kept = {name: value for name, value in headers.items() if _is_kept(name)}
            note = {**self._object, "etag": etag, "first": content_range.first, "total": content_range.total}
            with self._note.open("x", encoding="utf-8") as file:
                json.dump({**note, "headers": kept}, file)

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
        """``path``: None for standard output."""
        self._path = path
        self._file: IO[bytes] = sys.stdout.buffer if path is None else path.open("wb", buffering=0)

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


def _is_kept(name: str) -> bool:
    return name in _KEPT_HEADERS or name.startswith(_KEPT_PREFIXES)


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
