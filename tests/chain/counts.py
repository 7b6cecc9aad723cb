"""What reaches S3 through each cache, in each of its places: requests and bytes, for many readers at once.

``python -m tests.chain.counts`` prints the table. Another cache is a line in ``STORAGE_CACHES`` or ``SHIELDS`` of
`tests.chain.engines`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.chain.client import at_once, fetch, is_answered
from tests.chain.engines import CDN_SECRET, SHIELDS, STORAGE_CACHES, TRAFFIC_SERVER, Engine
from tests.chain.signing import Bucket, Signing
from tests.s3 import EmbeddedS3

CLIENTS = 200
SEGMENT_SIZE, LARGE_SIZE = 6_000_000, 64 << 20
#: A range of 1 KB, inside of one slice.
START, STOP = 40_000_000, 40_001_024
RANGE = f"bytes={START}-{STOP - 1}"
BUCKET = "bucket"


@dataclass(frozen=True, slots=True)
class Count:
    """What one step cost: requests to S3, bytes of their bodies, and the seconds until the last client had its answer.

    ``wrong``: clients that did not get exactly what they asked for.
    """

    step: str
    requests: int
    size: int
    seconds: float
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A cache in a place ("storage cache", "shield", "none"), with one count for each step."""

    place: str
    engine: str
    way: str
    counts: tuple[Count, ...] = field(default_factory=tuple)


def measure(
    engines: Sequence[tuple[str, Engine]] | None = None, ways: Sequence[str] = ("gateway", "proxy")
) -> Iterator[Row]:
    """Measure each cache in its place (all that are installed, if none are given), and no cache at all."""
    if engines is None:
        engines = [("storage cache", one) for one in (*STORAGE_CACHES, TRAFFIC_SERVER)]
        engines += [("shield", one) for one in (*SHIELDS, TRAFFIC_SERVER)]
    segment, large = os.urandom(1 << 20) * 6, os.urandom(1 << 20) * 64
    segment = segment[:SEGMENT_SIZE]
    with EmbeddedS3(buckets=(BUCKET,)) as s3:
        for way in ways:
            yield _row(s3, "none", None, way, segment, large)
            for place, engine in engines:
                if not engine.program.missing():
                    yield _row(s3, place, engine, way, segment, large)


def _row(s3: EmbeddedS3, place: str, engine: Engine | None, way: str, segment: bytes, large: bytes) -> Row:
    s3.put(BUCKET, "film/segment.m4s", segment)
    s3.put(BUCKET, "film/film.mp4", large)
    with ExitStack() as stack:
        server = Signing(way, Bucket.of(s3), has_storage_cache=place == "storage cache")
        stack.enter_context(server)
        port, headers = server.port, {}
        if engine and place == "storage cache":
            port = stack.enter_context(engine.storage_cache(server)).port
        elif engine:
            port, headers = stack.enter_context(engine.shield(server.port)).port, {"x_cdn_secret": CDN_SECRET}
        mount = "/bucket" if place == "storage cache" else "/media"
        segment_url, large_url = f"{mount}/film/segment.m4s", f"{mount}/film/film.mp4"

        def many(target: str, status: int, expected: bytes, **more: str) -> int:
            answered = at_once(CLIENTS, lambda _: is_answered(port, target, status, expected, **headers, **more))
            return answered.count(False)

        def one(target: str, expected: bytes, method: str = "GET") -> int:
            reply = fetch(port, target, method, **headers)
            return int(not reply.is_complete or reply.status != 200 or reply.body != expected)

        part = large[START:STOP]
        steps: list[tuple[str, Callable[[], int]]] = [
            (f"{CLIENTS} clients, one cold object of 6 MB", lambda: many(segment_url, 200, segment)),
            ("the same again", lambda: many(segment_url, 200, segment)),
            (f"{CLIENTS} clients, one cold range of 1 KB of 64 MB", lambda: many(large_url, 206, part, range=RANGE)),
            ("the same range again", lambda: many(large_url, 206, part, range=RANGE)),
            ("then the whole object", lambda: one(large_url, large)),
            ("HEAD of it", lambda: one(large_url, b"", "HEAD")),
        ]
        return Row(place, engine.name if engine else "none", way, tuple(_count(s3, name, step) for name, step in steps))


def _count(s3: EmbeddedS3, name: str, step: Callable[[], int]) -> Count:
    s3.clear()
    began = time.monotonic()
    wrong = step()
    seconds = time.monotonic() - began
    time.sleep(0.3)  # a cache may still read what it stores
    requests = s3.requests()
    size = sum(entry["length"] for entry in requests if entry["method"] == "GET" and entry["status"] < 300)
    return Count(name, len(requests), size, seconds, wrong)


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown: requests to S3, and MB of their bodies.

    Where the ways in differ, both are shown, in their order.
    """
    steps = [count.step for count in rows[0].counts]
    lines = [f"| place | cache | {' | '.join(steps)} |", "|---" * (2 + len(steps)) + "|"]
    caches: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        caches.setdefault((row.place, row.engine), []).append(row)
    for (place, engine), ways in caches.items():
        cells = [_cell(found) for found in zip(*(row.counts for row in ways), strict=True)]
        lines.append(f"| {place} | {engine} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(counts: Sequence[Count]) -> str:
    requests = " / ".join(dict.fromkeys(str(count.requests) for count in counts))
    sizes = " / ".join(dict.fromkeys(f"{count.size / 1e6:,.1f}" for count in counts))
    wrong = sum(count.wrong for count in counts)
    return f"{requests} ({sizes} MB)" + (f", **{wrong} wrong**" if wrong else "")


def main() -> None:
    """Print the table, and on standard error each row when it is measured."""
    rows = []
    for row in measure():
        rows.append(row)
        seconds = ", ".join(f"{count.seconds:.1f} s" for count in row.counts)
        print(f"{row.place}, {row.engine}, {row.way}: {seconds}", file=sys.stderr)
    print(table(rows))


if __name__ == "__main__":
    main()
