"""The performance goals, and whether this run reached them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.bench.buckets import LOCATIONS, MAP, SECTIONS
from tests.bench.columns import DIRECT, GATEWAY, SIGNER, TRAFFIC_SERVER, UNSIGNED
from tests.bench.memory import STREAMS
from tests.bench.micro import SIGN
from tests.bench.results import Results

_MANY = 10_000
_NOISE = 0.95


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that must be at least (or ``at_most``) the limit."""

    text: str
    figure: Callable[[Results], float | None]
    limit: float
    at_most: bool = False
    unit: str = ""


@dataclass(frozen=True, slots=True)
class GoalResult:
    """The result of a goal; ``measured`` None: this run did not measure it."""

    text: str
    limit: str
    measured: float | None
    reached: bool | None


def evaluate(results: Results) -> list[GoalResult]:
    """All goals with the measured figures."""
    return [_evaluate(goal, goal.figure(results)) for goal in _goals()]


def _evaluate(goal: Goal, figure: float | None) -> GoalResult:
    limit = f"{'at most' if goal.at_most else 'at least'} {goal.limit:g}{goal.unit}"
    if figure is None:
        return GoalResult(goal.text, limit, None, None)
    return GoalResult(goal.text, limit, figure, figure <= goal.limit if goal.at_most else figure >= goal.limit)


def _goals() -> Iterator[Goal]:
    yield from _speeds(GATEWAY, TRAFFIC_SERVER, 1.2, "1 MB x 16", "6 MB x 16")
    yield from _speeds(GATEWAY, DIRECT, 0.7, "256 MB x 1")
    yield from _speeds(GATEWAY, UNSIGNED, 1.0, "1 MB x 16", "6 MB x 16", "256 MB x 1", scheme="https")
    yield from _speeds(GATEWAY, TRAFFIC_SERVER, 0.6, "64 KB x 16")
    yield from _speeds(GATEWAY, UNSIGNED, 0.5, "1 KB x 16")
    yield from _speeds(SIGNER, TRAFFIC_SERVER, 1.0, "1 KB x 16", "1 MB x 16", "6 MB x 16")
    yield from _speeds(SIGNER, UNSIGNED, 0.75, "1 KB x 16")
    yield Goal(f"{SIGN}, whole request", lambda results: _step(results, "microseconds"), 5, at_most=True, unit=" us")
    yield Goal(f"{SIGN}, speed relative to botocore", lambda results: _step(results, "ratio"), 15)
    for server in (GATEWAY, SIGNER):
        yield Goal(
            f"{STREAMS} streams of 256 MB, {server}: memory per stream above idle",
            partial(Results.stream_memory, server=server),
            1,
            at_most=True,
            unit=" MB",
        )
    for way in (MAP, LOCATIONS, SECTIONS):
        yield Goal(
            f"{_MANY:,} buckets ({way}) / one bucket: speed ratio",
            partial(Results.bucket_ratio, way=way, number=_MANY),
            _NOISE,
        )


def _speeds(column: str, reference: str, limit: float, *rows: str, scheme: str = "http") -> Iterator[Goal]:
    for row in rows:
        yield Goal(
            f"{column} / {reference}, {row}, {scheme}",
            partial(Results.ratio, scheme=scheme, row=row, column=column, reference=reference),
            limit,
        )


def _step(results: Results, figure: str) -> float | None:
    step = results.step(SIGN)
    return step[figure] if step else None
