"""A benchmark of both ways in, beside other proxies before the same bucket on this machine.

    python -m tests.bench                                                       # half an hour
    python -m tests.bench --only throughput --rows "1 KB" --columns gateway,unsigned
    python -m tests.bench --plot build/bench/results.json                       # draw the picture anew

tests/bench/install.sh installs what it needs. The exit status is 1 if any answer was wrong; a goal that is not reached
does not count as that.
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
    chosen = _options()
    return _drawn(chosen.plot) if chosen.plot else _measured(chosen)


def _drawn(path: Path) -> int:
    plot(Results.load(path), path.with_suffix(".svg"))
    return 0


def _measured(chosen: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that everything started here is stopped
    results = Results({
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "machine": machine.machine(),
        "versions": machine.versions(),
    })  # fmt: skip
    try:
        with nginx.stand_in() as bucket:
            columns.check_refusal(bucket)
            _measure(chosen, bucket, results)
    except (BenchError, HttpdError) as error:  # what was measured until then is not lost
        results.complaints.append(f"the benchmark stopped: {error}")
    results.goals = [asdict(judged) for judged in goals.judge(results)]
    print(report.report(results))
    chosen.out.mkdir(parents=True, exist_ok=True)
    results.save(chosen.out / "results.json")
    if results.throughput:
        plot(results, chosen.out / "results.svg")
    _say(f"written: {chosen.out}/results.*")
    return 1 if results.complaints else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, help="how often each figure is measured (5)")
    parser.add_argument("--seconds", type=float, help="for how long each time (1)")
    parser.add_argument("--quick", action="store_true", help="fewer rows, one round of half a second: to try it")
    parser.add_argument("--only", type=_list, default=PARTS, help=f"some of {','.join(PARTS)}")
    parser.add_argument("--rows", type=_list, help='rows whose names have these, such as "1 KB x 16,ranges"')
    parser.add_argument("--columns", type=_list, help="columns whose names have these, such as gateway,unsigned")
    parser.add_argument("--schemes", type=_list, default=SCHEMES, help="http, https")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="the folder for results.json and .svg")
    parser.add_argument("--plot", type=Path, metavar="RESULTS.JSON", help="measure nothing: draw the picture of these")
    chosen = parser.parse_args()
    if unknown := set(chosen.only) - set(PARTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}")
    if unknown := set(chosen.schemes) - set(SCHEMES):
        parser.error(f"--schemes: {', '.join(sorted(unknown))}")
    if (chosen.plot or "throughput" in chosen.only) and find_spec("matplotlib") is None:
        parser.error("the picture is drawn by matplotlib, which is not installed: tests/bench/install.sh does so")
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 5)
    chosen.seconds = chosen.seconds or (0.5 if chosen.quick else 1.0)
    return chosen


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _has(name: str, parts: Iterable[str] | None) -> bool:
    """Whether a name has one of these at the beginning of a word: "6 MB" is not in "256 MB"."""
    return parts is None or any(re.search(rf"(?<!\w){re.escape(part)}", name) for part in parts)


def _measure(chosen: argparse.Namespace, bucket: Bucket, results: Results) -> None:
    if "throughput" in chosen.only:
        _throughput(chosen, bucket, results)
    if {"connections", "memory"} & set(chosen.only):
        with columns.alone(bucket) as servers:
            if "memory" in chosen.only:
                _say("memory: idle and after load")
                results.memory = [asdict(held) for held in memory.measure(servers, chosen.seconds)]
            if "connections" in chosen.only:
                _connections(chosen, servers, results)
    if "memory" in chosen.only:
        _say(f"memory: {memory.STREAMS} slow streams")
        results.streams = [asdict(streams) | {"each": streams.each} for streams in memory.measure_streams(bucket)]
    if "buckets" in chosen.only:
        _buckets(chosen, bucket, results)
    if "micro" in chosen.only:
        _say("single steps")
        results.micro = [asdict(timing) | {"ratio": timing.ratio} for timing in micro.measure_installed(chosen.quick)]


def _throughput(chosen: argparse.Namespace, bucket: Bucket, results: Results) -> None:
    wanted_rows = [
        row
        for row in rows.rows(chosen.schemes)
        if _has(row.name, chosen.rows or (_QUICK_ROWS if chosen.quick else None))
    ]
    with columns.columns(bucket) as (compared, httpd):
        wanted = [column for column in compared if _has(column.name, chosen.columns)]
        if not wanted or not wanted_rows:
            raise BenchError("no row or no column has such a name")
        for column in wanted:
            columns.check(column, bucket)
        _say("each column brings each object")
        for row, cells in throughput.measure(wanted_rows, wanted, bucket.ca, chosen.rounds, chosen.seconds):
            for cell in cells:
                results.throughput.append(cell.record())
                if cell.is_failed:
                    results.complaints.append(
                        f"{cell.column}, {row.name}, {row.scheme}: not all requests were answered"
                    )
            speeds = (f"{cell.column} {report.speed(cell.record())}" for cell in cells)
            _say(f"{row.name}, {row.scheme}: {', '.join(speeds)}")
        results.complaints += [f"in httpd's error log: {line}" for line in httpd.errors()[:5]]


def _connections(chosen: argparse.Namespace, servers: list[columns.Column], results: Results) -> None:
    counts = _QUICK_CONNECTIONS if chosen.quick else connections.COUNTS
    for crowds in connections.measure(servers, chosen.rounds, chosen.seconds, counts):
        _say(f"{crowds[0].connections} connections, {crowds[0].size}")
        results.connections += [asdict(crowd) for crowd in crowds]
        results.complaints += [
            f"{crowd.column}, {crowd.size}, {crowd.connections} connections: {crowd.failures} requests failed"
            for crowd in crowds
            if crowd.failures
        ]


def _buckets(chosen: argparse.Namespace, bucket: Bucket, results: Results) -> None:
    counts = _QUICK_BUCKETS if chosen.quick else buckets.COUNTS
    for growth in buckets.measure(bucket, chosen.rounds, chosen.seconds, counts):
        _say(f"{growth.buckets:,} buckets, {growth.way}: {growth.speed:,.0f}/s")
        results.buckets.append(asdict(growth) | {"speed": growth.speed})
        if growth.failures:
            results.complaints.append(f"{growth.way}, {growth.buckets} buckets: {growth.failures} requests failed")


def _say(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
