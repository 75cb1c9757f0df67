"""The benchmark's arithmetic: medians, ratios within each round, the best peer, and goals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.bench import Sizes, quantile
from benchmarks.environments import peer_groups
from benchmarks.measures import MEASURES
from benchmarks.report import Refusal, Results, Sample, table
from benchmarks.subjects import SUBJECTS
from benchmarks.tables import document, goals
from benchmarks.workloads import WORKLOADS

FIGURES: dict[str, dict[str, Sequence[float]]] = {
    "raw": {"call p50": [100, 50, 80], "bulk": [900, 1000, 1100], "map": [800, 800, 800]},
    "qmodal": {"call p50": [200, 200, 100], "bulk": [450, 100, 1100], "map": [900, 900, 900]},
    "pool": {"call p50": [10, 10, 10], "map": [300, 300, 300]},
    "huey": {"call p50": [1000, 800, 800]},
    "arq": {"call p50": [5000, 5000, 5000], "bulk": [10, 10, 10]},
}


def results() -> Results:
    samples = [
        Sample(round=number, subject=subject, measure=measure, value=value)
        for subject, measures in FIGURES.items()
        for measure, values in measures.items()
        for number, value in enumerate(values)
    ]
    refusal = Refusal(
        round=0, subject="huey", workload="w9", reason="has no asyncio API", failed=False
    )
    about = {"cpus": 2, "load": 0.1, "system": "any", "python": "3", "server": "valkey"}
    return Results(samples, [refusal], {"huey": {"huey": "3.5.4"}}, about)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert results().median("raw", "call p50") == 80
    assert results().median("qmodal", "bulk") == 450
    assert results().median("huey", "bulk") is None


@pytest.mark.parametrize(("measure", "ratio"), [("call p50", 2), ("bulk", 0.5)])
def test_a_ratio_is_taken_within_each_round(measure: str, ratio: float) -> None:
    assert results().ratio(measure, "raw") == ratio
    assert results().ratio(measure, "raw", "raw") == 1
    assert results().ratio(measure, "celery") is None


def test_the_best_peer_is_another_queue_and_better_in_the_measures_own_direction() -> None:
    assert results().best_peer("call p50") == "huey"
    assert results().lead("call p50") == 5
    assert results().best_peer("bulk") == "arq"
    assert results().lead("bulk") == 45
    assert results().best_peer("map") is None


@pytest.mark.parametrize(
    ("measure", "judged"),
    [
        ("call p50", ["≤ 1.8x raw: no, 2", "≥ 5x peer: met"]),
        ("bulk", ["≥ 0.6x raw: no, 0.5", "≥ 8x peer: met"]),
        ("map", ["≥ 8x raw: no, 1.12", "≥ 1x pool: met"]),
    ],
)
def test_every_goal_is_judged(measure: str, judged: list[str]) -> None:
    assert list(goals(results(), measure)) == judged


def test_the_document_has_a_line_for_each_measure_refusal_and_version() -> None:
    text = document(results())
    assert text.count("| W3 call, p50") == 2
    assert "- huey w9: has no asyncio API" in text
    assert "- huey: huey 3.5.4" in text


def test_the_columns_of_a_table_are_aligned() -> None:
    assert table([["", "a"], ["row", "1,000"]]).splitlines() == [
        "|     |     a |",
        "| --- | ----: |",
        "| row | 1,000 |",
    ]


def test_all_samples_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "new" / "benchmark.json"
    results().save(path)
    saved = json.loads(path.read_text())
    assert len(saved["samples"]) == len(results().samples)
    assert saved["refusals"][0]["reason"] == "has no asyncio API"


def test_every_measure_belongs_to_a_workload_and_every_group_to_a_subject() -> None:
    assert {measure.workload for measure in MEASURES.values()} == set(WORKLOADS)
    project = {"dependency-groups": {"bench": ["huey"], "peer-arq": ["arq>=0.26"]}}
    assert peer_groups(project) == {"arq": ["arq>=0.26"]}
    assert set(peer_groups(project)) <= set(SUBJECTS)


def test_a_scaled_run_keeps_enough_of_everything() -> None:
    small = Sizes().scaled(0)
    assert (small.one_by_one, small.calls, small.kills) == (1, 20, 1)
    assert small.seconds > 0
    assert Sizes().scaled(1) == Sizes()


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 3), (0.95, 5), (1, 5)])
def test_a_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert quantile([5, 3, 1, 4, 2], share) == value
