"""`qmodal simulate`: its table, traces from files, and what it says when something is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from qmodal.cli import program
from qmodal.exception import InvalidError
from qmodal_autoscaler.simulator.command import command
from qmodal_autoscaler.simulator.costs import figures
from qmodal_autoscaler.simulator.plot import draw
from qmodal_autoscaler.simulator.policies import SHIPPED, simulate
from qmodal_autoscaler.simulator.traces.trace import Arrival
from qmodal_autoscaler.simulator.traces.trace_file import read_arrivals
from qmodal_autoscaler.simulator.traces.workloads import LIMITED, WORKLOADS, workload

CSV = "arrival,service,pool\n12.5,1,shop/a\n10,2,shop/b\n"
LINES = '{"arrival": 12.5, "service": 1, "pool": "shop/a"}\n\n{"arrival": 10, "service": 2, "pool": "shop/b"}\n'


def shown(*argv: str) -> list[list[str]]:
    result = CliRunner().invoke(command, argv, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()]


def test_one_trace_is_shown_with_all_figures_of_each_policy() -> None:
    heading, ours, naive = shown("--trace", "map-100", "--policy", "qmodal", "--policy", "naive")
    assert heading[:3] == ["policy", "cost", "container-s"]
    assert (ours[0], ours[1], naive[0]) == ("qmodal", "1.75", "naive")


def test_several_traces_are_a_line_each_and_a_mean() -> None:
    rows = shown("--trace", "map-100", "--trace", "map-500", "--policy", "naive")
    assert [row[0] for row in rows] == ["trace", "map-100", "map-500", "mean"]
    assert rows[1][1:] == ["1.75", "/", "21.0"]


def test_a_file_is_a_trace_with_the_given_terms(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text(CSV)
    trace = str(tmp_path / "calls.csv")
    rows = shown("--trace", trace, "--policy", "qmodal", "--start-time", "1", "--window", "10")
    assert 24 < float(rows[1][2]) < 27  # two starts, three seconds of work, two windows


@pytest.mark.parametrize(("name", "text"), [("calls.csv", CSV), ("calls.jsonl", LINES)])
def test_inputs_of_a_file_come_in_order_and_from_zero_on(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    arrivals = read_arrivals(tmp_path / name)
    assert arrivals == (Arrival(0.0, 2.0, "shop/b"), Arrival(2.5, 1.0, "shop/a"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "when,service\n1,2\n", "arrival,service,pool"),
        ("a.csv", "arrival,service\n1,2\n-1,2\n", "line 3: arrival"),
        ("a.csv", "arrival,service\n1,nan\n", "line 2: service"),
        ("a.csv", "arrival,service\n1\n", "line 2: service"),
        ("a.csv", "arrival,service\n", "no inputs"),
        ("a.jsonl", "1 2\n", "line 1: not an object"),
        ("a.jsonl", "[1, 2]\n", "line 1: not an object"),
        ("a.jsonl", '{"arrival": 1}\n', "line 1: service"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_the_line(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidError, match=said):
        read_arrivals(tmp_path / name)


def test_a_trace_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(InvalidError, match=r"no trace steep: give a file, or one of sparse, "):
        CliRunner().invoke(command, ["--trace", "steep"], catch_exceptions=False)


def test_each_trace_has_the_name_under_which_it_is_found() -> None:
    assert set(LIMITED) <= set(WORKLOADS)
    for name in WORKLOADS:
        trace = workload(name)
        assert trace.name == name
        assert [each.at for each in trace.arrivals] == sorted(each.at for each in trace.arrivals)


def test_a_picture_without_matplotlib_says_what_to_install_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidError, match=r"pip install 'qmodal\[simulate\]'"):
        CliRunner().invoke(command, ["--plot", str(tmp_path / "a.svg")], catch_exceptions=False)


def test_a_picture_is_drawn_where_matplotlib_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = figures(simulate(workload("map-100")))
    for name in ("first.svg", "second.svg"):
        draw({"map-100": {SHIPPED: made}}, tmp_path / name)
    first, second = (tmp_path / name for name in ("first.svg", "second.svg"))
    assert first.read_bytes() == second.read_bytes()
    assert "<svg" in first.read_text()


def test_the_command_line_has_it() -> None:
    result = CliRunner().invoke(program, ["simulate", "--trace", "map-100", "--policy", "naive"])
    assert result.exit_code == 0
    assert "naive" in result.output
