"""A dashboard as a picture: its panels where its grid has them, as they were during a run."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from PIL import Image

from tests.integration.grafana.pictures.cells import draw_bars, draw_stat, draw_table
from tests.integration.grafana.pictures.charts import (
    TEXT,
    Found,
    draw_heat,
    draw_lines,
    draw_states,
)
from tests.support.web.dashboards import Dashboard, Panel, filled
from tests.support.web.prometheus import Prometheus

PAGE, PANEL = "#111217", "#181b1f"
# Of a unit of Grafana's grid, in pixels; 24 units are a page's width.
WIDTH, HEIGHT, GAP, DPI = 66, 36, 8, 100
TITLE, LEGEND = 24, 16
STEPS = 160
COLORS = 160
Chart = Callable[[Any, Panel, Found, float], list[tuple[str, str]]]
CHARTS: dict[str, Chart] = {
    "timeseries": draw_lines,
    "heatmap": draw_heat,
    "state-timeline": draw_states,
}
CELLS: dict[str, Callable[[Any, Panel, Found], None]] = {
    "stat": draw_stat,
    "table": draw_table,
    "bargauge": draw_bars,
}


@dataclass(frozen=True, slots=True)
class Shot:
    """What is drawn: from `start` to `end`, in seconds of the epoch, with these values of variables."""

    prometheus: Prometheus
    start: float
    end: float
    values: Mapping[str, str]

    def found(self, panel: Panel, step: float) -> Found:
        """The answers to a panel's queries."""
        asked = [filled(query.expr, self.values) for query in panel.queries]
        if panel.kind in CELLS:
            return [self.prometheus.query(expr, self.end) for expr in asked]
        return [self.prometheus.query_range(expr, self.start, self.end, step) for expr in asked]


class Page:
    """A picture of one dashboard."""

    def __init__(self, dashboard: Dashboard, shot: Shot) -> None:
        self._dashboard, self._shot = dashboard, shot
        rows = [each["gridPos"] for each in dashboard.raw["panels"]]
        self._pixels = (24 * WIDTH, max(each["y"] + each["h"] for each in rows) * HEIGHT + 44)
        size = (self._pixels[0] / DPI, self._pixels[1] / DPI)
        self._figure = pyplot.figure(figsize=size, dpi=DPI, facecolor=PAGE)

    def draw(self, path: Path) -> None:
        """Write it."""
        title = self._dashboard.raw["title"]
        chosen = ", ".join(
            f"{name}: {value}"
            for name, value in self._shot.values.items()
            if name in self._dashboard.variables and value != ".*"
        )
        self._text(10, 22, f"{title}     {chosen}", 13)
        for raw in self._dashboard.raw["panels"]:
            if raw["type"] == "row":
                self._text(12, raw["gridPos"]["y"] * HEIGHT + 44 + 22, f"v  {raw['title']}", 10)
            else:
                self._panel(Panel(raw))
        self._figure.savefig(path, facecolor=PAGE)
        pyplot.close(self._figure)
        with Image.open(path) as image:  # a third of the size, and nobody sees the difference
            image.convert("RGB").quantize(COLORS).save(path, optimize=True)

    def _panel(self, panel: Panel) -> None:
        place = panel.raw["gridPos"]
        left, top = place["x"] * WIDTH + GAP / 2, place["y"] * HEIGHT + 44 + GAP / 2
        width, height = place["w"] * WIDTH - GAP, place["h"] * HEIGHT - GAP
        self._axis(left, top, width, height).set(facecolor=PANEL, xticks=[], yticks=[])
        self._text(left + 8, top + 15, panel.title, 8, weight="bold")
        is_bars = panel.raw.get("interval") is not None
        step = 10.0 if is_bars else (self._shot.end - self._shot.start) / STEPS
        found = self._shot.found(panel, step)
        if panel.kind in CELLS:
            margin = 130 if panel.kind == "bargauge" else 6
            axis = self._axis(left + margin, top + TITLE, width - margin - 6, height - TITLE - 6)
            CELLS[panel.kind](axis, panel, found)
            return
        margin = 150 if panel.kind == "state-timeline" else 50
        axis = self._axis(
            left + margin, top + TITLE, width - margin - 12, height - TITLE - LEGEND * 2 - 16
        )
        names = CHARTS[panel.kind](axis, panel, found, step) if any(found) else []
        if not any(found):
            axis.text(*(0.5, 0.5, "No data"), transform=axis.transAxes, ha="center", color=TEXT)
            axis.set_yticks([])
        self._time_axis(axis)
        self._legend(names, left + 10, top + height - LEGEND * 2 + 6, width - 16)

    def _axis(self, left: float, top: float, width: float, height: float) -> Any:
        wide, high = self._pixels
        place = (left / wide, 1 - (top + height) / high, width / wide, height / high)
        axis = self._figure.add_axes(place, facecolor=PANEL)
        axis.tick_params(colors=TEXT, labelsize=7, length=0)
        for side in axis.spines.values():
            side.set_visible(False)
        return axis

    def _text(self, left: float, middle: float, text: str, size: float, **more: str) -> Any:
        wide, high = self._pixels
        more = {"color": TEXT, **more}
        return self._figure.text(
            left / wide, 1 - middle / high, text, fontsize=size, va="center", **more
        )

    def _time_axis(self, axis: Any) -> None:
        start, end = self._shot.start, self._shot.end
        axis.set_xlim(start, end)
        ticks = [start + (end - start) * each / 4 for each in range(1, 4)]
        clock = [datetime.datetime.fromtimestamp(each, datetime.UTC) for each in ticks]
        axis.set_xticks(ticks, [f"{each:%H:%M:%S}" for each in clock])

    def _legend(self, names: list[tuple[str, str]], left: float, top: float, width: float) -> None:
        """The names of series in two lines at most."""
        x, line, size = left, 0, 5.6
        for number, (name, colour) in enumerate(names):
            needed = 14 + size * len(name) + 10
            if x + needed > left + width:
                x, line = left, line + 1
            if line > 1 or (
                line == 1 and x + needed > left + width - 50 and number < len(names) - 1
            ):
                self._text(x, top + LEGEND, f"+ {len(names) - number}", 7)
                return
            self._text(x, top + line * LEGEND, "■", 8, color=colour)
            self._text(x + 12, top + line * LEGEND, name, 7)
            x += needed


def draw(dashboard: Dashboard, shot: Shot, path: Path) -> None:
    """Draw the dashboard into that file."""
    matplotlib.use("Agg")
    Page(dashboard, shot).draw(path)
