"""Panels that show one moment: single values, tables, and bars beside names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.patches import Rectangle

from tests.integration.grafana.pictures.charts import GRID, TEXT, Found
from tests.integration.grafana.pictures.units import COLOURS, colour_of, named, text_of
from tests.support.web.dashboards import Panel

DARK = "#111217"
LETTERS = "ABCDEFGHIJKLMN"
Row = dict[str, str | float]


def draw_stat(axis: Any, panel: Panel, found: Found) -> None:
    """One value, large, on the colour of its threshold."""
    field = panel.defaults
    value = found[0][0].points[-1][1] if found[0] else None
    colour = None if value is None else colour_of(value, field)
    axis.set_facecolor(colour or GRID)
    axis.set_axis_off()
    axis.add_patch(Rectangle((0, 0), 1, 1, transform=axis.transAxes, color=colour or GRID))
    text = field["noValue"] if value is None else text_of(value, field)
    axis.text(
        *(0.5, 0.45, text),
        transform=axis.transAxes,
        ha="center",
        va="center",
        fontsize=20,
        fontweight="bold",
        color=DARK if colour else TEXT,
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the label or query that it shows, and its title."""

    field: str
    title: str


def columns_of(panel: Panel) -> list[Column]:
    """The columns that a table shows, in order."""
    (organized,) = (
        each["options"] for each in panel.raw["transformations"] if each["id"] == "organize"
    )
    order, titles = organized["indexByName"], organized["renameByName"]
    shown = [name for name in order if not organized["excludeByName"].get(name)]
    return [Column(name, titles[name]) for name in sorted(shown, key=order.__getitem__)]


def rows_of(panel: Panel, found: Found) -> list[Row]:
    """The rows of all queries, those with the same labels merged, in the order that the panel wants."""
    rows: list[Row] = []
    for number, series in enumerate(found):
        field = f"Value #{LETTERS[number]}" if len(found) > 1 else "Value"
        for each in series:
            labels = {name: text for name, text in each.labels.items() if name != "__name__"}
            same = [
                row for row in rows if all(row.get(k, v) == v for k, v in labels.items()) and row
            ]
            row = same[0] if same else {}
            if not same:
                rows.append(row)
            row |= labels
            row[field] = each.points[-1][1]
    sorting = panel.raw["options"]["sortBy"]
    by = (
        [each.field for each in columns_of(panel) if each.title == sorting[0]["displayName"]]
        if (sorting)
        else []
    )
    return sorted(rows, key=lambda row: -float(row.get(by[0], -1))) if by else rows


def draw_table(axis: Any, panel: Panel, found: Found) -> None:
    """A table, with as many rows as there is room for."""
    axis.set_axis_off()
    columns, rows = columns_of(panel), rows_of(panel, found)
    room = int(panel.raw["gridPos"]["h"] * 1.28 - 1.6)
    widths = [_width(each, rows, panel) for each in columns]
    edges = [sum(widths[:number]) / sum(widths) for number in range(len(widths))]
    height = 1 / (room + 1)
    for column, edge, width in zip(columns, edges, widths, strict=True):
        _cell(axis, edge, 1 - height / 2, column.title, "#6e9fff")
        for number, row in enumerate(rows[:room]):
            top = 1 - height * (number + 1)
            text, colour, is_filled = _content(column, row, panel)
            if is_filled:
                axis.axhspan(
                    top - height * 0.94,
                    top - height * 0.06,
                    edge,
                    edge + 0.96 * width / sum(widths),
                    color=colour,
                )
            _cell(axis, edge, top - height / 2, text, DARK if is_filled else colour)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)


def _width(column: Column, rows: list[Row], panel: Panel) -> int:
    texts = [_content(column, row, panel)[0] for row in rows]
    return max(map(len, [column.title, *texts])) + 2


def _content(column: Column, row: Row, panel: Panel) -> tuple[str, str, bool]:
    """The text of a cell, its colour, and whether that is behind it."""
    special, value = panel.overrides(column.title), row.get(column.field)
    if value is None:
        return (panel.defaults["noValue"] if column.field.startswith("Value") else ""), TEXT, False
    if isinstance(value, str):
        texts = [each["options"].get(value) for each in special.get("mappings", ())]
        return value, _named_colour(texts[0] if texts else None), False
    field = {**panel.defaults, **special}
    colour = colour_of(value, field)
    is_filled = special.get("custom.cellOptions", {}).get("type") == "color-background"
    return text_of(value, field), colour or TEXT, is_filled and colour is not None


def _named_colour(mapped: dict[str, str] | None) -> str:
    return COLOURS[mapped["color"]] if mapped else TEXT


def _cell(axis: Any, left: float, middle: float, text: str, colour: str) -> None:
    axis.text(left + 0.006, middle, text, fontsize=7.5, color=colour, va="center", clip_on=True)


def draw_bars(axis: Any, panel: Panel, found: Found) -> None:
    """A bar beside each name, the longest first."""
    pairs = [
        (named(query.legend, each.labels), each.points[-1][1])
        for query, series in zip(panel.queries, found, strict=True)
        for each in series
    ]
    pairs.sort(key=lambda pair: pair[1])
    names, values = [name for name, _ in pairs], [value for _, value in pairs]
    colours = [colour_of(value, panel.defaults) for value in values]
    bars = axis.barh(names, values, color=colours, height=0.7)
    labels = [text_of(value, panel.defaults) for value in values]
    axis.bar_label(bars, labels, padding=4, fontsize=7, color=TEXT)
    axis.margins(x=0.18)
    axis.set_xticks([])
    axis.tick_params(axis="y", labelsize=7)
