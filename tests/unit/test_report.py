"""The benchmark's arithmetic: medians, and shares of the limit within each round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import UNITS, Results, Sample


def results() -> Results:
    figures = {"limit": {"remote p50": [100.0, 50.0, 80.0], "map": [900.0, 1000.0, 1100.0]}}
    figures["subject"] = {"remote p50": [200.0, 200.0, 100.0], "map": [450.0, 100.0, 1100.0]}
    samples = [
        Sample(round=number, subject=subject, measure=measure, value=value)
        for subject, measures in figures.items()
        for measure in UNITS
        for number, value in enumerate(measures.get(measure, [1.0, 1.0, 1.0]))
    ]
    return Results(samples, limit="limit")


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert results().median("limit", "remote p50") == 80
    assert results().median("subject", "map") == 450


@pytest.mark.parametrize(("measure", "share"), [("remote p50", 0.5), ("map", 0.5)])
def test_a_share_of_the_limits_speed_is_taken_within_each_round(measure: str, share: float) -> None:
    assert results().ratio("subject", measure) == share
    assert results().ratio("limit", measure) == 1


def test_the_table_has_a_line_for_each_measure() -> None:
    lines = results().table().splitlines()
    assert len(lines) == 1 + len(UNITS)
    assert lines[-1].split() == ["map", "1,000", "/s", "450", "/s", "50%"]


def test_all_samples_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "new" / "benchmark.json"
    results().save(path)
    saved = json.loads(path.read_text())
    assert len(saved["samples"]) == len(results().samples)
    assert saved["circumstances"]["cpus"] > 0
