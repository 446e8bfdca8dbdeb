"""Small charts as inline SVG: no script, no library, colours from the page's style sheet.

Every mark carries a ``<title>``, which browsers show on hover and screen readers read. Lengths are in SVG units; a
panel is as wide as its text is readable at on a phone, and the page puts panels side by side where there is room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 8, 10, 24
_POINTS_WITH_TITLE = 120
"""Points of a curve that can be hovered; more would make the page heavy and could not be hit anyway."""


@dataclass(frozen=True)
class Stack:
    """One layer of a bar chart: its name, its CSS class, and one count a bar."""

    name: str
    css: str
    counts: Sequence[int]


def bars(
    labels: Sequence[str],
    stacks: Sequence[Stack],
    *,
    what: str,
    ticks: Sequence[tuple[float, str]],
    highest: int | None = None,
    apart: Sequence[int] = (),
) -> Markup:
    """Stacked bars. ``labels`` name each bar in its title, ``ticks`` are (bar, text) under the axis;
    a fraction lies between two bars.

    ``highest`` fixes the top of the scale, so that neighbouring panels can be compared; bars in ``apart`` stand a
    little off the others, for values that are special (exactly 0, exactly 1).
    """
    totals = [sum(stack.counts[bar] for stack in stacks) for bar in range(len(labels))]
    scale = nice_ticks(0, max(highest or 0, *totals, 1))
    room = WIDTH - _LEFT - _RIGHT
    gap = 10 if apart else 0
    step = (room - gap * len(apart)) / len(labels)
    width = max(step - 2, 1)

    def left(bar: float) -> float:
        before = sum(1 for special in apart if special < bar or (special == bar and bar > 0))
        return _LEFT + bar * step + gap * before + (step - width) / 2

    vertical = _vertical(scale[0], scale[-1])
    marks = [_grid(scale, vertical, lambda value: f"{value:g}")]
    for bar, label in enumerate(labels):
        base = 0
        for stack in stacks:
            count = stack.counts[bar]
            if count:
                top, bottom = vertical(base + count), vertical(base)
                marks.append(
                    Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>').format(
                        stack.css, left(bar), top, width, max(bottom - top, 0.5)
                    )
                    + escape(f"{label}: {count} {stack.name}")
                    + Markup("</title></rect>")
                )
            base += count
    marks += [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            left(bar) + width / 2, HEIGHT - 7, text
        )
        for bar, text in ticks
    ]
    return _svg(what, marks)


def curve(
    points: Sequence[tuple[float, float]],
    *,
    what: str,
    show: Callable[[float], str],
    bounds: tuple[float, float] | None = None,
    css: str = "line-tuned",
) -> Markup:
    """One figure over the training steps: the raw values thin, their moving average bold.

    ``show`` prints a value in titles and on the axis; ``bounds`` fixes the scale where it is known (shares: 0 to 1).
    """
    if not points:
        return Markup("")
    values = [value for _, value in points]
    low, high = bounds or (min(0.0, *values), max(values))
    scale = nice_ticks(low, high)
    vertical = _vertical(scale[0], scale[-1])
    first, last = points[0][0], points[-1][0]
    span = (last - first) or 1.0

    def horizontal(step: float) -> float:
        return _LEFT + 4 + (step - first) / span * (WIDTH - _LEFT - _RIGHT - 8)

    marks = [_grid(scale, vertical, show)]
    averaged = list(zip([step for step, _ in points], smoothed(values), strict=True))
    for name, line in (("raw", points), ("smooth", averaged)):
        coordinates = " ".join(f"{horizontal(step):.1f},{vertical(value):.1f}" for step, value in line)
        marks.append(Markup('<polyline class="{} {}" points="{}"/>').format(css, name, coordinates))
    every = math.ceil(len(points) / _POINTS_WITH_TITLE)
    marks += [
        Markup('<circle class="hover" cx="{:.1f}" cy="{:.1f}" r="5"><title>step {:g}: {}</title></circle>').format(
            horizontal(step), vertical(value), step, show(value)
        )
        for step, value in points[::every]
    ]
    for step, anchor in ((first, "start"), (last, "end")):
        marks.append(
            Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">step {:g}</text>').format(
                horizontal(step), HEIGHT - 7, anchor, step
            )
        )
    return _svg(what, marks)


def smoothed(values: Sequence[float]) -> list[float]:
    """Centred moving average over about a tenth of the values; shorter windows at the ends."""
    reach = max(len(values) // 20, 1)
    return [
        sum(window) / len(window)
        for index in range(len(values))
        for window in [values[max(index - reach, 0) : index + reach + 1]]
    ]


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values (1, 2, 2.5 or 5 times a power of ten) from at or below ``low`` to at or above ``high``."""
    high = high if high > low else low + (abs(low) or 1.0)
    span = high - low
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    start = math.floor(low / step + 1e-9)
    stop = max(math.ceil(high / step - 1e-9), start + 1)
    return [round(index * step, 12) for index in range(start, stop + 1)]


def binned(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """How many values lie in each [edge, next edge); the last bin holds its upper edge too."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        for index in range(len(counts)):
            upper = edges[index + 1]
            if edges[index] <= value < upper or (index == len(counts) - 1 and value == upper):
                counts[index] += 1
                break
    return counts


def _vertical(low: float, high: float) -> Callable[[float], float]:
    return lambda value: HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


def _grid(scale: Sequence[float], vertical: Callable[[float], float], show: Callable[[float], str]) -> Markup:
    lines = Markup("")
    for value in scale:
        lines += Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            _LEFT, WIDTH - _RIGHT, vertical(value), vertical(value)
        )
        lines += Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            _LEFT - 6, vertical(value) + 3.5, show(value)
        )
    return lines


def _svg(what: str, marks: Sequence[Markup]) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, what, Markup("").join(marks)
    )
