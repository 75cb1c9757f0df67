"""The tables of a comparison: one line for each trace, or for one trace one line for each policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qmodal_autoscaler.simulator.costs import Figures, geometric_mean

# Figures by trace and policy.
Results = Mapping[str, Mapping[str, Figures]]
DETAILS = (
    "policy",
    "cost",
    "container-s",
    "wait p50",
    "wait p95",
    "wait p99",
    "cold",
    "overshoot",
    "turns",
    "unfinished",
)


def comparison(results: Results) -> list[list[str]]:
    """Rows of `cost / p95 wait` for each trace and policy, and a row of means."""
    policies = list(next(iter(results.values())))
    rows = [["trace", *policies]]
    rows += [
        [trace, *(_pair(row[policy].cost, row[policy].wait_p95) for policy in policies)]
        for trace, row in results.items()
    ]
    if len(results) > 1:
        rows.append(
            ["mean", *(_mean([row[policy] for row in results.values()]) for policy in policies)]
        )
    return rows


def details(row: Mapping[str, Figures]) -> list[list[str]]:
    """A row for each policy, with all figures."""
    return [list(DETAILS), *([policy, *_cells(each)] for policy, each in row.items())]


def _cells(each: Figures) -> list[str]:
    return [
        f"{each.cost:.2f}",
        f"{each.container_seconds:.0f}",
        f"{each.wait_p50:.2f}",
        f"{each.wait_p95:.2f}",
        f"{each.wait_p99:.2f}",
        f"{each.cold:.1%}",
        f"{each.overshoot:.2f}",
        f"{each.turns:.2f}",
        str(each.unfinished),
    ]


def _mean(column: Sequence[Figures]) -> str:
    wait = sum(each.wait_p95 for each in column) / len(column)
    return _pair(geometric_mean(each.cost for each in column), wait)


def _pair(cost: float, wait: float) -> str:
    return f"{cost:.2f} / {wait:.1f}"
