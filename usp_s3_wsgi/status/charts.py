"""The small charts of the status page: paths for SVG, and the same figures in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from usp_s3_wsgi.status import words
from usp_s3_wsgi.status.snapshot import Minute

#: Units of a chart from its bottom to its top; each minute is one unit wide. Whole numbers keep the paths short.
HEIGHT = 48
#: A single failure among thousands of exchanges is at least as high as this.
_LEAST = 3


class Chart(NamedTuple):
    """A chart. ``paths``: path data, drawn in this order; empty if there is nothing to draw. ``text``: in words."""

    paths: tuple[str, ...]
    maximum: str
    text: str


class Hour(NamedTuple):
    """The sums of an hour. ``first_byte_seconds``: the mean of all responses, None without one."""

    exchanges: int
    failures: int
    client_errors: int
    body_bytes: int
    first_byte_seconds: float | None


def hour(minutes: Sequence[Minute]) -> Hour:
    """Return the sums of these minutes."""
    timed = [
        (minute.first_byte_seconds, minute.exchanges) for minute in minutes if minute.first_byte_seconds is not None
    ]
    weight = sum(exchanges for _, exchanges in timed)
    return Hour(
        sum(minute.exchanges for minute in minutes),
        sum(minute.failures for minute in minutes),
        sum(minute.client_errors for minute in minutes),
        sum(minute.body_bytes for minute in minutes),
        sum(seconds * exchanges for seconds, exchanges in timed) / weight if weight else None,
    )


def exchanges(minutes: Sequence[Minute]) -> Chart:
    """Return the exchanges of each minute: all of them, then client errors on top of failures, then failures."""
    total, most = hour(minutes), max((minute.exchanges for minute in minutes), default=0)
    if not total.exchanges:
        return Chart((), "0", "No exchanges in the last hour.")
    layers: tuple[Callable[[Minute], int], ...] = (
        lambda minute: minute.exchanges,
        lambda minute: minute.failures + minute.client_errors if minute.client_errors else 0,
        lambda minute: minute.failures,
    )
    paths = tuple(_area([_height(layer(minute), most) for minute in minutes]) for layer in layers)
    return Chart(paths, f"{words.number(most)}/min", _exchanges_in_words(minutes, total, most))


def _exchanges_in_words(minutes: Sequence[Minute], total: Hour, most: int) -> str:
    busiest = next(minute for minute in minutes if minute.exchanges == most)
    text = (
        f"{words.count(total.exchanges, 'exchange', 'exchanges')} in the last hour: "
        f"{words.number(total.failures)} failed, {words.count(total.client_errors, 'client error', 'client errors')}. "
        f"At most {words.number(most)} in a minute, at {words.minute(busiest.start)}."
    )
    failed = [minute for minute in minutes if minute.failures]
    if failed:
        first, last = words.minute(failed[0].start), words.minute(failed[-1].start)
        text += f" Failures at {first}." if first == last else f" Failures from {first.removesuffix(' UTC')} to {last}."
    return text


def first_byte(minutes: Sequence[Minute]) -> Chart:
    """Return the mean time until S3's response of each minute, with gaps where there was none."""
    times = [minute.first_byte_seconds for minute in minutes]
    known = [seconds for seconds in times if seconds is not None]
    mean = hour(minutes).first_byte_seconds
    if not known or mean is None:
        return Chart((), "", "No responses in the last hour.")
    slowest = max(known)
    at = next(minute for minute in minutes if minute.first_byte_seconds == slowest)
    latest = known[-1]
    text = (
        f"First byte in the last hour: {words.duration(mean)} on average, {words.duration(latest)} at last, "
        f"at most {words.duration(slowest)} on average of a minute, at {words.minute(at.start)}."
    )
    heights = [None if seconds is None else _height(seconds, slowest) for seconds in times]
    return Chart((_line(heights),), words.duration(slowest), text)


def _height(value: float, most: float) -> int:
    return max(_LEAST, round(HEIGHT * value / most)) if value > 0 and most > 0 else 0


def _area(heights: Sequence[int]) -> str:
    """The path around the area between the bottom and these heights; empty if all are 0."""
    if not any(heights):
        return ""
    return f"M0 {HEIGHT}{_steps(heights)}V{HEIGHT}z"


def _line(heights: Sequence[int | None]) -> str:
    """The path of a line through these heights, with a gap where there is none."""
    path, begin = "", 0
    while begin < len(heights):
        end = begin
        run: list[int] = []
        while end < len(heights) and (height := heights[end]) is not None:
            run.append(height)
            end += 1
        if run:
            path += f"M{begin} {HEIGHT - run[0]}{_steps(run)}"
        begin = end + 1
    return path


def _steps(heights: Sequence[int]) -> str:
    """A step for each height, equal ones in one."""
    path, width = "", 0
    for height, following in zip(heights, [*heights[1:], None], strict=True):
        width += 1
        if height != following:
            path += f"V{HEIGHT - height}h{width}"
            width = 0
    return path
