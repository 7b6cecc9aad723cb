"""The result of ``get``, as a table for people and as JSON for scripts."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usp_s3_wsgi.cli import apache_config, console
from usp_s3_wsgi.cli.get.download import Download, DownloadError, Times
from usp_s3_wsgi.cli.get.files import PartFile
from usp_s3_wsgi.observability.error_log import escape_controls
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.status.explanations import Explanations
from usp_s3_wsgi.status.snapshot import Explanation

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

#: Headers that players and caches depend on. They are compared, by these names.
COMPARED_HEADERS = ("Content-Length", "Content-Type", "ETag", "Last-Modified", "Cache-Control")
#: Bytes that are enough for a speed.
_MIN_FOR_SPEED = 100_000
#: S3's code for a key that does not exist, and what docs/errors.md cannot say of it: here somebody has typed the key.
_NO_SUCH_KEY = "NoSuchKey"
_WHY_NO_SUCH_KEY = "There is no object with this key in the bucket. Keys are case-sensitive."
#: How docs/errors.md refers to another code.
_REFERENCE = re.compile(r"As for (USPS\d+)\.?")
_TIMES = {
    "lookup": "Name lookup",
    "connect": "Connect",
    "tls": "TLS handshake",
    "first_byte": "First byte",
    "download": "Download",
    "waiting": "- waiting",
    "total": "Total",
}


@dataclass
class Result:
    """What came of the command. ``runs``: of each way, the downloads of ``--repeat``, the first one first.

    ``stored``: the file of the first download, None if there is none. ``is_equal``: None if nothing was compared.
    ``difference``: the first byte of the object that differs between both ways, None if there is none.
    """

    key: str
    runs: list[list[Download]]
    stored: PartFile | None = None
    is_equal: bool | None = None
    difference: int | None = None
    different_headers: list[str] = field(default_factory=list)

    @property
    def file(self) -> Path | None:
        """Where the complete object is."""
        return self.stored.path if self.stored is not None and self.runs[0][0].failure is None else None

    @property
    def failures(self) -> list[tuple[str, DownloadError]]:
        """The failures, each with the way that failed."""
        return [(one.name, one.failure) for runs in self.runs for one in runs if one.failure is not None]


def compare_headers(first: Download, second: Download) -> list[str]:
    """Return the names of the headers that differ."""
    return [name for name in COMPARED_HEADERS if _header(first, name) != _header(second, name)]


def show_failures(result: Result) -> None:
    """Write each failure to standard error: a line, what it means, and what to do."""
    explanations = _explanations()
    for name, failure in dict.fromkeys(result.failures):
        where = "" if str(failure).startswith(f"{name} ") else f"{name}: "
        click.echo(f"usp-s3: {where}{escape_controls(str(failure))}", err=True)
        known = _explanation(explanations, failure)
        if known is not None and known.why:
            _print(console.text(f"Why: {known.why}"))
        if known is not None and known.what_to_do:
            _print(console.text(f"What to do: {known.what_to_do}"))


def show_table(result: Result) -> None:
    """Write a summary to standard error, with a column for each way."""
    from rich.table import Table

    table = Table(box=None, show_header=len(result.runs) > 1, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    for runs in result.runs:
        table.add_column(runs[0].name, overflow="fold")
    if len(result.runs) > 1:
        table.add_column("")
    for label, describe in _rows(result):
        cells = [describe(runs) for runs in result.runs]
        if any(cells):
            marks = ["different" if label in result.different_headers else ""] if len(cells) > 1 else []
            table.add_row(label, *(_cell(cell or "-") for cell in cells), *marks)
    _print(table)
    if result.is_equal is not None:
        console.messages().print(console.text(_comparison(result)))


def _print(what: RenderableType) -> None:
    """Print to standard error; no line ends with the spaces with which rich fills or breaks it."""
    with console.messages().capture() as captured:
        console.messages().print(what)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), err=True, color=True)


def _cell(words: str) -> Text:
    """Return the lines of a cell, with other control characters escaped."""
    from rich.text import Text

    return Text("\n".join(escape_controls(line) for line in words.split("\n")))


def _comparison(result: Result) -> str:
    if not result.is_equal:
        return f"The bytes differ from byte {result.difference} on (the first byte is 0)."
    names = ", ".join(result.different_headers)
    return f"The bytes are equal, but these headers differ: {names}." if names else "The bytes and headers are equal."


_Describe = Callable[[list[Download]], str]


def _rows(result: Result) -> list[tuple[str, _Describe]]:
    def header(name: str) -> _Describe:
        return lambda runs: _header(runs[0], name)

    def time(name: str) -> _Describe:
        return lambda runs: _time(name, runs)

    return [
        ("URL", lambda runs: runs[0].url),
        ("Status", lambda runs: str(runs[0].status or "")),
        ("Bytes", lambda runs: _bytes(runs[0])),
        *((name, header(name)) for name in COMPARED_HEADERS),
        ("SHA-256", lambda runs: runs[0].sha256),
        ("Checksums", lambda runs: "\n".join(_check(one) for one in runs[0].checks)),
        ("Request id", lambda runs: error_response.request_id(runs[0].headers)),
        *((label, time(name)) for name, label in _TIMES.items()),
        ("Connection", lambda runs: _connection(runs[0])),
        ("Attempts", lambda runs: _attempts(runs[0])),
        ("Notes", lambda runs: "\n".join(runs[0].exchange.notes)),
    ]


def _header(download: Download, name: str) -> str:
    return download.headers.get(name.lower(), "")


def _bytes(download: Download) -> str:
    if not download.headers:
        return ""
    end = download.first + download.length - 1
    where = f" (bytes {download.first:,} to {end:,})" if download.first and download.length else ""
    of = f" of {download.expected:,}" if download.expected not in {None, download.length} else ""
    resumed = ""
    if download.resumed_at is not None:
        resumed = f", continued at byte {download.resumed_at:,}"
        if download.resumed_at > download.first:
            resumed += " (the last byte is requested again to prove that it is the same object)"
    return f"{download.length:,}{of}{where}{resumed}"


def _check(check: Any) -> str:
    return f"{check.name}: {check.result}" + (f": {check.reason}" if check.reason else "")


def _time(name: str, runs: list[Download]) -> str:
    """Return a time of the first download; of several, the median, the shortest and the longest one."""
    values = [value for one in runs if (value := getattr(one.exchange.times, name)) is not None]
    if not values:
        return ""
    if len(values) == 1:
        speed = _speed(runs[0], values[0]) if name == "download" else ""
        return f"{_seconds(values[0])}{speed}"
    low, high = _seconds(min(values)), _seconds(max(values))
    return f"{_seconds(statistics.median(values))} ({low} to {high}, {len(values)} times)"


def _seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def _speed(download: Download, seconds: float) -> str:
    received = download.length - (download.resumed_at - download.first if download.resumed_at is not None else 0)
    return f", {received / seconds / 1e6:,.1f} MB/s" if received >= _MIN_FOR_SPEED else ""


def _connection(download: Download) -> str:
    attempts = download.exchange.attempts
    is_new = attempts[-1].is_new_connection if attempts else None
    return "" if is_new is None else "new" if is_new else "kept"


def _attempts(download: Download) -> str:
    exchange = download.exchange
    lines = [f"{len(exchange.attempts)}" if exchange.attempts else ""]
    if exchange.resumes:
        lines.append(
            f"the body was resumed {exchange.resumes} times" if exchange.resumes > 1 else "the body was resumed"
        )
    lines += [f"corrected: {name}" for name in exchange.corrections]
    for number, attempt in enumerate(exchange.attempts, 1):
        if attempt.failure and len(exchange.attempts) > 1:
            lines.append(f"{number}: {attempt.failure}, {_seconds(attempt.seconds)}")
    return "\n".join(line for line in lines if line)


def to_json(result: Result) -> dict[str, Any]:
    """Return the result for ``--json``: names stay."""
    explanations = _explanations()
    return {
        "key": result.key,
        "file": str(result.file) if result.file else None,
        "equal": result.is_equal,
        "first_difference": result.difference,
        "different_headers": result.different_headers,
        "downloads": [_download_to_json(runs, explanations) for runs in result.runs],
    }


def _download_to_json(runs: list[Download], explanations: Explanations) -> dict[str, Any]:
    first = runs[0]
    failure = next((one.failure for one in runs if one.failure is not None), None)
    return {
        "way": first.name.lower(),
        "url": first.url,
        "complete": failure is None,
        "status": first.status or None,
        "bytes": first.length,
        "expected_bytes": first.expected,
        "first_byte": first.first,
        "continued_at": first.resumed_at,
        "sha256": first.sha256 or None,
        "checksums": [one._asdict() for one in first.checks],
        "headers": {name: _header(first, name) or None for name in COMPARED_HEADERS},
        "request_id": error_response.request_id(first.headers) or None,
        "times": [asdict(one.exchange.times) for one in runs],
        "medians": {one.name: _median(runs, one.name) for one in fields(Times)},
        "attempts": [asdict(one) for one in first.exchange.attempts],
        "corrections": first.exchange.corrections,
        "resumes": first.exchange.resumes,
        "notes": first.exchange.notes,
        "error": _failure_to_json(failure, explanations) if failure is not None else None,
    }


def _median(runs: Sequence[Download], name: str) -> float | None:
    values = [value for one in runs if (value := getattr(one.exchange.times, name)) is not None]
    return statistics.median(values) if values else None


def _failure_to_json(failure: DownloadError, explanations: Explanations) -> dict[str, Any]:
    known = _explanation(explanations, failure)
    return {
        "message": str(failure),
        "code": failure.code or None,
        "s3_code": failure.s3_code or None,
        "request_id": failure.request_id or None,
        "why": (known.why if known else "") or None,
        "what_to_do": (known.what_to_do if known else "") or None,
    }


def _explanations() -> Explanations:
    try:
        return Explanations.from_file(apache_config.share_directory() / "errors.md")
    except FileNotFoundError:
        return Explanations("")


def _explanation(explanations: Explanations, failure: DownloadError) -> Explanation | None:
    if not failure.code and not failure.s3_code:
        return None
    known = explanations.of(failure.code, failure.s3_code)
    if failure.s3_code == _NO_SUCH_KEY:
        known = replace(known, why=_WHY_NO_SUCH_KEY)
    other = _REFERENCE.fullmatch(known.what_to_do)
    return replace(known, what_to_do=explanations.of(other[1], "").what_to_do) if other else known
