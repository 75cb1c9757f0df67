"""A run as text: qmodal against the limit, the best peer and its goals; then every subject."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measures import MEASURES, Measure
from benchmarks.report import Results, table
from benchmarks.subjects import OURS, POOL, RAW

NOTHING = ""


def document(results: Results) -> str:
    """The whole report in Markdown."""
    about = results.circumstances
    parts = [
        "# Benchmark",
        f"{about['cpus']} CPUs, load {about['load']:.1f} at the start, {about['system']}, Python "
        f"{about['python']}, {about['server']}. Medians over rounds; ratios are taken within "
        "each round.",
    ]
    if OURS in results.subjects:
        parts += ["## qmodal", comparison(results)]
    parts += ["## All subjects", overview(results)]
    if results.refusals:
        parts += ["## Without a figure", *refusals(results)]
    parts += ["## Versions", *versions(results)]
    return "\n\n".join(parts) + "\n"


def comparison(results: Results) -> str:
    """qmodal beside the raw limit and the best peer, and what came of its goals."""
    head = ["", "raw", OURS, "to raw", "best peer", "", "times as good", "goals"]
    rows = [head]
    for name in results.measures:
        if results.median(OURS, name) is None:
            continue
        measure, peer = MEASURES[name], results.best_peer(name)
        rows.append(
            [
                label(measure),
                cell(measure, results.median(RAW, name)),
                cell(measure, results.median(OURS, name)),
                factor(results.ratio(name, RAW)),
                cell(measure, peer and results.median(peer, name)),
                peer or NOTHING,
                factor(results.lead(name)),
                ", ".join(goals(results, name)),
            ]
        )
    return table(rows)


def overview(results: Results) -> str:
    """Every subject's median of every measure."""
    rows = [["", *results.subjects]]
    for name in results.measures:
        measure = MEASURES[name]
        figures = [cell(measure, results.median(each, name)) for each in results.subjects]
        rows.append([f"{label(measure)}, {measure.unit}", *figures])
    return table(rows)


def goals(results: Results, name: str) -> Iterator[str]:
    """Each goal of a measure, and whether it was met."""
    measure = MEASURES[name]
    less = measure.less_is_better
    sign = "≤" if less else "≥"
    if measure.to_raw is not None and (ratio := results.ratio(name, RAW)) is not None:
        yield _judged(f"{sign} {measure.to_raw:g}x raw", ratio, measure.to_raw, less)
    if measure.to_peers is not None and (lead := results.lead(name)) is not None:
        yield _judged(f"≥ {measure.to_peers:g}x peer", lead, measure.to_peers, less=False)
    if measure.to_pool is not None and (ratio := results.ratio(name, POOL)) is not None:
        yield _judged(f"{sign} {measure.to_pool:g}x pool", ratio, measure.to_pool, less)
    if measure.to_own is not None:
        other, most = measure.to_own
        if (ratio := results.ratio_to_own(name, other)) is not None:
            yield _judged(f"{sign} {most:g}x {other}", ratio, most, less)
    if measure.goal is not None and (value := results.median(OURS, name)) is not None:
        yield _judged(f"{sign} {measure.goal:g} {measure.unit}", value, measure.goal, less)


def _judged(text: str, value: float, goal: float, less: bool) -> str:
    is_met = value <= goal if less else value >= goal
    return f"{text}: {'met' if is_met else f'no, {value:.3g}'}"


def refusals(results: Results) -> Iterator[str]:
    """A line for each subject and workload without a figure."""
    seen = {(one.subject, one.workload): one for one in results.refusals}
    lines = [
        f"- {one.subject} {one.workload}: {'failed: ' if one.failed else ''}{one.reason}"
        for one in seen.values()
    ]
    yield "\n".join(lines)


def versions(results: Results) -> Iterator[str]:
    """A line for each subject."""
    lines = [
        f"- {subject}: " + ", ".join(f"{name} {version}" for name, version in found.items())
        for subject, found in results.versions.items()
    ]
    yield "\n".join(lines)


def label(measure: Measure) -> str:
    """The row's name, with its workload."""
    return f"{measure.workload.upper().partition('-')[0]} {measure.text}"


def cell(measure: Measure, value: float | str | None) -> str:
    """A figure in as many digits as it means."""
    if value is None or isinstance(value, str):
        return NOTHING
    digits = measure.digits if value < 1000 else 0
    return f"{value:,.{digits}f}"


def factor(value: float | None) -> str:
    """A ratio."""
    return NOTHING if value is None else f"{value:.2f}x" if value < 100 else f"{value:,.0f}x"
