"""What was measured, as a small table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

UNITS = {
    "remote p50": "µs",
    "remote p95": "µs",
    "spawn": "/s",
    "map": "/s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One figure of one round."""

    round: int
    subject: str
    measure: str
    value: float


@dataclass(frozen=True, slots=True)
class Results:
    """All samples of a run; `limit` is the subject that the others are compared with."""

    samples: Sequence[Sample]
    limit: str

    def median(self, subject: str, measure: str) -> float:
        """Over all rounds."""
        return statistics.median(self._by_round(subject, measure).values())

    def ratio(self, subject: str, measure: str) -> float:
        """To the limit of the same round, as a share of its speed; the median over all rounds."""
        limits = self._by_round(self.limit, measure)
        shares = [
            limits[number] / value if UNITS[measure] == "µs" else value / limits[number]
            for number, value in self._by_round(subject, measure).items()
        ]
        return statistics.median(shares)

    def table(self) -> str:
        """A line for each measure."""
        subjects = list(dict.fromkeys(sample.subject for sample in self.samples))
        others = [subject for subject in subjects if subject != self.limit]
        heads = ["", self.limit, *others, *(f"{other} / {self.limit}" for other in others)]
        rows = [heads]
        for measure, unit in UNITS.items():
            figures = [self.median(subject, measure) for subject in (self.limit, *others)]
            shares = [f"{self.ratio(other, measure):.0%}" for other in others]
            rows.append([measure, *(f"{figure:,.0f} {unit}" for figure in figures), *shares])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )

    def save(self, path: Path) -> None:
        """All samples, and what they were taken on."""
        circumstances = {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
        }
        content = {"circumstances": circumstances, "samples": [asdict(s) for s in self.samples]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _by_round(self, subject: str, measure: str) -> dict[int, float]:
        return {
            sample.round: sample.value
            for sample in self.samples
            if (sample.subject, sample.measure) == (subject, measure)
        }
