"""The verdict of the soak test: whether memory and open files of the children grew in the last half of the time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from tests.soak.report import Report, Sample, Trend, trend


def make_report(
    minutes: float,
    memory: Callable[[float], float],
    *,
    noise: float = 0.0,
    files: Callable[[float], int] = lambda _: 30,
) -> Report:
    """Return the report of one child with a sample at least every 3 seconds; ``memory``: MB by minute."""
    randomness = random.Random("soak")
    result = Report(minutes * 60)
    interval = min(3.0, result.seconds / 60)
    for number in range(1, int(result.seconds / interval)):
        minute = number * interval / 60
        size = memory(minute) + randomness.uniform(-noise, noise)
        result.samples.append(Sample(minute * 60, 1, size, files(minute), 16))
    return result


def level_off(minute: float) -> float:
    return 45 - 10 * math.exp(-minute / 4)


def grow_steadily(minute: float) -> float:
    return 37.9 + 0.3 * minute


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_steady_growth_is_reported(noise: float) -> None:
    """From 37.9 to 46.9 MB in half an hour."""
    result = make_report(30, grow_steadily, noise=noise)
    (complaint,) = result.growth(since=10)
    assert "the memory of the child 1: +0.3" in complaint and "grows" in complaint


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_memory_that_levels_off_is_flat(noise: float) -> None:
    result = make_report(30, level_off, noise=noise)
    assert result.growth(since=10) == []
    assert result.memory(1).verdict == "flat"


def test_shrinking_memory_is_flat() -> None:
    assert make_report(30, lambda minute: 60 - minute, noise=0.5).memory(1).verdict == "flat"


def test_a_slow_leak_in_a_short_time_has_no_verdict() -> None:
    result = make_report(3, grow_steadily, noise=1.5)
    assert result.growth(since=10) == []
    assert result.memory(1).verdict == "cannot be told in so short a time"


def test_growth_at_the_begin_of_a_short_soak_is_not_a_leak() -> None:
    """From 34.7 to 35.5 MB in three minutes, and not more than 36.9 MB in a quarter of an hour."""
    result = make_report(3, lambda minute: 37 - 2.6 * math.exp(-minute / 5), noise=0.05)
    assert result.growth(since=10) == []
    assert result.memory(1).verdict == "cannot be told in so short a time"


def test_a_fast_leak_is_reported_in_a_short_time() -> None:
    assert len(make_report(3, lambda minute: 40 + 10 * minute, noise=1.5).growth(since=10)) == 1


def test_a_single_step_is_not_growth() -> None:
    """A child may need more memory once, for example for many large responses at a time."""
    assert make_report(30, lambda minute: 40 if minute < 20 else 40.4, noise=0.5).growth(since=10) == []


def test_growing_open_files_are_reported() -> None:
    result = make_report(30, lambda _: 40, files=lambda minute: 30 + int(3 * minute))
    assert "open files" in result.growth(since=10)[0]


def test_a_child_that_ends_early_is_reported() -> None:
    result = make_report(30, lambda _: 40)
    result.samples = [one for one in result.samples if one.at < 1200]
    assert result.growth(since=10) == ["the child 1 did not live to the end, or began late"]
    assert result.memories() == {}


def test_a_child_that_ends_at_the_reload_is_ignored() -> None:
    result = make_report(30, lambda _: 40)
    result.samples += [Sample(at, 2, 10 * at, 30, 16) for at in range(9)]
    assert result.growth(since=10) == []


@pytest.mark.parametrize("points", [[], [(1.0, 40.0)], [(1.0, 40.0), (2.0, 50.0)]])
def test_too_few_points_have_no_verdict(points: list[tuple[float, float]]) -> None:
    assert trend(points, 15).verdict == "cannot be told in so short a time"


def test_the_slope_of_a_line_is_exact() -> None:
    slope, margin, _ = trend([(minute, 40 + 0.25 * minute) for minute in range(8)], 15)
    assert slope == pytest.approx(0.25) and margin == pytest.approx(0)
    assert str(Trend(0.25, 0.01, 15)) == "+0.25 MB a minute, give or take 0.01: grows"
