"""The benchmark runs to its end; what it measures here means nothing, as other tests run beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import ROOT, Desk, desk

TINY = ("--scale", "0.001", "--rounds", "1")
# A dozen processes after each other, on a machine that may be busy.
pytestmark = pytest.mark.timeout(180)


def measure(here: Desk, *options: str) -> tuple[str, dict[str, Any]]:
    """What a run prints, and its JSON file."""
    out = here.base / "out"
    program = (sys.executable, "-m", "benchmarks", *TINY, "--out", str(out))
    text = here.run(*program, *options, seconds=150)
    return text, json.loads((out / "benchmark.json").read_text())


def figures(saved: dict[str, Any]) -> set[tuple[str, str]]:
    """Which subject has which figure."""
    return {(sample["subject"], sample["measure"]) for sample in saved["samples"]}


def test_the_benchmark_compares_subjects_on_one_server_and_leaves_nothing() -> None:
    with desk(PYTHONPATH=str(ROOT)) as here:
        text, saved = measure(
            here, "--workloads", "w4", "w5", "--subjects", "raw", "qmodal", "pool"
        )
        measures = ("1 MiB echo", "map", "map unpacked")
        expected = {(name, each) for name in ("raw", "qmodal", "pool") for each in measures}
        assert figures(saved) == expected, text
        assert all(sample["value"] > 0 for sample in saved["samples"])
        assert saved["versions"]["qmodal"]["qmodal"]
        assert "| W4 1 MiB echo, each way" in text
        assert (here.base / "out" / "benchmark.md").read_text() in text
        here.wait_until_empty()


def test_a_container_is_weighed_killed_and_started_cold_and_callers_of_asyncio_are_served() -> None:
    with desk(PYTHONPATH=str(ROOT)) as here:
        text, saved = measure(
            here, "--workloads", "w6", "w7", "w9", "--subjects", "raw", "qmodal", "--unix"
        )
        measures = {"container memory", "cold start p50", "warm template p50", "again after kill"}
        found = figures(saved)
        assert {("qmodal", each) for each in {*measures, "callers p95"}} <= found, text
        assert {name for name, _ in found} == {"qmodal"}
        reasons = {(each["subject"], each["workload"]): each for each in saved["refusals"]}
        assert not reasons["raw", "w7"]["failed"]
        here.wait_until_empty()


def test_a_subject_that_breaks_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    """Its environment has a Python that does not run."""
    broken = tmp_path / "rq" / "bin"
    broken.mkdir(parents=True)
    (broken / "python").write_text("#!/bin/sh\necho it does not run >&2\nexit 3\n")
    (broken / "python").chmod(0o755)
    with desk(PYTHONPATH=str(ROOT)) as here:
        options = ("--workloads", "w1", "w2", "--subjects", "rq", "raw", "pool")
        text, saved = measure(here, *options, "--peer-env", str(tmp_path))
        assert "- rq w2: failed: ended: it does not run" in text
        measures = ("one by one", "bulk", "submit", "submit bulk")
        assert figures(saved) == {(name, each) for name in ("raw", "pool") for each in measures}


def test_the_profile_names_every_stage() -> None:
    stages = "serialize sign pack write server wake read verify decode call settle"
    with desk(PYTHONPATH=str(ROOT)) as here:
        text = here.run(sys.executable, "-m", "benchmarks.profile", "--calls", "30")
        named = [
            line.split()[1]
            for line in text.splitlines()
            if line.startswith("| ") and line.count("|") == 6
        ]
        assert [name for name in named if name in stages.split()] == stages.split(), text
        here.wait_until_empty()


def test_an_app_of_fastapi_is_measured_under_uvicorn_and_through_a_gateway() -> None:
    """What it measures is compared only where both sides have a figure."""
    tiny = (
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--streams",
        "20",
        "--chunks",
        "20",
        "--echoes",
        "20",
    )
    with desk(PYTHONPATH=str(ROOT)) as here:
        out = here.base / "out"
        program = (sys.executable, "-m", "benchmarks.web", *tiny, "--out", str(out))
        text = here.run(*program, seconds=150)
        saved = json.loads((out / "web.json").read_text())
        assert saved["refusals"] == [], text
        measures = ("many rate", "one p50", "download", "events latest", "echo p50")
        sides = ("uvicorn", "qmodal")
        assert {(side, each) for side in sides for each in measures} <= figures(saved), text
        assert {("qmodal, one at a time", "one p50"), ("qmodal", "cpu gateway")} <= figures(saved)
        assert (out / "web.md").read_text() in text
        here.wait_until_empty()
