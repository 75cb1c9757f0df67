"""Panels with a time axis: lines, stacks and bars, heat maps, and states over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tests.integration.grafana.pictures.units import (
    COLOURS,
    PALETTE,
    colour_of,
    named,
    number,
    ticks,
)
from tests.support.web.dashboards import Panel
from tests.support.web.prometheus import Series

GRID, TEXT = "#2c3235", "#ccccdc"
Found = list[list[Series]]


@dataclass(frozen=True, slots=True)
class Line:
    """A series of a chart, with what is special about it."""

    name: str
    points: list[tuple[float, float]]
    colour: str
    is_dashed: bool


def lines_of(panel: Panel, found: Found) -> list[Line]:
    """All series of a panel in the order of its queries."""
    made: list[Line] = []
    for query, series in zip(panel.queries, found, strict=True):
        for each in sorted(series, key=lambda one: named(query.legend, one.labels)):
            name = named(query.legend, each.labels)
            special = panel.overrides(name)
            fixed = special.get("color", {}).get("fixedColor")
            sign = -1 if special.get("custom.transform") == "negative-Y" else 1
            made.append(
                Line(
                    name or "all pools",
                    [(time, sign * value) for time, value in each.points],
                    COLOURS[fixed] if fixed else PALETTE[len(made) % len(PALETTE)],
                    "custom.lineStyle" in special,
                )
            )
    return made


def draw_lines(axis: Any, panel: Panel, found: Found, step: float) -> list[tuple[str, str]]:
    """Draw a time series panel; its legend as names and colours."""
    custom = panel.defaults["custom"]
    is_stacked = custom["stacking"]["mode"] == "normal"
    lines = lines_of(panel, found)
    below: dict[tuple[int, bool], float] = {}
    for line in lines:
        values = {round(time / step): value for time, value in line.points}
        # Where there is nothing, the line is interrupted, as Grafana does it.
        slots = range(min(values), max(values) + 1)
        times = [slot * step for slot in slots]
        heights = [values.get(slot, math.nan) for slot in slots]
        if line.is_dashed or not (is_stacked or custom["drawStyle"] == "bars"):
            style = (0, (5, 3)) if line.is_dashed else "-"
            axis.plot(times, heights, color=line.colour, linewidth=1.4, linestyle=style)
            continue
        under = [
            below.get((slot, height < 0), 0.0) for slot, height in zip(slots, heights, strict=True)
        ]
        above = [low + height for low, height in zip(under, heights, strict=True)]
        if custom["drawStyle"] == "bars":
            axis.bar(times, heights, 0.8 * step, bottom=under, color=line.colour, linewidth=0)
        else:
            axis.fill_between(times, under, above, color=line.colour, alpha=0.35, linewidth=0)
            axis.plot(times, above, color=line.colour, linewidth=1)
        for slot, height, top in zip(slots, heights, above, strict=True):
            if not math.isnan(height):
                below[slot, height < 0] = top
    _limit(axis, panel)
    _scale(axis, panel)
    return [(line.name, line.colour) for line in lines]


def _limit(axis: Any, panel: Panel) -> None:
    """The dashed line of a threshold, if values come near it."""
    steps = panel.defaults.get("thresholds", {}).get("steps", [])
    if panel.defaults["custom"]["thresholdsStyle"]["mode"] == "dashed" and steps:
        limit = steps[-1]["value"]
        if axis.get_ylim()[1] > limit / 4:
            axis.axhline(limit, color=COLOURS["red"], linewidth=1, linestyle=(0, (5, 3)))


def _scale(axis: Any, panel: Panel) -> None:
    low, high = axis.get_ylim()
    low, unit = panel.defaults.get("min", low), panel.defaults["unit"]
    high = panel.defaults.get("max") or (high if high > 0.06 or unit == "s" else 1)
    axis.set_ylim(low, high)
    marks = ticks(low, high, unit)
    axis.set_yticks(marks, [number(each, unit) for each in marks])
    axis.set_axisbelow(True)
    axis.grid(color=GRID, linewidth=0.6)


def draw_heat(axis: Any, panel: Panel, found: Found, step: float) -> list[tuple[str, str]]:
    """Draw a histogram over time: the darker, the more."""
    ends = sorted(found[0], key=lambda each: float(each.labels["le"]))
    times = sorted({round(time / step) * step for each in ends for time, _ in each.points})
    below = dict.fromkeys(times, 0.0)
    rows: list[list[float]] = []
    for each in ends:
        total = {round(time / step) * step: value for time, value in each.points}
        rows.append([max(0.0, total.get(time, 0.0) - below[time]) ** 0.5 for time in times])
        below |= total
    axis.pcolormesh(
        [*(time - step / 2 for time in times), times[-1] + step / 2],
        range(len(rows) + 1),
        [[cell or float("nan") for cell in row] for row in rows],
        cmap="YlOrRd",
    )
    names = [each.labels["le"] for each in ends]
    texts = [name if name == "+Inf" else number(float(name), "s") for name in names]
    axis.set_yticks(range(1, len(rows) + 1), texts, fontsize=6)
    return []


def draw_states(axis: Any, panel: Panel, found: Found, step: float) -> list[tuple[str, str]]:
    """Draw a row of coloured spans for each series."""
    rows = [
        (named(query.legend, each.labels), each)
        for query, series in zip(panel.queries, found, strict=True)
        for each in sorted(series, key=lambda one: named(query.legend, one.labels))
    ]
    for row, (_, each) in enumerate(rows):
        colours = [colour_of(value, panel.defaults) or TEXT for _, value in each.points]
        spans = [(time, 1.05 * step) for time, _ in each.points]
        axis.broken_barh(spans, (row + 0.15, 0.7), facecolors=colours, linewidth=0)
    axis.set_yticks([row + 0.5 for row in range(len(rows))], [name for name, _ in rows], fontsize=7)
    axis.set_ylim(len(rows), 0)
    return []
