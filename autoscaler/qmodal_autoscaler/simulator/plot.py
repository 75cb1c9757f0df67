"""The picture of a comparison: what each policy costs and how long it lets inputs wait, trace by trace."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qmodal.exception import InvalidError
from qmodal_autoscaler.simulator.costs import Figures
from qmodal_autoscaler.simulator.policies import SHIPPED
from qmodal_autoscaler.simulator.table import Results

OURS, OTHERS = "#d1495b", ("#30638e", "#7aa6c2", "#8d96a3", "#c2a878", "#6b8f71", "#b58db6")
# Shorter waits are drawn as that long: a logarithmic scale has no zero.
LEAST_WAIT = 0.01
ORACLE = 1.0


def load_matplotlib() -> Any:
    """The library that draws; raises InvalidError if it is not installed."""
    try:
        return importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise InvalidError(
            "--plot needs matplotlib: install it with `pip install 'qmodal[simulate]'`"
        ) from error


def draw(results: Results, path: Path) -> None:
    """Draw the costs and the waits into a file, whose suffix says the format; raises InvalidError."""
    matplotlib = load_matplotlib()
    matplotlib.use("Agg")
    # So that the same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "qmodal"
    pyplot = importlib.import_module("matplotlib.pyplot")
    height = 1.4 + 0.75 * len(results)
    figure, (costs, waits) = pyplot.subplots(
        1, 2, figsize=(11, height), sharey=True, layout="constrained"
    )
    _panel(
        costs, results, lambda each: each.cost, "container-seconds, as a multiple of the oracle's"
    )
    costs.axvline(ORACLE, color="black", linewidth=1, linestyle=":")
    _panel(
        waits,
        results,
        lambda each: max(LEAST_WAIT, each.wait_p95),
        "95th percentile of the wait, s",
    )
    figure.legend(
        *costs.get_legend_handles_labels(), loc="outside upper center", ncols=7, frameon=False
    )
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except (OSError, ValueError) as error:
        raise InvalidError(f"the picture {path} cannot be written: {error}") from error
    finally:
        pyplot.close(figure)


def _panel(axis: Any, results: Results, value: Callable[[Figures], float], title: str) -> None:
    traces, policies = list(results), list(next(iter(results.values())))
    thickness = 0.8 / len(policies)
    for number, policy in enumerate(policies):
        rows = [
            place + (number - (len(policies) - 1) / 2) * thickness for place in range(len(traces))
        ]
        colour = OURS if policy == SHIPPED else OTHERS[number % len(OTHERS)]
        values = [value(results[trace][policy]) for trace in traces]
        axis.barh(rows, values, thickness, label=policy, color=colour)
    axis.set_xscale("log")
    axis.set_yticks(range(len(traces)), traces)
    if not axis.yaxis_inverted():
        axis.invert_yaxis()
    axis.set_xlabel(title)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
