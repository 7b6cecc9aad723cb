"""One download: what is requested, what was received and measured, and why it failed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from usp_s3_wsgi.cli.get import checksums
from usp_s3_wsgi.cli.get.checksums import Check, Digests
from usp_s3_wsgi.cli.server.own_url import is_address
from usp_s3_wsgi.errors import GatewayError
from usp_s3_wsgi.observability.error_log import Attempt as LoggedAttempt
from usp_s3_wsgi.s3.byte_range import ContentRange
from usp_s3_wsgi.transport.happy_eyeballs import ConnectTimes

Headers = Mapping[str, str]


class DownloadError(Exception):
    """Why there is no complete object. The message is one line without a secret.

    ``code``: of docs/errors.md; ``s3_code`` and ``request_id``: of S3's response. All may be empty.
    """

    def __init__(self, message: str, code: str = "", s3_code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.code, self.s3_code, self.request_id = code, s3_code, request_id


def from_gateway_error(failure: GatewayError, attempt: LoggedAttempt | None) -> DownloadError:
    """Return what the gateway's own exception means here: the words of its log line."""
    text = f"{failure} ({attempt})" if attempt is not None else str(failure)
    text = f"{text}; {failure.hint}" if failure.hint else text
    s3_error = failure.s3_error
    known = (s3_error.code, s3_error.request_id) if s3_error else ("", "")
    return DownloadError(text, failure.code, *known)


def no_such_range(headers: Headers, document: str = "", s3_code: str = "") -> DownloadError:
    """Return the error for a response 416, with the object's size where the response says it.

    Content-Range has it, or S3's error document: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    found = re.fullmatch(r"bytes \*/([0-9]{1,19})", headers.get("content-range", "")) or re.search(
        r"<ActualObjectSize>([0-9]{1,19})</ActualObjectSize>", document
    )
    size = f": the object has {int(found[1]):,} bytes" if found else ""
    return DownloadError(f"the object has no such range{size}", "", s3_code)


@dataclass
class Times:
    """Seconds. None: it did not happen, such as TLS without https, or a name lookup on a connection that was kept.

    ``first_byte``: from the request to the response's header. ``download``: from there to the end of the body;
    ``waiting``: the part of it in which no bytes were there. The rest is spent on this machine: digests, the disk.
    """

    lookup: float | None = None
    connect: float | None = None
    tls: float | None = None
    first_byte: float | None = None
    download: float | None = None
    waiting: float | None = None
    total: float | None = None


def lookup_seconds(host: str, times: ConnectTimes) -> float | None:
    """Return what the lookup of a host's name took, None for an address."""
    return None if is_address(host) else times.resolved_at - times.begun_at


@dataclass
class SentAttempt:
    """A request that was sent; ``failure``: why it did not succeed. ``status``: 0 without a response."""

    host: str
    status: int = 0
    is_new_connection: bool | None = None
    seconds: float = 0.0
    failure: str = ""


@dataclass
class Exchange:
    """What a source says of a download, besides its bytes; it grows until the body is read."""

    times: Times = field(default_factory=Times)
    attempts: list[SentAttempt] = field(default_factory=list)
    corrections: list[str] = field(default_factory=list)
    resumes: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """Which bytes are requested: ``range_header`` of ``--range`` or of the rest of a download that was interrupted.

    ``etag``: of the object whose rest is requested, empty for a new download.
    """

    range_header: str | None = None
    etag: str = ""


class OpenedBody(Protocol):
    """A response whose body is not read yet.

    ``headers``: names in lowercase. ``content_range``: which bytes of the object it holds.
    """

    status: int
    headers: Headers
    content_range: ContentRange

    def pieces(self) -> Iterator[bytes]:
        """Yield the body. Raises: DownloadError: it is not complete."""

    def close(self) -> None:
        """Release the connection."""


class Source(Protocol):
    """A way to the object. ``name``: S3 or Apache. ``exchange``: of the last :meth:`open`."""

    name: str
    exchange: Exchange

    @property
    def url(self) -> str:
        """The URL without a signature."""

    def open(self, wanted: Wanted) -> OpenedBody:
        """Request the object. Raises: DownloadError."""


class Resume(Protocol):
    """A download that was interrupted.

    ``position``: the next byte of the object. ``headers``: of the first response.
    """

    position: int
    etag: str
    total: int
    headers: Headers

    def stored(self) -> Iterator[bytes]:
        """Yield the bytes before the position."""


class Destination(Protocol):
    """Where the bytes go."""

    @property
    def resume(self) -> Resume | None:
        """What is there already, None for a new download."""

    def begin(self, headers: Headers, content_range: ContentRange) -> None:
        """Make the file, before the first byte."""

    def write(self, data: bytes) -> None:
        """Store the next bytes. Raises: OSError."""


class Progress(Protocol):
    """Shows how far a download is."""

    def begin(self, name: str, done: int, total: int | None) -> None:
        """Begin to show a download."""

    def advance(self, length: int) -> None:
        """Show further bytes."""

    def end(self) -> None:
        """Show nothing more."""


@dataclass
class Download:
    """What came of a download. ``first``: the first byte of the object; ``length``: the bytes from there, also stored
    ones. ``expected``: how many there should be, None if nobody says so. ``headers``: of a response with the object.
    """

    name: str
    url: str
    exchange: Exchange
    status: int = 0
    headers: Headers = field(default_factory=dict)
    first: int = 0
    length: int = 0
    resumed_at: int | None = None
    expected: int | None = None
    sha256: str = ""
    checks: list[Check] = field(default_factory=list)
    failure: DownloadError | None = None


def run(source: Source, range_header: str | None, destination: Destination, progress: Progress) -> Download:
    """Download an object, or a range or the rest of it.

    Raises: OSError: the bytes cannot be stored. A failure of the source is in the result.
    """
    started_at = time.monotonic()
    result = Download(source.name, source.url, Exchange())
    try:
        _download(source, range_header, destination, progress, result)
    except DownloadError as failure:
        result.failure = failure
    result.exchange, result.url = source.exchange, source.url
    if not result.status and source.exchange.attempts:
        result.status = source.exchange.attempts[-1].status
    result.exchange.times.total = time.monotonic() - started_at
    return result


def _download(
    source: Source, range_header: str | None, destination: Destination, progress: Progress, result: Download
) -> None:
    resume = destination.resume
    wanted = Wanted(range_header) if resume is None else Wanted(_rest(range_header, resume), resume.etag)
    opened = source.open(wanted)
    try:
        begun_at = time.monotonic()
        content_range = opened.content_range
        result.status, result.headers = opened.status, opened.headers
        result.first = content_range.first
        if resume is not None:
            _check_is_rest(opened, resume)
            result.headers = {**resume.headers, **opened.headers}
            result.first = _bounds(range_header, resume.total)[0]
            result.resumed_at = resume.position
        _check_is_all(opened, wanted.range_header)
        if content_range.last is not None:
            result.expected = content_range.last + 1 - result.first
        is_whole = range_header is None or (opened.status == 200 and resume is None)
        digests = Digests(result.headers if is_whole else {})
        destination.begin(opened.headers, content_range)
        for data in resume.stored() if resume is not None else ():
            digests.update(data)
            result.length += len(data)
        progress.begin(source.name, result.length, result.expected)
        times, pieces = source.exchange.times, opened.pieces()
        times.waiting = 0.0
        try:
            while data := _next_piece(pieces, times):
                destination.write(data)
                digests.update(data)
                result.length += len(data)
                progress.advance(len(data))
        finally:
            progress.end()
            times.download = time.monotonic() - begun_at
    finally:
        opened.close()
    result.sha256 = digests.sha256
    if result.expected is not None and result.length != result.expected:
        raise DownloadError(f"{result.length:,} bytes were received, and the header announces {result.expected:,}")
    result.checks = checksums.check(result.headers, digests, result.url) if is_whole else []
    if any(check.is_different for check in result.checks):
        names = ", ".join(check.name for check in result.checks if check.is_different)
        raise DownloadError(f"{names}: these are not the bytes that were stored: S3's checksum differs")


def _next_piece(pieces: Iterator[bytes], times: Times) -> bytes:
    """Return the next bytes, nothing at the end, and count the time until they were there."""
    began_at = time.monotonic()
    try:
        return next(pieces, b"")
    finally:
        times.waiting = (times.waiting or 0.0) + time.monotonic() - began_at


def _rest(range_header: str | None, resume: Resume) -> str:
    """Return the range of what is missing."""
    last = _bounds(range_header, resume.total)[1]
    return f"bytes={resume.position}-{last}"


def _bounds(range_header: str | None, total: int) -> tuple[int, int]:
    """Return the first and the last byte that a range of an object of this length means."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", range_header or "bytes=0-")
    assert match is not None
    if not match[1]:
        return max(0, total - int(match[2])), total - 1
    return int(match[1]), min(total - 1, int(match[2] or total - 1))


def _check_is_all(opened: OpenedBody, range_header: str | None) -> None:
    """Raises: DownloadError: the response is only a part of the requested range, which is allowed in HTTP."""
    first, last, total = opened.content_range
    if opened.status == 206 and total is not None and (first, last) != (wanted := _bounds(range_header, total)):
        raise DownloadError(f"the response has the bytes {first:,} to {last:,}, not {wanted[0]:,} to {wanted[1]:,}")


def _check_is_rest(opened: OpenedBody, resume: Resume) -> None:
    """Raises: DownloadError: the response is not the rest of the same object."""
    if opened.headers.get("etag") != resume.etag or opened.content_range.total not in {None, resume.total}:
        raise DownloadError("the object was changed since the download began: --force starts again")
    if opened.status != 206 or opened.content_range.first != resume.position:
        raise DownloadError("the rest was requested, and the response is something else: --force starts again")
