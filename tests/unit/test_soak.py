"""The verdict of the soak on the children's memory and open files."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from tests.soak.report import Report, Sample, Trend, trend


def report(
    minutes: float, size: Callable[[float], float], *, noise: float = 0.0, files: Callable[[float], int] = lambda _: 30
) -> Report:
    """A report on one child, sampled at least every 3 seconds; ``size``: its MB at a minute."""
    rng = random.Random("soak")
    soaked = Report(minutes * 60)
    interval = min(3.0, soaked.seconds / 60)
    for number in range(1, int(soaked.seconds / interval)):
        minute = number * interval / 60
        resident = size(minute) + rng.uniform(-noise, noise)
        soaked.samples.append(Sample(minute * 60, 1, resident, files(minute), 16))
    return soaked


def levelling_off(minute: float) -> float:
    return 45 - 10 * math.exp(-minute / 4)


def steady(minute: float) -> float:
    return 37.9 + 0.3 * minute


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_steady_growth_is_reported(noise: float) -> None:
    """37.9 to 46.9 MB in half an hour, which an earlier version called flat."""
    soaked = report(30, steady, noise=noise)
    (error,) = soaked.growth(since=10)
    assert "the memory of child 1: +0.3" in error and "grows" in error


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_growth_that_levels_off_is_flat(noise: float) -> None:
    soaked = report(30, levelling_off, noise=noise)
    assert soaked.growth(since=10) == []
    assert soaked.memory(1).verdict == "flat"


def test_shrinking_is_flat() -> None:
    assert report(30, lambda minute: 60 - minute, noise=0.5).memory(1).verdict == "flat"


def test_a_slow_leak_in_a_short_soak_is_inconclusive() -> None:
    soaked = report(3, steady, noise=1.5)
    assert soaked.growth(since=10) == []
    assert soaked.memory(1).verdict == "inconclusive: the time was too short"


def test_warm_up_in_a_short_soak_is_not_reported() -> None:
    """34.7 to 35.5 MB in three minutes, and 36.9 after a quarter of an hour."""
    soaked = report(3, lambda minute: 37 - 2.6 * math.exp(-minute / 5), noise=0.05)
    assert soaked.growth(since=10) == []
    assert soaked.memory(1).verdict == "inconclusive: the time was too short"


def test_a_fast_leak_in_a_short_soak_is_reported() -> None:
    assert len(report(3, lambda minute: 40 + 10 * minute, noise=1.5).growth(since=10)) == 1


def test_a_single_step_is_not_growth() -> None:
    """A single step up, as after many large responses at once, is not growth."""
    assert report(30, lambda minute: 40 if minute < 20 else 40.4, noise=0.5).growth(since=10) == []


def test_growing_open_files_are_reported() -> None:
    soaked = report(30, lambda _: 40, files=lambda minute: 30 + int(3 * minute))
    assert "open files" in soaked.growth(since=10)[0]


def test_a_child_that_ends_early_is_reported() -> None:
    soaked = report(30, lambda _: 40)
    soaked.samples = [one for one in soaked.samples if one.at < 1200]
    assert soaked.growth(since=10) == ["child 1 ended early or started late"]
    assert soaked.memories() == {}


def test_a_child_that_ended_before_the_reload_is_ignored() -> None:
    soaked = report(30, lambda _: 40)
    soaked.samples += [Sample(at, 2, 10 * at, 30, 16) for at in range(9)]
    assert soaked.growth(since=10) == []


@pytest.mark.parametrize("points", [[], [(1.0, 40.0)], [(1.0, 40.0), (2.0, 50.0)]])
def test_too_few_points_are_inconclusive(points: list[tuple[float, float]]) -> None:
    assert trend(points, 15).verdict == "inconclusive: the time was too short"


def test_the_slope_of_a_line_is_exact() -> None:
    slope, margin, _ = trend([(minute, 40 + 0.25 * minute) for minute in range(8)], 15)
    assert slope == pytest.approx(0.25) and margin == pytest.approx(0)
    assert str(Trend(0.25, 0.01, 15)) == "+0.25 ± 0.01 MB per minute: grows"
