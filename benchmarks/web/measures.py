"""What is measured of the HTTP side: each figure's unit, which way is better, and what it should come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.report import Results, table
from benchmarks.web.sides import CONCURRENT, SINGLE, UVICORN

SUBJECTS = (UVICORN, CONCURRENT, SINGLE)
Judge = Callable[[Results], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure of qmodal beside one of uvicorn should be: at most or at least so much."""

    of: Judge
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""

    def said(self, results: Results) -> str:
        """The goal and whether it was met; empty without a figure."""
        value = self.of(results)
        if value is None:
            return ""
        if self.at_most is not None:
            goal, is_met = f"≤ {self.at_most:g}{self.unit}", value <= self.at_most
        else:
            assert self.at_least is not None
            goal, is_met = f"≥ {self.at_least:g}{self.unit}", value >= self.at_least
        return f"{goal}: {'met' if is_met else f'no, {value:.3g}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table."""

    text: str
    unit: str
    digits: int = 0
    goal: Goal | None = None


def _ratio(name: str) -> Judge:
    return lambda results: results.ratio(name, UVICORN, CONCURRENT)


def _own(name: str, subject: str = CONCURRENT) -> Judge:
    return lambda results: results.median(subject, name)


def _added(name: str, subject: str) -> Judge:
    """What qmodal takes beyond uvicorn, in the unit; the median over rounds."""

    def judge(results: Results) -> float | None:
        ours, theirs = results.median(subject, name), results.median(UVICORN, name)
        return None if ours is None or theirs is None else ours - theirs

    return judge


FIGURES: dict[str, Figure] = {
    "many rate": Figure(
        text="50 connections", unit="/s", goal=Goal(of=_ratio("many rate"), at_least=0.5, unit="x")
    ),
    "many p50": Figure(text="50 connections, p50", unit="ms", digits=2),
    "many p99": Figure(text="50 connections, p99", unit="ms", digits=2),
    "one rate": Figure(text="1 connection", unit="/s"),
    "one p50": Figure(
        text="1 connection, p50",
        unit="ms",
        digits=2,
        goal=Goal(of=_added("one p50", SINGLE), at_most=1.2, unit=" ms more"),
    ),
    "one p99": Figure(text="1 connection, p99", unit="ms", digits=2),
    "cpu app": Figure(text="CPU of a request: uvicorn's process", unit="µs"),
    "cpu gateway": Figure(text="CPU of a request: gateway", unit="µs"),
    "cpu container": Figure(text="CPU of a request: container", unit="µs"),
    "cpu server": Figure(text="CPU of a request: server", unit="µs"),
    "download": Figure(
        text="one response in 64 KiB chunks",
        unit="MB/s",
        goal=Goal(of=_own("download"), at_least=200, unit=" MB/s"),
    ),
    "events latest": Figure(
        text="event streams, latest message",
        unit="ms",
        digits=1,
        goal=Goal(of=_own("events latest"), at_most=200, unit=" ms"),
    ),
    "events p99": Figure(text="event streams, p99", unit="ms", digits=1),
    "events p50": Figure(text="event streams, p50", unit="ms", digits=1),
    "events memory": Figure(
        text="event streams, resident memory of what holds the connections",
        unit="MiB",
        digits=1,
        goal=Goal(of=_own("events memory"), at_most=60, unit=" MiB"),
    ),
    "echo p50": Figure(text="websocket there and back, p50", unit="ms", digits=2),
    "echo p99": Figure(text="websocket there and back, p99", unit="ms", digits=2),
}


def document(results: Results) -> str:
    """The report in Markdown."""
    about = results.circumstances
    parts = [
        "# Benchmark of the HTTP side",
        f"{about['cpus']} CPUs, load {about['load']:.1f} at the start, {about['system']}, Python "
        f"{about['python']}, {about['server']}, load by {about['options']['client']}. Medians over "
        "rounds; ratios are taken within each round.",
        table([["", "", *SUBJECTS, "to uvicorn", "goal"], *_rows(results)]),
    ]
    parts += [
        f"- {refusal.subject} {refusal.workload}: {refusal.reason}" for refusal in results.refusals
    ]
    return "\n\n".join(parts) + "\n"


def _rows(results: Results) -> Iterator[list[str]]:
    for name, figure in FIGURES.items():
        values = [results.median(subject, name) for subject in SUBJECTS]
        if all(value is None for value in values):
            continue
        ratio = results.ratio(name, UVICORN, CONCURRENT)
        yield [
            figure.text,
            figure.unit,
            *("" if value is None else _shown(value, figure.digits) for value in values),
            "" if ratio is None else f"{ratio:.2f}x",
            figure.goal.said(results) if figure.goal else "",
        ]


def _shown(value: float, digits: int) -> str:
    return f"{value:,.{digits if value < 1000 else 0}f}"
