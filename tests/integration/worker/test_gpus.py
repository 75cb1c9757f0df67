"""GPUs of a worker: leased whole or in shares, seen by nobody else, waited for, and lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmodal.spec.needs.gpus import Gpu
from qmodal.spec.options import validated_options
from tests.support.boxes import PROGRAM, Box, Fleet
from tests.support.hardware.gpus import StubGpu, StubMachine
from tests.support.waiting import wait_until
from tests.support.web.scraping import Scrape, free_port, lint, scrape, unexplained

pytestmark = pytest.mark.leaves_keys

VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "QMODAL_GPU_SHARE",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
)
SOURCE = f"""
import os, time

AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")

def seen():
    return [os.environ.get(name) for name in {VARIABLES!r}]

def whole():
    return [AT_IMPORT, *seen()]

half, other, without, two, choosy = (lambda: seen() for _ in range(5))

def busy(go, mark):
    open(mark, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return os.environ["CUDA_VISIBLE_DEVICES"]
"""
LOOKS = "import ctypes\nctypes.CDLL('libnvidia-ml.so.1')\n" + SOURCE
# Lost GPUs come back sooner.
QUICK = (
    "from qmodal_workers.devices import health, watch; "
    "health.HEALTHY_SECONDS, watch.LOOK_SECONDS = 0.3, 0.1; " + PROGRAM
)
# The driver is not looked at by itself.
SELDOM = "from qmodal_workers.devices import watch; watch.LOOK_SECONDS = 600.0; " + PROGRAM
PCI = "PCI_BUS_ID"
FUNCTIONS = {
    "whole": validated_options(gpu="A100"),
    "half": validated_options(gpu="L4:0.5"),
    "other": validated_options(gpu="L4:1/2"),
    "two": validated_options(gpu="any:2"),
    "choosy": validated_options(gpu=["H100", "A100-80GB"]),
    "busy": validated_options(gpu="A100"),
    "without": None,
}


@pytest.fixture
def machine(nvml: Path, tmp_path: Path) -> StubMachine:
    """One with an A100 and an L4."""
    return StubMachine(
        nvml,
        tmp_path,
        StubGpu(uuid="GPU-a100"),
        StubGpu(uuid="GPU-l4", name="NVIDIA L4", memory=23_034),
    )


@pytest.fixture
def gpu_box(fleet: Fleet, machine: StubMachine) -> Iterator[Box]:
    with fleet.box(program=QUICK, **machine.environ) as made:
        yield made


@pytest.fixture
def pools(fleet: Fleet, tmp_path: Path) -> dict[str, str]:
    return fleet.publish(tmp_path / "code", SOURCE, FUNCTIONS)


def offered(fleet: Fleet, box: Box) -> list[str]:
    """The UUIDs in the report of the box."""
    (report,) = fleet.client.run(fleet.client.fleet.reports([box.name]))
    gpus = map(Gpu.parse, report.gpus)
    return [gpu.uuid for gpu in gpus if gpu is not None]


def test_a_container_sees_the_gpus_that_are_leased_to_it_and_no_others(
    fleet: Fleet, gpu_box: Box, pools: dict[str, str]
) -> None:
    assert offered(fleet, gpu_box) == ["GPU-a100", "GPU-l4"]
    assert fleet.ready(gpu_box, pools["whole"]).gpus == ("GPU-a100",)
    halves = [fleet.ready(gpu_box, pools[name]).gpus for name in ("half", "other")]
    assert halves == [("GPU-l4",), ("GPU-l4",)]
    assert fleet.ready(gpu_box, pools["without"]).gpus == ()
    seen = fleet.value(fleet.call(pools["whole"]))
    # The template, which imported the code, saw none.
    assert seen == ["", "GPU-a100", PCI, "GPU-a100", None, None]
    for name in ("half", "other"):
        share = ["GPU-l4", PCI, "GPU-l4", "0.5", "50"]
        assert fleet.value(fleet.call(pools[name])) == share
    assert fleet.value(fleet.call(pools["without"])) == ["", PCI, "void", None, None]


def test_a_container_waits_for_a_gpu_without_failing_and_holds_nobody_up(
    fleet: Fleet, gpu_box: Box, pools: dict[str, str]
) -> None:
    first = fleet.ready(gpu_box, pools["two"])
    assert first.gpus == ("GPU-l4", "GPU-a100")
    waiting = fleet.assign(gpu_box, pools["choosy"])
    assert fleet.ready(gpu_box, pools["without"]).state == "ready"
    assert fleet.report(gpu_box, waiting) is None
    fleet.take_off(gpu_box, first.container)
    assert fleet.until(gpu_box, waiting, "ready").gpus == ("GPU-a100",)


def test_code_that_looks_for_gpus_as_it_is_imported_has_them_from_the_beginning(
    fleet: Fleet, gpu_box: Box, tmp_path: Path
) -> None:
    functions = {name: FUNCTIONS[name] for name in ("whole", "without")}
    pools = fleet.publish(tmp_path / "code", LOOKS, functions)
    fleet.ready(gpu_box, pools["whole"])
    seen = fleet.value(fleet.call(pools["whole"]))
    assert seen == ["GPU-a100", "GPU-a100", PCI, "GPU-a100", None, None]
    fleet.ready(gpu_box, pools["without"])
    assert fleet.value(fleet.call(pools["without"]))[0] == ""


def test_a_gpu_that_is_lost_takes_its_container_along_and_comes_back_when_it_is_well(
    fleet: Fleet, gpu_box: Box, pools: dict[str, str], machine: StubMachine, tmp_path: Path
) -> None:
    go, mark = tmp_path / "go", tmp_path / "mark"
    held = fleet.ready(gpu_box, pools["busy"])
    running = fleet.call(pools["busy"], str(go), str(mark))
    wait_until(mark.exists, what="it runs")
    # More often than an input may lose its container before it counts as poison.
    for state in ("gone", "lost", "gone", "lost"):
        machine.change("GPU-a100", state=state)
        ended = fleet.until(gpu_box, held.container, "ended")
        assert "GPU-a100 was lost" in ended.detail
        assert ended.gpus == ()
        wait_until(lambda: offered(fleet, gpu_box) == ["GPU-l4"], what="it is not offered")
        fleet.take_off(gpu_box, held.container)
        following = fleet.assign(gpu_box, pools["busy"])
        machine.change("GPU-a100", state="ok")
        wait_until(lambda: len(offered(fleet, gpu_box)) == 2, what="it is offered again")
        mark.unlink()
        held = fleet.until(gpu_box, following, "ready")
        wait_until(mark.exists, what="it runs again")
    go.touch()
    assert fleet.value(running) == "GPU-a100"


def test_a_container_that_dies_of_a_loss_which_nobody_has_noticed_yet_charges_nothing(
    fleet: Fleet, machine: StubMachine, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "code", SOURCE, FUNCTIONS)
    go, mark = tmp_path / "go", tmp_path / "mark"
    with fleet.box(program=SELDOM, **machine.environ) as box:
        held = fleet.ready(box, pools["busy"])
        fleet.call(pools["busy"], str(go), str(mark))
        wait_until(mark.exists, what="it runs")
        machine.change("GPU-a100", state="lost")
        os.kill(held.pid, signal.SIGKILL)
        ended = fleet.until(box, held.container, "ended")
        assert ended.detail == "GPU GPU-a100 was lost: GPU is lost"


def test_an_xid_is_a_loss_unless_a_program_has_caused_it(
    fleet: Fleet, gpu_box: Box, pools: dict[str, str], machine: StubMachine
) -> None:
    held = fleet.ready(gpu_box, pools["whole"])
    machine.xid("GPU-a100", 31)  # an access of the program's to memory that it has not
    machine.xid("GPU-l4", 79)
    wait_until(lambda: offered(fleet, gpu_box) == ["GPU-a100"], what="one is lost")
    report = fleet.report(gpu_box, held.container)
    assert report is not None
    assert report.state == "ready"


def test_a_gpu_that_strangers_use_is_not_leased_while_they_do(
    fleet: Fleet, machine: StubMachine, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "code", SOURCE, FUNCTIONS)
    machine.change("GPU-a100", used=700, processes={os.getpid(): 690})
    with fleet.box(**machine.environ) as box:
        waiting = fleet.assign(box, pools["whole"])
        fleet.ready(box, pools["half"])
        assert fleet.report(box, waiting) is None
        machine.change("GPU-a100", used=300, processes={})
        assert fleet.until(box, waiting, "ready").gpus == ("GPU-a100",)


def test_declared_gpus_are_leased_as_found_ones_are(
    fleet: Fleet, pools: dict[str, str], tmp_path: Path
) -> None:
    locks = str(tmp_path / "locks")
    with fleet.box("--gpus", "2xA100,1xL4", QMODAL_GPU_LOCKS=locks) as box:
        uuids = offered(fleet, box)
        assert len(set(uuids)) == 3
        first, second = (fleet.ready(box, pools["whole"]) for _ in range(2))
        assert {*first.gpus, *second.gpus} == set(uuids[:2])
        assert fleet.value(fleet.call(pools["whole"]))[1] in uuids[:2]
        # Another worker of the machine, which declares the same, has the same ones.
        with fleet.box("--gpus", "2xA100,1xL4", QMODAL_GPU_LOCKS=locks) as other:
            waiting = fleet.assign(other, pools["whole"])
            assert fleet.ready(other, pools["half"]).gpus == (uuids[2],)
            assert fleet.report(other, waiting) is None
            os.kill(first.pid, 9)
            assert fleet.until(other, waiting, "ready").gpus == first.gpus


def test_metrics_tell_of_each_gpu_what_the_driver_says_and_who_has_it(
    fleet: Fleet, machine: StubMachine, tmp_path: Path
) -> None:
    pools, port = fleet.publish(tmp_path / "code", SOURCE, FUNCTIONS), free_port()
    with fleet.box("--metrics-port", str(port), **machine.environ) as box:
        fleet.ready(box, pools["half"])
        fleet.ready(box, pools["other"])
        machine.change("GPU-a100", used=700)
        l4, a100 = {"gpu": "GPU-l4", "kind": "L4-22GB"}, {"gpu": "GPU-a100", "kind": "A100-80GB"}

        def seen() -> Scrape | None:
            found = scrape(port)
            return found if found.value("qmodal_box_gpu_strangers", **a100) else None

        found = wait_until(seen, what="the strangers are seen")
        assert found is not None
        assert found.value("qmodal_box_gpu_containers", **l4) == 2
        assert found.value("qmodal_box_gpu_shares", **l4) == 2
        owner = {"environment": "main", "app": "shop"}
        for function in ("half", "other"):
            assert found.value("qmodal_box_gpu_owners", function=function, **owner, **l4) == 1
        assert found.value("qmodal_box_gpu_containers", **a100) == 0
        assert found.value("qmodal_box_gpu_utilization_ratio", **a100) == 0.87
        assert found.value("qmodal_box_gpu_memory_used_bytes", **a100) == 700 * 2**20
        assert found.value("qmodal_box_gpu_memory_bytes", **a100) == 80 * 2**30
        assert found.value("qmodal_box_gpu_temperature_celsius", **a100) == 61
        assert found.value("qmodal_box_gpu_power_watts", **a100) == 250
        assert found.value("qmodal_box_gpu_lost", **a100) == 0
        assert unexplained(found) == set()
        assert lint(port) == ""


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("3", "asks for 3 GPUs, and this machine has 2: GPU-a100, GPU-l4"),
        ("GPU-h100", "names GPU-h100, and this machine has GPU-a100, GPU-l4"),
        ("4 x A100", "declare them"),
    ],
)
def test_gpus_that_are_not_there_are_said_before_anything_begins(
    machine: StubMachine, fleet: Fleet, option: str, said: str
) -> None:
    environ = {**os.environ, **fleet.client.settings.to_environ(), **machine.environ}
    command = [sys.executable, "-P", "-c", PROGRAM, "--gpus", option]
    run = subprocess.run(command, env=environ, capture_output=True, check=False, text=True)
    assert run.returncode == 2
    assert said in run.stderr


def test_a_worker_offers_what_its_option_says(fleet: Fleet, machine: StubMachine) -> None:
    for option, uuids in (("1", ["GPU-a100"]), ("GPU-l4", ["GPU-l4"]), ("none", [])):
        with fleet.box("--gpus", option, **machine.environ) as box:
            assert offered(fleet, box) == uuids
    with fleet.box(**machine.environ, CUDA_VISIBLE_DEVICES="1") as box:
        assert offered(fleet, box) == ["GPU-l4"]
