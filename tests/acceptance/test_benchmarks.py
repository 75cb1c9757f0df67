"""The benchmark runs to its end; what it measures here means nothing, as other tests run beside it."""

from __future__ import annotations

import json
import sys

from tests.installed import ROOT, desk


def test_the_benchmark_prints_its_table_and_leaves_nothing() -> None:
    with desk(PYTHONPATH=str(ROOT)) as here:
        path = here.base / "figures.json"
        options = ("--rounds", "1", "--calls", "20", "--inputs", "100", "--json", path)
        output = here.run(sys.executable, "-m", "benchmarks", *options)
        assert [line.split()[0] for line in output.splitlines()[1:5]] == [
            *("remote", "remote", "spawn", "map")
        ]
        assert len(json.loads(path.read_text())["samples"]) == 8
        here.wait_until_empty()
