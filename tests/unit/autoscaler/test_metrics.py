"""What a leader shows: the text of statistics, facts of pools taken together, and the page that explains them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from qmodal.spec.documents import PoolSpec
from qmodal.spec.needs.needs import Needs
from qmodal.store.history.figures import ServerFigures
from qmodal.store.history.statistics import BOUNDS, Series, bucket_of, observed
from qmodal.wire.plain import pack
from qmodal_autoscaler.metrics.facts import ClusterFacts, FunctionFacts
from qmodal_autoscaler.metrics.families import cluster_families
from qmodal_autoscaler.metrics.function_text import FUNCTION_METRICS, function_text
from qmodal_autoscaler.metrics.pool_labels import pool_label
from qmodal_autoscaler.metrics.rounds import RoundTimes

ROOT = Path(__file__).parents[3]
SQUARE = Series("main", "shop", "square")
ODD = Series("main", 'a "b" \\ c', "f\ng")


def parsed(text: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def test_the_text_is_what_the_library_reads() -> None:
    counts = {
        "value": 7,
        "error": 2,
        "busy": 1_500_000,
        "end:crashed": 3,
        **observed("run", 20_000),
    }
    found = parsed(function_text({SQUARE: counts, ODD: {"value": 1}}))
    inputs = {
        (each.labels["function"], each.labels["outcome"]): each.value
        for each in found["qmodal_inputs"].samples
    }
    assert inputs["square", "value"] == 7
    assert inputs["square", "error"] == 2
    assert inputs["f\ng", "value"] == 1
    busy = {
        each.labels["app"]: each.value for each in found["qmodal_container_busy_seconds"].samples
    }
    assert busy == {SQUARE.app: 1.5, ODD.app: 0}
    apps = {each.labels["app"] for each in found["qmodal_inputs"].samples}
    assert apps == {SQUARE.app, ODD.app}


def test_buckets_add_up_and_are_in_seconds() -> None:
    counts = {bucket_of("run", 0): 2, bucket_of("run", len(BOUNDS)): 1, "run:sum": 3_000_000}
    samples = parsed(function_text({SQUARE: counts}))["qmodal_run_seconds"].samples
    ends = [(each.labels["le"], each.value) for each in samples if "le" in each.labels]
    assert [ends[0], ends[-1]] == [("0.001", 2), ("+Inf", 3)]
    assert [value for _, value in ends] == sorted(value for _, value in ends)
    rest = {each.name: each.value for each in samples if "le" not in each.labels}
    assert rest == {"qmodal_run_seconds_sum": 3.0, "qmodal_run_seconds_count": 3}


def spec_of(parameters: bytes, label: str = "Shelf(3)") -> PoolSpec:
    return PoolSpec(app_id="ap-1", function="Shelf.*", parameters=parameters, label=label)


@pytest.mark.parametrize(
    ("parameters", "label"),
    [
        (b"", ""),
        (pack(["p", [["foo", "hedgehog"], ["bar", 7]]]), "foo=hedgehog,bar=7"),
        (pack(["p", [["text", 'a "b"\n\\']]]), 'text=a "b"?\\'),
        (pack(["p", [["long", "x" * 41]]]), f"long={'x' * 37}..."),
        (pack(["p", [[f"n{i}", i] for i in range(60)]]), None),
        (b"pickled, as far as anybody knows", "3"),
    ],
)
def test_a_pool_s_label_says_its_parameters_and_is_short(
    parameters: bytes, label: str | None
) -> None:
    found = pool_label(spec_of(parameters))
    assert len(found) <= 120
    if label is not None:
        assert found == label


def test_without_functions_there_is_no_text() -> None:
    assert function_text({}) == b""


def cluster() -> Iterator[Metric]:
    """A function with two pools, whose oldest input has waited for 2 s."""
    facts = FunctionFacts(
        running=2,
        waiting=5,
        containers=Counter(ready=2),
        desired=Counter(backlog=3, enough=1),
        backlogged=["p1", "p2"],
        backoffs={"import_error": 8.5, "timeout": 0.0},
    )
    server = ServerFigures("as-1", 10_000.0, {"maxmemory_policy": "noeviction"}, 0)
    changes = {SQUARE: Counter({("more", "backlog"): 3, ("fewer", "fewer"): 1})}
    everything = ClusterFacts(
        {SQUARE: facts}, changes, pools=2, boxes=1, slots=4, waiting={"room": 1}
    )
    return cluster_families(everything, server, {"p1": 9_000, "p2": 8_000})


def test_the_pools_of_a_function_are_taken_together() -> None:
    found = {family.name: family.samples for family in cluster()}
    (age,) = found["qmodal_oldest_waiting_input_age_seconds"]
    assert (age.labels, age.value) == (SQUARE._asdict(), 2.0)
    desired = {each.labels["reason"]: each.value for each in found["qmodal_desired_containers"]}
    assert desired == {"backlog": 3, "enough": 1}
    states = {each.labels["state"]: each.value for each in found["qmodal_containers"]}
    assert states == {"starting": 0, "ready": 2, "draining": 0}


def test_starts_that_are_put_off_have_the_cause_of_the_failures() -> None:
    found = {family.name: family.samples for family in cluster()}
    pauses = found["qmodal_pool_crash_backoff_seconds"]
    assert {each.labels["reason"]: each.value for each in pauses} == {
        "import_error": 8.5,
        "timeout": 0.0,
    }
    assert all(each.labels.items() >= SQUARE._asdict().items() for each in pauses)


def test_what_was_placed_and_let_go_has_its_reasons() -> None:
    found = {family.name: family.samples for family in cluster()}
    changes = {
        (each.labels["direction"], each.labels["reason"]): each.value
        for each in found["qmodal_scaling_changes"]
    }
    assert changes == {("more", "backlog"): 3, ("fewer", "fewer"): 1}


def test_rounds_over_all_pools_are_counted_apart() -> None:
    rounds = RoundTimes()
    for seconds, is_full in [(0.02, True), (0.021, True), (9.0, True), (0.0004, False)]:
        rounds.add(seconds, is_full)
    counted = {
        (each.labels["pools"], each.labels.get("le", each.name.rpartition("_")[2])): each.value
        for each in rounds.family().samples
    }
    assert [counted["all", end] for end in ("0.015", "0.02", "0.03", "5", "+Inf")] == [
        *(0, 1, 2),
        *(2, 3),
    ]
    assert counted["all", "count"] == 3
    assert counted["all", "sum"] == pytest.approx(9.041)
    assert counted["due", "0.001"] == counted["due", "count"] == 1


def test_the_page_explains_every_metric_of_the_cluster_and_of_functions() -> None:
    page = (ROOT / "docs" / "observing.md").read_text("utf-8")
    explained = set(re.findall(r"`(qmodal_\w+)`", page))
    endings = {"counter": "_total"}
    shown = {f"{family.name}{endings.get(family.type, '')}" for family in cluster()}
    shown |= {RoundTimes().family().name, *FUNCTION_METRICS}
    assert shown - explained == set()
    others = (
        "qmodal_box_",
        "qmodal_gateway_",
        "qmodal_schedule_",
        "qmodal_chore_",
        "qmodal_control_",
    )
    own = {each for each in explained if not each.startswith(others)}
    assert own - shown == {"qmodal_redis_up", "qmodal_autoscaler_leads"}


def test_what_the_fleet_lacks_is_told_by_what_containers_need_in_a_bounded_number_of_series() -> (
    None
):
    wanted = {Needs.of(gpu=("H100", "A100:2")): 3, Needs.of(cpu=0.5, memory=1024): 2, Needs(): 1}
    many = wanted | {Needs.of(cpu=float(n)): 1 for n in range(1, 101)}
    for lacking, series in ((wanted, 3), (many, 51)):
        facts = ClusterFacts({}, {}, pools=0, boxes=0, slots=0, wanted=lacking)
        server = ServerFigures("as-1", 10_000.0, {}, 0)
        (family,) = (f for f in cluster_families(facts, server, {}) if f.name == "qmodal_wanted")
        found = {tuple(each.labels.values()): each.value for each in family.samples}
        assert len(found) == series
        assert sum(found.values()) == sum(lacking.values())
        assert found["H100 or A100:2", "", ""] == 3
        assert found["", "0.5", "1024"] == 2
