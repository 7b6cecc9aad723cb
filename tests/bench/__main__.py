"""A benchmark of the gateway and ``<Proxy>``, compared with other proxies for the same bucket on this machine.

    python -m tests.bench                                                       # half an hour
    python -m tests.bench --only throughput --rows "1 KB" --columns gateway,unsigned
    python -m tests.bench --plot build/bench/results.json                       # only draw the chart

tests/bench/install.sh installs what it needs. The exit status is 1 if any response was wrong; a missed goal does not
change it.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from tests.bench import buckets, columns, connections, goals, machine, memory, micro, nginx, report, rows, throughput
from tests.bench.bucket import SCHEMES, Bucket
from tests.bench.plot import plot
from tests.bench.results import Results
from tests.bench.server import BenchError
from tests.httpd.machine import HttpdError

PARTS = ("throughput", "connections", "buckets", "memory", "micro")
_QUICK_ROWS = ("1 KB x 16", "64 KB x 16", "1 MB x 16", rows.STREAM)
_QUICK_BUCKETS, _QUICK_CONNECTIONS = (1, 1_000), (1, 64)


def main() -> int:
    """Measure, print, write; returns the exit status."""
    arguments = _parse_arguments()
    return _draw(arguments.plot) if arguments.plot else _run(arguments)


def _draw(path: Path) -> int:
    plot(Results.load(path), path.with_suffix(".svg"))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # stop everything that was started
    results = Results({
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "machine": machine.machine(),
        "versions": machine.versions(),
    })  # fmt: skip
    try:
        with nginx.static_bucket() as bucket:
            columns.verify_signature_required(bucket)
            _measure(arguments, bucket, results)
    except (BenchError, HttpdError) as error:  # keep the results so far
        results.errors.append(f"the benchmark stopped: {error}")
    results.goals = [asdict(goal) for goal in goals.evaluate(results)]
    print(report.report(results))
    arguments.out.mkdir(parents=True, exist_ok=True)
    results.save(arguments.out / "results.json")
    if results.throughput:
        plot(results, arguments.out / "results.svg")
    _say(f"written to {arguments.out}/results.*")
    return 1 if results.errors else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, help="number of rounds (5)")
    parser.add_argument("--seconds", type=float, help="seconds per measurement (1)")
    parser.add_argument("--quick", action="store_true", help="fewer rows, one round of half a second")
    parser.add_argument("--only", type=_list, default=PARTS, help=f"some of {','.join(PARTS)}")
    parser.add_argument("--rows", type=_list, help='only rows with these words, such as "1 KB x 16,ranges"')
    parser.add_argument("--columns", type=_list, help="only columns with these words, such as gateway,unsigned")
    parser.add_argument("--schemes", type=_list, default=SCHEMES, help="http, https")
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench"), help="the folder for results.json and results.svg"
    )
    parser.add_argument("--plot", type=Path, metavar="RESULTS.JSON", help="only draw the chart of these results")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(PARTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}")
    if unknown := set(arguments.schemes) - set(SCHEMES):
        parser.error(f"--schemes: {', '.join(sorted(unknown))}")
    if (arguments.plot or "throughput" in arguments.only) and find_spec("matplotlib") is None:
        parser.error("matplotlib, which draws the chart, is not installed: run tests/bench/install.sh")
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    arguments.seconds = arguments.seconds or (0.5 if arguments.quick else 1.0)
    return arguments


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _has(name: str, parts: Iterable[str] | None) -> bool:
    """Whether one of the parts is in the name, at the beginning of a word: "6 MB" is not in "256 MB"."""
    return parts is None or any(re.search(rf"(?<!\w){re.escape(part)}", name) for part in parts)


def _measure(arguments: argparse.Namespace, bucket: Bucket, results: Results) -> None:
    if "throughput" in arguments.only:
        _throughput(arguments, bucket, results)
    if {"connections", "memory"} & set(arguments.only):
        with columns.separate_servers(bucket) as servers:
            if "memory" in arguments.only:
                _say("memory: idle and after load")
                results.memory = [asdict(use) for use in memory.measure(servers, arguments.seconds)]
            if "connections" in arguments.only:
                _connections(arguments, servers, results)
    if "memory" in arguments.only:
        _say(f"memory: {memory.STREAMS} slow streams")
        results.streams = [
            asdict(streams) | {"per_stream": streams.per_stream} for streams in memory.measure_streams(bucket)
        ]
    if "buckets" in arguments.only:
        _buckets(arguments, bucket, results)
    if "micro" in arguments.only:
        _say("micro-benchmarks")
        results.micro = [
            asdict(timing) | {"ratio": timing.ratio} for timing in micro.measure_installed(arguments.quick)
        ]


def _throughput(arguments: argparse.Namespace, bucket: Bucket, results: Results) -> None:
    selected_rows = [
        row
        for row in rows.rows(arguments.schemes)
        if _has(row.name, arguments.rows or (_QUICK_ROWS if arguments.quick else None))
    ]
    with columns.columns(bucket) as (compared, httpd):
        selected = [column for column in compared if _has(column.name, arguments.columns)]
        if not selected or not selected_rows:
            raise BenchError("no row or no column matches")
        for column in selected:
            columns.verify(column, bucket)
        _say("checked: each column serves each object")
        for row, cells in throughput.measure(selected_rows, selected, bucket.ca, arguments.rounds, arguments.seconds):
            for cell in cells:
                results.throughput.append(cell.record())
                if cell.is_failed:
                    results.errors.append(f"{cell.column}, {row.name}, {row.scheme}: some requests failed")
            speeds = (f"{cell.column} {report.speed(cell.record())}" for cell in cells)
            _say(f"{row.name}, {row.scheme}: {', '.join(speeds)}")
        results.errors += [f"in httpd's error log: {line}" for line in httpd.errors()[:5]]


def _connections(arguments: argparse.Namespace, servers: list[columns.Column], results: Results) -> None:
    counts = _QUICK_CONNECTIONS if arguments.quick else connections.COUNTS
    for measured in connections.measure(servers, arguments.rounds, arguments.seconds, counts):
        _say(f"{measured[0].connections} connections, {measured[0].size}")
        results.connections += [asdict(one) for one in measured]
        results.errors += [
            f"{one.column}, {one.size}, {one.connections} connections: {one.failures} requests failed"
            for one in measured
            if one.failures
        ]


def _buckets(arguments: argparse.Namespace, bucket: Bucket, results: Results) -> None:
    counts = _QUICK_BUCKETS if arguments.quick else buckets.COUNTS
    for measured in buckets.measure(bucket, arguments.rounds, arguments.seconds, counts):
        _say(f"{measured.buckets:,} buckets, {measured.way}: {measured.speed:,.0f}/s")
        results.buckets.append(asdict(measured) | {"speed": measured.speed})
        if measured.failures:
            results.errors.append(f"{measured.way}, {measured.buckets} buckets: {measured.failures} requests failed")


def _say(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
