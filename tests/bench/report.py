"""The results as text: what a reader compares first, then all figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from textwrap import wrap
from typing import Any

from tests.bench.bucket import MB, SCHEMES
from tests.bench.columns import DIRECT, NAMES, TRAFFIC_SERVER, UNSIGNED
from tests.bench.results import Record, Results

#: How many times as fast as the fastest column the stand-in must be to be none of the limits.
_AMPLE = 1.5
_HEADING = 15


def report(results: Results) -> str:
    """Everything, the verdict last."""
    return "\n\n".join(part for part in _parts(results) if part)


def _parts(results: Results) -> Iterator[str]:
    yield _about(results)
    for reference in (TRAFFIC_SERVER, UNSIGNED):
        if reference in results.columns():
            yield from _by_column(
                results,
                f"times as fast as {reference}, side by side (median of the rounds' ratios)",
                _ratio_to(results, reference),
            )
    yield from _by_column(results, "speed: requests/s, or MB/s of large objects", speed)
    yield from _by_column(results, "ms until half and until 99 % of the answers are whole", _latency)
    yield from _by_column(results, "ms to the first byte, one request at a time", _median_of("first_byte"))
    yield from _by_column(results, "seconds of the proxy's CPU for 1 GB of large objects, or 1,000 requests", _cpu)
    yield _connections(results.connections)
    yield _buckets(results)
    yield _memory(results.memory)
    yield _streams(results.streams)
    yield _micro(results.micro)
    yield _goals(results.goals)
    yield _bottleneck(results)
    yield _ended(results.throughput)
    yield "\n".join(f"FAILED: {complaint}" for complaint in results.complaints)


# --- throughput


def speed(cell: Record) -> str:
    """What a cell is compared by, with its unit."""
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
    """Say whether the stand-in, or the client, was what was measured."""
    limits = {}
    for scheme in SCHEMES:
        for row in results.rows(scheme):
            ratios = [results.ratio(scheme, row, DIRECT, column) for column in results.columns() if column != DIRECT]
            known = [ratio for ratio in ratios if ratio is not None]
            if known:
                limits[f"{row}, {scheme}"] = min(known)
    if not limits:
        return ""
    near = [f"{row} ({ratio:.2f})" for row, ratio in limits.items() if ratio < _AMPLE]
    if near:
        return (
            "The stand-in bucket, or the client, may have been a bottleneck where it was read directly less than "
            f"{_AMPLE} times as fast as through the fastest column: {'; '.join(near)}."
        )
    return (
        "The stand-in bucket was no bottleneck: read directly it was in each row at least "
        f"{min(limits.values()):.2f} times as fast as through the fastest column."
    )


def _ended(cells: list[Record]) -> str:
    """Say how often a client found its kept connection ended."""
    figures = [cell["median"] for cell in cells]
    ended, requests = (sum(figure[name] for figure in figures) for name in ("ended", "requests"))
    if not ended:
        return ""
    return (
        f"Of {requests:,} requests {ended:,} met a kept connection that httpd had just ended, as its event MPM does "
        "when all threads of a child are at work: a client asks again. Its error log would tell of answers cut short."
    )


# --- the rest


def _about(results: Results) -> str:
    about = results.about
    pairs = {**about["machine"], **about["versions"]}
    return (
        f"Benchmark of usp_s3_wsgi, {about['date']}: {about['rounds']} rounds of {about['seconds']:g} s each\n"
        f"{', '.join(f'{name} {value}' for name, value in pairs.items())}"
    )


def _connections(crowds: list[Record]) -> str:
    if not crowds:
        return ""
    lines = [
        [
            crowd["column"],
            crowd["size"],
            str(crowd["connections"]),
            f"{crowd['requests_per_second']:,.0f}",
            f"{crowd['bytes_per_second'] / MB:,.0f}",
            _number(crowd["p99"], 1),
            str(crowd["memory"]["processes"]),
            _number(crowd["memory"]["pss"], 1),
            str(crowd["failures"]),
        ]
        for crowd in sorted(crowds, key=lambda crowd: (crowd["size"], NAMES.index(crowd["column"])))
    ]
    titles = [
        "server",
        "object",
        "connections",
        "requests/s",
        "MB/s",
        "p99 ms",
        "processes",
        "MB of them all",
        "failures",
    ]
    return f"More connections, http to the bucket\n{_table(titles, lines)}"


def _buckets(results: Results) -> str:
    if not results.buckets:
        return ""
    lines = [
        [
            growth["way"],
            f"{growth['buckets']:,}",
            f"{growth['speed']:,.0f}",
            _number(results.bucket_ratio(growth["way"], growth["buckets"])),
            _number(growth["start"]),
            _number(growth["each"], 1),
            str(growth["failures"]),
        ]
        for growth in results.buckets
    ]
    titles = [
        "configured by",
        "buckets",
        "requests/s",
        "/ one bucket",
        "s to start",
        "private MB of a child",
        "failures",
    ]
    return f"More buckets, 1 KB x 16, http to the bucket\n{_table(titles, lines)}"


def _memory(held: list[Record]) -> str:
    if not held:
        return ""
    lines = [
        [one["server"], when, str(one[when]["processes"]), *(_number(one[when][name], 1) for name in names)]
        for names in [("pss_each", "private_each", "pss")]
        for one in held
        for when in ("idle", "loaded")
    ]
    titles = ["server", "", "processes", "MB of one (PSS)", "MB of one (private)", "MB of all (PSS)"]
    return f"Memory, idle and after load\n{_table(titles, lines)}"


def _streams(streams: list[Record]) -> str:
    if not streams:
        return ""
    lines = [
        [one["server"], str(one["streams"]), _number(one["idle"], 1), _number(one["at_most"], 1), _number(one["each"])]
        for one in streams
    ]
    titles = ["server", "streams at once", "MB idle (PSS)", "MB at most (PSS)", "MB for each"]
    return f"Memory while clients read 256 MB slowly\n{_table(titles, lines)}"


def _micro(timings: list[Record]) -> str:
    if not timings:
        return ""
    lines = [
        [one["step"], _number(one["microseconds"]), _number(one["botocore"], 1), _number(one["ratio"], 1)]
        for one in timings
    ]
    return f"Single steps\n{_table(['', 'us', 'botocore: us', 'times as fast'], lines)}"


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
    """Columns of equal width, the first one of text; titles take as many lines as they need."""
    wrapped = [wrap(title, _HEADING) for title in titles]
    height = max(len(title) for title in wrapped)
    heads = [[""] * (height - len(title)) + title for title in wrapped]
    rows: list[list[Any]] = [*map(list, zip(*heads, strict=True)), *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    )
