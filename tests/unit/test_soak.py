"""The verdict of the soak: what the children held in the last half of the time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from tests.soak.report import Report, Sample, Trend, trend


def report(
    minutes: float, held: Callable[[float], float], *, noise: float = 0.0, files: Callable[[float], int] = lambda _: 30
) -> Report:
    """A soak of one child, sampled each 3 seconds at most; ``held``: MB by minute."""
    chance = random.Random("soak")
    soaked = Report(minutes * 60)
    pause = min(3.0, soaked.seconds / 60)
    for number in range(1, int(soaked.seconds / pause)):
        minute = number * pause / 60
        size = held(minute) + chance.uniform(-noise, noise)
        soaked.samples.append(Sample(minute * 60, 1, size, files(minute), 16))
    return soaked


def levelling_off(minute: float) -> float:
    return 45 - 10 * math.exp(-minute / 4)


def steady(minute: float) -> float:
    return 37.9 + 0.3 * minute


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_what_grows_to_the_end_is_told_whatever_its_share(noise: float) -> None:
    """37.9 to 46.9 MB in half an hour, which was once called flat."""
    soaked = report(30, steady, noise=noise)
    (complaint,) = soaked.growth(since=10)
    assert "the memory of the child 1: +0.3" in complaint and "grows" in complaint


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_what_levels_off_is_flat(noise: float) -> None:
    soaked = report(30, levelling_off, noise=noise)
    assert soaked.growth(since=10) == []
    assert soaked.memory(1).verdict == "flat"


def test_what_shrinks_is_flat() -> None:
    assert report(30, lambda minute: 60 - minute, noise=0.5).memory(1).verdict == "flat"


def test_a_slow_leak_is_not_told_in_a_short_time_nor_called_flat() -> None:
    soaked = report(3, steady, noise=1.5)
    assert soaked.growth(since=10) == []
    assert soaked.memory(1).verdict == "cannot be told in so short a time"


def test_what_a_short_soak_fills_at_its_begin_is_no_leak() -> None:
    """34.7 to 35.5 MB in three minutes, which come to 36.9 in a quarter of an hour."""
    soaked = report(3, lambda minute: 37 - 2.6 * math.exp(-minute / 5), noise=0.05)
    assert soaked.growth(since=10) == []
    assert soaked.memory(1).verdict == "cannot be told in so short a time"


def test_a_fast_leak_is_told_in_a_short_time() -> None:
    assert len(report(3, lambda minute: 40 + 10 * minute, noise=1.5).growth(since=10)) == 1


def test_a_single_leap_is_no_slope() -> None:
    """A child that once holds more, as after a herd of large answers, does not grow for that."""
    assert report(30, lambda minute: 40 if minute < 20 else 40.4, noise=0.5).growth(since=10) == []


def test_open_files_that_grow_are_told() -> None:
    soaked = report(30, lambda _: 40, files=lambda minute: 30 + int(3 * minute))
    assert "open files" in soaked.growth(since=10)[0]


def test_a_child_that_ends_early_is_told() -> None:
    soaked = report(30, lambda _: 40)
    soaked.samples = [one for one in soaked.samples if one.at < 1200]
    assert soaked.growth(since=10) == ["the child 1 did not live to the end, or began late"]
    assert soaked.memories() == {}


def test_the_child_before_the_reload_is_not_judged() -> None:
    soaked = report(30, lambda _: 40)
    soaked.samples += [Sample(at, 2, 10 * at, 30, 16) for at in range(9)]
    assert soaked.growth(since=10) == []


@pytest.mark.parametrize("points", [[], [(1.0, 40.0)], [(1.0, 40.0), (2.0, 50.0)]])
def test_of_too_few_points_nothing_is_told(points: list[tuple[float, float]]) -> None:
    assert trend(points, 15).verdict == "cannot be told in so short a time"


def test_the_slope_of_a_line_is_exact() -> None:
    slope, margin, _ = trend([(minute, 40 + 0.25 * minute) for minute in range(8)], 15)
    assert slope == pytest.approx(0.25) and margin == pytest.approx(0)
    assert str(Trend(0.25, 0.01, 15)) == "+0.25 MB a minute, give or take 0.01: grows"
