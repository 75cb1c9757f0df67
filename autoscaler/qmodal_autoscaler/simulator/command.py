"""`qmodal simulate`: the scaling policy over a trace, beside those of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from qmodal.cli.tables import aligned
from qmodal.exception import InvalidError
from qmodal_autoscaler.simulator.costs import Figures, figures
from qmodal_autoscaler.simulator.plot import draw, load_matplotlib
from qmodal_autoscaler.simulator.policies import POLICIES, simulate
from qmodal_autoscaler.simulator.table import Results, comparison, details
from qmodal_autoscaler.simulator.traces.trace import Trace
from qmodal_autoscaler.simulator.traces.trace_file import read_arrivals
from qmodal_autoscaler.simulator.traces.workloads import LIMITED, SEED, WORKLOADS, workload

# Of the containers of a trace that comes from a file.
DEFAULT_START_SECONDS = 5.0


@click.command()
@click.option(
    "--trace",
    "traces",
    multiple=True,
    metavar="NAME|FILE",
    help=f"A file of arrivals, or one of {', '.join(WORKLOADS)}; repeatable. The first eight otherwise.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice(list(POLICIES)),
    help="A policy to run; repeatable. All of them otherwise.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the result into this file.")
@click.option("--seed", default=SEED, show_default=True, help="For other traces of the same kinds.")
@click.option("--window", type=click.FloatRange(2, 3600), help="scaledown_window of the pools.")
@click.option("--start-time", type=click.FloatRange(0), help="Seconds until a container is ready.")
@click.option("--slots", type=click.IntRange(1), help="Inputs that a container runs at once.")
@click.option("--room", type=click.IntRange(1), help="Containers that all boxes can hold.")
def command(
    traces: tuple[str, ...],
    policies: tuple[str, ...],
    plot: Path | None,
    seed: int,
    window: float | None,
    start_time: float | None,
    slots: int | None,
    room: int | None,
) -> None:
    """Compare scaling policies on made-up load, or on your own. Needs no server.

    Each cell is the container-seconds as a multiple of an oracle's, and the 95th percentile of the seconds
    that inputs waited.
    """
    if plot is not None:
        load_matplotlib()  # before the figures are computed, which takes a while
    given = {"window": window, "start_time": start_time, "slots": slots, "room": room}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    chosen = [_trace(name, seed) for name in traces or LIMITED]
    results = _run([replace(each, **changes) for each in chosen], policies or tuple(POLICIES))
    _show(results)
    if plot is not None:
        draw(results, plot)
        click.echo(f"\nThe picture is in {plot}.")


def _trace(name: str, seed: int) -> Trace:
    if name in WORKLOADS:
        return workload(name, seed)
    path = Path(name)
    if not path.exists():
        known = ", ".join(WORKLOADS)
        raise InvalidError(f"there is no trace {name}: give a file, or one of {known}")
    return Trace(name=path.name, arrivals=read_arrivals(path), start_time=DEFAULT_START_SECONDS)


def _run(traces: list[Trace], policies: tuple[str, ...]) -> Results:
    results: dict[str, dict[str, Figures]] = {}
    for trace in traces:
        click.echo(f"{trace.name}: {len(trace.arrivals)} inputs", err=True)
        results[trace.name] = {each: figures(simulate(trace, each)) for each in policies}
    return results


def _show(results: Results) -> None:
    if len(results) == 1:
        (row,) = results.values()
        rows = details(row)
    else:
        rows = comparison(results)
    for line in aligned(rows):
        click.echo(line)
