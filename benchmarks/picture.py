"""The picture: one small chart a measure, all subjects, on a logarithmic scale."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from benchmarks.measures import MEASURES
from benchmarks.report import Results
from benchmarks.subjects import OURS, RAW
from benchmarks.tables import cell, label

COLUMNS = 3
COLOURS = {OURS: "#d1495b", RAW: "#9aa0a6"}
PEERS = "#30638e"


def draw(results: Results, path: Path) -> str:
    """Draw it; a sentence about where it is, or why there is none."""
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ModuleNotFoundError:
        return "no picture: matplotlib is not installed"
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    measures = results.measures
    rows = -(-len(measures) // COLUMNS)
    height = 0.9 + 0.24 * len(results.subjects)
    figure, grid = pyplot.subplots(
        rows, COLUMNS, figsize=(5.2 * COLUMNS, height * rows), squeeze=False, layout="constrained"
    )
    axes = [each for row in grid for each in row]
    for axis, name in zip(axes, measures, strict=False):
        _chart(axis, results, name)
    for axis in axes[len(measures) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return f"a picture is in {path}"


def _chart(axis: Any, results: Results, name: str) -> None:
    measure = MEASURES[name]
    medians = [(each, results.median(each, name)) for each in results.subjects]
    known = [(each, value) for each, value in medians if value is not None]
    known.sort(key=lambda pair: pair[1], reverse=not measure.less_is_better)
    names = [each for each, _ in known]
    bars = axis.barh(
        names, [value for _, value in known], color=[COLOURS.get(each, PEERS) for each in names]
    )
    axis.bar_label(bars, [cell(measure, value) for _, value in known], padding=3, fontsize=8)
    axis.set_xscale("log")
    axis.invert_yaxis()
    axis.margins(x=0.25)
    axis.tick_params(labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    better = "less" if measure.less_is_better else "more"
    axis.set_title(f"{label(measure)}, {measure.unit} ({better} is better)", fontsize=9)
