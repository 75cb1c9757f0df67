"""All figures of a run: medians over rounds, ratios within rounds, and the JSON file."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measures import MEASURES
from benchmarks.subjects import OURS, SUBJECTS

Rounds = Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One figure of one round; `more` is what else was seen with it."""

    round: int
    subject: str
    measure: str
    value: float
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A subject that gave no figure for a workload: it cannot, or it failed."""

    round: int
    subject: str
    workload: str
    reason: str
    failed: bool


@dataclass(slots=True)
class Results:
    """Everything that a run found out."""

    samples: list[Sample] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    circumstances: dict[str, Any] = field(default_factory=dict)

    @property
    def subjects(self) -> list[str]:
        """Those with at least one figure, in the order in which they came."""
        return list(dict.fromkeys(sample.subject for sample in self.samples))

    @property
    def measures(self) -> list[str]:
        """Those with at least one figure, in the order of the table."""
        found = {sample.measure for sample in self.samples}
        return [name for name in MEASURES if name in found]

    def median(self, subject: str, measure: str) -> float | None:
        """Over all rounds; None if there is no figure."""
        values = self.rounds(subject, measure).values()
        return statistics.median(values) if values else None

    def ratio(self, measure: str, to: str, subject: str = OURS) -> float | None:
        """To another subject's figure of the same round; the median over all rounds."""
        return _ratio(self.rounds(subject, measure), self.rounds(to, measure))

    def ratio_to_own(self, measure: str, other: str) -> float | None:
        """Of two of qmodal's measures in the same round; the median over all rounds."""
        return _ratio(self.rounds(OURS, measure), self.rounds(OURS, other))

    def best_peer(self, measure: str) -> str | None:
        """The best of the other queues; None if there is none."""
        medians = {name: self.median(name, measure) for name in self.subjects}
        known = {
            name: value
            for name, value in medians.items()
            if value is not None and SUBJECTS[name].is_peer
        }
        choose: Callable[..., str] = min if MEASURES[measure].less_is_better else max
        return choose(known, key=known.__getitem__) if known else None

    def lead(self, measure: str) -> float | None:
        """How many times as good as the best peer qmodal is."""
        peer = self.best_peer(measure)
        ratio = None if peer is None else self.ratio(measure, peer)
        if ratio is None:
            return None
        return 1 / ratio if MEASURES[measure].less_is_better else ratio

    def rounds(self, subject: str, measure: str) -> Rounds:
        """The figure of every round."""
        return {
            sample.round: sample.value
            for sample in self.samples
            if (sample.subject, sample.measure) == (subject, measure)
        }

    def save(self, path: Path) -> None:
        """All samples, what they were taken on and what gave none."""
        content = {
            "circumstances": self.circumstances,
            "versions": self.versions,
            "refusals": [asdict(refusal) for refusal in self.refusals],
            "samples": [asdict(sample) for sample in self.samples],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _ratio(ours: Rounds, theirs: Rounds) -> float | None:
    shares = [value / theirs[number] for number, value in ours.items() if theirs.get(number)]
    return statistics.median(shares) if shares else None


def circumstances(options: Mapping[str, Any], server: str) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "server": server,
        "options": dict(options),
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown, wide enough to be read as plain text; the first is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in (rows[0], rule, *rows[1:])
    )
