"""Which GPUs a container gets, what a worker offers, and when a GPU is lost: by tables."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from qmodal.exception import ConfigurationError
from qmodal.spec.needs.gpus import Gpu, gpu_needs
from qmodal_workers.devices import health
from qmodal_workers.devices.fitting import GpuState, choose
from qmodal_workers.devices.health import Health
from qmodal_workers.devices.leases import GpuLease
from qmodal_workers.devices.nvml import GpuFigures, Look
from qmodal_workers.devices.offered import GpuOption, OfferedGpus
from qmodal_workers.devices.watch import GpuWatch, is_strange

A, B, BIG, L4 = (
    Gpu(uuid=uuid, kind=kind, memory=memory)
    for uuid, kind, memory in (
        ("a", "A100-40GB", 40_960),
        ("b", "A100-40GB", 40_960),
        ("big", "A100-80GB", 81_920),
        ("l4", "L4-22GB", 23_034),
    )
)


def box(
    taken: dict[str, tuple[int, int]] | None = None, broken: tuple[str, ...] = ()
) -> list[GpuState]:
    """A box with four GPUs; `taken`: of how many shares so many."""
    return [
        GpuState(
            gpu=gpu,
            taken=(taken or {}).get(gpu.uuid, (0, 1))[0],
            shares=(taken or {}).get(gpu.uuid, (0, 1))[1],
            is_usable=gpu.uuid not in broken,
        )
        for gpu in (BIG, A, B, L4)
    ]


@pytest.mark.parametrize(
    ("need", "states", "uuids"),
    [
        ("A100", box(), ["a"]),  # the smallest that fits
        ("A100-80GB", box(), ["big"]),
        ("any", box(), ["l4"]),
        ("any:2", box(), ["a", "b"]),  # of one kind, where there are as many
        ("A100:3", box(), ["a", "b", "big"]),  # else of several
        ("any:5", box(), None),
        ("H100", box(), None),
        ("A100", box({"a": (1, 1), "b": (1, 1)}), ["big"]),
        ("A100", box({"a": (1, 2)}), ["b"]),  # none that is cut
        ("A100:1/2", box({"a": (1, 3), "b": (1, 2)}), ["b"]),  # one that is cut so already
        ("A100:1/2", box({"a": (2, 2)}), ["b"]),
        ("A100:1/4", box({"a": (1, 4), "b": (3, 4)}), ["b"]),  # the fullest of them
        ("L4:1/2", box({"l4": (1, 1)}), None),
        ("A100", box(broken=("a", "b")), ["big"]),
        (("H100", "L4", "A100"), box(), ["l4"]),  # the first alternative that is there
        (("L4", "A100:2"), box({"l4": (1, 1)}), ["a", "b"]),
    ],
)
def test_the_tightest_fit_is_chosen(
    need: str | tuple[str, ...], states: list[GpuState], uuids: list[str] | None
) -> None:
    chosen = choose(gpu_needs(need), states)
    assert (None if chosen is None else [gpu.uuid for gpu in chosen.gpus]) == uuids


@pytest.mark.parametrize(
    ("shares", "share", "percentage"), [(2, "0.5", "50"), (3, "0.3333", "33"), (16, "0.0625", "6")]
)
def test_a_share_is_told_as_a_part_and_to_mps(shares: int, share: str, percentage: str) -> None:
    variables = GpuLease((L4,), shares).variables
    assert variables["QMODAL_GPU_SHARE"] == share
    assert variables["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == percentage
    assert "QMODAL_GPU_SHARE" not in GpuLease((A, B)).variables


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("", GpuOption()),
        ("all", GpuOption()),
        ("none", GpuOption(first=0)),
        ("2", GpuOption(first=2)),
        ("GPU-5ac0, MIG-7", GpuOption(uuids=("GPU-5ac0", "MIG-7"))),
        (
            "2xA100",
            GpuOption(declared=tuple(Gpu(uuid=f"GPU-here-{n}", kind="A100") for n in (0, 1))),
        ),
    ],
)
def test_the_option_says_which_gpus_are_offered(text: str, option: GpuOption) -> None:
    assert GpuOption.parse(text, "here") == option


@pytest.mark.parametrize("text", ["4 A100", "A100:2", "50xA100,50xL4", "-1"])
def test_an_option_without_a_meaning_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--gpus"):
        GpuOption.parse(text, "here")


def look(at: float, *, fault: str = "", is_listed: bool = True, xid: int = 0) -> Look:
    figures = {"a": GpuFigures(gpu=A, fault=fault)} if is_listed else {}
    return Look(at=at, gpus=figures, xids={"a": xid} if xid else {})


@pytest.mark.parametrize(
    ("first", "seconds"),
    [
        (look(10.0, is_listed=False), health.HEALTHY_SECONDS),
        (look(10.0, fault="GPU is lost"), health.HEALTHY_SECONDS),
        (look(10.0, xid=79), health.HEALTHY_AFTER_XID_SECONDS),
    ],
)
def test_a_lost_gpu_comes_back_when_it_was_well_without_a_break(
    first: Look, seconds: float
) -> None:
    seen = Health(["a"])
    seen.take(look(0.0))
    assert not seen.lost
    seen.take(first)
    assert seen.lost.keys() == {"a"}
    seen.take(look(20.0))
    seen.take(look(19.0 + seconds))
    seen.take(look(19.5 + seconds, fault="GPU is lost"))  # not yet
    seen.take(Look(at=100.0 + seconds, error="the driver does not answer"))  # which says nothing
    seen.take(look(200.0 + seconds))
    assert seen.lost.keys() == {"a"}
    seen.take(look(200.0 + seconds + health.HEALTHY_SECONDS))
    assert not seen.lost


@pytest.mark.parametrize(
    ("used", "processes", "is_shared", "expected"),
    [
        (100, {}, False, False),
        (501, {}, False, True),
        (501, {}, True, False),  # it may be that of those who have it
        (2_000, {1: 1_900}, True, True),  # init is no container
        (
            2_000,
            {1: 100, 2**30: 1_900},
            True,
            False,
        ),  # a process that is not there is none of ours to know
    ],
)
def test_memory_in_use_without_a_lease_is_that_of_strangers(
    used: int, processes: dict[int, int], is_shared: bool, expected: bool
) -> None:
    figures = GpuFigures(gpu=A, used=used, total=A.memory, processes=processes)
    assert is_strange(figures, is_shared=is_shared) is expected


def test_of_a_small_gpu_a_twentieth_is_much() -> None:
    figures = GpuFigures(gpu=L4, used=450, total=8_000)
    assert is_strange(figures, is_shared=False)


class SlowDriver:
    """A driver whose looks wait for the test."""

    def __init__(self) -> None:
        self.answers = threading.Event()

    def reopen(self) -> None:
        pass

    def look(self) -> Look:
        assert self.answers.wait(20)
        return Look(at=time.monotonic())


@pytest.mark.parametrize("later", range(5))
def test_a_loop_that_is_cancelled_as_the_driver_answers_ends(later: int) -> None:
    asyncio.run(_cancelled(later))


async def _cancelled(later: int) -> None:
    """Cancel so many turns of the loop after the answer."""
    driver = SlowDriver()
    gpus = (Gpu(uuid="GPU-1", kind="L4"),)
    watch = GpuWatch(OfferedGpus(gpus=gpus, nvml=driver))  # type: ignore[arg-type]
    loop = asyncio.create_task(watch.watch())
    await asyncio.sleep(0)
    assert watch._looking is not None
    watch._take(watch._looking, Look(at=time.monotonic()))
    for _ in range(later):
        await asyncio.sleep(0)
    loop.cancel()
    ended, _ = await asyncio.wait({loop}, timeout=5)
    driver.answers.set()
    assert ended, "it has forgotten that it was cancelled"
