"""The results as text: comparisons first, then all figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from textwrap import wrap
from typing import Any

from tests.bench.bucket import MB, SCHEMES
from tests.bench.columns import DIRECT, NAMES, TRAFFIC_SERVER, UNSIGNED
from tests.bench.results import Record, Results

#: The bucket is not a bottleneck if it is so many times as fast as the fastest column.
_BOTTLENECK_RATIO = 1.5
_HEADING = 15


def report(results: Results) -> str:
    """All tables, then goals and errors."""
    return "\n\n".join(part for part in _parts(results) if part)


def _parts(results: Results) -> Iterator[str]:
    yield _about(results)
    for reference in (TRAFFIC_SERVER, UNSIGNED):
        if reference in results.columns():
            yield from _by_column(
                results,
                f"speed relative to {reference} (median of the rounds' ratios)",
                _ratio_to(results, reference),
            )
    yield from _by_column(results, "speed in requests/s, or MB/s for large objects", speed)
    yield from _by_column(results, "latency in ms: median / 99th percentile", _latency)
    yield from _by_column(results, "time to first byte in ms, one request at a time", _median_of("first_byte"))
    yield from _by_column(results, "CPU seconds of the proxy per GB for large objects, or per 1,000 requests", _cpu)
    yield _connections(results.connections)
    yield _buckets(results)
    yield _memory(results.memory)
    yield _streams(results.streams)
    yield _micro(results.micro)
    yield _goals(results.goals)
    yield _bottleneck(results)
    yield _closed_connections(results.throughput)
    yield "\n".join(f"ERROR: {error}" for error in results.errors)


# --- throughput


def speed(cell: Record) -> str:
    """The speed of a cell with its unit."""
    figures = cell["median"]
    if cell["is_large"]:
        return f"{figures['bytes_per_second'] / MB:,.0f} MB/s"
    return f"{figures['requests_per_second']:,.0f}/s"


def _by_column(results: Results, title: str, shown: Callable[[Record], str]) -> Iterator[str]:
    columns = results.columns()
    for scheme in SCHEMES:
        rows = results.rows(scheme)
        if not rows:
            continue
        lines = []
        for row in rows:
            cells = [results.cell(scheme, row, column) for column in columns]
            lines.append([row, *(shown(cell) if cell else "" for cell in cells)])
        yield f"{scheme} to the bucket: {title}\n{_table(['', *columns], lines)}"


def _ratio_to(results: Results, reference: str) -> Callable[[Record], str]:
    return lambda cell: _number(results.ratio(cell["scheme"], cell["row"], cell["column"], reference))


def _latency(cell: Record) -> str:
    figures = cell["median"]
    late = "" if figures["p99"] is None else f" / {figures['p99']:.1f}"
    return f"{figures['p50']:.1f}{late}"


def _cpu(cell: Record) -> str:
    return _number(cell["median"]["cpu_per_gb" if cell["is_large"] else "cpu_per_1000"], 3)


def _median_of(name: str) -> Callable[[Record], str]:
    return lambda cell: _number(cell["median"][name])


def _bottleneck(results: Results) -> str:
    """Say whether the bucket or the client may have been the bottleneck."""
    limits = {}
    for scheme in SCHEMES:
        for row in results.rows(scheme):
            ratios = [results.ratio(scheme, row, DIRECT, column) for column in results.columns() if column != DIRECT]
            known = [ratio for ratio in ratios if ratio is not None]
            if known:
                limits[f"{row}, {scheme}"] = min(known)
    if not limits:
        return ""
    close_rows = [f"{row} ({ratio:.2f})" for row, ratio in limits.items() if ratio < _BOTTLENECK_RATIO]
    if close_rows:
        return (
            "The bucket or the client may have been a bottleneck in these rows, where direct requests were less than "
            f"{_BOTTLENECK_RATIO} times as fast as the fastest column: {'; '.join(close_rows)}."
        )
    return (
        "The bucket was not a bottleneck: in each row direct requests were at least "
        f"{min(limits.values()):.2f} times as fast as the fastest column."
    )


def _closed_connections(cells: list[Record]) -> str:
    """Say how often the server closed an idle connection."""
    figures = [cell["median"] for cell in cells]
    closed, requests = (sum(figure[name] for figure in figures) for name in ("closed", "requests"))
    if not closed:
        return ""
    return (
        f"{closed:,} of {requests:,} requests found a keep-alive connection that httpd had just closed, as the "
        "event MPM does when all threads of a child are busy: clients retry. "
        "httpd's error log would show truncated responses."
    )


# --- other tables


def _about(results: Results) -> str:
    about = results.about
    pairs = {**about["machine"], **about["versions"]}
    return (
        f"Benchmark of usp_s3_wsgi, {about['date']}: {about['rounds']} rounds of {about['seconds']:g} s each\n"
        f"{', '.join(f'{name} {value}' for name, value in pairs.items())}"
    )


def _connections(concurrency: list[Record]) -> str:
    if not concurrency:
        return ""
    lines = [
        [
            result["column"],
            result["size"],
            str(result["connections"]),
            f"{result['requests_per_second']:,.0f}",
            f"{result['bytes_per_second'] / MB:,.0f}",
            _number(result["p99"], 1),
            str(result["memory"]["processes"]),
            _number(result["memory"]["pss"], 1),
            str(result["failures"]),
        ]
        for result in sorted(concurrency, key=lambda result: (result["size"], NAMES.index(result["column"])))
    ]
    titles = [
        "server",
        "object",
        "connections",
        "requests/s",
        "MB/s",
        "p99 ms",
        "processes",
        "MB in total",
        "failures",
    ]
    return f"Number of connections, http to the bucket\n{_table(titles, lines)}"


def _buckets(results: Results) -> str:
    if not results.buckets:
        return ""
    lines = [
        [
            result["way"],
            f"{result['buckets']:,}",
            f"{result['speed']:,.0f}",
            _number(results.bucket_ratio(result["way"], result["buckets"])),
            _number(result["start"]),
            _number(result["child_memory"], 1),
            str(result["failures"]),
        ]
        for result in results.buckets
    ]
    titles = [
        "configured by",
        "buckets",
        "requests/s",
        "relative to one bucket",
        "s to start",
        "private MB per child",
        "failures",
    ]
    return f"Number of buckets, 1 KB x 16, http to the bucket\n{_table(titles, lines)}"


def _memory(servers: list[Record]) -> str:
    if not servers:
        return ""
    lines = [
        [
            one["server"],
            when.replace("_", " "),
            str(one[when]["processes"]),
            *(_number(one[when][name], 1) for name in names),
        ]
        for names in [("pss_each", "private_each", "pss")]
        for one in servers
        for when in ("idle", "after_load")
    ]
    titles = ["server", "", "processes", "MB per process (PSS)", "MB per process (private)", "MB in total (PSS)"]
    return f"Memory, idle and after load\n{_table(titles, lines)}"


def _streams(streams: list[Record]) -> str:
    if not streams:
        return ""
    lines = [
        [
            one["server"],
            str(one["streams"]),
            _number(one["idle"], 1),
            _number(one["peak"], 1),
            _number(one["per_stream"]),
        ]
        for one in streams
    ]
    titles = ["server", "concurrent streams", "MB idle (PSS)", "MB peak (PSS)", "MB per stream"]
    return f"Memory while clients read 256 MB slowly\n{_table(titles, lines)}"


def _micro(timings: list[Record]) -> str:
    if not timings:
        return ""
    lines = [
        [one["step"], _number(one["microseconds"]), _number(one["botocore"], 1), _number(one["ratio"], 1)]
        for one in timings
    ]
    return f"Micro-benchmarks\n{_table(['', 'us', 'botocore: us', 'botocore / ours'], lines)}"


def _goals(goals: list[Record]) -> str:
    measured = [goal for goal in goals if goal["measured"] is not None]
    if not measured:
        return ""
    lines = [
        [goal["text"], goal["limit"], _number(goal["measured"]), "yes" if goal["reached"] else "NO"]
        for goal in measured
    ]
    return f"Goals\n{_table(['', 'goal', 'measured', 'reached'], lines)}"


# --- tables


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _table(titles: Iterable[str], lines: list[list[str]]) -> str:
    """A table whose first column is text; long titles are wrapped."""
    wrapped = [wrap(title, _HEADING) for title in titles]
    height = max(len(title) for title in wrapped)
    heads = [[""] * (height - len(title)) + title for title in wrapped]
    rows: list[list[Any]] = [*map(list, zip(*heads, strict=True)), *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    )
