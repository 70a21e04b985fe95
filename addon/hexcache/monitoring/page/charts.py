"""Small charts, as numbers for a template to draw: pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH = 600
HEIGHT = 120
_GAP = 0.15


@dataclass(frozen=True)
class Bar:
    """In the units of the drawing, y downwards. `series` counts from 0; `title` is for whoever
    points at it."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


@dataclass(frozen=True)
class Chart:
    """`top` is what the full height means; `summary` says it all in words."""

    bars: tuple[Bar, ...]
    top: str
    begin: str
    end: str
    names: tuple[str, ...]
    summary: str


def stacked(
    points: Sequence[tuple[str, Sequence[float]]],
    *,
    names: Sequence[str],
    unit: Callable[[float], str],
    summary: str,
) -> Chart:
    """Bars on top of each other: `points` are (time, one value for each name), oldest first."""
    highest = max((sum(values) for _, values in points), default=0.0)
    bars: list[Bar] = []
    for index, (time, values) in enumerate(points):
        title = _title(time, names, values, unit)
        base = 0.0
        for series, value in enumerate(values):
            if value > 0:
                bars.append(_bar(index, len(points), base, value, highest, series, title))
                base += value
    return _chart(points, bars, unit(highest), names, summary)


def overlaid(
    points: Sequence[tuple[str, Sequence[float]]],
    *,
    names: Sequence[str],
    unit: Callable[[float], str],
    summary: str,
) -> Chart:
    """Bars in front of each other, the larger behind: to compare."""
    highest = max((max(values) for _, values in points), default=0.0)
    bars: list[Bar] = []
    for index, (time, values) in enumerate(points):
        title = _title(time, names, values, unit)
        for series, value in sorted(enumerate(values), key=lambda item: -item[1]):
            if value > 0:
                bars.append(_bar(index, len(points), 0.0, value, highest, series, title))
    return _chart(points, bars, unit(highest), names, summary)


def _bar(
    index: int, count: int, base: float, value: float, highest: float, series: int, title: str
) -> Bar:
    step = WIDTH / count
    height = max(value / highest * HEIGHT, 1.0)
    y = HEIGHT - base / highest * HEIGHT - height
    return Bar(
        x=round(index * step + step * _GAP / 2, 2),
        y=round(max(y, 0.0), 2),
        width=round(step * (1 - _GAP), 2),
        height=round(height, 2),
        series=series,
        title=title,
    )


def _title(
    time: str, names: Sequence[str], values: Sequence[float], unit: Callable[[float], str]
) -> str:
    parts = (f"{unit(value)} {name}" for name, value in zip(names, values, strict=True))
    return f"{time}: {', '.join(parts)}"


def _chart(
    points: Sequence[tuple[str, Sequence[float]]],
    bars: Sequence[Bar],
    top: str,
    names: Sequence[str],
    summary: str,
) -> Chart:
    begin, end = (points[0][0], points[-1][0]) if points else ("", "")
    return Chart(tuple(bars), top, begin, end, tuple(names), summary)
