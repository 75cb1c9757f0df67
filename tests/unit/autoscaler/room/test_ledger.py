"""What the leader counts as taken on a box: what was leased, what will be, what is declared, and what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.spec.needs.counted import ASSUMED_CPU, ASSUMED_MEMORY
from qmodal.spec.needs.gpus import Gpu
from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import Offer
from qmodal.store.fleet import ContainerReport, WorkerReport
from qmodal.store.watch.boxes import BoxRecord, Cordon
from qmodal_autoscaler.cluster.ledger import Ledger, PoolUse
from qmodal_autoscaler.cluster.nodes import Box

MIB = 2**20
GPUS = tuple(Gpu(uuid=f"GPU-{n}", kind="L4", memory=23) for n in range(3))


def box(*, is_measured: bool = False, cordoned: int = 0, **about: Any) -> Box:
    """A box with 4 CPUs, a gibibyte, 8 places and three GPUs."""
    report = WorkerReport(
        worker="wk",
        host="h",
        pid=1,
        cpus=4.0,
        memory=1024 * MIB,
        max_containers=8,
        python="3.11",
        version="0",
        gpus=tuple(gpu.text for gpu in GPUS),
        is_measured=is_measured,
    )
    made = Box("wk", lease=100.0, **about)
    made.describe(BoxRecord(report=report, cordon=Cordon(cordoned=cordoned)))
    return made


def runs(name: str, pool: str = "p", **about: Any) -> ContainerReport:
    state = about.pop("state", "ready")
    return ContainerReport(
        container=name,
        pool=pool,
        app="ap",
        function="f",
        label="f",
        number=1,
        state=state,
        since=0,
        **about,
    )


def books(made: Box, **uses: PoolUse) -> Ledger:
    return Ledger.of([made], uses, server_ms=0.0)


def taken(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """Of each GPU, in how many shares it is cut, and how many of them are taken."""
    return {each.gpu.uuid: (each.cut, each.taken) for each in ledger.rooms[0].gpus if each.taken}


def test_what_a_box_has_leased_counts_as_it_says_and_the_rest_by_count() -> None:
    one = PoolUse(Needs.of(gpu="L4"))
    made = box(
        assigned={"ahead": "p", "has": "p", "over": "p"},
        reports={
            "has": runs("has", gpus=("GPU-2",)),
            "over": runs("over", gpus=("GPU-0",), state="ended"),
        },
    )
    ledger = books(made, p=one)
    assert taken(ledger) == {"GPU-2": (1, 1), "GPU-0": (1, 1)}
    assert [gpu.uuid for gpu, _ in ledger.placed["ahead"].gpus] == ["GPU-0"]
    assert ledger.rooms[0].free_slots == 6


def test_shares_of_one_gpu_count_as_such_and_a_container_of_older_code_has_none() -> None:
    half = PoolUse(Needs.of(gpu="L4:0.5"))
    reports = {name: runs(name, gpus=("GPU-1",)) for name in ("a", "b")} | {"old": runs("old")}
    ledger = books(box(assigned=dict.fromkeys([*reports, "new"], "p"), reports=reports), p=half)
    assert taken(ledger) == {"GPU-1": (2, 2), "GPU-0": (2, 1)}


def test_a_gpu_that_is_not_offered_any_more_is_nobody_s() -> None:
    made = box(assigned={"a": "p"}, reports={"a": runs("a", gpus=("GPU-lost",))})
    ledger = books(made, p=PoolUse(Needs.of(gpu="L4")))
    assert taken(ledger) == {}


def test_whose_pool_is_not_known_has_what_was_leased_to_it_whole() -> None:
    made = box(reports={"a": runs("a", gpus=("GPU-1",))})
    assert taken(books(made)) == {"GPU-1": (1, 1)}


@pytest.mark.parametrize(
    ("use", "is_measured", "cpu", "memory"),
    [
        pytest.param(PoolUse(Needs.of(cpu=1.5, memory=100)), False, 1.5, 100, id="declared"),
        pytest.param(PoolUse(Needs.of(cpu=1.5), 0.1, MIB), True, 1.5, 1, id="one of both"),
        pytest.param(PoolUse(cpu=1.0, memory=MIB), False, 0.0, 1, id="a number was given"),
        pytest.param(PoolUse(cpu=1.0, memory=MIB), True, 1.0, 1, id="measured"),
        pytest.param(
            PoolUse(cpu=1.0, memory=MIB, idle=frozenset("a")), True, 0.0, 1, id="it runs nothing"
        ),
        pytest.param(PoolUse(), True, ASSUMED_CPU, ASSUMED_MEMORY // MIB, id="not measured yet"),
        pytest.param(PoolUse(), False, 0.0, 0, id="nothing"),
    ],
)
def test_cpus_and_memory_of_a_container(
    use: PoolUse, is_measured: bool, cpu: float, memory: int
) -> None:
    made = box(assigned={"a": "p"}, reports={"a": runs("a")}, is_measured=is_measured)
    (room,) = books(made, p=use).rooms
    assert (room.cpu, room.memory) == (4.0 - cpu, (1024 - memory) * MIB)
    assert room.is_measured == is_measured


def test_a_cordoned_box_has_no_room_and_still_says_what_it_offers() -> None:
    (room,) = books(box(cordoned=1)).rooms
    assert (room.free_slots, room.closed) == (0, "it is cordoned")
    assert room.offer == Offer(cpus=4.0, memory=1024 * MIB, gpus=GPUS)
